"""Checks types and shapes in every signature of s2igan while the tests run; users do not pay for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from jaxtyping import install_import_hook

if TYPE_CHECKING:
    from s2igan.data.store import Store

install_import_hook("s2igan", "typechecker.check")


@pytest.fixture(scope="session", autouse=True)
def _caches_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or fills the cache folder of whoever runs it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("caches")))
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
