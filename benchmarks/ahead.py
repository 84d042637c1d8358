"""What reading the next batch while a step is taken gains: steps with it and without, in turns; prints one JSON object.

    python benchmarks/ahead.py [--recipe birds] [--threads 1 2] [--steps 20] [--rounds 3]

Made-up data at the recipe's full size. Milliseconds a step by the clock, the median over all rounds, for each number of
threads that compute; with reading ahead one more thread reads, be a core spare for it or not.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import replace
from typing import Any

import torch

from s2igan.dry_run import DataFacts, made_up_stages
from s2igan.parallel import usable_cores
from s2igan.recipes import resolve
from s2igan.training import ahead
from s2igan.training.distributed import start
from s2igan.training.rdg_stage import RDGStage
from s2igan.training.sen_stage import SENStage
from s2igan.training.trainer import LoopConfig


def seconds_a_step(stage: SENStage | RDGStage, steps: int, reads_ahead: bool) -> list[float]:
    """Of so many steps after one that is not counted."""
    ahead.spare_core = lambda device: reads_ahead  # type: ignore[assignment]
    times = []
    with ahead.Ahead(stage.read, steps + 1, stage.device) as read:
        for index in range(steps + 1):
            started = time.perf_counter()
            stage.step(index, read(index))
            times.append(time.perf_counter() - started)
    return times[1:]


def compare(stage: SENStage | RDGStage, threads: int, steps: int, rounds: int) -> dict[str, float]:
    """Both, in turns."""
    torch.set_num_threads(threads)
    times: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(rounds):
        for reads_ahead, found in times.items():
            found += seconds_a_step(stage, steps, reads_ahead)
    without, with_it = (1000 * statistics.median(found) for found in times.values())
    return {
        "without_milliseconds": round(without, 1),
        "ahead_milliseconds": round(with_it, 1),
        "gain": round(without / with_it, 3),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="birds")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    base = resolve(options.recipe)
    loop = LoopConfig(steps=options.steps + 1)
    chosen = replace(base, sen=replace(base.sen, loop=loop), rdg=replace(base.rdg, loop=loop, late_steps=0))
    result: dict[str, Any] = {"recipe": options.recipe, "cores": usable_cores()}
    for stage in made_up_stages(chosen, DataFacts.of(base), start(None)):
        result[stage.name] = {
            f"{threads} threads": compare(stage, threads, options.steps, options.rounds) for threads in options.threads
        }
    print(json.dumps(result, indent=2))
