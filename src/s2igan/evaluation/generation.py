"""The images that a model draws for utterances, and what is computed of them once for every score."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from s2igan.data.dataset import crop_and_flip, encoder_input
from s2igan.data.store import Store
from s2igan.evaluation.evaluation_split import EvaluationSplit
from s2igan.evaluation.features import image_features, stored_features
from s2igan.models.image_encoder import ImageEncoder, ImageEncoderConfig
from s2igan.models.latent_flow import LatentFlow
from s2igan.parallel import track
from s2igan.pipeline import IMAGES_AT_ONCE, SpeechCondition, SpeechToImage, to_pixels

METRIC_SIDE = 128
"""Side in pixels at which the offline encoder sees images here, whatever side a recipe chose for training: so the
scores of different recipes are on the same features."""
EXTRACTOR = f"EfficientNet-Lite0 (ImageNet), mean of the last map, 1280-d, at {METRIC_SIDE} px"
HEARD_AT_ONCE = 64
"""Utterances in one pass of the speech encoder."""


def draw_samples(
    model: SpeechToImage, condition: SpeechCondition, noise: Float[Tensor, "rows samples numbers"]
) -> UInt8[np.ndarray, "rows samples side side 3"]:
    """Images, at the highest resolution, of every row of a condition, each with noise of its own."""
    samples = noise.shape[1]
    pictures = model.draw(condition.repeat(samples), noise.flatten(0, 1))
    return pictures.reshape(len(noise), samples, *pictures.shape[1:])


def draw_utterances(
    model: SpeechToImage,
    store: Store,
    utterances: Int[np.ndarray, " utterances"],
    noise: Float[Tensor, "utterances samples numbers"],
) -> UInt8[np.ndarray, "utterances samples side side 3"]:
    """The same of utterances of a store, in the order in which they are named.

    Utterances of similar length are heard together, so that little padding is computed.
    """
    side = model.resolutions[-1]
    pictures = np.empty((len(utterances), noise.shape[1], side, side, 3), dtype=np.uint8)
    by_length = np.argsort(store.n_frames[utterances], kind="stable")
    for start in track(range(0, len(utterances), HEARD_AT_ONCE), "Generating"):
        rows = by_length[start : start + HEARD_AT_ONCE]
        condition = model.listen(*encoder_input(store, utterances[rows], model.speech_encoder.reads))
        pictures[rows] = draw_samples(model, condition, noise[torch.from_numpy(rows)])
    return pictures


def draw_pictures(
    model: SpeechToImage, store: Store, utterances: Int[np.ndarray, " utterances"], *, seed: int
) -> UInt8[np.ndarray, "utterances side side 3"]:
    """One image of each utterance, with noise of its own from ``seed``."""
    noise = model.noise(len(utterances), seed)[:, None]
    return draw_utterances(model, store, utterances, noise)[:, 0]


def reconstruct(
    model: SpeechToImage, store: Store, images: Int[np.ndarray, " images"]
) -> UInt8[np.ndarray, "images side side 3"] | None:
    """What a latent flow's autoencoder makes of the centre crops of images of a store: no image that it draws from
    speech can be better. None of other models."""
    if not isinstance(model.generator, LatentFlow):
        return None
    autoencoder, side = model.generator.autoencoder, model.resolutions[-1]
    parts = []
    with torch.inference_mode():
        for start in track(range(0, len(images), IMAGES_AT_ONCE), "Reconstructing"):
            crops = crop_and_flip(store.images[images[start : start + IMAGES_AT_ONCE]], side, None)
            parts.append(to_pixels(autoencoder.decode(autoencoder.encode(crops.to(model.device)))))
    return np.concatenate(parts)


@dataclass(frozen=True)
class Fakes:
    """Images generated for captions, one for each."""

    captions: Int[np.ndarray, " images"]
    """Numbers of the utterances in the store."""
    pictures: UInt8[np.ndarray, "images side side 3"]
    seed: int
    """Of the noise."""

    @property
    def side(self) -> int:
        """Pixels."""
        return int(self.pictures.shape[1])

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
    """A model on a split; every random choice follows from the seed."""

    model: SpeechToImage
    split: EvaluationSplit
    seed: int

    def draw(self, captions: Int[np.ndarray, " captions"], *, noise: int = 0) -> Fakes:
        """An image of each caption at the highest resolution; other numbers ``noise``, other images."""
        model, seed = self.model, self.seed + noise
        return Fakes(captions, draw_pictures(model, self.split.store, captions, seed=seed), seed)

    @cached_property
    def encoder(self) -> ImageEncoder:
        """The offline encoder of `EXTRACTOR`."""
        config = ImageEncoderConfig(backbone="efficientnet_lite0", input_size=METRIC_SIDE)
        return ImageEncoder(config).to(self.model.device).eval()

    def real_features(self, images: Int[np.ndarray, " images"], side: int) -> Float[np.ndarray, "images features"]:
        """Features of the centre crops, of ``side`` pixels as training crops them, of images of the store."""
        description = "Features of real images"
        return stored_features(self.encoder, EXTRACTOR, self.split.store, images, crop=side, description=description)

    def fake_features(self, fakes: Fakes) -> Float[np.ndarray, "images features"]:
        """Features of generated images, in their order."""
        return image_features(self.encoder, fakes.pictures, description="Features of generated images")
