"""How fast batches come out of a prepared store, beside how fast training takes them; prints one JSON object.

    OMP_NUM_THREADS=1 python benchmarks/loader.py STORE [--recipe birds] [--batches 20] [--steps 5]

STORE is a prepared set of any size; a small one for this is made by

    s2igan prepare birds --classes 14 --individuals 4 --captions 2 --out STORE

For each stage of the recipe the batches of training (utterances, images, crops, distortions; what the recipe keeps in
memory is kept) are drawn without a step, and then with one, in turns. Images a second are of processor time of one
thread, medians over the turns; a GPU's step is measured by the clock instead. The weights are random, which changes no
time.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from s2igan.data.dataset import SpeechImageData
from s2igan.data.store import Store
from s2igan.models.encoders import build_encoder
from s2igan.recipes import resolve
from s2igan.training.rdg_stage import RDGStage
from s2igan.training.sen_stage import SENStage

TURNS = 3


def measured(stage: SENStage | RDGStage, batches: int, steps: int) -> dict[str, Any]:
    """Images a second of the stage's loader alone, and of its whole step, which loads as well."""
    on_gpu = stage.device.type == "cuda"
    now = time.perf_counter if on_gpu else time.process_time
    stage.batch(0)
    stage.step(0)
    loading, stepping = [], []
    for turn in range(TURNS):
        started = now()
        for index in range(batches):
            stage.batch(turn * batches + index)
        loading.append((now() - started) / batches)
        started = now()
        for index in range(steps):
            stage.step(turn * steps + index)
        if on_gpu:
            torch.cuda.synchronize()
        stepping.append((now() - started) / steps)
    load, step = statistics.median(loading), statistics.median(stepping)
    images = stage.images_per_step
    return {
        "batch_size": images,
        "loader_images_per_second": round(images / load),
        "step_images_per_second": round(images / step, 1),
        "loader_over_step": round(step / load, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--recipe", default="birds")
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--steps", type=int, default=5)
    options = parser.parse_args()
    recipe, store = resolve(options.recipe), Store.open(options.store)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        torch.set_num_threads(1)
    quiet = Console(quiet=True)
    train = SpeechImageData(store, "train", recipe.sen.image_size)
    sen = SENStage(recipe.sen, train, None, seed=0, device=device, console=quiet)
    result = {"sen": measured(sen, options.batches, options.steps)}
    with tempfile.TemporaryDirectory() as folder:
        rdg = RDGStage(
            recipe.rdg,
            SpeechImageData(store, "train", recipe.rdg.generator.resolutions[-1]),
            None,
            speech=build_encoder(recipe.sen.speech).to(device).eval(),
            image=sen.state.image.eval(),
            samples=Path(folder),
            seed=0,
            device=device,
            console=quiet,
        )
        result["rdg"] = measured(rdg, options.batches, options.steps)
    facts = {"recipe": options.recipe, "images_in_store": store.n_images, "device": device.type}
    facts |= {"threads": torch.get_num_threads(), "load_of_the_machine": round(os.getloadavg()[0], 1)}
    print(json.dumps(facts | result, indent=2))


if __name__ == "__main__":
    main()
