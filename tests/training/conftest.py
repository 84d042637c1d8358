"""Training at toy width, where building the frozen backbone anew for every stage would take half of the time."""

import functools

import pytest
import torch

from s2igan.models import image_encoder


@functools.cache
def _lite0():
    with torch.device("cpu"):  # whatever the first to ask counts parameters on
        network = _build("efficientnet_lite0")
    _load(network, "efficientnet_lite0")
    return network


_build, _load = image_encoder.build_backbone, image_encoder.load_in_order


@pytest.fixture(autouse=True)
def one_backbone(monkeypatch):
    """One EfficientNet-Lite0 for all; nothing trains it."""
    _lite0()  # before the test: built within it, it would shift the draws of the first networks
    monkeypatch.setattr(
        image_encoder, "build_backbone", lambda name: _lite0() if name == "efficientnet_lite0" else _build(name)
    )
    monkeypatch.setattr(
        image_encoder,
        "load_in_order",
        lambda network, name: None if name == "efficientnet_lite0" else _load(network, name),
    )
