"""What all scores of an evaluation cost beside the features that they are computed of; prints one JSON object.

    OMP_NUM_THREADS=1 python benchmarks/evaluation.py MODEL DATA [--captions 1000] [--split development]

Processor seconds of one `s2igan evaluate --consistency`, twice: with an empty cache of features, and again, when those
of real pictures are there. Encoders that are trained once for a set are trained before. `features` are all forward
passes of extractors and encoders; `drawing` those of the generator; `rest` is everything else: hearing the captions
that are drawn, reading and cropping pictures, speaking Figure 3, arithmetic, bootstrap, files. The seconds of a group
of scores, such as `memorisation_group`, are also in these. `ratio` is (features + rest) / features, of the pass that
has the larger one.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from s2igan.evaluation import attributes, consistency, evaluate, extractors, memorisation
from s2igan.evaluation.options import EvaluationOptions
from s2igan.pipeline import SpeechToImage

SPENT: dict[str, float] = defaultdict(float)


def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, its processor seconds noted under a name."""

    def call(*given: Any, **options: Any) -> Any:
        started = time.process_time()
        try:
            return function(*given, **options)
        finally:
            SPENT[name] += time.process_time() - started

    return call


@contextmanager
def watched() -> Iterator[None]:
    """Inside, what draws and what computes features is timed."""
    seen: list[tuple[Any, str, str]] = [
        (SpeechToImage, "draw", "drawing"),
        (extractors.Fidelity, "__call__", "features"),
        (extractors.Embedding, "__call__", "features"),
        (attributes.AttributesSeen, "__call__", "features"),
        (memorisation.Middle, "__call__", "features"),
        (evaluate, "speech_embeddings", "features"),
        (consistency, "speech_embeddings", "features"),
        (evaluate, "image_features", "features"),
    ]
    patches = [
        patch.object(owner, attribute, timed(name, getattr(owner, attribute))) for owner, attribute, name in seen
    ]
    patches += [
        patch.object(evaluate, name, timed(name, getattr(evaluate, name)))
        for name in ("memorisation_group", "distance_group", "diversity_group", "consistency_group", "figure3_group")
    ]
    for one in patches:
        one.start()
    yield
    for one in patches:
        one.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data", type=Path)
    parser.add_argument("--captions", type=int, default=1000)
    parser.add_argument("--split", default="development")
    options = parser.parse_args()
    asked = EvaluationOptions(split=options.split, max_captions=options.captions, consistency=True)
    evaluate.prepare_judges(options.data, asked)
    result: dict[str, Any] = {"model": options.model, "captions": options.captions, "split": options.split}
    with tempfile.TemporaryDirectory() as folder:
        kept, plain = Path(folder) / "features", extractors._kept_in
        with patch.object(extractors, "_kept_in", lambda facts: kept / plain(facts).name), watched():
            for name in ("first", "again"):
                SPENT.clear()
                started = time.process_time()
                with redirect_stdout(sys.stderr):
                    evaluate.evaluate(options.model, options.data, asked, out=Path(folder) / name)
                total = time.process_time() - started
                rest = total - SPENT["features"] - SPENT["drawing"]
                found = {name: round(value, 1) for name, value in SPENT.items()}
                found |= {"rest": round(rest, 1), "ratio": round((total - SPENT["drawing"]) / SPENT["features"], 3)}
                result[name] = found
    result["ratio"] = max(result[name]["ratio"] for name in ("first", "again"))
    result["threads"] = torch.get_num_threads()
    result["load_of_the_machine"] = round(os.getloadavg()[0], 1)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
