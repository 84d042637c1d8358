"""What the stages of one run share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from rich.console import Console

from s2igan.data.dataset import SpeechImageData
from s2igan.data.store import Store
from s2igan.run_directory import RunDirectory
from s2igan.training.initial import InitialWeights
from s2igan.training.recipe import Recipe
from s2igan.training.trainer import Stage, Trainer


@dataclass(frozen=True)
class Session:
    """One call of `train_run`: what is trained, on what, and where."""

    recipe: Recipe
    store: Store
    run: RunDirectory
    seed: int
    """Of weights, batches and noise."""
    device: torch.device
    console: Console
    cache: Path
    """Folder for what frozen networks give."""
    resume: bool
    """Whether stages go on from their newest checkpoints."""
    initial: InitialWeights | None
    """Weights that the stages begin with in place of random ones."""

    @property
    def began_from(self) -> dict[str, Any]:
        """What is recorded of the model that training began from; empty where there was none."""
        return {} if self.initial is None else {"init_from": self.initial.facts}

    @property
    def given(self) -> dict[str, Any]:
        """Arguments of a stage that encodes with frozen networks."""
        return {"seed": self.seed, "device": self.device, "console": self.console, "cache": self.cache}

    def splits(self, stage: Literal["sen", "rdg"], image_size: int) -> tuple[SpeechImageData, SpeechImageData | None]:
        """What a stage trains on, and the validation split, where there is one."""
        train = SpeechImageData(self.store, self.store.training_splits(stage), image_size)
        held_out = np.asarray(self.store.split_indices("validation"))
        return train, SpeechImageData(self.store, "validation", image_size) if len(held_out) else None

    def trainer(self, stage: Stage) -> Trainer:
        """What trains a stage in the run's directory."""
        return Trainer(stage, self.run, self.console)
