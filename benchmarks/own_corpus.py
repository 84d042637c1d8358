"""How many pictures, recordings and minutes give what: stage 1, and stage 2 on request, on parts of the built-in birds.

    python benchmarks/own_corpus.py --data runs/demo-data --out runs/own-corpus [--images 100 300 1000 1760]
        [--recordings 1 2 5] [--steps 250 500 1000] [--drawing-steps 0] [--seeds 0] [--plot own_corpus.png]

A part has so many training pictures, spread evenly over the classes, with so many recordings of each; validation and
test stay whole, so that all rows are scored on the same new species and new voices, and chance is the same. Each is
trained from scratch by the recipe `birds` with so many steps of stage 1 (and, with --drawing-steps, of stage 2), and
scored as `s2igan evaluate` does. Prints one JSON object; the plot and a Markdown table (--table) are made from it.
Finished parts are kept in OUT, so that an interrupted measurement goes on.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from s2igan.data.manifest import Utterance, read_manifest, write_manifest
from s2igan.data.pack import build_store
from s2igan.evaluation.evaluate import evaluate
from s2igan.evaluation.options import EvaluationOptions
from s2igan.recipes import birds_rdg
from s2igan.run_directory import RunDirectory
from s2igan.training.recipe import Recipe
from s2igan.training.train import train_run

SCORES = {
    "sen/map": "mAP, spoken query",
    "sen/recall@1/speech_to_image/class": "Recall@1, class",
    "sen/recall@10/speech_to_image/image": "Recall@10, its picture",
}
DRAWN = {"attributes/mean": "attributes drawn"}


def part_of(rows: Sequence[Utterance], images: int, recordings: int, seed: int) -> list[Utterance]:
    """Rows with `images` training pictures, evenly over classes, `recordings` of each, and all rows of other splits."""
    rng = np.random.default_rng([seed, 0x0C])  # a smaller part lies within a larger one
    told: dict[str, list[Utterance]] = {}
    for row in rows:
        if row.split == "train":
            told.setdefault(row.image, []).append(row)
    by_class: dict[str | None, list[str]] = {}
    for image, own in told.items():
        by_class.setdefault(own[0].class_name, []).append(image)
    shuffled = [[str(image) for image in rng.permutation(sorted(own))] for _, own in sorted(by_class.items(), key=str)]
    turns = [image for turn in range(max(map(len, shuffled))) for own in shuffled for image in own[turn : turn + 1]]
    if images > len(turns) or any(recordings > len(told[image]) for image in turns[:images]):
        raise SystemExit(f"the data hold {len(turns)} training pictures with {len(told[turns[0]])} recordings each")
    chosen = set(turns[:images])
    return [
        row for row in rows if row.split != "train" or (row.image in chosen and row in told[row.image][:recordings])
    ]


def recipe_of(steps: int, drawing_steps: int) -> Recipe:
    """The recipe `birds-rdg` with other numbers of steps."""
    base = birds_rdg()
    sen = replace(base.sen, trainer=replace(base.sen.trainer, steps=steps, evaluate_every=max(1, steps // 10)))
    rdg = replace(base.rdg, trainer=replace(base.rdg.trainer, steps=drawing_steps or base.rdg.trainer.steps))
    return replace(base, name=f"birds-rdg, {steps} + {drawing_steps} steps", sen=sen, rdg=rdg)


def measure(data: Path, out: Path, images: int, recordings: int, steps: int, drawing: int, seed: int) -> dict[str, Any]:
    """One row: train it where that is not done, and read its scores."""
    prepared = out / f"data-{images}-{recordings}-{seed}"
    if not (prepared / "store/report.json").exists():
        manifest = data / f"manifest-{images}-{recordings}-{seed}.jsonl"
        write_manifest(manifest, part_of(read_manifest(data / "manifest.jsonl"), images, recordings, seed))
        build_store(manifest, prepared, image_size=64)
    run = out / f"run-{images}-{recordings}-{steps}-{drawing}-{seed}"
    if not (run / "evaluation/metrics.json").exists():
        stage = "both" if drawing else "sen"
        train_run(recipe_of(steps, drawing), data=prepared, out=run, stage=stage, resume=True, seed=seed)  # type: ignore[arg-type]
        evaluate(run, prepared, EvaluationOptions(seed=seed))
    scores = {score["key"]: score for score in json.loads((run / "evaluation/metrics.json").read_text())["scores"]}
    spent: dict[str, float] = {}
    for record in RunDirectory.open(run).read_metrics():
        spent[record["stage"]] = max(spent.get(record["stage"], 0.0), record["seconds"])
    named = {**SCORES, **(DRAWN if drawing else {})}
    return {
        "images": images,
        "recordings": recordings,
        "steps": steps,
        "drawing_steps": drawing,
        "seed": seed,
        "minutes": {stage: round(seconds / 60, 1) for stage, seconds in spent.items()},
        "scores": {key: round(scores[key]["value"], 4) for key in named},
        "chance": {key: round(scores[key]["chance"], 4) for key in named},
        "ceiling": {key: scores[key]["ceiling"] and round(scores[key]["ceiling"], 4) for key in named},
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """A Markdown table of all rows."""
    keys = list(dict.fromkeys(key for row in rows for key in row["scores"]))
    names = {**SCORES, **DRAWN}
    lines = [
        "| pictures | recordings of each | steps of stage 1 | " + " | ".join(names[key] for key in keys) + " |",
        "|" + "---:|" * (3 + len(keys)),
    ]
    for row in rows:
        values = [f"{100 * row['scores'][key]:.1f} %" if key in row["scores"] else "–" for key in keys]
        cells = [f"{row['images']:,}", str(row["recordings"]), f"{row['steps']:,}", *values]
        lines.append(f"| {' | '.join(cells)} |")
    chance = [f"{100 * rows[0]['chance'][key]:.1f} %" if key in rows[0]["chance"] else "–" for key in keys]
    lines.append(f"| chance | | | {' | '.join(chance)} |")
    return "\n".join(lines)


def plot(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Stage 1's mAP against pictures and, where there are several numbers of them, steps; a line for each number
    of recordings."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    key = "sen/map"
    longest = max(row["steps"] for row in rows)
    most = max(row["images"] for row in rows)
    panels = [
        ("training pictures", "images", f"{longest} steps of stage 1", [r for r in rows if r["steps"] == longest])
    ]
    if len({row["steps"] for row in rows}) > 1:
        panels.append(("steps of stage 1", "steps", f"{most:,} pictures", [r for r in rows if r["images"] == most]))
    figure, grid = plt.subplots(
        1, len(panels), figsize=(2 + 4 * len(panels), 4), sharey=True, squeeze=False, layout="constrained"
    )
    for axis, (label, place, title, own) in zip(grid[0], panels, strict=True):
        for number in sorted({row["recordings"] for row in own}):
            points = sorted((row[place], row["scores"][key]) for row in own if row["recordings"] == number)
            plural = "s" * (number > 1)
            axis.plot(*zip(*points, strict=True), marker="o", label=f"{number} recording{plural} a picture")
        axis.axhline(rows[0]["chance"][key], linestyle="--", color="grey", label="chance")
        if rows[0]["ceiling"][key]:
            axis.axhline(rows[0]["ceiling"][key], color="grey", label="oracle")
        axis.set_xlabel(label)
        axis.set_ylim(0, 1)
        axis.set_title(title)
    grid[0, 0].set_ylabel("mAP on new species and voices")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> None:
    """Measure every combination and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="what s2igan prepare birds made")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=int, nargs="+", default=[100, 300, 1000, 1760])
    parser.add_argument("--recordings", type=int, nargs="+", default=[1, 2, 5])
    parser.add_argument("--steps", type=int, nargs="+", default=[250, 500, 1000])
    parser.add_argument("--drawing-steps", type=int, default=0, help="steps of stage 2; 0 leaves it out")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--plot", type=Path, help="a PNG to draw")
    parser.add_argument("--table", type=Path, help="a Markdown table to write")
    given = parser.parse_args()
    combinations = itertools.product(given.seeds, given.images, given.recordings, given.steps)
    with contextlib.redirect_stdout(sys.stderr):  # tables of scores
        rows = [
            measure(given.data, given.out, images, recordings, steps, given.drawing_steps, seed)
            for seed, images, recordings, steps in combinations
        ]
    if given.plot is not None:
        plot(rows, given.plot)
    if given.table is not None:
        given.table.write_text(table(rows) + "\n")
    machine = {"machine": platform.platform(), "cores": len(os.sched_getaffinity(0))}
    print(json.dumps({"protocol": __doc__.split("\n\n")[2].replace("\n", " "), **machine, "rows": rows}))


if __name__ == "__main__":
    main()
