"""Packs a corpus into the prepared store that `store` reads: decodes everything once, and names what it rejects.

The header of a shard holds a key: a hash of the manifest rows that it was made from, the sizes of their files and the
settings. A build that was killed goes on where it stopped, since whole shards with the right key that are newer than
their sources are kept; and machines that build different shards into one folder (`part`) need not speak to each other.
The bytes written depend on the corpus and the settings only, not on the number of processes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Int32, Int64

from s2igan.data.images import Box, load_image
from s2igan.data.layout import (
    HEADER,
    IMAGES,
    INDEX,
    LONGEST,
    REJECTED,
    REPORT,
    STORE,
    VERSION,
    Kind,
    column_types,
    damaged,
    shard_name,
    stored_size,
)
from s2igan.data.manifest import Utterance, check_rows, iter_manifest
from s2igan.data.store import Store
from s2igan.errors import UserError
from s2igan.files import abandoned, atomic_write, atomic_write_json, disk_errors
from s2igan.parallel import each_result, progress_bars

MEL_SHARD_ITEMS = 1024  # utterances; 37 MB of 4 s sentences
IMAGE_SHARD_ITEMS = 512  # pictures; 9 MB at 76 px, 142 MB at 304 px
MAX_REJECTED = 0.2  # of the manifest's rows
MAX_IMAGE_SIZE = 1024  # pixels; a shard of such pictures takes 2.3 GB of memory while it is made


def build_store(
    manifest_path: str | Path,
    out: str | Path | None = None,
    *,
    image_size: int = 64,
    window: Literal["hann", "hamming"] = "hann",
    boxes: Mapping[str, Box] | None = None,
    min_seconds: float = 0.0,
    left_out: Sequence[Mapping[str, Any]] = (),
    validation_from_train: bool = False,
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
        window: of the log-mel (method.md section 8, line 1).
        boxes: bounding boxes by image path, for corpora that have them.
        min_seconds: shorter utterances are rejected.
        left_out: `path` and `reason` of what the corpus holds and the manifest leaves out, and `lost` where it counts
            for other than one; it is named and counted with what is rejected here.
        validation_from_train: stage 2 trains on the validation split too (`Store.training_splits`).
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
    _build_shards(mine, jobs, progress)

    images, mels = _read_finished(image_tasks), _read_finished(mel_tasks)
    missing = sum(shard is None for shard in images + mels)
    if missing:
        return {"complete": False, "shards": len(every_task), "shards_missing": missing}
    settings = {
        "image_size": image_size,
        "stored_size": stored_size(image_size),
        "window": window,
        "validation_from_train": validation_from_train,
    }
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
    wide: Bool[np.ndarray, " items"]
    """Of pictures; of log-mels nothing."""
    rejected: dict[int, str]


def _header(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            return json.loads((file.metadata() or {})[HEADER])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise damaged(path, error) from error


def _read_finished(tasks: Sequence[_Task]) -> list[_Shard | None]:
    from safetensors import safe_open

    shards: list[_Shard | None] = []
    for task, finished in zip(tasks, _parallel_finished(tasks), strict=True):
        if not finished:
            shards.append(None)
            continue
        with safe_open(task.target, framework="np") as file:
            rows, offsets = file.get_tensor("rows"), file.get_tensor("offsets")
            wide = file.get_tensor("wide") if task.kind == "images" else np.zeros(len(rows), bool)
        rejected = {int(row): reason for row, reason in _header(task.target)["rejected"].items()}
        shards.append(_Shard(rows, offsets, wide, rejected))
    return shards


def _parallel_finished(tasks: Sequence[_Task]) -> list[bool]:
    """Threads, since on a network disk asking for the sizes of a million files is waiting."""
    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(_Task.finished, tasks))


def _build_shards(tasks: Sequence[_Task], jobs: int | None, progress: bool) -> None:
    finished = _parallel_finished(tasks)
    todo = [task for task, is_finished in zip(tasks, finished, strict=True) if not is_finished]
    with progress_bars(progress) as bar:
        bars = {}
        for kind, words in (("images", "decoding images"), ("mels", "log-mels of the speech")):
            total = sum(len(task.items) for task in tasks if task.kind == kind)
            left = sum(len(task.items) for task in todo if task.kind == kind)
            bars[kind] = bar.add_task(words, total=total, completed=total - left)
        for task, _ in each_result(_write_shard, todo, jobs):
            bar.advance(bars[task.kind], len(task.items))


def _write_shard(task: _Task) -> None:
    import safetensors.numpy

    key, _ = task.key_and_time()  # before the files are read
    tensors, rejected = _log_mels(task) if task.kind == "mels" else _decoded_images(task)
    header = json.dumps({"key": key, "rejected": rejected}, ensure_ascii=False)
    with atomic_write(task.target) as file:
        file.write(safetensors.numpy.save(tensors, metadata={HEADER: header}))


def _reason(error: UserError, path: Path, item: _Item) -> str:
    """Without the path, which stands beside it, and without where the corpus lies."""
    return str(error).removeprefix(f"{path}: ").replace(str(path), item.path)


def _decoded_images(task: _Task) -> tuple[dict[str, np.ndarray], dict[int, str]]:
    size = int(task.setting)
    lines = [np.empty((0, size, 3), np.uint8)]
    rows: list[int] = []
    wide: list[bool] = []
    rejected = {}
    for row, item in enumerate(task.items):
        path = task.root / item.path
        try:
            picture = load_image(path, size, item.box, LONGEST)
        except UserError as error:
            rejected[row] = _reason(error, path, item)
            continue
        rows.append(row)
        wide.append(picture.shape[1] > size)
        lines.append(picture.swapaxes(0, 1) if wide[-1] else picture)
    tensors: dict[str, np.ndarray] = {
        "images": np.concatenate(lines),
        "offsets": np.cumsum([len(part) for part in lines]),
        "rows": np.array(rows, np.int32),
        "wide": np.array(wide, bool),
    }
    return tensors, rejected


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
    wide: Bool[np.ndarray, " items"]
    rejected: dict[int, str]

    @classmethod
    def of(cls, shards: Sequence[_Shard], shard_items: int, n_items: int) -> _Entries:
        number = np.full(n_items, -1, np.int32)
        offset, length, wide = np.zeros(n_items, np.int64), np.zeros(n_items, np.int32), np.zeros(n_items, bool)
        rejected = {}
        for i, shard in enumerate(shards):
            items = i * shard_items + shard.rows
            number[items], offset[items], length[items] = i, shard.offsets[:-1], np.diff(shard.offsets)
            wide[items] = shard.wide
            rejected.update({i * shard_items + row: reason for row, reason in shard.rejected.items()})
        return cls(len(shards), number, offset, length, wide, rejected)


def _write_index(
    out: Path,
    corpus: _Corpus,
    images: _Entries,
    mels: _Entries,
    settings: dict[str, Any],
    left_out: Sequence[Mapping[str, Any]],
    allow_rejected: bool,
) -> dict[str, Any]:
    number_of = {path: i for i, path in enumerate(corpus.pictures)}
    image_of_row = np.array([number_of[row.image] for row in corpus.rows], np.int32)
    rejected = list(corpus.rejected)
    lines = {record["line"] for record in rejected}
    pictures_named: dict[str, dict[str, Any]] = {}
    for i, (line, row) in enumerate(zip(corpus.lines, corpus.rows, strict=True)):
        if i in mels.rejected:
            rejected.append({"line": line, "path": row.audio, "reason": mels.rejected[i]})
            lines.add(line)
        if (reason := images.rejected.get(int(image_of_row[i]))) is not None:
            lines.add(line)
            if row.image in pictures_named:  # one fault, and every description of the picture is lost
                pictures_named[row.image]["lost"] = pictures_named[row.image].get("lost", 1) + 1
                continue
            pictures_named[row.image] = {"line": line, "path": row.image, "reason": reason}
            rejected.append(pictures_named[row.image])
    rejected.sort(key=lambda record: record["line"])
    n_left_out = sum(record.get("lost", 1) for record in left_out)
    n_rows, n_rejected = corpus.n_rows + n_left_out, len(lines) + n_left_out
    write_rejected(out, [*left_out, *rejected])
    if len(lines) == corpus.n_rows or not (allow_rejected or n_rejected <= MAX_REJECTED * n_rows):
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
            "offset": images.offset[pictures],
            "length": images.length[pictures],
            "wide": images.wide[pictures],
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

    types = column_types()
    for name, columns in ((INDEX, utterances), (IMAGES, images)):
        table = pa.table({column: pa.array(columns[column], kind) for column, kind in types[name].items()})
        with atomic_write(out / STORE / name) as file:
            pq.write_table(table, file)
    atomic_write_json(out / STORE / REPORT, report)
