"""SED, the speech encoder of stage 1: a log-mel spectrogram in, one embedding of unit length out (method.md 3)."""

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from s2igan.errors import UserError
from s2igan.models.recurrent import inside, over_utterances
from s2igan.settings import at_least

KERNEL = 6
"""Frames that each convolution sees."""

STRIDE = 2
"""Frames between the outputs of each convolution, in the paper."""


@dataclass(frozen=True)
class SpeechEncoderConfig:
    """Sizes of the speech encoder."""

    n_mels: int = 40
    """Bands of the log-mel spectrogram."""
    conv_channels: tuple[int, ...] = (64, 128)
    """Output channels of each strided convolution."""
    conv_stride: int = STRIDE
    """Frames between the outputs of each convolution. The frames of the recurrent network fall with its square."""
    conv_activation: Literal["none", "relu"] = "none"
    """What follows each convolution's batch norm; nothing in the paper."""
    hidden: int = 512
    """Units of the recurrent network in each direction."""
    layers: int = 2
    """Layers of the recurrent network."""
    rnn: Literal["gru", "lstm"] = "gru"
    """Kind of recurrent network; the paper's is a GRU."""
    attention_hidden: int = 128
    """Units of the attention's hidden layer."""
    mask_padding: bool = True
    """Keep padded frames out of the attention; False repeats what the authors' implementation does."""
    normalize_pooled: bool = False
    """Batch norm (without weights) of the pooled vector before unit length. Not in the paper. What all utterances
    share is taken away, so that cosines tell them apart from the first step on: a small recipe has no time to learn
    that."""

    def __post_init__(self) -> None:
        at_least(self, 1, "n_mels", "conv_channels", "conv_stride", "hidden", "layers", "attention_hidden")

    @property
    def embedding(self) -> int:
        """Dimensions of the speech embedding: both directions of the recurrent network."""
        return 2 * self.hidden

    @property
    def min_frames(self) -> int:
        """Frames of the shortest utterance that leaves the convolutions one frame: 16 (about 0.16 s) in the paper."""
        frames = 1
        for _ in self.conv_channels:
            frames = (frames - 1) * self.conv_stride + KERNEL
        return frames


WINDOW_FRAMES = 3_000
"""Mel frames, 30 s, over which the recurrent network runs at once; also the longest that training reads of one."""
OVERLAP_FRAMES = 400
"""Of neighbouring windows, 4 s: half of it is the run-up of each, whose output is not used."""
WINDOWS_AT_ONCE = 1_024
"""Of local frames, over which the recurrent network runs in one pass; bounds the memory of long recordings."""

Frames = TypeVar("Frames", int, Tensor, np.ndarray)


def conv_length(n_frames: Frames, stride: int = STRIDE) -> Frames:
    """Frames that one strided convolution leaves of ``n_frames``: floor((l - 4) / 2) with the paper's stride."""
    return (n_frames - KERNEL) // stride + 1


class StridedConv(nn.Module):
    """Conv1d with kernel 6 and bias, batch norm, and an activation where asked for; the paper's authors have none."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = STRIDE, activation: str = "none") -> None:
        super().__init__()
        self.conv = nn.Conv1d(in_channels, out_channels, KERNEL, stride=stride)
        self.norm = nn.BatchNorm1d(out_channels)
        self.activation = {"none": nn.Identity, "relu": nn.ReLU}[activation]()

    def forward(self, x: Float[Tensor, "batch in frames"]) -> Float[Tensor, "batch out fewer"]:
        return self.activation(self.norm(self.conv(x)))


class AttentionPooling(nn.Module):
    """Weighted sum over time with a separate softmax for every channel (method.md section 3)."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(channels, hidden)
        self.out = nn.Linear(hidden, channels)

    def forward(
        self, h: Float[Tensor, "batch frames channels"], lengths: Int[Tensor, " batch"] | None = None
    ) -> tuple[Float[Tensor, "batch channels"], Float[Tensor, "batch frames channels"]]:
        """Pool ``h`` and return the weights beside it. Frames from ``lengths`` on get no weight; None weighs all."""
        logits = self.out(torch.tanh(self.hidden(h)))
        if lengths is not None:
            logits = logits.masked_fill(~inside(h, lengths), -torch.inf)
        alpha = logits.softmax(dim=1)
        return (alpha * h).sum(dim=1), alpha


class SpeechEncoder(nn.Module):
    """Strided convolutions, a packed bidirectional recurrent network, attention pooling, unit length."""

    reads: ClassVar[Literal["speech"]] = "speech"

    def __init__(self, config: SpeechEncoderConfig) -> None:
        super().__init__()
        self.config = config
        channels = (config.n_mels, *config.conv_channels)
        self.convs = nn.ModuleList(
            StridedConv(i, o, config.conv_stride, config.conv_activation) for i, o in pairwise(channels)
        )
        rnn = {"gru": nn.GRU, "lstm": nn.LSTM}[config.rnn]
        self.rnn = rnn(channels[-1], config.hidden, config.layers, batch_first=True, bidirectional=True)
        self.attention = AttentionPooling(config.embedding, config.attention_hidden)
        self.pooled_norm = nn.BatchNorm1d(config.embedding, affine=False) if config.normalize_pooled else nn.Identity()

    def convolve(self, mel: Float[Tensor, "batch frames mels"]) -> Float[Tensor, "batch channels fewer"]:
        """The convolutions' output, padded frames included."""
        x = mel.transpose(1, 2)
        for conv in self.convs:
            x = conv(x)
        return x

    def frames(
        self, mel: Float[Tensor, "batch frames mels"], lengths: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch fewer embedding"], Int[Tensor, " batch"]]:
        """The recurrent network's output (zeros in padded frames) and each utterance's length in its frames.

        What is longer than `WINDOW_FRAMES`, longer than training reads, is read in overlapping windows. What is shorter
        is read as if it were alone, whatever is beside it.
        """
        lengths = self._conv_lengths(lengths)
        x = self.convolve(mel).transpose(1, 2)
        if int(lengths.max()) <= self._steps(WINDOW_FRAMES):
            return over_utterances(self.rnn, x, lengths), lengths
        return self._in_windows(x, lengths), lengths

    def _steps(self, mel_frames: int) -> int:
        """Steps of the recurrent network in so many mel frames."""
        return mel_frames // self.config.conv_stride ** len(self.convs)

    def _in_windows(
        self, x: Float[Tensor, "batch fewer channels"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch longest embedding"]:
        window, overlap = self._steps(WINDOW_FRAMES), self._steps(OVERLAP_FRAMES)
        pieces: list[tuple[int, int, int]] = []  # row, first step, steps
        for row, length in enumerate(lengths.tolist()):
            start = 0
            while True:
                pieces.append((row, start, min(window, length - start)))
                if start + window >= length:
                    break
                start += window - overlap
        out = x.new_zeros(len(x), int(lengths.max()), self.config.embedding)
        for first in range(0, len(pieces), len(x)):  # as many at once as there are utterances: memory as in training
            some = pieces[first : first + len(x)]
            cut = nn.utils.rnn.pad_sequence(
                [x[row, start : start + size] for row, start, size in some], batch_first=True
            )
            h = over_utterances(self.rnn, cut, torch.tensor([size for _, _, size in some])).to(out.dtype)
            for own, (row, start, size) in zip(h, some, strict=True):
                skip = overlap // 2 if start else 0  # what follows overwrites the end of the window before
                out[row, start + skip : start + size] = own[skip:size]
        return out

    def local_frames(
        self, mel: Float[Tensor, "batch frames mels"], lengths: Int[Tensor, " batch"], window: int, hop: int
    ) -> tuple[Float[Tensor, "batch fewer embedding"], Int[Tensor, " batch"]]:
        """The recurrent network's output where it runs over short windows, so that no frame knows the whole utterance,
        averaged over pairs of steps; and each utterance's length in pairs. Not in the paper.

        Args:
            mel, lengths: as of `forward`.
            window: steps of the recurrent network in a window; silence (zeros) fills those at the ends.
            hop: steps from window to window, and steps in the middle of each that are kept.
        """
        lengths = self._conv_lengths(lengths)
        x = self.convolve(mel).transpose(1, 2)[:, : int(lengths.max())]
        x = x * inside(x, lengths)
        windows, margin = -(-x.shape[1] // hop), (window - hop) // 2
        x = F.pad(x, (0, 0, margin, windows * hop - x.shape[1] + window - hop - margin))
        cut = x.unfold(1, window, hop).transpose(2, 3)  # (batch, windows, window, channels)
        with torch.autocast(x.device.type, enabled=False):
            parts = cut.flatten(0, 1).to(next(self.rnn.parameters()).dtype).split(WINDOWS_AT_ONCE)
            h = torch.cat([self.rnn(part)[0][:, margin : margin + hop] for part in parts])
        h = h.reshape(len(x), windows * hop, -1)
        h = F.pad(h * inside(h, lengths), (0, 0, 0, h.shape[1] % 2)).unflatten(1, (-1, 2)).sum(2)
        pairs = (lengths + 1) // 2
        told = (lengths[:, None] - 2 * torch.arange(h.shape[1])).clamp(1, 2).to(h.device, non_blocking=True)
        return (h / told[:, :, None])[:, : int(pairs.max())], pairs

    def _conv_lengths(self, lengths: Int[Tensor, " batch"]) -> Int[Tensor, " batch"]:
        """Steps of the recurrent network of each utterance; UserError where one leaves none."""
        shortest = int(lengths.min())
        if shortest < self.config.min_frames:
            raise UserError(
                f"utterance {int(lengths.argmin())} of the batch has {shortest} mel frames, the speech encoder's "
                f"convolutions need {self.config.min_frames}: leave it out or take a longer recording"
            )
        for _ in self.convs:
            lengths = conv_length(lengths, self.config.conv_stride)
        return lengths

    def forward(
        self, mel: Float[Tensor, "batch frames mels"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch embedding"]:
        """Embed utterances.

        Args:
            mel: normalised log-mel spectrograms, zero-padded to the longest.
            lengths: frames of each utterance, on the CPU, in any order.

        Raises:
            UserError: an utterance is shorter than ``config.min_frames``.
        """
        h, frame_lengths = self.frames(mel, lengths)
        return self.pool(h, frame_lengths if self.config.mask_padding else None)

    def pool(
        self, h: Float[Tensor, "batch fewer embedding"], lengths: Int[Tensor, " batch"] | None
    ) -> Float[Tensor, "batch embedding"]:
        """Embeddings of what `frames` gave."""
        pooled, _ = self.attention(h, lengths)
        return F.normalize(self.pooled_norm(pooled), dim=1)
