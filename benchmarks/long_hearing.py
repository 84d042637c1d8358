"""What hearing and drawing long recordings take: processor time and memory, by the length of one recording.

    OMP_NUM_THREADS=1 python benchmarks/long_hearing.py --model birds [--seconds 4 60 600] [--samples 4]

Prints one JSON object. Memory is the most that the process held above what it held before each.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from s2igan import SpeechToImage
from s2igan.audio import SAMPLE_RATE

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def megabytes(field: str) -> float:
    """VmRSS, what the process holds, or VmHWM, the most since `RESET` was written to."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="birds")
    parser.add_argument("--seconds", type=float, nargs="+", default=[4.0, 60.0, 600.0])
    parser.add_argument("--samples", type=int, default=4)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = SpeechToImage.load(options.model, "cpu")
    rng = np.random.default_rng(0)
    noise = model.picture_noise(options.samples, 1)
    model.draw(model.condition((rng.standard_normal(4 * SAMPLE_RATE), SAMPLE_RATE)).repeat(options.samples), noise)
    found = {}
    for seconds in options.seconds:
        wave = (0.1 * rng.standard_normal(round(seconds * SAMPLE_RATE))).astype(np.float32)
        RESET.write_text("5")
        held, started = megabytes("VmRSS"), time.process_time()
        condition = model.hear([wave])
        heard, hearing = time.process_time(), megabytes("VmHWM") - held
        model.draw(condition.repeat(options.samples), noise)
        found[f"{seconds:g}"] = {
            "words": 0 if condition.words is None else condition.words.shape[1],
            "hearing_seconds": round(heard - started, 2),
            "hearing_megabytes": round(hearing),
            "drawing_seconds": round(time.process_time() - heard, 2),
            "drawing_megabytes": round(megabytes("VmHWM") - held),
        }
    print(json.dumps({"model": options.model, "samples": options.samples, "by_seconds": found}, indent=2))


if __name__ == "__main__":
    main()
