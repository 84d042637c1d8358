"""A model in use: a recording in, images out, with the same call and the same pictures as `s2igan.SpeechToImage`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from PIL import Image

from s2igan_edge.audio import FRAMES_PER_SECOND, SAMPLE_RATE, Audio, n_frames, waveform
from s2igan_edge.errors import UserError
from s2igan_edge.graphs import Graphs
from s2igan_edge.log_mel import log_mel
from s2igan_edge.noise import normal_numbers, truncated
from s2igan_edge.pictures import Pictures, picture_seeds
from s2igan_edge.sampler import sample
from s2igan_edge.speech_encoder import SpeechEncoder

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int, UInt8

IMAGES_AT_ONCE = 16
"""Images in one pass; bounds the memory of large requests."""
HEARD_AT_ONCE = 32
"""Recordings in one pass of the speech encoder."""


@dataclass(frozen=True)
class SpeechCondition:
    """What pictures are drawn for, a row for each utterance."""

    embedding: Float[np.ndarray, "rows embedding"]
    """The unit-length speech embedding A."""
    words: Float[np.ndarray, "rows pairs words"] | None = None
    """Word embeddings, padded; only latent flow attends to them."""
    inside: Bool[np.ndarray, "rows pairs"] | None = None
    """Which of them are inside their utterance."""

    def rows(self, index: np.ndarray) -> SpeechCondition:
        """Some of the rows, perhaps several times."""
        return SpeechCondition(
            self.embedding[index],
            None if self.words is None else self.words[index],
            None if self.inside is None else self.inside[index],
        )


@dataclass(frozen=True, eq=False)
class Drawn(Pictures):
    """What was drawn for one recording: a sequence of its images, from the first sample to the last."""

    embedding: Float[np.ndarray, " embedding"]
    """The unit-length speech embedding A."""


class SpeechToImage:
    """Draws what a recording describes, by a model that `s2igan export` wrote.

    Example:
        >>> from s2igan_edge import SpeechToImage
        >>> model = SpeechToImage.from_directory("birds-onnx")
        >>> drawn = model("description.wav", samples=4, seed=1)
        >>> drawn.images[0].save("bird.png")
    """

    def __init__(self, graphs: Graphs) -> None:
        """Of graphs that were read."""
        self._graphs = graphs
        self._encoder = SpeechEncoder(graphs)
        self._drawing: dict[str, Any] = graphs.config["drawing"]
        self._is_flow = self._drawing["kind"] == "latent_flow"

    @classmethod
    def from_directory(cls, directory: str | os.PathLike[str], *, threads: int | None = None) -> SpeechToImage:
        """Reads a folder that `s2igan export` wrote.

        Args:
            threads: that compute; one for each core unless given.

        Raises:
            UserError: there is no model in the folder, a file of it is missing, torn or altered, or another version
                wrote it.
        """
        return cls(Graphs(directory, threads))

    @property
    def method(self) -> str:
        """How it draws, in words: the paper's RDG, or latent flow, which is not in the paper."""
        return str(self._graphs.config["method"])

    @property
    def resolutions(self) -> tuple[int, ...]:
        """Sides in pixels of the images that a call gives, from the lowest."""
        return tuple(self._drawing["resolutions"])

    @overload
    def __call__(
        self,
        audio: Audio,
        samples: int = 4,
        seed: int = 1,
        *,
        truncation: float | None = None,
        guidance: float | None = None,
        steps: int | None = None,
        scales: int | None = None,
    ) -> Drawn: ...

    @overload
    def __call__(
        self,
        audio: list[Audio],
        samples: int = 4,
        seed: int = 1,
        *,
        truncation: float | None = None,
        guidance: float | None = None,
        steps: int | None = None,
        scales: int | None = None,
    ) -> list[Drawn]: ...

    def __call__(
        self,
        audio: Audio | list[Audio],
        samples: int = 4,
        seed: int = 1,
        *,
        truncation: float | None = None,
        guidance: float | None = None,
        steps: int | None = None,
        scales: int | None = None,
    ) -> Drawn | list[Drawn]:
        """Images of one spoken description, or of each of a list.

        Args:
            samples: images of each recording. Image k has the seed `seed + k - 1`.
            truncation: the noise stays within so many standard deviations: less variety, fewer odd images.
            guidance: strength of classifier-free guidance, for latent flow; what it was exported with unless given.
            steps: evaluations of the velocity, for latent flow; what it was exported with unless given.
            scales: how many resolutions to compute, from the lowest; all unless given.

        Raises:
            UserError: a recording cannot be read, is silent, under two frames or over 600 s long, or an option is out
                of range.
        """
        self._check_options(guidance, steps, scales)
        noise = self.picture_noise(samples, seed, truncation)
        recordings = audio if isinstance(audio, list) else [audio]
        drawn: list[Drawn] = []
        for first in range(0, len(recordings), HEARD_AT_ONCE):
            waves = [waveform(recording) for recording in recordings[first : first + HEARD_AT_ONCE]]
            condition = self.hear(waves)
            of_each, noises = np.arange(len(waves)).repeat(samples), np.tile(noise, (len(waves), 1))
            pictures = self.draw_scales(condition.rows(of_each), noises, guidance=guidance, steps=steps, scales=scales)
            for row, wave in enumerate(waves):
                part = slice(row * samples, (row + 1) * samples)
                images = {of.shape[1]: [Image.fromarray(picture) for picture in of[part]] for of in pictures}
                embedding = condition.embedding[row]
                drawn.append(Drawn(images, seed, speech_seconds=len(wave) / SAMPLE_RATE, embedding=embedding))
        return drawn if isinstance(audio, list) else drawn[0]

    def embed(self, audio: Audio) -> Float[np.ndarray, " embedding"]:
        """The unit-length speech embedding A of one recording; UserError where it cannot be used."""
        return self.hear([waveform(audio)]).embedding[0]

    def hear(self, waves: Sequence[Float[np.ndarray, " _"]]) -> SpeechCondition:
        """What waveforms (22,050 Hz) have pictures drawn for, a row each; UserError where one is too short."""
        for wave in waves:
            self.check_length(wave, "the recording")
        audio = self._graphs.config["audio"]
        mels = [log_mel(wave, window=audio["window"], pad_mode=audio["pad_mode"]) for wave in waves]
        lengths = np.array([*map(len, mels)])
        padded = np.zeros((len(mels), lengths.max(), mels[0].shape[1]), np.float32)
        for row, mel in zip(padded, mels, strict=True):
            row[: len(mel)] = mel
        return self.listen(padded, lengths)

    def listen(self, mels: Float[np.ndarray, "batch frames 40"], lengths: Int[np.ndarray, " batch"]) -> SpeechCondition:
        """What a padded batch of normalised log-mels has pictures drawn for."""
        steps, lengths = self._encoder.steps(mels, lengths)
        embedding = self._encoder.embeddings(steps, lengths)
        if not self._is_flow:
            return SpeechCondition(embedding)
        words, pairs = self._encoder.words(steps, lengths, self._drawing["window"], self._drawing["hop"])
        return SpeechCondition(embedding, words, np.arange(words.shape[1]) < pairs[:, None])

    def picture_noise(
        self, samples: int, seed: int, truncation: float | None = None
    ) -> Float[np.ndarray, "images numbers"]:
        """Noise of images whose seeds are `seed`, `seed + 1`, ...; UserError where an option is out of range."""
        shape = self._drawing["latent_shape"] if self._is_flow else [self._drawing["z"] + self._drawing["condition"]]
        noise = np.stack([normal_numbers(int(np.prod(shape)), number) for number in picture_seeds(seed, samples)])
        if truncation is None:
            return noise
        if not truncation > 0:
            raise UserError(f"truncation = {truncation:g} leaves no noise to draw from: choose a number above 0.")
        return truncated(noise, truncation)

    def check(
        self,
        samples: int,
        seed: int,
        *,
        truncation: float | None = None,
        guidance: float | None = None,
        steps: int | None = None,
    ) -> None:
        """UserError where a call with these options would refuse them."""
        self._check_options(guidance, steps, None)
        picture_seeds(seed, samples)
        self.picture_noise(1, seed, truncation)

    def check_length(self, wave: Float[np.ndarray, " samples"], name: str) -> None:
        """UserError, beginning with `name`, if a waveform (22,050 Hz) has too few frames for the speech encoder."""
        least = self._encoder.min_frames
        if n_frames(len(wave)) < least:
            raise UserError(
                f"{name}: too short, {len(wave) / SAMPLE_RATE:.2f} s where this model needs "
                f"{least / FRAMES_PER_SECOND:.2f} s; record the whole sentence."
            )

    def _check_options(self, guidance: float | None, steps: int | None, scales: int | None) -> None:
        for name, value in (("guidance", guidance), ("steps", steps)):
            if value is not None and not self._is_flow:
                raise UserError(f"{name} = {value:g}: this model draws by {self.method}, which has none.")
        if guidance is not None and not 0 <= guidance < np.inf:
            raise UserError(f"guidance = {guidance:g} is out of range: choose a number from 0 on; 1 is none.")
        if steps is not None and steps < 1:
            raise UserError(f"steps = {steps} is out of range: choose 1 or more.")
        if scales is not None and not 1 <= scales <= len(self.resolutions):
            raise UserError(
                f"scales = {scales}: this model has {len(self.resolutions)}; choose a number from 1 to that."
            )

    def draw_scales(
        self,
        condition: SpeechCondition,
        noise: Float[np.ndarray, "images numbers"],
        *,
        guidance: float | None = None,
        steps: int | None = None,
        scales: int | None = None,
    ) -> tuple[UInt8[np.ndarray, "images _ _ 3"], ...]:
        """Pixels at each resolution for each row of a condition and of noise."""
        passes = []
        for first in range(0, len(noise), IMAGES_AT_ONCE):
            rows = np.arange(first, min(first + IMAGES_AT_ONCE, len(noise)))
            images = self.images(condition.rows(rows), noise[rows], guidance=guidance, steps=steps, scales=scales)
            passes.append([to_pixels(of_scale) for of_scale in images])
        return tuple(np.concatenate(of_scale) for of_scale in zip(*passes, strict=True))

    def images(
        self,
        condition: SpeechCondition,
        noise: Float[np.ndarray, "images numbers"],
        *,
        guidance: float | None = None,
        steps: int | None = None,
        scales: int | None = None,
    ) -> list[Float[np.ndarray, "images 3 _ _"]]:
        """Images, about in [-1, 1], at each resolution for each row of a condition and of noise, all in one pass."""
        if self._is_flow:
            return self._flow(condition, noise, guidance, steps)
        return self._rdg(condition, noise, scales)

    def _rdg(
        self, condition: SpeechCondition, noise: Float[np.ndarray, "images numbers"], scales: int | None
    ) -> list[np.ndarray]:
        z, eps = np.split(noise, [self._drawing["z"]], axis=1)
        outputs = [f"image_{side}" for side in self.resolutions[:scales]]
        return self._graphs.run("generator", {"embedding": condition.embedding, "z": z, "eps": eps}, outputs)

    def _flow(
        self,
        condition: SpeechCondition,
        noise: Float[np.ndarray, "images numbers"],
        guidance: float | None,
        steps: int | None,
    ) -> list[np.ndarray]:
        def velocity(x: np.ndarray, t: np.ndarray, words: np.ndarray, inside: np.ndarray) -> np.ndarray:
            return self._graphs.run("velocity", {"x": x, "t": t, "words": words, "inside": inside})[0]

        assert condition.words is not None
        assert condition.inside is not None
        latents = sample(
            velocity,
            noise.reshape(len(noise), *self._drawing["latent_shape"]),
            condition.words,
            condition.inside,
            steps=self._drawing["steps"] if steps is None else steps,
            guidance=self._drawing["guidance"] if guidance is None else guidance,
            shift=self._drawing["shift"],
        )
        return self._graphs.run("decoder", {"latents": latents})


def to_pixels(images: Float[np.ndarray, "batch 3 height width"]) -> UInt8[np.ndarray, "batch height width 3"]:
    """Images in [-1, 1] as bytes, rounded to the nearest."""
    scaled = np.rint((images + np.float32(1)) * np.float32(127.5)).clip(0, 255)
    return np.ascontiguousarray(scaled.astype(np.uint8).transpose(0, 2, 3, 1))
