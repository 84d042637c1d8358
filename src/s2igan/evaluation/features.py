"""Features and embeddings of pictures, in batches."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from safetensors.numpy import load_file, save
from torch import Tensor

from s2igan.data.dataset import crop_and_flip
from s2igan.data.store import Store, StoredImages
from s2igan.evaluation.lite2 import Lite2
from s2igan.files import atomic_write, cache_folder
from s2igan.models.image_encoder import ImageEncoder
from s2igan.parallel import track

BATCH = 16
"""Images in one pass. The maps of 64 leave a processor's caches: an image takes twice as long then (15 and 8 ms through
Lite2 on one core)."""


def image_features(
    encoder: ImageEncoder | Lite2,
    pictures: UInt8[np.ndarray, "pictures side side 3"] | StoredImages,
    rows: Int[np.ndarray, " rows"] | None = None,
    *,
    crop: int | None = None,
    mirrored: bool = False,
    project: bool = False,
    description: str = "Image features",
) -> Float[np.ndarray, "_ features"]:
    """Frozen features of pictures, or with ``project`` their embeddings V, float32, on the encoder's device.

    Args:
        pictures: an array, or all pictures of a store, of which only those asked for are read.
        rows: which of them, in this order; all unless given.
        crop: side in pixels of the centre crop; the whole picture unless given.
        mirrored: whether right and left are exchanged.
    """
    device = next(encoder.parameters()).device
    compute: Callable[[Tensor], Tensor] = encoder if project else encoder.features
    rows = np.arange(len(pictures)) if rows is None else rows
    parts = []
    with torch.inference_mode():
        for start in track(range(0, len(rows), BATCH), description):
            images = crop_and_flip(pictures[rows[start : start + BATCH]], crop or pictures.shape[1], None)
            images = images.flip(3) if mirrored else images
            parts.append(compute(images.to(device)).float().cpu().numpy())
    return np.concatenate(parts)


def stored_features(
    encoder: ImageEncoder | Lite2,
    extractor: str,
    store: Store,
    images: Int[np.ndarray, " images"],
    *,
    crop: int,
    mirrored: bool = False,
    description: str,
) -> Float[np.ndarray, "images features"]:
    """`image_features` of pictures of a store, kept in the user's cache folder: every run on a store is compared with
    the same ones. The file's name is of all that the features depend on.

    Args:
        extractor: what the encoder computes, in words.
    """
    facts = {
        "extractor": extractor,
        "weights": encoder.weights_digest,
        "store": store.fingerprint,
        "images": hashlib.sha256(images.astype(np.int64).tobytes()).hexdigest(),
        "crop": crop,
        "mirrored": mirrored,
    }
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    path = cache_folder(None) / "features" / f"{key}.safetensors"
    if not path.exists():
        found = image_features(encoder, store.images, images, crop=crop, mirrored=mirrored, description=description)
        with atomic_write(path) as file:
            file.write(save({"features": found}))
    features: np.ndarray = load_file(path)["features"]
    return features
