"""The page and the JSON of a reproduction: tables with means and deviations over seeds beside the published figures,
paired verdicts, Figures 2 and 3, curves, and what each row cost.

Nothing is computed anew but means and the bootstrap of pairs, from the records of the rows' evaluations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from safetensors.numpy import load_file

from s2igan import __version__
from s2igan.evaluation.evidence import ITEMS
from s2igan.evaluation.figure3 import SECOND
from s2igan.evaluation.scores import FIGURE3, SAMPLE_SHEET, UNKNOWN, Score
from s2igan.evaluation.spaces import INCEPTION, LITE0, LITE2, TRUNK
from s2igan.files import atomic_write, atomic_write_json
from s2igan.metrics.bootstrap import paired_difference
from s2igan.report import charts
from s2igan.report.embedded import picture, sound
from s2igan.report.page import groups_of, read_json, read_record, stages, templates
from s2igan.run_directory import RunDirectory

JSON, PAGE, VERSION = "reproduction.json", "reproduction.html", 2
REFERENCE = "s2igan"
"""The row that others are compared with, as soon as it is scored; the first one where it is not asked for."""
LEAST_SEEDS = 2
"""Of both rows, below which a pair has no verdict."""
SHOWN_UTTERANCES = 8
"""Columns of Figure 2."""


@dataclass(frozen=True)
class Column:
    """A score of a table, under that of its keys that most rows have, or the first of those."""

    title: str
    keys: tuple[str, ...]
    published: str | None = None
    """The paper's name of it."""
    table: str = "rows"
    """Which table it stands in: that of rows, or that of Figure 3."""
    judged: bool = True
    """Whether one of higher and lower is better; not of diversity, which noise has most of."""


COLUMNS = (
    Column("mAP", ("fakes/map_inception", "fakes/map_lite2", "fakes/map_lite0"), "mAP"),
    Column("Fréchet distance", ("inception/fid_inception", "independent/fd_lite2"), "FID"),
    Column("kernel distance", ("inception/kid_inception", "independent/kd_lite2", "distances/kd_lite0")),
    Column("inception score", ("inception/is_inception", "independent/is_lite2"), "IS"),
    Column("attributes named that are shown", ("attributes/per_caption",)),
    Column("R-precision", ("consistency/r_precision",)),
    Column("speech finds a generated image of the class", ("consistency/recall@1/speech_to_image/class",)),
    Column("diversity", ("diversity/lite2",), judged=False),
    Column("copies of training images", ("memorisation/copies",)),
    Column("mAP of stage 1", ("sen/map",)),
)
STAGE_1, OF_FIGURE_3 = "sen/", "figure3/"
"""How the keys of scores begin that are of the encoders of stage 1, and of one word changed."""
NO_NETWORK = "no network: colours of 8 x 8 cells"
LEARNT = (
    ("memorisation/copies", NO_NETWORK),
    (STAGE_1, "the row's own encoders: what stage 1 trained"),
    ("attributes/", f"{TRUNK.about}"),
    (OF_FIGURE_3, f"{TRUNK.about}"),
    ("consistency/", "encoders that no generator saw"),
)
"""By how a key begins, who else used what the score is computed by; of the others the space says it."""
FLOW_PARTS = ("autoencoder", "matchmap", "flow")
"""What stage 2 of a latent flow trains, one after the other."""
SAMENESS = 1e-6
"""Share by which what stands beside a score may differ between rows and count as the same."""
SECTIONS: tuple[tuple[str, str, str, Callable[[Mapping[str, Any]], bool]], ...] = (
    ("table1", "Table 1", "", lambda row: "table1" in row["tables"]),
    ("ablations", "Ablations", "", lambda row: "ablations" in row["tables"]),
    (
        "others",
        "Beside the tables",
        "Other methods and recipes; a recipe that is no method has steps of its own, and is no row of the paper.",
        lambda row: not row["tables"],
    ),
)
"""Tables of the page: anchor, title, lead, and which rows stand there."""
Figures = Mapping[str, float | None]
PUBLISHED: Mapping[str, Mapping[str, Figures]] = {
    row: {
        name: dict(zip(("mAP", "FID", "IS"), values, strict=True))
        for name, values in (("CUB", cub), ("Oxford-102", oxford))
        if values is not None
    }
    for row, (cub, oxford) in {
        "s2igan": ((9.04, 14.50, 4.29), (13.40, 48.64, 3.55)),
        "stackgan-v2-speech": ((8.09, 18.94, 4.14), (12.18, 54.33, 3.69)),
        "stackgan-v2-text": ((7.01, 20.94, 4.02), (9.88, 50.38, 3.35)),
        "stackgan-v2-text-reed": ((7.01, 20.94, 4.02), (9.88, 50.38, 3.35)),
        "li2020": ((None, 18.37, 4.09), (None, 54.76, 3.23)),
        "no-dense": ((8.66, 17.58, 4.19), None),
        "no-rs": ((8.54, 15.59, 4.14), None),
        "no-sen": ((2.91, 19.56, 3.49), None),
        "end-to-end": ((7.38, 21.54, 4.29), None),
        "no-distinctive": ((6.80, 16.66, 4.19), None),
    }.items()
}
"""mAP in %, FID, IS of Wang et al. 2020 (docs/method.md section 6)."""


@dataclass(frozen=True)
class Line:
    """A row of the tables."""

    name: str
    title: str
    """What it is, in a line."""
    tables: tuple[str, ...]
    """Where it stands."""
    in_paper: bool
    planned: int
    """Seeds."""
    runs: Mapping[int, Path] = field(default_factory=dict)
    """Its scored runs, by seed."""
    shared: Mapping[int, Sequence[Path]] = field(default_factory=dict)
    """The runs of its stage 1 and its warm start, by seed."""
    trains_stage_1: bool = True
    """Of the row without a stage 1, scores of it say nothing and are left out."""


def write_results(out: Path, lines: Sequence[Line], facts: Mapping[str, Any]) -> Path:
    """Writes both files into a folder and returns the page.

    Args:
        facts: what the JSON says of the whole: the set, the base recipe, the protocol.
    """
    content = results(lines, facts)
    atomic_write_json(out / JSON, content)
    text = (
        templates()
        .get_template("reproduction.html")
        .render(
            content=content,
            tables=[
                (anchor, title, lead, [row for row in content["rows"] if belongs(row)])
                for anchor, title, lead, belongs in SECTIONS
            ],
            lines=[line for line in lines if line.runs],
            figure_2=figure_2(lines),
            figures_3=[figure for folder in (Path(), Path(SECOND)) if (figure := figure_3(lines, folder))],
            learnt={line.name: learnt(line) for line in lines if line.runs},
            version=__version__,
            beside=beside,
            beyond_real=beyond_real,
            shuffled=shuffled,
            points=points,
            charts=charts,
            picture=picture,
            sound=sound,
        )
    )
    with atomic_write(out / PAGE) as file:
        file.write(text.encode())
    return out / PAGE


def beside(column: Mapping[str, Any], what: str) -> str:
    """What stands beside a score, for people: its chance, its ceiling, or what one half of the real images reaches
    against the other."""
    value = column[what]
    if value is None:
        return UNKNOWN
    return f"{100 * value:.1f} %" if column["unit"] == "fraction" else f"{value:.4g}"


def beyond_real(rows: Sequence[Mapping[str, Any]]) -> set[str]:
    """Keys of the scores by which some row is above what real images reach."""
    return {key for row in rows for key, cell in row["scores"].items() if cell["beyond_real"]}


def shuffled(rows: Sequence[Mapping[str, Any]]) -> set[str]:
    """Keys of the scores of which it is known what the same images reach if they are dealt to captions at random."""
    return {key for row in rows for key, cell in row["scores"].items() if cell["shown_shuffled"]}


def points(value: float, unit: str) -> str:
    """A difference for people: a share in percentage points."""
    return f"{100 * value:+.1f} points" if unit == "fraction" else f"{value:+.4g}"


def results(lines: Sequence[Line], facts: Mapping[str, Any]) -> dict[str, Any]:
    """The content of the JSON (docs/metrics.md)."""
    records = {line.name: {seed: read_record(run / "evaluation") for seed, run in line.runs.items()} for line in lines}
    scores = {
        line.name: {seed: scores_of(record, line) for seed, record in records[line.name].items()} for line in lines
    }
    present = [found for of_seed in scores.values() for found in of_seed.values()]
    columns = list(columns_of(present))
    rows = []
    for line in lines:
        own = [scores[line.name][seed] for seed in sorted(line.runs)]
        rows.append(
            {
                "name": line.name,
                "title": line.title,
                "tables": list(line.tables),
                "in_paper": line.in_paper,
                "published": PUBLISHED.get(line.name, {}),
                "seeds": sorted(line.runs),
                "planned_seeds": line.planned,
                "scores": {
                    key: over_seeds([found[key] for found in own])
                    for key, _ in columns
                    if own and all(key in found for found in own)
                },
                "steps": steps_of(line),
                "seconds": seconds_of(line),
                "models": [record["model"] for record in records[line.name].values()],
            }
        )
    every = [record for of_seed in records.values() for record in of_seed.values()]
    kept = ("split", "seed", "protocol", "extractors", "environment")
    pairs = list(verdicts(lines, columns))
    return {
        "version": VERSION,
        **facts,
        "runs": {"scored": len(every), "planned": sum(line.planned for line in lines)},
        "evaluation": {name: every[0][name] for name in kept} if every else {},
        "differing": differing(records, kept),
        "columns": [about(key, column, [found[key] for found in present if key in found]) for key, column in columns],
        "rows": rows,
        "verdicts": pairs,
        "pairs_with_a_verdict": sum(pair["seeds"] >= LEAST_SEEDS for pair in pairs),
    }


def columns_of(present: Sequence[Mapping[str, Score]]) -> Iterator[tuple[str, Column]]:
    """Those of `COLUMNS` that a run has, each with its key, and then those of Figure 3: the changed word, and the rest
    of the sentence."""
    for column in COLUMNS:
        counts = [sum(key in found for found in present) for key in column.keys]
        if max(counts):
            yield column.keys[counts.index(max(counts))], column
    for key in dict.fromkeys(key for found in present for key in found if key.startswith(OF_FIGURE_3)):
        name = next(found[key].name for found in present if key in found)
        yield key, Column(name, (key,), table="figure3")


def about(key: str, column: Column, scores: Sequence[Score]) -> dict[str, Any]:
    """A column for the JSON: what stands beside its score, and how it was measured.

    Args:
        scores: of all runs that have it.
    """
    first = scores[0]
    return {
        "title": column.title,
        "key": key,
        "table": column.table,
        "published": column.published,
        "unit": first.unit,
        "better": first.better if column.judged else None,
        "chance": same([score.chance for score in scores]),
        "ceiling": same([score.ceiling for score in scores]),
        "ceiling_name": first.ceiling_name,
        "real_against_real": same([score.protocol.get("real_against_real") for score in scores]),
        "used_in_training": used_in_training(key),
        "protocol": dict(first.protocol),
    }


def same(values: Sequence[float | None]) -> float | None:
    """What all have; None where they differ, or where there is none."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values) or not np.allclose(known, known[0], rtol=SAMENESS, atol=SAMENESS):
        return None
    return known[0]


def used_in_training(key: str) -> str:
    """Who else used what a score is computed by, in words; empty where that is not known."""
    spaces = (INCEPTION, LITE2, TRUNK, LITE0)
    known = [*LEARNT, *((f"_{space.rows}", space.about) for space in spaces), (f"/{LITE2.rows}", LITE2.about)]
    return next((words for part, words in known if key.startswith(part) or key.endswith(part)), "")


def differing(records: Mapping[str, Mapping[int, Mapping[str, Any]]], kept: Sequence[str]) -> list[str]:
    """What was not the same for all runs of how they were scored, in words: rows are compared as if it had been."""
    every = [(f"{name}, seed {seed}", record) for name, of in records.items() for seed, record in of.items()]
    found = []
    for what in kept:
        for name, record in every[1:]:
            first = every[0][1][what]
            if record[what] == first:
                continue
            parts = [what]
            if isinstance(first, Mapping):
                keys = sorted({*first, *record[what]} - {"time"})
                parts = [f"{what} ({key})" for key in keys if first.get(key) != record[what].get(key)]
            found += [f"{part} of {name}" for part in parts]
    return found


def scores_of(record: Mapping[str, Any], line: Line) -> dict[str, Score]:
    """The scores of an evaluation of a row by their keys."""
    scores = (score for group in groups_of(record) for score in group.scores)
    return {score.key: score for score in scores if line.trains_stage_1 or not score.key.startswith(STAGE_1)}


def over_seeds(scores: Sequence[Score]) -> dict[str, Any]:
    """Mean and sample standard deviation over seeds (none of a single one), beside chance and ceiling; what the same
    images reach if they are dealt to the captions at random (`shuffled`), where that is known; and whether the mean is
    above what real images reach."""
    values = [score.value for score in scores]
    first = scores[0]
    mean = float(np.mean(values))
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    shown = first.shown(mean) + (f" ± {first.shown(deviation)}" if deviation is not None else "")
    known = [score.protocol["shuffled"] for score in scores if "shuffled" in score.protocol]
    dealt = float(np.mean(known)) if len(known) == len(scores) else None
    return {
        "values": values,
        "mean": mean,
        "std": deviation,
        "n": len(values),
        "shown": shown,
        "chance": same([score.chance for score in scores]),
        "ceiling": same([score.ceiling for score in scores]),
        "unit": first.unit,
        "shuffled": dealt,
        "shown_shuffled": "" if dealt is None else first.shown(dealt),
        "beyond_real": bool(
            first.better == "higher" and (first.ceiling_name or "").startswith("real") and mean > (first.ceiling or 0.0)
        ),
    }


def steps_of(line: Line) -> dict[str, str]:
    """How long each part of a row was trained, in words: those of its first seed, which all have."""
    if not line.runs:
        return {}
    recipe = RunDirectory.open(line.runs[min(line.runs)]).config["recipe"]
    flow = recipe["latent_flow"] or {}
    parts = {
        "stage_1": [recipe["sen"]],
        "warm_start": [recipe["beyond"]["warm_start"]] if recipe["rdg"] else [],
        "stage_2": [recipe["rdg"]] if recipe["rdg"] else [flow[part] for part in FLOW_PARTS],
    }
    found = {}
    for name, settings in parts.items():
        trainers = [part["trainer"] for part in settings]
        words = [f"{t['epochs']:,} epochs" if t["epochs"] else f"{t['steps'] or 0:,}" for t in trainers]
        found[name] = " + ".join(words) or "0"
    return found


def seconds_of(line: Line) -> dict[str, float]:
    """What a row cost in the mean over its seeds: stage 1, warm start (rows may share both), stage 2, evaluation."""
    parts: dict[str, list[float]] = {"stage_1": [], "warm_start": [], "stage_2": [], "evaluation": []}
    for seed, run in line.runs.items():
        spent: dict[str, float] = {}
        for folder in (*line.shared[seed], run):
            for record in RunDirectory.open(folder).read_metrics():
                spent[record["stage"]] = max(spent.get(record["stage"], 0.0), record["seconds"])
        parts["stage_1"].append(spent.pop("sen", 0.0))
        parts["warm_start"].append(spent.pop("warm_start", 0.0))
        parts["stage_2"].append(sum(spent.values()))
        parts["evaluation"].append(read_record(run / "evaluation")["seconds"])
    return {name: round(float(np.mean(values)), 1) for name, values in parts.items() if values}


def verdicts(lines: Sequence[Line], columns: Sequence[tuple[str, Column]]) -> Iterator[dict[str, Any]]:
    """Each row against the reference, by every score that is a mean over captions or queries: by a bootstrap of pairs
    over seeds and items. There is no verdict where the pair has fewer than `LEAST_SEEDS` seeds in common."""
    if not lines:
        return
    reference = next((line for line in lines if line.name == REFERENCE), lines[0])
    for line in lines:
        if not line.runs or not reference.runs or line is reference:
            continue
        known = scores_of(read_record(next(iter(line.runs.values())) / "evaluation"), line)
        for key, column in columns:
            if key not in known or (pair := paired_items(line, reference, key)) is None:
                continue
            first, second, clusters = pair
            difference, (low, high) = paired_difference(first, second, clusters)
            yield {
                "row": line.name,
                "against": reference.name,
                "score": key,
                "seeds": len(first),
                "items": len(clusters),
                "unit": known[key].unit,
                "difference": difference,
                "interval_95": [low, high],
                "verdict": verdict(low, high, len(first), known[key].better if column.judged else None),
            }


def verdict(low: float, high: float, seeds: int, better: str | None) -> str:
    """In words.

    Args:
        better: "higher" or "lower"; None where neither is.
    """
    if seeds < LEAST_SEEDS:
        return "none: one seed"
    if low <= 0 <= high:
        return "no difference shown"
    if better is None:
        return "higher" if low > 0 else "lower"
    return "better" if (low > 0) == (better == "higher") else "worse"


def paired_items(
    first: Line, second: Line, key: str
) -> tuple[Float[np.ndarray, "seeds items"], Float[np.ndarray, "seeds items"], Int[np.ndarray, " items"]] | None:
    """The values of two rows for the same seeds and the same captions or queries, and the classes of these; None where
    the score is no mean over such, or they share no seed or item."""
    seeds = sorted(first.runs.keys() & second.runs.keys())
    sides = []
    for line in (first, second):
        found = [load_file(line.runs[seed] / "evaluation" / ITEMS) for seed in seeds]
        if not found or any(f"{key}/values" not in items for items in found):
            return None
        sides.append(found)
    shared = sides[0][0][f"{key}/numbers"]
    for items in (items for side in sides for items in side):
        shared = np.intersect1d(shared, items[f"{key}/numbers"])
    if not len(shared):
        return None

    def rows(items: Mapping[str, np.ndarray], what: str) -> np.ndarray:
        order = np.argsort(items[f"{key}/numbers"])
        numbers = items[f"{key}/numbers"][order]
        found: np.ndarray = items[f"{key}/{what}"][order][np.searchsorted(numbers, shared)]
        return found

    a, b = (np.stack([rows(items, "values") for items in side]) for side in sides)
    return a, b, rows(sides[0][0], "clusters")


def figure_2(lines: Sequence[Line]) -> dict[str, Any] | None:
    """The paper's Figure 2: rows are methods, columns are utterances; of each row its first seed. None without rows."""
    sheets = {}
    for line in lines:
        if line.runs:
            folder = line.runs[min(line.runs)] / "evaluation" / SAMPLE_SHEET
            if (rows := read_json(folder / f"{SAMPLE_SHEET}.json")) is not None:
                sheets[line.name] = {row["utterance"]: (folder, row) for row in rows}
    if not sheets:
        return None
    first = next(iter(sheets.values()))
    shared = [number for number in first if all(number in rows for rows in sheets.values())][:SHOWN_UTTERANCES]
    return {
        "utterances": [
            {
                "text": first[number][1]["text"] or "(no transcription)",
                "audio": first[number][0] / first[number][1]["audio"],
            }
            for number in shared
        ],
        "rows": {"real": [first[number][0] / first[number][1]["real"] for number in shared]}
        | {
            name: [folder / row["samples"][0] for folder, row in (rows[number] for number in shared)]
            for name, rows in sheets.items()
        },
    }


def figure_3(lines: Sequence[Line], sentence: Path) -> dict[str, Any] | None:
    """The paper's Figure 3 for a sentence: rows are methods, columns are words; of each row its first seed. None where
    no row has it."""
    found = {}
    for line in lines:
        if line.runs:
            folder = line.runs[min(line.runs)] / "evaluation" / FIGURE3 / sentence
            if (content := read_json(folder / f"{FIGURE3}.json")) is not None:
                found[line.name] = folder, content
    if not found:
        return None
    _, first = next(iter(found.values()))
    words = [row["word"] for row in first["rows"]]
    return {
        "template": first["template"],
        "words": words,
        "rows": {
            name: [folder / row["samples"][0] for row in content["rows"] if row["word"] in words]
            for name, (folder, content) in found.items()
        },
    }


def learnt(line: Line) -> list[charts.Curve]:
    """How the totals and scores of a row's stage 2 went, of its first seed."""
    run = RunDirectory.open(line.runs[min(line.runs)])
    return [curve for _, totals, _ in stages(run.read_metrics()) for curve in totals]
