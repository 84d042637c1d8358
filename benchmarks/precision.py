"""Whether a recipe trains as well in bf16 as in float32: both from the same seeds, then scored and compared.

    OMP_NUM_THREADS=1 python benchmarks/precision.py --data STORE --out DIR [--recipe birds-rdg] [--steps 2000]

Each precision trains both stages of the recipe for so many steps. Stage 2 stands on the stage 1 of float32 in both, so
that what is compared is it alone. Prints one JSON object: the scores of both on the development split as `s2igan
evaluate` gives them, the mean of every loss over the last steps (--last), and the relation of the two. Finished runs
are kept in DIR, and interrupted ones go on.
"""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any, Literal

from s2igan.evaluation.evaluate import evaluate
from s2igan.evaluation.options import EvaluationOptions
from s2igan.recipes import resolve
from s2igan.run_directory import RunDirectory
from s2igan.training.precision import Precision
from s2igan.training.recipe import Recipe
from s2igan.training.train import train_run

PRECISIONS: tuple[Precision, ...] = ("float32", "bf16")
SCORES = {"sen": ("sen/map", "sen/recall@1/speech_to_image/class"), "rdg": ("attributes/mean", "fakes/map_lite0")}


def recipe_in(name: str, precision: Precision, steps: int) -> Recipe:
    """A recipe with so many steps of each stage in one precision."""
    base = resolve(name)
    sen, rdg = (
        replace(stage, trainer=replace(stage.trainer, steps=steps, epochs=None, precision=precision))
        for stage in (base.sen, base.rdg)
    )
    return replace(base, name=f"{name}, {steps} steps, {precision}", sen=sen, rdg=rdg)


def measure(name: str, precision: Precision, options: argparse.Namespace) -> dict[str, Any]:
    """Trains, where that is not done, and reads scores, losses and time."""
    recipe = recipe_in(name, precision, options.steps)
    stages: dict[Literal["sen", "rdg"], Path | None] = {"sen": None, "rdg": options.out / f"{PRECISIONS[0]}-sen"}
    found: dict[str, Any] = {"seconds": {}, "scores": {}, "chance": {}, "losses": {}}
    for stage, sen_from in stages.items():
        number: Literal["1", "2"] = "1" if stage == "sen" else "2"
        run = options.out / f"{precision}-{stage}"
        if not (run / "evaluation/metrics.json").exists():
            train_run(
                recipe, data=options.data, out=run, stage=number, sen_from=sen_from, resume=True, seed=options.seed
            )
            with redirect_stdout(sys.stderr):
                evaluate(run, options.data, EvaluationOptions(split="development", seed=options.seed))
        for score in json.loads((run / "evaluation/metrics.json").read_text())["scores"]:
            if score["key"] in SCORES[stage]:
                found["scores"][score["key"]] = round(score["value"], 4)
                found["chance"][score["key"]] = round(score["chance"], 4)
        losses: dict[str, list[float]] = {}
        for record in RunDirectory.open(run).read_metrics():
            found["seconds"][stage] = record["seconds"]
            if record["step"] > options.steps - options.last:
                for key, value in record.items():
                    if "/" in key:
                        losses.setdefault(key, []).append(value)
        found["losses"] |= {key: round(mean(values), 4) for key, values in losses.items()}
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="prepared set")
    parser.add_argument("--out", type=Path, required=True, help="where the two runs are kept")
    parser.add_argument("--recipe", default="birds-rdg")
    parser.add_argument("--steps", type=int, default=2000, help="of each stage")
    parser.add_argument("--last", type=int, default=200, help="steps at the end over which losses are averaged")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    found = {precision: measure(chosen.recipe, precision, chosen) for precision in PRECISIONS}
    first, second = (found[precision] for precision in PRECISIONS)
    compared = {
        "score_differences": {key: round(second["scores"][key] - first["scores"][key], 4) for key in first["scores"]},
        "loss_ratios": {key: round(second["losses"][key] / first["losses"][key], 3) for key in first["losses"]},
    }
    protocol = {"recipe": chosen.recipe, "steps": chosen.steps, "last": chosen.last, "seed": chosen.seed}
    print(json.dumps({**protocol, **found, **compared}))
