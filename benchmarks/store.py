"""How fast a prepared store opens and is read; prints one JSON object.

    python benchmarks/store.py [--utterances 1000000] [--images 100000] [--items 4096]

Opening is measured in a fresh process on an index of `--utterances` rows with made-up text, whose shards are empty;
reading on a store of `--items` random log-mels of 400 frames (4 s) and as many random pictures of 76 px, in random
order, warm.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import safetensors.numpy

from s2igan.data.layout import STORE, VERSION, Kind, shard_name, stored_size
from s2igan.data.pack import write_index
from s2igan.data.store import Store

FRAMES, MELS = 400, 40
IMAGE_SIZE = 64  # pixels, in training
MEL_ITEMS, IMAGE_ITEMS = 1024, 512  # a shard

OPENER = """
import json, sys, time
import numpy as np
from s2igan.data.store import Store
def peak_kib():
    return int(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
before, cpu, start = peak_kib(), time.process_time(), time.perf_counter()
store = Store.open(sys.argv[1])
seconds, cpu, after = time.perf_counter() - start, time.process_time() - cpu, peak_kib()
start = time.perf_counter()
counts = {name: len(store.split_indices(name)) for name in ("train", "validation", "test")}
split_seconds = time.perf_counter() - start
rng = np.random.default_rng(0)
start = time.perf_counter()
for i in rng.integers(0, len(store), 10000):
    store.text(i), store.mentions(i), store.image_attributes(store.image_index[i])
print(json.dumps({
    "utterances": len(store),
    "images": store.n_images,
    "open_seconds": round(seconds, 3),
    "open_cpu_seconds": round(cpu, 3),
    "peak_memory_mb": round(after / 1024),
    "of_which_before_opening_mb": round(before / 1024),
    "splits_seconds": round(split_seconds, 4),
    "text_mentions_and_attributes_per_second": round(10000 / (time.perf_counter() - start)),
}))
"""


def write_tables(out: Path, n_utterances: int, n_images: int, shard_bytes: dict[str, int]) -> None:
    """An index like that of a large corpus: 200 classes, 500 speakers, a sentence and four mentions each."""
    rng = np.random.default_rng(0)
    words = [f"word{i}" for i in range(300)]
    names = [f"attribute {i}" for i in range(12)]
    sentences = rng.integers(0, len(words), (n_utterances, 12))
    image = np.arange(n_utterances, dtype=np.int32) % n_images
    item = np.arange(n_utterances)
    write_index(
        out,
        {
            "image": image,
            "shard": (item // MEL_ITEMS).astype(np.int32),
            "offset": (item % MEL_ITEMS) * FRAMES,
            "n_frames": np.full(n_utterances, FRAMES, np.int32),
            "split": [("train", "train", "train", "validation", "test")[i % 5] for i in image],
            "speaker": [f"speaker {i % 500}" for i in item],
            "language": ["eng"] * n_utterances,
            "audio": [f"audio/{i % 200:03d}/utterance-{i:07d}.wav" for i in item],
            "start_seconds": [None] * n_utterances,
            "end_seconds": [None] * n_utterances,
            "text": [" ".join(words[word] for word in sentence) for sentence in sentences],
            "mentions": [[names[(i + k) % 12] for k in range(4)] for i in item],
        },
        {
            "path": [f"images/{i % 200:03d}/image-{i:07d}.jpg" for i in range(n_images)],
            "class": [f"class {i % 200}" for i in range(n_images)],
            "shard": (np.arange(n_images) // IMAGE_ITEMS).astype(np.int32),
            "offset": (np.arange(n_images) % IMAGE_ITEMS) * stored_size(IMAGE_SIZE),
            "length": np.full(n_images, stored_size(IMAGE_SIZE), np.int32),
            "wide": np.zeros(n_images, bool),
            "attributes": [
                json.dumps({name: words[(i + k) % 300] for k, name in enumerate(names)}) for i in range(n_images)
            ],
        },
        {
            "version": VERSION,
            "corpus": ".",
            "manifest": "manifest.jsonl",
            "image_size": IMAGE_SIZE,
            "stored_size": stored_size(IMAGE_SIZE),
            "window": "hann",
            "validation_from_train": False,
            "attributes": dict.fromkeys(names, words),
            "shards": shard_bytes,
        },
    )


def shards_of(kind: Kind, n_items: int, per_shard: int) -> list[tuple[str, int]]:
    return [(shard_name(kind, i), min(per_shard, n_items - at)) for i, at in enumerate(range(0, n_items, per_shard))]


def opening(out: Path, n_utterances: int, n_images: int) -> dict[str, float]:
    shards = shards_of("mels", n_utterances, MEL_ITEMS) + shards_of("images", n_images, IMAGE_ITEMS)
    (out / STORE).mkdir(parents=True)
    for name, _ in shards:
        (out / STORE / name).touch()
    write_tables(out, n_utterances, n_images, {name: 0 for name, _ in shards})
    finished = subprocess.run([sys.executable, "-c", OPENER, str(out)], capture_output=True, text=True, check=True)
    measured: dict[str, float] = json.loads(finished.stdout)
    return measured


def reading(out: Path, n_items: int) -> dict[str, float]:
    rng = np.random.default_rng(0)
    size = stored_size(IMAGE_SIZE)
    (out / STORE).mkdir(parents=True)
    for name, items in shards_of("mels", n_items, MEL_ITEMS):
        mels = rng.standard_normal((items * FRAMES, MELS), dtype=np.float32).astype(np.float16)
        safetensors.numpy.save_file({"mels": mels}, out / STORE / name)
    for name, items in shards_of("images", n_items, IMAGE_ITEMS):
        pixels = rng.integers(0, 256, (items * size, size, 3), dtype=np.uint8)
        safetensors.numpy.save_file({"images": pixels}, out / STORE / name)
    write_tables(out, n_items, n_items, {path.name: path.stat().st_size for path in (out / STORE).iterdir()})
    store = Store.open(out)
    order = rng.permutation(n_items)
    for i in order:  # warm
        store.mel(i).sum()
    start = time.perf_counter()
    for i in order:
        store.mel(i)
    views = n_items / (time.perf_counter() - start)
    start = time.perf_counter()
    for i in order:
        store.mel(i).astype(np.float32)
    mels = n_items / (time.perf_counter() - start)
    store.images[:]
    start = time.perf_counter()
    for at in range(0, n_items, 64):
        store.images[order[at : at + 64]]
    images = n_items / (time.perf_counter() - start)
    return {
        "items": n_items,
        "mel_views_per_second": round(views),
        "mels_of_400_frames_to_float32_per_second": round(mels),
        "images_of_76_px_in_batches_of_64_per_second": round(images),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--utterances", type=int, default=1_000_000)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--items", type=int, default=4096)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = {
            "open": opening(Path(folder) / "large", arguments.utterances, arguments.images),
            "read": reading(Path(folder) / "small", arguments.items),
        }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
