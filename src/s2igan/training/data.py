"""What a step of each stage takes from the store, as a function of the seed and the step alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from s2igan.data.dataset import SpeechImageData, draw_other_views, encoder_input
from s2igan.models.encoders import Reads
from s2igan.models.generator import noise
from s2igan.models.speech_encoder import WINDOW_FRAMES
from s2igan.training.augment import augment_speech
from s2igan.training.beyond import Beyond
from s2igan.training.beyond.noise_penalty import unit_noise
from s2igan.training.beyond.translation import draw_shifts
from s2igan.training.frozen import draw_views
from s2igan.training.prefetch import streams
from s2igan.training.rdg import RDGConfig
from s2igan.training.sen import SENConfig

ENCODED_AT_ONCE = 128
"""Images in one pass of the frozen backbone; the paper's batch, and a bound on the memory that evaluation takes."""


@dataclass
class SENReader:
    """Reads for stage 1.

    Attributes:
        config: settings of the stage, its length in steps.
        train: the training images and utterances.
        features: of all images, encoded before (`frozen.image_features`); None reads crops, to be encoded in the step.
        reads: what the encoder reads.
        seed: of every draw.
        rows: this process's share of a batch.
    """

    config: SENConfig
    train: SpeechImageData
    features: Float[Tensor, "images views features"] | None
    reads: Reads
    seed: int
    rows: slice

    def read(self, step: int) -> dict[str, Any]:
        """mel, lengths, class_ids, and features or crops (several tensors, for one pass of the backbone each)."""
        rng, torch_rng = streams(self.seed, "sen", step)
        positions, utterances = self._pairs(step, rng)
        mel, lengths = encoder_input(self.train.store, utterances, self.reads, (WINDOW_FRAMES, rng))
        if self.config.augment.strength:
            distortions = self.config.augment.at(step / self.config.trainer.steps)
            mel, lengths = augment_speech(mel, lengths, distortions, torch_rng)
        read: dict[str, Any] = {
            "mel": mel[self.rows],
            "lengths": lengths[self.rows],
            "class_ids": torch.from_numpy(self.train.classes[positions[self.rows]]),
        }
        if self.features is not None:
            return read | {"features": draw_views(self.features, self.train.images[positions], rng)[self.rows]}
        return read | {"crops": list(crops_of(self.train, positions, rng, self.rows))}

    def items(self, step: int) -> list[str]:
        """The recordings of a step's batch."""
        rng, _ = streams(self.seed, "sen", step)
        return recordings(self.train, self._pairs(step, rng)[1])

    def _pairs(self, step: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Image positions and utterances of a step's batch, of all processes; `rng` is the step's."""
        size, window = self.config.batch_size, self.config.length_window
        if window > 1:
            return self.train.pairs_of_similar_length(step, size, self.seed, window)
        positions = self.train.positions(step, size, self.seed)
        return positions, self.train.caption(positions, rng)


@dataclass
class RDGReader:
    """Reads for stage 2.

    Attributes:
        config: settings of the stage.
        train: the training images and utterances.
        image_embeddings: V of every image and view that was encoded before; None reads crops, to be encoded in the
            step.
        speech_embeddings: A of every training utterance, in the order of ``train.utterances``; None reads what the
            encoder reads, which trains along.
        reads: what the encoder reads.
        seed: of every draw.
        rows: this process's share of a batch.
        beyond: what goes beyond the paper.
    """

    config: RDGConfig
    train: SpeechImageData
    image_embeddings: Float[Tensor, "images views embedding"] | None
    speech_embeddings: Float[Tensor, "utterances embedding"] | None
    reads: Reads
    seed: int
    rows: slice
    beyond: Beyond = field(default_factory=Beyond)

    def read(self, step: int) -> dict[str, Any]:
        """What `RDGBatch` holds, images at the highest resolution; ``relation`` are crops or V."""
        config, rows, train = self.config, self.rows, self.train
        rng, torch_rng = streams(self.seed, "rdg", step)
        positions = train.positions(step, config.batch_size, self.seed)
        utterances = train.caption(positions, rng)
        other = train.mismatched(positions, rng)
        read: dict[str, Any] = {"real": train.crops(positions, rng, rows)}
        if config.mismatched:
            read["mismatched"] = train.crops(other, rng, rows)
        z, eps = noise(config.generator, config.batch_size, torch_rng)
        if self.speech_embeddings is not None:
            read["embedding"] = self.embedding_of(utterances[rows])
        else:
            mel, lengths = encoder_input(train.store, utterances, self.reads, (WINDOW_FRAMES, rng))
            read["mel"], read["lengths"] = mel[rows], lengths[rows]
        relation = {}
        if config.relation:
            relation = self._relation_images(positions, train.similar(positions, rng), other, rng)
        if self.beyond.translation.share:
            read["shifts"] = draw_shifts(self.beyond.translation, config.batch_size, torch_rng)[rows]
        if self.beyond.noise_penalty.due(step):
            noisy = unit_noise(config.generator.resolutions, config.batch_size, torch_rng)
            read["noise"] = {side: drawn[rows] for side, drawn in noisy.items()}
        return read | {
            "z": z[rows],
            "eps": eps[rows],
            "relation": relation,
        }

    def items(self, step: int) -> list[str]:
        """The recordings of a step's batch."""
        rng, _ = streams(self.seed, "rdg", step)
        positions = self.train.positions(step, self.config.batch_size, self.seed)
        return recordings(self.train, self.train.caption(positions, rng))

    def embedding_of(self, utterances: Int[np.ndarray, " n"]) -> Float[Tensor, "n embedding"]:
        """A of training utterances, which are numbered as in the store."""
        assert self.speech_embeddings is not None
        return self.speech_embeddings[torch.from_numpy(np.searchsorted(self.train.utterances, utterances))]

    def _relation_images(
        self, real: np.ndarray, similar: np.ndarray, negative: np.ndarray, rng: np.random.Generator
    ) -> dict[str, Tensor]:
        """Real images for the relation supervisor: V of views that were encoded before, or fresh crops to encode; the
        draws are those of all processes."""
        if self.image_embeddings is None:
            named = {"real": real, "similar": similar, "negative": negative}
            return {name: self.train.crops(positions, rng, self.rows) for name, positions in named.items()}
        n = self.image_embeddings.shape[1]
        views = rng.integers(0, n, len(real))
        other_views = draw_other_views(views, real == similar, n, rng)
        chosen = {"real": (real, views), "similar": (similar, other_views)}
        chosen["negative"] = negative, rng.integers(0, n, len(real))
        return {
            name: self.image_embeddings[torch.from_numpy(self.train.images[positions]), torch.from_numpy(drawn)][
                self.rows
            ]
            for name, (positions, drawn) in chosen.items()
        }


def crops_of(
    data: SpeechImageData, positions: np.ndarray, rng: np.random.Generator | None, rows: slice = slice(None)
) -> Iterator[Tensor]:
    """Crops of those rows of the positions, `ENCODED_AT_ONCE` positions at a time; the draws are those of all."""
    wanted = np.zeros(len(positions), dtype=bool)
    wanted[rows] = True
    for start in range(0, len(positions), ENCODED_AT_ONCE):
        part = slice(start, start + ENCODED_AT_ONCE)
        images = data.crops(positions[part], rng, np.flatnonzero(wanted[part]))
        if len(images):
            yield images


def recordings(data: SpeechImageData, utterances: Int[np.ndarray, " batch"]) -> list[str]:
    """The recordings of a batch, by path."""
    return [str(data.store.audio_path(int(index))) for index in utterances]


def pyramid(images: Float[Tensor, "batch 3 side side"], resolutions: tuple[int, ...]) -> dict[int, Tensor]:
    """Images at every scale, the lowest first, from those of the highest, by averaging 2x2 pixels."""
    scales = {resolutions[-1]: images}
    for resolution in reversed(resolutions[:-1]):
        images = functional.avg_pool2d(images, 2)
        scales[resolution] = images
    return {resolution: scales[resolution] for resolution in resolutions}
