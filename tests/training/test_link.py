"""The memory that processes of one machine share, by processes that are forked from the test."""

import multiprocessing
import traceback
from queue import Empty

import pytest
import torch

from s2igan.training import link as module
from s2igan.training.link import Link

THREE = 3


def in_processes(tmp_path, work, processes=THREE):
    """What `work(link)` returns in each process, or the text of what it raised."""
    context = multiprocessing.get_context("fork")
    answers = context.Queue()

    def one(rank):
        torch.set_num_threads(1)
        try:
            answers.put((rank, work(Link(rank, processes, tmp_path, 20.0))))
        except RuntimeError as error:
            answers.put((rank, str(error)))
        except BaseException:
            answers.put((rank, traceback.format_exc()))

    started = [context.Process(target=one, args=(rank,)) for rank in range(processes)]
    for process in started:
        process.start()
    try:
        return [answer for _, answer in sorted(answers.get(timeout=60) for _ in started)]
    except Empty:
        pytest.fail("a process does not answer")
    finally:
        for process in started:
            process.join(10)
            process.kill()


def vectors(rank):
    """Short ones, one longer than a slot, an empty one, and another type between them."""
    rng = torch.Generator().manual_seed(rank)
    lengths = (3, 1, 5000, 0, 700)
    return [torch.randn(n, generator=rng) for n in lengths] + [torch.arange(4).double() * (rank + 1), torch.ones(2)]


@pytest.fixture(autouse=True)
def small_slots(monkeypatch):
    monkeypatch.setattr(module, "SLOT_BYTES", 4096)


def test_sums_and_means(tmp_path):
    def work(link):
        mine, divided = vectors(link.rank), vectors(link.rank)
        link.sum(mine)
        link.sum(divided, divide_by=THREE)
        return [x.tolist() for x in mine], [x.tolist() for x in divided]

    answers = in_processes(tmp_path, work)
    assert answers[0] == answers[1] == answers[2]
    for i, (total, mean) in enumerate(zip(*answers[0], strict=True)):
        expected = torch.stack([vectors(rank)[i] for rank in range(THREE)]).sum(dim=0)
        torch.testing.assert_close(torch.tensor(total, dtype=expected.dtype), expected)
        torch.testing.assert_close(torch.tensor(mean, dtype=expected.dtype), expected / THREE)


def test_gathers_many_times(tmp_path):
    """Also where one process is always late: nobody's numbers are overwritten before all have read them."""

    def work(link):
        wrong = 0
        for turn in range(200):
            if turn % THREE == link.rank:
                torch.randn(200, 200) @ torch.randn(200, 200)
            parts = link.gather(torch.full((3, 500), 1000 * turn + link.rank))
            wrong += [int(part[2, -1]) for part in parts] != [1000 * turn + rank for rank in range(THREE)]
            wrong += any(part.shape != (3, 500) or (part != part[0, 0]).any() for part in parts)
        return wrong

    assert in_processes(tmp_path, work) == [0, 0, 0]


def test_a_process_that_is_gone_is_noticed(tmp_path):
    def work(link):
        if link.rank == 1:
            return "left"
        link.gather(torch.ones(1))
        return "went on"

    answers = in_processes(tmp_path, work)
    assert answers[1] == "left"
    assert "is gone" in answers[0]
    assert "is gone" in answers[2]


def test_patience_ends(tmp_path):
    def work(link):
        link.patience = 0.2
        if link.rank == 1:
            multiprocessing.Event().wait(1.5)
        link.gather(torch.ones(1))
        return "went on"

    answers = in_processes(tmp_path, work, processes=2)
    assert answers[0] == "process 1 was waited for too long"
