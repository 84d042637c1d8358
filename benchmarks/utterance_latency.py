"""From one recording to one PNG, warm: `python benchmarks/utterance_latency.py RUN RECORDING [--repeats 20]`.

Prints one JSON object: milliseconds for decoding, embedding, drawing one sample and encoding the PNG.
"""

import argparse
import io
import json
import statistics
import time
from pathlib import Path

import torch

from s2igan import SpeechToImage


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("recording", type=Path)
    parser.add_argument("--repeats", type=int, default=20)
    options = parser.parse_args()

    start = time.perf_counter()
    model = SpeechToImage.load(options.run)
    load_ms = 1000 * (time.perf_counter() - start)

    total, embedding = [], []
    for repeat in range(options.repeats + 1):
        start = time.perf_counter()
        model(options.recording, samples=1, seed=1)[0].save(io.BytesIO(), "PNG")
        middle = time.perf_counter()
        model.embed(options.recording)
        if repeat:  # the first is cold
            total.append(1000 * (middle - start))
            embedding.append(1000 * (time.perf_counter() - middle))
    result = {
        "recording_to_png_ms": {"median": statistics.median(total), "max": max(total)},
        "recording_to_embedding_ms": {"median": statistics.median(embedding), "max": max(embedding)},
        "load_ms": load_ms,
        "resolution": model.resolutions[-1],
        "repeats": options.repeats,
        "threads": torch.get_num_threads(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
