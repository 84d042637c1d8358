"""Training at toy width, where building the frozen backbone anew for every stage would take half of the time."""

import functools

import pytest

from s2igan.models import image_encoder


@functools.cache
def _backbone(name, weights):
    network = _build(name)
    _load(network, weights)
    return network


_build, _load = image_encoder._build, image_encoder._load_lite0


@pytest.fixture(autouse=True)
def one_backbone(monkeypatch):
    """One EfficientNet-Lite0 for all; nothing trains it."""
    monkeypatch.setattr(image_encoder, "_build", lambda name: _backbone(name, None))
    monkeypatch.setattr(image_encoder, "_load_lite0", lambda network, weights: None)
