"""A recipe: the complete configuration of both stages. Importing this module does not import torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from s2igan.models.pretrained_autoencoder import AnyAutoencoderConfig, PretrainedAutoencoderConfig
    from s2igan.training.autoencoder import AutoencoderTraining
    from s2igan.training.beyond import Beyond
    from s2igan.training.decoder import DecoderTraining
    from s2igan.training.flow import FlowTraining
    from s2igan.training.matchmap import MatchmapTraining
    from s2igan.training.rdg import RDGConfig
    from s2igan.training.sen import SENConfig


@dataclass(frozen=True)
class TrainingSet:
    """The set that a base recipe is meant for: a dry run counts its images where no store is given."""

    images: int
    classes: int
    """0 where the set has none."""


def _paper_only() -> Beyond:
    from s2igan.training.beyond import Beyond

    return Beyond()


@dataclass(frozen=True)
class LatentFlow:
    """The other stage 2, which is not in the paper: an autoencoder, word embeddings, and a flow in its latents."""

    autoencoder: AutoencoderTraining
    matchmap: MatchmapTraining
    flow: FlowTraining
    decoder: DecoderTraining | None = None
    """Of the decoder, which trains on when the autoencoder is done; None leaves it as it is."""
    pretrained: PretrainedAutoencoderConfig | None = None
    """An autoencoder that is used as it is, in place of training one."""

    @property
    def latents(self) -> AnyAutoencoderConfig:
        """The autoencoder in whose latents words and flow are."""
        return self.autoencoder.network if self.pretrained is None else self.pretrained


@dataclass(frozen=True)
class Recipe:
    """Stage 1, and one stage 2: the paper's RDG or latent flow."""

    name: str
    sen: SENConfig
    rdg: RDGConfig | None = None
    latent_flow: LatentFlow | None = None
    beyond: Beyond = field(default_factory=_paper_only)
    """What goes beyond the paper in the RDG."""
    training_set: TrainingSet | None = None
    """Only estimates use it."""

    def __post_init__(self) -> None:
        if (self.rdg is None) == (self.latent_flow is None):
            raise ValueError(f"the recipe {self.name} needs one stage 2, rdg or latent_flow")

    @property
    def picture_size(self) -> int:
        """Side in pixels of the pictures that stage 2 draws."""
        if self.rdg is not None:
            return self.rdg.generator.resolutions[-1]
        assert self.latent_flow is not None
        return self.latent_flow.autoencoder.network.size

    @property
    def image_size(self) -> int:
        """Side in pixels of the largest pictures that a stage needs."""
        return max(self.sen.image_size, self.picture_size)
