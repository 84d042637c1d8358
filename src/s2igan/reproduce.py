"""The paper's tables on any prepared set: every row is trained and scored on equal terms, with several seeds.

Rows with the same stage 1 share it, seed by seed, and so do those with the same warm start. Rows with the same base
recipe have the same steps, batches and noise. The test split is looked at once: a row that was scored is not scored
again. What is finished stays in OUT, so that the same command goes on where it was interrupted, or where its budget
ended:

    OUT/data/                 a built-in set, prepared for the rows
    OUT/cache/                features of pictures by frozen networks
    OUT/stage-1/KEY-SEED/     a stage 1 that rows share
    OUT/warm-start/KEY-SEED/  a warm start that rows share
    OUT/pieces.jsonl          what was done, and how long it took
    OUT/rows/ROW-SEED/        a run, with its evaluation
    OUT/reproduction.json, OUT/reproduction.html
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from s2igan.errors import UserError
from s2igan.evaluation.options import EvaluationOptions
from s2igan.files import atomic_write_json
from s2igan.parallel import elsewhere
from s2igan.recipes import BASES, METHODS, METHODS_ON, resolve
from s2igan.training.recipe import Recipe

TABLES = {
    "table1": ("li2020", "stackgan-v2-text", "stackgan-v2-speech", "s2igan"),
    "ablations": ("s2igan", "no-dense", "no-rs", "no-sen", "end-to-end", "no-distinctive"),
}
"""The paper's Table 1 and its ablations, by the names of their rows."""
SETTINGS, DONE, PIECES = "reproduction-settings.json", ".reproduced.json", "pieces.jsonl"
"""What OUT was begun with; the mark of a scored run; and what each piece of work took."""
JUDGES, ROWS = ".judges.json", "rows"
"""The mark of what judges being there; and the folder of the rows' runs."""


@dataclass(frozen=True)
class Row:
    """A line of a table."""

    name: str
    recipe: Recipe
    seeds: int
    """It is trained with seeds 0, 1, ... below this."""


@dataclass(frozen=True)
class Plan:
    """What is to be made."""

    data: Path
    out: Path
    rows: tuple[Row, ...]
    options: EvaluationOptions

    def stage_1(self, row: Row, seed: int) -> Path:
        """The run whose stage 1 a row has: that of all rows with the same settings of it."""
        return self.out / "stage-1" / f"{_key(asdict(row.recipe.sen))}-{seed}"

    def warm_start(self, row: Row, seed: int) -> Path | None:
        """The run whose warm start a row has: that of all rows with the same stage 1 and generator; None where there is
        none."""
        recipe = row.recipe
        if recipe.rdg is None or not recipe.beyond.warm_start.trains:
            return None
        parts = (recipe.beyond.warm_start, recipe.beyond.condition_start, recipe.rdg.generator, recipe.sen)
        key = _key([*(asdict(part) for part in parts), recipe.rdg.speech == "scratch"])
        return self.out / "warm-start" / f"{key}-{seed}"

    def shared(self, row: Row, seed: int) -> tuple[Path, ...]:
        """The runs that it shares with other rows."""
        warm_start = self.warm_start(row, seed)
        return (self.stage_1(row, seed), *([] if warm_start is None else [warm_start]))

    def run(self, row: Row, seed: int) -> Path:
        """The run of a row."""
        return self.out / ROWS / f"{re.sub(r'[^a-z0-9-]+', '-', row.name)}-{seed}"

    def is_done(self, row: Row, seed: int) -> bool:
        """Whether it is trained and scored.

        Raises:
            UserError: it was scored by another protocol; the test split is looked at once.
        """
        mark = self.run(row, seed) / DONE
        if not mark.exists():
            return False
        if json.loads(mark.read_text(encoding="utf-8")) != _json(asdict(self.options)):
            raise UserError(
                f"{mark.parent}: was scored by another protocol, and the test split is looked at once; give the same "
                "options, or choose another --out."
            )
        return True


@runtime_checkable
class Work(Protocol):
    """What `Clock` and `side_by_side` ask of a piece of work."""

    @property
    def kind(self) -> str:
        """Pieces of one kind take about as long."""

    @property
    def title(self) -> str:
        """For people."""

    @property
    def makes(self) -> Path:
        """What others wait for."""

    @property
    def needs(self) -> frozenset[Path]:
        """What other pieces make first."""


AnyWork = TypeVar("AnyWork", bound=Work)


@dataclass(frozen=True)
class Piece:
    """Work that is done without a break: the encoders that judge, stage 1 of a seed, a warm start, or the rest of a row
    and its scores."""

    kind: str
    """`judges`, `stage 1`, `warm start`, `row`, or the name of a row that is no method and has steps of its own."""
    title: str
    row: Row
    seed: int
    makes: Path
    """What others wait for."""
    needs: frozenset[Path] = frozenset()
    """What other pieces make first."""


def reproduce(
    corpus: str,
    out: str | Path,
    *,
    rows: str = "table1,ablations",
    seeds: int = 1,
    base: str = METHODS_ON,
    steps: int | None = None,
    sen_steps: int | None = None,
    warm_start_steps: int | None = None,
    budget_hours: float | None = None,
    options: EvaluationOptions = EvaluationOptions(consistency=True, keep_images=True),
    devices: Sequence[str] = (),
    say: Callable[[str], None] = lambda line: None,
) -> Path:
    """Trains and scores the rows, and writes the page and the JSON after each; returns the page.

    Args:
        corpus: a prepared set, or the name of a built-in one, which is prepared in ``out``.
        rows: of `TABLES`, of the methods, or of the base recipes, separated by commas; `NAME:3` has three seeds. Where
            a row is named twice the last one counts.
        seeds: of each row that says no number.
        base: the recipe that methods change.
        steps: of stage 2, for all methods, in place of those of the base recipe.
        sen_steps: of stage 1, likewise, where it takes any.
        warm_start_steps: of the warm start, likewise.
        budget_hours: nothing is begun that would end later, by how long its like took.
        options: how rows are scored.
        devices: where to compute; with several, rows are trained side by side. All GPUs unless given, or else the CPU.
        say: is told sentences that a user should read.

    Raises:
        UserError: a row, a recipe or the set is unknown, or ``out`` was begun with others.
    """
    out = Path(out)
    lengths = {"steps": steps, "sen_steps": sen_steps, "warm_start_steps": warm_start_steps}
    asked = tuple(named_rows(rows, seeds, base, **lengths))
    data = prepared(corpus, out, asked, say)
    plan = Plan(data, out, asked, options)
    _begin(plan, base, lengths)
    where = tuple(devices) or all_devices()
    clock, writing = Clock(budget_hours, out / PIECES), threading.Lock()
    todo = pieces(plan)
    say(f"{len(todo)} pieces of work to do")

    def work(piece: Piece, device: str) -> bool:
        if not clock.allows(piece.kind):
            return False
        say(f"{piece.title} ({device})")
        started = time.monotonic()
        if len(where) > 1:
            try:
                elsewhere(do, plan, piece, device)
            except UserError as error:
                say(f"{piece.title} failed: {error} The work of the other devices is finished first.")
                raise
        else:
            do(plan, piece, device)
        clock.took(piece, time.monotonic() - started)
        if piece.makes.parent.name == ROWS:
            with writing:
                write(plan, base)
        return True

    side_by_side(todo, where, work)
    page = write(plan, base)
    left = [piece.title for piece in pieces(plan)]
    if left:
        say(f"The budget ended with {len(left)} to do ({', '.join(left)}); the same command goes on.")
    return page


def named_rows(words: str, seeds: int, base: str, **lengths: int | None) -> Iterator[Row]:
    """The rows that a user names, in the order of the tables; UserError where one is unknown.

    Args:
        lengths: as of `with_steps`.
    """
    wanted: dict[str, int] = {}
    for word in words.split(","):
        name, _, number = word.strip().partition(":")
        if number and not (number.isdecimal() and int(number)):
            raise UserError(f"--rows {word}: {number!r} is no number of seeds; write a name, or NAME:3.")
        for row in TABLES.get(name, (name,)):
            if row not in METHODS and row not in BASES:
                known = ", ".join([*TABLES, *METHODS, *BASES])
                raise UserError(f"--rows {name}: there is no such row or table; choose of {known}.")
            wanted[row] = int(number or seeds)
    order = list(dict.fromkeys([row for table in TABLES.values() for row in table] + list(wanted)))
    for name in sorted(wanted, key=order.index):
        recipe = resolve(name, base if name in METHODS else None)
        if name in METHODS:
            recipe = with_steps(recipe, **lengths)
        yield Row(name, recipe, wanted[name])


def with_steps(
    recipe: Recipe, steps: int | None = None, sen_steps: int | None = None, warm_start_steps: int | None = None
) -> Recipe:
    """The recipe of a method with other numbers of steps; what takes none still takes none."""
    sen, rdg, warm_start = recipe.sen, recipe.rdg, recipe.beyond.warm_start
    assert rdg is not None  # `resolve` gives methods no other
    if sen_steps is not None and (sen.trainer.steps or sen.trainer.epochs):
        sen = replace(sen, trainer=replace(sen.trainer, steps=sen_steps, epochs=None))
    if steps is not None:
        rdg = replace(rdg, trainer=replace(rdg.trainer, steps=steps, epochs=None))
    if warm_start_steps is not None and warm_start.trains:
        warm_start = replace(warm_start, trainer=replace(warm_start.trainer, steps=warm_start_steps, epochs=None))
    return replace(recipe, sen=sen, rdg=rdg, beyond=replace(recipe.beyond, warm_start=warm_start))


def prepared(corpus: str, out: Path, rows: Sequence[Row], say: Callable[[str], None]) -> Path:
    """The prepared set; a built-in one is made in ``out`` at the size of the rows.

    Raises:
        UserError: there is none, or the rows want pictures of different sizes.
    """
    from s2igan.corpora.builtin import drawn
    from s2igan.corpora.registry import BUILT_IN, drawn_set
    from s2igan.run_directory import DATA

    sizes = {row.recipe.image_size: row.name for row in rows}
    if len(sizes) > 1:
        words = " and ".join(f"{name} {size} px" for size, name in sizes.items())
        raise UserError(f"the rows want pictures of different sizes ({words}), which cannot be compared; name others.")
    if Path(corpus).is_dir() or corpus not in BUILT_IN:
        return Path(corpus)
    data = out / DATA
    say(f"Preparing {corpus}")
    drawn.prepare(drawn_set(corpus), data, BUILT_IN[corpus].classes, size=next(iter(sizes)), say=say)
    return data


def pieces(plan: Plan) -> list[Piece]:
    """What is still to be done: what judges, then of each seed every stage 1, every warm start, and the rows. Seed by
    seed, so that a budget leaves whole tables."""
    found: dict[Path, Piece] = {}
    judges = plan.out / JUDGES

    def add(kind: str, title: str, row: Row, seed: int, makes: Path, *needs: Path | None) -> None:
        waits = frozenset(path for path in needs if path in found)
        found.setdefault(makes, Piece(kind, f"{title}, seed {seed}", row, seed, makes, waits))

    for seed in range(max(row.seeds for row in plan.rows)):
        todo = [row for row in plan.rows if seed < row.seeds and not plan.is_done(row, seed)]
        if todo and not judges.exists():
            add("judges", "what scores speech and attributes", todo[0], 0, judges)
        for row in todo:
            stage_1 = plan.stage_1(row, seed)
            if not _has(stage_1, "sen"):
                add("stage 1", f"stage 1 of {row.name}", row, seed, stage_1)
        for row in todo:
            warm_start = plan.warm_start(row, seed)
            if warm_start is not None and not _has(warm_start, "warm_start"):
                add("warm start", f"warm start of {row.name}", row, seed, warm_start, plan.stage_1(row, seed))
        for row in todo:
            kind = "row" if row.name in METHODS else row.name
            needs = judges, plan.stage_1(row, seed), plan.warm_start(row, seed)
            add(kind, row.name, row, seed, plan.run(row, seed), *needs)
    return list(found.values())


def do(plan: Plan, piece: Piece, device: str) -> None:
    """Trains what judges, a stage 1 or a warm start; or trains stage 2 of a row and scores it."""
    from s2igan.evaluation.evaluate import evaluate, prepare_judges
    from s2igan.training.train import train_run

    row, seed = piece.row, piece.seed
    given: dict[str, Any] = {"data": plan.data, "seed": seed, "device": device, "resume": True}
    given["cache"] = plan.out / "cache"
    shared, warm_start = plan.stage_1(row, seed), plan.warm_start(row, seed)
    if piece.kind == "judges":
        prepare_judges(plan.data, plan.options, device=device)
        atomic_write_json(piece.makes, asdict(plan.options))
    elif piece.kind == "stage 1":
        train_run(row.recipe, out=shared, stage="1", **given)
    elif piece.kind == "warm start":
        train_run(row.recipe, out=piece.makes, stage="warm start", sen_from=shared, **given)
    else:
        run = plan.run(row, seed)
        train_run(row.recipe, out=run, stage="2", sen_from=shared, warm_start_from=warm_start, **given)
        evaluate(run, plan.data, plan.options, device=device)
        atomic_write_json(run / DONE, asdict(plan.options))


class Clock:
    """Says whether there is time to begin something, by how long its like took, also in earlier sessions.

    Args:
        hours: from now; None is without end.
        record: a file with a line for each piece that was done.
    """

    def __init__(self, hours: float | None, record: Path) -> None:
        self._end = None if hours is None else time.monotonic() + 3600 * hours
        self._record = record
        self._longest: dict[str, float] = {}
        for line in record.read_text(encoding="utf-8").splitlines() if record.exists() else []:
            known = json.loads(line)
            self._note(known["kind"], known["seconds"])

    def allows(self, kind: str) -> bool:
        """Whether a piece of a kind would end in time; the first of a kind is begun as long as there is any."""
        return self._end is None or time.monotonic() + self._longest.get(kind, 0.0) < self._end

    def took(self, piece: Work, seconds: float) -> None:
        """Notes how long a piece took."""
        self._note(piece.kind, seconds)
        line = json.dumps({"kind": piece.kind, "title": piece.title, "seconds": round(seconds, 1)})
        with self._record.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def _note(self, kind: str, seconds: float) -> None:
        self._longest[kind] = max(seconds, self._longest.get(kind, 0.0))


def side_by_side(pieces: Sequence[AnyWork], devices: Sequence[str], work: Callable[[AnyWork, str], bool]) -> None:
    """Works on the pieces, one at a time on each device, always the first whose needs are made; the first failure is
    raised when all that was begun has ended.

    Args:
        work: returns whether a piece was done; those that need one that was not are left out.
    """
    waiting, missing = list(pieces), {piece.makes for piece in pieces}
    begun, failures, changed = 0, list[BaseException](), threading.Condition()

    def of_device(device: str) -> None:
        nonlocal begun
        while True:
            with changed:
                while (piece := next((p for p in waiting if not p.needs & missing), None)) is None and begun:
                    changed.wait()
                if piece is None or failures:
                    return
                waiting.remove(piece)
                begun += 1
            done = False
            try:
                done = work(piece, device)
            except BaseException as error:
                failures.append(error)
            with changed:
                begun -= 1
                if done:
                    missing.discard(piece.makes)
                changed.notify_all()

    if len(devices) == 1:
        of_device(devices[0])
    else:
        threads = [threading.Thread(target=of_device, args=(device,)) for device in devices]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]


def all_devices() -> tuple[str, ...]:
    """Every GPU, or else the CPU."""
    import torch

    return tuple(f"cuda:{number}" for number in range(torch.cuda.device_count())) or ("cpu",)


def write(plan: Plan, base: str) -> Path:
    """Writes page and JSON of what is done, and returns the page."""
    from s2igan.data.store import Store
    from s2igan.recipes import RECIPES
    from s2igan.report.reproduction import Line, write_results

    store = Store.open(plan.data)
    lines = []
    for row in plan.rows:
        done = [seed for seed in range(row.seeds) if plan.is_done(row, seed)]
        lines.append(
            Line(
                row.name,
                (RECIPES[row.name].__doc__ or row.name).strip().splitlines()[0],
                tuple(table for table, names in TABLES.items() if row.name in names),
                row.name in METHODS,
                row.seeds,
                {seed: plan.run(row, seed) for seed in done},
                {seed: plan.shared(row, seed) for seed in done},
                trains_stage_1=bool(row.recipe.sen.trainer.steps or row.recipe.sen.trainer.epochs),
            )
        )
    facts = {"data": {"name": store.directory.resolve().name, "fingerprint": store.fingerprint}, "base": base}
    return write_results(plan.out, lines, facts)


def _has(run: Path, part: str) -> bool:
    """Whether a run has finished a part, which then has a folder of its own."""
    return (run / part).is_dir()


def _key(settings: Any) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]


def _begin(plan: Plan, base: str, lengths: Mapping[str, int | None]) -> None:
    """Writes what OUT is begun with, or compares it; rows and seeds may be added.

    Raises:
        UserError: it was begun with another base recipe, set or number of steps.
    """
    from s2igan.data.store import Store

    store = Store.open(plan.data)
    asked = {"base": base, **lengths, "store": store.fingerprint}
    file = plan.out / SETTINGS
    if not file.exists():
        atomic_write_json(file, asked)
        return
    known = json.loads(file.read_text(encoding="utf-8"))
    if differ := [name for name, value in asked.items() if known.get(name) != value]:
        raise UserError(
            f"{plan.out}: was begun with another {' and '.join(differ)}, and rows would not be on equal terms; give "
            "the same options, or choose another --out."
        )


def _json(values: Any) -> Any:
    """As it is read back."""
    return json.loads(json.dumps(values))
