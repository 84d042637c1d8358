"""Stage 2 as the loop runs it: its batches, its frozen encoders and what it shows while training."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from rich.console import Console
from torch import Tensor
from torch.nn import functional

from s2igan.data.dataset import SpeechImageData, encoder_input
from s2igan.errors import UserError
from s2igan.losses import Negatives
from s2igan.models.encoders import Encoder
from s2igan.models.generator import Generator
from s2igan.models.image_encoder import ImageEncoder
from s2igan.training.batch_norm import synchronise
from s2igan.training.distributed import share
from s2igan.training.frozen import ImageFeatures, speech_embeddings
from s2igan.training.precision import compile_networks
from s2igan.training.rdg import step
from s2igan.training.rdg_config import RDGConfig
from s2igan.training.rdg_options import LARGEST_SHIFT, practise
from s2igan.training.rdg_state import RDGBatch, averaged_generator, make_state, memory_format, noise, pyramid
from s2igan.training.sen_stage import describe_items, recordings
from s2igan.training.trainer import cosine_or_step, set_learning_rate, streams

SAMPLE_ROWS = 8
"""Descriptions in the sample grid written while training."""
SAMPLE_COLUMNS = 4
"""Samples of each."""


@dataclass
class RDGRead:
    """What the store has for an `RDGBatch`, in the computer's memory; its fields are that one's unless named here."""

    real: Float[Tensor, "batch 3 _ _"]
    """At the highest resolution."""
    mismatched: Float[Tensor, "batch 3 _ _"] | None
    embedding: Float[Tensor, "batch embedding"] | tuple[Tensor, Tensor]
    z: Float[Tensor, "batch z"]
    eps: Float[Tensor, "batch condition"]
    class_ids: Int[Tensor, " batch"]
    relation: dict[str, Tensor]
    """V of images where they were encoded before, else their crops."""
    shift: Float[Tensor, " batch"] | None
    negatives: Negatives | None


class RDGStage:
    """Stage 2 on a corpus (see `training.loop.Stage`)."""

    name = "rdg"

    def __init__(
        self,
        config: RDGConfig,
        train: SpeechImageData,
        validation: SpeechImageData | None,
        *,
        speech: Encoder,
        image: ImageEncoder,
        samples: Path,
        seed: int,
        device: torch.device,
        console: Console,
    ) -> None:
        self.train, self.validation, self.seed, self.device = train, validation, seed, device
        self.image, self.speech, self.samples = image.requires_grad_(False), speech, samples
        self.images_per_step = config.batch_size
        self.steps_per_epoch = train.steps_per_epoch(config.batch_size)
        self.config = config = replace(config, loop=config.loop.in_steps(self.steps_per_epoch))
        if config.negatives and config.speech != "frozen":
            raise UserError(
                f"negatives {config.negatives} needs a speech encoder that stays as it is, and this recipe's is "
                f"{config.speech}; set negatives to 0."
            )
        check_scale_steps(config)
        self.state = make_state(
            config,
            image_embedding=image.config.embedding,
            encode=self._encode,
            speech=speech,
            seed=seed,
            device=device,
        )
        state = self.state
        for network in (state.generator, *state.discriminators.values(), state.relation, state.speech):
            if network is not None and config.loop.sync_batch_norm:
                synchronise(network)
        if config.loop.compile:  # discriminators are called by their parts
            trunks = [network.trunk for network in state.discriminators.values()]
            compile_networks([state.generator, *trunks], one_size=True)
        self.features: Tensor | None = None
        self.views = 1
        if config.image_views:
            cached = ImageFeatures.compute(
                train.store, image, train.image_size, config.image_views, console=console, device=device
            )
            with torch.no_grad():
                flat = cached.features.flatten(0, 1).float()
                projected = torch.cat([image.project(part.to(device)).cpu() for part in flat.split(4096)])
            self.features = projected.view(*cached.features.shape[:2], -1)
            self.views = config.image_views
        self.embeddings: Tensor | None = None
        if config.speech == "frozen":
            self.embeddings = speech_embeddings(train.store, speech, train.utterances, device=device, console=console)
            self._row = np.full(int(train.utterances.max()) + 1, -1, dtype=np.int64)
            self._row[train.utterances] = np.arange(len(train.utterances))

    def _encode(self, images: Tensor) -> Tensor:
        return self.image(images)

    def _relation_images(self, positions: np.ndarray, rng: np.random.Generator, rows: slice) -> Tensor:
        """Real images of those rows for the relation supervisor: V of a cached view, or a fresh crop to encode; the
        draws are those of all."""
        if self.features is None:
            return self.train.crops(positions, rng, rows)
        views = torch.from_numpy(rng.integers(0, self.views, len(positions)))
        return self.features[torch.from_numpy(self.train.images[positions]), views][rows]

    def read(self, index: int) -> RDGRead:
        """This process's share of what a step takes from the store, a function of the seed and the step alone."""
        config = self.config
        rng, torch_rng = streams(self.seed, self.name, index)
        positions = self.train.positions(index, config.batch_size, self.seed)
        rows = share(len(positions))
        utterances = self.train.caption(positions, rng)
        other = self.train.mismatched(positions, rng)
        real = self.train.crops(positions, rng, rows)
        mismatched = self.train.crops(other, rng, rows) if config.mismatched else None
        z, eps = noise(config.generator, config.batch_size, torch_rng)
        if self.embeddings is not None:
            embedding: Any = self.embeddings[torch.from_numpy(self._row[utterances[rows]])]
        else:
            heard, lengths = encoder_input(self.train.store, utterances, self.speech.reads)
            embedding = heard[rows], lengths[rows]
        relation = {}
        if config.relation:
            relation = {
                "real": self._relation_images(positions, rng, rows),
                "similar": self._relation_images(self.train.similar(positions, rng), rng, rows),
                "negative": self._relation_images(other, rng, rows),
            }
        shift = LARGEST_SHIFT * torch.rand(config.batch_size, generator=torch_rng) if config.arithmetic else None
        negatives = None
        if config.negatives and index >= config.practice_steps:
            assert self.embeddings is not None
            drawn = rng.integers(len(self.train), size=config.negatives)
            spoken = self._row[self.train.caption(drawn, rng)]
            negatives = Negatives(
                self.embeddings[torch.from_numpy(spoken)], torch.from_numpy(self.train.classes[drawn])
            )
        return RDGRead(
            real=real,
            mismatched=mismatched,
            embedding=embedding,
            z=z[rows],
            eps=eps[rows],
            class_ids=torch.from_numpy(self.train.classes[positions[rows]]),
            relation=relation,
            shift=shift[rows] if shift is not None else None,
            negatives=negatives,
        )

    def batch(self, index: int, read: RDGRead | None = None) -> RDGBatch:
        """The batch of a step on the device, its images encoded."""
        read, device = read or self.read(index), self.device
        embedding: Any = read.embedding
        embedding = embedding.to(device) if self.embeddings is not None else (embedding[0].to(device), embedding[1])
        with torch.no_grad():
            relation = {
                name: images.to(device)
                if self.features is not None
                else self._encode(images.to(device, memory_format=torch.channels_last))
                for name, images in read.relation.items()
            }
        return RDGBatch(
            real=self._scales(read.real, index),
            mismatched=self._scales(read.mismatched, index) if read.mismatched is not None else {},
            embedding=embedding,
            z=read.z.to(device),
            eps=read.eps.to(device),
            class_ids=read.class_ids.to(device),
            relation_features=relation,
            shift=read.shift.to(device) if read.shift is not None else None,
            negatives=Negatives(*(part.to(device) for part in read.negatives)) if read.negatives is not None else None,
            identical=self.train.has_classes,
        )

    def _scales(self, images: Tensor, index: int) -> dict[int, Tensor]:
        """Images at the scales that train in a step, on the device."""
        images = images.to(self.device).contiguous(memory_format=memory_format(self.config))
        scales = pyramid(images, self.config.generator.resolutions)
        return {resolution: scales[resolution] for resolution in self.config.scales(index)}

    def step(self, index: int, read: RDGRead | None = None) -> dict[str, Tensor]:
        """One step at the scheduled learning rates."""
        config = self.config.at(index)
        if index < config.practice_steps:
            set_learning_rate(self.state.generator_optimiser, config.practice_learning_rate)
            return practise(self.state, self.batch(index, read), config)
        factor = cosine_or_step(index, config.loop.steps, config.schedule)
        set_learning_rate(self.state.generator_optimiser, config.learning_rate * factor)
        for optimiser in self.state.discriminator_optimisers.values():
            set_learning_rate(optimiser, config.discriminator_learning_rate * factor)
        return step(self.state, self.batch(index, read), config)

    def describe_batch(self, step: int) -> str:
        """The first recordings of a step's batch."""
        return describe_items(self.batch_items(step))

    def batch_items(self, step: int) -> list[str]:
        """The recordings of a step's batch, of all processes."""
        rng, _ = streams(self.seed, self.name, step)
        return recordings(
            self.train, self.train.caption(self.train.positions(step, self.config.batch_size, self.seed), rng)
        )

    def averaged(self) -> Generator:
        """The generator for use and evaluation."""
        embeddings = self.embeddings
        if embeddings is None:
            utterances = self.train.utterances[:: max(1, len(self.train.utterances) // 1024)]
            embeddings = speech_embeddings(self.train.store, self.speech, utterances, device=self.device)
        images = None
        if self.state.posterior is not None:
            rng = np.random.default_rng([self.seed, 0x517])
            chosen = rng.permutation(len(self.train))[: self.config.noise_components]
            images = self.train.crops(chosen, rng)
        return averaged_generator(self.state, self.config, embeddings, images, seed=self.seed)

    def evaluate(self, index: int, final: bool) -> dict[str, float]:
        """Writes a grid of samples for validation descriptions; how well their images fit, by the frozen encoders."""
        data = self.validation if self.validation is not None else self.train
        generator = self.averaged()
        chosen = data.utterances[:: max(1, len(data.utterances) // 256)][:256]
        embeddings = speech_embeddings(data.store, self.speech, chosen, device=self.device)
        rng = torch.Generator().manual_seed(self.seed)
        with torch.no_grad():
            images, fitting = [], []
            for part in embeddings.split(64):
                z, eps = noise(self.config.generator, len(part), rng)
                drawn = self._draw(generator, part, z, eps, index)
                images.append(drawn)
                fitting.append((self._encode(drawn).cpu() * part).sum(dim=1))
            rows = torch.linspace(0, len(chosen) - 1, SAMPLE_ROWS).long()
            columns = embeddings[rows].repeat_interleave(SAMPLE_COLUMNS, 0)
            z, eps = noise(self.config.generator, len(columns), rng)
            grid = self._draw(generator, columns, z, eps, index).cpu()
        fake = torch.cat(images)
        real_positions = np.searchsorted(data.images, np.asarray(data.store.image_index)[chosen[rows.numpy()]])
        self._write_grid(index, data.crops(real_positions, None), grid)
        return {
            "validation_cosine": float(torch.cat(fitting).mean()),
            "diversity": float(fake.std(dim=0).mean()),
        }

    def _draw(self, generator: Generator, embedding: Tensor, z: Tensor, eps: Tensor, index: int) -> Tensor:
        """The largest images that have trained after so many steps, at the side of the largest of all."""
        scales = len(self.config.scales(max(0, index - 1)))
        given = (tensor.to(self.device) for tensor in (embedding, z, eps))
        images = generator(*given, scales).images[-1]
        return functional.interpolate(images, size=self.config.generator.resolutions[-1], mode="nearest")

    def _write_grid(self, index: int, real: Tensor, fakes: Tensor) -> None:
        """A row for each description: the real image, then the samples."""
        size = fakes.shape[-1]
        rows = fakes.view(SAMPLE_ROWS, SAMPLE_COLUMNS, 3, size, size)
        grid = torch.cat([real.view(SAMPLE_ROWS, 1, 3, size, size), rows], dim=1)
        picture = grid.permute(0, 3, 1, 4, 2).reshape(SAMPLE_ROWS * size, (1 + SAMPLE_COLUMNS) * size, 3)
        self.samples.mkdir(parents=True, exist_ok=True)
        Image.fromarray(to_uint8(picture).numpy()).save(self.samples / f"rdg-{index:08d}.png")

    def state_dict(self) -> dict[str, Any]:
        """Trained state."""
        return self.state.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes back what `state_dict` gave."""
        self.state.load_state_dict(state)


def check_scale_steps(config: RDGConfig) -> None:
    """Raises UserError where `scale_steps` does not let every scale join before the end."""
    joins, steps = config.scale_steps, config.loop.steps
    rises = list(joins) == sorted(joins) and all(0 <= join < steps for join in joins)
    if joins and not (rises and len(joins) == len(config.generator.resolutions) - 1):
        raise UserError(
            f"scale_steps {joins} do not fit {steps} steps and the resolutions {config.generator.resolutions}: give "
            "one rising number below the steps for each scale after the lowest."
        )


def to_uint8(images: Tensor) -> Tensor:
    """[-1, 1] -> 0 ... 255."""
    return images.add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)
