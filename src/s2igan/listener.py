"""A speech encoder in use: recordings in, speech embeddings out. What finds and what draws both listen so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from s2igan.audio import FRAMES_PER_SECOND, SAMPLE_RATE, Audio, n_frames, waveform
from s2igan.errors import UserError
from s2igan.models.encoders import Encoder
from s2igan.models.exported import FrontEnd
from s2igan.spectrograms import log_mel

HEARD_AT_ONCE = 32
"""Recordings in one pass of the speech encoder."""
SECONDS_AT_ONCE = 600.0
"""Of those recordings, filled up to the longest; bounds their memory."""

CANNOT_HEAR = {
    "text": ("text", "stackgan-v2-text"),
    "embeddings": ("published text embeddings", "stackgan-v2-text-reed"),
}
"""What models read that are no use for a recording, and which baseline each is."""


class Listener:
    """Hears recordings: a speech encoder with its front end."""

    def __init__(self, speech_encoder: Encoder, front_end: FrontEnd, device: str | torch.device = "cpu") -> None:
        """Takes over the encoder."""
        self.device = torch.device(device)
        self.speech_encoder, self.front_end = speech_encoder, front_end
        speech_encoder.eval().requires_grad_(False).to(self.device)

    @torch.inference_mode()
    def embed(self, audio: Audio) -> Float[Tensor, " embedding"]:
        """The unit-length speech embedding A of one recording, on the CPU; UserError where it cannot be used."""
        mels, lengths = self.spectrograms([waveform(audio)])
        embedding: Tensor = self.speech_encoder(mels.to(self.device), lengths)
        return embedding[0].cpu()

    def spectrograms(
        self, waves: Sequence[Float[np.ndarray, " _"]]
    ) -> tuple[Float[Tensor, "batch frames 40"], Int[Tensor, " batch"]]:
        """A padded batch for the speech encoder, and the lengths in frames; UserError where the model cannot hear."""
        self.check_hears()
        for wave in waves:
            self.check_length(wave, "the recording")
        mels = [self.spectrogram(wave) for wave in waves]
        return torch.nn.utils.rnn.pad_sequence(mels, batch_first=True), torch.tensor([*map(len, mels)])

    def check_hears(self) -> None:
        """UserError where the model reads something else than speech."""
        if self.speech_encoder.reads != "speech":
            what, baseline = CANNOT_HEAR[self.speech_encoder.reads]
            raise UserError(f"this model reads {what} and cannot hear: it was trained as the baseline {baseline}.")

    def spectrogram(self, wave: Float[np.ndarray, " samples"]) -> Float[Tensor, "frames 40"]:
        """The normalised log-mel of a waveform at 22,050 Hz, as the speech encoder reads it."""
        return log_mel(torch.from_numpy(wave), window=self.front_end.window, pad_mode=self.front_end.pad_mode)

    def check_length(self, wave: Float[np.ndarray, " samples"], name: str) -> None:
        """UserError, beginning with `name`, if a waveform (22,050 Hz) has too few frames for the speech encoder."""
        least = getattr(self.speech_encoder.config, "min_frames", 1)
        if n_frames(len(wave)) < least:
            raise UserError(
                f"{name}: too short, {len(wave) / SAMPLE_RATE:.2f} s where this model needs "
                f"{least / FRAMES_PER_SECOND:.2f} s; record the whole sentence."
            )


def waveforms_together(recordings: Sequence[Audio]) -> Iterator[list[Float[np.ndarray, " _"]]]:
    """The waveforms of recordings, as many at a time as fit one pass of the speech encoder."""
    waves: list[np.ndarray] = []
    for recording in recordings:
        wave = waveform(recording)
        samples = (len(waves) + 1) * max(map(len, [*waves, wave]))
        if waves and (len(waves) == HEARD_AT_ONCE or samples > SECONDS_AT_ONCE * SAMPLE_RATE):
            yield waves
            waves = []
        waves.append(wave)
    if waves:
        yield waves
