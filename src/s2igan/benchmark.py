"""How fast this machine is at what training needs, and how fast training is on it, as one JSON object.

Peaks are those of single operations: a product of two matrices, and a 3x3 convolution forward and backward. What stages
reach is their count of operations (a multiplication and an addition are two; products that the code avoids are not
counted) over the time of whole steps, reading and encoding included. The made-up data and the stages are those of a dry
run (`training.plan`). Times are the shortest of a few: other programs on the machine still show.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from s2igan.data.dataset import SpeechImageData, encoder_input
from s2igan.recipes import Recipe, resolve
from s2igan.run_directory import environment
from s2igan.training.distributed import start
from s2igan.training.plan import (
    MEASURED_BATCHES,
    SavedTensors,
    facts_of_recipe,
    made_up_stages,
    takes_steps,
)
from s2igan.training.precision import autocast, choose_precision, convolution_gflops, product_gflops
from s2igan.training.rdg_stage import RDGStage
from s2igan.training.sen_stage import SENStage
from s2igan.training.trainer import LoopConfig

RECIPES = ("cub", "birds")
"""The paper's full size, and the built-in set's; `demo` is `birds` for fewer steps."""
DTYPES: dict[Literal["float32", "bf16"], torch.dtype] = {"float32": torch.float32, "bf16": torch.bfloat16}
QUICK_BATCHES = {"sen": 4, "rdg": 2}
MAX_STEPS = 1_000_000
"""So many that schedules do not end while steps are measured."""


def benchmark(
    recipes: Sequence[str | Recipe] = RECIPES,
    *,
    device: str | None = None,
    compile: bool = False,
    quick: bool = False,
    repeats: int = 3,
) -> dict[str, Any]:
    """Measures this machine.

    Args:
        recipes: whose stages to measure, names or complete ones.
        device: where; a GPU if there is one.
        compile: measure the stages with torch.compile as well, which takes up to half an hour more on a CPU.
        quick: small operations, small batches, one repetition: to see that it works.
        repeats: timed steps of each stage and precision.

    Raises:
        UserError: a recipe or the device does not exist, or there is no compiler.
    """
    where = start(device)
    found = peaks(where, quick)
    measured = {}
    for recipe in recipes:
        chosen = resolve(recipe) if isinstance(recipe, str) else recipe
        measured[chosen.name] = measure_recipe(
            chosen, where, found["convolution"], compile=compile, quick=quick, repeats=1 if quick else repeats
        )
    return {
        "machine": environment(),
        "device": torch.cuda.get_device_name(where) if where.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "quick": quick,
        "peak_gflops": found,
        "auto_precision": choose_precision("auto", where),
        "recipes": measured,
        "peak_memory_bytes": peak_memory(where),
    }


def peaks(device: torch.device, quick: bool = False) -> dict[str, dict[str, float]]:
    """GFLOP/s of single operations: the best of several, by name and precision."""
    size, batch, side, repeats = (256, 2, 16, 2) if quick else (2048, 16, 64, 10)

    def convolution(dtype: torch.dtype, channels_last: bool) -> float:
        return convolution_gflops(
            dtype, device, batch=batch, side=side, backward=True, channels_last=channels_last, repeats=repeats
        )

    return {
        "product": {
            name: round(product_gflops(dtype, device, size=size, repeats=repeats), 1) for name, dtype in DTYPES.items()
        },
        "convolution": {name: round(convolution(dtype, True), 1) for name, dtype in DTYPES.items()},
        "convolution_contiguous": {name: round(convolution(dtype, False), 1) for name, dtype in DTYPES.items()},
    }


def measure_recipe(
    recipe: Recipe, device: torch.device, peak: dict[str, float], *, compile: bool, quick: bool, repeats: int
) -> dict[str, Any]:
    """Every stage of a recipe that trains, at full size, in each precision."""
    facts = facts_of_recipe(recipe)
    batches = QUICK_BATCHES if quick else {stage: max(sizes) for stage, sizes in MEASURED_BATCHES.items()}
    found: dict[str, Any] = {"data": facts.source}
    for compiled in (False, True) if compile else (False,):

        def endless(loop: LoopConfig, compiled: bool = compiled) -> LoopConfig:
            steps = MAX_STEPS if takes_steps(loop) else 0
            return replace(loop, steps=steps, epochs=None, compile=compiled)

        measured = replace(
            recipe,
            sen=replace(recipe.sen, loop=endless(recipe.sen.loop), batch_size=batches["sen"]),
            rdg=replace(recipe.rdg, loop=endless(recipe.rdg.loop), batch_size=batches["rdg"]),
        )
        with made_up_stages(measured, facts, device) as stages:
            for stage, networks in stages:
                result = found.setdefault(stage.name, {"batch": stage.config.batch_size})
                if "loader_images_per_second" not in result:
                    result["loader_images_per_second"] = round(loader_rate(stage, repeats), 1)
                    result |= count(stage, networks)
                for name in DTYPES:
                    per_image = result["gflop_per_image"]
                    speed = stage_speed(stage, device, name, per_image, peak[name], repeats)
                    hours = projected_hours(recipe, stage.name, speed["images_per_second"])
                    result[f"{name} compiled" if compiled else name] = speed | hours
    return found


def count(stage: Any, networks: list[nn.Module]) -> dict[str, float]:
    """Operations and memory of one step, in float32; it is the warm-up of those that are timed."""
    ledger, counter = SavedTensors(networks), FlopCounterMode(display=False)
    with ExitStack() as stack:
        stack.enter_context(ledger.hooks())
        stack.enter_context(counter)
        stage.step(0)
    return {
        "gflop_per_image": round(counter.get_total_flops() / stage.config.batch_size / 1e9, 6),
        "bytes_kept_for_backward_passes": ledger.peak_bytes,
    }


def stage_speed(
    stage: SENStage | RDGStage,
    device: torch.device,
    precision: Literal["float32", "bf16"],
    gflop_per_image: float,
    peak: float,
    repeats: int,
) -> dict[str, float]:
    """Steps of a stage in one precision, the fastest of several."""
    times, processor = [], []
    for index in range(1, repeats + 2):
        started, processed = time.perf_counter(), time.process_time()
        with autocast(precision, device):
            stage.step(index)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - started)
        processor.append(time.process_time() - processed)
    best = min(times[1:])
    rate = stage.config.batch_size / best
    return {
        "seconds_per_step": round(best, 4),
        "processor_seconds_per_step": round(min(processor[1:]), 4),
        "images_per_second": round(rate, 3),
        "gflops": round(rate * gflop_per_image, 3),
        "share_of_convolution_peak": round(rate * gflop_per_image / peak, 5),
    }


def loader_rate(stage: SENStage | RDGStage, repeats: int) -> float:
    """Images a second, with an utterance each, that one process reads, crops and pads; no network sees them."""
    data: SpeechImageData = stage.train
    batch = stage.config.batch_size
    reads = stage.state.speech.reads if isinstance(stage, SENStage) else stage.speech.reads
    times = []
    for index in range(max(2, repeats)):
        started = time.perf_counter()
        rng = np.random.default_rng(index)
        positions = data.positions(index, batch, 0)
        data.crops(positions, rng)
        encoder_input(data.store, data.caption(positions, rng), reads)
        times.append(time.perf_counter() - started)
    return batch / min(times)


def projected_hours(recipe: Recipe, stage: str, images_per_second: float) -> dict[str, float]:
    """How long the stage of the recipe would take at this rate; nothing where no set tells its number of images."""
    config = recipe.sen if stage == "sen" else recipe.rdg
    if config.loop.epochs is not None and recipe.training_set is None:
        return {}
    images = recipe.training_set.images if recipe.training_set is not None else 0
    steps = config.loop.in_steps(max(1, images // config.batch_size)).steps
    return {"projected_hours": round(steps * config.batch_size / images_per_second / 3600, 3)}


def peak_memory(device: torch.device) -> int:
    """Most memory that this process has held: of the GPU where it computed on one, else of the machine."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
