"""Distortions of log-mels while the speech encoder trains, so that it meets more voices than the corpus has.

The paper uses none; the recipes of the built-in sets do, since their speakers are a few synthetic voices.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class SpeechAugment:
    """How strongly to distort; each field 0 leaves its distortion out."""

    speed: float = 0.1
    """Duration times a factor in 1 - speed .. 1 + speed."""
    band_shift: float = 1.0
    """Spectrum moved up or down by at most so many mel bands: a longer or shorter vocal tract."""
    band_scale: float = 0.05
    """Mel axis stretched by a factor in 1 - band_scale .. 1 + band_scale."""
    tilt: float = 0.2
    """Slope over the mel axis, added, of at most so many standard deviations from its middle to its ends."""
    noise: float = 0.2
    """Standard deviation of white noise added to the normalised log-mel, drawn in 0 .. noise for each utterance."""
    time_masks: int = 2
    """SpecAugment (Park et al. 2019): stretches of at most `time_mask_frames` frames set to 0, the mean."""
    time_mask_frames: float = 15
    band_masks: int = 1
    """SpecAugment: at most `band_mask_bands` neighbouring bands set to 0."""
    band_mask_bands: float = 5
    rises: tuple[float, float] = (0.2, 0.5)
    """Shares of the training between which the strength rises from nothing to all of the above: distorted from the
    start, the encoder takes several times as long to find the words."""

    def at(self, progress: float) -> SpeechAugment:
        """The distortions at a point of the training between 0 and 1."""
        start, end = self.rises
        strength = min(1.0, max(0.0, (progress - start) / max(1e-9, end - start)))
        names = ("speed", "band_shift", "band_scale", "tilt", "noise", "time_mask_frames", "band_mask_bands")
        return replace(self, **{name: strength * getattr(self, name) for name in names})


def augment_speech(
    mel: Float[Tensor, "batch frames mels"],
    lengths: Int[Tensor, " batch"],
    config: SpeechAugment,
    rng: torch.Generator,
) -> tuple[Float[Tensor, "batch new_frames mels"], Int[Tensor, " batch"]]:
    """Distorts every utterance by its own draw; padding stays zero and lengths follow the change of speed."""
    n, frames, bands = mel.shape

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=rng) * (high - low) + low

    factor = uniform(1 - config.speed, 1 + config.speed, n)
    new_lengths = (lengths * factor).round().long().clamp_min(1)
    longest = int(new_lengths.max())
    # One bilinear resampling does speed and vocal tract; positions are pixel centres in the old (frame, band) picture.
    time = torch.arange(longest)[None, :] / factor[:, None]
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
    out = functional.grid_sample(mel[:, None], grid, mode="bilinear", padding_mode="border", align_corners=False)[:, 0]

    out = out + uniform(-config.tilt, config.tilt, n)[:, None, None] * torch.linspace(-1, 1, bands)
    sigma = uniform(0, config.noise, n)[:, None, None]
    out = out + sigma * torch.randn(out.shape, generator=rng)

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
    inside = (frame < new_lengths[:, None])[:, :, None]
    return out * (keep & inside), new_lengths
