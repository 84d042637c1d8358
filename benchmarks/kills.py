"""Kills a training by SIGKILL at random moments, again and again, and compares what it leaves with an undisturbed run.

Both stages of a recipe of toy width, in bf16 or float32, on a made-up set. A run is started, killed, resumed, killed,
... until it is finished; then the next run begins, until there were `--kills` kills. Every resumption must succeed, and
in the end every tensor of the last checkpoints (weights, moving average, optimisers) and of the exported models must be
the same bit for bit. Every life begins as a fork of this process, which has imported what training needs and done
nothing with it, so that a life costs what its steps cost. Prints one JSON object; exits 1 if anything differed.

    .venv/bin/python benchmarks/kills.py --kills 50
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from s2igan.checkpoint import flatten_state, load_latest, load_model
from s2igan.dry_run import DataFacts, made_up_store
from s2igan.models.generator import GeneratorConfig
from s2igan.models.image_encoder import ImageEncoderConfig
from s2igan.models.speech_encoder import SpeechEncoderConfig
from s2igan.training.augment import SpeechAugment
from s2igan.training.rdg import RDGConfig
from s2igan.training.recipe import Recipe
from s2igan.training.sen import SENConfig
from s2igan.training.train import train_run
from s2igan.training.trainer import TrainerConfig

SIZE = 16
STUCK_AFTER = 40
"""Lives without any checkpoint after which a run counts as stuck."""


def recipe(precision: str, steps: int) -> Recipe:
    """Everything that has a state: augmentation, dropout, a speech encoder that trains along, batch-norm statistics."""
    loop = TrainerConfig(steps=steps, log_every=5, evaluate_every=20, checkpoint_seconds=0.05, precision=precision)
    speech = SpeechEncoderConfig(conv_channels=(6, 8), hidden=8, layers=1, attention_hidden=4)
    image = ImageEncoderConfig(pooling="pyramid", input_size=32, feature_dropout=0.3, embedding=speech.embedding)
    sen = SENConfig(
        trainer=loop,
        speech=speech,
        image=image,
        image_size=SIZE,
        batch_size=6,
        image_views=2,
        augment=SpeechAugment(strength=1.0),
    )
    rdg = RDGConfig(
        trainer=loop,
        generator=GeneratorConfig(embedding=speech.embedding, condition=4, z=4, width=8, resolutions=(8, 16)),
        discriminator_width=2,
        relation_hidden=8,
        batch_size=6,
        image_views=2,
        speech="finetuned",
    )
    return Recipe("kills", sen, rdg)


def live(chosen: Recipe, data: Path, out: Path) -> int:
    """Starts one life of a run; returns its process."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        with (out.parent / f"{out.name}.txt").open("a") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
            train_run(chosen, data=data, out=out, resume=True, device="cpu")
            status = 0
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(status)


def result(out: Path, steps: int) -> dict[str, torch.Tensor]:
    """Every tensor that a finished run leaves."""
    found = {}
    for stage in ("sen", "rdg"):
        latest = load_latest(out / "checkpoints" / stage)
        assert latest is not None
        assert latest[1]["step"] == steps
        tensors, _ = flatten_state(latest[1]["stage"])
        found |= {f"{stage}/{name}": tensor for name, tensor in tensors.items()}
    for folder in ("sen", "model"):
        found |= {f"{folder}/{name}": tensor for name, tensor in load_model(out / folder)[1].items()}
    return found


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> list[str]:
    """Names of tensors that differ in any bit."""
    return sorted(
        name
        for name in a.keys() | b.keys()
        if name not in a or name not in b or a[name].numpy().tobytes() != b[name].numpy().tobytes()
    )


def whole_run(chosen: Recipe, data: Path, out: Path) -> float:
    """A run that nothing disturbs; how long it takes."""
    started = time.monotonic()
    _, status = os.waitpid(live(chosen, data, out), 0)
    if status:
        raise SystemExit((out.parent / f"{out.name}.txt").read_text())
    return time.monotonic() - started


def main(kills: int, steps: int, seed: int, precision: str, folder: Path) -> int:
    """Runs all; returns the exit status."""
    torch.set_num_threads(1)
    started = time.monotonic()
    rng = np.random.default_rng(seed)
    chosen, data = recipe(precision, steps), folder / "data"
    data.mkdir()
    made_up_store(data, SIZE, DataFacts(frames=40))
    seconds = whole_run(chosen, data, folder / "whole")
    expected = result(folder / "whole", steps)

    done = runs = 0
    failures: list[str] = []
    longest = lives = 0
    while (done < kills or lives) and not failures:
        if not lives:
            runs += 1
            out = folder / f"run-{runs}"
        child = live(chosen, data, out)
        lives += 1
        # Killed within the time that a whole run takes, so that lives of no step and lives to the end both occur.
        moment = time.monotonic() + (rng.uniform(0, seconds) if done < kills else 1e9)
        status = None
        while time.monotonic() < moment:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                break
            status = None
            time.sleep(0.002)
        if status is None:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            done += 1
        elif status != 0:
            failures.append(f"a life ended with status {status}: {(folder / f'{out.name}.txt').read_text()[-500:]}")
        else:
            failures += [f"{out.name}: {name} differs" for name in same(result(out, steps), expected)]
            longest, lives = max(longest, lives), 0
        if lives > STUCK_AFTER and not any(out.glob("checkpoints/*/step-*")):
            failures.append(f"{out.name} has no checkpoint after {lives} lives")
    facts = {
        "kills": done,
        "runs": runs,
        "most_lives_of_a_run": longest,
        "steps_of_a_run": 2 * steps,
        "seconds_of_an_undisturbed_run": round(seconds, 1),
        "precision": precision,
        "tensors_compared": len(expected),
        "failures": failures,
        "seconds": round(time.monotonic() - started, 1),
    }
    print(json.dumps(facts))
    return 1 if failures else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--steps", type=int, default=60, help="of each stage")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--precision", choices=["float32", "bf16"], default="float32")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="s2igan-kills-") as temporary:
        sys.exit(main(options.kills, options.steps, options.seed, options.precision, Path(temporary)))
