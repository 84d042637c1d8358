"""The paper's tables on any prepared set: every row is trained and scored on equal terms, with several seeds.

Rows with the same stage 1 share it, seed by seed. Rows with the same base recipe have the same steps, batches and
noise. The test split is looked at once: a row that was scored is not scored again. What is finished stays in OUT, so
that the same command goes on where it was interrupted, or where its budget ended:

    OUT/data/                 a built-in set, prepared for the rows
    OUT/stage-1/KEY-SEED/     a stage 1 that rows share
    OUT/rows/ROW-SEED/        a run, with its evaluation
    OUT/reproduction.json, OUT/reproduction.html
"""

from __future__ import annotations

import hashlib
import json
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from s2igan.errors import UserError
from s2igan.evaluation.options import EvaluationOptions
from s2igan.files import atomic_write_json
from s2igan.recipes import BASES, METHODS, METHODS_ON, resolve
from s2igan.training.recipe import Recipe

TABLES = {
    "table1": ("li2020", "stackgan-v2-text", "stackgan-v2-speech", "s2igan"),
    "ablations": ("s2igan", "no-dense", "no-rs", "no-sen", "end-to-end", "no-distinctive"),
}
"""The paper's Table 1 and its ablations, by the names of their rows."""
SETTINGS, DONE = "reproduction-settings.json", ".reproduced.json"
"""What OUT was begun with; and the mark of a scored run."""


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
        settings = json.dumps(asdict(row.recipe.sen), sort_keys=True)
        return self.out / "stage-1" / f"{hashlib.sha256(settings.encode()).hexdigest()[:8]}-{seed}"

    def run(self, row: Row, seed: int) -> Path:
        """The run of a row."""
        return self.out / "rows" / f"{re.sub(r'[^a-z0-9-]+', '-', row.name)}-{seed}"

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


@dataclass(frozen=True)
class Piece:
    """Work that is done without a break: stage 1 of a seed, or the rest of a row and its scores."""

    kind: str
    """`stage 1` or `row`."""
    title: str
    row: Row
    seed: int


def reproduce(
    corpus: str,
    out: str | Path,
    *,
    rows: str = "table1,ablations",
    seeds: int = 1,
    base: str = METHODS_ON,
    steps: int | None = None,
    sen_steps: int | None = None,
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
        budget_hours: nothing is begun that would end later, by how long its like took.
        options: how rows are scored.
        devices: where to compute; with several, rows are trained side by side. All GPUs unless given, or else the CPU.
        say: is told sentences that a user should read.

    Raises:
        UserError: a row, a recipe or the set is unknown, or ``out`` was begun with others.
    """
    out = Path(out)
    asked = tuple(named_rows(rows, seeds, base, steps=steps, sen_steps=sen_steps))
    data = prepared(corpus, out, asked, say)
    plan = Plan(data, out, asked, options)
    _begin(plan, base, steps, sen_steps)
    where = tuple(devices) or all_devices()
    clock, writing = Clock(budget_hours), threading.Lock()
    for title, pieces in phases(plan):
        if pieces:
            say(f"{title}: {len(pieces)} to do")

        def work(piece: Piece, device: str) -> None:
            if not clock.allows(piece.kind):
                return
            say(f"{piece.title} ({device})")
            started = time.monotonic()
            (_elsewhere if len(where) > 1 else do)(plan, piece, device)
            clock.took(piece.kind, time.monotonic() - started)
            with writing:
                write(plan, base)

        side_by_side(pieces, where, work)
    page = write(plan, base)
    left = [piece.title for _, pieces in phases(plan) for piece in pieces]
    if left:
        say(f"The budget ended with {len(left)} to do ({', '.join(left)}); the same command goes on.")
    return page


def named_rows(
    words: str, seeds: int, base: str, *, steps: int | None = None, sen_steps: int | None = None
) -> Iterator[Row]:
    """The rows that a user names, in the order of the tables; UserError where one is unknown."""
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
            recipe = with_steps(recipe, steps, sen_steps)
        yield Row(name, recipe, wanted[name])


def with_steps(recipe: Recipe, steps: int | None, sen_steps: int | None) -> Recipe:
    """The recipe of a method with other numbers of steps; a stage 1 that takes none still takes none."""
    sen, rdg = recipe.sen, recipe.rdg
    assert rdg is not None  # `resolve` gives methods no other
    if sen_steps is not None and (sen.trainer.steps or sen.trainer.epochs):
        sen = replace(sen, trainer=replace(sen.trainer, steps=sen_steps, epochs=None))
    if steps is not None:
        rdg = replace(rdg, trainer=replace(rdg.trainer, steps=steps, epochs=None))
    return replace(recipe, sen=sen, rdg=rdg)


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


def phases(plan: Plan) -> Iterator[tuple[str, list[Piece]]]:
    """What is still to be done, seed by seed, so that a budget leaves whole tables: every stage 1, then the rows."""
    for seed in range(max(row.seeds for row in plan.rows)):
        todo = [row for row in plan.rows if seed < row.seeds and not plan.is_done(row, seed)]
        first: dict[Path, Piece] = {}
        for row in todo:
            folder = plan.stage_1(row, seed)
            if not _has_stage_1(folder):
                first.setdefault(folder, Piece("stage 1", f"stage 1 of {row.name}, seed {seed}", row, seed))
        yield f"Stage 1, seed {seed}", list(first.values())
        yield f"Rows, seed {seed}", [Piece("row", f"{row.name}, seed {seed}", row, seed) for row in todo]


def do(plan: Plan, piece: Piece, device: str) -> None:
    """Trains stage 1; or trains stage 2 of a row and scores it."""
    from s2igan.evaluation.evaluate import evaluate
    from s2igan.training.train import train_run

    shared = plan.stage_1(piece.row, piece.seed)
    given: dict[str, Any] = {"data": plan.data, "seed": piece.seed, "device": device, "resume": True}
    if piece.kind == "stage 1":
        train_run(piece.row.recipe, out=shared, stage="1", **given)
        return
    if not _has_stage_1(shared):
        return  # the budget ended before it
    run = plan.run(piece.row, piece.seed)
    train_run(piece.row.recipe, out=run, stage="2", sen_from=shared, **given)
    evaluate(run, plan.data, plan.options, device=device)
    atomic_write_json(run / DONE, asdict(plan.options))


class Clock:
    """Says whether there is time to begin something, by how long its like took."""

    def __init__(self, hours: float | None) -> None:
        self._end = None if hours is None else time.monotonic() + 3600 * hours
        self._longest: dict[str, float] = {}

    def allows(self, kind: str) -> bool:
        """Whether a piece of a kind would end in time; the first of a kind is begun as long as there is any."""
        return self._end is None or time.monotonic() + self._longest.get(kind, 0.0) < self._end

    def took(self, kind: str, seconds: float) -> None:
        """Notes how long a piece took."""
        self._longest[kind] = max(seconds, self._longest.get(kind, 0.0))


def side_by_side(pieces: Sequence[Piece], devices: Sequence[str], work: Callable[[Piece, str], None]) -> None:
    """Works on the pieces in their order, one at a time on each device; the first failure is raised when all that was
    begun has ended."""
    todo: queue.SimpleQueue[Piece] = queue.SimpleQueue()
    for piece in pieces:
        todo.put(piece)
    failures: list[BaseException] = []

    def of_device(device: str) -> None:
        while not failures:
            try:
                piece = todo.get_nowait()
            except queue.Empty:
                return
            try:
                work(piece, device)
            except BaseException as error:
                failures.append(error)

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


def _elsewhere(plan: Plan, piece: Piece, device: str) -> None:
    """In a process of its own: random states, precision and locks belong to a process."""
    import multiprocessing

    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        pool.submit(do, plan, piece, device).result()


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
                {seed: plan.stage_1(row, seed) for seed in done},
            )
        )
    facts = {"data": {"name": store.directory.resolve().name, "fingerprint": store.fingerprint}, "base": base}
    return write_results(plan.out, lines, facts)


def _has_stage_1(run: Path) -> bool:
    from s2igan.run_directory import SEN_FOLDER

    return (run / SEN_FOLDER).is_dir()


def _begin(plan: Plan, base: str, steps: int | None, sen_steps: int | None) -> None:
    """Writes what OUT is begun with, or compares it; rows and seeds may be added.

    Raises:
        UserError: it was begun with another base recipe, set or number of steps.
    """
    from s2igan.data.store import Store

    store = Store.open(plan.data)
    asked = {"base": base, "steps": steps, "sen_steps": sen_steps, "store": store.fingerprint}
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
