"""What a speech encoder makes of made-up languages, and what a written language's data give one: stage 1, unattended.

    python benchmarks/unwritten.py --out runs/unwritten [--languages invented:1 invented:3 invented:4 invented-b:1]
        [--few 50 200 1000] [--steps 1200] [--few-steps 300] [--drawn invented:1] [--seed 0] [--table unwritten.md]

Every row is trained by the recipe `birds-rdg --stage 1` and scored on the test split of its language, unseen species
and unseen voices: English and each language alone; the first language mixed with English (`s2igan mix`); and so many
recordings of the first language, from random weights and from English's stage 1 (`--init-from`), with as many steps.
All of the validation split chooses the weights, also where few recordings are trained on. With --drawn, the recipe
`demo` draws (latent flow at 64 px) in English and in the languages named, and its attributes are scored. Prints one
JSON object, and writes a Markdown table. What is finished stays in OUT (data-NAME, run-NAME), so that the same command
goes on; what was prepared or trained elsewhere by the same settings may be linked there.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from s2igan.corpora.builtin.birds import DRAWN_SET as BIRDS
from s2igan.corpora.builtin.drawn import ENGLISH, prepare
from s2igan.corpora.builtin.invented import spoken_in
from s2igan.corpora.prepare.mix import mix
from s2igan.data.layout import REPORT, STORE
from s2igan.data.store import Store
from s2igan.evaluation.evaluate import evaluate
from s2igan.evaluation.options import EvaluationOptions
from s2igan.evaluation.scores import METRICS
from s2igan.recipes import resolve
from s2igan.training.recipe import Recipe
from s2igan.training.train import train_run

SIZE = 64
SCORES = {"sen/map": "mAP, one query a class", "sen/map_all": "mAP, every utterance", "attributes/mean": "drawn"}


@dataclass(frozen=True)
class Study:
    """What is measured."""

    out: Path
    languages: tuple[str, ...] = ("invented:1", "invented:3", "invented:4", "invented-b:1")
    few: tuple[int, ...] = (50, 200, 1000)
    few_steps: int = 300
    drawn: tuple[str, ...] = ()
    seed: int = 0
    sen: Recipe = field(default_factory=lambda: resolve("birds-rdg"))
    draws: Recipe = field(default_factory=lambda: resolve("demo"))
    corpus: dict[str, int] = field(default_factory=lambda: {"classes": 250})
    """Sizes of every corpus, as `drawn.prepare` takes them."""

    def rows(self) -> Iterator[dict[str, Any]]:
        """Each row once it is scored."""
        for language in (ENGLISH, *self.languages):
            yield self.row(language, self.data(language), language, self.sen)
        first = self.languages[0]
        both = self.mixed("mixed", [first, ENGLISH])
        yield self.row(f"{first} and {ENGLISH} mixed", both, "mixed", self.sen)
        trainer = replace(self.sen.sen.trainer, steps=self.few_steps)
        short = replace(self.sen, sen=replace(self.sen.sen, trainer=trainer))
        for count in self.few:
            part = self.mixed(f"few-{count}", [first], count)
            yield self.row(f"{first}, {count} recordings", part, f"few-{count}", short)
            start = self.run(ENGLISH)
            yield self.row(f"{first}, {count} recordings, from English", part, f"tuned-{count}", short, start)
        for language in dict.fromkeys((ENGLISH, *self.drawn)) if self.drawn else ():
            yield self.row(f"{language}, drawn", self.data(language), f"drawn-{language}", self.draws)

    def data(self, language: str) -> Path:
        """The birds described in a language."""
        out = self.out / f"data-{name_of(language)}"
        if not (out / STORE / REPORT).exists():
            prepare(spoken_in(BIRDS, language), out, size=SIZE, **self.corpus)
        return out

    def mixed(self, name: str, languages: Sequence[str], recordings: int | None = None) -> Path:
        """Several languages to train on, or a part of one."""
        out = self.out / f"data-{name}"
        if not (out / STORE / REPORT).exists():
            mix([self.data(language) for language in languages], out, recordings=recordings, seed=self.seed)
        return out

    def run(self, name: str) -> Path:
        return self.out / f"run-{name_of(name)}"

    def row(self, title: str, data: Path, name: str, recipe: Recipe, start: Path | None = None) -> dict[str, Any]:
        """Train and score where that is not done, and read the scores."""
        run = self.run(name)
        metrics = run / "evaluation" / METRICS
        if not metrics.exists():
            given: dict[str, Any] = {} if start is None else {"init_from": start, "init_parts": ("speech",)}
            stage = "1" if recipe.rdg is not None else "both"
            train_run(recipe, data=data, out=run, stage=stage, resume=True, seed=self.seed, **given)  # type: ignore[arg-type]
            evaluate(run, data, EvaluationOptions(seed=self.seed))
        content = json.loads(metrics.read_text(encoding="utf-8"))
        found = {score["key"]: score for score in content["scores"]}
        attributes = [key for key in found if key.startswith("attributes/")]
        return {
            "row": title,
            "recordings": len(Store.open(data).split_indices("train")),
            "steps": recipe.sen.trainer.steps,
            "begun_from": None if start is None else start.name,
            "scores": {
                key: {part: found[key].get(part) for part in ("value", "std", "interval", "chance", "ceiling")}
                for key in dict.fromkeys([*SCORES, *attributes])
                if key in found
            },
        }


def name_of(language: str) -> str:
    return language.replace(":", "-")


def table(rows: Sequence[dict[str, Any]]) -> str:
    """A Markdown table of all rows, each with the share of English's mAP."""
    english = next(row["scores"]["sen/map"]["value"] for row in rows if row["row"] == ENGLISH)
    header = ["trained on", "recordings", "steps", *SCORES.values(), "of English's mAP"]
    lines = [header, ["---"] * len(header)]
    for row in rows:
        scores = row["scores"]
        share = scores["sen/map"]["value"] / english if english and row["row"] != ENGLISH else None
        values = [shown(scores.get(key)) for key in SCORES]
        cells = [row["row"], f"{row['recordings']:,}", f"{row['steps']:,}", *values]
        lines.append([*cells, "" if share is None else f"{share:.0%}"])
    for name, part in (("chance", "chance"), ("oracle", "ceiling")):
        of_rows = [
            {key: score[part] for key, score in row["scores"].items() if score[part] is not None} for row in rows
        ]
        values = [next((shown({"value": of[key]}) for of in of_rows if key in of), "") for key in SCORES]
        lines.append([name, "", "", *values, ""])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def shown(score: dict[str, Any] | None) -> str:
    """A value with its standard deviation, where it has one."""
    if score is None:
        return ""
    spread = f" ± {100 * score['std']:.1f}" if score.get("std") else ""
    return f"{100 * score['value']:.1f}{spread} %"


def measure(study: Study, table_file: Path | None) -> dict[str, Any]:
    """All rows; the table is written anew after each."""
    rows: list[dict[str, Any]] = []
    with contextlib.redirect_stdout(sys.stderr):  # tables of scores
        for row in study.rows():
            rows.append(row)
            if table_file is not None:
                table_file.write_text(table(rows), encoding="utf-8")
    machine = {"machine": platform.platform(), "cores": len(os.sched_getaffinity(0))}
    return {"protocol": (__doc__ or "").split("\n\n")[2].replace("\n", " "), **machine, "rows": rows}


def main() -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--languages", nargs="+", default=Study.languages)
    parser.add_argument("--few", type=int, nargs="*", default=Study.few, help="recordings of the first language")
    parser.add_argument("--steps", type=int, help="of stage 1; the recipe's unless given")
    parser.add_argument("--few-steps", type=int, default=Study.few_steps, help="of stage 1 with few recordings")
    parser.add_argument("--drawn", nargs="*", default=[], help="languages, beside English, in which pictures are drawn")
    parser.add_argument("--seed", type=int, default=0, help="of training, and of the choice of few recordings")
    parser.add_argument("--table", type=Path, help="a Markdown table to write")
    given = parser.parse_args()
    study = Study(given.out, tuple(given.languages), tuple(given.few), given.few_steps, tuple(given.drawn), given.seed)
    if given.steps:
        trainer = replace(study.sen.sen.trainer, steps=given.steps)
        study = replace(study, sen=replace(study.sen, sen=replace(study.sen.sen, trainer=trainer)))
    print(json.dumps(measure(study, given.table)))


if __name__ == "__main__":
    main()
