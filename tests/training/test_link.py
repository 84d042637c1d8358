"""The memory that processes of one machine share, by processes that are forked from the test."""

import multiprocessing

import pytest
import torch
from linked import THREE, in_processes

from s2igan.training import link as module


def vectors(rank):
    """A short one, one longer than a slot, an empty one, and another type."""
    rng = torch.Generator().manual_seed(rank)
    return [torch.randn(n, generator=rng) for n in (3, 5000, 0)] + [torch.arange(4).double() * (rank + 1)]


@pytest.fixture(autouse=True)
def small_slots(monkeypatch):
    monkeypatch.setattr(module, "SLOT_BYTES", 4096)


def test_sums(tmp_path):
    def work(link):
        mine = vectors(link.rank)
        for x in mine:
            link.sum(x)
        return [x.tolist() for x in mine]

    answers = in_processes(tmp_path, work)
    assert answers[0] == answers[1] == answers[2]
    for i, total in enumerate(answers[0]):
        expected = torch.stack([vectors(rank)[i] for rank in range(THREE)]).sum(dim=0)
        torch.testing.assert_close(torch.tensor(total, dtype=expected.dtype), expected)


def test_memory_that_all_see(tmp_path):
    """What each one writes before a meeting, all read after it; every piece of memory is one of its own."""

    def work(link):
        pieces = [link.allocate(THREE * size).view(THREE, size) for size in (1, 5000)]
        before = sum(int(piece.sum()) for piece in pieces)
        link.meet()
        for number, piece in enumerate(pieces):
            piece[link.rank] = 10 * number + link.rank
        link.meet()
        return before, [piece[:, -1].tolist() for piece in pieces]

    assert in_processes(tmp_path, work) == [(0, [[0, 1, 2], [10, 11, 12]])] * THREE


def test_all_hear_the_largest_word(tmp_path):
    def work(link):
        return [link.meet(word) for word in (0, link.rank, 255 * (link.rank == 1), 0)]

    assert in_processes(tmp_path, work) == [[0, 2, 255, 0]] * THREE


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


def test_who_is_gone_gives_no_memory(tmp_path):
    answers = in_processes(tmp_path, lambda link: "left" if link.rank == 0 else link.allocate(8))
    assert answers == ["left", "process 0 is gone", "process 0 is gone"]


def test_patience_ends(tmp_path):
    def work(link):
        link.patience = 0.2
        if link.rank == 1:
            multiprocessing.Event().wait(1.5)
        link.gather(torch.ones(1))
        return "went on"

    answers = in_processes(tmp_path, work, processes=2)
    assert answers[0] == "process 1 was waited for too long"
