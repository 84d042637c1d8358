"""Stage 1 of the small recipes with a choice taken back, scored on development species; prints one JSON object.

    OMP_NUM_THREADS=1 python benchmarks/choices.py --data STORE --out DIR [--steps 300] [--seeds 0] [--only NAME ...]

These choices were once made on the test split: batches of similar length, shorter sequences, embeddings that are
normalised before the head, dropped image features, distortions that begin late, and float32. Each alternative is
trained for so many steps and scored by `s2igan evaluate --split development`; `difference` is to the recipe as it is,
for the same seeds. Finished runs are kept in DIR, interrupted ones go on, and alternatives may be added later.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

from s2igan.evaluation.evaluate import evaluate
from s2igan.evaluation.options import EvaluationOptions
from s2igan.models.speech_encoder import SpeechEncoderConfig
from s2igan.recipes import resolve
from s2igan.run_directory import RunDirectory
from s2igan.training.sen import SENConfig
from s2igan.training.train import train_run

AS_IT_IS = "as it is"


def speech(sen: SENConfig, **settings: Any) -> SENConfig:
    """With other settings of the speech encoder."""
    assert isinstance(sen.speech, SpeechEncoderConfig)
    return replace(sen, speech=replace(sen.speech, **settings))


ALTERNATIVES: dict[str, Callable[[SENConfig], SENConfig]] = {
    AS_IT_IS: lambda sen: sen,
    "batches at random": lambda sen: replace(sen, length_window=1),
    "bf16": lambda sen: replace(sen, trainer=replace(sen.trainer, precision="bf16")),
    "longer sequences": lambda sen: speech(sen, conv_stride=2),
    "embeddings not normalised": lambda sen: speech(sen, normalize_pooled=False),
    "no image features dropped": lambda sen: replace(sen, image=replace(sen.image, feature_dropout=0.0)),
    "distortions from the first step": lambda sen: replace(sen, augment=replace(sen.augment, rises=(0.0, 0.0))),
}
SCORES = ("sen/map_all", "sen/recall@1/speech_to_image/class")


def measure(recipe: str, name: str, seed: int, options: argparse.Namespace) -> dict[str, float]:
    """Trains, where that is not done, and reads the scores and the seconds of training."""
    run = options.out / f"{name.replace(' ', '-')}-{seed}"
    if not (run / "evaluation/metrics.json").exists():
        base = resolve(recipe)
        short = replace(base.sen, trainer=replace(base.sen.trainer, steps=options.steps))
        chosen = replace(base, name=f"{recipe}, {name}", sen=ALTERNATIVES[name](short))
        train_run(chosen, data=options.data, out=run, stage="1", resume=True, seed=seed, cache=options.out / "cache")
        with redirect_stdout(sys.stderr):
            evaluate(run, options.data, EvaluationOptions(split="development", seed=seed))
    scores = {s["key"]: s["value"] for s in json.loads((run / "evaluation/metrics.json").read_text())["scores"]}
    seconds = max(record["seconds"] for record in RunDirectory.open(run).read_metrics())
    return {"seconds": seconds} | {key: round(scores[key], 4) for key in SCORES}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="prepared set")
    parser.add_argument("--out", type=Path, required=True, help="where the runs are kept")
    parser.add_argument("--recipe", default="birds-rdg")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", nargs="+", choices=[name for name in ALTERNATIVES if name != AS_IT_IS])
    options = parser.parse_args()
    found: dict[str, Any] = {}
    for name in [AS_IT_IS, *(options.only or [name for name in ALTERNATIVES if name != AS_IT_IS])]:
        runs = {seed: measure(options.recipe, name, seed, options) for seed in options.seeds}
        means = {key: round(mean(run[key] for run in runs.values()), 4) for key in SCORES}
        first = found.get(AS_IT_IS, {"mean": means})["mean"]
        difference = {key: round(means[key] - first[key], 4) for key in SCORES}
        found[name] = {"seeds": runs, "mean": means, "difference": difference}
    print(json.dumps({"recipe": options.recipe, "steps": options.steps, "choices": found}, indent=2))


if __name__ == "__main__":
    main()
