"""A pretrained tiny autoencoder in place of one that is trained on the corpus's own pictures. Not in the paper.

Its layers are those of TAESD, which diffusers calls `AutoencoderTiny`; that class reads the weights, and these layers
use them, so that a model in use needs no diffusers. Latents at an eighth of the pictures' side are folded to 8 x 8
places (32 x 32 x 4 of 256 px to 8 x 8 x 64), so that everything after it stays as it is.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from s2igan.errors import UserError
from s2igan.models.autoencoder import LATENT_SIDE, Autoencoder, AutoencoderConfig, NormalisedLatents

LARGEST = 3.0
"""Latents that go into the decoder are bent softly to stay below."""
KIND = "AutoencoderTiny"
"""What diffusers calls it."""


@dataclass(frozen=True)
class PretrainedAutoencoderConfig:
    """Which one it is, and its sizes."""

    size: int
    """Side of the pictures in pixels."""
    source: str
    """Its name on the hub, or that of its folder."""
    sha256: str
    """Of its weights."""
    channels: int
    """Numbers at each place of its own latents."""
    width: int
    encoder_blocks: tuple[int, ...]
    """Residual blocks at each side, from the pictures' on; each side is half of the one before."""
    decoder_blocks: tuple[int, ...]

    def __post_init__(self) -> None:
        reduction = 2 ** (len(self.encoder_blocks) - 1)
        if self.size < reduction * LATENT_SIDE or self.size % (reduction * LATENT_SIDE):
            raise UserError(
                f"{self.source}: its latents of {self.size} px do not fold to {LATENT_SIDE} x {LATENT_SIDE} places; "
                f"choose --autoencoder.network.size {reduction * LATENT_SIDE} or a multiple of it."
            )

    @property
    def fold(self) -> int:
        """Its own places along a side of one of the 8 x 8."""
        return self.size // 2 ** (len(self.encoder_blocks) - 1) // LATENT_SIDE

    @property
    def latent_channels(self) -> int:
        """Numbers at each of the 8 x 8 places."""
        return self.channels * self.fold**2

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the latents."""
        return (self.latent_channels, LATENT_SIDE, LATENT_SIDE)


class TinyBlock(nn.Module):
    """x + three convolutions of x, rectified."""

    def __init__(self, width: int) -> None:
        super().__init__()
        first, second, third = (nn.Conv2d(width, width, 3, padding=1) for _ in range(3))
        self.conv = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), third)

    def forward(self, x: Float[Tensor, "batch width rows columns"]) -> Float[Tensor, "batch width rows columns"]:
        return F.relu(self.conv(x) + x)


class PretrainedAutoencoder(NormalisedLatents):
    """Frozen encoder and decoder. `encode` and `decode` speak of normalised latents, as those of `Autoencoder`."""

    def __init__(self, config: PretrainedAutoencoderConfig) -> None:
        super().__init__(config.latent_channels)
        self.config = config
        width = config.width
        encoder: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1)]
        for level, blocks in enumerate(config.encoder_blocks):
            encoder += [nn.Conv2d(width, width, 3, stride=2, padding=1, bias=False)] if level else []
            encoder += [TinyBlock(width) for _ in range(blocks)]
        encoder += [nn.Conv2d(width, config.channels, 3, padding=1)]
        decoder: list[nn.Module] = [nn.Conv2d(config.channels, width, 3, padding=1), nn.ReLU()]
        for blocks in config.decoder_blocks[:-1]:
            decoder += [TinyBlock(width) for _ in range(blocks)]
            decoder += [nn.Upsample(scale_factor=2), nn.Conv2d(width, width, 3, padding=1, bias=False)]
        decoder += [TinyBlock(width) for _ in range(config.decoder_blocks[-1])]
        decoder += [nn.Conv2d(width, 3, 3, padding=1)]
        self.encoder, self.decoder = nn.Sequential(*encoder), nn.Sequential(*decoder)

    def encode(self, images: Float[Tensor, "batch 3 size size"]) -> Float[Tensor, "batch channels 8 8"]:
        """Normalised latents of images in [-1, 1]."""
        encoded: Tensor = F.pixel_unshuffle(self.encoder((images + 1) / 2), self.config.fold)
        return (encoded - self.mean) / self.deviation

    def decode(self, latents: Float[Tensor, "batch channels 8 8"]) -> Float[Tensor, "batch 3 size size"]:
        """Images, about in [-1, 1], of normalised latents."""
        own = F.pixel_shuffle(latents * self.deviation + self.mean, self.config.fold)
        drawn: Tensor = self.decoder(LARGEST * torch.tanh(own / LARGEST))
        return 2 * drawn - 1


AnyAutoencoder = Autoencoder | PretrainedAutoencoder
AnyAutoencoderConfig = AutoencoderConfig | PretrainedAutoencoderConfig


def build_autoencoder(config: AnyAutoencoderConfig) -> AnyAutoencoder:
    """An autoencoder of these sizes with random weights."""
    return PretrainedAutoencoder(config) if isinstance(config, PretrainedAutoencoderConfig) else Autoencoder(config)


def read_pretrained(source: str | Path, size: int) -> PretrainedAutoencoder:
    """An `AutoencoderTiny` for pictures of a size, its latents not yet normalised.

    Args:
        source: a folder that diffusers wrote, or the name of a model on the Hugging Face hub, which is downloaded at
            its first use.
        size: side of the pictures in pixels.

    Raises:
        UserError: diffusers is not installed; there is no such folder or model, or no network to fetch it; it is of
            another kind, or of sizes that are not read here.
    """
    if importlib.util.find_spec("diffusers") is None:
        raise UserError(
            f"--autoencoder {source}: diffusers reads it, which is not installed: pip install 's2igan[pretrained]'."
        )
    from diffusers import AutoencoderTiny

    local = Path(source).is_dir()
    try:
        about: Any = AutoencoderTiny.load_config(str(source), local_files_only=local)
        if about.get("_class_name") != KIND:
            raise UserError(f"--autoencoder {source}: is a {about.get('_class_name')}; only {KIND} is read here.")
        options = {"local_files_only": local, "low_cpu_mem_usage": False}
        with _quiet():
            given = AutoencoderTiny.from_pretrained(str(source), use_safetensors=True, **options)  # never a pickle
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"--autoencoder {source}: cannot be read ({reason}); name a folder with config.json and "
            f"diffusion_pytorch_model.safetensors of an {KIND}, or a model on the hub such as madebyollin/taesd."
        ) from error
    weights = {name.replace(".layers.", "."): tensor for name, tensor in given.state_dict().items()}
    config = PretrainedAutoencoderConfig(
        size=size,
        source=Path(source).resolve().name if local else str(source),
        sha256=_digest(weights),
        channels=given.config["latent_channels"],
        width=given.config["encoder_block_out_channels"][0],
        encoder_blocks=tuple(given.config["num_encoder_blocks"]),
        decoder_blocks=tuple(given.config["num_decoder_blocks"]),
    )
    network = PretrainedAutoencoder(config)
    buffers = {"mean": network.mean, "deviation": network.deviation}
    known = {"act_fn": "relu", "upsample_fn": "nearest", "upsampling_scaling_factor": 2}
    try:
        if any(given.config[name] != value for name, value in known.items()):
            raise ValueError
        network.load_state_dict({**weights, **buffers})
    except (ValueError, RuntimeError):
        raise UserError(
            f"--autoencoder {source}: is an {KIND} of a shape that is not read here; choose one like "
            "madebyollin/taesd, of one width, with rectifiers."
        ) from None
    return network


@contextmanager
def _quiet() -> Iterator[None]:
    """Inside, diffusers does not warn of entries of its own that it does not expect."""
    from diffusers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _digest(weights: dict[str, Tensor]) -> str:
    whole = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        whole.update(name.encode() + tensor.float().contiguous().numpy().tobytes())
    return whole.hexdigest()
