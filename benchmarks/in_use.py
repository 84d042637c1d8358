"""How quickly a model draws: one recording warm, the command from a cold start, and many recordings in one batch.

    python benchmarks/in_use.py --model birds-rdg
    python benchmarks/in_use.py --model birds --batch 64

Prints one JSON object. Seconds by the clock are of a machine as busy as it is; processor seconds (user and system, of
all threads) are what a quiet core would take with one thread (OMP_NUM_THREADS=1), or less than that.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import soundfile
import torch

import s2igan
from s2igan import SpeechToImage

EXAMPLES = Path(s2igan.__file__).parent / "web" / "examples"


def processor_seconds(who: int = resource.RUSAGE_SELF) -> float:
    """Of this process, or of its children that have ended."""
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


def timed(task: Callable[[], object], repeats: int, who: int = resource.RUSAGE_SELF) -> dict[str, float]:
    """Median and least of some runs, by the clock and in processor seconds."""
    clock, processor = [], []
    for _ in range(repeats):
        started, used = time.perf_counter(), processor_seconds(who)
        task()
        clock.append(time.perf_counter() - started)
        processor.append(processor_seconds(who) - used)
    return {
        "seconds": round(statistics.median(clock), 4),
        "seconds_least": round(min(clock), 4),
        "processor_seconds": round(statistics.median(processor), 4),
        "processor_seconds_least": round(min(processor), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="birds")
    parser.add_argument("--batch", type=int, default=64, help="recordings in one batch")
    parser.add_argument("--repeats", type=int, default=20, help="of one recording; of the others fewer")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        wavs = []
        for example in sorted(EXAMPLES.glob("*.mp3")):
            samples, rate = soundfile.read(example)
            wavs.append(Path(folder) / f"{example.stem}.wav")
            soundfile.write(wavs[-1], samples, rate)
        model = SpeechToImage.from_pretrained(options.model, device="cpu")

        def draw_one() -> None:
            model(wavs[0], samples=1).images[0].save(io.BytesIO(), "PNG")

        command = [sys.executable, "-m", "s2igan", "generate", "--model", options.model, wavs[0], "--device", "cpu"]
        command += ["--samples", "1", "--out", Path(folder) / "drawn"]

        def start() -> None:
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

        many = [wavs[number % len(wavs)] for number in range(options.batch)]
        draw_one()
        record = {
            "model": options.model,
            "method": model.method,
            "side": model.resolutions[-1],
            "threads": torch.get_num_threads(),
            "other_load": round(os.getloadavg()[0], 1),
            "wav_to_png": timed(draw_one, options.repeats),
            "cold_start": timed(start, 3, resource.RUSAGE_CHILDREN),
            "batch": {"recordings": len(many), **timed(lambda: model(many, samples=1), 2)},
        }
    for kind in ("seconds_least", "processor_seconds_least"):
        record["batch"][f"images_per_{kind.removesuffix('_least')}"] = round(len(many) / record["batch"][kind], 2)
    print(json.dumps(record))


if __name__ == "__main__":
    main()
