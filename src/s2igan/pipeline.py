"""A trained model in use: a recording in, images out. The command line and the evaluation go through here."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image
from torch import Tensor

from s2igan.audio import load_audio, log_mel, of_array
from s2igan.devices import choose_device
from s2igan.errors import UserError
from s2igan.files import atomic_write, disk_errors
from s2igan.models.encoders import Encoder
from s2igan.models.exported import ExportedModel, FrontEnd, shipped_models
from s2igan.models.generator import Generator
from s2igan.models.latent_flow import LatentFlow, check_frames
from s2igan.speech import parse_voice

MODEL_FOLDER = "model"
"""Where a run directory keeps the exported model."""
IMAGES_AT_ONCE = 16
"""Images in one pass of the generator; bounds the memory of large requests."""
SHEET_GAP = 4
"""White pixels between the images of a contact sheet."""

CANNOT_HEAR = {
    "text": ("text", "stackgan-v2-text"),
    "embeddings": ("published text embeddings", "stackgan-v2-text-reed"),
}
"""What models read that are no use for a recording, and which baseline each is."""

Audio = str | os.PathLike[str] | tuple[np.ndarray, int] | tuple[int, np.ndarray]
"""A sound file, or an array (samples,), (samples, channels) or (channels, samples) with its sample rate in Hz.
A pair in the other order, as other libraries give it, is refused by name."""


@dataclass(frozen=True)
class SpeechCondition:
    """What pictures are drawn for, a row for each utterance."""

    embedding: Float[Tensor, "rows embedding"]
    """The unit-length speech embedding A."""
    words: Float[Tensor, "rows frames words"] | None = None
    """Word embeddings, padded; only latent flow attends to them."""
    inside: Bool[Tensor, "rows frames"] | None = None
    """Which of them are inside their utterance."""

    def rows(self, index: slice) -> SpeechCondition:
        """Some of the rows."""
        words, inside = (None if part is None else part[index] for part in (self.words, self.inside))
        return SpeechCondition(self.embedding[index], words, inside)

    def repeat(self, n: int) -> SpeechCondition:
        """Each row n times."""
        parts = (self.embedding, self.words, self.inside)
        embedding, words, inside = (None if part is None else part.repeat_interleave(n, dim=0) for part in parts)
        assert embedding is not None
        return SpeechCondition(embedding, words, inside)


class SpeechToImage:
    """Draws what a recording describes.

    The same recording, seed and number of the sample give the same image, whatever else is asked for before or beside
    it.

    Example:
        >>> from s2igan import SpeechToImage
        >>> images = SpeechToImage.load("runs/demo")("description.wav", samples=4, seed=1)
        >>> images[0].save("bird.png")
    """

    def __init__(
        self,
        speech_encoder: Encoder,
        generator: Generator | LatentFlow,
        front_end: FrontEnd,
        device: str | torch.device = "cpu",
    ) -> None:
        """Takes over networks that fit together."""
        self.device = torch.device(device)
        self.speech_encoder, self.generator, self.front_end = speech_encoder, generator, front_end
        for network in (speech_encoder, generator):
            network.eval().requires_grad_(False).to(self.device)

    @classmethod
    def load(cls, path: str | os.PathLike[str], device: str | torch.device | None = None) -> SpeechToImage:
        """Reads a run directory, the exported model in it, or a shipped model by its name.

        It computes on a GPU if there is one, or on `device`.

        Raises:
            UserError: there is no such directory or device, it holds no finished model, or its files do not fit
                together.
        """
        device = choose_device(device)
        return cls.of(ExportedModel.read(find_model(path)), device)

    @classmethod
    def of(cls, exported: ExportedModel, device: str | torch.device = "cpu") -> SpeechToImage:
        """Of a model that has been read; UserError where its files do not fit together."""
        speech_encoder, generator = exported.speech_encoder(), exported.generator()
        if isinstance(generator, LatentFlow):
            check_frames(speech_encoder)
        return cls(speech_encoder, generator, exported.front_end, device)

    @property
    def resolutions(self) -> tuple[int, ...]:
        """Sides in pixels of the images that the generator makes, from the lowest."""
        return self.generator.config.resolutions

    @property
    def method(self) -> str:
        """How it draws, in words: the paper's RDG, or latent flow, which is not in the paper."""
        return self.generator.config.method

    def __call__(self, audio: Audio, samples: int = 4, seed: int = 1) -> list[Image.Image]:
        """Images of one spoken description at the highest resolution.

        Raises:
            UserError: the recording cannot be read, is silent, under two frames or over 600 s long, or `samples`
                or `seed` is out of range.
        """
        noise = self.noise(samples, seed)
        pictures = self.draw(self.condition(audio).repeat(samples), noise)
        return [Image.fromarray(picture) for picture in pictures]

    def embed(self, audio: Audio) -> Float[Tensor, " embedding"]:
        """The unit-length speech embedding A of one recording, on the CPU; UserError as for a call."""
        return self.condition(audio).embedding[0].cpu()

    def condition(self, audio: Audio) -> SpeechCondition:
        """What one recording has pictures drawn for, a single row; UserError as for a call."""
        if self.speech_encoder.reads != "speech":
            what, baseline = CANNOT_HEAR[self.speech_encoder.reads]
            raise UserError(f"this model reads {what} and cannot hear: it was trained as the baseline {baseline}.")
        wave = torch.from_numpy(waveform(audio))
        mel = log_mel(wave, window=self.front_end.window, pad_mode=self.front_end.pad_mode)[None]
        return self.listen(mel, torch.tensor([mel.shape[1]]))

    @torch.inference_mode()
    def listen(self, inputs: Float[Tensor, "batch frames bands"], lengths: Int[Tensor, " batch"]) -> SpeechCondition:
        """What a padded batch of the speech encoder's inputs has pictures drawn for."""
        inputs = inputs.to(self.device)
        embedding: Tensor = self.speech_encoder(inputs, lengths)
        if not isinstance(self.generator, LatentFlow):
            return SpeechCondition(embedding)
        return SpeechCondition(embedding, *self.generator.listen(check_frames(self.speech_encoder), inputs, lengths))

    def noise(self, samples: int, seed: int) -> Float[Tensor, "images numbers"]:
        """Standard normal numbers for samples 1, 2, ... of a seed; UserError if either is out of range.

        Sample k does not depend on how many others are asked for.
        """
        if samples < 1:
            raise UserError(f"samples = {samples} makes no image: choose 1 or more.")
        if not 0 <= seed < 2**63:
            raise UserError(f"seed = {seed} is out of range: choose a number from 0 to 2**63 - 1.")
        stream = torch.Generator().manual_seed(seed)
        numbers = self.generator.config.noise
        return torch.stack([torch.randn(numbers, generator=stream) for _ in range(samples)])

    @torch.inference_mode()
    def draw(
        self, condition: SpeechCondition, noise: Float[Tensor, "images numbers"]
    ) -> UInt8[np.ndarray, "samples side side 3"]:
        """Pixels, at the highest resolution, for each row of a condition and of noise."""
        passes = []
        for first in range(0, len(noise), IMAGES_AT_ONCE):
            rows = slice(first, first + IMAGES_AT_ONCE)
            passes.append(self._images(condition.rows(rows), noise[rows].to(self.device)))
        return to_pixels(torch.cat(passes))

    def _images(
        self, condition: SpeechCondition, noise: Float[Tensor, "images numbers"]
    ) -> Float[Tensor, "images 3 side side"]:
        if isinstance(self.generator, LatentFlow):
            assert condition.words is not None
            assert condition.inside is not None
            drawn: Tensor = self.generator(condition.words, condition.inside, noise)
            return drawn
        config = self.generator.config
        z, eps = noise.split([config.z, config.condition], dim=1)
        images: Tensor = self.generator(condition.embedding, z, eps).images[-1]
        return images


def find_model(path: str | os.PathLike[str]) -> Path:
    """The directory of the exported model: that of a run, or the one given; or a shipped model, by its name.

    Raises:
        UserError: there is none.
    """
    shipped, path = shipped_models(), Path(path)
    if not path.is_dir() and str(path) not in shipped:
        names = f" (there are {', '.join(shipped)})" if shipped else ""
        raise UserError(
            f"{path}: no such run directory, and no shipped model{names}; train a model with s2igan train, or check "
            "the path."
        )
    path = path if path.is_dir() else shipped[str(path)]
    for directory in (path / MODEL_FOLDER, path):
        if (directory / "weights.safetensors").is_file():
            return directory
    if (path / "config.json").is_file():
        raise UserError(
            f"{path}: training has not finished, so there is no model yet; go on with s2igan train ... --resume."
        )
    raise UserError(f"{path}: neither a run nor an exported model; name the directory that s2igan train wrote.")


def waveform(audio: Audio) -> Float[np.ndarray, " samples"]:
    """Mono float32 at 22,050 Hz from a sound file, or from an array and its rate (integers are scaled by their range).

    Raises:
        UserError: as `audio.load_audio` and `audio.check_waveform` do.
    """
    if not isinstance(audio, tuple):
        return load_audio(Path(audio))
    samples, rate = audio
    if isinstance(rate, np.ndarray) and rate.ndim:
        raise UserError("the array comes second, after its sample rate: give (samples, rate) with the rate in Hz.")
    return of_array(np.asarray(samples), float(rate), "the array")


def to_pixels(images: Float[Tensor, "batch 3 height width"]) -> UInt8[np.ndarray, "batch height width 3"]:
    """Images in [-1, 1] as bytes, rounded to the nearest."""
    scaled = images.float().add(1.0).mul(127.5).round().clamp(0, 255)
    return np.ascontiguousarray(scaled.to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy())


def generate_files(
    model: SpeechToImage,
    recordings: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    samples: int,
    seed: int,
) -> Iterator[dict[str, Any] | UserError]:
    """Writes `<recording>-<sample>.png` for every sample of every recording, and at the end `contact-sheet.png`.

    Yields a record (audio, method, sample, seed, image, width, height) as each picture is written, and the error of
    each recording that cannot be used; the others go on.

    Raises:
        UserError: `out` cannot be made, or `samples` or `seed` is out of range.
    """
    from torchvision.transforms.functional import pil_to_tensor, to_pil_image
    from torchvision.utils import make_grid

    out = Path(out)
    model.noise(samples, seed)
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    drawn: list[Tensor] = []
    names: set[str] = set()
    for recording in map(Path, recordings):
        try:
            images = model(recording, samples, seed)
        except UserError as error:
            yield error
            continue
        stem, numbers = recording.stem, itertools.count(2)
        while stem in names:  # recordings of the same name in different folders
            stem = f"{recording.stem}-again{next(numbers)}"
        names.add(stem)
        for sample, image in enumerate(images, start=1):
            path = out / f"{stem}-{sample}.png"
            write_picture(path, image)
            drawn.append(pil_to_tensor(image))
            facts = {"audio": str(recording), "method": model.method, "sample": sample, "seed": seed}
            yield {**facts, "image": str(path), "width": image.width, "height": image.height}
    if drawn:
        sheet = make_grid(torch.stack(drawn), nrow=samples, padding=SHEET_GAP, pad_value=255)
        write_picture(out / "contact-sheet.png", to_pil_image(sheet))


def speak_to_file(sentence: str, voice: str, path: str | os.PathLike[str]) -> Path:
    """Has a sentence spoken and writes it as a 16-bit wav; returns the path.

    Raises:
        UserError: the sentence is empty, there is no such voice, or the file cannot be written.
    """
    if not sentence.strip():
        raise UserError("the sentence is empty; write what should be said in quotation marks.")
    path = Path(path)
    synthesizer = parse_voice(voice)
    write_recording(path, synthesizer.synthesize(sentence), synthesizer.sample_rate)
    return path


def write_picture(path: Path, image: Image.Image) -> None:
    """Writes a PNG, and its folder; UserError where it cannot be written."""
    with atomic_write(path) as file:
        image.save(file, "PNG")


def write_recording(path: Path, wave: Float[np.ndarray, " samples"], sample_rate: int) -> None:
    """Writes a 16-bit wav, and its folder; UserError where it cannot be written."""
    with atomic_write(path) as file:
        soundfile.write(file, wave, sample_rate, subtype="PCM_16", format="WAV")
