"""The written-out bidirectional GRU beside PyTorch's on packed sequences: forward and backward of a stage-1 batch.

Prints one JSON object: seconds (best of `repeats`) of both, for each length, in one process, taken in turns.

    .venv/bin/python benchmarks/gru.py
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from s2igan.models.recurrent import bidirectional_gru

BATCH, INPUTS, HIDDEN, LAYERS = 64, 128, 128, 2
LENGTHS = (43, 97, 240)
"""Frames after the convolutions: a 3.9 s utterance with stride 3 and stride 2, and one of 9.7 s with stride 2."""


def seconds(run: Callable[[], None]) -> float:
    """Wall-clock time of one call."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def compare(frames: int, repeats: int = 5) -> dict[str, float]:
    """Best times of both implementations on the same weights and inputs."""
    gru = nn.GRU(INPUTS, HIDDEN, LAYERS, batch_first=True, bidirectional=True)
    x = torch.randn(BATCH, frames, INPUTS)
    lengths = torch.linspace(0.6 * frames, frames, BATCH).long()

    def packed() -> None:
        sequence = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        pad_packed_sequence(gru(sequence)[0], batch_first=True)[0].sum().backward()

    def written_out() -> None:
        bidirectional_gru(gru, x, lengths).sum().backward()

    times: dict[str, list[float]] = {"packed": [], "written_out": []}
    for _ in range(repeats):
        for name, run in (("packed", packed), ("written_out", written_out)):
            times[name].append(seconds(run))
    best = {f"{name}_seconds": round(min(values), 4) for name, values in times.items()}
    return {**best, "speed_up": round(min(times["packed"]) / min(times["written_out"]), 2)}


if __name__ == "__main__":
    torch.manual_seed(0)
    results = {str(frames): compare(frames) for frames in LENGTHS}
    print(json.dumps({"batch": BATCH, "hidden": HIDDEN, "threads": torch.get_num_threads(), "frames": results}))
