"""A character CNN-RNN: a text in, one embedding of unit length out, in place of the speech encoder (method.md 7).

The layout of Reed et al., "Learning Deep Representations of Fine-Grained Visual Descriptions", CVPR 2016: temporal
convolutions with max pooling over one-hot characters, a recurrent network over what is left, the mean over time, and a
linear layer. Batch norm after each convolution is ours: without it the learning rates that suit the speech encoder
kill it.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from s2igan.models.recurrent import mean_over_utterances
from s2igan.settings import at_least
from s2igan.text import ALPHABET

KERNEL = 4
"""Characters that a convolution sees."""

POOL = 3
"""Frames of which pooling keeps the largest."""

STRIDES = (3, 3, 2)
"""Frames between two pools, after each convolution."""

MIN_CHARACTERS = 66
"""Characters that the recurrent network's first frame sees."""

SPAN = math.prod(STRIDES)
"""Characters between two frames of the recurrent network."""


@dataclass(frozen=True)
class TextEncoderConfig:
    """Sizes of the text encoder."""

    conv_channels: tuple[int, int, int] = (384, 512, 256)
    """Output channels of each convolution."""
    hidden: int = 256
    """Units of the recurrent network."""
    embedding: int = 1024
    """Dimensions of the text embedding."""
    normalize_pooled: bool = False
    """As `SpeechEncoderConfig.normalize_pooled`."""

    def __post_init__(self) -> None:
        at_least(self, 1, "conv_channels", "hidden", "embedding")


class TextEncoder(nn.Module):
    """Convolutions with batch norm, ReLU and max pooling, a GRU, its mean over time, a linear layer, unit length."""

    reads: ClassVar[Literal["text"]] = "text"

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.config = config
        channels = (len(ALPHABET), *config.conv_channels)
        self.convs = nn.ModuleList(nn.Conv1d(i, o, KERNEL, bias=False) for i, o in pairwise(channels))
        self.norms = nn.ModuleList(nn.BatchNorm1d(n) for n in config.conv_channels)
        self.rnn = nn.GRU(channels[-1], config.hidden, batch_first=True)
        self.out = nn.Linear(config.hidden, config.embedding)
        self.pooled_norm = nn.BatchNorm1d(config.embedding, affine=False) if config.normalize_pooled else nn.Identity()

    def forward(
        self, characters: Float[Tensor, "batch characters alphabet"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch embedding"]:
        """Embed texts; each embedding is that of its text alone, whatever the batch is padded to.

        Args:
            characters: one-hot characters (`text.one_hot`), zero-padded to the longest.
            lengths: characters of each text, on the CPU.
        """
        n_frames = 1 + -(-(lengths - MIN_CHARACTERS).clamp_min(0) // SPAN)
        # blanks behind a text let its last frame see its last character
        needed = MIN_CHARACTERS + SPAN * (int(n_frames.max()) - 1)
        x = F.pad(characters, (0, 0, 0, max(0, needed - characters.shape[1]))).transpose(1, 2)
        for conv, norm, stride in zip(self.convs, self.norms, STRIDES, strict=True):
            x = F.max_pool1d(torch.relu(norm(conv(x))), POOL, stride)
        h = mean_over_utterances(self.rnn, x.transpose(1, 2), n_frames)
        return F.normalize(self.pooled_norm(self.out(h)), dim=1)
