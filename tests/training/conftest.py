"""Training at toy width, where building the frozen backbone anew for every stage would take half of the time."""

import functools

import pytest
import torch

from s2igan.models import image_encoder


@functools.cache
def _lite0():
    with torch.device("cpu"):  # whatever the first to ask counts parameters on
        network = _build("efficientnet_lite0")
    _load(network, None)
    return network


_build, _load = image_encoder._build, image_encoder._load_lite0


@pytest.fixture(autouse=True)
def one_backbone(monkeypatch):
    """One EfficientNet-Lite0 for all; nothing trains it. Built before the test, whose networks' draws it must not shift."""
    _lite0()
    monkeypatch.setattr(
        image_encoder, "_build", lambda name: _lite0() if name == "efficientnet_lite0" else _build(name)
    )
    monkeypatch.setattr(image_encoder, "_load_lite0", lambda network, weights: None)
