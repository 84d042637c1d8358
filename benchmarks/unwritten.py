"""What a speech encoder makes of made-up languages, and what a written language's data give one: one table, unattended.

    OMP_NUM_THREADS=1 python benchmarks/unwritten.py --out OUT [--devices cpu cpu] [--budget HOURS] [--plan]
        [--languages invented:1 invented:3 invented:4 invented-b:1] [--steps 1200]
        [--few 50 200 1000] [--few-steps 300] [--drawn invented:1] [--draws demo] [--captions 2000] [--seed 0]

Every row is trained by stage 1 of the recipe `birds-rdg` and scored on the test split of its language, unseen species
and unseen voices: English and each language alone; the first language mixed with English (`s2igan mix`), with as many
steps; and so many recordings of the first language, from random weights and from English's stage 1 (`--init-from`). All
of the validation split chooses the weights, also where few recordings are trained on. With --drawn, English and the
languages named go on from their stage 1 to the stage 2 of a recipe of latent flow, and what is drawn is scored.

English and the languages have the same pictures, splits and facts in their captions; that is compared before a row is
trained. Intervals are of 95 % and draw species, then captions; those of a difference or a share draw the same species
and captions for both sides. They say how other captions would have come out, not other trainings: each row is one.

OUT/unwritten.json and OUT/unwritten.md are written after each row. What is finished stays in OUT (data-NAME, run-NAME),
so that the same command goes on where it was interrupted. What was prepared elsewhere may be linked there, and runs may
be copied there: settings, seed and data are compared. A row that fails is named at the end, and the others go on.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import platform
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from s2igan.corpora.builtin.drawn import ENGLISH, LANGUAGE
from s2igan.data.layout import REPORT, STORE
from s2igan.data.store import Store
from s2igan.errors import UserError
from s2igan.evaluation.options import EvaluationOptions
from s2igan.evaluation.scores import METRICS
from s2igan.files import atomic_write, atomic_write_json
from s2igan.metrics.bootstrap import interval, paired_difference, resample_clusters
from s2igan.parallel import elsewhere, usable_cores
from s2igan.recipes import resolve
from s2igan.reproduce import Clock, all_devices, side_by_side
from s2igan.run_directory import SEN_FOLDER, in_words
from s2igan.training.recipe import Recipe

SIZE = 64
JSON, TABLE, PIECES, JUDGES, DONE = "unwritten.json", "unwritten.md", "pieces.jsonl", ".judges.json", ".unwritten.json"
"""In OUT: the results, what each piece of work took, the mark of what judges being there; in a run that of its being
scored."""
MAP, MAP_ALL, ATTRIBUTES = "sen/map", "sen/map_all", "attributes/"
LEAST_SHARE = 0.9
"""Of English's mAP, that a language alone is to reach."""
MOST_BELOW = 0.05
"""How far an attribute's accuracy may lie below that in English."""


@dataclass(frozen=True)
class Corpus:
    """What is trained on: a language, several of them mixed, or some recordings of one."""

    name: str
    languages: tuple[str, ...]
    recordings: int | None = None

    @classmethod
    def of(cls, language: str) -> Corpus:
        """All of a language."""
        return cls(language.replace(":", "-"), (language,))

    @property
    def made_of_others(self) -> bool:
        return len(self.languages) > 1 or self.recordings is not None


@dataclass(frozen=True)
class Row:
    """A line of the table, and the run that it is of."""

    title: str
    kind: Literal["stage 1", "few recordings", "drawn"]
    corpus: Corpus
    run: str
    recipe: Recipe
    start: str | None = None
    """The run whose encoders it begins with; of a drawn row, the one whose stage 1 it has."""
    beside: str | None = None
    """The run that it is compared with."""


@dataclass(frozen=True)
class Piece:
    """Work that is done without a break (`s2igan.reproduce.Work`)."""

    kind: str
    title: str
    makes: Path
    needs: frozenset[Path] = frozenset()
    work: Corpus | Row | None = None
    """What is prepared, or trained and scored; None is the training of what judges."""


@dataclass(frozen=True)
class Study:
    """What is measured."""

    out: Path
    languages: tuple[str, ...] = ("invented:1", "invented:3", "invented:4", "invented-b:1")
    few: tuple[int, ...] = (50, 200, 1000)
    few_steps: int = 300
    drawn: tuple[str, ...] = ()
    captions: int = 2000
    """That a picture each is drawn for."""
    seed: int = 0
    sen: Recipe = field(default_factory=lambda: resolve("birds-rdg"))
    draws: Recipe = field(default_factory=lambda: resolve("demo"))
    sizes: Mapping[str, int] = field(default_factory=lambda: {"classes": 250})
    """Of every corpus, as `drawn.prepare` takes them."""

    @property
    def options(self) -> EvaluationOptions:
        return EvaluationOptions(seed=self.seed, max_captions=self.captions)

    def folder(self, corpus: Corpus) -> Path:
        """Of a corpus."""
        return self.out / f"data-{corpus.name}"

    def run(self, name: str) -> Path:
        """Of a row."""
        return self.out / f"run-{name}"

    # --------------------------------------------------------------------------------------------------------- the plan

    def rows(self) -> Iterator[Row]:
        """Every row, in the order of the table."""
        english, first = Corpus.of(ENGLISH), Corpus.of(self.languages[0])
        yield Row(ENGLISH, "stage 1", english, english.name, self.sen)
        for language in self.languages:
            corpus = Corpus.of(language)
            yield Row(language, "stage 1", corpus, corpus.name, self.sen, beside=english.name)
        both = Corpus("mixed", (*first.languages, ENGLISH))
        title = f"{self.languages[0]} and {ENGLISH} mixed"
        yield Row(title, "stage 1", both, both.name, self.sen, beside=first.name)
        trainer = replace(self.sen.sen.trainer, steps=self.few_steps)
        short = replace(self.sen, sen=replace(self.sen.sen, trainer=trainer))
        for count in self.few:
            part = Corpus(f"few-{count}", first.languages, count)
            title = f"{self.languages[0]}, {count} recordings"
            yield Row(title, "few recordings", part, part.name, short, beside=first.name)
            tuned = f"tuned-{count}"
            yield Row(f"{title}, from {ENGLISH}", "few recordings", part, tuned, short, english.name, part.name)
        for language in dict.fromkeys((ENGLISH, *self.drawn)) if self.drawn else ():
            corpus = Corpus.of(language)
            beside = None if language == ENGLISH else f"drawn-{ENGLISH}"
            start = corpus.name if self._stage_1_is_shared else None
            yield Row(f"{language}, drawn", "drawn", corpus, f"drawn-{corpus.name}", self.draws, start, beside)

    @property
    def _stage_1_is_shared(self) -> bool:
        """Whether a drawn row has the stage 1 of its language's row: the same settings, but for how long it trains."""
        plain = [replace(recipe.sen, trainer=self.sen.sen.trainer) for recipe in (self.sen, self.draws)]
        return plain[0] == plain[1]

    def pieces(self) -> list[Piece]:
        """What is still to do: what rows need, each before the first that needs it, and the rows."""
        found: dict[Path, Piece] = {}

        def add(piece: Piece) -> None:
            found.setdefault(piece.makes, piece)

        for row in self.rows():
            if self.scored(row):
                continue
            english = self.folder(Corpus.of(ENGLISH))
            needs = {english, self.folder(row.corpus)}
            parts = [Corpus.of(language) for language in dict.fromkeys((ENGLISH, *row.corpus.languages))]
            for corpus in dict.fromkeys((*parts, row.corpus)):
                if not (self.folder(corpus) / STORE / REPORT).exists():
                    made_of = frozenset(map(self.folder, parts)) if corpus.made_of_others else frozenset()
                    kind = "mixing" if corpus.made_of_others else "preparation"
                    add(Piece(kind, f"data of {corpus.name}", self.folder(corpus), made_of, corpus))
            if row.kind == "drawn":
                judges = self.out / JUDGES
                needs.add(judges)
                if not judges.exists():
                    add(Piece("judges", "what reads attributes", judges, frozenset({english})))
            if row.start is not None:
                needs.add(self.run(row.start))
            add(Piece(row.kind, row.title, self.run(row.run), frozenset(needs), row))
        return list(found.values())

    def scored(self, row: Row) -> bool:
        """Whether a row is trained and scored.

        Raises:
            UserError: it was scored by another protocol; the test split is looked at once.
        """
        mark = self.run(row.run) / DONE
        if not mark.exists():
            return False
        known = json.loads(mark.read_text(encoding="utf-8"))
        if changes := in_words(known, json.loads(json.dumps(asdict(self.options)))):
            raise UserError(
                f"{mark.parent}: was scored by another protocol ({changes}), and the test split is looked at once; "
                "give the same options, or choose another --out."
            )
        return True

    # --------------------------------------------------------------------------------------------------------- the work

    def do(self, piece: Piece, device: str, jobs: int) -> None:
        """A piece of work.

        Raises:
            UserError: as preparation, training and evaluation do; or what lies in OUT is not what the row needs.
        """
        if isinstance(piece.work, Corpus):
            self._prepare(piece.work, jobs)
        elif isinstance(piece.work, Row):
            self._train_and_score(piece.work, device)
        else:
            from s2igan.evaluation.evaluate import prepare_judges

            prepare_judges(self.folder(Corpus.of(ENGLISH)), self.options, device=device)
            atomic_write_json(piece.makes, asdict(self.options))

    def _prepare(self, corpus: Corpus, jobs: int) -> None:
        from s2igan.corpora.builtin.birds import DRAWN_SET
        from s2igan.corpora.builtin.drawn import prepare
        from s2igan.corpora.builtin.invented import spoken_in
        from s2igan.corpora.prepare.mix import mix

        out = self.folder(corpus)
        if corpus.made_of_others:
            parts = [self.folder(Corpus.of(language)) for language in corpus.languages]
            mix(parts, out, recordings=corpus.recordings, seed=self.seed, jobs=jobs)
        else:
            prepare(spoken_in(DRAWN_SET, corpus.languages[0]), out, size=SIZE, jobs=jobs, **self.sizes)

    def _train_and_score(self, row: Row, device: str) -> None:
        from s2igan.evaluation.evaluate import evaluate
        from s2igan.run_directory import MODEL_FOLDER
        from s2igan.training.train import train_run

        for language in row.corpus.languages:
            self.check_terms(language)
        data, run = self.folder(row.corpus), self.run(row.run)
        given: dict[str, Any] = {"data": data, "out": run, "seed": self.seed, "device": device, "resume": True}
        given["cache"] = self.out / "cache"
        start = None if row.start is None else self.run(row.start)
        if row.kind != "drawn" and (run / SEN_FOLDER).is_dir():
            self.check_run(row)
        elif row.kind != "drawn":
            begun = {} if start is None else {"init_from": start, "init_parts": ("speech",)}
            train_run(row.recipe, stage="1", **begun, **given)
        elif not (run / MODEL_FOLDER).is_dir():
            train_run(row.recipe, stage="both" if start is None else "2", sen_from=start, **given)
        evaluate(run, data, self.options, device=device)
        atomic_write_json(run / DONE, asdict(self.options))

    def check_terms(self, language: str) -> None:
        """Whether the data of a language are those, and on equal terms with English.

        Raises:
            UserError: they are of another language or size, or the pictures, their facts, the splits or what the test
                captions name are not those of English.
        """
        english, other = (Store.open(self.folder(Corpus.of(name))) for name in (ENGLISH, language))
        for store, wanted in ((english, ENGLISH), (other, language)):
            found = store.report.get(LANGUAGE, ENGLISH)
            if (found, store.image_size) != (wanted, SIZE):
                raise UserError(
                    f"{store.directory}: is in {found} at {store.image_size} px, not in {wanted} at {SIZE} px; link "
                    "other data there, or delete it, and it is prepared."
                )
        terms: dict[str, Callable[[Store], Any]] = {
            "splits": lambda store: [store.split.tolist(), store.image_index.tolist()],
            "species": lambda store: store.image_class.tolist(),
            "pictures": lambda store: [
                hashlib.sha256(store.images.whole(image).tobytes()).digest() for image in range(store.n_images)
            ],
            "facts of the pictures": lambda store: [store.image_attributes(image) for image in range(store.n_images)],
            "attributes that test captions name": lambda store: [
                store.mentions(int(utterance)) for utterance in store.split_indices("test")
            ],
        }
        for what, of in terms.items():
            if of(english) != of(other):
                raise UserError(
                    f"{other.directory}: the {what} are not those of {english.directory}, so that their rows cannot be "
                    "compared; prepare both by one version with the same sizes and seed."
                )

    def check_run(self, row: Row) -> None:
        """Whether a finished stage 1, maybe trained elsewhere, is that of its row.

        Raises:
            UserError: it was trained by other settings, on other data, with another seed, or from other weights.
        """
        from s2igan.checkpoint import MODEL_FILES, file_digest
        from s2igan.training.stage_results import check_sen, finished_sen

        run = self.run(row.run)
        check_sen(run, row.recipe, Store.open(self.folder(row.corpus)), allow_other_data=False)
        trained = finished_sen(run).config["trained"]
        begun_from = None if row.start is None else file_digest(self.run(row.start) / SEN_FOLDER / MODEL_FILES[1])
        found = {
            "steps": trained["sen"]["trainer"]["steps"],
            "seed": _read(run / "config.json")["seed"],
            "initial weights": trained.get("init_from", {}).get("sha256"),
        }
        asked = {"steps": row.recipe.sen.trainer.steps, "seed": self.seed, "initial weights": begun_from}
        if changes := in_words(found, asked):
            raise UserError(f"{run}: is no run of the row {row.title} ({changes}); delete it, and it is trained.")

    # ------------------------------------------------------------------------------------------------------ the results

    def results(self) -> dict[str, Any]:
        """Of all rows that are scored: their scores, comparisons with others, and whether what is aimed at is met."""
        done = {row.run: row for row in self.rows() if self.scored(row)}
        rows = [self._result(row, done) for row in done.values()]
        return {
            "seed": self.seed,
            "rows": rows,
            "mean_average_precision": [_share_met(row) for row in rows if "share" in row],
            "attributes": [one for row in rows for one in _attributes_met(row)],
        }

    def _result(self, row: Row, done: Mapping[str, Row]) -> dict[str, Any]:
        run = self.run(row.run)
        metrics, environment = _read(run / "evaluation" / METRICS), _read(run / "environment.json")
        store = Store.open(self.folder(row.corpus))
        stage_1 = self.sen if row.kind == "drawn" and row.start is not None else row.recipe
        scores = {
            score["key"]: {part: score.get(part) for part in ("value", "interval", "std", "chance", "ceiling")}
            | {"n": score["protocol"].get("n")}
            for score in metrics["scores"]
            if score["key"] in (MAP, MAP_ALL) or score["key"].startswith(ATTRIBUTES)
        }
        result: dict[str, Any] = {
            "row": row.title,
            "run": row.run,
            "recordings": len(store.split_indices("train")),
            "hours": store.report["splits"]["train"]["hours"],
            "steps": stage_1.sen.trainer.steps,
            "begun_from": row.start,
            "recipe": row.recipe.name,
            "trained_by": {name: environment[name] for name in ("s2igan", "git_commit", "time")},
            "scores": scores,
        }
        if row.beside not in done:
            return result
        other = done[row.beside]
        result["beside"] = other.title
        keys = [MAP_ALL] if row.kind != "drawn" else [key for key in scores if key.startswith(ATTRIBUTES)]
        pairs = {key: self._pair(row, other, key) for key in keys}
        result["difference"] = {
            key: dict(zip(("value", "interval"), paired_difference(*pair, seed=self.seed), strict=True))
            for key, pair in pairs.items()
            if pair is not None
        }
        if row.kind == "stage 1" and not row.corpus.made_of_others and pairs[MAP_ALL] is not None:
            result["share"] = _share(*pairs[MAP_ALL], seed=self.seed)
        return result

    def _pair(self, first: Row, second: Row, key: str) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """The values of two rows for the same captions, (1, captions), and the species of these; None where they were
        not asked about the same, or the score is no mean over captions."""
        from safetensors.numpy import load_file

        from s2igan.evaluation.evaluate import ITEMS

        sides = [load_file(self.run(row.run) / "evaluation" / ITEMS) for row in (first, second)]
        if any(f"{key}/values" not in side for side in sides):
            return None
        # Parts of a corpus number captions and species anew, in the same order.
        numbers, species = (
            [np.unique(side[f"{key}/{what}"], return_inverse=True)[1] for side in sides]
            for what in ("numbers", "clusters")
        )
        if not (np.array_equal(*numbers) and np.array_equal(*species)):
            return None
        a, b = (side[f"{key}/values"][None] for side in sides)
        return a, b, species[0]


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _share(first: np.ndarray, second: np.ndarray, species: np.ndarray, *, seed: int) -> dict[str, Any]:
    """The mean of the first as a share of that of the second, with an interval that draws captions for both alike."""
    (drawn,) = resample_clusters(species, rng=np.random.default_rng(seed))
    low, high = interval((drawn.weights @ first[0]) / (drawn.weights @ second[0]))
    return {"value": float(first.mean() / second.mean()), "interval": (low, high)}


def _share_met(row: Mapping[str, Any]) -> dict[str, Any]:
    """Whether a language reaches its share of English's mAP."""
    return {"row": row["row"], **row["share"], **_met(row["share"], LEAST_SHARE)}


def _attributes_met(row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Whether each attribute of a drawn row lies not too far below that in English."""
    for key, difference in row.get("difference", {}).items():
        name = key.removeprefix(ATTRIBUTES)
        if key.startswith(ATTRIBUTES) and name != "per_caption":
            yield {"row": row["row"], "attribute": name, **difference, **_met(difference, -MOST_BELOW)}


def _met(found: Mapping[str, Any], least: float) -> dict[str, bool]:
    """Whether a value reaches the least that it should, and whether the interval agrees."""
    low, high = found["interval"]
    return {"met": found["value"] >= least, "surely": low >= least or high < least}


# ------------------------------------------------------------------------------------------------------------ the table


def table(results: Mapping[str, Any]) -> str:
    """Markdown: stage 1 of all rows, and what is drawn beside English."""
    rows = results["rows"]
    lines = [_stage_1_table([row for row in rows if not _is_drawn(row)], results["mean_average_precision"])]
    lines += [_drawn_table(row, rows, results["attributes"]) for row in rows if _is_drawn(row) and "difference" in row]
    return "\n".join(lines)


def _is_drawn(row: Mapping[str, Any]) -> bool:
    return any(key.startswith(ATTRIBUTES) for key in row["scores"])


def _stage_1_table(rows: Sequence[Mapping[str, Any]], met: Sequence[Mapping[str, Any]]) -> str:
    share = f"at least {100 * LEAST_SHARE:.0f} % of English's"
    header = ["trained on", "recordings", "steps", "mAP, one query a class", "mAP, every utterance"]
    lines = [[*header, "every utterance: difference", "to", "share of it", share]]
    for row in rows:
        scores, difference = row["scores"], row.get("difference", {}).get(MAP_ALL)
        cells = [
            row["row"],
            f"{row['recordings']:,}",
            f"{row['steps']:,}",
            *(_shown(scores[k]) for k in (MAP, MAP_ALL)),
        ]
        cells += ["", ""] if difference is None else [_shown(difference, signed=True), row["beside"]]
        cells += [_shown(row["share"]) if "share" in row else ""]
        lines.append([*cells, next((_word(one) for one in met if one["row"] == row["row"]), "")])
    for name, part in (("chance", "chance"), ("oracle that knows the attributes named", "ceiling")):
        values = [_ends([row["scores"][key][part] for row in rows]) for key in (MAP, MAP_ALL)]
        lines.append([name, "", "", *values, "", "", "", ""])
    return _markdown(lines)


def _drawn_table(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], met: Sequence[Mapping[str, Any]]) -> str:
    """Each attribute in pictures drawn from a language, beside English."""
    other = next(each for each in rows if each["row"] == row["beside"])
    below = f"not over {100 * MOST_BELOW:.0f} points below"
    lines = [["attribute", "captions", row["row"], other["row"], "difference", below, "chance", "real pictures"]]
    for key, score in row["scores"].items():
        name, difference = key.removeprefix(ATTRIBUTES), row["difference"].get(key)
        if not key.startswith(ATTRIBUTES):
            continue
        word = next((_word(one) for one in met if (one["row"], one["attribute"]) == (row["row"], name)), "")
        shown = "" if difference is None else _shown(difference, signed=True)
        values = [_shown(score), _shown(other["scores"][key]), shown, word, *(_percent(score[p]) for p in BOUNDS)]
        lines.append([name.replace("_", " "), str(score["n"] or ""), *values])
    return _markdown(lines)


BOUNDS = "chance", "ceiling"


def _shown(score: Mapping[str, Any], *, signed: bool = False) -> str:
    """A value with its interval, in per cent; differences in points."""
    sign, unit = ("+", "") if signed else ("", " %")
    ends = score.get("interval")
    between = "" if ends is None else f" ({' to '.join(f'{100 * end:{sign}.1f}' for end in ends)})"
    return f"{100 * score['value']:{sign}.1f}{unit}{between}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"


def _ends(values: Sequence[float | None]) -> str:
    """Least and largest of the rows, or the one value that they share."""
    known = sorted({_percent(value) for value in values if value is not None}, key=lambda shown: float(shown[:-2]))
    return " to ".join(dict.fromkeys((known[0], known[-1]))) if known else ""


def _word(one: Mapping[str, Any]) -> str:
    return ("yes" if one["met"] else "no") + ("" if one["surely"] else ", not surely")


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    header, *rows = lines
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows)) + "\n"


# ------------------------------------------------------------------------------------------------------------ all of it


def do(study: Study, piece: Piece, device: str, jobs: int) -> None:
    """A piece of work; tables of scores go to stderr."""
    with contextlib.redirect_stdout(sys.stderr):
        study.do(piece, device, jobs)


def measure(
    study: Study, devices: Sequence[str] = ("cpu",), budget_hours: float | None = None, jobs: int | None = None
) -> dict[str, Any]:
    """Does what is still to do, and returns the content of OUT/unwritten.json.

    Args:
        devices: rows are worked on side by side, one at a time on each.
        budget_hours: nothing is begun that would end later, by how long its like took.
        jobs: processes that prepare data beside each other; the cores that each device has unless given.
    """
    study.out.mkdir(parents=True, exist_ok=True)
    clock, writing, failed = Clock(budget_hours, study.out / PIECES), threading.Lock(), dict[str, str]()
    jobs = jobs or max(1, usable_cores() // len(devices))

    def write() -> dict[str, Any]:
        left = [piece.title for piece in study.pieces() if piece.title not in failed]
        machine = {"machine": platform.platform(), "cores": usable_cores()}
        protocol = " ".join(" ".join((__doc__ or "").split("\n\n")[2:4]).split())
        content = {"protocol": protocol, **machine, **study.results(), "left": left, "failed": failed}
        atomic_write_json(study.out / JSON, content)
        with atomic_write(study.out / TABLE) as file:
            file.write(f"{table(content)}\n{protocol}\n".encode())
        return content

    def work(piece: Piece, device: str) -> bool:
        if not clock.allows(piece.kind):
            return False
        print(f"{time.strftime('%H:%M:%S')} {piece.title} ({device})", file=sys.stderr, flush=True)
        started = time.monotonic()
        try:
            if len(devices) > 1:
                elsewhere(do, study, piece, device, jobs)
            else:
                do(study, piece, device, jobs)
        except Exception as error:  # the others go on
            failed[piece.title] = str(error) or type(error).__name__
            traceback.print_exc(file=sys.stderr)
            return False
        clock.took(piece, time.monotonic() - started)
        if isinstance(piece.work, Row):
            with writing:
                write()
        return True

    side_by_side(study.pieces(), devices, work)
    return write()


def main() -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--languages", nargs="+", default=Study.languages)
    parser.add_argument("--few", type=int, nargs="*", default=Study.few, help="recordings of the first language")
    parser.add_argument("--steps", type=int, help="of stage 1; the recipe's unless given")
    parser.add_argument("--few-steps", type=int, default=Study.few_steps, help="of stage 1 with few recordings")
    parser.add_argument("--drawn", nargs="*", default=[], help="languages, beside English, in which pictures are drawn")
    parser.add_argument("--draws", default="demo", help="the recipe that draws them, a latent flow at 64 px")
    parser.add_argument("--captions", type=int, default=Study.captions, help="that a picture each is drawn for")
    parser.add_argument("--seed", type=int, default=0, help="of training, and of the choice of few recordings")
    parser.add_argument("--devices", nargs="+", help="such as: cpu cpu; all GPUs, or else the CPU, unless given")
    parser.add_argument("--budget", type=float, metavar="HOURS", help="begin nothing that would end later")
    parser.add_argument("--plan", action="store_true", help="only say what is to do")
    given = parser.parse_args()
    study = Study(
        given.out,
        tuple(given.languages),
        tuple(given.few),
        given.few_steps,
        tuple(given.drawn),
        given.captions,
        given.seed,
        draws=resolve(given.draws),
    )
    if given.steps:
        trainer = replace(study.sen.sen.trainer, steps=given.steps)
        study = replace(study, sen=replace(study.sen, sen=replace(study.sen.sen, trainer=trainer)))
    try:
        if given.plan:
            print("\n".join(piece.title for piece in study.pieces()))
            return
        devices = tuple(given.devices or all_devices())
        if len(devices) > 1:  # processes with several threads each on the same cores are many times slower
            os.environ.setdefault("OMP_NUM_THREADS", str(max(1, usable_cores() // len(devices))))
        content = measure(study, devices, given.budget)
    except UserError as error:
        sys.exit(f"unwritten.py: {error}")
    except KeyboardInterrupt:
        sys.exit("unwritten.py: interrupted; the same command goes on.")
    print(json.dumps(content))
    if content["failed"]:
        sys.exit(f"unwritten.py: failed: {', '.join(content['failed'])}; the same command tries them again.")


if __name__ == "__main__":
    main()
