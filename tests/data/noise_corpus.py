"""A corpus of noise, small enough to be packed in a moment, and what a store of it holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from s2igan.data import pack

COLOURS = ("red", "blue", "green")


def make_corpus(root: Path, n_images: int = 8, captions: int = 2, classes: bool = True) -> list[dict[str, Any]]:
    """Pictures of noise, each with descriptions of different lengths; by class: 0 and 1 train, 2 validation, 3 test."""
    rng = np.random.default_rng(0)
    (root / "images").mkdir(parents=True)
    (root / "audio").mkdir()
    rows: list[dict[str, Any]] = []
    for image in range(n_images):
        Image.fromarray(rng.integers(0, 256, (30, 30, 3), dtype=np.uint8)).save(root / f"images/{image}.png")
        for caption in range(captions):
            wave = rng.standard_normal(int(rng.integers(2000, 6000))) * 0.1
            soundfile.write(root / f"audio/{image}-{caption}.wav", wave, 22_050)
            rows.append(
                {
                    "audio": f"audio/{image}-{caption}.wav",
                    "image": f"images/{image}.png",
                    "split": ("train", "train", "val", "test")[image % 4],
                    "speaker": f"voice {caption}",
                    "text": f"picture {image}, told {caption}",
                    "attributes": {"belly": COLOURS[image % 3], "tail": "long"},
                    "mentions": ["belly"] if caption == 0 else [],
                }
            )
            if classes:
                rows[-1]["class"] = f"class {3 - image % 4}"
    write(root, rows)
    return rows


def write(root: Path, rows: list[dict[str, Any]]) -> None:
    (root / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def build(root: Path, **arguments: Any) -> dict[str, Any]:
    """With small shards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pack, "MEL_SHARD_ITEMS", 4)
        patch.setattr(pack, "IMAGE_SHARD_ITEMS", 3)
        options = {"image_size": 16, "jobs": 1} | arguments
        return pack.build_store(root / "manifest.jsonl", **options)


def content(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((root / "store").iterdir())}
