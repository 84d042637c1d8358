"""Stage 1's step at the paper's size beside the same step written plainly, in one process.

Plain is: float32, contiguous, PyTorch's GRU on a packed sequence, every image encoded in the step that it is used in,
Inception-v3 with its batch norms. It has the same weights, batches and losses
(`tests/benchmarks/test_plain_sen_step.py`). The steps are taken in turns; noise stands in for images and log-mels,
whose lengths are spread as those of spoken captions; Inception-v3 has random weights.

Prints one JSON object: seconds a step (best of `--repeats`), images/s and the gain over the plain step of the project's
step in float32 and bf16, with images encoded in the step and with the views that were encoded once (`image_views`).

    .venv/bin/python benchmarks/plain_sen_step.py --batch 32 --repeats 2
"""

from __future__ import annotations

import argparse
import json
import time
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from plain_step import image_encoder
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from s2igan.models.image_encoder import ImageEncoder, ImageEncoderConfig
from s2igan.models.speech_encoder import SpeechEncoder, conv_length
from s2igan.recipes import resolve
from s2igan.training import sen
from s2igan.training.precision import autocast
from s2igan.training.trainer import TrainerConfig

CPU = torch.device("cpu")
SECONDS = (2.5, 7.5)
"""Shortest and longest caption; FACTS and the published corpora have a mean of about five."""
FRAMES_PER_SECOND = 100
CLASSES = 150
INPUT_SIDE = 299


class PlainSpeechEncoder(SpeechEncoder):
    """The recurrent network by PyTorch's own implementation."""

    def frames(self, mel: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        for _ in self.convs:
            lengths = conv_length(lengths, self.config.conv_stride)
        x = self.convolve(mel).transpose(1, 2)[:, : int(lengths.max())]
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self.rnn(packed)[0], batch_first=True)[0], lengths


class PlainImageEncoder(ImageEncoder):
    """Images and weights contiguous."""

    def features(self, images: Tensor) -> Tensor:
        return self.backbone(F.interpolate(images, size=INPUT_SIDE, mode="bilinear", align_corners=False))


def plain(state: sen.SENState) -> sen.SENState:
    """The same networks, plainly computed."""
    state.speech.__class__ = PlainSpeechEncoder
    state.image.__class__ = PlainImageEncoder
    return state


class Step:
    """One way to take the step, with its networks; a call takes it on the batch of a seed.

    Args:
        written_plainly: whether the networks are the plain ones.
        cached: whether the image features are ready before the step.
    """

    def __init__(self, config: sen.SENConfig, precision: str, *, written_plainly: bool = False, cached: bool = False):
        image = image_encoder(config.image, plain=written_plainly)
        state = sen.make_state(config, CLASSES, seed=0, device=CPU, image=image)
        self.config, self.precision, self.cached = config, precision, cached
        self.state = plain(state) if written_plainly else state

    def __call__(self, seed: int) -> dict[str, Tensor]:
        images, batch = self.batch(seed)
        with autocast("bf16", CPU) if self.precision == "bf16" else nullcontext():
            if not self.cached:
                with torch.no_grad():
                    batch.image_features = self.state.image.features(images)
            return sen.step(self.state, batch, self.config)

    def batch(self, seed: int) -> tuple[Tensor, sen.SENBatch]:
        """Noise in the place of pictures, log-mels and cached features."""
        n, rng = self.config.batch_size, torch.Generator().manual_seed(seed)
        shortest, longest = (round(seconds * FRAMES_PER_SECOND) for seconds in SECONDS)
        lengths = torch.randint(shortest, longest + 1, (n,), generator=rng)
        mel = torch.randn(n, int(lengths.max()), 40, generator=rng)
        mel *= torch.arange(mel.shape[1])[None, :, None] < lengths[:, None, None]
        side = self.config.image_size
        images = torch.rand(n, 3, side, side, generator=rng) * 2 - 1
        features = torch.rand(n, self.config.image.features, generator=rng)
        return images, sen.SENBatch(mel, lengths, features, torch.randint(CLASSES, (n,), generator=rng))


def of_recipe(name: str, precision: str, batch: int, *, cached: bool = False) -> Step:
    """The step in a recipe's sizes."""
    sen_config = resolve(name).sen
    return Step(replace(sen_config, trainer=TrainerConfig(steps=1), batch_size=batch), precision, cached=cached)


def compare(batch: int, repeats: int) -> dict[str, Any]:
    """Times of all steps, in turns."""
    config = sen.SENConfig(
        trainer=TrainerConfig(steps=1), batch_size=batch, image=ImageEncoderConfig(backbone="inception_v3")
    )
    steps = {
        "plain": Step(config, "float32", written_plainly=True),
        "float32": Step(config, "float32"),
        "bf16": Step(config, "bf16"),
        "float32_cached_views": Step(config, "float32", cached=True),
        "bf16_cached_views": Step(config, "bf16", cached=True),
    }
    times: dict[str, list[float]] = {name: [] for name in steps}
    processor: dict[str, list[float]] = {name: [] for name in steps}
    for repeat in range(repeats + 1):  # the first is not counted
        for name, step in steps.items():
            started, processed = time.perf_counter(), time.process_time()
            step(repeat)
            times[name].append(time.perf_counter() - started)
            processor[name].append(time.process_time() - processed)
    facts: dict[str, Any] = {"batch": batch, "seconds_of_speech": SECONDS, "threads": torch.get_num_threads()}
    for name in steps:
        best = min(times[name][1:])
        facts[name] = {
            "seconds": round(best, 3),
            "processor_seconds": round(min(processor[name][1:]), 3),
            "images_per_second": round(batch / best, 2),
            "times_plain": round(min(times["plain"][1:]) / best, 2),
        }
    return facts


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()
    print(json.dumps(compare(options.batch, options.repeats)))
