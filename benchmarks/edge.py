"""What `s2igan-edge` costs beside s2igan, and what 8-bit weights lose; prints one JSON object.

    python benchmarks/edge.py MODEL --onnx FLOAT [--int8 ROUNDED] [--data runs/birds --captions 300] [--repeats 5]
        [--threads 1] [--environment FOLDER]

FLOAT and ROUNDED are folders that `s2igan export MODEL --onnx FOLDER` wrote, the second with `--int8`.

- Installed size: the wheel of edge/ is built and installed in an empty environment; pip itself does not count.
  An `--environment` that has it already is taken as it is.
- Cold start: `generate` of one recording, one sample, in new processes, s2igan-edge from that environment.
- Warm: a wav to a PNG in memory, one sample.
- 8 bits: attributes of pictures of development captions, the same noise for both, read by the classifier of drawings.

Programs take turns. Seconds are by the clock, the best and the median, since other programs lengthen them; processor
seconds are beside them (those of one thread say most on a busy machine), and the load of the machine is in the result.
Files lie in the disk's cache.
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
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
RECORDING = min((ROOT / "src" / "s2igan" / "web" / "examples").glob("*.mp3"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--onnx", type=Path, required=True)
    parser.add_argument("--int8", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--captions", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, help="that compute; as many as there are cores unless given")
    parser.add_argument("--environment", type=Path)
    options = parser.parse_args()
    folders = {"float32": options.onnx, **({"int8": options.int8} if options.int8 else {})}
    result: dict[str, Any] = {
        "model": options.model,
        "model_mb": {name: round(size_mb(folder), 1) for name, folder in folders.items()},
        "load_before": os.getloadavg(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": options.threads,
    }
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        recording = work / "said.wav"
        write_wav(recording)
        if options.environment is None:
            programs, result["installed_mb"] = install(work)
        else:
            programs = options.environment / "bin"
        result["cold_start"] = cold_start(options, folders, programs, recording, work)
        result["wav_to_png"] = warm(options, folders, recording)
    if options.data is not None:
        result["attributes"] = attributes(folders, options.data, options.captions)
    result["load_after"] = os.getloadavg()
    print(json.dumps(result, indent=1))


def write_wav(path: Path) -> None:
    """A sentence of some 3 s, 22,050 Hz."""
    from s2igan.audio import SAMPLE_RATE, load_audio, write_recording

    write_recording(path, load_audio(RECORDING), SAMPLE_RATE)


def size_mb(folder: Path) -> float:
    """Of all files in a folder and below it."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def install(work: Path) -> tuple[Path, dict[str, float]]:
    """Builds the wheel and installs it in an empty environment; its programs, and the size of every package."""
    subprocess.run([sys.executable, "-m", "build", "--outdir", work, ROOT / "edge"], check=True, capture_output=True)
    (wheel,) = work.glob("*.whl")
    venv.create(work / "empty", with_pip=True)
    programs = work / "empty" / "bin"
    (packages,) = (work / "empty" / "lib").glob("python*/site-packages")
    before = {path.name for path in packages.iterdir()}
    subprocess.run([programs / "python", "-m", "pip", "install", "--quiet", wheel], check=True, capture_output=True)
    own = [path for path in packages.iterdir() if path.name not in before]
    sizes = {path.name: size_mb(path) if path.is_dir() else path.stat().st_size / 1e6 for path in own}
    largest = sorted(sizes.items(), key=lambda item: -item[1])[:6]
    return programs, {"all": round(sum(sizes.values()), 1)} | {name: round(size, 1) for name, size in largest}


def cold_start(
    options: argparse.Namespace, folders: dict[str, Path], programs: Path, recording: Path, work: Path
) -> dict[str, dict[str, float]]:
    """Of a whole command, from its start to its end."""
    words = ["generate", recording, "--samples", "1", "--out", work / "drawn", "--model"]
    commands: dict[str, list[str | Path]] = {"s2igan": [sys.executable, "-m", "s2igan", *words, options.model]}
    threads = [] if options.threads is None else ["--threads", str(options.threads)]
    for name, folder in folders.items():
        commands[f"s2igan-edge, {name}"] = [programs / "s2igan-edge", *words, folder, *threads]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    if options.threads is not None:
        environment["OMP_NUM_THREADS"] = str(options.threads)

    def run(command: list[str | Path]) -> float:
        """Processor seconds."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        own = environment if command[0] == sys.executable else {**os.environ, "PYTHONPATH": ""}
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=own)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    return in_turns({name: lambda command=command: run(command) for name, command in commands.items()}, options.repeats)


def warm(options: argparse.Namespace, folders: dict[str, Path], recording: Path) -> dict[str, dict[str, float]]:
    """A wav to the bytes of a PNG, everything loaded."""
    import torch

    import s2igan

    sys.path.insert(0, str(ROOT / "edge" / "src"))  # not installed beside s2igan; `make check` copies the shared files
    import s2igan_edge

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    loaded: dict[str, Any] = {"s2igan": s2igan.SpeechToImage.from_pretrained(options.model, device="cpu")}
    for name, folder in folders.items():
        loaded[f"s2igan-edge, {name}"] = s2igan_edge.SpeechToImage.from_directory(folder, threads=options.threads)

    def draw(of: Any) -> float:
        started = time.process_time()
        of(recording, samples=1, seed=1).images[0].save(io.BytesIO(), "PNG")
        return time.process_time() - started

    return in_turns({name: lambda of=of: draw(of) for name, of in loaded.items()}, 4 * options.repeats)


def in_turns(works: dict[str, Callable[[], float]], repeats: int) -> dict[str, dict[str, float]]:
    """Seconds of works that give processor seconds; the first turn does not count."""
    clock: dict[str, list[float]] = {name: [] for name in works}
    processor: dict[str, list[float]] = {name: [] for name in works}
    for repeat in range(repeats + 1):
        for name, work in works.items():
            started = time.perf_counter()
            spent = work()
            if repeat:
                clock[name].append(time.perf_counter() - started)
                processor[name].append(spent)
    return {
        name: {
            "best_seconds": round(min(clock[name]), 3),
            "median_seconds": round(statistics.median(clock[name]), 3),
            "median_processor_seconds": round(statistics.median(processor[name]), 3),
        }
        for name in works
    }


def attributes(folders: dict[str, Path], data: Path, captions: int) -> dict[str, Any]:
    """Accuracy by attribute of pictures of development captions, and how much of the pictures changes."""

    import s2igan_edge
    from s2igan.data.dataset import encoder_input
    from s2igan.data.store import Store
    from s2igan.evaluation.attributes import Accuracy, AttributesSeen, attribute_accuracy, load_or_train_classifier
    from s2igan.evaluation.drawings import drawn_set_of
    from s2igan.evaluation.evaluation_split import EvaluationSplit

    store = Store.open(data)
    split = EvaluationSplit.of(store, "development")
    chosen = np.sort(np.random.default_rng(0).permutation(split.utterances)[:captions])
    drawn = drawn_set_of(store)
    assert drawn is not None, "the attributes of this corpus are not known"
    classifier = load_or_train_classifier(drawn)
    seen = AttributesSeen(classifier)
    truths = classifier.codes([store.image_attributes(int(store.image_index[u])) for u in chosen])
    mentions = [store.mentions(int(u)) for u in chosen]
    n_values = {name: len(values) for name, values in classifier.attributes.items()}
    result: dict[str, Any] = {"split": "development", "captions": len(chosen), "seed": 0}
    pictures: dict[str, list[np.ndarray]] = {name: [] for name in folders}
    codes: dict[str, list[np.ndarray]] = {name: [] for name in folders}
    models = {name: s2igan_edge.SpeechToImage.from_directory(folder) for name, folder in folders.items()}
    for at in range(0, len(chosen), 16):
        rows = chosen[at : at + 16]
        mels, lengths = encoder_input(store, rows, "speech")
        for name, model in models.items():
            noise = np.concatenate([model.picture_noise(1, int(u)) for u in rows])
            drawings = model.draw_scales(model.listen(mels.numpy(), lengths.numpy()), noise)[-1]
            codes[name].append(seen(drawings)["attributes"])
            pictures[name].append(drawings[:, ::4, ::4])
    for name in folders:
        predictions = classifier.by_name(np.concatenate(codes[name]))
        accuracies = attribute_accuracy(predictions, truths, mentions, n_values)
        result[name] = {key: round(100 * of.accuracy, 1) for key, of in accuracies.items()}
        result[name]["mean"] = round(100 * Accuracy.mean(accuracies).accuracy, 2)
    first, *others = (np.concatenate(of).astype(int) for of in pictures.values())
    for name, other in zip(list(folders)[1:], others, strict=True):
        result[f"{name}: mean difference in levels of 255"] = round(float(np.abs(first - other).mean()), 3)
    return result


if __name__ == "__main__":
    main()
