"""Sums and gathers between the processes of one machine, through memory that they share.

PyTorch's gloo sends through the network stack and wakes two threads for every message: 0.7 to 1.8 ms for the smallest,
in a step of half a second that exchanges some sixty. Here every process copies its numbers into a slot of its own in
shared memory, rings the others through a socket and polls until all have rung: 0.04 ms. Only for few processes on one
Linux machine, each of which has a core of its own; otherwise gloo does it (`processes.start`).

Sums are taken in the order of the processes, so that all get the same bits.
"""

from __future__ import annotations

import mmap
import os
import select
import socket
import time
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

MOST_PROCESSES = 8
"""Beyond, everybody's reading everybody's numbers costs more than gloo's ring."""
SLOT_BYTES = 2**21
"""Of one exchange; larger ones go in pieces."""
POLLING = 0.002
"""Seconds before a process that waits gives its core away."""


def possible() -> bool:
    """Whether this operating system has what a link needs."""
    return hasattr(os, "memfd_create") and hasattr(socket, "send_fds")


class Link:
    """One process's end of the shared memory.

    Args:
        rank: the number of this process.
        processes: how many there are.
        folder: an empty directory that all see, which a link needs only while it connects.
        patience: seconds that a process waits for the others.

    Raises:
        RuntimeError: here and in every exchange: another process is gone, or was waited for too long.
    """

    def __init__(self, rank: int, processes: int, folder: Path, patience: float) -> None:
        self.rank, self.processes, self.patience = rank, processes, patience
        self._peers = self._connect(folder)
        self._memory = self.allocate(2 * processes * SLOT_BYTES)
        self._turn = 0
        self.loads = [0] * processes
        """Numbers that each process looks after (`adam.divide`)."""

    def _connect(self, folder: Path) -> dict[int, socket.socket]:
        """A socket to every other process, by its number: each connects to those before it."""
        peers: dict[int, socket.socket] = {}
        with socket.socket(socket.AF_UNIX) as listener:
            listener.settimeout(self.patience)
            listener.bind(str(folder / f"binding-{self.rank}"))
            listener.listen(self.processes)
            # The others look for this name: it is there only once it is listened at.
            (folder / f"binding-{self.rank}").rename(folder / str(self.rank))
            for other in range(self.rank):
                peers[other] = self._reach(folder / str(other))
                peers[other].sendall(bytes([self.rank]))
            while len(peers) < self.processes - 1:
                peer, _ = listener.accept()
                peer.settimeout(self.patience)
                peers[peer.recv(1)[0]] = peer
        for peer in peers.values():
            peer.setblocking(False)
        return dict(sorted(peers.items()))

    def _reach(self, path: Path) -> socket.socket:
        peer = socket.socket(socket.AF_UNIX)
        peer.settimeout(self.patience)
        for _ in range(round(self.patience / 0.01)):
            if path.exists():
                peer.connect(str(path))
                return peer
            select.select([], [], [], 0.01)
        raise RuntimeError("another process did not come")

    def allocate(self, size: int) -> Tensor:
        """So many bytes, all 0, in memory that all processes see, who must ask for it at the same point."""
        if self.rank == 0:
            memory = os.memfd_create("s2igan")
            os.ftruncate(memory, size)
            for peer in self._peers.values():
                socket.send_fds(peer, [b"m"], [memory])
        else:
            memory = self._receive_memory(self._peers[0])
        shared = torch.frombuffer(mmap.mmap(memory, size), dtype=torch.uint8)
        os.close(memory)
        return shared

    def _receive_memory(self, peer: socket.socket) -> int:
        if not select.select([peer], [], [], self.patience)[0]:
            raise RuntimeError("process 0 was waited for too long")
        with suppress(ConnectionError):
            _, received, _, _ = socket.recv_fds(peer, 1, 1)
            if received:
                return received[0]
        raise RuntimeError("process 0 is gone")

    def meet(self, word: int = 0) -> int:
        """Returns when every process has come here: the largest of the words, 0 to 255, that they brought.

        What they wrote before into memory that they share can be read afterwards, and what was read can be overwritten.
        """
        for number, peer in self._peers.items():
            try:
                peer.send(bytes([word]))
            except OSError as error:
                raise RuntimeError(f"process {number} is gone") from error
        for number, peer in self._peers.items():
            heard = self._ring(number, peer)
            if not heard:
                raise RuntimeError(f"process {number} is gone")
            word = max(word, heard[0])
        return word

    def gather(self, x: Tensor) -> list[Tensor]:
        """The tensors of all processes, which have one shape and type, in the order of the processes."""
        mine = x.reshape(-1)
        parts = [torch.empty_like(mine) for _ in range(self.processes)]
        length = SLOT_BYTES // max(1, x.element_size())
        for start in range(0, len(mine), length):
            piece = slice(start, start + length)
            n = len(mine[piece])
            slots = self._slots(x.dtype, n)
            slots[self.rank].copy_(mine[piece])
            self.meet()
            for part, slot in zip(parts, slots, strict=True):
                part[piece].copy_(slot)
        return [part.view(x.shape) for part in parts]

    def sum(self, x: Tensor) -> None:
        """Puts the sum of a vector over the processes in the vector's place."""
        for piece in x.split(SLOT_BYTES // x.element_size()):
            slots = self._slots(x.dtype, len(piece))
            slots[self.rank].copy_(piece)
            self.meet()
            piece.copy_(slots[0])
            for slot in slots[1:]:
                piece += slot

    def _slots(self, dtype: torch.dtype, n: int) -> Tensor:
        """The next turn's memory, a row of ``n`` numbers for each process.

        Two turns have memory of their own: who is done with meeting for the next knows that all have read this one's.
        """
        self._turn += 1
        half = self._memory.view(2, self.processes, SLOT_BYTES)[self._turn % 2]
        return half.view(dtype)[:, :n]

    def _ring(self, number: int, peer: socket.socket) -> bytes:
        """The word that another process sent when it came; nothing if it is gone."""
        with suppress(ConnectionError):
            started = time.perf_counter()
            while time.perf_counter() < started + POLLING:
                with suppress(BlockingIOError):
                    return peer.recv(1)
                os.sched_yield()
            if select.select([peer], [], [], self.patience)[0]:
                return peer.recv(1)
            raise RuntimeError(f"process {number} was waited for too long")
        return b""
