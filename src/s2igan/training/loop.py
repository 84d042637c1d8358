"""What both stages share: the loop over steps, its randomness, its records, its checkpoints, and the moving average.

A step is a function of (weights, seed, step number) and of nothing else: `streams` derives every random draw of a step
from the three numbers (seed, stage, step). That is why a resumed run equals an uninterrupted one, bit for bit, without
a random state in the checkpoint.
"""

from __future__ import annotations

import signal
import threading
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from s2igan.checkpoint import checkpoint_path, load_latest, prune, save_checkpoint
from s2igan.errors import UserError
from s2igan.run_directory import RunDirectory

PLAIN_LOG_SECONDS = 30.0
"""Where the output is no terminal, a line this often takes the progress bar's place."""


@dataclass(frozen=True)
class LoopConfig:
    """How long a stage runs and what it leaves behind."""

    steps: int = 0
    """Optimiser steps."""
    epochs: int | None = None
    """Passes over the training images in place of `steps`; see `in_steps`."""
    log_every: int = 20
    """Steps between two records in metrics.jsonl (each the mean over those steps)."""
    evaluate_every: int = 500
    """Steps between two evaluations on the validation split."""
    checkpoint_seconds: float = 300.0
    """Seconds between two checkpoints."""
    keep: int = 2
    """Checkpoints kept."""

    def in_steps(self, steps_per_epoch: int) -> LoopConfig:
        """The same with `epochs`, where given, turned into `steps`."""
        return self if self.epochs is None else replace(self, steps=self.epochs * steps_per_epoch, epochs=None)


@runtime_checkable
class Stage(Protocol):
    """What the loop asks of a stage."""

    name: str
    images_per_step: int
    steps_per_epoch: int

    def step(self, index: int) -> dict[str, Tensor]:
        """One optimiser step; returns its losses and other scalars, detached."""

    def describe_batch(self, step: int) -> str:
        """The items of that step's batch, for the message that a failed step gives."""

    def evaluate(self, step: int, final: bool) -> dict[str, float]:
        """Scores on the validation split; may write samples and keep the best weights."""

    def state_dict(self) -> dict[str, Any]:
        """All that the stage trains, nested dicts of tensors and plain values."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes back what `state_dict` gave."""


def streams(seed: int, stage: str, step: int) -> tuple[np.random.Generator, torch.Generator]:
    """The random streams of one step, for numpy and for torch (on the CPU, whatever the device)."""
    sequence = np.random.SeedSequence([seed, zlib.crc32(stage.encode()), step])
    numpy_seed, torch_seed = sequence.generate_state(2, np.uint64)
    return np.random.default_rng(numpy_seed), torch.Generator().manual_seed(int(torch_seed >> np.uint64(1)))


class Ema:
    """Exponential moving average of a module's parameters (SPEC section 4): average = decay * average + (1 - decay) *
    parameter.

    Buffers are no part of it, as in the reference. The live weights are never overwritten.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.parameters = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Takes one step towards the module's present parameters."""
        live = [parameter.detach() for _, parameter in module.named_parameters()]
        torch._foreach_lerp_(list(self.parameters.values()), live, 1.0 - self.decay)

    def copy_to(self, module: nn.Module) -> None:
        """Writes the average into another module of the same shape."""
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                parameter.copy_(self.parameters[name])


def run_stage(
    stage: Stage, config: LoopConfig, run: RunDirectory, *, resume: bool, console: Console | None = None
) -> None:
    """Runs a stage to its last step: steps, records, evaluations, checkpoints; Ctrl-C saves before it stops.

    Raises:
        UserError: a loss is not finite; the message names step and batch. The last checkpoint stays.
        KeyboardInterrupt: after the checkpoint is written.
    """
    console = console or Console(stderr=True)
    checkpoints = run.checkpoints(stage.name)
    first = 0
    seconds_before = 0.0
    if resume and (found := load_latest(checkpoints)) is not None:
        path, saved = found
        assert isinstance(saved, dict)
        stage.load_state_dict(saved["stage"])
        first, seconds_before = saved["step"], saved["seconds"]
        run.log(f"{stage.name}: resumed at step {first} from {path.name}")
    run.rewind(stage.name, first)
    writer = SummaryWriter(log_dir=str(run.tensorboard / stage.name), purge_step=first)

    started = time.monotonic()
    last_saved = started

    def seconds() -> float:
        return seconds_before + time.monotonic() - started

    def record(step: int, values: dict[str, float]) -> None:
        named = {f"{stage.name}/{key}": value for key, value in values.items()}
        run.metrics(
            {
                "stage": stage.name,
                "step": step,
                "epoch": step // stage.steps_per_epoch,
                "seconds": round(seconds(), 2),
                **named,
            }
        )
        for key, value in named.items():
            writer.add_scalar(key, value, step)

    def save(step: int) -> None:
        nonlocal last_saved
        state = {"step": step, "seconds": seconds(), "stage": stage.state_dict()}
        save_checkpoint(checkpoint_path(checkpoints, step), state)
        prune(checkpoints, keep=config.keep)
        last_saved = time.monotonic()

    window: dict[str, list[Tensor]] = {}
    with _interruptible() as interrupted, _progress(stage, config.steps, first, console) as advance:
        for step in range(first, config.steps):
            losses = stage.step(step)
            for key, value in losses.items():
                window.setdefault(key, []).append(value)
            if not all(torch.isfinite(value).all() for value in losses.values()):
                broken = ", ".join(sorted(key for key, value in losses.items() if not torch.isfinite(value).all()))
                raise UserError(
                    f"{stage.name} step {step} gave a value that is not finite ({broken}) for "
                    f"{stage.describe_batch(step)}; the last checkpoint in {checkpoints} is kept: check these items or "
                    "lower the learning rate, then --resume."
                )
            done = step + 1
            advance(window)
            if done % config.log_every == 0 or done == config.steps:
                record(done, {key: float(torch.stack(values).mean()) for key, values in window.items()})
                window.clear()
            if done % config.evaluate_every == 0 or done == config.steps:
                record(done, stage.evaluate(done, final=done == config.steps))
            if interrupted.is_set() and done < config.steps:
                save(done)
                writer.close()
                run.log(f"{stage.name}: interrupted and saved at step {done}")
                raise KeyboardInterrupt(f"saved at step {done}; go on with --resume")
            if done == config.steps or time.monotonic() - last_saved > config.checkpoint_seconds:
                save(done)
    writer.close()
    run.log(f"{stage.name}: finished {config.steps} steps in {seconds():.0f} s")


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Turns the first Ctrl-C (or SIGTERM) into a flag, the second into the usual interruption."""
    flag = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return

    def handle(number: int, frame: Any) -> None:
        if flag.is_set():
            raise KeyboardInterrupt
        flag.set()

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield flag
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def _progress(stage: Stage, steps: int, first: int, console: Console) -> Iterator[Any]:
    """A bar with images/s and time left on a terminal, a line now and then elsewhere; yields what advances it."""
    started = time.monotonic()
    done = first
    last_line = started

    def rate() -> float:
        return (done - first) * stage.images_per_step / max(1e-9, time.monotonic() - started)

    if console.is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:.1f} images/s"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console) as progress:
            task = progress.add_task(stage.name.upper(), total=steps, completed=first, rate=0.0)

            def advance_bar(window: dict[str, list[Tensor]]) -> None:
                nonlocal done
                done += 1
                progress.update(task, advance=1, rate=rate())

            yield advance_bar
        return

    def advance_line(window: dict[str, list[Tensor]]) -> None:
        nonlocal done, last_line
        done += 1
        if time.monotonic() - last_line >= PLAIN_LOG_SECONDS:
            last_line = time.monotonic()
            left = (steps - done) * (last_line - started) / (done - first)
            console.print(
                f"{stage.name.upper()} {done}/{steps}, {rate():.1f} images/s, {left / 60:.1f} min left, "
                f"{_latest(window)}",
                highlight=False,
            )

    yield advance_line


def _latest(window: dict[str, list[Tensor]]) -> str:
    return " ".join(f"{key} {float(values[-1]):.3f}" for key, values in list(window.items())[:6])


def cosine_or_step(
    step: int, steps: int, schedule: str, *, decay_every: int = 0, decay: float = 0.1, warmup: int = 0
) -> float:
    """Factor on the learning rate: "step" multiplies by `decay` every `decay_every` steps, "cosine" falls to 0 at the
    last step.

    `warmup` steps rise linearly before either. "constant" stays at 1.
    """
    factor = min(1.0, (step + 1) / warmup) if warmup else 1.0
    if schedule == "cosine":
        return float(factor * 0.5 * (1.0 + np.cos(np.pi * min(1.0, step / max(1, steps)))))
    if schedule == "step":
        return float(factor * decay ** (step // decay_every))
    return factor


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Sets the rate of every parameter group."""
    for group in optimiser.param_groups:
        group["lr"] = rate


def trainable(modules: Iterable[nn.Module]) -> list[nn.Parameter]:
    """The parameters of the modules that a stage trains."""
    return [parameter for module in modules for parameter in module.parameters() if parameter.requires_grad]


def weighted_sum(terms: Mapping[str, Tensor], weights: Mapping[str, float] | None = None) -> Tensor:
    """Adds terms up, each times its weight; a term that `weights` does not name has weight 1.

    Raises:
        KeyError: a weight names no term.
    """
    weights = weights or {}
    if unknown := weights.keys() - terms.keys():
        raise KeyError(f"weights without a term: {', '.join(sorted(unknown))}")
    return torch.stack([weights.get(name, 1.0) * term for name, term in terms.items()]).sum()
