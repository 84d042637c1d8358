"""Reading the golden record: tensors of the authors' implementation, described in the fixtures' own README."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from s2igan.models.discriminator import Discriminator, DiscriminatorConfig
from s2igan.models.generator import Generator, GeneratorConfig
from s2igan.models.reference_weights import Network, from_reference
from s2igan.models.speech_encoder import SpeechEncoder, SpeechEncoderConfig

FOLDER = Path(__file__).parent

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
TIMES_ON_A_GPU = 10
"""How many times further apart results may be on a GPU, whose sums are in another order and change with the chip."""


@cache
def read(name: str) -> dict[str, Tensor]:
    """The tensors of one fixture; treat them as constants."""
    return load_file(FOLDER / f"{name}.safetensors")


def section(data: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Entries under a prefix, without it."""
    found = {key.removeprefix(prefix): tensor for key, tensor in data.items() if key.startswith(prefix)}
    assert found, f"nothing under {prefix}"
    return found


@contextmanager
def without_tf32() -> Iterator[None]:
    """Inside, cuDNN computes in float32, and not with the 10 bits of TF32; products of matrices always do."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def on(device: torch.device, data: dict[str, Tensor]) -> dict[str, Tensor]:
    """A record on a device."""
    return {key: tensor.to(device) for key, tensor in data.items()}


def check(actual: Tensor, expected: Tensor, tolerance: float, what: str = "") -> None:
    """Same shape and, in float64, nowhere further apart than ``tolerance``, on a GPU `TIMES_ON_A_GPU` as much."""
    if actual.is_cuda:
        tolerance *= TIMES_ON_A_GPU
    assert actual.shape == expected.shape, f"{what}: shape {tuple(actual.shape)}, recorded {tuple(expected.shape)}"
    torch.testing.assert_close(
        actual.detach().cpu().double(), expected.double(), rtol=0, atol=tolerance, msg=lambda text: f"{what}: {text}"
    )


def check_all(actual: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    """`check` for every recorded key."""
    for key, tensor in expected.items():
        check(actual[key], tensor, tolerance, key)


def gradients(module: nn.Module) -> dict[str, Tensor]:
    """Gradient of every parameter by its name; each has one."""
    found = {}
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, f"no gradient reached {name}"
        found[name] = parameter.grad
    return found


def running_statistics(module: nn.Module) -> dict[str, Tensor]:
    return {name: buffer for name, buffer in module.named_buffers() if name.endswith(("running_mean", "running_var"))}


def loaded(module: nn.Module, network: Network, state: dict[str, Tensor], *, train: bool) -> nn.Module:
    """The module with a recorded state, all of it, in the mode asked for."""
    module.load_state_dict(from_reference(network, {key: tensor.clone() for key, tensor in state.items()}))
    return module.train(train)


def small_speech_encoder(**options) -> SpeechEncoder:
    """Sizes of the records `sed` and `sen_step`."""
    return SpeechEncoder(SpeechEncoderConfig(conv_channels=(8, 16), hidden=16, attention_hidden=8, **options))


def small_generator(**options) -> Generator:
    """Sizes of the records `generator` and `step`."""
    return Generator(GeneratorConfig(embedding=16, condition=8, z=10, width=8, **options))


def small_discriminator(resolution: int, width: int) -> Discriminator:
    """Sizes of the records `discriminators` (width 4) and `step` (width 2)."""
    return Discriminator(DiscriminatorConfig(resolution, width=width, condition=8))
