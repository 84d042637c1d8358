"""How well stage 1 ends with batches at random and with batches of utterances of similar length (`length_window`).

    python benchmarks/length_quality.py --data STORE --out DIR [--recipe birds] [--windows 1 9] [--seeds 0 1]

Trains stage 1 of the recipe for every window and seed and scores it on the test split as `s2igan evaluate` does. Prints
one JSON object: for each window the scores and seconds of every seed, and their means. Finished runs are kept in DIR,
and interrupted ones go on. What a step costs is in `length_batches.py`.
"""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

from s2igan.evaluation.evaluate import evaluate
from s2igan.recipes import resolve
from s2igan.run_directory import RunDirectory
from s2igan.training.train import train_run

SCORES = ("sen/map", "sen/recall@1/speech_to_image/class", "sen/recall@10/speech_to_image/image")


def measure(recipe: str, data: Path, run: Path, window: int, seed: int) -> dict[str, float]:
    """Trains, where that is not done, and reads the scores and the seconds of training."""
    if not (run / "evaluation/metrics.json").exists():
        base = resolve(recipe)
        chosen = replace(base, name=f"{recipe}, window {window}", sen=replace(base.sen, length_window=window))
        train_run(chosen, data=data, out=run, stage="sen", resume=True, seed=seed)
        with redirect_stdout(sys.stderr):
            evaluate(run, data, seed=seed)
    scores = {
        score["key"]: score["value"] for score in json.loads((run / "evaluation/metrics.json").read_text())["scores"]
    }
    seconds = max(record["seconds"] for record in RunDirectory.open(run).read_metrics())
    return {"seconds": seconds} | {key: round(scores[key], 4) for key in SCORES}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="prepared set")
    parser.add_argument("--out", type=Path, required=True, help="where the runs are kept")
    parser.add_argument("--recipe", default="birds")
    parser.add_argument("--windows", type=int, nargs="+", default=[1, 9])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    options = parser.parse_args()
    found: dict[str, Any] = {}
    for window in options.windows:
        runs = {
            seed: measure(options.recipe, options.data, options.out / f"window-{window}-seed-{seed}", window, seed)
            for seed in options.seeds
        }
        means = {key: round(mean(run[key] for run in runs.values()), 4) for key in next(iter(runs.values()))}
        found[str(window)] = {"seeds": runs, "mean": means}
    print(json.dumps({"recipe": options.recipe, "windows": found}))
