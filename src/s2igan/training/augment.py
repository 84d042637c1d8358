"""Distortions of log-mels while training, which the paper does not use, so that the speech encoder meets more voices
than the corpus has."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from s2igan.errors import UserError
from s2igan.settings import at_least, shares

KNOT_FRAMES = 25
"""Frames (a quarter of a second) between two points of the curve of speed within an utterance."""
FLOOR_START = -1.5
"""Where background noise is hardly heard, in standard deviations from a band's mean."""
FLOOR_SHARPNESS = 4.0
"""How suddenly speech drowns in it."""
DECAY = (0.06, 0.2)
"""Standard deviations of a band by which reverberation falls in a frame. A room of 0.5 s loses 60 dB in 50 frames, 0.28
nats in each, and bands of speech have standard deviations of about 2.5 nats."""
BELOW_DIRECT = (0.3, 1.5)
"""Standard deviations by which reverberation lies below the sound that it is of."""
LOWEST_BANDS, HIGHEST_BANDS = (2, 6), (23, 30)
"""First and last mel bands that a telephone lets through, drawn between these: 250 to 570 Hz, and 2.7 to 4.8 kHz."""
LEAST_VARIANCE = 1e-4
"""Added to a band's variance, so that one which drowned altogether stays quiet."""


@dataclass(frozen=True)
class SpeechAugment:
    """How strongly to distort; each field 0 leaves its distortion out."""

    strength: float = 0.0
    """Factor on all of them; 0, as in the paper, leaves the speech as it is."""
    speed: float = 0.15
    """Duration times a factor in 1 - speed .. 1 + speed."""
    local_speed: float = 0.3
    """Speed within an utterance times a smooth curve in 1 / (1 + local_speed) .. 1 + local_speed, as speakers linger
    on different sounds."""
    band_shift: float = 1.5
    """Spectrum moved up or down by at most this number of mel bands: a longer or shorter vocal tract."""
    band_scale: float = 0.08
    """Mel axis stretched by a factor in 1 - band_scale .. 1 + band_scale."""
    blur: float = 0.7
    """Spectrum smoothed over three frames and three bands by at most this share: less articulate or breathier."""
    floor: float = 1.0
    """Background noise: everything quieter than a level between 0 and this many standard deviations above a band's
    quietest share (`FLOOR_START`) drowns in it."""
    tilt: float = 0.2
    """Slope over the mel axis, added, of at most this many standard deviations from its middle to its ends."""
    noise: float = 0.3
    """Standard deviation of white noise added to the normalised log-mel, drawn in 0 .. noise for each utterance."""
    reverberation: float = 0.0
    """Share of the utterances that are in a room, such as 0.3: every sound rings on, more weakly, after its end."""
    telephone: float = 0.0
    """Share of the utterances that a telephone transmits, such as 0.25: the lowest and the highest bands hold noise or
    nothing."""
    time_masks: int = 2
    """SpecAugment (Park et al. 2019): stretches of at most `time_mask_frames` frames set to 0, the mean."""
    time_mask_frames: float = 15
    band_masks: int = 1
    """SpecAugment: at most `band_mask_bands` neighbouring bands set to 0."""
    band_mask_bands: float = 5
    rises: tuple[float, float] = (0.2, 0.5)
    """Shares of the training between which the strength rises from nothing to all of the above: distorted from the
    start, the encoder takes several times as long to find the words."""

    def __post_init__(self) -> None:
        unused = [entry.name for entry in fields(self)[1:] if getattr(self, entry.name) != entry.default]
        if unused and not self.strength:
            raise UserError(f"augment.{unused[0]} distorts nothing at augment.strength 0; set that too, such as to 1.")
        at_least(self, 0, *(entry.name for entry in fields(self)))
        shares(self, "speed", "band_scale")

    def at(self, progress: float) -> SpeechAugment:
        """The distortions at a point of the training between 0 and 1."""
        start, end = self.rises
        strength = self.strength * min(1.0, max(0.0, (progress - start) / max(1e-9, end - start)))
        kept = {"strength", "time_masks", "band_masks", "rises"}
        names = [entry.name for entry in fields(self) if entry.name not in kept]
        return replace(self, **{name: strength * getattr(self, name) for name in names})


def augment_speech(
    mel: Float[Tensor, "batch frames mels"],
    lengths: Int[Tensor, " batch"],
    config: SpeechAugment,
    rng: torch.Generator,
) -> tuple[Float[Tensor, "batch new_frames mels"], Int[Tensor, " batch"]]:
    """Distorts every utterance by its own draw; padding stays zero and lengths follow the change of speed."""
    n = len(mel)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=rng) * (high - low) + low

    out, new_lengths = _resampled(mel, lengths, config, uniform)
    longest, bands = out.shape[1:]
    inside = (torch.arange(longest)[None, :] < new_lengths[:, None])[:, :, None]

    if config.reverberation:
        out = torch.where((uniform(0, 1, n) < config.reverberation)[:, None, None], _in_a_room(out, uniform), out)
    smooth = functional.avg_pool2d(functional.pad(out[:, None], [1] * 4, mode="replicate"), 3, stride=1)[:, 0]
    out = torch.lerp(out, smooth, uniform(0, config.blur, n)[:, None, None])
    level = FLOOR_START + uniform(0, 1, n)[:, None, None] * config.floor
    drowned = level + functional.softplus(FLOOR_SHARPNESS * (out - level)) / FLOOR_SHARPNESS
    out = drowned if config.floor else out
    out = out + uniform(-config.tilt, config.tilt, n)[:, None, None] * torch.linspace(-1, 1, bands)
    sigma = uniform(0, config.noise, n)[:, None, None]
    out = out + sigma * torch.randn(out.shape, generator=rng)
    if config.telephone:
        out = _by_telephone(out, uniform(0, 1, n) < config.telephone, uniform, rng)
    if config.floor:
        out = _standardised(out, inside)  # as the front end does after all that happened to the sound

    frame, index = torch.arange(longest)[None, :], torch.arange(bands)[None, :]
    keep = torch.ones(n, longest, bands, dtype=torch.bool)
    for _ in range(config.time_masks):
        width = uniform(0, config.time_mask_frames, n)
        start = torch.rand(n, generator=rng) * (new_lengths - width).clamp_min(0)
        keep &= ~((frame >= start[:, None]) & (frame < (start + width)[:, None]))[:, :, None]
    for _ in range(config.band_masks):
        width = uniform(0, config.band_mask_bands, n)
        start = torch.rand(n, generator=rng) * (bands - width)
        keep &= ~((index >= start[:, None]) & (index < (start + width)[:, None]))[:, None, :]
    return out * (keep & inside), new_lengths


def _resampled(
    mel: Float[Tensor, "batch frames mels"],
    lengths: Int[Tensor, " batch"],
    config: SpeechAugment,
    uniform: Callable[..., Tensor],
) -> tuple[Float[Tensor, "batch new_frames mels"], Int[Tensor, " batch"]]:
    """Other speeds and vocal tracts, by one bilinear resampling; positions are pixel centres of the old picture."""
    n, frames, bands = mel.shape
    factor = uniform(1 - config.speed, 1 + config.speed, n)
    new_lengths = (lengths * factor).round().long().clamp_min(1)
    longest = int(new_lengths.max())
    limit = math.log1p(config.local_speed)
    knots = uniform(-limit, limit, n, 1, max(2, math.ceil(longest / KNOT_FRAMES)))
    curve = functional.interpolate(knots, size=longest, mode="linear", align_corners=True)[:, 0].exp()
    passed = curve.cumsum(dim=1) - curve  # at the start of each new frame
    whole = passed.gather(1, new_lengths[:, None] - 1) + curve.gather(1, new_lengths[:, None] - 1)
    time = passed * lengths[:, None] / whole
    band = torch.arange(bands)[None, :] - (bands - 1) / 2
    band = band * uniform(1 - config.band_scale, 1 + config.band_scale, n)[:, None] + (bands - 1) / 2
    band = (band + uniform(-config.band_shift, config.band_shift, n)[:, None]).clamp(0, bands - 1)
    grid = torch.stack(
        [
            (2 * band + 1)[:, None, :].expand(n, longest, bands) / bands - 1,
            (2 * time + 1)[:, :, None].expand(n, longest, bands) / frames - 1,
        ],
        dim=-1,
    )
    out = functional.grid_sample(mel[:, None], grid, mode="bilinear", padding_mode="border", align_corners=False)
    return out[:, 0], new_lengths


def _in_a_room(
    mel: Float[Tensor, "batch frames mels"], uniform: Callable[..., Tensor]
) -> Float[Tensor, "batch frames mels"]:
    """Each band is at least what the loudest earlier sound has fallen to, in a straight line since it is a logarithm,
    at a rate and from a level of each room's own."""
    n, frames, _ = mel.shape
    fallen = uniform(*DECAY, n)[:, None, None] * torch.arange(frames)[None, :, None]
    ringing = (mel + fallen).cummax(dim=1).values - fallen
    return torch.maximum(mel, ringing - uniform(*BELOW_DIRECT, n)[:, None, None])


def _by_telephone(
    mel: Float[Tensor, "batch frames mels"],
    chosen: Bool[Tensor, " batch"],
    uniform: Callable[..., Tensor],
    rng: torch.Generator,
) -> Float[Tensor, "batch frames mels"]:
    """The chosen utterances without the bands that a telephone does not transmit: these are silent, or hold noise of
    unit variance, since the front end makes whatever is left there as loud as speech."""
    band = torch.arange(mel.shape[2])[None, :]
    lowest, highest = uniform(*LOWEST_BANDS, len(mel))[:, None], uniform(*HIGHEST_BANDS, len(mel))[:, None]
    outside = ((band < lowest) | (band > highest)) & chosen[:, None]
    noise = torch.randn(mel.shape, generator=rng) * (uniform(0, 1, len(mel)) < 0.5)[:, None, None]
    return torch.where(outside[:, None, :], noise, mel)


def _standardised(
    mel: Float[Tensor, "batch frames mels"], inside: Bool[Tensor, "batch frames 1"]
) -> Float[Tensor, "batch frames mels"]:
    """Every band of every utterance at mean 0 and variance 1 over its frames; padding is not counted."""
    count = inside.sum(dim=1, keepdim=True)
    centred = mel - (mel * inside).sum(dim=1, keepdim=True) / count
    variance = (centred.square() * inside).sum(dim=1, keepdim=True) / count
    return centred / (variance + LEAST_VARIANCE).sqrt()
