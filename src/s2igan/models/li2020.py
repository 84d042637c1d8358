"""The speech encoder of the baseline of Li et al.: eight 2-D convolutions, a bidirectional LSTM, the mean over time.

Li et al., "Direct Speech-to-Image Translation", IEEE Journal of Selected Topics in Signal Processing 14(3), 2020, as
method.md section 7 sums it up. Kernels, channels and strides are not given there and are ours.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from s2igan.models.recurrent import inside, mean_over_utterances
from s2igan.settings import at_least

CHANNELS = (1, 1, 2, 2, 4, 4, 8, 8)
"""Output channels of the convolutions, in widths."""

STRIDES = (2, 1, 2, 1, 2, 1, 2, 1)
"""In frames and in bands."""


@dataclass(frozen=True)
class CnnLstmConfig:
    """Sizes of the speech encoder."""

    n_mels: int = 40
    """Bands of the log-mel spectrogram."""
    width: int = 64
    """Channels of the first convolution; the last has eight times as many."""
    hidden: int = 512
    """Units of the LSTM in each direction."""
    normalize_pooled: bool = False
    """As `SpeechEncoderConfig.normalize_pooled`."""

    def __post_init__(self) -> None:
        at_least(self, 1, "n_mels", "width", "hidden")

    @property
    def embedding(self) -> int:
        """Dimensions of the speech embedding: both directions of the LSTM."""
        return 2 * self.hidden


class ConvLayer(nn.Module):
    """conv3x3 without bias, batch norm, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Float[Tensor, "batch in frames bands"]) -> Float[Tensor, "batch out fewer_frames fewer_bands"]:
        return torch.relu(self.norm(self.conv(x)))


class CnnLstmEncoder(nn.Module):
    """Convolutions over time and frequency, a packed bidirectional LSTM, its mean over time, unit length."""

    reads: ClassVar[Literal["speech"]] = "speech"

    def __init__(self, config: CnnLstmConfig) -> None:
        super().__init__()
        self.config = config
        channels = [1, *(config.width * times for times in CHANNELS)]
        self.convs = nn.ModuleList(ConvLayer(i, o, s) for (i, o), s in zip(pairwise(channels), STRIDES, strict=True))
        bands = config.n_mels
        for stride in STRIDES:
            bands = -(-bands // stride)
        self.rnn = nn.LSTM(channels[-1] * bands, config.hidden, batch_first=True, bidirectional=True)
        self.pooled_norm = nn.BatchNorm1d(config.embedding, affine=False) if config.normalize_pooled else nn.Identity()

    def forward(
        self, mel: Float[Tensor, "batch frames mels"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch embedding"]:
        """Embed utterances; outside of training each embedding is that of its utterance alone.

        Args:
            mel: normalised log-mel spectrograms, zero-padded to the longest.
            lengths: frames of each utterance, on the CPU, in any order.
        """
        x = mel[:, None]
        for conv, stride in zip(self.convs, STRIDES, strict=True):
            x = conv(x)
            lengths = -(-lengths // stride)
            # what batch norm makes of padded frames must not reach the last valid ones through the next kernel
            x = x * inside(x.transpose(1, 2), lengths)[:, None].to(x)
        x = mean_over_utterances(self.rnn, x.transpose(1, 2).flatten(2), lengths)
        return F.normalize(self.pooled_norm(x), dim=1)
