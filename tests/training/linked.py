"""Linked processes that are forked from a test."""

import multiprocessing
import traceback
from queue import Empty

import pytest
import torch

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
