"""The images that a model draws for utterances, and what is computed of them once for every score."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor

from s2igan.data.dataset import crop_and_flip, encoder_input
from s2igan.data.store import Store
from s2igan.evaluation.evaluation_split import EvaluationSplit
from s2igan.evaluation.extractors import Extraction, Pictures, Seen, centre_crops
from s2igan.models.latent_flow import LatentFlow
from s2igan.parallel import track
from s2igan.pictures import write_picture
from s2igan.pipeline import IMAGES_AT_ONCE, SpeechCondition, SpeechToImage, to_pixels

HEARD_AT_ONCE = 64
"""Utterances in one pass of the speech encoder: the images of so many are in memory at a time."""
GENERATED, REAL = "generated", "real"
"""Folders of kept images."""


def draw_samples(
    model: SpeechToImage, condition: SpeechCondition, noise: Float[Tensor, "rows samples numbers"]
) -> UInt8[np.ndarray, "rows samples side side 3"]:
    """Images, at the highest resolution, of every row of a condition, each with noise of its own."""
    samples = noise.shape[1]
    pictures = model.draw(condition.repeat(samples), noise.flatten(0, 1))
    return pictures.reshape(len(noise), samples, *pictures.shape[1:])


def drawn_in_batches(
    model: SpeechToImage,
    store: Store,
    utterances: Int[np.ndarray, " utterances"],
    noise: Callable[[Int[np.ndarray, " rows"]], Float[Tensor, "rows samples numbers"]],
) -> Iterator[tuple[Int[np.ndarray, " rows"], UInt8[np.ndarray, "rows samples side side 3"]]]:
    """Images of utterances of a store, `HEARD_AT_ONCE` utterances at a time: their positions, and the images.

    Utterances of similar length are heard together, so that little padding is computed.

    Args:
        noise: gives the noise of the utterances at some positions.
    """
    by_length = np.argsort(store.n_frames[utterances], kind="stable")
    for start in track(range(0, len(utterances), HEARD_AT_ONCE), "Generating"):
        rows = by_length[start : start + HEARD_AT_ONCE]
        condition = model.listen(*encoder_input(store, utterances[rows], model.speech_encoder.reads))
        yield rows, draw_samples(model, condition, noise(rows))


def draw_utterances(
    model: SpeechToImage,
    store: Store,
    utterances: Int[np.ndarray, " utterances"],
    noise: Float[Tensor, "utterances samples numbers"],
) -> UInt8[np.ndarray, "utterances samples side side 3"]:
    """Images of utterances of a store, in the order in which they are named."""
    side = model.resolutions[-1]
    pictures = np.empty((len(utterances), noise.shape[1], side, side, 3), dtype=np.uint8)
    for rows, drawn in drawn_in_batches(model, store, utterances, lambda rows: noise[torch.from_numpy(rows)]):
        pictures[rows] = drawn
    return pictures


def noise_of(
    model: SpeechToImage, utterances: Int[np.ndarray, " utterances"], seed: int, samples: int = 1
) -> Float[Tensor, "utterances samples numbers"]:
    """Noise that follows from the seed and the number of the utterance in its store: an utterance is drawn alike
    whatever else is drawn beside it."""
    seeds = [np.random.SeedSequence([seed, int(u)]).generate_state(1, np.uint64)[0] >> np.uint64(1) for u in utterances]
    return torch.stack([model.noise(samples, int(own)) for own in seeds])


def draw_pictures(
    model: SpeechToImage, store: Store, utterances: Int[np.ndarray, " utterances"], *, seed: int
) -> UInt8[np.ndarray, "utterances side side 3"]:
    """One image of each utterance, with noise of its own from ``seed``."""
    noise = model.noise(len(utterances), seed)[:, None]
    return draw_utterances(model, store, utterances, noise)[:, 0]


def reconstructed(model: SpeechToImage, store: Store, images: Int[np.ndarray, " images"]) -> Iterator[Pictures] | None:
    """What a latent flow's autoencoder makes of the centre crops of images of a store, in batches: no image that it
    draws from speech can be better. None of other models."""
    if not isinstance(model.generator, LatentFlow):
        return None
    autoencoder = model.generator.autoencoder

    def batches() -> Iterator[Pictures]:
        for start in track(range(0, len(images), IMAGES_AT_ONCE), "Reconstructing"):
            crops = crop_and_flip(store.images[images[start : start + IMAGES_AT_ONCE]], model.resolutions[-1], None)
            with torch.inference_mode():
                yield to_pixels(autoencoder.decode(autoencoder.encode(crops.to(model.device))))

    return batches()


def reconstruct(
    model: SpeechToImage, store: Store, images: Int[np.ndarray, " images"]
) -> UInt8[np.ndarray, "images side side 3"] | None:
    """The same of a few images, together."""
    batches = reconstructed(model, store, images)
    return None if batches is None else np.concatenate(list(batches))


@dataclass(frozen=True)
class Fakes:
    """What was seen of images that were generated for captions, one for each; the images themselves are gone."""

    captions: Int[np.ndarray, " images"]
    """Numbers of the utterances in the store."""
    seen: Seen
    """Rows of every extractor, in the order of the captions."""
    side: int
    """Of the images, in pixels."""
    seed: int
    """Of the noise."""

    def of(self, captions: Int[np.ndarray, " some"]) -> Fakes:
        """Those of some of the captions, in their order."""
        order = np.argsort(self.captions)
        rows = order[np.searchsorted(self.captions, captions, sorter=order)]
        return Fakes(captions, {name: values[rows] for name, values in self.seen.items()}, self.side, self.seed)

    @property
    def protocol(self) -> dict[str, Any]:
        """What scores of these images have in their record."""
        return {
            "captions": len(self.captions),
            "images_per_caption": 1,
            "image_size": self.side,
            "seed": self.seed,
        }


@dataclass(frozen=True)
class Evaluation:
    """A model on a split, and what sees its images; every random choice follows from the seed."""

    model: SpeechToImage
    split: EvaluationSplit
    seed: int
    extraction: Extraction = field(default_factory=lambda: Extraction(()))
    images: Path | None = None
    """Folder to keep images in, as PNG: generated ones under the number of their utterance, real ones under theirs."""

    @property
    def side(self) -> int:
        """Of the generated images, in pixels."""
        return self.model.resolutions[-1]

    def draw(self, captions: Int[np.ndarray, " captions"]) -> Fakes:
        """An image of each caption at the highest resolution, seen by all extractors in the batch it is drawn in."""
        model, store, order = self.model, self.split.store, []

        def batches() -> Iterator[Pictures]:
            for rows, drawn in drawn_in_batches(
                model, store, captions, lambda rows: noise_of(model, captions[rows], self.seed)
            ):
                order.append(rows)
                self.keep(GENERATED, [f"{number:06d}" for number in captions[rows]], drawn[:, 0])
                yield drawn[:, 0]

        seen = self.extraction.of(batches())
        place = np.argsort(np.concatenate(order))
        return Fakes(captions, {name: values[place] for name, values in seen.items()}, self.side, self.seed)

    def real(self, names: Sequence[str] | None = None) -> Seen:
        """What the extractors of these names, or all, see of the images of the split, as training crops them."""
        return self.stored(self.split.images, names)

    def stored(self, images: Int[np.ndarray, " images"], names: Sequence[str] | None = None) -> Seen:
        """The same of other images of the store."""
        return self.extraction.of_stored(self.split.store, images, crop=self.side, names=names)

    @cached_property
    def training_images(self) -> Int[np.ndarray, " images"]:
        """Numbers in the store of the images of the training split."""
        store = self.split.store
        return np.unique(store.image_index[store.split_indices("train")])

    def keep_real(self) -> None:
        """Writes the real images of the split that the generated ones are compared with, if images are kept."""
        for start in range(0, len(self.split.images), HEARD_AT_ONCE):
            images = self.split.images[start : start + HEARD_AT_ONCE]
            if self.images is not None:
                names = [f"{number:06d}" for number in images]
                self.keep(REAL, names, centre_crops(self.split.store, images, self.side))

    def keep(self, kind: str, names: Sequence[str], pictures: Pictures) -> None:
        """Writes pictures under their names into a folder of `images`, if images are kept."""
        if self.images is not None:
            for name, picture in zip(names, pictures, strict=True):
                write_picture(self.images / kind / f"{name}.png", Image.fromarray(picture))
