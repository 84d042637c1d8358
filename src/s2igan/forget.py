"""Takes a speaker out of a prepared corpus, and names the runs that learnt from their voice."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from s2igan.data.layout import HEADER, INDEX, REJECTED, REPORT, STORE, shard_name
from s2igan.data.store import Store
from s2igan.errors import UserError
from s2igan.files import atomic_write, atomic_write_json, disk_errors
from s2igan.run_directory import MODEL_FOLDER, SEN_FOLDER, WARM_START_FOLDER

PARTS_OF_RUN = (SEN_FOLDER, WARM_START_FOLDER, MODEL_FOLDER)
"""Folders of a run that have a config.json of their own."""


@dataclass(frozen=True)
class Forgotten:
    """What was taken out, and what is left for people to do."""

    utterances: int
    recordings: tuple[Path, ...]
    """The speaker's files in the source, which is only read: delete them there."""
    runs: tuple[Path, ...]
    """Trained on the corpus when the speaker was in it; their weights and pages may hold the voice."""


def forget_speaker(speaker: str, data: Path, runs: Path) -> Forgotten:
    """Takes a speaker's utterances out of the store, the manifest and the list of what was rejected.

    Pictures stay. The corpus has another fingerprint then, so that no run goes on with it as if nothing had changed.

    Args:
        data: directory that `s2igan prepare` made.
        runs: folder that is searched for runs on this corpus.

    Raises:
        UserError: there is no finished store, nobody of this name is in it, or it cannot be written.
    """
    store = Store.open(data)
    if speaker not in store.speakers:
        known = (
            f"{len(store.speakers)} others are, such as {store.speakers[0]}" if store.speakers else "nobody is named"
        )
        raise UserError(f"{data}: no speaker {speaker!r} is in this corpus ({known}); check the name.")
    gone = store.speaker_index == store.speakers.index(speaker)
    numbers = np.flatnonzero(gone)
    trained = tuple(_runs_on(store, runs))
    in_store = {store.audio_path(number) for number in numbers}
    with disk_errors(data):
        (data / STORE / REPORT).unlink()  # written last: a store without it is unfinished
    named = _filter_manifest(store, speaker)
    recordings = tuple(sorted(in_store | {store.corpus_root / audio for audio in named}))
    audio = {str(path.relative_to(store.corpus_root)) for path in recordings}
    _filter_rejected(data, audio)
    _rewrite(store, gone, audio)
    return Forgotten(len(numbers), recordings, trained)


def _runs_on(store: Store, folder: Path) -> list[Path]:
    """The runs below a folder that were trained on a store, or took their stage 1 from one that was."""
    found = []
    for config in sorted(folder.rglob("config.json")):
        try:
            content = json.loads(config.read_bytes())
        except (OSError, ValueError):
            continue
        if isinstance(content, dict) and store.fingerprint in _strings(content):
            run = config.parent.parent if config.parent.name in PARTS_OF_RUN else config.parent
            found += [] if run in found else [run]
    return found


def _strings(value: Any) -> set[str]:
    """All strings in a JSON value."""
    if isinstance(value, dict):
        return set().union(*map(_strings, value.values())) if value else set()
    if isinstance(value, list):
        return set().union(*map(_strings, value)) if value else set()
    return {value} if isinstance(value, str) else set()


def _filter_manifest(store: Store, speaker: str) -> set[str]:
    """Drops the speaker's lines of a manifest that `prepare` wrote beside the store; returns their recordings. One that
    lies elsewhere belongs to the source."""
    manifest = store.corpus_root / store.report["manifest"]
    if store.corpus_root.resolve() != store.directory.resolve() or manifest.suffix != ".jsonl":
        return set()
    kept, named = [], set()
    for line in manifest.read_bytes().splitlines(keepends=True):
        row = json.loads(line) if line.strip() else {}
        if row.get("speaker") == speaker:
            named.add(row["audio"])
        else:
            kept.append(line)
    with atomic_write(manifest) as file:
        file.writelines(kept)
    return named


def _filter_rejected(data: Path, audio: set[str]) -> None:
    """Drops what is said of recordings in `rejected.jsonl`."""
    path = data / REJECTED
    if not path.exists():
        return
    lines = path.read_bytes().splitlines(keepends=True)
    with atomic_write(path) as file:
        file.writelines(line for line in lines if json.loads(line).get("path") not in audio)


def _rewrite(store: Store, gone: Bool[np.ndarray, " utterances"], audio: set[str]) -> None:
    """Writes the spectrograms and the table of utterances without those that are gone, and last the report; `audio` are
    recordings that nothing is said of any more, not even why they were rejected."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    import safetensors.numpy
    from safetensors import safe_open

    folder = store.directory / STORE
    table = pq.read_table(folder / INDEX)
    shards, offsets = table["shard"].to_numpy(), table["offset"].to_numpy().copy()
    sizes = dict(store.report["shards"])
    for path in sorted(folder.glob(shard_name("mels", 0).replace("00000", "*"))):
        number = int(path.stem.rpartition("-")[2])
        with safe_open(path, framework="np") as file:
            header = json.loads(file.metadata()[HEADER])
            told = {row: why for row, why in header["rejected"].items() if not any(name in why for name in audio)}
            if told == header["rejected"] and not (gone & (shards == number)).any():
                continue
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        header["rejected"] = told
        starts = tensors["offsets"][:-1]
        stays = ~np.isin(starts, offsets[gone & (shards == number)])
        lengths = np.diff(tensors["offsets"])
        moved = np.cumsum([0, *lengths[stays]], dtype=np.int64)
        tensors["mels"] = tensors["mels"][np.repeat(stays, lengths)]
        tensors["rows"], tensors["offsets"] = tensors["rows"][stays], moved
        header["key"] = f"without {int((~stays).sum())} of: {header['key']}"  # prepare would make it anew
        with atomic_write(path) as file:
            file.write(safetensors.numpy.save(tensors, metadata={HEADER: json.dumps(header, ensure_ascii=False)}))
        sizes[path.name] = path.stat().st_size
        place = dict(zip(starts[stays].tolist(), moved[:-1].tolist(), strict=True))
        here = (shards == number) & ~gone
        offsets[here] = [place[at] for at in offsets[here].tolist()]
    column = table.schema.get_field_index("offset")
    table = table.set_column(column, table.schema.field(column), pa.array(offsets, pa.int64())).filter(pa.array(~gone))
    with atomic_write(folder / INDEX) as file:
        pq.write_table(_without_unused_words(table), file)
    report = {**store.report, "shards": sizes, "rows": store.report["rows"] - int(gone.sum())}
    report["forgotten"] = store.report.get("forgotten", 0) + int(gone.sum())
    atomic_write_json(folder / REPORT, report)
    atomic_write_json(folder / REPORT, Store.open(store.directory).report)


def _without_unused_words(table: Any) -> Any:
    """The same table; its dictionaries hold the words of its rows alone, and so not the name that is gone."""
    import pyarrow as pa

    for number, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            words = table[number].cast(pa.string())
            table = table.set_column(number, field, words.cast(field.type))
    return table
