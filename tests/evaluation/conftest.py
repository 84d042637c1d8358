"""Small birds and random networks for the tests of the evaluation."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from s2igan.data.store import Store
from s2igan.evaluation.attributes import AttributeClassifier, AttributesSeen, load_or_train_classifier
from s2igan.evaluation.evaluation_split import Networks
from s2igan.evaluation.extractors import Extraction
from s2igan.evaluation.memorisation import Middle
from s2igan.evaluation.spaces import lite
from s2igan.evaluation.subject import Subject
from s2igan.pipeline import SpeechToImage


@pytest.fixture(scope="session")
def bird_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    from small_birds import make_bird_store

    return make_bird_store(tmp_path_factory.mktemp("small-birds"))


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory, bird_store: Store) -> Path:
    from small_birds import make_run

    return make_run(tmp_path_factory.mktemp("small-run") / "run", bird_store)


@pytest.fixture(scope="session")
def larger_birds(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The same birds at 64 px, which is what a latent flow draws at least."""
    from small_birds import make_bird_store

    return make_bird_store(tmp_path_factory.mktemp("larger-birds"), 64)


@pytest.fixture(scope="session")
def flow_run(tmp_path_factory: pytest.TempPathFactory, larger_birds: Store) -> Path:
    from small_birds import make_flow_run

    return make_flow_run(tmp_path_factory.mktemp("flow-run") / "run", larger_birds)


@pytest.fixture(scope="session")
def networks(small_run: Path) -> Networks:
    return Networks.load(Subject.of(small_run), torch.device("cpu"))


@pytest.fixture(scope="session")
def model(networks: Networks) -> SpeechToImage:
    assert networks.model is not None
    return networks.model


@pytest.fixture(scope="session")
def extraction(bird_store: Store) -> Extraction:
    """Both EfficientNets, small pictures, and a classifier that knows the pictures of `bird_store`."""
    from small_birds import KnownPictures

    cpu = torch.device("cpu")
    known = AttributesSeen(KnownPictures(bird_store))
    return Extraction([lite("lite0", cpu), lite("lite2", cpu), Middle(), known])


@pytest.fixture(scope="session")
def toy_classifier() -> AttributeClassifier:
    """A classifier of the toy drawings, well trained."""
    from toy_drawing import SMALL, TOY

    return load_or_train_classifier(TOY, SMALL)
