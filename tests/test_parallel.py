"""Work in processes: all of it, each once, and failures come through."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from s2igan.errors import UserError
from s2igan.parallel import each_result, elsewhere, usable_cores


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


def test_work_elsewhere_is_done_in_another_process(tmp_path):
    assert elsewhere(write, Job(tmp_path, 1)) == 1
    assert (tmp_path / "1").read_text().split()[0] != str(os.getpid())
    for fault, message in (("error", "item 3: no good"), ("killed", "run the same command again")):
        with pytest.raises(UserError, match=message):
            elsewhere(write, Job(tmp_path, 3, fault))


def until_told(folder: Path) -> None:
    """Works until SIGTERM, at which it saves, as a training does."""
    told = []
    signal.signal(signal.SIGTERM, lambda *_: told.append(True))
    (folder / "begun").write_text(str(os.getpid()))
    while not told:
        time.sleep(0.02)
    (folder / "saved").touch()


def test_work_elsewhere_is_saved_and_ends_when_its_parent_is_killed(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(
        "from pathlib import Path\n"
        "from s2igan.parallel import elsewhere\n"
        "from test_parallel import until_told\n"
        f"if __name__ == '__main__':\n    elsewhere(until_told, Path({str(tmp_path)!r}))\n"
    )
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    with subprocess.Popen(
        [sys.executable, script], env=os.environ | {"PYTHONPATH": paths}, stderr=subprocess.DEVNULL
    ) as parent:
        wait_for(lambda: (tmp_path / "begun").exists() and (tmp_path / "begun").read_text())
        child = int((tmp_path / "begun").read_text())
        parent.kill()
    wait_for(lambda: (tmp_path / "saved").exists())
    wait_for(lambda: not is_running(child))


def wait_for(happens) -> None:
    for _ in range(3000):
        if happens():
            return
        time.sleep(0.04)
    pytest.fail("it did not happen")


def is_running(process: int) -> bool:
    """A process that has ended and that nobody asked for how is not running."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_some_core_is_usable():
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)
