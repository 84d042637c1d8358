"""No encoder: embeddings that somebody else computed, in the place of the speech encoder (method.md section 7).

StackGAN-v2's own code hands the char-CNN-RNN embeddings of Reed et al. to the generator as they are. Here they are
brought to unit length, as every other encoder's are: the baseline is *the same* network on another embedding, and its
row should differ from the others by what the embedding says and not by how long it is, on which the size of mu in the
first steps depends (`beyond.ConditionStart.gain`). Cosines, which is all that retrieval looks at, are unchanged.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from s2igan.errors import UserError
from s2igan.settings import at_least


@dataclass(frozen=True)
class PrecomputedConfig:
    """What the embeddings are like."""

    embedding: int = 1024
    """Dimensions of the embeddings."""
    normalize_pooled: bool = False
    """As `SpeechEncoderConfig.normalize_pooled`: stage 1 then learns their mean and variance, its only trace here."""

    def __post_init__(self) -> None:
        at_least(self, 1, "embedding")


class Precomputed(nn.Module):
    """Brings the embedding that it is given to unit length; has no parameters."""

    reads: ClassVar[Literal["embeddings"]] = "embeddings"

    def __init__(self, config: PrecomputedConfig) -> None:
        super().__init__()
        self.config = config
        self.pooled_norm = nn.BatchNorm1d(config.embedding, affine=False) if config.normalize_pooled else nn.Identity()

    def forward(
        self, embeddings: Float[Tensor, "batch 1 dimensions"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch dimensions"]:
        """Embeddings as `data.dataset.encoder_input` gives them: one frame each.

        Raises:
            UserError: they have other dimensions than the config says.
        """
        if embeddings.shape[2] != self.config.embedding:
            raise UserError(
                f"the text embeddings of this set have {embeddings.shape[2]} dimensions where the recipe reads "
                f"{self.config.embedding}; prepare it with the embeddings that the recipe is meant for."
            )
        return F.normalize(self.pooled_norm(embeddings[:, 0]), dim=1)
