"""A trained model in use: a recording in, images out. The command line, the page and the evaluation go through here."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image
from torch import Tensor

from s2igan import hub
from s2igan.audio import SAMPLE_RATE, Audio, waveform
from s2igan.checkpoint import save_model
from s2igan.devices import choose_device
from s2igan.errors import UserError
from s2igan.files import atomic_write
from s2igan.hub import Sharing
from s2igan.listener import Listener, waveforms_together
from s2igan.models.encoders import Encoder
from s2igan.models.exported import ExportedModel, FrontEnd, find_model, shipped_models
from s2igan.models.flow_in_use import between, with_guidance
from s2igan.models.generator import Generator
from s2igan.models.latent_flow import LatentFlow, check_frames
from s2igan.pictures import Pictures, picture_seeds

IMAGES_AT_ONCE = 16
"""Images in one pass of the generator; bounds the memory of large requests."""


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


@dataclass(frozen=True, eq=False)
class Drawn(Pictures):
    """What was drawn for one recording: a sequence of its images, from the first sample to the last."""

    embedding: Float[Tensor, " embedding"]
    """The unit-length speech embedding A, on the CPU."""


class SpeechToImage(Listener):
    """Draws what a recording describes.

    The same recording and seed give the same image, whatever is drawn beside it; in another batch a colour may differ
    by one of 255 levels, since the last bit of a float depends on how many are computed together.

    Example:
        >>> from s2igan import SpeechToImage
        >>> model = SpeechToImage.from_pretrained("birds")
        >>> drawn = model("description.wav", samples=4, seed=1)
        >>> drawn.images[0].save("bird.png")
    """

    exported: ExportedModel | None = None
    """What the networks were read from; None where they were given."""

    def __init__(
        self,
        speech_encoder: Encoder,
        generator: Generator | LatentFlow,
        front_end: FrontEnd,
        device: str | torch.device = "cpu",
    ) -> None:
        """Takes over networks that fit together."""
        super().__init__(speech_encoder, front_end, device)
        self.generator = generator
        generator.eval().requires_grad_(False).to(self.device)

    @classmethod
    def load(cls, path: str | os.PathLike[str], device: str | torch.device | None = None) -> SpeechToImage:
        """Reads a run directory, the exported model in it, or a shipped model by its name; asks no hub.

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
        model = cls(speech_encoder, generator, exported.front_end, device)
        model.exported = exported
        return model

    @classmethod
    def from_pretrained(
        cls,
        name: str | os.PathLike[str],
        *,
        revision: str | None = None,
        token: str | None = None,
        local_files_only: bool = False,
        device: str | torch.device | None = None,
    ) -> SpeechToImage:
        """A shipped model by its name, a directory as for `load`, or a model of the Hugging Face hub, `owner/name`.

        What stands here is preferred to the hub. Weights are safetensors and sizes are JSON: none of it runs code.

        Args:
            revision: branch, tag or commit on the hub.
            token: of your account, for a private model; unless given, that of `hf auth login`.
            local_files_only: do not ask the hub, only its cache on this machine.
            device: as for `load`.

        Raises:
            UserError: as `load`, or the hub gives no such model.
        """
        local = Path(name).is_dir() or str(name) in shipped_models()
        if local or not hub.is_repository(str(name)):
            return cls.load(name, device)
        where = choose_device(device)
        folder = hub.download(str(name), revision=revision, token=token, local_files_only=local_files_only)
        return cls.of(ExportedModel.read(folder), where)

    def save_pretrained(
        self, directory: str | os.PathLike[str], *, sharing: Sharing | None = None, card: str | None = None
    ) -> Path:
        """Writes the model as `from_pretrained` reads it: config.json, weights.safetensors and README.md, its card.

        Nothing else is in them: no recording, picture, name of a speaker or path.

        Args:
            sharing: what the card says of the people whose voices these are; nothing is claimed unless given.
            card: what the card says of the model, in Markdown, perhaps with the hub's YAML.

        Raises:
            UserError: the model was made from networks, not read; or the directory cannot be written.
        """
        if self.exported is None:
            raise UserError("this model was made from networks in memory; save one that was loaded.")
        directory = Path(directory)
        if directory.is_dir() and (others := {path.name for path in directory.iterdir()} - set(hub.FILES)):
            raise UserError(f"{directory}: {sorted(others)[0]} is here already; choose a folder of the model's own.")
        config = hub.shared_config(self.exported.config)
        text = hub.model_card(sharing or Sharing(), card or self._about())
        save_model(directory, config, self.exported.weights)
        with atomic_write(directory / hub.CARD) as file:
            file.write(text.encode())
        return directory

    def push_to_hub(
        self,
        repository: str,
        *,
        sharing: Sharing | None = None,
        card: str | None = None,
        private: bool = True,
        token: str | None = None,
    ) -> str:
        """Puts the three files of `save_pretrained`, and nothing else, on the Hugging Face hub; returns their address.

        Args:
            repository: `owner/name`; made if it is not there.
            sharing, card: as for `save_pretrained`.
            private: of a repository that is made: only its owner sees it, until the owner shows it.
            token: of your account; unless given, that of `hf auth login`.

        Raises:
            UserError: the hub refuses or cannot be reached.
        """
        with tempfile.TemporaryDirectory() as folder:
            directory = self.save_pretrained(Path(folder) / "model", sharing=sharing, card=card)
            return hub.upload(directory, repository, private=private, token=token)

    def _about(self) -> str:
        """What a card says of a model of which nothing more is known."""
        assert self.exported is not None
        return (
            f"Spoken descriptions to images of {self.resolutions[-1]} px, by {self.method}; trained by s2igan with the "
            f"recipe `{self.exported.recipe}`. How well it does was not recorded here.\n"
        )

    @property
    def resolutions(self) -> tuple[int, ...]:
        """Sides in pixels of the images that the generator makes, from the lowest."""
        return self.generator.config.resolutions

    @property
    def method(self) -> str:
        """How it draws, in words: the paper's RDG, or latent flow, which is not in the paper."""
        return self.generator.config.method

    @property
    def scales(self) -> tuple[int, ...]:
        """Sides in pixels of the images that a call gives: all resolutions of the RDG, the last of latent flow."""
        return self.resolutions[-1:] if isinstance(self.generator, LatentFlow) else self.resolutions

    @overload
    def __call__(
        self,
        audio: Audio,
        samples: int = 4,
        seed: int = 1,
        *,
        truncation: float | None = None,
        guidance: float | None = None,
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
        scales: int | None = None,
    ) -> Drawn | list[Drawn]:
        """Images of one spoken description, or of each of a list.

        Args:
            samples: images of each recording. Image k has the seed `seed + k - 1`.
            truncation: the noise stays within so many standard deviations: less variety, fewer odd images.
            guidance: strength of classifier-free guidance, for latent flow; what it was exported with unless given.
            scales: how many resolutions to compute, from the lowest; all of `SpeechToImage.scales` unless given.

        Raises:
            UserError: a recording cannot be read, is silent, under two frames or over 600 s long, or an option is out
                of range.
        """
        recordings = audio if isinstance(audio, list) else [audio]
        options = self._options(guidance, scales)
        noise = self.picture_noise(samples, seed, truncation)
        drawn: list[Drawn] = []
        for waves in waveforms_together(recordings):
            condition = self.hear(waves)
            pictures = self.draw_scales(condition.repeat(samples), noise.repeat(len(waves), 1), **options)
            for row, wave in enumerate(waves):
                part = slice(row * samples, (row + 1) * samples)
                images = {of.shape[1]: [Image.fromarray(picture) for picture in of[part]] for of in pictures}
                embedding = condition.embedding[row].cpu()
                drawn.append(Drawn(images, seed, speech_seconds=len(wave) / SAMPLE_RATE, embedding=embedding))
        return drawn if isinstance(audio, list) else drawn[0]

    def interpolate(
        self,
        first: Audio,
        last: Audio,
        steps: int = 5,
        seed: int = 1,
        *,
        truncation: float | None = None,
        guidance: float | None = None,
    ) -> list[Image.Image]:
        """Images that lead from one spoken description to another, all from the same noise.

        The paper's RDG draws for embeddings on the arc between both; latent flow follows weighted sums of both
        velocities. The ends are what a call draws for each recording with this seed.

        Args:
            steps: images, both ends included.

        Raises:
            UserError: as for a call, or `steps` is less than 2.
        """
        if steps < 2:
            raise UserError(f"steps = {steps} is no way from one description to another: choose 2 or more.")
        options = self._options(guidance, None)
        noise = self.picture_noise(1, seed, truncation).repeat(steps, 1)
        heard = self.hear([waveform(first), waveform(last)])
        return [Image.fromarray(picture) for picture in self.draw_between(heard, noise, **options)]

    def condition(self, audio: Audio) -> SpeechCondition:
        """What one recording has pictures drawn for, a single row; UserError as for a call."""
        return self.hear([waveform(audio)])

    def hear(self, waves: Sequence[Float[np.ndarray, " _"]]) -> SpeechCondition:
        """What waveforms (22,050 Hz) have pictures drawn for, a row each; UserError where the model cannot hear."""
        return self.listen(*self.spectrograms(waves))

    @torch.inference_mode()
    def listen(self, inputs: Float[Tensor, "batch frames bands"], lengths: Int[Tensor, " batch"]) -> SpeechCondition:
        """What a padded batch of the speech encoder's inputs has pictures drawn for."""
        inputs = inputs.to(self.device)
        embedding: Tensor = self.speech_encoder(inputs, lengths)
        if not isinstance(self.generator, LatentFlow):
            return SpeechCondition(embedding)
        return SpeechCondition(embedding, *self.generator.listen(check_frames(self.speech_encoder), inputs, lengths))

    def noise(self, samples: int, seed: int) -> Float[Tensor, "images numbers"]:
        """Standard normal numbers for samples 1, 2, ... of one seed; UserError if either is out of range.

        Sample k does not depend on how many others are asked for.
        """
        picture_seeds(seed, samples)
        stream = torch.Generator().manual_seed(seed)
        numbers = self.generator.config.noise
        return torch.stack([torch.randn(numbers, generator=stream) for _ in range(samples)])

    def picture_noise(
        self, samples: int, seed: int, truncation: float | None = None
    ) -> Float[Tensor, "images numbers"]:
        """Noise of images whose seeds are `seed`, `seed + 1`, ...; UserError where an option is out of range.

        With `truncation` it has the normal distribution cut off there, in standard deviations (Brock et al. 2019); the
        numbers keep their order, so that a seed keeps its picture's character.
        """
        noise = torch.cat([self.noise(1, number) for number in picture_seeds(seed, samples)])
        if truncation is None:
            return noise
        if not truncation > 0:
            raise UserError(f"truncation = {truncation:g} leaves no noise to draw from: choose a number above 0.")
        cut = torch.special.ndtr(torch.tensor(-float(truncation), dtype=torch.float64))
        return torch.special.ndtri(cut + (1 - 2 * cut) * torch.special.ndtr(noise.double())).to(noise.dtype)

    def draw(
        self, condition: SpeechCondition, noise: Float[Tensor, "images numbers"]
    ) -> UInt8[np.ndarray, "samples side side 3"]:
        """Pixels, at the highest resolution, for each row of a condition and of noise."""
        return self.draw_scales(condition, noise)[-1]

    @torch.inference_mode()
    def draw_scales(
        self,
        condition: SpeechCondition,
        noise: Float[Tensor, "images numbers"],
        *,
        guidance: float | None = None,
        scales: int | None = None,
    ) -> tuple[UInt8[np.ndarray, "samples _ _ 3"], ...]:
        """Pixels at each of `SpeechToImage.scales`, or the first of them, for each row of a condition and of noise."""
        passes = []
        for first in range(0, len(noise), IMAGES_AT_ONCE):
            rows = slice(first, first + IMAGES_AT_ONCE)
            images = self._images(condition.rows(rows), noise[rows].to(self.device), guidance, scales)
            passes.append([to_pixels(of_scale) for of_scale in images])
        return tuple(np.concatenate(of_scale) for of_scale in zip(*passes, strict=True))

    @torch.inference_mode()
    def draw_between(
        self,
        condition: SpeechCondition,
        noise: Float[Tensor, "steps numbers"],
        *,
        guidance: float | None = None,
        scales: int | None = None,
    ) -> UInt8[np.ndarray, "steps side side 3"]:
        """Pixels for evenly spaced steps between the two rows of a condition, one for each row of noise."""
        first, last = condition.rows(slice(0, 1)), condition.rows(slice(1, 2))
        weights = torch.linspace(0, 1, len(noise), device=self.device)
        if not isinstance(self.generator, LatentFlow):
            on_arc = torch.stack([on_the_arc(first.embedding[0], last.embedding[0], float(w)) for w in weights])
            return self.draw_scales(SpeechCondition(on_arc), noise, scales=scales)[-1]
        flow = self.generator if guidance is None else with_guidance(self.generator, guidance)
        passes = []
        for start in range(0, len(noise), IMAGES_AT_ONCE):
            rows = slice(start, start + IMAGES_AT_ONCE)
            both = [part.repeat(len(weights[rows])) for part in (first, last)]
            words, inside = (torch.cat([getattr(part, name) for part in both], dim=1) for name in ("words", "inside"))
            passes.append(to_pixels(between(flow, weights[rows])(words, inside, noise[rows].to(self.device))))
        return np.concatenate(passes)

    def _images(
        self,
        condition: SpeechCondition,
        noise: Float[Tensor, "images numbers"],
        guidance: float | None,
        scales: int | None,
    ) -> Sequence[Float[Tensor, "images 3 _ _"]]:
        if isinstance(self.generator, LatentFlow):
            assert condition.words is not None
            assert condition.inside is not None
            flow = self.generator if guidance is None else with_guidance(self.generator, guidance)
            return [flow(condition.words, condition.inside, noise)]
        config = self.generator.config
        z, eps = noise.split([config.z, config.condition], dim=1)
        images: Sequence[Tensor] = self.generator(condition.embedding, z, eps, scales).images
        return images

    def check(self, samples: int, seed: int, *, truncation: float | None = None, guidance: float | None = None) -> None:
        """UserError where a call with these options would refuse them."""
        self._options(guidance, None)
        picture_seeds(seed, samples)
        self.picture_noise(1, seed, truncation)

    def _options(self, guidance: float | None, scales: int | None) -> dict[str, Any]:
        """Those of `draw_scales`; UserError where the model has no such option, or it is out of range."""
        if guidance is not None and not isinstance(self.generator, LatentFlow):
            raise UserError(f"guidance = {guidance:g}: this model draws by {self.method}, which has none.")
        if guidance is not None and not 0 <= guidance < np.inf:
            raise UserError(f"guidance = {guidance:g} is out of range: choose a number from 0 on; 1 is none.")
        if scales is not None and not 1 <= scales <= len(self.scales):
            raise UserError(f"scales = {scales}: this model has {len(self.scales)}; choose a number from 1 to that.")
        return {"guidance": guidance, "scales": scales}


def on_the_arc(
    first: Float[Tensor, " embedding"], last: Float[Tensor, " embedding"], weight: float
) -> Float[Tensor, " embedding"]:
    """The unit vector that divides the arc between two (Shoemake 1985); opposite ones have none, and get the chord."""
    angle = torch.atan2((first - last).norm(), (first + last).norm()) * 2
    if float(torch.sin(angle)) < 1e-6:
        return torch.lerp(first, last, weight)
    return (torch.sin((1 - weight) * angle) * first + torch.sin(weight * angle) * last) / torch.sin(angle)


def to_pixels(images: Float[Tensor, "batch 3 height width"]) -> UInt8[np.ndarray, "batch height width 3"]:
    """Images in [-1, 1] as bytes, rounded to the nearest."""
    scaled = images.float().add(1.0).mul(127.5).round().clamp(0, 255)
    return np.ascontiguousarray(scaled.to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy())
