"""Several prepared corpora as one to train on, or a part of one: what one language's recordings give another.

The corpus that is named first is the one of interest. Its splits stay as they are, but for the number of training
recordings where that is asked for; of the others, training recordings alone are added. Pictures with the same content
are one picture, whatever their names, and belong to the class that the first corpus gives them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float16, Int64

from s2igan.corpora.builtin.drawn import LANGUAGE
from s2igan.data.manifest import SPLITS, Utterance, write_manifest
from s2igan.data.pack import build_store
from s2igan.data.store import Store
from s2igan.errors import UserError
from s2igan.files import disk_errors

MANIFEST = "manifest.jsonl"
TRAIN = SPLITS.index("train")


def mix(
    data: Sequence[str | Path],
    out: str | Path,
    *,
    recordings: int | None = None,
    seed: int = 0,
    jobs: int | None = None,
) -> Store:
    """Write a corpus of prepared ones under ``out``, and return its store.

    Sound and pictures stay where they are: ``out`` has a link to each corpus. Log-mels are copied, not computed again.

    Args:
        data: prepared corpora, that of interest first.
        recordings: of the first corpus to train on, chosen at random; all unless given. More contain fewer.
        seed: of that choice.

    Raises:
        UserError: corpora that cannot be one; fewer recordings than asked for; or ``out`` holds something else.
    """
    stores = [Store.open(path) for path in data]
    out = Path(out)
    first, *others = stores
    for other in others:
        for name in ("image_size", "window"):
            here, there = getattr(first, name), getattr(other, name)
            if here != there:
                raise UserError(
                    f"{other.directory}: was prepared with another {name.replace('_', ' ')} ({there}) than "
                    f"{first.directory} ({here}); prepare both alike."
                )
    kept = [_chosen(first, recordings, seed), *(np.flatnonzero(other.split == TRAIN) for other in others)]
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        for number, store in enumerate(stores):
            _link(out / folder(number), store.corpus_root.resolve())
    rows = list(_rows(stores, kept))
    write_manifest(out / MANIFEST, rows)
    facts: dict[str, Any] = {"mixed": [store.fingerprint for store in stores]}
    if language := first.report.get(LANGUAGE):
        facts[LANGUAGE] = language
    build_store(
        out / MANIFEST,
        image_size=first.image_size,
        window=first.window,  # type: ignore[arg-type]
        facts=facts,
        made=_mels(stores, kept, rows),
        jobs=jobs,
    )
    return Store.open(out)


def folder(number: int) -> str:
    """Name of the link to a corpus."""
    return f"corpus-{number + 1}"


def _chosen(store: Store, recordings: int | None, seed: int) -> Int64[np.ndarray, " utterances"]:
    """All utterances, but of training so many."""
    train = np.flatnonzero(store.split == TRAIN)
    if recordings is None:
        return np.arange(len(store))
    if not 1 <= recordings <= len(train):
        raise UserError(
            f"--recordings {recordings}: {store.directory} has {len(train)} recordings to train on; choose 1 to "
            f"{len(train)}."
        )
    some = np.random.default_rng([seed, 0x313]).permutation(train)[:recordings]
    return np.sort(np.concatenate([np.flatnonzero(store.split != TRAIN), some]))


def _link(link: Path, target: Path) -> None:
    if link.is_symlink() and link.resolve() == target:
        return
    if link.is_symlink() or link.exists():
        raise UserError(f"{link}: holds something else than {target}; choose another --out, or delete it.")
    link.symlink_to(target, target_is_directory=True)


def _rows(stores: Sequence[Store], kept: Sequence[Int64[np.ndarray, " _"]]) -> Iterator[Utterance]:
    """Of each kept utterance; pictures by their first name, with the class and the facts that they have there."""
    first = stores[0]
    contents = {_content(first.image_path(image)): image for image in range(first.n_images)}
    held_out = set(np.unique(first.image_index[first.split != TRAIN]).tolist())
    for number, (store, utterances) in enumerate(zip(stores, kept, strict=True)):
        same = {image: contents.get(_content(store.image_path(image))) for image in range(store.n_images)}
        classes = _classes(store, first, same)
        for utterance in utterances.tolist():
            image = int(store.image_index[utterance])
            known = same[image]
            if number and known in held_out:
                continue
            owner, picture = (store, image) if known is None else (first, known)
            start, end = store.segment(utterance)
            row = Utterance(
                audio=_path(number, store, store.audio_path(utterance)),
                image=_path(0 if owner is first else number, owner, owner.image_path(picture)),
                start_seconds=start,
                end_seconds=end,
                class_name=classes.get(int(store.image_class[image])) if store.has_classes else None,
                split=SPLITS[store.split[utterance]],
                speaker=store.speaker(utterance),
                language=store.language(utterance),
                text=store.text(utterance),
                attributes=owner.image_attributes(picture),
                mentions=store.mentions(utterance),
            )
            yield row if row.attributes else replace(row, mentions=())


def _classes(store: Store, first: Store, same: dict[int, int | None]) -> dict[int, str]:
    """The name of each class of a corpus: that of the first corpus, where a picture of the class is in it."""
    if not store.has_classes:
        return {}
    names = dict(enumerate(store.classes))
    if first.has_classes:
        for image, known in same.items():
            if known is not None:
                names[int(store.image_class[image])] = first.classes[first.image_class[known]]
    return names


def _mels(
    stores: Sequence[Store], kept: Sequence[Int64[np.ndarray, " _"]], rows: Sequence[Utterance]
) -> Iterator[tuple[str, Float16[np.ndarray, "_ 40"]]]:
    """The log-mels of whole recordings that are in the mix; parts of recordings are read again."""
    if any((row.start_seconds, row.end_seconds) != (None, None) for row in rows):
        return
    wanted = {row.audio for row in rows}
    if len(wanted) < len(rows):  # a recording that describes several pictures
        return
    for number, (store, utterances) in enumerate(zip(stores, kept, strict=True)):
        for utterance in utterances.tolist():
            if (path := _path(number, store, store.audio_path(utterance))) in wanted:
                yield path, store.mel(utterance)


def _path(number: int, store: Store, path: Path) -> str:
    return f"{folder(number)}/{path.relative_to(store.corpus_root).as_posix()}"


def _content(path: Path) -> str:
    """Of a picture."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
