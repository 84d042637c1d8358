"""Stage 1 as the loop runs it: its batches, its frozen encoder and its scores while training."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from rich.console import Console
from torch import Tensor

from s2igan.data.dataset import SpeechImageData, encoder_input
from s2igan.metrics.retrieval import cosine_similarity, mean_average_precision, same_label
from s2igan.models.blocks import seeded
from s2igan.models.image_encoder import ImageEncoder
from s2igan.training.augment import augment_speech
from s2igan.training.batch_norm import synchronise
from s2igan.training.distributed import rank, share
from s2igan.training.frozen import ImageFeatures, speech_embeddings
from s2igan.training.precision import compile_networks
from s2igan.training.sen import SENBatch, SENConfig, SENState, fit_principal_components, make_state, step
from s2igan.training.trainer import cosine_or_step, set_learning_rate, streams

ENCODED_AT_ONCE = 128
"""Images in one pass of the frozen backbone; the paper's batch, and a bound on the memory that evaluation takes."""


@dataclass
class SENRead:
    """What the store has for a `SENBatch`, in the computer's memory."""

    mel: Float[Tensor, "batch frames bands"]
    lengths: Int[Tensor, " batch"]
    images: list[Tensor]
    """Features where images were encoded before, else crops, so many at a time as are encoded at once."""
    class_ids: Int[Tensor, " batch"]


class SENStage:
    """Stage 1 as the loop runs it (see `training.loop.Stage`)."""

    name = "sen"

    def __init__(
        self,
        config: SENConfig,
        train: SpeechImageData,
        validation: SpeechImageData | None,
        *,
        seed: int,
        device: torch.device,
        console: Console,
        image: ImageEncoder | None = None,
    ) -> None:
        self.train, self.validation, self.seed, self.device = train, validation, seed, device
        self.images_per_step = config.batch_size
        self.steps_per_epoch = train.steps_per_epoch(config.batch_size)
        self.config = config = replace(config, loop=config.loop.in_steps(self.steps_per_epoch))
        n_classes = train.n_classes if train.has_classes else 0
        self.state = make_state(config, n_classes, seed=seed, device=device, image=image)
        self.features = (
            ImageFeatures.compute(
                train.store, self.state.image, config.image_size, config.image_views, console=console, device=device
            )
            if config.image_views
            else None
        )
        if config.objective == "distillation":
            features = self._image_features(train, np.arange(len(train)))
            fit_principal_components(self.state.image, features)
        trained = [self.state.speech, self.state.image.head]
        if config.loop.sync_batch_norm:
            for network in trained:
                synchronise(network)
        if config.loop.compile:
            compile_networks([*trained, self.state.image.backbone])
        self.best: dict[str, Any] = {}
        self._keep(-1.0, 0)

    def read(self, step: int) -> SENRead:
        """This process's share of what a step takes from the store, a function of the seed and the step alone."""
        rng, torch_rng = streams(self.seed, self.name, step)
        positions, utterances = self._pairs(step, rng)
        rows = share(len(positions))
        chosen = torch.from_numpy(self.train.classes[positions[rows]])
        mel, lengths = encoder_input(self.train.store, utterances, self.state.speech.reads)
        if self.config.augment is not None:
            distortions = self.config.augment.at(step / self.config.loop.steps)
            mel, lengths = augment_speech(mel, lengths, distortions, torch_rng)
        if self.features is not None:
            images = [self.features.draw(self.train.images[positions], rng)[rows]]
        else:
            images = list(crops_of(self.train, positions, rng, rows))
        return SENRead(mel[rows], lengths[rows], images, chosen)

    def batch(self, step: int, read: SENRead | None = None) -> SENBatch:
        """The batch of a step on the device, its images encoded."""
        read = read or self.read(step)
        features = read.images[0].to(self.device) if self.features is not None else self._encode(read.images)
        return SENBatch(read.mel.to(self.device), read.lengths, features, read.class_ids.to(self.device))

    def _pairs(self, step: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Image positions and utterances of a step's batch, of all processes; `rng` is the step's."""
        size, window = self.config.batch_size, self.config.length_window
        if window > 1:
            return self.train.pairs_of_similar_length(step, size, self.seed, window)
        positions = self.train.positions(step, size, self.seed)
        return positions, self.train.caption(positions, rng)

    def _image_features(self, data: SpeechImageData, positions: np.ndarray) -> Tensor:
        """Frozen features of images as evaluation sees them."""
        if self.features is not None:
            return self.features.draw(data.images[positions], None).to(self.device)
        return self._encode(crops_of(data, positions, None))

    @torch.no_grad()
    def _encode(self, images: Iterable[Tensor]) -> Tensor:
        return torch.cat(
            [self.state.image.features(part.to(self.device, memory_format=torch.channels_last)) for part in images]
        )

    def step(self, index: int, read: SENRead | None = None) -> dict[str, Tensor]:
        """One optimiser step at the scheduled learning rate."""
        config = self.config
        factor = cosine_or_step(
            index,
            config.loop.steps,
            config.schedule,
            decay_every=config.decay_epochs * self.steps_per_epoch,
            warmup=config.warmup_steps,
        )
        set_learning_rate(self.state.optimiser, config.learning_rate * factor)
        process = f" {rank()}" if rank() else ""
        with seeded(zlib.crc32(f"{self.seed} {index}{process}".encode())):  # dropout draws from PyTorch's own stream
            return step(self.state, self.batch(index, read), config)

    def describe_batch(self, step: int) -> str:
        """The first recordings of a step's batch."""
        return describe_items(self.batch_items(step))

    def batch_items(self, step: int) -> list[str]:
        """The recordings of a step's batch, of all processes."""
        rng, _ = streams(self.seed, self.name, step)
        return recordings(self.train, self._pairs(step, rng)[1])

    def evaluate(self, step: int, final: bool) -> dict[str, float]:
        """mAP of spoken queries against the images of the validation split; keeps the best weights (method.md 8,
        row 10)."""
        if self.validation is None:
            self._keep(float(step), step)
            return {}
        scores = embedding_scores(self.state, self.validation, self._image_features, device=self.device)
        if scores["validation_map"] >= self.best["score"]:
            self._keep(scores["validation_map"], step)
        return scores

    def _keep(self, score: float, step: int) -> None:
        copies = {
            "speech": {key: value.detach().clone() for key, value in self.state.speech.state_dict().items()},
            "image": {key: value.detach().clone() for key, value in self.state.image.head.state_dict().items()},
        }
        self.best = {"score": score, "step": step, **copies}

    def state_dict(self) -> dict[str, Any]:
        """Trained state and the best weights so far."""
        return {"state": self.state.state_dict(), "best": self.best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes back what `state_dict` gave."""
        self.state.load_state_dict(state["state"])
        self.best = state["best"]


def crops_of(
    data: SpeechImageData, positions: np.ndarray, rng: np.random.Generator | None, rows: slice = slice(None)
) -> Iterator[Tensor]:
    """Crops of those rows of the positions, so many at a time as are encoded at once; the draws are those of all."""
    wanted = np.zeros(len(positions), dtype=bool)
    wanted[rows] = True
    for start in range(0, len(positions), ENCODED_AT_ONCE):
        part = slice(start, start + ENCODED_AT_ONCE)
        images = data.crops(positions[part], rng, np.flatnonzero(wanted[part]))
        if len(images):
            yield images


def recordings(data: SpeechImageData, utterances: np.ndarray) -> list[str]:
    """The recordings of a batch, by path."""
    return [str(data.store.audio_path(int(index))) for index in utterances]


def describe_items(items: list[str], most: int = 4) -> str:
    """The first items of a batch, and how many more there are."""
    rest = len(items) - most
    return f"the batch with {', '.join(items[:most])}" + (f" and {rest} more" if rest > 0 else "")


def embedding_scores(
    state: SENState,
    data: SpeechImageData,
    image_features: Callable[[SpeechImageData, np.ndarray], Tensor],
    *,
    device: torch.device,
    most: int = 1000,
) -> dict[str, float]:
    """Class mAP of (up to `most`, evenly spaced) spoken queries of a split against all its images."""
    utterances = data.utterances[:: max(1, len(data.utterances) // most)]
    a = speech_embeddings(data.store, state.speech, utterances, device=device)
    with torch.no_grad():
        v = state.image.project(image_features(data, np.arange(len(data)))).cpu()
    position = {int(image): index for index, image in enumerate(data.images)}
    query_class = data.classes[[position[int(data.store.image_index[index])] for index in utterances]]
    similarity = cosine_similarity(a.numpy(), v.numpy())
    return {"validation_map": float(mean_average_precision(similarity, same_label(query_class, data.classes)))}
