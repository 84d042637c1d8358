"""What each trick in the code gains: the paper's training step as it is beside the same step without the trick.

A trick is taken out by putting PyTorch's plain form in its place. Both forms are measured in one process, in turns and
in changing order, so that what else the machine does falls on both. `birds-` cases have the sizes of the recipe
`birds`, `cub-` cases those of the paper (256 px, width 64) in bf16 with Inception-v3 in the step; `-sen` is stage 1,
`-rdg` stage 2.

Prints one JSON object. For every trick, by the clock and in processor time: medians of both forms, and the gain in per
cent, that is how much longer the step takes without the trick, as the median of the rounds with its quartiles. On a
machine that others use as well, believe the processor time of one thread.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/tricks.py birds-rdg --rounds 10
    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/tricks.py cub-rdg --rounds 2 --tricks small_maps enlarge
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import plain_sen_step
import plain_step
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from s2igan.models import blocks, discriminator, recurrent, small_maps
from s2igan.models.discriminator import Discriminator
from s2igan.training.distributed import start

Step = Callable[[int], Any]

CASES: dict[str, Callable[[], Step]] = {
    "birds-sen": lambda: plain_sen_step.of_recipe("birds-rdg", "float32", 64, cached=True),
    "birds-rdg": lambda: plain_step.of_recipe("birds-rdg", "bf16", 24, cached=True),
    "cub-sen": lambda: plain_sen_step.of_recipe("cub", "bf16", 32),
    "cub-rdg": lambda: plain_step.of_recipe("cub", "bf16", 8),
}


def enlarged(h: Tensor, weight: Tensor) -> Tensor:
    return F.conv2d(F.interpolate(h, scale_factor=2, mode="nearest"), weight, padding=1)


def packed(rnn: nn.GRU, x: Tensor, lengths: Tensor) -> Tensor:
    given = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    return pad_packed_sequence(rnn(given)[0], batch_first=True)[0]


@contextmanager
def instead(*changes: tuple[Any, str, Any]) -> Iterator[None]:
    """Inside, attributes (of what, name) have other values."""
    with ExitStack() as stack:
        for owner, name, value in changes:
            stack.enter_context(patch.object(owner, name, value))
        yield


@contextmanager
def contiguous(step: plain_step.Step) -> Iterator[None]:
    """Inside, images and trained networks lie contiguous, with the averages of their optimisers."""

    def lie(layout: torch.memory_format) -> None:
        step.layout, state = layout, step.state
        for network in (state.generator, *state.discriminators.values()):
            network.to(memory_format=layout)
        averages = [state.ema.parameters]
        for optimiser in (state.generator_optimiser, *state.discriminator_optimisers.values()):
            averages += optimiser.state.values()
        for named in averages:
            named |= {name: x.contiguous(memory_format=layout) for name, x in named.items() if x.dim() == 4}

    lie(torch.contiguous_format)
    try:
        yield
    finally:
        lie(torch.channels_last)


def apart(self: Discriminator, *batches: tuple[Tensor, Tensor]) -> list[tuple[Tensor, Tensor]]:
    return [self(*batch) for batch in batches]


WITHOUT: dict[str, Callable[[Any], AbstractContextManager[Any]]] = {
    "nothing": lambda _: instead(),  # says how far two equal steps seem to differ
    "small_maps": lambda _: instead((small_maps, "LARGE_WEIGHT", math.inf)),
    "enlarge": lambda _: instead((blocks, "enlarge_and_convolve", enlarged)),
    "concat": lambda _: instead((blocks.ConcatConv3x3, "forward", plain_step.PlainConcatConv3x3.forward)),
    "padded_gru": lambda _: instead((recurrent, "_padded", packed)),
    "frozen_discriminators": lambda _: instead((Discriminator, "requires_grad_", lambda self, requires_grad: self)),
    "one_pass": lambda _: instead((Discriminator, "each", apart)),
    "heads": lambda _: instead((discriminator, "project", lambda x, conv: conv(x).flatten(1))),
    "channels_last": contiguous,
}
"""The step, with the form that a trick replaces."""
TOUCHED = {
    "sen": ["nothing", "padded_gru"],
    "rdg": [name for name in WITHOUT if name != "padded_gru"],
}


def measure(case: str, tricks: list[str], rounds: int) -> dict[str, Any]:
    """Both forms of each trick in turns."""
    start("cpu")  # which sets the C library's memory as in training
    step = CASES[case]()
    step(0)
    found = {}
    for name in tricks:
        times: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
        for number in range(rounds + 1):  # the first is not counted
            for with_trick in ((True, False), (False, True))[number % 2]:
                with instead() if with_trick else WITHOUT[name](step):
                    began, processed = time.perf_counter(), time.process_time()
                    step(number)
                    times[with_trick].append((time.perf_counter() - began, time.process_time() - processed))
        found[name] = {
            kind: compared(*([taken[i] for taken in times[with_trick][1:]] for with_trick in (True, False)))
            for i, kind in enumerate(("seconds", "processor_seconds"))
        }
    return {"case": case, "rounds": rounds, "threads": torch.get_num_threads(), "tricks": found}


def compared(own: list[float], without: list[float]) -> dict[str, Any]:
    """Medians of both, and the gains of the rounds in per cent."""
    gains = [100 * (b / a - 1) for a, b in zip(own, without, strict=True)]
    quartiles = statistics.quantiles(gains, n=4) if len(gains) > 1 else gains * 3
    return {
        "median": round(statistics.median(own), 4),
        "median_without": round(statistics.median(without), 4),
        "gain_percent": round(statistics.median(gains), 1),
        "quartiles_percent": [round(quartiles[0], 1), round(quartiles[2], 1)],
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--tricks", nargs="+", choices=WITHOUT, help="unless given: all that the case touches")
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    chosen = options.tricks or TOUCHED[options.case.split("-")[1]]
    print(json.dumps(measure(options.case, chosen, options.rounds)))
