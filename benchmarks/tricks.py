"""What each trick of the engine gains: a whole training step as it is beside the same step with the trick taken out.

A trick is taken out by putting the plain form of PyTorch in its place. Both forms are measured in one process, in turns
and in changing order, so that what else the machine does falls on both. The cases:

- `birds-sen`, `birds-rdg`: the steps of both stages of the recipe `birds`, on made-up data of its sizes;
- `cub-sen`, `cub-rdg`: the steps at the paper's size (256 px, width 64, Inception-v3 in the step), bf16.

Prints one JSON object: for every trick the medians of both forms in seconds, and the gain in per cent of the step (how
much longer it takes without the trick): the median of the rounds and their quartiles.

    .venv/bin/python benchmarks/tricks.py birds-rdg --rounds 20
    .venv/bin/python benchmarks/tricks.py cub-rdg --rounds 3 --tricks enlarge concat adam_foreach
"""

from __future__ import annotations

import argparse
import ctypes
import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any
from unittest.mock import patch

import plain_sen_step
import plain_step
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.optim.adam import adam

from s2igan.models import blocks, discriminator, generator, image_encoder, small_maps, speech_encoder
from s2igan.models.image_encoder import ImageEncoderConfig
from s2igan.recipes import resolve
from s2igan.training import rdg_config, sen
from s2igan.training.adam import Adam
from s2igan.training.distributed import M_MMAP_MAX, M_TRIM_THRESHOLD, keep_memory, start
from s2igan.training.plan import DataFacts, made_up_stages
from s2igan.training.precision import autocast
from s2igan.training.trainer import LoopConfig

Step = Callable[[int], Any]
MADE_UP_PICTURES = 32
"""Of each of four classes, so that every image of a batch is another."""
FRAMES = {"birds": 400}
"""Of every made-up utterance."""


# ---------------------------------------------------------------------------------------------------------------- cases


def of_recipe(name: str, stage: str, precision: str, stack: ExitStack, channels_last: bool = True) -> Step:
    """The step of one stage of a recipe."""
    recipe = resolve(name)
    endless = LoopConfig(steps=100_000)
    recipe = replace(
        recipe,
        sen=replace(recipe.sen, loop=endless if stage == "sen" else LoopConfig()),
        rdg=replace(recipe.rdg, loop=endless, channels_last=channels_last),
    )
    device = torch.device("cpu")
    facts = DataFacts(None, 4, FRAMES[name], "")
    stages = stack.enter_context(made_up_stages(recipe, facts, device, images=MADE_UP_PICTURES))
    made, _ = next(stages)

    def step(index: int) -> None:
        with autocast(precision, device):  # type: ignore[arg-type]
            made.step(index)

    return step


def full_size_rdg(stack: ExitStack, channels_last: bool = True) -> Step:
    """Stage 2 of the paper, batch 8."""
    config = rdg_config.RDGConfig(loop=LoopConfig(steps=1), batch_size=8, channels_last=channels_last)
    return plain_step.Step(config, "bf16")


def full_size_sen(stack: ExitStack, channels_last: bool = True) -> Step:
    """Stage 1 of the paper, batch 32."""
    image = ImageEncoderConfig(backbone="inception_v3")
    return plain_sen_step.Step(sen.SENConfig(loop=LoopConfig(steps=1), batch_size=32, image=image), "bf16")


CASES: dict[str, Callable[..., Step]] = {
    "birds-sen": partial(of_recipe, "birds", "sen", "float32"),
    "birds-rdg": partial(of_recipe, "birds", "rdg", "bf16"),
    "birds-rdg-float32": partial(of_recipe, "birds", "rdg", "float32"),
    "cub-sen": full_size_sen,
    "cub-rdg": full_size_rdg,
}


# ------------------------------------------------------------------------------ tricks, each as its absence


def convolution(x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int = 1) -> Tensor:
    return F.conv2d(x, weight, bias, stride, padding=1)


def enlarged(h: Tensor, weight: Tensor) -> Tensor:
    return F.conv2d(F.interpolate(h, scale_factor=2, mode="nearest"), weight, padding=1)


def stretched_and_added(seen: Tensor, nine: Tensor) -> Tensor:
    """As `_AddStretched`, by repeating rows and columns."""
    for dim in (2, 3):
        first, middle, last = nine.split(1, dim)
        sizes = [-1] * 4
        sizes[dim] = seen.shape[dim] - 2
        nine = torch.cat((first, middle.expand(sizes), last), dim)
    return seen + nine


def chunked_gate(x: Tensor) -> Tensor:
    a, b = x.chunk(2, dim=1)
    return a * torch.sigmoid(b)


def pooled_kernel(h: Tensor, weight: Tensor) -> Tensor:
    kernel = 4 * F.avg_pool2d(weight.flip(2, 3), 2, stride=1, padding=1).transpose(0, 1)
    kernel = kernel.contiguous(memory_format=small_maps.layout(weight))
    return F.conv_transpose2d(h.contiguous(memory_format=small_maps.layout(weight)), kernel, stride=2, padding=1)


def padded_kernel(h: Tensor, weight: Tensor) -> Tensor:
    turned = weight.flip(2, 3).transpose(0, 1)
    rows = F.pad(turned, (0, 0, 0, 1)) + F.pad(turned, (0, 0, 1, 0))
    kernel = F.pad(rows, (0, 1)) + F.pad(rows, (1, 0))
    kernel = kernel.contiguous(memory_format=small_maps.layout(weight))
    return F.conv_transpose2d(h.contiguous(memory_format=small_maps.layout(weight)), kernel, stride=2, padding=1)


def nine_by_convolution(self: blocks.ConcatConv3x3, c: Tensor, h: Tensor) -> Tensor:
    for_c, for_h = self.weight.split([self.condition, h.shape[1]], dim=1)
    nine = F.conv2d(c[:, :, None, None].expand(-1, -1, 3, 3), for_c, padding=1)
    for dim in (2, 3):
        first, middle, last = nine.split(1, dim)
        nine = torch.cat((first, middle.repeat_interleave(h.shape[dim] - 2, dim), last), dim)
    return F.conv2d(h, for_h, self.bias, padding=1) + nine


def unfolded(x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int = 1) -> Tensor:
    kernel = weight.shape[-1]
    height, width = ((side + 2 - kernel) // stride + 1 for side in x.shape[-2:])
    if height * width > small_maps.FEW_PIXELS or weight.numel() < small_maps.LARGE_WEIGHT:
        return F.conv2d(x, weight, bias, stride, padding=1)
    seen = F.unfold(x, kernel, padding=1, stride=stride).unflatten(1, (x.shape[1], -1))
    y = F.linear(seen.permute(0, 3, 2, 1).flatten(2), weight.permute(0, 2, 3, 1).flatten(1), bias)
    return y.transpose(1, 2).unflatten(2, (height, width))


def folded(h: Tensor, weight: Tensor) -> Tensor:
    if h[0, 0].numel() > small_maps.FEW_PIXELS or weight.numel() * 16 // 9 < small_maps.LARGE_WEIGHT:
        return pooled_kernel(h, weight)
    kernel = 4 * F.avg_pool2d(weight.flip(2, 3), 2, stride=1, padding=1)
    made = F.linear(h.flatten(2).transpose(1, 2), kernel.transpose(1, 3).flatten(0, 2))
    made = made.transpose(1, 2).unflatten(1, (len(weight), 4, 4)).transpose(2, 3).flatten(1, 3)
    return F.fold(made, (2 * h.shape[2], 2 * h.shape[3]), 4, padding=1, stride=2)


def enlarged_as_product(h: Tensor, weight: Tensor) -> Tensor:
    if 4 * h[0, 0].numel() > small_maps.FEW_PIXELS or weight.numel() < small_maps.LARGE_WEIGHT:
        return pooled_kernel(h, weight)
    return unfolded(F.interpolate(h, scale_factor=2, mode="nearest"), weight)


def packed_gru(gru: nn.GRU, x: Tensor, lengths: Tensor) -> Tensor:
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    return pad_packed_sequence(gru(packed)[0], batch_first=True)[0]


def unpacked_gru(gru: nn.GRU, x: Tensor, lengths: Tensor) -> Tensor:
    """PyTorch's GRU of each direction on the padded sequence; the second reads every utterance from its own end."""
    frames = torch.arange(x.shape[1])[None, :]
    inside = frames < lengths[:, None]
    backwards = torch.where(inside, lengths[:, None] - 1 - frames, frames)[:, :, None]
    for layer in range(gru.num_layers):
        both = []
        for suffix in ("", "_reverse"):
            names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            weights = [getattr(gru, f"{name}_l{layer}{suffix}") for name in names]
            given = x.gather(1, backwards.expand_as(x)) if suffix else x
            zeros = x.new_zeros(1, len(x), gru.hidden_size)
            h, _ = torch.gru(given, zeros, weights, True, 1, 0.0, gru.training, False, True)
            both.append(h.gather(1, backwards.expand_as(h)) if suffix else h)
        x = torch.cat(both, dim=2) * inside[:, :, None]
    return x


def in_float32(function: Callable[..., Tensor], gru: nn.GRU, x: Tensor, lengths: Tensor) -> Tensor:
    with torch.autocast("cpu", enabled=False):
        return function(gru, x.float(), lengths)


def torch_adam_step(kind: dict[str, bool], self: Adam) -> None:
    """Adam's step as `torch.optim.Adam` takes it."""
    with torch.no_grad():
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            for p in parameters:
                if not self.state[p]:
                    zeros = {name: torch.zeros_like(p) for name in ("exp_avg", "exp_avg_sq")}
                    self.state[p] = {"step": torch.zeros(()), **zeros}
            states = [self.state[p] for p in parameters]
            adam(
                parameters,
                [p.grad for p in parameters],
                *([state[name] for state in states] for name in ("exp_avg", "exp_avg_sq")),
                [],
                [state["step"] for state in states],
                amsgrad=False,
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                lr=group["lr"],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                maximize=False,
                **kind,
            )


def features_one_by_one(self: discriminator.Discriminator, images: Tensor, groups: int = 1) -> Tensor:
    return torch.cat([self.trunk(part) for part in images.chunk(groups)])


def conditional_one_by_one(self: discriminator.Discriminator, features: Tensor, mu: Tensor, groups: int = 1) -> Tensor:
    pairs = zip(features.chunk(groups), mu.chunk(groups), strict=True)
    return torch.cat([CONDITIONAL(self, *pair) for pair in pairs])


CONDITIONAL = discriminator.Discriminator.conditional


@contextmanager
def patched(*changes: tuple[Any, str, Any]) -> Iterator[None]:
    with ExitStack() as stack:
        for where, name, value in changes:
            stack.enter_context(patch.object(where, name, value))
        yield


M_MMAP_THRESHOLD = -3


@contextmanager
def memory_given_back() -> Iterator[None]:
    """The C library as it is by itself once it has seen large blocks: it keeps those up to 32 MB."""
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(M_MMAP_MAX, 65536)
    mallopt(M_MMAP_THRESHOLD, 32 * 2**20)
    mallopt(M_TRIM_THRESHOLD, 64 * 2**20)
    yield
    keep_memory()


def not_frozen(self: nn.Module, requires_grad: bool = True) -> nn.Module:
    return self


@contextmanager
def no_cache() -> Iterator[None]:
    with patch.object(torch.autocast, "__init__", partial_init(torch.autocast.__init__)):
        yield


def partial_init(init: Callable[..., None]) -> Callable[..., None]:
    def without_cache(self: Any, *args: Any, **options: Any) -> None:
        init(self, *args, **options | {"cache_enabled": False})

    return without_cache


TRICKS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "nothing": lambda: patched(),
    "convolve": lambda: patched((discriminator, "convolve", convolution)),
    "project": lambda: patched((discriminator, "project", lambda x, conv: conv(x).flatten(1))),
    "taps": lambda: patched((small_maps, "_taps", small_maps._transposed)),
    "enlarge": lambda: patched((blocks, "enlarge_and_convolve", enlarged)),
    "concat": lambda: patched((blocks.ConcatConv3x3, "forward", plain_step.PlainConcatConv3x3.forward)),
    "add_stretched": lambda: patched((blocks._AddStretched, "apply", stretched_and_added)),
    "gate": lambda: patched(
        (blocks, "gate", lambda x: F.glu(x, dim=1)), (generator, "gate", lambda x: F.glu(x, dim=1))
    ),
    "gate_chunk": lambda: patched((blocks, "gate", chunked_gate), (generator, "gate", chunked_gate)),
    "enlarge_pool": lambda: patched((blocks, "enlarge_and_convolve", pooled_kernel)),
    "enlarge_pad": lambda: patched((blocks, "enlarge_and_convolve", padded_kernel)),
    "concat_nine": lambda: patched((blocks.ConcatConv3x3, "forward", nine_by_convolution)),
    "unfold": lambda: patched((discriminator, "convolve", unfolded)),
    "enlarge_fold": lambda: patched((blocks, "enlarge_and_convolve", folded)),
    "enlarge_product": lambda: patched((blocks, "enlarge_and_convolve", enlarged_as_product)),
    "all_simple": lambda: patched(
        (discriminator, "convolve", unfolded),
        (discriminator, "project", lambda x, conv: conv(x).flatten(1)),
        (blocks, "enlarge_and_convolve", pooled_kernel),
        (blocks.ConcatConv3x3, "forward", nine_by_convolution),
        (blocks, "gate", chunked_gate),
        (generator, "gate", chunked_gate),
        (Adam, "step", lambda self: torch_adam_step({"foreach": True}, self)),
    ),
    "gru_packed": lambda: patched((speech_encoder, "bidirectional_gru", partial(in_float32, packed_gru))),
    "gru_packed_autocast": lambda: patched((speech_encoder, "bidirectional_gru", packed_gru)),
    "gru_unpacked": lambda: patched((speech_encoder, "bidirectional_gru", partial(in_float32, unpacked_gru))),
    "gru_unpacked_autocast": lambda: patched((speech_encoder, "bidirectional_gru", unpacked_gru)),
    "adam_foreach": lambda: patched((Adam, "step", lambda self: torch_adam_step({"foreach": True}, self))),
    "adam_loop": lambda: patched((Adam, "step", lambda self: torch_adam_step({"foreach": False}, self))),
    "adam_fused": lambda: patched((Adam, "step", lambda self: torch_adam_step({"fused": True}, self))),
    "groups": lambda: patched(
        (discriminator.Discriminator, "features", features_one_by_one),
        (discriminator.Discriminator, "conditional", conditional_one_by_one),
    ),
    "frozen_discriminators": lambda: patched((discriminator.Discriminator, "requires_grad_", not_frozen)),
    "keep_memory": memory_given_back,
    "autocast_cache": no_cache,
    "folded_norms": lambda: patched((image_encoder, "fold_batch_norms", lambda network: None)),
    "channels_last": lambda: patched(),
    "small_maps": lambda: patched(
        (discriminator, "convolve", convolution),
        (discriminator, "project", lambda x, conv: conv(x).flatten(1)),
        (blocks, "enlarge_and_convolve", enlarged),
    ),
}
REBUILT = {"folded_norms", "channels_last"}
"""Tricks that show in how networks are built."""
TOUCHED = {
    "sen": ["gru_packed", "gru_unpacked", "adam_foreach", "adam_fused", "keep_memory", "folded_norms"],
    "rdg": [name for name in TRICKS if not name.startswith("gru")],
}


def measure(case: str, tricks: list[str], rounds: int) -> dict[str, Any]:
    """Both forms of each trick in turns."""
    start("cpu")  # which sets the C library's memory as in training
    found: dict[str, Any] = {}
    with ExitStack() as stack:
        steps = CASES[case](stack)
        steps(0)
        for name in tricks:
            without = TRICKS[name]
            with ExitStack() as own:
                plain = steps
                if name in REBUILT:
                    with without():
                        plain = CASES[case](own, channels_last=name != "channels_last")
                times: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
                for number in range(rounds + 1):  # the first is not counted
                    for on in ((True, False), (False, True))[number % 2]:
                        with ExitStack() as out:
                            if not on:
                                out.enter_context(without())
                            began, processed = time.perf_counter(), time.process_time()
                            (steps if on else plain)(number)
                            times[on].append((time.perf_counter() - began, time.process_time() - processed))
            found[name] = {
                kind: compared(*([taken[i] for taken in times[on][1:]] for on in (True, False)))
                for i, kind in enumerate(("seconds", "processor_seconds"))
            }
    return {"case": case, "rounds": rounds, "threads": torch.get_num_threads(), "tricks": found}


def compared(own: list[float], without: list[float]) -> dict[str, Any]:
    """Medians of both, and the gain of rounds in per cent."""
    gains = [100 * (b / a - 1) for a, b in zip(own, without, strict=True)]
    quartiles = statistics.quantiles(gains, n=4) if len(gains) > 1 else gains * 3
    return {
        "median": round(statistics.median(own), 4),
        "median_without": round(statistics.median(without), 4),
        "gain_percent": round(statistics.median(gains), 1),
        "quartiles_percent": [round(quartiles[0], 1), round(quartiles[2], 1)],
        "gain_of_least_percent": round(100 * (min(without) / min(own) - 1), 1),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--tricks", nargs="+", choices=TRICKS, help="unless given: all that the case touches")
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    chosen = options.tricks or TOUCHED[options.case.split("-")[1]]
    print(json.dumps(measure(options.case, chosen, options.rounds)))
