import threading

import pytest
import torch

from s2igan.recipes import resolve
from s2igan.training import ahead as module
from s2igan.training.ahead import Ahead, spare_core
from s2igan.training.train import train_run
from tiny_corpus import shrunk

CPU = torch.device("cpu")


class Reader:
    """Remembers what was read, where and by how many threads; reading one step fails."""

    def __init__(self, broken=None):
        self.read, self.where, self.threads, self.broken = [], set(), set(), broken
        self.has_read = {index: threading.Event() for index in range(20)}

    def __call__(self, index):
        self.read.append(index)
        self.where.add(threading.current_thread())
        self.threads.add(torch.get_num_threads())
        self.has_read[index].set()
        if index == self.broken:
            raise ValueError(f"step {index} cannot be read")
        return 10 * index


@pytest.fixture
def spare(monkeypatch):
    monkeypatch.setattr(module, "spare_core", lambda device: True)


@pytest.mark.usefixtures("spare")
class TestAhead:
    def test_the_next_step_is_read_without_being_asked_for(self):
        reader = Reader()
        with Ahead(reader, 3, CPU) as ahead:
            assert ahead(0) == 0
            assert reader.has_read[1].wait(10)
            assert [ahead(1), ahead(2)] == [10, 20]
            assert not reader.has_read[3].wait(0.2)
        assert reader.read == [0, 1, 2]  # each once, and nothing after the last step

    def test_another_step_than_the_next_is_read_anew(self):
        """As after going back to a checkpoint."""
        reader = Reader()
        with Ahead(reader, 20, CPU) as ahead:
            assert [ahead(5), ahead(2), ahead(3)] == [50, 20, 30]

    def test_a_fault_is_that_of_its_step(self):
        with Ahead(Reader(broken=1), 3, CPU) as ahead:
            assert ahead(0) == 0
            with pytest.raises(ValueError, match="step 1 cannot be read"):
                ahead(1)
            assert ahead(2) == 20

    def test_the_thread_computes_on_one_core_and_ends(self):
        """Whoever computes keeps its cores, and so do threads that come later."""
        reader, before = Reader(), torch.get_num_threads()
        torch.set_num_threads(2)
        try:
            with Ahead(reader, 3, CPU) as ahead:
                ahead(0)
                assert torch.get_num_threads() == 2
                later = []
                thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
                thread.start()
                thread.join()
                assert later == [2]
        finally:
            torch.set_num_threads(before)
        assert reader.threads == {1}
        (thread,) = reader.where
        assert thread is not threading.main_thread()
        assert not thread.is_alive()


def test_without_a_spare_core_everything_is_read_when_it_is_asked_for(monkeypatch):
    monkeypatch.setattr(module, "spare_core", lambda device: False)
    reader = Reader()
    with Ahead(reader, 3, CPU) as ahead:
        assert ahead(0) == 0
        assert reader.read == [0]
    assert reader.where == {threading.main_thread()}


@pytest.mark.parametrize(
    ("cores", "threads", "processes", "spare"), [(2, 1, 1, True), (2, 2, 1, False), (2, 1, 2, False), (4, 1, 2, True)]
)
def test_a_core_is_spare_where_nobody_computes_on_it(monkeypatch, cores, threads, processes, spare):
    monkeypatch.setattr(module, "usable_cores", lambda: cores)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    assert spare_core(CPU) == spare
    assert spare_core(torch.device("cuda"))


def test_reading_ahead_changes_no_bit(store, tmp_path, monkeypatch):
    """With all that a step draws at random: distortions, crops, noise, shifts, further descriptions."""
    weights = []
    for spare in (True, False):
        monkeypatch.setattr(module, "spare_core", lambda device, spare=spare: spare)
        run = train_run(
            shrunk(resolve("birds"), 3), data=store.directory, out=tmp_path / str(spare), device="cpu", seed=3
        )
        weights.append([path.read_bytes() for path in sorted((run / "model").rglob("*.safetensors"))])
    assert weights[0]
    assert weights[0] == weights[1]
