"""One reading of --device."""

import pytest
import torch

from s2igan.devices import choose_device
from s2igan.errors import UserError


def with_gpus(monkeypatch, n):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: n > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n)


@pytest.mark.parametrize(
    ("device", "gpus", "chosen"),
    [
        (None, 0, "cpu"),
        (None, 1, "cuda"),
        ("cpu", 1, "cpu"),
        ("cuda", 1, "cuda"),
        ("cuda:1", 2, "cuda:1"),
        (torch.device("cpu"), 0, "cpu"),
    ],
)
def test_devices(monkeypatch, device, gpus, chosen):
    with_gpus(monkeypatch, gpus)
    assert choose_device(device) == torch.device(chosen)


@pytest.mark.parametrize(
    ("device", "gpus", "sentence"),
    [
        ("nonsense", 0, "there is no such device; choose cpu, cuda or cuda:1"),
        ("cpu:0", 0, "there is no such device"),
        ("cuda:x", 1, "there is no such device"),
        ("cuda", 0, "PyTorch finds no GPU here; choose --device cpu"),
        ("cuda:2", 2, "has 2 GPUs, counted from cuda:0"),
    ],
)
def test_what_is_none_is_a_sentence(monkeypatch, device, gpus, sentence):
    with_gpus(monkeypatch, gpus)
    with pytest.raises(UserError, match=sentence) as error:
        choose_device(device)
    assert str(error.value).startswith(f"--device {device}: ")
