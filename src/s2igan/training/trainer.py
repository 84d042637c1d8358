"""The trainer that both stages share: steps, records, evaluations, checkpoints, resuming.

A step is a function of (weights, seed, step number) and of nothing else: `prefetch.streams` derives every random draw
of a step, and the place in the data, from the three numbers (seed, stage, step), in every process. That is why a
resumed run equals an uninterrupted one, bit for bit, without a random state or a sampler's position in the checkpoint,
and why a run may go on with another number of processes: its batches stay the same, their sums are taken in another
order.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from s2igan.checkpoint import checkpoint_path, load_checkpoint, load_latest, prune, save_checkpoint
from s2igan.data.dataset import SpeechImageData
from s2igan.errors import UserError
from s2igan.files import disk_errors
from s2igan.models.blocks import seeded
from s2igan.run_directory import LOG, RunDirectory
from s2igan.settings import at_least
from s2igan.training.distributed import anywhere, first, means, rank, same_everywhere, tell, world_size
from s2igan.training.optimisation import GRADIENT_NORM
from s2igan.training.precision import Precision, autocast, choose_precision
from s2igan.training.prefetch import read_steps, step_seed

PLAIN_LOG_SECONDS = 30.0
"""Where the output is no terminal, a line this often takes the progress bar's place."""


@dataclass(frozen=True)
class TrainerConfig:
    """How long a stage trains and what it leaves behind."""

    steps: int = 0
    """Optimiser steps."""
    epochs: int | None = None
    """Passes over the training images in place of `steps`."""
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
    workers: int | None = None
    """Processes that prefetch batches from the store; unless given, 4 with a GPU and none without."""
    loss_limit: float = 1e6
    """A loss beyond it has exploded: the stage goes back to its last checkpoint, as after one that is not finite."""

    def __post_init__(self) -> None:
        at_least(self, 1, "log_every", "evaluate_every", "keep")
        at_least(self, 0, "steps", "epochs", "checkpoint_seconds", "workers", "loss_limit")

    def in_steps(self, steps_per_epoch: int) -> TrainerConfig:
        """The same with `epochs`, where given, turned into `steps`."""
        return self if self.epochs is None else replace(self, steps=self.epochs * steps_per_epoch, epochs=None)


class TrainedState(ABC):
    """What a stage trains, as a checkpoint holds it."""

    @abstractmethod
    def members(self) -> dict[str, Any]:
        """Networks, optimisers and averages by name; None where there is none."""

    def state_dict(self) -> dict[str, Any]:
        """The state of each part."""
        return {name: part.state_dict() for name, part in self.members().items() if part is not None}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes back what `state_dict` gave."""
        for name, part in self.members().items():
            if part is not None:
                part.load_state_dict(state[name])


class Stage(ABC):
    """What a trainer asks of a stage; those of the paper are in `training/stages.py`.

    Args:
        config: the stage's settings, with the trainer's in `trainer`; `self.config` has its length in steps.
        train: what is trained on.
        seed: of weights, batches and noise.
    """

    name: str
    state: Any
    """All that it trains."""
    reader: Any
    """Reads its batches (`prefetch.Reader`)."""

    def __init__(self, config: Any, train: SpeechImageData, *, seed: int, device: torch.device) -> None:
        self.train, self.seed, self.device = train, seed, device
        self.images_per_step: int = config.batch_size
        """Of all processes."""
        self.steps_per_epoch = train.steps_per_epoch(config.batch_size)
        self.config = replace(config, trainer=config.trainer.in_steps(self.steps_per_epoch))

    @abstractmethod
    def update(self, step: int) -> Callable[[Any, Any, Any], dict[str, Tensor]]:
        """Sets the learning rates of a step, and returns the function that takes it: (state, batch, config) -> losses
        and other scalars, detached."""

    @abstractmethod
    def batch(self, read: dict[str, Any]) -> Any:
        """What the reader read, on the device, with images encoded."""

    @abstractmethod
    def evaluate(self, step: int) -> dict[str, float]:
        """Scores on the validation split; may write samples and keep the best weights."""

    def state_dict(self) -> dict[str, Any]:
        """All that a checkpoint holds of the stage: nested dicts of tensors and plain values."""
        state: dict[str, Any] = self.state.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes back what `state_dict` gave."""
        self.state.load_state_dict(state)


class Trainer:
    """Trains one stage in a run directory.

    With several processes all take the steps, and the first one alone evaluates, records and saves.

    Args:
        stage: what to train.
        run: where it is trained; locked by the first process.
        console: where progress is shown; stderr unless given.
    """

    def __init__(self, stage: Stage, run: RunDirectory, console: Console | None = None) -> None:
        self.stage, self.run_directory = stage, run
        self.config: TrainerConfig = stage.config.trainer
        self.console = console or Console(stderr=True)
        self.checkpoints = run.checkpoints(stage.name)
        self.writes = rank() == 0
        self.step = 0
        self.precision: Literal["float32", "bf16"] = "float32"
        self._seconds_before, self._started = 0.0, time.monotonic()
        self._last_saved = self._started
        self._writer: SummaryWriter | None = None
        self._window: dict[str, list[Tensor]] = {}

    def run(self, *, resume: bool) -> None:
        """Trains to the last step.

        After a step whose losses or gradients are not finite, or whose losses are beyond the limit, the stage goes back
        to its last checkpoint, once.

        Raises:
            UserError: a step broke again, or there was no checkpoint; the message names step and batch, the log all its
                items. Or the disk is full. The last checkpoint stays.
            KeyboardInterrupt: after the checkpoint is written.
        """
        if not (resume and self.restore()):
            self.precision = choose_precision(self.config.precision, self.stage.device)
        same_everywhere(self.stage.state_dict())
        self._open_writer()
        stage, went_back = self.stage, ""
        with _interruptible() as interrupted, _progress(stage, self.config.steps, self.step, self.console) as show:
            steps = self._steps()
            while self.step < self.config.steps:
                update = stage.update(self.step)
                # Dropout draws from PyTorch's own stream, which the step seeds.
                with seeded(step_seed(stage.seed, self.step), stage.device), autocast(self.precision, stage.device):
                    losses = means(update(stage.state, stage.batch(next(steps)), stage.config))
                if trouble := self._trouble(losses):
                    went_back = self._go_back(trouble, went_back)
                    steps = self._steps()
                    show(self._window, self.step)
                    continue
                for key, value in losses.items():
                    self._window.setdefault(key, []).append(value)
                self.step += 1
                show(self._window, self.step)
                self._after_step(interrupted.is_set())
        self._close_writer()
        self.log(f"finished {self.config.steps} steps in {self.seconds():.0f} s")

    def _steps(self) -> Iterator[dict[str, Any]]:
        """What the reader reads for this step and the later ones."""
        return read_steps(
            self.stage.reader, range(self.step, self.config.steps), self.stage.device, self.config.workers
        )

    def _trouble(self, losses: dict[str, Tensor]) -> str:
        """What is wrong with the losses and norms of a step; nothing if it is empty."""
        values = torch.stack([value.detach().float() for value in losses.values()]).tolist()
        named = dict(zip(losses, values, strict=True))
        if broken := sorted(key for key, value in named.items() if not math.isfinite(value)):
            return f"a value that is not finite ({', '.join(broken)})"
        limit = self.config.loss_limit
        if broken := sorted(k for k, value in named.items() if abs(value) > limit and not k.endswith(GRADIENT_NORM)):
            return f"a value beyond {limit:g} ({', '.join(broken)})"
        return ""

    def _go_back(self, trouble: str, went_back: str) -> str:
        """Takes the last checkpoint back after a broken step; its name.

        Raises:
            UserError: there is none, or a step broke before.
        """
        failed, reader = self.step, self.stage.reader
        items = reader.items(failed)
        batch = describe_items(items)
        self.log(f"step {failed} gave {trouble}; its items: {', '.join(items)}")
        self._window.clear()
        name = "" if went_back else self.restore()
        if not name:
            when = f" again, after going back to {went_back}" if went_back else ""
            raise UserError(
                f"{self.stage.name} step {failed} gave {trouble} for {batch}{when}; {self.run_directory.path / LOG} "
                f"names all of the batch, and the last checkpoint in {self.checkpoints} is kept: check these items or "
                "lower the learning rate, then --resume."
            )
        self._close_writer()
        self._open_writer()
        if self.writes:
            self.console.print(f"{self.stage.name} step {failed} gave {trouble} for {batch}; going back to {name}.")
        return name

    def _after_step(self, interrupted: bool) -> None:
        """Records, evaluates and saves what is due."""
        config, last = self.config, self.step == self.config.steps
        if self.step % config.log_every == 0 or last:
            self.record({key: float(torch.stack(values).mean()) for key, values in self._window.items()})
            self._window.clear()
        if self.writes and (self.step % config.evaluate_every == 0 or last):
            with disk_errors(self.run_directory.path):
                self.record(self.stage.evaluate(self.step))
        if anywhere(interrupted, self.stage.device) and not last:
            self.save()
            self._close_writer()
            self.log(f"interrupted and saved at step {self.step}")
            raise KeyboardInterrupt(f"saved at step {self.step}; go on with --resume")
        if last or time.monotonic() - self._last_saved > config.checkpoint_seconds:
            self.save()

    def restore(self) -> str:
        """Takes the newest whole checkpoint, the same in every process; its name, empty without one."""
        found = first(lambda: load_latest(self.checkpoints))
        name = tell(found[0].name if found is not None else "")
        if not name:
            return ""
        saved: Any = found[1] if found is not None else load_checkpoint(self.checkpoints / name)
        self.stage.load_state_dict(saved["stage"])
        self.step, self._seconds_before, self.precision = saved["step"], saved["seconds"], saved["precision"]
        self._started = time.monotonic()
        before = saved["processes"]
        others = f"; by {world_size()} processes where there were {before}" if before != world_size() else ""
        self.log(f"resumed at step {self.step} from {name}{others}")
        return name

    def save(self) -> None:
        """Writes a checkpoint and deletes the oldest."""
        if not self.writes:
            return
        state = {
            "step": self.step,
            "seconds": self.seconds(),
            "precision": self.precision,
            "processes": world_size(),
            "stage": self.stage.state_dict(),
        }
        save_checkpoint(checkpoint_path(self.checkpoints, self.step), state)
        prune(self.checkpoints, keep=self.config.keep)
        self._last_saved = time.monotonic()

    def record(self, values: dict[str, float]) -> None:
        """Appends scalars of this step to metrics.jsonl and TensorBoard."""
        if self._writer is None:
            return
        named = {f"{self.stage.name}/{key}": value for key, value in values.items()}
        about = {"stage": self.stage.name, "step": self.step, "epoch": self.step // self.stage.steps_per_epoch}
        self.run_directory.metrics({**about, "seconds": round(self.seconds(), 2), **named})
        with disk_errors(self.run_directory.tensorboard):
            for key, value in named.items():
                self._writer.add_scalar(key, value, self.step)

    def log(self, text: str) -> None:
        """Appends a line to the run's log."""
        if self.writes:
            self.run_directory.log(f"{self.stage.name}: {text}")

    def seconds(self) -> float:
        """Time that the stage has trained, earlier sessions included."""
        return self._seconds_before + time.monotonic() - self._started

    def _open_writer(self) -> None:
        """Also drops the records after the present step, which will be written again."""
        if self.writes:
            tensorboard = self.run_directory.tensorboard
            with disk_errors(tensorboard):
                self.run_directory.rewind(self.stage.name, self.step)
                self._writer = SummaryWriter(log_dir=str(tensorboard / self.stage.name), purge_step=self.step)

    def _close_writer(self) -> None:
        if self._writer is not None:
            with disk_errors(self.run_directory.tensorboard):
                self._writer.close()


def describe_items(items: list[str], most: int = 4) -> str:
    """The first items of a batch, and how many more there are."""
    rest = len(items) - most
    return f"the batch with {', '.join(items[:most])}" + (f" and {rest} more" if rest > 0 else "")


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
    started = last_line = time.monotonic()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:.1f} images/s"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(stage.name.upper(), total=steps, completed=first, rate=0.0)

        def advance(window: dict[str, list[Tensor]], step: int) -> None:
            nonlocal last_line
            now = time.monotonic()
            steps_a_second = (step - first) / max(1e-9, now - started)
            rate = steps_a_second * stage.images_per_step
            progress.update(task, completed=step, rate=rate)
            if not console.is_terminal and step > first and now - last_line >= PLAIN_LOG_SECONDS:
                last_line = now
                left = (steps - step) / steps_a_second / 60
                latest = " ".join(f"{key} {float(values[-1]):.3f}" for key, values in list(window.items())[:6])
                text = f"{stage.name.upper()} {step}/{steps}, {rate:.1f} images/s, {left:.1f} min left, {latest}"
                console.print(text, highlight=False)

        yield advance
