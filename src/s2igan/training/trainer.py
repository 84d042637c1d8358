"""What both stages share: the loop over steps, its randomness, its records, its checkpoints, and the moving average.

A step is a function of (weights, seed, step number) and of nothing else: `streams` derives every random draw of a step
from the three numbers (seed, stage, step), in every process, and so is the place in the data (`SpeechImageData.
positions`). That is why a resumed run equals an uninterrupted one, bit for bit, without a random state of any process
or a sampler's position in the checkpoint, and why a run may go on with another number of processes: its batches stay
the same, their sums are taken in another order.
"""

from __future__ import annotations

import math
import signal
import threading
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from s2igan.checkpoint import checkpoint_path, load_checkpoint, load_latest, prune, save_checkpoint
from s2igan.errors import UserError
from s2igan.files import disk_errors
from s2igan.run_directory import LOG, RunDirectory
from s2igan.training.ahead import Ahead
from s2igan.training.distributed import anywhere, first, means, rank, same_everywhere, tell, world_size
from s2igan.training.precision import Precision, autocast, choose_precision
from s2igan.training.update import NotFiniteError

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
    precision: Precision = "float32"
    """Of convolutions and matrix products; losses, weights and optimisers are always float32. "auto" measures, where
    the stage begins, whether the machine is faster in bf16; a resumed run keeps what was chosen then."""
    compile: bool = False
    """Have torch.compile translate the networks that train: on a CPU it takes minutes at the start and gains a few
    hundredths (docs/engine.md)."""
    sync_batch_norm: bool = False
    """With several processes, batch norms use the statistics of the whole batch, so that the number of processes
    changes nothing but rounding; without, each process's of its share, which is faster."""
    loss_limit: float = 1e6
    """A loss beyond it has exploded: the stage goes back to its last checkpoint, as after one that is not finite."""

    def in_steps(self, steps_per_epoch: int) -> LoopConfig:
        """The same with `epochs`, where given, turned into `steps`."""
        return self if self.epochs is None else replace(self, steps=self.epochs * steps_per_epoch, epochs=None)


@runtime_checkable
class Stage(Protocol):
    """What the loop asks of a stage."""

    name: str
    device: torch.device
    images_per_step: int
    """Of all processes."""
    steps_per_epoch: int

    def read(self, index: int) -> Any:
        """What a step takes from the store; called in another thread, while the step before is taken."""

    def step(self, index: int, read: Any = None) -> dict[str, Tensor]:
        """One optimiser step on what was read for it (read now where it was not); returns its losses and other scalars,
        detached."""

    def describe_batch(self, step: int) -> str:
        """The first items of that step's batch, for the message that a failed step gives."""

    def batch_items(self, step: int) -> list[str]:
        """The names of all items of that step's batch, for the log."""

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
    """Exponential moving average of a module's parameters (method.md 4): average = decay * average + (1 - decay) *
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

    With several processes all run the steps, and the first one alone evaluates, records and saves. After a step whose
    losses are not finite, or beyond the limit, the stage goes back to its last checkpoint, once.

    Raises:
        UserError: the losses broke again, or there was no checkpoint; the message names step and batch, the log all
            its items. Or the disk is full. The last checkpoint stays.
        KeyboardInterrupt: after the checkpoint is written.
    """
    console = console or Console(stderr=True)
    checkpoints = run.checkpoints(stage.name)
    writes = rank() == 0
    precision: Literal["float32", "bf16"] | None = None
    seconds_before = 0.0

    def restore() -> tuple[int, str]:
        """Takes the newest whole checkpoint, the same in every process; its step and name, (0, "") without one."""
        nonlocal seconds_before, precision
        found = first(lambda: load_latest(checkpoints))
        name = tell(found[0].name if found is not None else "")
        if not name:
            return 0, ""
        saved: Any = found[1] if found is not None else load_checkpoint(checkpoints / name)
        stage.load_state_dict(saved["stage"])
        seconds_before, precision = saved["seconds"], saved.get("precision", "float32")
        before = saved.get("processes", 1)
        others = f"; by {world_size()} processes where there were {before}" if before != world_size() else ""
        log(f"resumed at step {saved['step']} from {name}{others}")
        return saved["step"], name

    def log(text: str) -> None:
        if writes:
            run.log(f"{stage.name}: {text}")

    step = restore()[0] if resume else 0
    same_everywhere(stage.state_dict())
    chosen = precision or choose_precision(config.precision, stage.device)

    def open_writer() -> SummaryWriter | None:
        """Also drops the records after the present step, which will be written again."""
        if not writes:
            return None
        with disk_errors(run.tensorboard):
            run.rewind(stage.name, step)
            return SummaryWriter(log_dir=str(run.tensorboard / stage.name), purge_step=step)

    writer = open_writer()
    started = time.monotonic()
    last_saved = started

    def seconds() -> float:
        return seconds_before + time.monotonic() - started

    def record(step: int, values: dict[str, float]) -> None:
        if writer is None:
            return
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
        with disk_errors(run.tensorboard):
            for key, value in named.items():
                writer.add_scalar(key, value, step)

    def save(step: int) -> None:
        nonlocal last_saved
        if not writes:
            return
        state = {
            "step": step,
            "seconds": seconds(),
            "precision": chosen,
            "processes": world_size(),
            "stage": stage.state_dict(),
        }
        save_checkpoint(checkpoint_path(checkpoints, step), state)
        prune(checkpoints, keep=config.keep)
        last_saved = time.monotonic()

    def attempt(step: int) -> tuple[dict[str, Tensor], str]:
        """The losses of a step, means over the processes; and what is wrong with them, nothing if it is empty."""
        try:
            with autocast(chosen, stage.device):
                losses = means(stage.step(step, ahead(step)))
        except NotFiniteError as error:
            return {}, f"a value that is not finite ({error})"
        values = torch.stack([value.detach().float() for value in losses.values()]).tolist()
        named = dict(zip(losses, values, strict=True))
        if broken := sorted(key for key, value in named.items() if not math.isfinite(value)):
            return losses, f"a value that is not finite ({', '.join(broken)})"
        if broken := sorted(key for key, value in named.items() if abs(value) > config.loss_limit):
            return losses, f"a value beyond {config.loss_limit:g} ({', '.join(broken)})"
        return losses, ""

    went_back = ""
    window: dict[str, list[Tensor]] = {}
    with (
        _interruptible() as interrupted,
        _progress(stage, config.steps, step, console) as advance,
        Ahead(stage.read, config.steps, stage.device) as ahead,
    ):
        while step < config.steps:
            losses, trouble = attempt(step)
            if trouble:
                batch = stage.describe_batch(step)
                log(f"step {step} gave {trouble}; its items: {', '.join(stage.batch_items(step))}")
                failed = step
                window.clear()
                step, name = (0, "") if went_back else restore()
                if not name:
                    when = f" again, after going back to {went_back}" if went_back else ""
                    raise UserError(
                        f"{stage.name} step {failed} gave {trouble} for {batch}{when}; {run.path / LOG} names all of "
                        f"the batch, and the last checkpoint in {checkpoints} is kept: check these items or lower the "
                        "learning rate, then --resume."
                    )
                went_back = name
                if writer is not None:
                    writer.close()
                writer = open_writer()
                if writes:
                    console.print(f"{stage.name} step {failed} gave {trouble} for {batch}; going back to {name}.")
                advance(window, step)
                continue
            for key, value in losses.items():
                window.setdefault(key, []).append(value)
            step += 1
            advance(window, step)
            last = step == config.steps
            if step % config.log_every == 0 or last:
                record(step, {key: float(torch.stack(values).mean()) for key, values in window.items()})
                window.clear()
            if writes and (step % config.evaluate_every == 0 or last):
                with disk_errors(run.path):
                    record(step, stage.evaluate(step, final=last))
            if anywhere(interrupted.is_set(), stage.device) and not last:
                save(step)
                if writer is not None:
                    writer.close()
                log(f"interrupted and saved at step {step}")
                raise KeyboardInterrupt(f"saved at step {step}; go on with --resume")
            if last or time.monotonic() - last_saved > config.checkpoint_seconds:
                save(step)
    if writer is not None:
        with disk_errors(run.tensorboard):
            writer.close()
    log(f"finished {config.steps} steps in {seconds():.0f} s")


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

            def advance_bar(window: dict[str, list[Tensor]], step: int) -> None:
                nonlocal done
                done = step
                progress.update(task, completed=step, rate=rate())

            yield advance_bar
        return

    def advance_line(window: dict[str, list[Tensor]], step: int) -> None:
        nonlocal done, last_line
        done = step
        if done > first and time.monotonic() - last_line >= PLAIN_LOG_SECONDS:
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
