from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from noise_corpus import build, make_corpus


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As in the processes that make a store: several threads round a few numbers otherwise."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read only."""
    root = tmp_path_factory.mktemp("prepared")
    make_corpus(root)
    build(root)
    return root
