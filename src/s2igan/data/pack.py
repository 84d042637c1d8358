"""Packs a corpus into the prepared store that `store` reads: decodes everything once, and names what it rejects.

The header of a shard holds a key: a hash of the manifest rows that it was made from, the sizes of their files and the
settings. A build that was killed goes on where it stopped, since whole shards with the right key that are newer than
their sources are kept. The bytes written depend on the corpus and the settings only, not on the number of processes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float16, Float32, Int32, Int64

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
    shard_name,
    stored_size,
)
from s2igan.data.manifest import Utterance, check_rows, iter_manifest
from s2igan.data.store import Store
from s2igan.errors import UserError
from s2igan.files import atomic_write, atomic_write_json, disk_errors, remove_abandoned
from s2igan.parallel import each_result, progress_bars
from s2igan.sound_containers import MAX_SECONDS

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
    max_seconds: float = MAX_SECONDS,
    left_out: Sequence[Mapping[str, Any]] = (),
    validation_from_train: bool = False,
    facts: Mapping[str, Any] | None = None,
    made: Iterable[tuple[str, Float16[np.ndarray, "_ 40"]]] = (),
    jobs: int | None = None,
    progress: bool = True,
    allow_rejected: bool = False,
) -> dict[str, Any]:
    """Write the store of a manifest under `out` (its own folder unless given) and return the report.

    Args:
        manifest_path: it and the files it names are only read.
        image_size: side in pixels of the training images; 76/64 of it is stored.
        window: of the log-mel (method.md section 8, line 1).
        boxes: bounding boxes by image path, for corpora that have them.
        min_seconds, max_seconds: shorter and longer utterances are rejected.
        left_out: `path` and `reason` of what the corpus holds and the manifest leaves out, and `lost` where it counts
            for other than one; it is named and counted with what is rejected here.
        validation_from_train: stage 2 trains on the validation split too (`Store.training_splits`).
        facts: what else the report says about the corpus.
        made: log-mels (`stored_log_mel`) by path, as recordings are made that the manifest names: what is here is not
            decoded. It is exhausted before any file is read.
        jobs: processes of one thread each; as many as there are usable cores unless given.

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
    corpus = _Corpus.read(manifest_path)
    corpus.check_rejected(out, left_out, corpus.rejected, len(corpus.rejected), allow_rejected)

    store = out / STORE
    with disk_errors(store):
        store.mkdir(parents=True, exist_ok=True)
        (store / REPORT).unlink(missing_ok=True)  # written last: without it, what is here is unfinished
        remove_abandoned(store)

    boxes = boxes or {}
    pictures = [Item(path, box=boxes.get(path)) for path in corpus.pictures]
    recordings = [Item(row.audio, row.start_seconds, row.end_seconds) for row in corpus.rows]
    images = [
        Task(root, "images", share, stored_size(image_size), target=store / shard_name("images", number))
        for number, share in enumerate(in_shares(pictures, IMAGE_SHARD_ITEMS))
    ]
    mels = [
        Task(root, "mels", share, window, min_seconds, max_seconds, store / shard_name("mels", number))
        for number, share in enumerate(in_shares(recordings, MEL_SHARD_ITEMS))
    ]
    _write_made(mels, made)
    _build_shards([*images, *mels], jobs, progress)
    shards = {task.target.name: task.target.stat().st_size for task in [*images, *mels]}
    for path in store.glob("*.safetensors"):
        if path.name not in shards:
            path.unlink()  # of an earlier, larger manifest
    settings = {
        "image_size": image_size,
        "stored_size": stored_size(image_size),
        "window": window,
        "validation_from_train": validation_from_train,
        **(facts or {}),
    }
    return _index(out, corpus, _Entries.read(images), _Entries.read(mels), settings, shards, left_out, allow_rejected)


@dataclass
class _Corpus:
    """The usable rows of a manifest."""

    manifest_path: Path
    lines: list[int]
    rows: list[Utterance]
    pictures: list[str]
    """Every different image, in the order of first appearance."""
    rejected: list[dict[str, Any]]
    """As in `rejected.jsonl`."""
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

    def check_rejected(
        self,
        out: Path,
        left_out: Sequence[Mapping[str, Any]],
        rejected: Sequence[Mapping[str, Any]],
        n_lines: int,
        allowed: bool,
    ) -> tuple[int, int]:
        """Write `rejected.jsonl`; how much cannot be used, `n_lines` of the manifest among it, and of how much.

        Raises:
            UserError: so much that there must be a reason, or the disk is full.
        """
        with atomic_write(out / REJECTED) as file:
            records = [*left_out, *rejected]
            file.writelines((json.dumps(record, ensure_ascii=False) + "\n").encode() for record in records)
        n_left_out = sum(record.get("lost", 1) for record in left_out)
        n_rejected, n_rows = n_left_out + n_lines, n_left_out + self.n_rows
        if n_rejected < n_rows and (allowed or n_rejected <= MAX_REJECTED * n_rows):
            return n_rejected, n_rows
        record = [*rejected, *left_out][0]
        where = f"on line {record['line']} ({record['path']}" if "line" in record else f"({record['path']}"
        remedy = "mend them" if n_rejected == n_rows else "mend them, or allow it with --allow-rejected"
        raise UserError(
            f"{self.manifest_path}: {n_rejected} of {n_rows} utterances cannot be used, the first {where}: "
            f"{record['reason'].rstrip('.')}); {out / REJECTED} names all, {remedy}."
        )


# ----------------------------------------------------------------------------------------------------------- the shards


@dataclass(frozen=True)
class Item:
    """A picture or a part of a recording; all of it enters the key of its shard."""

    path: str
    start_seconds: float | None = None
    end_seconds: float | None = None
    box: Box | None = None


@dataclass(frozen=True)
class Task:
    """Items to decode in one process, and the shard to write them to."""

    root: Path
    kind: Kind
    items: tuple[Item, ...]
    setting: int | str
    """Shorter side of the stored images in pixels, or the window of the log-mels."""
    min_seconds: float = 0.0
    max_seconds: float = MAX_SECONDS
    """Of utterances, as `min_seconds`."""
    target: Path = Path()

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
        limits = [self.min_seconds, self.max_seconds] if self.kind == "mels" else []
        key = json.dumps([VERSION, self.kind, self.setting, *limits, described])
        return hashlib.sha256(key.encode()).hexdigest(), newest

    def finished(self) -> bool:
        """Whether the shard is there, whole, and made from the files as they are now."""
        from safetensors import SafetensorError, safe_open

        try:
            written = self.target.stat().st_mtime
            key, newest = self.key_and_time()
            with safe_open(self.target, framework="np") as file:
                return written >= newest and json.loads(file.metadata()[HEADER])["key"] == key
        except (SafetensorError, OSError, KeyError, TypeError, ValueError):
            return False


def in_shares(items: Sequence[Item], size: int) -> list[tuple[Item, ...]]:
    """The items in tuples of `size`; the last may have fewer."""
    return [tuple(items[at : at + size]) for at in range(0, len(items), size)]


def _build_shards(tasks: Sequence[Task], jobs: int | None, progress: bool) -> None:
    with ThreadPoolExecutor(16) as pool:  # on a network disk, asking for the sizes of a million files is waiting
        todo = [task for task, finished in zip(tasks, pool.map(Task.finished, tasks), strict=True) if not finished]
    total, left = (sum(len(task.items) for task in some) for some in (tasks, todo))
    with progress_bars(progress) as bars:
        bar = bars.add_task("pictures and recordings decoded", total=total, completed=total - left)
        for task, _ in each_result(_write_shard, todo, jobs):
            bars.advance(bar, len(task.items))


def _write_made(tasks: Sequence[Task], made: Iterable[tuple[str, Float16[np.ndarray, "_ 40"]]]) -> None:
    """Write the shards of which every log-mel comes by its path, each as soon as it is complete."""
    place = {item.path: (task, row) for task in tasks for row, item in enumerate(task.items)}
    parts: dict[Path, dict[int, np.ndarray]] = {}
    for path, mel in made:
        task, row = place[path]
        part = parts.setdefault(task.target, {})
        part[row] = mel
        if len(part) == len(task.items):
            key, _ = task.key_and_time()
            _save_shard(task, key, [part[row] for row in range(len(part))], {})
            del parts[task.target]


def _write_shard(task: Task) -> None:
    key, _ = task.key_and_time()  # before the files are read
    _save_shard(task, key, *decode(task))


def _save_shard(task: Task, key: str, arrays: Sequence[np.ndarray], rejected: Mapping[int, str]) -> None:
    """The file of a shard (see `layout`), of the arrays of its items in their order, without those rejected."""
    import safetensors.numpy

    tensors = {"rows": np.array([row for row in range(len(task.items)) if row not in rejected], np.int32)}
    if task.kind == "images":
        wide = [picture.shape[1] > picture.shape[0] for picture in arrays]
        arrays = [picture.swapaxes(0, 1) if is_wide else picture for picture, is_wide in zip(arrays, wide, strict=True)]
        tensors["wide"] = np.array(wide, bool)
        nothing = np.empty((0, int(task.setting), 3), np.uint8)
    else:
        from s2igan.audio import N_MELS

        nothing = np.empty((0, N_MELS), np.float16)
    tensors[task.kind] = np.concatenate([nothing, *arrays])
    tensors["offsets"] = np.cumsum([0, *map(len, arrays)], dtype=np.int64)
    header = json.dumps({"key": key, "rejected": rejected}, ensure_ascii=False)
    with atomic_write(task.target) as file:
        file.write(safetensors.numpy.save(tensors, metadata={HEADER: header}))


def decode(task: Task) -> tuple[list[np.ndarray], dict[int, str]]:
    """The pictures or log-mels of a shard, and why items are rejected, by their position in the task.

    The reasons are without the path, which stands beside them, and without where the corpus lies.
    """
    arrays: list[np.ndarray] = []
    rejected: dict[int, str] = {}
    for row, item in enumerate(task.items):
        path = task.root / item.path
        try:
            if task.kind == "images":
                arrays.append(load_image(path, int(task.setting), item.box, LONGEST))
            else:
                arrays.append(_log_mel(path, item, task))
        except UserError as error:
            rejected[row] = str(error).removeprefix(f"{path}: ").replace(str(path), item.path)
    return arrays, rejected


def _log_mel(path: Path, item: Item, task: Task) -> Float16[np.ndarray, "frames 40"]:
    from s2igan.audio import check_seconds, load_audio

    wave = load_audio(path, item.start_seconds, item.end_seconds, task.max_seconds)
    check_seconds(wave, task.min_seconds, str(path))
    return stored_log_mel(wave, task.setting)  # type: ignore[arg-type]


def stored_log_mel(
    wave: Float32[np.ndarray, " samples"], window: Literal["hann", "hamming"] = "hann"
) -> Float16[np.ndarray, "frames 40"]:
    """The log-mel of a waveform at 22,050 Hz as the store keeps it."""
    import torch

    from s2igan.spectrograms import log_mel

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # several round a few numbers otherwise
    try:
        return log_mel(torch.from_numpy(wave), window=window).half().numpy()
    finally:
        torch.set_num_threads(threads)


# ------------------------------------------------------------------------------------------------------------ the index


@dataclass(frozen=True)
class _Entries:
    """Where each item of one kind lies; shard -1 where it was rejected."""

    shard: Int32[np.ndarray, " items"]
    offset: Int64[np.ndarray, " items"]
    length: Int32[np.ndarray, " items"]
    wide: Bool[np.ndarray, " items"]
    """Of pictures; of log-mels nothing."""
    rejected: dict[int, str]

    @classmethod
    def read(cls, tasks: Sequence[Task]) -> _Entries:
        """From the shards that were written."""
        from safetensors import safe_open

        n = sum(len(task.items) for task in tasks)
        shard, length, wide = np.full(n, -1, np.int32), np.zeros(n, np.int32), np.zeros(n, bool)
        offset = np.zeros(n, np.int64)
        rejected: dict[int, str] = {}
        first = 0
        for number, task in enumerate(tasks):
            with safe_open(task.target, framework="np") as file:
                items, offsets = first + file.get_tensor("rows"), file.get_tensor("offsets")
                wide[items] = file.get_tensor("wide") if task.kind == "images" else False
                reasons = json.loads(file.metadata()[HEADER])["rejected"]
            shard[items], offset[items], length[items] = number, offsets[:-1], np.diff(offsets)
            rejected |= {first + int(row): reason for row, reason in reasons.items()}
            first += len(task.items)
        return cls(shard, offset, length, wide, rejected)


def _rejected(
    corpus: _Corpus, image_of_row: Int32[np.ndarray, " rows"], images: _Entries, mels: _Entries
) -> tuple[list[dict[str, Any]], int]:
    """What `rejected.jsonl` says of the manifest's rows, by line, and how many lines are lost. A picture that cannot be
    used is named once, with the number of its descriptions."""
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
    return sorted(rejected, key=lambda record: record["line"]), len(lines)


def _index(
    out: Path,
    corpus: _Corpus,
    images: _Entries,
    mels: _Entries,
    settings: dict[str, Any],
    shards: dict[str, int],
    left_out: Sequence[Mapping[str, Any]],
    allow_rejected: bool,
) -> dict[str, Any]:
    """Write `rejected.jsonl`, the tables and the report, which is returned; `shards` are their sizes in bytes."""
    number_of = {path: i for i, path in enumerate(corpus.pictures)}
    image_of_row = np.array([number_of[row.image] for row in corpus.rows], np.int32)
    rejected, n_lines = _rejected(corpus, image_of_row, images, mels)
    n_rejected, n_rows = corpus.check_rejected(out, left_out, rejected, n_lines, allow_rejected)

    kept = np.flatnonzero((mels.shard >= 0) & (images.shard[image_of_row] >= 0))
    rows = [corpus.rows[i] for i in kept]
    pictures, image_index = np.unique(image_of_row[kept], return_inverse=True)
    first_row = [rows[i] for i in np.unique(image_index, return_index=True)[1]]
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
