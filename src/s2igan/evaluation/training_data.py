"""Was a model trained on the store that it is evaluated on, and if not, had it met what is evaluated?"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from s2igan.data.store import Store
from s2igan.errors import UserError
from s2igan.evaluation.subject import Subject
from s2igan.run_directory import DATA

if TYPE_CHECKING:
    from s2igan.evaluation.evaluation_split import EvaluationSplit


def data_record(subject: Subject, split: EvaluationSplit, *, allow_other_data: bool) -> dict[str, Any]:
    """What the record of an evaluation says about its data (docs/metrics.md).

    Raises:
        UserError: the model was trained on another store, and ``allow_other_data`` is not set.
    """
    store = split.store
    record = {"name": store.directory.resolve().name, "fingerprint": store.fingerprint}
    if subject.store is None and not subject.is_run:
        return {**record, "trained_on": None, "split_trained_on": None}
    if subject.store == store.fingerprint:
        return {**record, "trained_on": True, "split_trained_on": split.name in store.training_splits("rdg")}
    if not allow_other_data:
        raise UserError(
            f"{store.directory}: {subject.path} was trained on another prepared set ({subject.data or 'not here'}) and "
            "may have met these pictures; evaluate it on that set, or add --allow-other-data, and record and report "
            "will say so."
        )
    own = _store_of(subject)
    counts = {"pictures": len(split.images), "recordings": len(split.utterances)}
    shared = dict.fromkeys(counts, None) if own is None else _shared(split, own)
    return {**record, "trained_on": False, **counts, **{f"shared_{kind}": count for kind, count in shared.items()}}


def about_data(record: Mapping[str, Any]) -> str:
    """A `data_record` as a sentence for people; empty where the model was trained on this very store."""
    if record["trained_on"]:
        return ""
    if record["trained_on"] is None:
        return (
            f"Which set the model was trained on is not recorded: if it was not {record['name']}, it may have met "
            "these pictures."
        )

    def share(kind: str) -> str:
        count = record[f"shared_{kind}"]
        return f"{'an unknown number' if count is None else f'{count:,}'} of its {record[kind]:,} {kind}"

    return (
        f"Evaluated on {record['name']}, a set that the model was not trained on; {share('pictures')} and "
        f"{share('recordings')} were trained on."
    )


def _store_of(subject: Subject) -> Store | None:
    """The store that the model was trained on, if it is still where it was."""
    for directory in (subject.data or subject.path, subject.path / DATA):
        with contextlib.suppress(UserError):
            store = Store.open(directory)
            if store.fingerprint == subject.store:
                return store
    return None


def _shared(split: EvaluationSplit, own: Store) -> dict[str, int | None]:
    """How many pictures and recordings of the split are in the training split of ``own`` as well, by their content.

    Compared is what the stores hold; where that differs by how they were prepared (another size, another window), the
    files that they were prepared from. None where these are gone.
    """
    same_size, same_window = split.store.image_size == own.image_size, split.store.window == own.window

    def picture(store: Store, image: int) -> bytes:
        return store.images[image].tobytes() if same_size else store.image_path(image).read_bytes()

    def recording(store: Store, utterance: int) -> bytes:
        if same_window:
            return store.mel(utterance).tobytes()
        return store.audio_path(utterance).read_bytes() + repr(store.segment(utterance)).encode()

    def shared(content: Callable[[Store, int], bytes], evaluated: np.ndarray, known: np.ndarray) -> int | None:
        try:
            digests = {hashlib.sha256(content(own, int(index))).digest() for index in known}
            return sum(hashlib.sha256(content(split.store, int(index))).digest() in digests for index in evaluated)
        except OSError:
            return None

    trained_on = own.split_indices(*own.training_splits("rdg"))
    return {
        "pictures": shared(picture, split.images, np.unique(own.image_index[trained_on])),
        "recordings": shared(recording, split.utterances, trained_on),
    }
