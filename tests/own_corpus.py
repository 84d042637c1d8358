"""Small trees of pictures and recordings, as people have them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

RATE = 8_000


def picture(path: Path, seed: int) -> Path:
    """A picture of noise, another one for each seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (24, 30, 3), dtype=np.uint8)).save(path)
    return path


def recording(path: Path, seed: int, seconds: float = 0.5) -> Path:
    """A recording of noise, another one for each seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.random.default_rng(seed).standard_normal(int(seconds * RATE)), RATE)
    return path


def own_corpus(root: Path, n: int = 10, recordings: int = 2, classes: int = 0) -> Path:
    """`n` pictures, each with recordings; in folders of classes, one after the other, where there are classes."""
    for i in range(n):
        folder = f"kind {i % classes}/" if classes else ""
        picture(root / f"images/{folder}p{i:02d}.png", i)
        for k in range(recordings):
            recording(root / f"audio/{folder}p{i:02d}_{k + 1}.wav", 1000 * (i + 1) + k)
    return root
