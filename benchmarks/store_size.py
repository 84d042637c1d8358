"""What a step costs with few and with many utterances in the store; prints one JSON object.

    OMP_NUM_THREADS=1 python benchmarks/store_size.py [--utterances 1000 1000000] [--steps 30]

Made-up stores like those of `store.py`, ten utterances an image, whose shards are links to one, so that they are warm.
Of the recipe's stages nothing is computed before: images are encoded in the step, and the speech encoder trains along
in stage 2. Times are processor microseconds an image: of what a step reads from the store and of whole steps, medians
over `--steps`, the stores in turns; and of the order that is drawn once an epoch. Ratios are the largest store's over
the smallest one's.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import torch
from rich.console import Console
from store import FRAMES, IMAGE_ITEMS, IMAGE_SIZE, MEL_ITEMS, MELS, shards_of, write_tables

from s2igan.data.dataset import SpeechImageData
from s2igan.data.layout import STORE, stored_size
from s2igan.data.store import Store
from s2igan.models.encoders import build_encoder
from s2igan.models.image_encoder import ImageEncoder
from s2igan.recipes import resolve
from s2igan.training.stages import RDGStage, SENStage

CPU = torch.device("cpu")
UTTERANCES_OF_AN_IMAGE = 10


def made_up(out: Path, n_utterances: int) -> Store:
    """A store whose shards of one kind are all the same file."""
    rng, side = np.random.default_rng(0), stored_size(IMAGE_SIZE)
    n_images = n_utterances // UTTERANCES_OF_AN_IMAGE
    (out / STORE).mkdir(parents=True)
    mels = rng.standard_normal((MEL_ITEMS * FRAMES, MELS), dtype=np.float32).astype(np.float16)
    pixels = rng.integers(0, 256, (IMAGE_ITEMS * side, side, 3), dtype=np.uint8)
    sizes = {}
    for kind, items, per_shard, content in (
        ("mels", n_utterances, MEL_ITEMS, {"mels": mels}),
        ("images", n_images, IMAGE_ITEMS, {"images": pixels}),
    ):
        whole = out / f"{kind}.safetensors"
        safetensors.numpy.save_file(content, whole)
        for name, _ in shards_of(kind, items, per_shard):  # type: ignore[arg-type]
            os.link(whole, out / STORE / name)
            sizes[name] = whole.stat().st_size
    write_tables(out, n_utterances, n_images, sizes)
    return Store.open(out)


def stages_of(store: Store, recipe_name: str) -> list[SENStage | RDGStage]:
    """Both stages, with random weights."""
    recipe, quiet = resolve(recipe_name), Console(quiet=True)
    image = ImageEncoder(recipe.sen.image, pretrained=False)
    sen = replace(recipe.sen, image_views=0)
    rdg = replace(recipe.rdg, image_views=0, speech="finetuned")
    rdg_data = SpeechImageData(store, "train", rdg.generator.resolutions[-1])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        speech = build_encoder(sen.speech).eval()
    sen_data = SpeechImageData(store, "train", sen.image_size)
    return [
        SENStage(sen, sen_data, None, seed=0, device=CPU, console=quiet, cache=store.directory, image=image),
        RDGStage(
            rdg,
            recipe.beyond,
            rdg_data,
            None,
            speech=speech,
            image=image,
            samples=store.directory,
            seed=0,
            device=CPU,
            console=quiet,
            cache=store.directory,
        ),
    ]


def step_of(stage: SENStage | RDGStage) -> Callable[[int], Any]:
    """Takes a step of a stage, given its number."""
    return lambda index: stage.update(index)(stage.state, stage.batch(stage.reader.read(index)), stage.config)


def processor_seconds(run: Callable[[int], Any], index: int) -> float:
    """Of one call."""
    started = time.process_time()
    run(index)
    return time.process_time() - started


def compare(stages: dict[int, SENStage | RDGStage], steps: int) -> dict[str, Any]:
    """Microseconds an image for each size of the store, and the ratio."""
    found: dict[str, Any] = {}
    for name, call in (("read", lambda stage: stage.reader.read), ("step", step_of)):
        times: dict[int, list[float]] = {size: [] for size in stages}
        for index in range(steps + 1):  # the first is not counted
            for size, stage in stages.items():
                times[size].append(processor_seconds(call(stage), index))
        each = {
            size: 1e6 * statistics.median(times[size][1:]) / stage.images_per_step for size, stage in stages.items()
        }
        found[f"{name}_microseconds"] = {size: round(value, 1) for size, value in each.items()}
        found[f"{name}_ratio"] = round(each[max(each)] / each[min(each)], 3)
    found["order_microseconds"] = {
        size: round(1e6 * order_of_an_epoch(stage) / len(stage.train), 3) for size, stage in stages.items()
    }
    return found


def order_of_an_epoch(stage: SENStage | RDGStage) -> float:
    """Processor seconds that the first step of an epoch takes to draw its order."""
    times = []
    for epoch in range(1, 6):
        first = epoch * stage.steps_per_epoch
        times.append(processor_seconds(lambda index: stage.train.positions(index, stage.images_per_step, 0), first))
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--utterances", type=int, nargs="+", default=[1_000, 1_000_000])
    parser.add_argument("--recipe", default="birds-rdg")
    parser.add_argument("--steps", type=int, default=30)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = {size: stages_of(made_up(Path(folder) / str(size), size), options.recipe) for size in options.utterances}
        found = {
            made[options.utterances[0]][i].name: compare(
                {size: stages[i] for size, stages in made.items()}, options.steps
            )
            for i in range(2)
        }
    print(json.dumps({"recipe": options.recipe, "threads": torch.get_num_threads(), **found}, indent=2))


if __name__ == "__main__":
    main()
