"""Features and embeddings of pictures by an image encoder of stage 1, in batches."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from s2igan.data.dataset import crop_and_flip
from s2igan.data.store import StoredImages
from s2igan.evaluation.extractors import BATCH
from s2igan.models.image_encoder import ImageEncoder
from s2igan.parallel import track


def image_features(
    encoder: ImageEncoder,
    pictures: UInt8[np.ndarray, "pictures side side 3"] | StoredImages,
    rows: Int[np.ndarray, " rows"] | None = None,
    *,
    crop: int | None = None,
    project: bool = False,
    description: str = "Image features",
) -> Float[np.ndarray, "_ features"]:
    """Frozen features of pictures, or with ``project`` their embeddings V, float32, on the encoder's device.

    Args:
        pictures: an array, or all pictures of a store, of which only those asked for are read.
        rows: which of them, in this order; all unless given.
        crop: side in pixels of the centre crop; the whole picture unless given.
    """
    device = next(encoder.parameters()).device
    compute: Callable[[Tensor], Tensor] = encoder if project else encoder.features
    rows = np.arange(len(pictures)) if rows is None else rows
    parts = []
    with torch.inference_mode():
        for start in track(range(0, len(rows), BATCH), description):
            images = crop_and_flip(pictures[rows[start : start + BATCH]], crop or pictures.shape[1], None)
            parts.append(compute(images.to(device)).float().cpu().numpy())
    return np.concatenate(parts)
