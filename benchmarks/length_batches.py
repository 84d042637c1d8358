"""Steps of stage 1 on batches drawn at random and on batches of utterances of similar length (`length_window`).

    OMP_NUM_THREADS=1 python benchmarks/length_batches.py --data STORE [--recipe birds] [--windows 1 9] [--epochs 1]

STORE is a prepared set; it is read, and its cache is filled with image features unless it has them. The windows are
taken in turns, step by step, in one process of one thread; each has its own networks, all with the same weights at the
start. Steps are counted from the first epoch in which distortions have their full strength, so that the lengths are
those of most of the training.

Prints one JSON object. For each window: the share of frames that are padding, as recorded (of ten epochs of training
batches) and as distorted (of the steps that are timed); processor seconds and seconds a step, means over whole epochs,
since the steps of a window differ in length; and what a step takes of that of the first window. Other programs on the
machine lengthen the seconds and, by sharing its caches, somewhat the processor seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from s2igan.data.dataset import SpeechImageData
from s2igan.data.store import Store
from s2igan.recipes import resolve
from s2igan.training.sen import step
from s2igan.training.sen_stage import SENStage

CPU = torch.device("cpu")
RECORDED_EPOCHS = 10
"""Whose padding is counted without a step."""


def recorded_padding(data: SpeechImageData, batch_size: int, window: int) -> float:
    """Share of frames that are padding, before distortions; a window of one batch is drawn at random."""
    spoken = padded = 0
    for index in range(RECORDED_EPOCHS * data.steps_per_epoch(batch_size)):
        _, utterances = data.pairs_of_similar_length(index, batch_size, 0, window)
        frames = data.store.n_frames[utterances]
        spoken += int(frames.sum())
        padded += int(frames.max()) * len(frames)
    return 1 - spoken / padded


def compare(data: SpeechImageData, recipe: str, windows: list[int], epochs: int) -> dict[str, Any]:
    """Padding and times of each window, by its number of batches."""
    config = resolve(recipe).sen
    quiet = Console(quiet=True)
    stages = {
        window: SENStage(replace(config, length_window=window), data, None, seed=0, device=CPU, console=quiet)
        for window in windows
    }
    some = next(iter(stages.values()))
    full_strength = config.augment.rises[1] if config.augment is not None else 0.0
    first = -(-round(full_strength * some.config.loop.steps) // some.steps_per_epoch) * some.steps_per_epoch
    seconds: dict[int, list[tuple[float, float]]] = {window: [] for window in windows}
    frames: dict[int, list[tuple[int, int]]] = {window: [] for window in windows}
    for index in range(first - 1, first + epochs * some.steps_per_epoch):
        for window, stage in stages.items():
            started, processed = time.perf_counter(), time.process_time()
            batch = stage.batch(index)
            step(stage.state, batch, stage.config)
            taken = time.process_time() - processed, time.perf_counter() - started
            if index >= first:  # the one before is the warm-up
                seconds[window].append(taken)
                frames[window].append((int(batch.lengths.sum()), batch.mel.shape[0] * batch.mel.shape[1]))
    found: dict[str, Any] = {}
    for window in windows:
        spoken, padded = np.sum(frames[window], axis=0)
        processor, wall = np.mean(seconds[window], axis=0)
        of_first = processor / np.mean(seconds[windows[0]], axis=0)[0]
        found[str(window)] = {
            "padding_as_recorded": round(recorded_padding(data, config.batch_size, window), 3),
            "padding_as_distorted": round(float(1 - spoken / padded), 3),
            "processor_seconds_per_step": round(float(processor), 4),
            "seconds_per_step": round(float(wall), 4),
            "processor_seconds_of_first": round(float(of_first), 3),
        }
    return {"steps": epochs * some.steps_per_epoch, "batch_size": config.batch_size, "windows": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--recipe", default="birds")
    parser.add_argument("--windows", type=int, nargs="+", default=[1, 9])
    parser.add_argument("--epochs", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = SpeechImageData(Store.open(options.data), "train", resolve(options.recipe).sen.image_size)
    result = compare(data, options.recipe, options.windows, options.epochs)
    facts = {"recipe": options.recipe, "images": len(data), "load_of_the_machine": round(os.getloadavg()[0], 1)}
    print(json.dumps(facts | result, indent=2))


if __name__ == "__main__":
    main()
