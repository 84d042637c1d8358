"""The prepared store: every log-mel and every picture of a corpus, ready to be read without decoding or copying.

`build_store` writes, beside the manifest, `store/`:

- `mels-00000.safetensors` ...: `mels` float16 (frames, 40), `offsets` int64 (items + 1), and `rows` int32 (items):
  which of the 1,024 manifest rows of this shard each item is;
- `images-00000.safetensors` ...: `images` uint8 (items, S, S, 3), S = 76/64 of the training size (room for random
  crops), and `rows`, which of the 512 different pictures of this shard;
- `index.parquet` (one row per utterance), `images.parquet` (one row per picture), `report.json`;

and `rejected.jsonl` beside it. The header of a shard holds a key: a hash of the manifest rows that it was made from,
the sizes of their files and the settings. A build that was killed goes on where it stopped, since whole shards with
the right key that are newer than their sources are kept; and machines that build different shards into one folder
(`part`) need not speak to each other. The bytes written depend on the corpus and the settings only, not on the number
of processes.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import cached_property
from operator import index
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex

import numpy as np
from jaxtyping import Float16, Int8, Int32, Int64, UInt8

from s2igan.data.images import Box, load_image
from s2igan.data.manifest import SPLITS, Utterance, check_rows, iter_manifest, split_name
from s2igan.data.text_embeddings import TextEmbeddings
from s2igan.errors import UserError
from s2igan.files import abandoned, atomic_write, atomic_write_json, disk_errors
from s2igan.words import counted

if TYPE_CHECKING:
    import pyarrow as pa

VERSION = 1  # of everything written here; another version is refused
MEL_SHARD_ITEMS = 1024  # utterances; 37 MB of 4 s sentences
IMAGE_SHARD_ITEMS = 512  # pictures; 9 MB at 76 px, 142 MB at 304 px
PIECE_ITEMS = 48  # of a shard, made by a process at a time: few enough that none idles while another ends its last
CROP_MARGIN = 76 / 64  # stored over training size (SPEC section 3: resize 304, random crop 256)
MAX_REJECTED = 0.2  # of the manifest's rows
MAX_IMAGE_SIZE = 1024  # pixels; a shard of such pictures takes 2.3 GB of memory while it is made

STORE, REJECTED, REPORT = "store", "rejected.jsonl", "report.json"
INDEX, IMAGES = "index.parquet", "images.parquet"
HEADER = "s2igan"  # the one entry in the header of a shard; safetensors writes several in random order

Kind = Literal["images", "mels"]


def stored_size(image_size: int) -> int:
    """Side in pixels of the stored pictures for training at `image_size`."""
    return round(image_size * CROP_MARGIN)


# ------------------------------------------------------------------------------------------------------------- building


def build_store(
    manifest_path: str | Path,
    out: str | Path | None = None,
    *,
    image_size: int = 64,
    window: Literal["hann", "hamming"] = "hann",
    boxes: Mapping[str, Box] | None = None,
    min_seconds: float = 0.0,
    left_out: Sequence[Mapping[str, str]] = (),
    jobs: int | None = None,
    progress: bool = True,
    allow_rejected: bool = False,
    part: tuple[int, int] | None = None,
    mel_shard_items: int = MEL_SHARD_ITEMS,
    image_shard_items: int = IMAGE_SHARD_ITEMS,
) -> dict[str, Any]:
    """Write the store of a manifest under `out` (its own folder unless given) and return the report.

    Args:
        manifest_path: the manifest; it and the files it names are only read.
        image_size: side in pixels of the training images; 76/64 of it is stored.
        window: of the log-mel (SPEC section 8, line 1).
        boxes: bounding boxes by image path, for corpora that have them.
        min_seconds: shorter utterances are rejected.
        left_out: `path` and `reason` of what the corpus holds and the manifest leaves out; it is named and counted
            with what is rejected here.
        jobs: processes of one thread each; as many as there are usable cores unless given.
        progress: show a progress bar.
        allow_rejected: go on where over 20 % of the rows cannot be used.
        part: (i, n), 1 <= i <= n: write only the i-th of every n shards, for n machines that share one folder. The
            one that finds all shards finished writes the index; the report of the others says `complete: false`.

    Raises:
        UserError: if the manifest cannot be used, too much of it is rejected, or the disk is full; finished shards
        stay.
    """
    manifest_path = Path(manifest_path)
    root = manifest_path.parent
    out = root if out is None else Path(out)
    if not 1 <= image_size <= MAX_IMAGE_SIZE:
        raise UserError(
            f"The image size {image_size} must be from 1 to {MAX_IMAGE_SIZE} pixels; 64 is usual, 256 the paper's."
        )
    if part is not None and not 1 <= part[0] <= part[1]:
        raise UserError(f"The shard {part[0]}/{part[1]} does not exist; count from 1/{part[1]} to {part[1]}/{part[1]}.")
    corpus = _Corpus.read(manifest_path)

    store = out / STORE
    with disk_errors(store):
        store.mkdir(parents=True, exist_ok=True)
        (store / REPORT).unlink(missing_ok=True)  # written last: without it, what is here is unfinished
        for temporary in store.glob(".*.tmp"):
            if abandoned(temporary):
                temporary.unlink(missing_ok=True)

    def tasks(kind: Kind, items: list[_Item], size: int) -> list[_Task]:
        setting = stored_size(image_size) if kind == "images" else window
        shares = [tuple(items[at : at + size]) for at in range(0, len(items), size)]
        least = min_seconds if kind == "mels" else 0.0
        return [_Task(root, store, kind, number, share, setting, least) for number, share in enumerate(shares)]

    boxes = boxes or {}
    image_tasks = tasks("images", [_Item(path, box=boxes.get(path)) for path in corpus.pictures], image_shard_items)
    mel_items = [_Item(row.audio, row.start_seconds, row.end_seconds) for row in corpus.rows]
    mel_tasks = tasks("mels", mel_items, mel_shard_items)
    every_task = image_tasks + mel_tasks
    mine = every_task if part is None else every_task[part[0] - 1 :: part[1]]
    _build_shards(mine, jobs or len(os.sched_getaffinity(0)), progress)

    images, mels = _read_finished(image_tasks), _read_finished(mel_tasks)
    missing = sum(shard is None for shard in images + mels)
    if missing:
        return {"complete": False, "shards": len(every_task), "shards_missing": missing}
    settings = {"image_size": image_size, "stored_size": stored_size(image_size), "window": window}
    return _write_index(
        out,
        corpus,
        _Entries.of([shard for shard in images if shard], image_shard_items, len(corpus.pictures)),
        _Entries.of([shard for shard in mels if shard], mel_shard_items, len(corpus.rows)),
        settings,
        left_out,
        allow_rejected,
    )


@dataclass
class _Corpus:
    """The usable rows of a manifest."""

    manifest_path: Path
    lines: list[int]
    rows: list[Utterance]
    pictures: list[str]
    """Every different image, in the order of first appearance."""
    rejected: list[dict[str, Any]]
    n_rows: int
    """With the rejected ones."""

    @classmethod
    def read(cls, path: Path) -> _Corpus:
        lines, rows, rejected = [], [], []
        first_line: dict[tuple[Any, ...], int] = {}
        n_rows = 0
        for line, row in iter_manifest(path):
            n_rows += 1
            if isinstance(row, UserError):
                reason = str(row).removeprefix(str(path)).partition(": ")[2]
                rejected.append({"line": line, "path": path.name, "reason": reason})
                continue
            same = first_line.setdefault((row.recording, row.image), line)
            if same != line:
                reason = f"the same recording and image as line {same}"
                rejected.append({"line": line, "path": row.audio, "reason": reason})
                continue
            lines.append(line)
            rows.append(row)
        check_rows(zip(lines, rows, strict=True), path)
        return cls(path, lines, rows, list(dict.fromkeys(row.image for row in rows)), rejected, n_rows)


@dataclass(frozen=True)
class _Item:
    """What one entry of a shard is made from; all of it enters the shard's key."""

    path: str
    start_seconds: float | None = None
    end_seconds: float | None = None
    box: Box | None = None


@dataclass(frozen=True)
class _Task:
    """One shard to write, in whatever process."""

    root: Path
    store: Path
    kind: Kind
    number: int
    items: tuple[_Item, ...]
    setting: int | str
    """Side of the stored images in pixels, or the window of the log-mels."""
    min_seconds: float = 0.0
    """Of utterances."""

    @property
    def target(self) -> Path:
        return self.store / shard_name(self.kind, self.number)

    def pieces(self) -> list[_Task]:
        """The same in parts."""
        return [replace(self, items=self.items[at : at + PIECE_ITEMS]) for at in range(0, len(self.items), PIECE_ITEMS)]

    def key_and_time(self) -> tuple[str, float]:
        """The shard's key, and when any of its files last changed (seconds)."""
        newest, described = 0.0, []
        for item in self.items:
            size = None
            try:
                status = os.stat(self.root / item.path)
                size, newest = status.st_size, max(newest, status.st_mtime)
            except OSError:
                pass  # will be rejected, or has been; when the file appears the key changes
            described.append([item.path, item.start_seconds, item.end_seconds, item.box, size])
        least = [self.min_seconds] if self.min_seconds else []
        key = json.dumps([VERSION, self.kind, self.setting, *least, described])
        return hashlib.sha256(key.encode()).hexdigest(), newest

    def finished(self) -> bool:
        """Whether the shard is there, whole, and made from the files as they are now."""
        try:
            written = self.target.stat().st_mtime
            key, newest = self.key_and_time()
            return written >= newest and _header(self.target)["key"] == key
        except (OSError, UserError):
            return False


@dataclass(frozen=True)
class _Shard:
    """What the index has to know of a finished shard."""

    rows: Int32[np.ndarray, " items"]
    offsets: Int64[np.ndarray, " bounds"]
    rejected: dict[int, str]


def shard_name(kind: Kind, number: int) -> str:
    """`images-00000.safetensors` and the like."""
    return f"{kind}-{number:05d}.safetensors"


def _header(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            return json.loads((file.metadata() or {})[HEADER])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> UserError:
    what = "is missing" if isinstance(error, FileNotFoundError) else f"is damaged ({error})"
    return UserError(f"{path}: this part of the prepared store {what}; run 's2igan prepare' again, it mends only that.")


def _read_finished(tasks: Sequence[_Task]) -> list[_Shard | None]:
    from safetensors import safe_open

    shards: list[_Shard | None] = []
    for task, finished in zip(tasks, _parallel_finished(tasks), strict=True):
        if not finished:
            shards.append(None)
            continue
        with safe_open(task.target, framework="np") as file:
            rows = file.get_tensor("rows")
            offsets = file.get_tensor("offsets") if task.kind == "mels" else np.arange(len(rows) + 1)
        rejected = {int(row): reason for row, reason in _header(task.target)["rejected"].items()}
        shards.append(_Shard(rows, offsets, rejected))
    return shards


def _parallel_finished(tasks: Sequence[_Task]) -> list[bool]:
    """Threads, since on a network disk asking for the sizes of a million files is waiting."""
    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(_Task.finished, tasks))


def _build_shards(tasks: Sequence[_Task], jobs: int, progress: bool) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    finished = _parallel_finished(tasks)
    todo = [task for task, is_finished in zip(tasks, finished, strict=True) if not is_finished]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not progress) as bar:
        bars = {}
        for kind, words in (("images", "decoding images"), ("mels", "log-mels of the speech")):
            total = sum(len(task.items) for task in tasks if task.kind == kind)
            left = sum(len(task.items) for task in todo if task.kind == kind)
            bars[kind] = bar.add_task(words, total=total, completed=total - left)
        for task in _written(todo, min(jobs, sum(len(task.pieces()) for task in todo))):
            bar.advance(bars[task.kind], len(task.items))


def _written(tasks: Sequence[_Task], jobs: int) -> Iterator[_Task]:
    """Write the shards in `jobs` processes; each task as it is done, in any order."""
    if jobs <= 1:
        for task in tasks:
            _write_shard(task)
            yield task
        return
    # Spawned, not forked: torch's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_start_worker)
    begun: deque[tuple[_Task, str, list[Future[_Made]]]] = deque()
    later = iter(tasks)
    try:
        while True:
            # Shards are begun while too little is left to do for the time that this process joins and writes one.
            while len(begun) < 2 or sum(not piece.done() for _, _, pieces in begun for piece in pieces) < 2 * jobs:
                if (following := next(later, None)) is None:
                    break
                key, _ = following.key_and_time()  # before the files are read
                begun.append((following, key, [pool.submit(_make, piece) for piece in following.pieces()]))
            if not begun:
                return
            task, key, pieces = begun.popleft()
            _save(task, key, _joined(task, [piece.result() for piece in pieces]))
            del pieces
            yield task
    except BrokenProcessPool as error:
        raise UserError(
            "A process that prepares the store was killed, often for want of memory; run the same command again with "
            "fewer --jobs, it goes on where it stopped."
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    """No traceback on Ctrl-C, which the parent handles, and no life after the parent's death."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


_Made = tuple[dict[str, np.ndarray], dict[int, str]]
"""The tensors of a shard, and why some of its items are not in it."""


def _write_shard(task: _Task) -> None:
    key, _ = task.key_and_time()
    _save(task, key, _make(task))


def _make(task: _Task) -> _Made:
    return _log_mels(task) if task.kind == "mels" else _decoded_images(task)


def _joined(task: _Task, pieces: Sequence[_Made]) -> _Made:
    """The shard whose pieces, in order, are these."""
    at, rows, rejected = 0, [], {}
    for (made, why_not), piece in zip(pieces, task.pieces(), strict=True):
        rows.append(made["rows"] + np.int32(at))
        rejected.update({at + row: reason for row, reason in why_not.items()})
        at += len(piece.items)
    tensors = {task.kind: np.concatenate([made[task.kind] for made, _ in pieces]), "rows": np.concatenate(rows)}
    if task.kind == "mels":
        lengths = np.concatenate([np.diff(made["offsets"]) for made, _ in pieces])
        tensors["offsets"] = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return tensors, rejected


def _save(task: _Task, key: str, made: _Made) -> None:
    import safetensors.numpy

    tensors, rejected = made
    header = json.dumps({"key": key, "rejected": rejected}, ensure_ascii=False)
    with atomic_write(task.target) as file:
        file.write(safetensors.numpy.save(tensors, metadata={HEADER: header}))


def _reason(error: UserError, path: Path, item: _Item) -> str:
    """Without the path, which stands beside it, and without where the corpus lies."""
    return str(error).removeprefix(f"{path}: ").replace(str(path), item.path)


def _decoded_images(task: _Task) -> tuple[dict[str, np.ndarray], dict[int, str]]:
    size = int(task.setting)
    pixels = np.empty((len(task.items), size, size, 3), np.uint8)
    rows: list[int] = []
    rejected = {}
    for row, item in enumerate(task.items):
        path = task.root / item.path
        try:
            pixels[len(rows)] = load_image(path, size, item.box)
        except UserError as error:
            rejected[row] = _reason(error, path, item)
            continue
        rows.append(row)
    return {"images": pixels[: len(rows)], "rows": np.array(rows, np.int32)}, rejected


def _log_mels(task: _Task) -> tuple[dict[str, np.ndarray], dict[int, str]]:
    import torch

    from s2igan.audio import N_MELS, check_seconds, load_audio, log_mel

    mels = [np.empty((0, N_MELS), np.float16)]
    rows: list[int] = []
    offsets, rejected = [0], {}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # two processes with two threads each on two cores are ten times slower, not faster
    try:
        for row, item in enumerate(task.items):
            path = task.root / item.path
            try:
                wave = load_audio(path, item.start_seconds, item.end_seconds)
                check_seconds(wave, task.min_seconds, str(path))
            except UserError as error:
                rejected[row] = _reason(error, path, item)
                continue
            mel = log_mel(torch.from_numpy(wave), window=task.setting).half().numpy()  # type: ignore[arg-type]
            mels.append(mel)
            rows.append(row)
            offsets.append(offsets[-1] + len(mel))
    finally:
        torch.set_num_threads(threads)
    tensors: dict[str, np.ndarray] = {
        "mels": np.concatenate(mels),
        "offsets": np.array(offsets, np.int64),
        "rows": np.array(rows, np.int32),
    }
    return tensors, rejected


# ------------------------------------------------------------------------------------------------------------ the index


@dataclass(frozen=True)
class _Entries:
    """Where each item of one kind lies; shard -1 where it was rejected."""

    n_shards: int
    shard: Int32[np.ndarray, " items"]
    offset: Int64[np.ndarray, " items"]
    length: Int32[np.ndarray, " items"]
    rejected: dict[int, str]

    @classmethod
    def of(cls, shards: Sequence[_Shard], shard_items: int, n_items: int) -> _Entries:
        number = np.full(n_items, -1, np.int32)
        offset, length = np.zeros(n_items, np.int64), np.zeros(n_items, np.int32)
        rejected = {}
        for i, shard in enumerate(shards):
            items = i * shard_items + shard.rows
            number[items], offset[items], length[items] = i, shard.offsets[:-1], np.diff(shard.offsets)
            rejected.update({i * shard_items + row: reason for row, reason in shard.rejected.items()})
        return cls(len(shards), number, offset, length, rejected)


def _write_index(
    out: Path,
    corpus: _Corpus,
    images: _Entries,
    mels: _Entries,
    settings: dict[str, Any],
    left_out: Sequence[Mapping[str, str]],
    allow_rejected: bool,
) -> dict[str, Any]:
    number_of = {path: i for i, path in enumerate(corpus.pictures)}
    image_of_row = np.array([number_of[row.image] for row in corpus.rows], np.int32)
    rejected = list(corpus.rejected)
    for i, (line, row) in enumerate(zip(corpus.lines, corpus.rows, strict=True)):
        if i in mels.rejected:
            rejected.append({"line": line, "path": row.audio, "reason": mels.rejected[i]})
        if image_of_row[i] in images.rejected:
            rejected.append({"line": line, "path": row.image, "reason": images.rejected[int(image_of_row[i])]})
    rejected.sort(key=lambda record: record["line"])
    n_rows, n_rejected = corpus.n_rows + len(left_out), len({record["line"] for record in rejected}) + len(left_out)
    write_rejected(out, [*left_out, *rejected])
    if n_rejected - len(left_out) == corpus.n_rows or not (allow_rejected or n_rejected <= MAX_REJECTED * n_rows):
        raise too_many_rejected(out, corpus.manifest_path, [*rejected, *left_out], n_rejected, n_rows)

    kept = np.flatnonzero((mels.shard >= 0) & (images.shard[image_of_row] >= 0))
    rows = [corpus.rows[i] for i in kept]
    pictures, image_index = np.unique(image_of_row[kept], return_inverse=True)
    first_row = [rows[i] for i in np.unique(image_index, return_index=True)[1]]
    shards = {
        name: (out / STORE / name).stat().st_size
        for kind, entries in (("images", images), ("mels", mels))
        for name in (shard_name(kind, number) for number in range(entries.n_shards))  # type: ignore[arg-type]
    }
    for path in (out / STORE).glob("*.safetensors"):
        if path.name not in shards:
            path.unlink()  # of an earlier, larger manifest
    values: dict[str, set[str]] = {}
    for row in first_row:
        for name, value in row.attributes.items():
            values.setdefault(name, set()).add(value)
    report = {
        "version": VERSION,
        "complete": True,
        "manifest": corpus.manifest_path.name,
        "corpus": os.path.relpath(corpus.manifest_path.parent, out),
        **settings,
        "rows": n_rows,
        "rejected": n_rejected,
        "attributes": {name: sorted(found) for name, found in sorted(values.items())},
        "shards": shards,
    }
    write_index(
        out,
        {
            "image": image_index.astype(np.int32),
            "shard": mels.shard[kept],
            "offset": mels.offset[kept],
            "n_frames": mels.length[kept],
            "split": [row.split for row in rows],
            "speaker": [row.speaker for row in rows],
            "language": [row.language for row in rows],
            "audio": [row.audio for row in rows],
            "start_seconds": [row.start_seconds for row in rows],
            "end_seconds": [row.end_seconds for row in rows],
            "text": [row.text for row in rows],
            "mentions": [row.mentions for row in rows],
        },
        {
            "path": [row.image for row in first_row],
            "class": [row.class_name for row in first_row],
            "shard": images.shard[pictures],
            "row": images.offset[pictures],
            "attributes": [json.dumps(dict(row.attributes), ensure_ascii=False) for row in first_row],
        },
        report,
    )
    report = Store.open(out).report
    atomic_write_json(out / STORE / REPORT, report)
    return report


def write_rejected(out: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """`rejected.jsonl`: what is not in the store, and why; UserError if the disk is full."""
    with atomic_write(out / REJECTED) as file:
        file.writelines((json.dumps(record, ensure_ascii=False) + "\n").encode() for record in records)


def too_many_rejected(
    out: Path, manifest_path: Path, rejected: Sequence[Mapping[str, Any]], n_rejected: int, n_rows: int
) -> UserError:
    """What to raise where so much is rejected that there must be a reason."""
    record = rejected[0]
    where = f"on line {record['line']} ({record['path']}" if "line" in record else f"({record['path']}"
    remedy = "mend them" if n_rejected == n_rows else "mend them, or allow it with --allow-rejected"
    return UserError(
        f"{manifest_path}: {n_rejected} of {n_rows} utterances cannot be used, the first {where}: "
        f"{record['reason'].rstrip('.')}); {out / REJECTED} names all, {remedy}."
    )


def write_index(out: Path, utterances: dict[str, Any], images: dict[str, Any], report: dict[str, Any]) -> None:
    """Write the two tables, from columns of equal length, and last the report, with which the store is complete.

    Raises:
        UserError: if the disk is full.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    word = pa.dictionary(pa.int32(), pa.string())
    schemas = {
        INDEX: (
            utterances,
            {
                "image": pa.int32(),
                "shard": pa.int32(),
                "offset": pa.int64(),
                "n_frames": pa.int32(),
                "split": word,
                "speaker": word,
                "language": word,
                "audio": pa.large_string(),
                "start_seconds": pa.float64(),
                "end_seconds": pa.float64(),
                "text": pa.large_string(),
                "mentions": pa.list_(pa.string()),
            },
        ),
        IMAGES: (
            images,
            {
                "path": pa.large_string(),
                "class": word,
                "shard": pa.int32(),
                "row": pa.int32(),
                "attributes": pa.large_string(),
            },
        ),
    }
    for name, (columns, types) in schemas.items():
        table = pa.table({column: pa.array(columns[column], kind) for column, kind in types.items()})
        with atomic_write(out / STORE / name) as file:
            pq.write_table(table, file)
    atomic_write_json(out / STORE / REPORT, report)


# -------------------------------------------------------------------------------------------------------------- reading


class Store:
    """A prepared corpus, opened for reading. Utterances and pictures are numbered from 0, in the order of the manifest.

    Columns are numpy or Arrow arrays and shards are mapped into memory when first touched, so that opening costs
    little and processes share one copy of the data. A store may be pickled: the other process opens it again.
    """

    def __init__(self, directory: Path, report: dict[str, Any], utterances: pa.Table, images: pa.Table) -> None:
        """Use `Store.open`."""
        self.directory = directory
        self._stored_report = report
        self.corpus_root = directory / report["corpus"]
        """The folder that the paths of the manifest are relative to."""
        self.image_size: int = report["image_size"]
        """Side in pixels of the training images; those stored are 76/64 of it."""
        self.window: str = report["window"]

        self.image_index: Int32[np.ndarray, " utterances"] = utterances["image"].to_numpy()
        """The picture that each utterance describes."""
        self.n_frames: Int32[np.ndarray, " utterances"] = utterances["n_frames"].to_numpy()
        self._mel_shard, self._mel_offset = utterances["shard"].to_numpy(), utterances["offset"].to_numpy()
        split, names = _codes(utterances["split"])
        order = np.array([SPLITS.index(name) for name in names] + [-1], np.int8)
        self.split: Int8[np.ndarray, " utterances"] = order[split]
        """Position in `SPLITS` of each utterance's split, -1 where it has none."""
        self.speaker_index, self.speakers = _codes(utterances["speaker"])
        """Position in `speakers`, -1 where unknown."""
        self._language, self.languages = _codes(utterances["language"])
        self._audio, self._texts, self._mentions, self._start, self._end = (
            utterances[name] for name in ("audio", "text", "mentions", "start_seconds", "end_seconds")
        )

        label, self.classes = _codes(images["class"])
        self.has_classes = bool(self.classes)
        self.image_class: Int32[np.ndarray, " images"] = (
            label if self.has_classes else np.arange(images.num_rows, dtype=np.int32)
        )
        """Position in `classes` of each picture's class; without classes every picture is its own (SPEC section 5)."""
        self._image_path, self._attributes = images["path"], images["attributes"]
        store = directory / STORE
        self._mels = _MappedShards(store, "mels")
        self.images = StoredImages(
            _MappedShards(store, "images"), images["shard"].to_numpy(), images["row"].to_numpy(), report["stored_size"]
        )
        """All pictures, as one array-like of uint8 (images, S, S, 3)."""

    @classmethod
    def open(cls, directory: str | Path) -> Store:
        """Open what `build_store` wrote under `directory`.

        Raises:
            UserError: naming the file, if there is no finished store, it is of another version, or a file of it is
                missing or has another size than was written.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        directory = Path(directory)
        store = directory / STORE
        try:
            report = json.loads((store / REPORT).read_text(encoding="utf-8"))
            version, shards = report["version"], report["shards"]
        except (FileNotFoundError, NotADirectoryError):
            raise UserError(f"{directory}: no finished store is here; run 's2igan prepare' for it first.") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _damaged(store / REPORT, error) from error
        if version != VERSION:
            raise UserError(
                f"{store / REPORT}: the store is of version {version} and this program reads version {VERSION}; run "
                "'s2igan prepare' again."
            )
        with os.scandir(store) as entries:
            found = {entry.name: entry.stat().st_size for entry in entries}
        for name, size in shards.items():
            if name not in found:
                raise _damaged(store / name, FileNotFoundError())
            if found[name] != size:
                raise _damaged(store / name, ValueError(f"{found[name]:,} bytes where {size:,} were written"))
        tables = []
        for name in (INDEX, IMAGES):
            try:
                tables.append(pq.read_table(store / name))
            except (pa.ArrowException, OSError) as error:
                raise _damaged(store / name, error) from error
        return cls(directory, report, *tables)

    def __reduce__(self) -> tuple[Any, ...]:
        return Store.open, (self.directory,)

    def __len__(self) -> int:
        """Number of utterances."""
        return len(self.image_index)

    @property
    def n_images(self) -> int:
        return len(self.image_class)

    @cached_property
    def class_index(self) -> Int32[np.ndarray, " utterances"]:
        """The class of the picture that each utterance describes."""
        return self.image_class[self.image_index]

    def mel(self, utterance: SupportsIndex) -> Float16[np.ndarray, "frames 40"]:
        """The normalised log-mel, read-only and not copied."""
        offset = self._mel_offset[utterance]
        return self._mels[int(self._mel_shard[utterance])][offset : offset + self.n_frames[utterance]]

    def split_indices(self, split: str) -> Int64[np.ndarray, " selected"]:
        """The utterances of a split, ascending.

        Raises:
            UserError: if there is no such word for a split.
        """
        try:
            number = SPLITS.index(split_name(split))
        except ValueError as error:
            raise UserError(f"{self.directory}: {error}.") from error
        return np.flatnonzero(self.split == number)

    def text(self, utterance: SupportsIndex) -> str | None:
        """The words spoken, where known."""
        return self._texts[index(utterance)].as_py()

    @cached_property
    def text_embeddings(self) -> TextEmbeddings:
        """Published embeddings of the captions, where `s2igan prepare` was asked for them; UserError where not."""
        return TextEmbeddings.open(self.directory)

    def mentions(self, utterance: SupportsIndex) -> tuple[str, ...]:
        """The names of the attributes that the utterance states."""
        return tuple(self._mentions[index(utterance)].as_py() or ())

    def speaker(self, utterance: SupportsIndex) -> str | None:
        code = self.speaker_index[utterance]
        return None if code < 0 else self.speakers[code]

    def language(self, utterance: SupportsIndex) -> str | None:
        code = self._language[utterance]
        return None if code < 0 else self.languages[code]

    def audio_path(self, utterance: SupportsIndex) -> Path:
        """The recording; see also `segment`."""
        return self.corpus_root / self._audio[index(utterance)].as_py()

    def segment(self, utterance: SupportsIndex) -> tuple[float | None, float | None]:
        """Where in its recording the utterance starts and ends (seconds); None is the start or end of the recording."""
        return self._start[index(utterance)].as_py(), self._end[index(utterance)].as_py()

    def image_path(self, image: SupportsIndex) -> Path:
        """The picture as the corpus has it."""
        return self.corpus_root / self._image_path[index(image)].as_py()

    def image_attributes(self, image: SupportsIndex) -> dict[str, str]:
        """All known facts of a picture."""
        return json.loads(self._attributes[index(image)].as_py())

    @property
    def attributes(self) -> dict[str, tuple[str, ...]]:
        """Every attribute that any picture has, with all its values."""
        return {name: tuple(values) for name, values in self._stored_report["attributes"].items()}

    def attribute_codes(self, name: str) -> Int32[np.ndarray, " images"]:
        """For each picture the position of its value in `attributes[name]`, -1 where unknown."""
        import pyarrow.compute as pc

        encoded = pc.dictionary_encode(self._attributes.combine_chunks())
        position = {value: i for i, value in enumerate(self.attributes[name])}
        of_set = [position.get(json.loads(text).get(name), -1) for text in encoded.dictionary.to_pylist()]
        return np.array(of_set, np.int32)[encoded.indices.to_numpy()]

    @cached_property
    def report(self) -> dict[str, Any]:
        """What is in the store: settings, counts in total and per split, hours of speech, rejections."""
        from s2igan.audio import FRAMES_PER_SECOND

        def counts(chosen: np.ndarray) -> dict[str, Any]:
            images, speakers = np.unique(self.image_index[chosen]), np.unique(self.speaker_index[chosen])
            return {
                "utterances": len(chosen),
                "images": len(images),
                "classes": len(np.unique(self.image_class[images])) if self.has_classes else 0,
                "speakers": int((speakers >= 0).sum()),
                "hours": round(float(self.n_frames[chosen].sum(dtype=np.int64)) / FRAMES_PER_SECOND / 3600, 4),
            }

        splits = {name: counts(self.split_indices(name)) for name in SPLITS}
        return self._stored_report | counts(np.arange(len(self))) | {"splits": splits}

    @cached_property
    def fingerprint(self) -> str:
        """A hash of what the store was made from and how; another corpus, split or setting gives another."""
        from safetensors import safe_open

        digest = hashlib.sha256(json.dumps(self._stored_report, sort_keys=True).encode())
        for name in sorted(self._stored_report["shards"]):
            with safe_open(self.directory / STORE / name, framework="np") as file:
                digest.update(file.metadata()[HEADER].encode())
        for name in (INDEX, IMAGES):
            digest.update((self.directory / STORE / name).read_bytes())
        return digest.hexdigest()

    def summary(self) -> str:
        """The report as a few lines of text."""
        report = self.report

        def line(counts: dict[str, Any]) -> str:
            words = [f"{counted(counts['utterances'], 'utterance')} ({counts['hours']:.2f} h)"]
            words.append(counted(counts["images"], "image"))
            for name, noun in (("classes", "class"), ("speakers", "speaker")):
                words += [counted(counts[name], noun)] if counts[name] else []
            return ", ".join(words)

        lines = [f"{self.directory}: {line(report)}"]
        lines += [f"  {name}: {line(counts)}" for name, counts in report["splits"].items() if counts["utterances"]]
        lines.append(f"  images stored at {self.images.shape[1]} px for training at {self.image_size} px")
        if report["rejected"]:
            rejected = self.directory / REJECTED
            lines.append(f"  {report['rejected']:,} of {report['rows']:,} rows could not be used: see {rejected}")
        return "\n".join(lines)


class StoredImages:
    """An array-like of uint8 (images, S, S, 3) over the mapped shards.

    `images[3]` is a read-only view; a slice, a list, an array of integers or a mask gives a new array.
    """

    def __init__(
        self, shards: _MappedShards, shard: Int32[np.ndarray, " images"], row: Int32[np.ndarray, " images"], size: int
    ) -> None:
        self._shards, self._shard, self._row = shards, shard, row
        self.shape = (len(shard), size, size, 3)
        self.dtype = np.dtype(np.uint8)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, chosen: Any) -> UInt8[np.ndarray, "... size size 3"]:
        shard, row = self._shard[chosen], self._row[chosen]
        if shard.ndim == 0:
            return self._shards[int(shard)][row]
        images = np.empty((*shard.shape, *self.shape[1:]), np.uint8)
        flat = images.reshape(-1, *self.shape[1:])
        for i, (number, position) in enumerate(zip(shard.ravel().tolist(), row.ravel().tolist(), strict=True)):
            flat[i] = self._shards[number][position]
        return images

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)


class _MappedShards:
    """The main tensor of each shard of a kind, mapped when first asked for."""

    def __init__(self, store: Path, kind: Kind) -> None:
        self._store, self._kind = store, kind
        self._open: dict[int, np.ndarray] = {}

    def __getitem__(self, number: int) -> np.ndarray:
        shard = self._open.get(number)
        if shard is None:
            shard = self._open[number] = self._map(number)
        return shard

    def _map(self, number: int) -> np.ndarray:
        from safetensors import SafetensorError, safe_open

        path = self._store / shard_name(self._kind, number)
        try:
            # As a torch tensor, since only those are mapped and not read. The file is closed again: thousands of shards
            # must not use up the open files that a process may have.
            with safe_open(path, framework="pt") as file:
                array = file.get_tensor(self._kind).numpy()
        except (SafetensorError, OSError) as error:
            raise _damaged(path, error) from error
        array.setflags(write=False)
        return array


def _codes(column: pa.ChunkedArray) -> tuple[Int32[np.ndarray, " rows"], tuple[str, ...]]:
    """A column of words as positions in the sorted list of those that occur; -1 is null."""
    encoded = column.unify_dictionaries().combine_chunks()
    words = encoded.dictionary.to_pylist()
    names = sorted(words)
    number = {name: i for i, name in enumerate(names)}
    position = np.array([number[word] for word in words] + [-1], np.int32)
    return position[encoded.indices.fill_null(-1).to_numpy()], tuple(names)
