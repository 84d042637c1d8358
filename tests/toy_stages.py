"""Both stages of several recipes at toy width, with an image encoder of random weights, on any device."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from s2igan.data.dataset import SpeechImageData
from s2igan.data.store import Store
from s2igan.models.blocks import seeded
from s2igan.models.encoders import build_encoder
from s2igan.models.image_encoder import ImageEncoder
from s2igan.recipes import resolve
from s2igan.training.precision import autocast
from s2igan.training.stages import RDGStage, SENStage
from tiny_corpus import shrunk, with_rdg

STEPS = 4
RECIPES = {
    "cub": lambda: shrunk(resolve("cub"), STEPS),
    "birds-rdg": lambda: shrunk(resolve("birds-rdg"), STEPS),
    "end-to-end": lambda: with_rdg(shrunk(resolve("end-to-end", "cub"), STEPS), accumulate=2),
    "li2020": lambda: shrunk(resolve("li2020", "cub"), STEPS),
    "text": lambda: shrunk(resolve("stackgan-v2-text", "cub"), STEPS),
}


def toy_stage(name: str, stage: str, store: Store, folder: Path, device: torch.device, **options: Any) -> Any:
    """A stage of a recipe with `options` for its trainer; scored where the store has a validation split."""
    recipe = RECIPES[name]()
    data = SpeechImageData(store, "train", 32)
    held_out = SpeechImageData(store, "validation", 32) if len(store.split_indices("validation")) else None
    with seeded(0):
        image = ImageEncoder(recipe.sen.image, pretrained=False).to(device).eval()
        speech = build_encoder(recipe.sen.speech).to(device).eval()
    given: dict[str, Any] = {"seed": 0, "device": device, "console": Console(quiet=True), "cache": folder}
    if stage == "sen":
        return SENStage(replaced(recipe.sen, options), data, held_out, image=image, **given)
    config = replaced(recipe.rdg, options)
    return RDGStage(config, recipe.beyond, data, held_out, speech=speech, image=image, samples=folder, **given)


def replaced(config: Any, options: dict[str, Any]) -> Any:
    """The settings of a stage with others for its trainer."""
    return replace(config, trainer=replace(config.trainer, **options))


def take_steps(stage: Any, steps: Iterable[int], precision: Any = "float32") -> list[dict[str, Tensor]]:
    """The losses of several steps, taken as a trainer does."""
    found = []
    for step in steps:
        with seeded(step, stage.device), autocast(precision, stage.device):
            found.append(stage.update(step)(stage.state, stage.batch(stage.reader.read(step)), stage.config))
    return found
