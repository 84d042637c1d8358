"""What a machine with a GPU has to show, in under four minutes and without network: tests, then the speed of training.

The tests are those marked `gpu` (`tests/gpu/`, `tests/golden/`). Speed is that of the recipe `cub` at full size on a
made-up store, with Inception-v3 of random weights in the step and worker processes that read ahead: each stage in
float32 and in bf16, so many seconds each. Needs PyTorch and what else the Python at hand has; what is missing is named,
and what can run without it runs. Progress goes to stderr.

Prints one JSON object (and writes it to $OUT/gpu.json where OUT is set): machine, versions, what is missing, tests
passed, failed and skipped, and for each stage and precision the batch, images/s, milliseconds a step, the share of the
time that is spent waiting for batches, and the most memory that tensors took and that PyTorch held. Float32 means what
PyTorch means by it: its convolutions may take TF32 (`tf32_convolutions`). Ends with status 1 where anything failed or
could not run.

    make gpu
    PYTHONPATH=src .venv/bin/python benchmarks/gpu.py --device cpu --quick
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import math
import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
TESTS = ("tests/gpu", "tests/golden")
TOTAL_SECONDS = 220
"""After which nothing new begins."""
TEST_SECONDS = 140
"""After which the tests are stopped."""
WARM_STEPS = 3
EVERYTHING = ("tests", "speed")
NEEDED = {
    "numpy": ("numpy", EVERYTHING),
    "jaxtyping": ("jaxtyping", EVERYTHING),
    "safetensors": ("safetensors", EVERYTHING),
    "rich": ("rich", EVERYTHING),
    "PIL": ("pillow", EVERYTHING),
    "pyarrow": ("pyarrow", EVERYTHING),
    "tensorboard": ("tensorboard", EVERYTHING),
    "pytest": ("pytest", ("tests",)),
    "timm": ("timm", ("tests",)),
    "filelock": ("filelock", ("tests",)),
    "torchvision": ("torchvision", ("speed",)),
}
"""Modules, with the package that has each and what cannot run without it."""
HELPFUL = {
    "beartype": "types and shapes go unchecked",
    "soundfile": "no recording is read",
    "soxr": "no recording is read",
}
"""What else tests use, and what comes of it where it is missing."""


def say(text: str) -> None:
    """A line of progress."""
    print(f"gpu: {text}", file=sys.stderr, flush=True)


def installed(module: str) -> bool:
    """Whether Python finds a module."""
    return importlib.util.find_spec(module) is not None


def missing() -> tuple[list[str], dict[str, list[str]]]:
    """Sentences on all packages that are not there, and the packages that each part lacks."""
    lacking: dict[str, list[str]] = {part: [] for part in EVERYTHING}
    sentences = []
    for module, (package, parts) in NEEDED.items():
        if not installed(module):
            sentences.append(f"{package} is missing: no {' and no '.join(parts)}")
            for part in parts:
                lacking[part].append(package)
    sentences += [f"{name} is missing: {loss}" for name, loss in HELPFUL.items() if not installed(name)]
    return sentences, lacking


def versions() -> dict[str, Any]:
    """Of what a number may depend on."""
    import torch

    named = ("numpy", "torchvision", "timm", "pytest")
    found: dict[str, Any] = {name: importlib.metadata.version(name) for name in named if installed(name)}
    cudnn = torch.backends.cudnn.version() if torch.backends.cudnn.is_available() else None
    return {
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": cudnn,
        "tf32_convolutions": torch.backends.cudnn.allow_tf32,
        **found,
    }


def machine(device: str) -> dict[str, Any]:
    """What computes."""
    import torch

    found: dict[str, Any] = {"device": device, "cpus": os.cpu_count()}
    if device != "cpu":
        about = torch.cuda.get_device_properties(device)
        capability = f"{about.major}.{about.minor}"
        found |= {"gpu": about.name, "gib": round(about.total_memory / 2**30, 1), "compute_capability": capability}
    return found


def run_tests(device: str, quick: bool) -> dict[str, Any]:
    """The tests of the device, in a process of their own."""
    chosen = ["-m", "gpu" if device != "cpu" else "not gpu", *(["-k", "seeded or auto"] if quick else [])]
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "tests.xml"
        # Other versions warn of other things.
        command = [sys.executable, "-m", "pytest", "-q", "-W", "default", "--junit-xml", str(record), *chosen, *TESTS]
        path = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
        environment = os.environ | {"PYTHONPATH": path}
        try:
            done = subprocess.run(command, cwd=ROOT, env=environment, stdout=2, timeout=TEST_SECONDS, check=False)
            ended = {0: "", 1: ""}.get(done.returncode, f"pytest ended with status {done.returncode}")
        except subprocess.TimeoutExpired:
            ended = f"stopped after {TEST_SECONDS} s"
        cases = list(ET.parse(record).iter("testcase")) if record.exists() else []
    broken = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    skipped = [case for case in cases if case.find("skipped") is not None]
    return {
        "passed": len(cases) - len(broken) - len(skipped),
        "failed": len(broken),
        "skipped": len(skipped),
        "failures": [f"{case.get('classname')}.{case.get('name')}" for case in broken],
        "skips": sorted({part.get("message", "") for case in skipped for part in case.iter("skipped")}),
        "problem": ended or ("" if len(cases) > len(skipped) else "no test ran"),
        "seconds": round(time.monotonic() - started, 1),
    }


def stages(quick: bool, device: Any) -> Iterator[Any]:
    """Both stages of `cub`, at full size or at toy width."""
    from s2igan.dry_run import DataFacts, made_up_stages
    from s2igan.recipes import resolve

    recipe = resolve("cub")
    sen, rdg = recipe.sen, recipe.rdg
    if quick:
        image = replace(sen.image, embedding=32, input_size=75)  # the least that Inception-v3 takes
        sen = replace(sen, speech=replace(sen.speech, hidden=16), image=image, image_size=32)
        sizes = replace(rdg.generator, embedding=32, width=8, resolutions=(8, 16, 32))
        sen = replace(sen, batch_size=4)
        rdg = replace(rdg, generator=sizes, discriminator_width=2, batch_size=4)
    endless = {"steps": 10**6, "epochs": None}
    sen, rdg = (replace(stage, trainer=replace(stage.trainer, **endless)) for stage in (sen, rdg))
    facts = DataFacts(frames=60) if quick else DataFacts.of(recipe)
    return made_up_stages(replace(recipe, sen=sen, rdg=rdg), facts, device)


def speed(stage: Any, precision: Any, seconds: float, workers: int | None) -> dict[str, Any]:
    """Steps of a stage for some seconds, batches being read ahead."""
    import torch

    from s2igan.training.precision import autocast
    from s2igan.training.prefetch import read_steps

    device = stage.device
    on_gpu = device.type == "cuda"

    def synchronise() -> None:
        if on_gpu:
            torch.cuda.synchronize(device)

    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    reads = read_steps(stage.reader, range(10**6), device, workers)
    step, waited, started, losses = 0, 0.0, 0.0, {}
    while step <= WARM_STEPS or time.perf_counter() - started < seconds:
        if step == WARM_STEPS:
            synchronise()
            waited, started = 0.0, time.perf_counter()
        asked = time.perf_counter()
        read = next(reads)
        waited += time.perf_counter() - asked
        with autocast(precision, device):
            losses = stage.update(step)(stage.state, stage.batch(read), stage.config)
        values = torch.stack([value.float() for value in losses.values()]).tolist()  # as the trainer reads them
        step += 1
    synchronise()
    took, n = time.perf_counter() - started, step - WARM_STEPS
    broken = [key for key, value in zip(losses, values, strict=True) if not math.isfinite(value)]
    found = {
        "batch": stage.images_per_step,
        "images_per_second": round(n * stage.images_per_step / took, 1),
        "milliseconds_per_step": round(1000 * took / n, 1),
        "waiting_for_batches": round(waited / took, 3),
        "steps": n,
    }
    if on_gpu:
        found["peak_gib"] = round(torch.cuda.max_memory_allocated(device) / 2**30, 2)
        found["reserved_gib"] = round(torch.cuda.max_memory_reserved(device) / 2**30, 2)
    return found | ({"not_finite": broken} if broken else {})


def speeds(device: str, seconds: float, quick: bool, workers: int | None, deadline: float) -> dict[str, Any]:
    """Of each stage in each precision; what goes wrong is told in its place."""
    import torch

    found: dict[str, Any] = {}
    for stage in stages(quick, torch.device(device)):
        for precision in ("float32", "bf16"):
            name = f"{stage.name} {precision}"
            if time.monotonic() > deadline:
                found[name] = {"failed": "no time was left"}
                continue
            try:
                found[name] = speed(stage, precision, seconds, workers)
            except Exception as error:  # the other measurements are worth having
                found[name] = {"failed": f"{type(error).__name__}: {error}"}
            say(f"{name}: {json.dumps(found[name])}")
    return found


def main(options: argparse.Namespace) -> int:
    """Runs all that can run; the exit status."""
    started = time.monotonic()
    if not installed("torch"):
        say(f"{sys.executable} has no PyTorch; name one that has: make gpu PYTHON_GPU=/path/to/python3")
        return 1
    import torch

    say(f"{sys.executable} has torch {torch.__version__}, CUDA {torch.version.cuda}")
    if options.device != "cpu" and not torch.cuda.is_available():
        say("PyTorch finds no GPU here; run this where there is one, or name a Python with PyTorch for CUDA.")
        return 1
    sentences, lacking = missing()
    for sentence in sentences:
        say(sentence)
    found: dict[str, Any] = {
        "machine": machine(options.device),
        "versions": versions(),
        "missing": sentences,
        "tests": {"problem": f"not run without {', '.join(lacking['tests'])}"},
        "speed": {"all": {"failed": f"not run without {', '.join(lacking['speed'])}"}},
    }
    if not lacking["tests"]:
        found["tests"] = run_tests(options.device, options.quick)
        say(f"tests: {json.dumps(found['tests'])}")
    if not lacking["speed"]:
        deadline = started + TOTAL_SECONDS - options.seconds
        found["speed"] = speeds(options.device, options.seconds, options.quick, options.workers, deadline)
    found["seconds"] = round(time.monotonic() - started, 1)
    good = not found["tests"]["problem"] and not found["tests"].get("failed")
    good = good and not any({"failed", "not_finite"} & speed.keys() for speed in found["speed"].values())
    text = json.dumps(found | {"good": good})
    print(text)
    if os.environ.get("OUT"):
        (Path(os.environ["OUT"]) / "gpu.json").write_text(text + "\n", encoding="utf-8")
    return 0 if good else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, or cpu to try the program")
    parser.add_argument("--quick", action="store_true", help="few tests and toy widths, to try the program")
    parser.add_argument("--seconds", type=float, default=12.0, help="of each of the four measurements")
    parser.add_argument("--workers", type=int, help="processes that read ahead; unless given, 4 with a GPU")
    sys.exit(main(parser.parse_args()))
