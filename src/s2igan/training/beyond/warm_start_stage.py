"""The warm start as a trainer runs it, before the RDG and on the same generator. Not in the paper."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from s2igan.data.dataset import SpeechImageData
from s2igan.models.generator import GeneratorConfig, noise
from s2igan.training.beyond import warm_start
from s2igan.training.beyond.warm_start import WarmStart, WarmStartBatch
from s2igan.training.data import pyramid, recordings
from s2igan.training.distributed import share, synchronise_batch_norms
from s2igan.training.frozen import speech_embeddings
from s2igan.training.optimisation import set_learning_rate
from s2igan.training.prefetch import streams
from s2igan.training.stages import SAMPLE_COLUMNS, SAMPLE_ROWS, RDGStage, schedule, to, write_sheet
from s2igan.training.trainer import Stage

SCORED_PICTURES = 256
"""Validation pictures whose reconstruction is scored while training."""


@dataclass
class WarmStartReader:
    """Pictures, a description of each, and the draws of a step."""

    config: WarmStart
    train: SpeechImageData
    speech_embeddings: Float[Tensor, "utterances embedding"]
    """A of every training utterance, in the order of ``train.utterances``."""
    generator: GeneratorConfig
    seed: int
    rows: slice

    def read(self, step: int) -> dict[str, Any]:
        """What `WarmStartBatch` holds, images at the highest resolution."""
        rng, torch_rng = streams(self.seed, WarmStartStage.name, step)
        positions, utterances = self._pairs(step, rng)
        places = np.searchsorted(self.train.utterances, utterances[self.rows])
        z, eps = noise(self.generator, self.config.batch_size, torch_rng)
        return {
            "real": self.train.crops(positions, rng, self.rows),
            "embedding": self.speech_embeddings[torch.from_numpy(places)],
            "noise": z[self.rows],
            "eps": eps[self.rows],
        }

    def items(self, step: int) -> list[str]:
        """The recordings of a step's batch."""
        rng, _ = streams(self.seed, WarmStartStage.name, step)
        return recordings(self.train, self._pairs(step, rng)[1])

    def _pairs(self, step: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Image positions and utterances of a step's batch, of all processes; `rng` is the step's."""
        positions = self.train.positions(step, self.config.batch_size, self.seed)
        return positions, self.train.caption(positions, rng)


class WarmStartStage(Stage):
    """Trains the generator of an RDG as a decoder; a speech encoder that the RDG trains along stays as it is.

    Args:
        pretrained: as of `PerceptualFeatures`.
    """

    name = "warm_start"

    def __init__(self, config: WarmStart, stage: RDGStage, *, pretrained: bool = True) -> None:
        super().__init__(config, stage.train, seed=stage.seed, device=stage.device)
        self.shown = stage.train if stage.validation is None else stage.validation
        self.samples, self.speech = stage.samples, stage.speech
        config = self.config
        given: dict[str, Any] = {"seed": self.seed, "device": self.device, "pretrained": pretrained}
        self.state = warm_start.make_state(config, stage.state.generator, **given)
        synchronise_batch_norms(self.state.encoder, self.device)
        embeddings = stage.reader.speech_embeddings
        if embeddings is None:
            embeddings = self._embeddings(self.train, self.train.utterances)
        sizes, rows = stage.config.generator, share(config.batch_size)
        self.reader = WarmStartReader(config, self.train, embeddings, sizes, self.seed, rows)

    def update(self, step: int) -> Callable[..., dict[str, Tensor]]:
        """A step at the scheduled learning rate, which falls to 0."""
        factor = schedule(step, self.config.trainer.steps, "cosine", warmup=self.config.warmup_steps)
        set_learning_rate(self.state.optimiser, self.config.learning_rate * factor)
        return warm_start.step

    def batch(self, read: dict[str, Any]) -> WarmStartBatch:
        """The batch on the device, its images at every scale."""
        real = pyramid(to(read["real"], self.device), self.state.generator.config.resolutions)
        return WarmStartBatch(real, *(to(read[name], self.device) for name in ("embedding", "noise", "eps")))

    @torch.no_grad()
    def evaluate(self, step: int) -> dict[str, float]:
        """L1 of validation pictures' reconstructions; writes a sheet: a row for each picture with its reconstruction
        and samples."""
        generator, encoder, data = self.state.generator.eval(), self.state.encoder.eval(), self.shown
        positions = np.unique(np.linspace(0, len(data) - 1, SCORED_PICTURES).astype(np.int64))
        rng = torch.Generator().manual_seed(self.seed)
        real = to(data.crops(positions, None), self.device)
        embeddings = self._embeddings(data, data.caption(positions, np.random.default_rng(self.seed)))
        embeddings = embeddings.to(self.device)
        parts = zip(real.split(64), embeddings.split(64), strict=True)
        rebuilt = torch.cat([generator(spoken, encoder(images)[0]).images[-1] for images, spoken in parts])
        rows = torch.linspace(0, len(positions) - 1, SAMPLE_ROWS).long()
        z, eps = noise(generator.config, SAMPLE_ROWS * SAMPLE_COLUMNS, rng)
        spoken = embeddings[rows].repeat_interleave(SAMPLE_COLUMNS, 0)
        drawn = generator(spoken, z.to(self.device), eps.to(self.device)).images[-1].unflatten(0, (SAMPLE_ROWS, -1))
        generator.train()
        encoder.train()
        sheet = torch.cat([real[rows, None], rebuilt[rows, None], drawn], dim=1).float().cpu()
        write_sheet(sheet.flatten(0, 1), self.samples / f"{self.name}-{step:08d}.png", columns=2 + SAMPLE_COLUMNS)
        return {"validation_l1": float((rebuilt.float() - real).abs().mean())}

    def _embeddings(self, data: SpeechImageData, utterances: np.ndarray) -> Tensor:
        return speech_embeddings(data.store, self.speech, utterances, device=self.device)
