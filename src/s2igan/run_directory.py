"""The directory of one training run: its configuration, its log and metrics, and the lock that keeps it to one process.

RUN/config.json environment.json log.txt metrics.jsonl tensorboard/ samples/ checkpoints/{sen,rdg}/step-*/ model/
    evaluation/ report.html
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s2igan import __version__
from s2igan.errors import UserError
from s2igan.files import atomic_write, atomic_write_json, disk_errors
from s2igan.parallel import usable_cores

if TYPE_CHECKING:
    from filelock import BaseFileLock

LOCK, HOLDER = ".lock", ".lock-holder"
CONFIG, ENVIRONMENT, METRICS, LOG = "config.json", "environment.json", "metrics.jsonl", "log.txt"
SEN_FOLDER = "sen"
"""Where a run keeps the networks of stage 1 that stage 2 and evaluation use."""
WARM_START_FOLDER = "warm_start"
"""Where one that was asked for its warm start alone leaves the generator, for runs that begin from it."""
MODEL_FOLDER = "model"
"""Where it keeps the exported model."""
DATA = "data"
"""Where `s2igan run` prepares the corpus of a run, before there is a run."""


class RunDirectory:
    """Make one by `create`, `resume` or `open`. The first two hold the lock until `close`, the end of a `with`, or
    the process.

    Warnings of the package are written to the log, and to stderr, as long as the lock is held.
    """

    def __init__(self, path: Path, config: dict[str, Any], lock: BaseFileLock | None) -> None:
        self.path = path
        self.config = config
        """As read from, or written to, `config.json`."""
        self.samples, self.tensorboard, self.model = path / "samples", path / "tensorboard", path / MODEL_FOLDER
        self.evaluation, self.report = path / "evaluation", path / "report.html"
        self._lock = lock
        self._handler = _LogHandler(self)
        if lock is not None:
            logging.getLogger("s2igan").addHandler(self._handler)

    @classmethod
    def create(cls, path: str | Path, config: dict[str, Any]) -> RunDirectory:
        """Begin a run in a new or empty directory: lock it, write `config.json` and `environment.json`.

        Raises:
            UserError: if the directory holds anything, or another process holds its lock, or it cannot be written.
            TypeError: if `config` holds something that JSON has no word for.
        """
        path = Path(path)
        text = json.dumps(config)
        if path.exists() and not path.is_dir():
            raise UserError(f"{path}: a file is here; choose another --out.")
        with disk_errors(path):
            path.mkdir(parents=True, exist_ok=True)
            used = UserError(f"{path}: the directory is not empty; go on with --resume, or choose another --out.")
            if _is_used(path) and not (path / LOCK).exists():
                raise used  # before a lock file is left in somebody's folder
            lock = _acquire(path)
            try:
                if _is_used(path):
                    raise used
                atomic_write_json(path / ENVIRONMENT, environment())
                atomic_write_json(path / CONFIG, json.loads(text))  # last: with it, the run can be resumed
            except BaseException:
                lock.release()
                raise
        return cls(path, json.loads(text), lock)

    @classmethod
    def resume(cls, path: str | Path, config: dict[str, Any] | None = None) -> RunDirectory:
        """Go on with a run: lock its directory and read its configuration.

        Args:
            config: what the run is asked to be now; of these entries each must be what the run was created with.

        Raises:
            UserError: if there is no run, it is of another version, another process holds its lock, or `config`
                differs, naming each difference.
        """
        run = cls.open(path)
        if config is not None:
            begun = ("sen_from", "warm_start_from", "init_from", "version")
            asked = dict.fromkeys(begun) | json.loads(json.dumps(config))
            before = {name: run.config.get(name) for name in asked if name != "data"}  # whose fingerprint counts
            asked = {name: asked[name] for name in before}
            if before["version"] != asked["version"]:
                raise UserError(
                    f"{run.path}: this run was made by another version of s2igan, whose settings are others; train "
                    "anew with another --out, or use that version."
                )
            if changes := in_words(before, asked):
                raise UserError(
                    f"{run.path / CONFIG}: the run was started with another configuration ({changes}); "
                    "resume it with the same, or start a new one with another --out."
                )
        with disk_errors(run.path):
            return cls(run.path, run.config, _acquire(run.path))

    @classmethod
    def open(cls, path: str | Path) -> RunDirectory:
        """Look at a run, running or not, without its lock.

        Raises:
            UserError: if there is no run here or its configuration is not readable.
        """
        path = Path(path)
        try:
            config = json.loads((path / CONFIG).read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            raise UserError(f"{path}: no run is here (there is no {CONFIG}); give the --out of a training.") from None
        except (OSError, ValueError) as error:
            raise UserError(f"{path / CONFIG}: not readable ({error}); restore it or start a new run.") from error
        return cls(path, config, None)

    def close(self) -> None:
        """Release the lock. A second call does nothing."""
        logging.getLogger("s2igan").removeHandler(self._handler)
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> RunDirectory:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def checkpoints(self, stage: str) -> Path:
        """The parent of a stage's checkpoints."""
        return self.path / "checkpoints" / stage

    def log(self, text: str) -> None:
        """Append a line to `log.txt`, with the time; UserError when the disk is full."""
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        self._append(LOG, f"{stamp} {text}\n")

    def metrics(self, record: Mapping[str, Any]) -> None:
        """Append a record to `metrics.jsonl` in one write, so that no reader sees half of it.

        NaN and infinities, for which JSON has no word, become null.

        Raises:
            UserError: when the disk is full.
        """
        known = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()}
        self._append(METRICS, json.dumps(known) + "\n")

    def read_metrics(self) -> list[dict[str, Any]]:
        """All records so far; a line that a kill or a full disk cut short is passed over."""
        try:
            lines = (self.path / METRICS).read_bytes().splitlines()
        except FileNotFoundError:
            return []
        records = []
        for line in lines:
            with contextlib.suppress(ValueError):
                records.append(json.loads(line))
        return records

    def rewind(self, stage: str, step: int) -> None:
        """Drop the records of `stage` after `step`, which a resumed run will write again, and any line cut short."""
        kept = [
            record for record in self.read_metrics() if record.get("stage") != stage or record.get("step", 0) <= step
        ]
        with atomic_write(self.path / METRICS) as file:
            file.writelines((json.dumps(record) + "\n").encode() for record in kept)

    def _append(self, name: str, text: str) -> None:
        with disk_errors(self.path / name), (self.path / name).open("ab") as file:
            file.write(text.encode())


class _LogHandler(logging.Handler):
    def __init__(self, run: RunDirectory) -> None:
        super().__init__(logging.WARNING)
        self._run = run

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        print(message, file=sys.stderr)
        self._run.log(f"{record.levelname}: {message}")


def has_stage_1_alone(path: Path) -> bool:
    """Whether a run has finished stage 1 and not stage 2."""
    return (path / SEN_FOLDER).is_dir() and not (path / MODEL_FOLDER).is_dir()


def _is_used(path: Path) -> bool:
    """Whether there is more than a corpus prepared for the run, or what a `create` leaves that was killed before it was
    done."""
    return any(not entry.name.startswith(".") and entry.name not in (ENVIRONMENT, DATA) for entry in path.iterdir())


def _acquire(path: Path) -> BaseFileLock:
    """The lock of a run, held. The system releases it when the process ends, however it ends."""
    from filelock import FileLock, Timeout

    lock = FileLock(path / LOCK, thread_local=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        holder = "another process"
        with contextlib.suppress(OSError):  # nobody has to know who it is
            holder = (path / HOLDER).read_text().strip()
        raise UserError(f"{path}: {holder} is training here; wait until it ends, or choose another --out.") from None
    try:
        (path / HOLDER).write_text(f"process {os.getpid()} on {socket.gethostname()}\n")
    except BaseException:
        lock.release()
        raise
    return lock


def differences(old: Any, new: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Name, old and new value of what differs between two nestings of dicts."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys([*old, *new]):
            yield from differences(old.get(key), new.get(key), f"{name}.{key}" if name else str(key))
    elif old != new:
        yield name, old, new


def with_what_was_off(known: Any, asked: Any) -> Any:
    """Settings as an earlier version recorded them, with those that came later as they are asked for, where that is
    off (0, false or null): they were off then, too."""
    if not (isinstance(known, dict) and isinstance(asked, dict)):
        return known
    later = {name: value for name, value in asked.items() if name not in known and not value}
    return {name: with_what_was_off(value, asked.get(name)) for name, value in known.items()} | later


def in_words(old: Any, new: Any) -> str:
    """What differs between two JSON values; empty where nothing does."""
    found = differences(old, new)
    return "; ".join(f"{name} was {json.dumps(was)}, is now {json.dumps(now)}" for name, was, now in found)


def environment() -> dict[str, Any]:
    """What a number may depend on besides the configuration: versions, processor, threads, commit, time (UTC)."""
    import numpy as np
    import torch

    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "s2igan": __version__,
        "git_commit": _git_commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "cpu": _cpu_model(),
        "cpus": usable_cores(),
        "threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _git_commit() -> str | None:
    """The commit that this code is from, with "-dirty" where tracked files differ from it; None where it is not from
    git.

    Asked of this file, since an installed package may lie inside somebody else's repository.
    """
    here = Path(__file__)

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(here.parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", here.name)
        return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None
