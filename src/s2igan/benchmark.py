"""How fast this machine is, and how fast training is on it, as one JSON object.

Peaks are those of single operations: a product of two matrices, and a 3x3 convolution forward and backward. A
multiplication and an addition count as two operations. The steps are those of a dry run (`dry_run.measure`), in float32
and in bf16. Other programs on the machine slow them down.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch

from s2igan.devices import choose_device
from s2igan.dry_run import PATIENCE_SECONDS, DataFacts, machine, measure
from s2igan.recipes import resolve
from s2igan.run_directory import environment
from s2igan.training.precision import choose_precision, convolution_gflops, product_gflops
from s2igan.training.recipe import Recipe

RECIPES = ("cub", "birds")
"""The paper's full size, and the built-in set's."""
DTYPES: dict[Literal["float32", "bf16"], torch.dtype] = {"float32": torch.float32, "bf16": torch.bfloat16}


def benchmark(
    recipes: Sequence[str | Recipe] = RECIPES, *, device: str | None = None, patience_seconds: float = PATIENCE_SECONDS
) -> dict[str, Any]:
    """Measures this machine.

    Args:
        recipes: whose stages to measure, names or complete ones.
        device: where; a GPU if there is one.
        patience_seconds: as of `dry_run.measure`.

    Raises:
        UserError: a recipe or the device does not exist.
    """
    where = choose_device(device)
    chosen = [resolve(recipe) if isinstance(recipe, str) else recipe for recipe in recipes]
    return {
        "machine": environment(),
        "device": machine(where),
        "peak_gflops": {
            "product": {name: round(product_gflops(dtype, where), 1) for name, dtype in DTYPES.items()},
            "convolution": {
                name: round(convolution_gflops(dtype, where, backward=True), 1) for name, dtype in DTYPES.items()
            },
        },
        "auto_precision": choose_precision("auto", where),
        "recipes": {
            recipe.name: {
                name: measure(recipe, DataFacts.of(recipe), where, name, patience_seconds=patience_seconds)
                for name in DTYPES
            }
            for recipe in chosen
        },
    }
