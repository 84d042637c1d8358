"""What latent flow trains on, computed once: latents of crops of the training pictures, and frames and words of speech.

They are kept in the run's cache as memory-mapped arrays, under a key of all that they depend on, so that a corpus may
be larger than memory.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

from s2igan.data.dataset import SpeechImageData, encoder_input
from s2igan.data.store import Store
from s2igan.files import atomic_write
from s2igan.models.matchmap import MatchmapConfig
from s2igan.models.pretrained_autoencoder import AnyAutoencoder
from s2igan.models.speech_encoder import SpeechEncoder, conv_length
from s2igan.training.distributed import first
from s2igan.training.precision import autocast

BATCH = 64


@torch.no_grad()
def latents_of(
    data: SpeechImageData,
    autoencoder: AnyAutoencoder,
    *,
    views: int,
    reach: float,
    seed: int,
    cache: Path,
    console: Console,
    precision: Literal["float32", "bf16"] = "float32",
) -> Float[np.ndarray, "pictures views channels 8 8"]:
    """Normalised latents, float16, of random crops and flips of every picture of a split, by position.

    A crop depends on the seed, on the picture and on the number of the view alone.

    Args:
        precision: that they are computed in.
    """
    device = autoencoder.mean.device

    def crops(rows: np.ndarray, view: int) -> Tensor:
        streams = (np.random.default_rng([0xAE, seed, view, image]) for image in data.images[rows])
        return torch.cat([data.crops(rows[[i]], rng, reach=reach) for i, rng in enumerate(streams)])

    def parts() -> Iterator[Tensor]:
        for start in track_batches(len(data), f"Latents, {len(data)} pictures x {views} crops", console):
            rows = np.arange(start, min(len(data), start + BATCH))
            with autocast(precision, device):
                encoded = [autoencoder.encode(crops(rows, view).to(device)) for view in range(views)]
            yield torch.stack(encoded, dim=1)

    encoder = digest(autoencoder.encoder), digest(autoencoder, buffers_only=True)
    facts = {"encoder": encoder, "views": views, "reach": reach, "seed": seed, "images": fingerprint(data)}
    facts |= {"precision": precision}
    return cached(cache, "latents", facts, (len(data), views, *autoencoder.config.latent_shape), parts)


@dataclass
class SpeechFrames:
    """Rows of numbers of each utterance of a split, one after the other."""

    rows: Float[np.ndarray, "rows dims"]
    first: Int[np.ndarray, " utterances_and_one"]
    """Where each utterance begins, in the order of `utterances`."""
    utterances: Int[np.ndarray, " utterances"]
    """Their numbers in the store, ascending."""

    def of(
        self, utterances: Int[np.ndarray, " batch"]
    ) -> tuple[Float[Tensor, "batch most dims"], Bool[Tensor, "batch most"]]:
        """Those of some utterances, zero-padded to the longest, and which rows are inside."""
        places = np.searchsorted(self.utterances, utterances)
        begin, end = self.first[places], self.first[places + 1]
        out = np.zeros((len(places), int((end - begin).max()), self.rows.shape[1]), dtype=np.float32)
        for to, a, b in zip(out, begin, end, strict=True):
            to[: b - a] = self.rows[a:b]
        return torch.from_numpy(out), torch.from_numpy(np.arange(out.shape[1]) < (end - begin)[:, None])


@torch.no_grad()
def local_frames(
    store: Store,
    encoder: SpeechEncoder,
    config: MatchmapConfig,
    utterances: Int[np.ndarray, " utterances"],
    *,
    cache: Path,
    console: Console,
) -> SpeechFrames:
    """Local frames, float16, of utterances (`SpeechEncoder.local_frames`), by a frozen encoder."""
    utterances = np.sort(utterances)
    steps = np.asarray(store.n_frames)[utterances].astype(np.int64)
    for _ in encoder.convs:
        steps = conv_length(steps, encoder.config.conv_stride)
    begin = np.concatenate([[0], np.cumsum((steps + 1) // 2)])
    device = next(encoder.parameters()).device

    def parts() -> Iterator[Tensor]:
        for start in track_batches(len(utterances), f"Frames of {len(utterances):,} utterances", console):
            mel, lengths = encoder_input(store, utterances[start : start + BATCH], "speech")
            frames, lengths = encoder.local_frames(mel.to(device), lengths, config.window, config.hop)
            yield frames[(torch.arange(frames.shape[1]) < lengths[:, None]).to(device)]

    facts = {
        "speech_encoder": digest(encoder),
        "window": config.window,
        "hop": config.hop,
        "store": store.fingerprint,
        "utterances": hashlib.sha256(utterances.tobytes()).hexdigest(),
    }
    rows = cached(cache, "frames", facts, (int(begin[-1]), encoder.config.embedding), parts)
    return SpeechFrames(rows, begin, utterances)


@torch.no_grad()
def words_of(frames: SpeechFrames, encode: nn.Module, device: torch.device) -> SpeechFrames:
    """Word embeddings of the same utterances, in memory."""
    parts = [
        encode(torch.from_numpy(np.asarray(frames.rows[start : start + 4096], dtype=np.float32)).to(device)).cpu()
        for start in range(0, len(frames.rows), 4096)
    ]
    return SpeechFrames(torch.cat(parts).half().numpy(), frames.first, frames.utterances)


def cached(cache: Path, name: str, facts: dict[str, Any], shape: tuple[int, ...], parts: Any) -> np.ndarray:
    """A float16 array from `<name>-<key>.npy` in the cache folder, filled from `parts` where it is missing."""
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    path = cache / f"{name}-{key}.npy"

    def fill() -> None:
        if path.exists():
            return
        with atomic_write(path) as file:
            header = {"descr": "<f2", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            written = 0
            for part in parts():
                file.write(part.half().cpu().contiguous().numpy().tobytes())
                written += len(part)
            assert written == shape[0], f"{written} rows where {shape[0]} were expected"

    first(fill)
    return np.load(path, mmap_mode="r")


def track_batches(count: int, description: str, console: Console) -> Iterator[int]:
    """The first item of each batch, with a progress bar on a terminal."""
    yield from track(range(0, count, BATCH), description=description, console=console, disable=not console.is_terminal)


def digest(network: nn.Module, *, buffers_only: bool = False) -> str:
    """SHA-256 of the weights."""
    whole = hashlib.sha256()
    for name, tensor in network.named_buffers() if buffers_only else network.state_dict().items():
        whole.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return whole.hexdigest()


def fingerprint(data: SpeechImageData) -> list[Any]:
    """What a split's pictures are."""
    return [data.store.fingerprint, hashlib.sha256(data.images.tobytes()).hexdigest(), data.image_size]
