"""Speech and image encoder that no generator saw: what says whether speech and generated images belong together.

They are stage 1 of the paper at small width, with another frozen network (EfficientNet-Lite2) and another seed than
those of a model, trained on the training split of the same set, and kept in the user's cache folder.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any

import torch

from s2igan.checkpoint import MODEL_FILES, file_digest
from s2igan.data.store import Store
from s2igan.evaluation.extractors import Embedding
from s2igan.files import cache_folder
from s2igan.models.encoders import Encoder
from s2igan.models.generator import GeneratorConfig
from s2igan.run_directory import SEN_FOLDER
from s2igan.training.rdg import RDGConfig
from s2igan.training.recipe import Recipe
from s2igan.training.sen import SENConfig
from s2igan.training.small_sen import small_sen
from s2igan.training.stage_results import load_sen
from s2igan.training.train import train_run
from s2igan.training.trainer import TrainerConfig

NAME = "consistency"
"""Of their extractor."""
SEED = 0x1DE9
"""Of their training: no run's own seed is likely to be it."""
SIDE = 128
"""Pixels at which they see images."""


def settings(image_size: int) -> SENConfig:
    """Their training on a store of pictures of a size."""
    return small_sen(image_size, "efficientnet_lite2", input_size=SIDE)


@dataclass(frozen=True)
class IndependentEncoders:
    """The pair, ready for use."""

    speech: Encoder
    images: Embedding
    """The image encoder, as an extractor named `NAME`."""

    @classmethod
    def load_or_train(cls, store: Store, device: torch.device, config: SENConfig | None = None) -> IndependentEncoders:
        """Those of a store from the user's cache folder, or new ones, kept there for the next time.

        A training that was interrupted goes on.

        Args:
            config: their training; `settings` unless given.

        Raises:
            UserError: the store has nothing to train on, or another process trains them at the moment.
        """
        sen = config or settings(store.image_size)
        facts: dict[str, Any] = {"sen": dataclasses.asdict(sen), "store": store.fingerprint, "seed": SEED}
        key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
        run = cache_folder(None) / "independent_encoders" / key
        if not (run / SEN_FOLDER).is_dir():
            never_trained = RDGConfig(TrainerConfig(), generator=GeneratorConfig(embedding=sen.speech.embedding))
            recipe = Recipe("independent encoders", sen, never_trained)
            train_run(recipe, data=store.directory, out=run, stage="1", resume=True, seed=SEED, device=str(device))
        speech, image = load_sen(run, device)
        record = {
            "extractor": f"stage 1 with {sen.image.backbone} at {sen.image.input_size} px, which no generator saw",
            "sha256": file_digest(run / SEN_FOLDER / MODEL_FILES[1]),
            "seed_of_training": SEED,
        }
        return cls(speech, Embedding(NAME, image, record))
