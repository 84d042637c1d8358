"""A store of noise, which needs no sound library, and float32 products in full."""

import pytest
from golden_support import without_tf32

from s2igan.dry_run import DataFacts, made_up_store


@pytest.fixture(scope="session")
def noise_store(tmp_path_factory):
    return made_up_store(tmp_path_factory.mktemp("noise"), 32, DataFacts(frames=60), 16)


@pytest.fixture(autouse=True)
def _in_full():
    with without_tf32():
        yield
