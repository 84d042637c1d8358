"""Work in processes: all of it, each once, and failures come through."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest

from s2igan.errors import UserError
from s2igan.parallel import each_result, usable_cores


@dataclass(frozen=True)
class Job:
    folder: Path
    number: int
    fault: str = ""


def write(job: Job) -> int:
    if job.fault == "error":
        raise UserError("item 3: no good; mend it.")
    if job.fault == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    with (job.folder / str(job.number)).open("x") as file:  # fails when done twice
        file.write(f"{os.getpid()} {os.environ.get('OMP_NUM_THREADS')}")
    return job.number


@pytest.mark.parametrize("jobs", [1, 2])
def test_every_item_is_done_once(tmp_path, jobs):
    items = [Job(tmp_path, number) for number in range(7)]
    assert sorted((job.number, result) for job, result in each_result(write, items, jobs)) == [(n, n) for n in range(7)]
    written = [(tmp_path / str(number)).read_text().split() for number in range(7)]
    if jobs == 1:
        assert {process for process, _ in written} == {str(os.getpid())}
    else:
        assert str(os.getpid()) not in {process for process, _ in written}
        assert {threads for _, threads in written} == {"1"}


def test_nothing_to_do():
    assert list(each_result(write, [], 2)) == []


@pytest.mark.parametrize(("fault", "message"), [("error", "item 3: no good"), ("killed", "fewer --jobs")])
def test_a_failure_in_a_process_comes_through(tmp_path, fault, message):
    items = [Job(tmp_path, number, fault if number == 3 else "") for number in range(6)]
    with pytest.raises(UserError, match=message):
        list(each_result(write, items, 2))


def test_some_core_is_usable():
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)
