"""What an evaluation leaves beside its record, so that others compute every figure again (docs/metrics.md).

`items.safetensors` has what scores are means of. Where images are kept, `features.safetensors` has what extractors saw
of them and what was drawn at random, and `described.json` what each caption names and each picture has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from s2igan.evaluation.evaluation_split import EvaluationSplit
from s2igan.evaluation.extractors import Seen
from s2igan.evaluation.generation import Fakes
from s2igan.evaluation.independent_encoders import NAME
from s2igan.evaluation.scores import Group
from s2igan.files import atomic_write, atomic_write_json

ITEMS, IMAGES = "items.safetensors", "images"
FEATURES, DESCRIBED = "features.safetensors", "described.json"


def write_items(path: Path, groups: Sequence[Group]) -> None:
    """Of every score that is a mean over captions or queries, the values with the numbers and classes of each, under
    the key of the score."""
    tensors: dict[str, np.ndarray] = {}
    for score in (score for group in groups for score in group.scores):
        if score.items is not None:
            tensors |= {f"{score.key}/{name}": values for name, values in vars(score.items).items()}
    _write(path, tensors)


def write_features(path: Path, features: Mapping[str, np.ndarray], groups: Sequence[Group]) -> None:
    """What `features_of` gives, and of each group its `Group.evidence` under the group's key."""
    of_groups = {f"{group.key}/{name}": values for group in groups for name, values in group.evidence.items()}
    _write(path, {**features, **of_groups})


def features_of(
    split: EvaluationSplit, drawn: Fakes, scored: np.ndarray, real: Seen, speech: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """What extractors saw of images, with the numbers of their captions or pictures, by kind and name.

    Args:
        scored: the captions that scores count; those of the paper's mAP are drawn too.
        speech: what the independent speech encoder gives of the split's utterances.
    """
    kinds: dict[str, tuple[np.ndarray, Seen]] = {
        "generated": (drawn.captions, drawn.seen),
        "real": (split.images, real),
    }
    if speech is not None:
        kinds["speech"] = split.utterances, {NAME: speech}
    found = {f"{kind}/{name}": rows for kind, (_, seen) in kinds.items() for name, rows in seen.items()}
    numbers = {f"{kind}/numbers": numbers for kind, (numbers, _) in kinds.items()}
    return {**found, **numbers, "scored/numbers": scored}


def write_described(path: Path, split: EvaluationSplit, attributes: Mapping[str, Sequence[str]]) -> None:
    """Of each utterance of the split its picture and the attributes that it names; of each picture its class and all
    its attributes.

    Args:
        attributes: the values of each attribute, in the order of the numbers that the classifier gives.
    """
    store = split.store

    def of_picture(number: int) -> dict[str, Any]:
        facts = store.image_attributes(number) if store.attributes else {}
        return {"number": number, "class": int(store.image_class[number]), "attributes": facts}

    captions = [
        {"number": number, "picture": int(store.image_index[number]), "names": split.mentioned(number)}
        for number in map(int, split.utterances)
    ]
    content = {
        "classes": list(store.classes),
        "attributes": {name: list(values) for name, values in attributes.items()},
        "captions": captions,
        "pictures": [of_picture(number) for number in map(int, split.images)],
    }
    atomic_write_json(path, content)


def _write(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    with atomic_write(path) as file:
        file.write(save({name: np.ascontiguousarray(values) for name, values in tensors.items()}))
