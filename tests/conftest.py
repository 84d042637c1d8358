"""Checks types and shapes in every signature of s2igan while the tests run; users do not pay for it."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import pytest
from jaxtyping import install_import_hook

if TYPE_CHECKING:
    from s2igan.data.store import Store

CHECKED = importlib.util.find_spec("beartype") is not None
if CHECKED:
    install_import_hook("s2igan", "typechecker.check")


def pytest_report_header() -> list[str]:
    return [] if CHECKED else ["beartype is not installed: types and shapes go unchecked"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of a GPU are skipped where there is none."""
    import torch

    if not torch.cuda.is_available():
        reason = pytest.mark.skip(reason="PyTorch finds no GPU here; make gpu runs this on a machine that has one")
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(reason)


@pytest.fixture(scope="session", autouse=True)
def _caches_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or fills the cache folder of whoever runs it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("caches")))
        yield


@pytest.fixture(autouse=True)
def _environment_of_a_test() -> Iterator[None]:
    """What a test or a command in it writes to the environment ends with the test."""
    with mock.patch.dict(os.environ):
        yield


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A tiny prepared corpus with classes; see `tiny_corpus`."""
    from tiny_corpus import make_store

    return make_store(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def store_without_classes(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The same pictures and recordings without class names."""
    from tiny_corpus import make_store

    return make_store(tmp_path_factory.mktemp("tiny-no-classes"), with_classes=False)


@pytest.fixture(scope="session")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three recordings, one of them below a folder of its own."""
    import numpy as np
    import soundfile

    from s2igan.audio import SAMPLE_RATE

    folder = tmp_path_factory.mktemp("sounds")
    rng = np.random.default_rng(0)
    for name in ("a.wav", "b.flac", "deep/c.WAV"):
        (folder / name).parent.mkdir(exist_ok=True)
        kind = name.rpartition(".")[2].upper()
        soundfile.write(folder / name, 0.1 * rng.standard_normal(SAMPLE_RATE), SAMPLE_RATE, format=kind)
    (folder / "notes.txt").write_text("no sound")
    return folder
