"""Steps of stage 2 by one process and by two of one thread each: the same global batch, on the same machine.

    .venv/bin/python benchmarks/processes.py --rounds 3

Starts itself by torchrun with one process and with two, in turns, and prints one JSON object: for each round seconds a
step (median over the steps), processor seconds a step of the first process, and the ratios. On a machine that others
use as well, the ratio of processor seconds says what two free cores would give.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from typing import Any

import torch

from s2igan.recipes import resolve
from s2igan.training.engine import autocast, rank, start, world_size
from s2igan.training.plan import DataFacts, made_up_stages


def measure(size: str, batch: int, steps: int, sync: bool, precision: Any) -> dict[str, Any]:
    """Times of the step in this process."""
    torch.set_num_threads(1)
    device = start("cpu")
    recipe = resolve(size)
    loop = replace(recipe.rdg.loop, steps=steps, epochs=None, sync_batch_norm=sync)
    sen = replace(recipe.sen, loop=replace(recipe.sen.loop, steps=0, epochs=None))
    recipe = replace(recipe, sen=sen, rdg=replace(recipe.rdg, loop=loop, batch_size=batch))
    wall, processor = [], []
    with made_up_stages(recipe, DataFacts(None, 4, 300, ""), device) as stages:
        (stage, _) = next(stages)
        for index in range(steps):
            started, processed = time.perf_counter(), time.process_time()
            with autocast(precision, device):
                stage.step(index)
            wall.append(time.perf_counter() - started)
            processor.append(time.process_time() - processed)
    return {
        "processes": world_size(),
        "seconds": round(statistics.median(wall[1:]), 4),
        "least_seconds": round(min(wall[1:]), 4),
        "processor_seconds": round(statistics.median(processor[1:]), 4),
    }


def by_torchrun(processes: int, arguments: list[str]) -> dict[str, Any]:
    """`measure` in so many processes; the first one's answer."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    done = subprocess.run(
        [*command, __file__, "--measure", *arguments],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.strip().splitlines()[-1])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="birds", help="recipe")
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-sync", action="store_true", help="each process's own batch-norm statistics")
    parser.add_argument("--precision", choices=["float32", "bf16"], default="float32")
    parser.add_argument("--measure", action="store_true", help="internal: what torchrun starts")
    options = parser.parse_args()
    if options.measure:
        facts = measure(options.size, options.batch, options.steps, not options.no_sync, options.precision)
        if rank() == 0:
            print(json.dumps(facts))
        sys.exit()
    passed = [argument for argument in sys.argv[1:] if argument != "--measure"]
    rounds = []
    for _ in range(options.rounds):
        one, two = by_torchrun(1, passed), by_torchrun(2, passed)
        ratios = {f"{key}_ratio": round(one[key] / two[key], 2) for key in one if key != "processes"}
        rounds.append({"one": one, "two": two, **ratios})
    print(json.dumps({"size": options.size, "batch": options.batch, "sync": not options.no_sync, "rounds": rounds}))
