"""What frozen encoders give, computed once: image features of a few fixed views, and speech embeddings of every
utterance."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from rich.console import Console
from rich.progress import track
from safetensors.torch import load_file, save
from torch import Tensor

from s2igan.data.dataset import crop_and_flip, encoder_input
from s2igan.data.store import Store
from s2igan.files import atomic_write
from s2igan.models.encoders import Encoder
from s2igan.models.image_encoder import ImageEncoder
from s2igan.training.distributed import first

BATCH = 64


def image_features(
    store: Store,
    encoder: ImageEncoder,
    image_size: int,
    views: int,
    *,
    cache: Path,
    console: Console,
    device: torch.device,
) -> Float[Tensor, "images views features"]:
    """Features, float16, of a store's images through a frozen backbone, from `features-<key>.safetensors` in the cache
    folder, which is made where it is missing; the key is of all that the features depend on.

    View 0 is the centre crop; the others are random crops, every second one flipped. They stand for the random crops
    and flips that an encoder inside the training step would see, at the cost of one pass over the images.
    """
    facts = {
        "backbone": encoder.config.backbone,
        "weights": encoder.weights_digest,
        "input_size": encoder.config.input_size,
        "pooling": encoder.config.pooling,
        "image_size": image_size,
        "views": views,
        "store": store.fingerprint,
    }
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    path = cache / f"features-{key}.safetensors"

    def fill() -> None:
        if path.exists():
            return
        n = len(store.images)
        rows: list[Tensor] = []
        starts = range(0, n, BATCH)
        description = f"Image features, {n} images x {views} views"
        for start in track(starts, description=description, console=console, disable=not console.is_terminal):
            pixels = [store.images.whole(image) for image in range(start, min(n, start + BATCH))]
            per_view = []
            for view in range(views):
                images = crop_and_flip(pixels, image_size, np.random.default_rng([0xF0, view, start]) if view else None)
                with torch.no_grad():
                    per_view.append(encoder.features(images.to(device, memory_format=torch.channels_last)).cpu())
            rows.append(torch.stack(per_view, dim=1).half())
        with atomic_write(path) as file:
            file.write(save({"features": torch.cat(rows)}))

    first(fill)  # alone also looks: processes that come later would find the file, and not wait
    return load_file(path)["features"]


def draw_views(
    features: Float[Tensor, "images views features"],
    images: Int[np.ndarray, " batch"],
    rng: np.random.Generator | None,
) -> Float[Tensor, "batch features"]:
    """Features of a random view of each image, or of the centre crop where rng is None."""
    views = features.shape[1]
    chosen = np.zeros(len(images), dtype=np.int64) if rng is None else rng.integers(0, views, len(images))
    return features[torch.from_numpy(np.asarray(images)), torch.from_numpy(chosen)].float()


@torch.no_grad()
def speech_embeddings(
    store: Store,
    encoder: Encoder,
    utterances: Int[np.ndarray, " n"],
    *,
    device: torch.device,
    console: Console | None = None,
) -> Float[Tensor, "n embedding"]:
    """Unit-length embeddings of utterances, in the order given; batches are of similar length, so little padding is
    computed."""
    was_training = encoder.training
    encoder.eval()
    order = np.argsort(np.asarray(store.n_frames)[utterances], kind="stable")
    out = torch.empty(len(order), encoder.config.embedding)
    starts = range(0, len(order), BATCH)
    shown = console is not None and console.is_terminal
    for start in track(starts, description="Speech embeddings", console=console, disable=not shown):
        rows = order[start : start + BATCH]
        mel, lengths = encoder_input(store, utterances[rows], encoder.reads)
        out[torch.from_numpy(rows)] = encoder(mel.to(device), lengths).cpu()
    encoder.train(was_training)
    return out
