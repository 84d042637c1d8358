"""Steps of stage 2 by one process, by two of one thread each, and by one of two threads: the same global batch.

    .venv/bin/python benchmarks/processes.py --rounds 3

Starts itself by torchrun with one process and with two, in turns, and prints one JSON object: for each round seconds a
step (median over the steps), processor seconds a step of the first process, and what two processes and two threads give
of one thread; and the medians of these ratios over the rounds. On a machine that others use as well, the ratio of
processor seconds says what two free cores would give.
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

from s2igan.dry_run import DataFacts, made_up_stages
from s2igan.recipes import resolve
from s2igan.training.distributed import rank, start, world_size
from s2igan.training.precision import autocast


def measure(size: str, batch: int, steps: int, sync: bool, precision: Any, threads: int) -> dict[str, Any]:
    """Times of the step in this process."""
    torch.set_num_threads(threads)
    device = start("cpu")
    recipe = resolve(size)
    loop = replace(recipe.rdg.loop, steps=steps, epochs=None, sync_batch_norm=sync)
    sen = replace(recipe.sen, loop=replace(recipe.sen.loop, steps=0, epochs=None))
    recipe = replace(recipe, sen=sen, rdg=replace(recipe.rdg, loop=loop, batch_size=batch))
    wall, processor = [], []
    stage = next(made_up_stages(recipe, DataFacts(classes=4, frames=300), device))
    for index in range(steps):
        started, processed = time.perf_counter(), time.process_time()
        with autocast(precision, device):
            stage.step(index)
        wall.append(time.perf_counter() - started)
        processor.append(time.process_time() - processed)
    return {
        "processes": world_size(),
        "threads": threads,
        "seconds": round(statistics.median(wall[1:]), 4),
        "least_seconds": round(min(wall[1:]), 4),
        "processor_seconds": round(statistics.median(processor[1:]), 4),
    }


def by_torchrun(processes: int, threads: int, arguments: list[str]) -> dict[str, Any]:
    """`measure` in so many processes of so many threads; the first one's answer."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    done = subprocess.run(
        [*command, __file__, "--measure", "--threads", str(threads), *arguments],
        env=os.environ | {"OMP_NUM_THREADS": str(threads)},
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
    parser.add_argument("--sync", action="store_true", help="batch norms with the statistics of all processes")
    parser.add_argument("--precision", choices=["float32", "bf16"], default="float32")
    parser.add_argument("--measure", action="store_true", help="internal: what torchrun starts")
    parser.add_argument("--threads", type=int, default=1, help="internal: of each process")
    options = parser.parse_args()
    if options.measure:
        chosen = options.size, options.batch, options.steps, options.sync, options.precision, options.threads
        facts = measure(*chosen)
        if rank() == 0:
            print(json.dumps(facts))
        sys.exit()
    passed = [argument for argument in sys.argv[1:] if argument != "--measure"]
    rounds = []
    for _ in range(options.rounds):
        one, two, threaded = (by_torchrun(*kind, passed) for kind in ((1, 1), (2, 1), (1, 2)))
        ratios = {
            f"{name}_{key}_ratio": round(one[key] / other[key], 2)
            for name, other in (("processes", two), ("threads", threaded))
            for key in ("seconds", "least_seconds", "processor_seconds")
            if (name, key) != ("threads", "processor_seconds")
        }
        rounds.append({"one": one, "two_processes": two, "two_threads": threaded, **ratios})
    named = {"size": options.size, "batch": options.batch, "precision": options.precision, "sync": options.sync}
    medians = {key: round(statistics.median(one[key] for one in rounds), 2) for key in ratios}
    print(json.dumps({**named, **medians, "rounds": rounds}))
