"""Pieces that several networks share, and how their weights begin.

Every block takes sizes, never a config object.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from s2igan.models.small_maps import enlarge_and_convolve, layout

LEAKY_SLOPE = 0.2
"""Negative slope of the discriminators' leaky ReLU."""

BATCH_NORM_SPREAD = 0.02
"""Standard deviation of the batch norms' initial weights around 1 (method.md section 4)."""


class ConcatConv3x3(nn.Module):
    """3x3 convolution, zero padding 1, of ``cat(c repeated over the map, h)``, without building that tensor.

    A convolution is linear, so it splits into the part that sees ``h`` and the part that sees the repeated ``c``. The
    second part's input is constant over the map: its output takes only nine values per channel (four corners, four
    edges, the middle), each the product of ``c`` with the sum of the taps that lie on the map there. The state dict
    holds the one weight of the plain convolution, ``c``'s channels first.
    """

    def __init__(self, condition: int, channels: int, out_channels: int, *, bias: bool = False) -> None:
        super().__init__()
        self.condition = condition
        plain = nn.Conv2d(condition + channels, out_channels, 3, padding=1, bias=bias)
        self.weight = plain.weight
        self.bias = plain.bias

    def forward(
        self, c: Float[Tensor, "batch condition"], h: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch out height width"]:
        height, width = h.shape[-2:]
        if min(height, width) < 3:  # the nine cases of the docstring overlap
            tiled = c[:, :, None, None].expand(-1, -1, height, width)
            return F.conv2d(torch.cat((tiled, h), dim=1), self.weight, self.bias, padding=1)
        # Read once: a parametrisation computes the weight at every access.
        for_c, for_h = self.weight.split([self.condition, h.shape[1]], dim=1)
        for_h = for_h.clone(memory_format=layout(self.weight))  # or the convolution does so, forward and backward
        taps_on_map = torch.tensor(_TAPS_ON_MAP, dtype=for_c.dtype, device=for_c.device)
        with torch.autocast(for_c.device.type, enabled=False):  # rounded once, as a weight
            sums = taps_on_map @ for_c.permute(2, 3, 0, 1).reshape(9, -1)
        response = F.linear(c, sums.view(-1, self.condition)).view(len(c), 3, 3, -1).permute(0, 3, 1, 2)
        seen = F.conv2d(h, for_h, self.bias, padding=1)
        return _AddStretched.apply(seen, response)


_TAPS_OF_THREE = ((1, 2), (0, 1, 2), (0, 1))
"""Which of three taps along a line lie on the map at its first, middle and last places."""
_TAPS_ON_MAP = tuple(
    tuple(float(i in rows and j in columns) for i in range(3) for j in range(3))
    for rows in _TAPS_OF_THREE
    for columns in _TAPS_OF_THREE
)


class _AddStretched(torch.autograd.Function):
    """Adds to a map, in its place, a 3x3 map whose middle row and column are repeated until it is as large."""

    @staticmethod
    def forward(ctx: Any, seen: Tensor, nine: Tensor) -> Tensor:
        for i, rows in enumerate(_THIRDS):
            for j, columns in enumerate(_THIRDS):
                seen[..., rows, columns] += nine[..., i : i + 1, j : j + 1]
        ctx.mark_dirty(seen)
        return seen

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        nine = [grad[..., rows, columns].sum(dim=(2, 3)) for rows in _THIRDS for columns in _THIRDS]
        return grad, torch.stack(nine, dim=2).view(*grad.shape[:2], 3, 3)


_THIRDS = (slice(0, 1), slice(1, -1), slice(-1, None))
"""First, all between, last."""


def gate(x: Float[Tensor, "batch twice *map"]) -> Float[Tensor, "batch channels *map"]:
    """GLU: the first half of the channels times the sigmoid of the second."""
    return _Gate.apply(x)


class _Gate(torch.autograd.Function):
    """PyTorch's own GLU, but its gradient lies in memory as its input does: another layout slows the batch norm before
    it down several times."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return F.glu(x, dim=1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return torch.ops.aten.glu_backward.grad_input(grad, x, 1, grad_input=torch.empty_like(x))


class UpBlock(nn.Module):
    """Nearest-neighbour enlargement by 2, conv3x3 to twice the channels, batch norm, GLU (method.md section 4)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 2 * out_channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(2 * out_channels)

    def forward(self, h: Float[Tensor, "batch in height width"]) -> Float[Tensor, "batch out 2*height 2*width"]:
        return gate(self.norm(enlarge_and_convolve(h, self.conv.weight)))


class ResidualBlock(nn.Module):
    """conv3x3 to twice the channels, batch norm, GLU, conv3x3, batch norm, plus the input (method.md section 4)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 2 * channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(2 * channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, h: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch channels height width"]:
        inner = gate(self.norm1(self.conv1(h)))
        return h + self.norm2(self.conv2(inner))


@torch.no_grad()
def init_weights(module: nn.Module, generator: torch.Generator | None = None) -> None:
    """Start a network of stage 2 as the paper's authors did (method.md section 4).

    Convolutions and linear layers orthogonal, linear biases 0, batch-norm weights from N(1, 0.02) and biases 0; the
    convolutions' biases keep PyTorch's uniform draw. Every draw is from ``generator``.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d | ConcatConv3x3 | nn.Linear):
            weight = part.weight
            if parametrize.is_parametrized(part, "weight"):
                weight = part.get_parameter("parametrizations.weight.original")
            nn.init.orthogonal_(weight, generator=generator)
            if part.bias is not None:
                if isinstance(part, nn.Linear):
                    nn.init.zeros_(part.bias)
                else:
                    bound = 1 / math.sqrt(weight[0].numel())
                    nn.init.uniform_(part.bias, -bound, bound, generator=generator)
        elif isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(part.weight, 1.0, BATCH_NORM_SPREAD, generator=generator)
            nn.init.zeros_(part.bias)


@contextmanager
def seeded_construction(seed: int) -> Iterator[None]:
    """Modules built inside draw PyTorch's own initial weights from ``seed``; the global random state stays as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
