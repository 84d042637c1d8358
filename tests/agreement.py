"""Whether two ways of computing one thing agree, forward and backward."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


def random(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers in float64."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def assert_same_with_gradients(
    fast: Callable[..., Tensor], slow: Callable[..., Tensor], *inputs: Tensor, **tolerance: float
) -> None:
    """Both functions of the inputs agree, and so do the gradients of a random projection of their outputs."""
    outputs = fast(*inputs), slow(*inputs)
    torch.testing.assert_close(*outputs, **tolerance)
    projection = random(*outputs[0].shape, seed=9)
    gradients = [torch.autograd.grad((output * projection).sum(), inputs) for output in outputs]
    for ours, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, expected, **tolerance)
