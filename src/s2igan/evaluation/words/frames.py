"""What is cut into segments: the frames of the speech encoder, three times as fine as its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from s2igan.audio import HOP_LENGTH, SAMPLE_RATE
from s2igan.data.dataset import pad_mels
from s2igan.data.store import Store
from s2igan.errors import UserError
from s2igan.models.recurrent import inside
from s2igan.models.speech_encoder import KERNEL, SpeechEncoder

SHIFTS = 3
"""Times that an utterance is encoded, each a third of a frame later: of the encoder's frames of 90 ms that makes 30."""
BATCH = 32
WINDOW = 5
"""Steps of the recurrent network that what stands for a segment may know, 0.45 s: over whole utterances, the frames of
`head` tell which colour it has."""


@dataclass(frozen=True)
class FrameTimes:
    """When the frames of an encoder are."""

    first_seconds: float
    step_seconds: float

    @classmethod
    def of(cls, encoder: SpeechEncoder) -> FrameTimes:
        stride, convolutions = encoder.config.conv_stride, len(encoder.config.conv_channels)
        seen = 1 + (KERNEL - 1) * sum(stride**i for i in range(convolutions))  # mel frames
        frame = HOP_LENGTH / SAMPLE_RATE
        return cls((seen - 1) / 2 * frame, stride**convolutions / SHIFTS * frame)

    def starts(self, frames: Int[np.ndarray, " some"]) -> Float[np.ndarray, " some"]:
        """When segments that begin with these frames begin (seconds): half a step before their middle."""
        return np.where(frames == 0, 0.0, self.first_seconds + (frames - 0.5) * self.step_seconds)


@dataclass(frozen=True)
class FineFrames:
    """What the encoder makes of an utterance, every third of a frame, standardised over all utterances."""

    whole: Float[np.ndarray, "frames features"]
    """By its recurrent network over the utterance: where its output changes, one word ends and another begins."""
    local: Float[np.ndarray, "frames features"]
    """By the same network over the `WINDOW` steps around each frame."""


@torch.no_grad()
def fine_frames(encoder: SpeechEncoder, store: Store, utterances: Int[np.ndarray, " utterances"]) -> list[FineFrames]:
    """The frames of utterances.

    Raises:
        UserError: one is too short.
    """
    step = encoder.config.conv_stride ** len(encoder.config.conv_channels)
    device = next(encoder.parameters()).device
    shifts = [round(i * step / SHIFTS) for i in range(SHIFTS)]
    least = encoder.config.min_frames + shifts[-1]
    order = np.argsort(store.n_frames[utterances], kind="stable")
    whole, local = ([np.empty(0)] * len(utterances) for _ in range(2))
    for at in range(0, len(order), BATCH):
        rows = order[at : at + BATCH]
        mel, lengths = pad_mels([store.mel(int(utterance)) for utterance in utterances[rows]])
        if int(lengths.min()) < least:
            short = utterances[rows[int(lengths.argmin())]]
            raise UserError(
                f"{store.audio_path(int(short))}: {int(lengths.min())} frames are too few to look for words in, at "
                f"least {least} are needed; leave it out."
            )
        parts = [_whole_and_local(encoder, mel[:, shift:].to(device), lengths - shift) for shift in shifts]
        for i, row in enumerate(rows):
            count = min(int(n_frames[i]) for _, _, n_frames in parts)
            whole[row], local[row] = (
                np.stack([part[kind][i, :count] for part in parts], axis=1).reshape(count * SHIFTS, -1)
                for kind in (0, 1)
            )
    return [FineFrames(*pair) for pair in zip(_standardised(whole), _standardised(local), strict=True)]


def _whole_and_local(
    encoder: SpeechEncoder, mel: Float[Tensor, "batch frames mels"], lengths: Int[Tensor, " batch"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Both kinds of frames, one for each step of the recurrent network, and how many each utterance has."""
    whole, n_frames = encoder.frames(mel, lengths)
    x = encoder.convolve(mel).transpose(1, 2)[:, : whole.shape[1]]
    x = x * inside(x, n_frames)
    margin = WINDOW // 2
    windows = functional.pad(x, (0, 0, margin, margin)).unfold(1, WINDOW, 1).transpose(2, 3)
    local = encoder.rnn(windows.flatten(0, 1))[0][:, margin].unflatten(0, windows.shape[:2])
    return whole.cpu().numpy(), local.cpu().numpy(), n_frames.numpy()


def _standardised(frames: list[Float[np.ndarray, "_ features"]]) -> list[Float[np.ndarray, "_ features"]]:
    every = np.concatenate(frames)
    mean, std = every.mean(axis=0), every.std(axis=0) + 1e-6
    return [(each - mean) / std for each in frames]
