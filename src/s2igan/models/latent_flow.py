"""Latent flow in use: words of speech and noise in, pictures out. Not in the paper."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from s2igan.checkpoint import config_from_json
from s2igan.errors import UserError
from s2igan.models.autoencoder import AutoencoderConfig
from s2igan.models.encoders import Encoder
from s2igan.models.flow import FlowNetwork, FlowNetworkConfig, sample
from s2igan.models.matchmap import MatchmapConfig, WordEncoder
from s2igan.models.pretrained_autoencoder import AnyAutoencoderConfig, PretrainedAutoencoderConfig, build_autoencoder
from s2igan.models.speech_encoder import SpeechEncoder


@dataclass(frozen=True)
class LatentFlowConfig:
    """Sizes of its three networks, and how it is sampled."""

    method: ClassVar[str] = "latent flow, not in the paper"
    """What results are named by."""

    autoencoder: AnyAutoencoderConfig
    matchmap: MatchmapConfig
    network: FlowNetworkConfig
    frames: int
    """Dimensions of the speech encoder's frames."""
    steps: int
    """Evaluations of the velocity for a picture."""
    guidance: float
    """Strength of classifier-free guidance; 1 is none."""
    shift: float
    """How much denser the times are near the noise; 1 spaces them evenly."""

    @property
    def resolutions(self) -> tuple[int, ...]:
        """Side in pixels of the pictures that are drawn."""
        return (self.autoencoder.size,)

    @property
    def noise(self) -> int:
        """Normal numbers that a picture is made from."""
        return math.prod(self.autoencoder.latent_shape)

    @classmethod
    def from_json(cls, values: Any, path: Path) -> LatentFlowConfig:
        """Reads it back from a model's `config.json`.

        Raises:
            UserError: `values` describes no latent flow of this version; `path` is the file that holds them.
        """
        what = "a latent flow"
        if isinstance(values, Mapping):
            pretrained = "source" in (values.get("autoencoder") or {})
            kinds: dict[str, Any] = {
                "autoencoder": PretrainedAutoencoderConfig if pretrained else AutoencoderConfig,
                "matchmap": MatchmapConfig,
                "network": FlowNetworkConfig,
            }
            parts = {name: config_from_json(kind, values.get(name), path, what) for name, kind in kinds.items()}
            values = {**values, **parts}
        return config_from_json(cls, values, path, what)


class LatentFlow(nn.Module):
    """The word encoder, the velocity network and the autoencoder."""

    def __init__(self, config: LatentFlowConfig) -> None:
        super().__init__()
        self.config = config
        self.words = WordEncoder(config.frames, config.matchmap)
        self.network = FlowNetwork(config.network, config.autoencoder.latent_channels, config.matchmap.words)
        self.autoencoder = build_autoencoder(config.autoencoder)

    def listen(
        self, encoder: SpeechEncoder, mel: Float[Tensor, "batch frames mels"], lengths: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch fewer words"], Bool[Tensor, "batch fewer"]]:
        """Word embeddings of utterances, and which of them are inside their utterance."""
        frames, lengths = encoder.local_frames(mel, lengths, self.config.matchmap.window, self.config.matchmap.hop)
        inside = torch.arange(frames.shape[1]) < lengths[:, None]
        return self.words(frames), inside.to(frames.device)

    def forward(
        self,
        words: Float[Tensor, "batch frames words"],
        inside: Bool[Tensor, "batch frames"],
        noise: Float[Tensor, "batch numbers"],
    ) -> Float[Tensor, "batch 3 size size"]:
        """Pictures, about in [-1, 1]; `noise` is standard normal, as many numbers as there are latents."""
        config = self.config
        latents = sample(
            self.network,
            noise.view(len(noise), *config.autoencoder.latent_shape),
            words,
            inside,
            steps=config.steps,
            guidance=config.guidance,
            shift=config.shift,
        )
        images: Tensor = self.autoencoder.decode(latents)
        return images


def check_frames(encoder: Encoder) -> SpeechEncoder:
    """The encoder, if latent flow can attend to its frames.

    Raises:
        UserError: it has none; the baselines' encoders only embed.
    """
    if not isinstance(encoder, SpeechEncoder):
        raise UserError(
            f"latent flow attends to frames of the paper's speech encoder, and a {type(encoder).__name__} has none; "
            "choose a recipe whose stage 2 is the RDG."
        )
    return encoder
