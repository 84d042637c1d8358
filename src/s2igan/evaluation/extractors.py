"""What is computed of pictures, whether generated or real, in one pass: features, and what a classifier sees.

A picture is seen once by all extractors and need not be kept. Every extractor is named with the SHA-256 of its weights
in the record of an evaluation, and the features of real pictures are cached under what they depend on.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, UInt8
from safetensors.numpy import load_file, save
from torch_fidelity.feature_extractor_base import FeatureExtractorBase

from s2igan.data.dataset import crop_and_flip
from s2igan.data.store import Store
from s2igan.files import atomic_write, cache_folder
from s2igan.models.image_encoder import ImageEncoder
from s2igan.parallel import track
from s2igan.pipeline import to_pixels

BATCH = 16
"""Pictures in one pass. The maps of 64 leave a processor's caches: a picture takes twice as long then (15 and 8 ms
through Lite2 on one core)."""

Pictures = UInt8[np.ndarray, "_ side side 3"]
Seen = Mapping[str, np.ndarray]
"""Rows by name, such as "lite2": one for each picture, in their order."""


class Extractor(ABC):
    """Computes rows of numbers of pictures."""

    name: str
    """Short, such as `lite2`; it stands in the names of scores."""
    facts: Mapping[str, Any]
    """What is computed, in words, and the SHA-256 of the weights."""

    @abstractmethod
    def __call__(self, pictures: Pictures) -> dict[str, np.ndarray]:
        """Named rows; a row of each depends on its picture alone."""


class Fidelity(Extractor):
    """An extractor of torch-fidelity's: one of its own, or one that `spaces` joins to its registry.

    Args:
        layers: for each name of rows the name that the network gives them.
    """

    def __init__(
        self, name: str, network: FeatureExtractorBase, facts: Mapping[str, Any], layers: Mapping[str, str]
    ) -> None:
        self.name, self.facts = name, facts
        self._network, self._layers = network, layers

    @torch.inference_mode()
    def __call__(self, pictures: Pictures) -> dict[str, np.ndarray]:
        device = next(self._network.parameters()).device
        found = self._network.convert_features_tuple_to_dict(self._network(_planes(pictures).to(device)))
        return {rows: found[layer].float().cpu().numpy() for rows, layer in self._layers.items()}


class Embedding(Extractor):
    """Embeddings of unit length by an image encoder of stage 1."""

    def __init__(self, name: str, encoder: ImageEncoder, facts: Mapping[str, Any]) -> None:
        self.name, self.facts, self._encoder = name, facts, encoder

    @torch.inference_mode()
    def __call__(self, pictures: Pictures) -> dict[str, np.ndarray]:
        images = _planes(pictures).float().div_(127.5).sub_(1.0)
        device = next(self._encoder.parameters()).device
        return {self.name: self._encoder(images.to(device)).float().cpu().numpy()}


class Extraction:
    """Several extractors that see every picture once."""

    def __init__(self, extractors: Iterable[Extractor]) -> None:
        self.extractors = {extractor.name: extractor for extractor in extractors}

    def __contains__(self, name: str) -> bool:
        return name in self.extractors

    def __getitem__(self, name: str) -> Extractor:
        return self.extractors[name]

    def of(self, batches: Iterable[Pictures], names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        """The rows of pictures that come in batches, by the named extractors; by all unless given."""
        apart = self._apart(batches, list(self.extractors if names is None else names))
        return {rows: values for found in apart.values() for rows, values in found.items()}

    def of_stored(
        self,
        store: Store,
        images: Int[np.ndarray, " images"],
        *,
        crop: int,
        mirrored: bool = False,
        names: Sequence[str] | None = None,
    ) -> dict[str, np.ndarray]:
        """The rows of the centre crops of pictures of a store, kept in the user's cache folder: every model is compared
        with the same ones. A file's name is of all that its rows depend on.

        Args:
            crop: side in pixels.
            mirrored: whether right and left are exchanged.
        """
        more = {"crop": crop, "mirrored": mirrored}
        files = {
            name: _kept_in(self.about_stored(name, store, {"images": images}) | more)
            for name in (self.extractors if names is None else names)
        }
        if missing := [name for name, path in files.items() if not path.exists()]:
            rows = [images[start : start + BATCH] for start in range(0, len(images), BATCH)]
            crops = (centre_crops(store, part, crop) for part in track(rows, "Features of real images"))
            if mirrored:
                crops = (np.ascontiguousarray(pictures[:, :, ::-1]) for pictures in crops)
            for name, found in self._apart(crops, missing).items():
                with atomic_write(files[name]) as file:
                    file.write(save(found))
        return {rows: values for path in files.values() for rows, values in load_file(path).items()}

    def about_stored(self, name: str, store: Store, images: Mapping[str, Int[np.ndarray, " images"]]) -> dict[str, Any]:
        """What the rows of pictures of a store depend on: the extractor, the store, and which they are."""
        digests = {kind: hashlib.sha256(of.astype(np.int64).tobytes()).hexdigest() for kind, of in images.items()}
        return {"extractor": dict(self.extractors[name].facts), "store": store.fingerprint, **digests}

    def _apart(self, batches: Iterable[Pictures], names: Sequence[str]) -> dict[str, dict[str, np.ndarray]]:
        """By extractor."""
        parts: dict[str, dict[str, list[np.ndarray]]] = {name: defaultdict(list) for name in names}
        for pictures in batches:
            for start in range(0, len(pictures), BATCH):
                for name in names:
                    for rows, values in self.extractors[name](pictures[start : start + BATCH]).items():
                        parts[name][rows].append(values)
        return {name: {rows: np.concatenate(values) for rows, values in found.items()} for name, found in parts.items()}


def cached(facts: Mapping[str, Any], compute: Callable[[], Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """What ``compute`` gives, kept in the user's cache folder under all that it depends on."""
    path = _kept_in(facts)
    if not path.exists():
        with atomic_write(path) as file:
            file.write(save(dict(compute())))
    return load_file(path)


def _kept_in(facts: Mapping[str, Any]) -> Path:
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    return cache_folder(None) / "features" / f"{key}.safetensors"


def centre_crops(store: Store, images: Int[np.ndarray, " images"], side: int) -> Pictures:
    """The squares of ``side`` pixels in the middles of pictures of a store."""
    return to_pixels(crop_and_flip(store.images[images], side, None))


def _planes(pictures: Pictures) -> UInt8[torch.Tensor, "_ 3 side side"]:
    return torch.from_numpy(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2)))
