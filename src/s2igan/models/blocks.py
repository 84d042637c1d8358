"""Pieces that several networks share, and how their weights begin.

Every block takes sizes, never a config object.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

LEAKY_SLOPE = 0.2
"""Negative slope of the discriminators' leaky ReLU."""

BATCH_NORM_SPREAD = 0.02
"""Standard deviation of the batch norms' initial weights around 1 (SPEC section 4)."""


class ConcatConv3x3(nn.Module):
    """3x3 convolution, zero padding 1, of ``cat(c repeated over the map, h)``, without building that tensor.

    A convolution is linear, so it splits into the part that sees ``h`` and the part that sees the repeated ``c``. The
    second part's input is constant over the map: its output takes only nine values per channel (four corners, four
    edges, the middle), which are the convolution of ``c`` repeated over 3x3. The state dict holds the one weight of the
    plain convolution, ``c``'s channels first.
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
        weight = self.weight  # read once: a parametrisation computes it at every access
        tiled = c[:, :, None, None].expand(-1, -1, 3, 3)
        response = F.conv2d(tiled, weight[:, : self.condition], padding=1)
        seen = F.conv2d(h, weight[:, self.condition :], self.bias, padding=1)
        return seen + stretch_centre(response, height, width)


def stretch_centre(
    nine: Float[Tensor, "batch channels 3 3"], height: int, width: int
) -> Float[Tensor, "batch channels {height} {width}"]:
    """Repeat the middle row and column of a 3x3 map until it is ``height`` x ``width`` (each at least 3)."""
    top, middle, bottom = nine.split(1, dim=2)
    tall = torch.cat((top, middle.expand(-1, -1, height - 2, -1), bottom), dim=2)
    left, centre, right = tall.split(1, dim=3)
    return torch.cat((left, centre.expand(-1, -1, -1, width - 2), right), dim=3)


def enlarge_and_convolve(
    h: Float[Tensor, "batch in height width"], weight: Float[Tensor, "out in 3 3"]
) -> Float[Tensor, "batch out 2*height 2*width"]:
    """Nearest-neighbour enlargement by 2, then a 3x3 convolution with zero padding 1, in under half the products.

    Every pixel of ``h`` becomes 2x2 equal ones, so of the nine taps several see the same value: the two operations are
    one transposed convolution with stride 2, whose 4x4 kernel is the mirrored 3x3 kernel convolved with 2x2 ones.
    """
    mirrored = weight.flip(2, 3)
    shifted = [F.pad(mirrored, (left, 1 - left, top, 1 - top)) for left in (0, 1) for top in (0, 1)]
    return F.conv_transpose2d(h, torch.stack(shifted).sum(dim=0).transpose(0, 1), stride=2, padding=1)


class UpBlock(nn.Module):
    """Nearest-neighbour enlargement by 2, conv3x3 to twice the channels, batch norm, GLU (SPEC section 4)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 2 * out_channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(2 * out_channels)

    def forward(self, h: Float[Tensor, "batch in height width"]) -> Float[Tensor, "batch out 2*height 2*width"]:
        return F.glu(self.norm(enlarge_and_convolve(h, self.conv.weight)), dim=1)


class ResidualBlock(nn.Module):
    """conv3x3 to twice the channels, batch norm, GLU, conv3x3, batch norm, plus the input (SPEC section 4)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 2 * channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(2 * channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, h: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch channels height width"]:
        inner = F.glu(self.norm1(self.conv1(h)), dim=1)
        return h + self.norm2(self.conv2(inner))


@torch.no_grad()
def init_weights(module: nn.Module, generator: torch.Generator | None = None) -> None:
    """Start a network of stage 2 as the paper's authors did (SPEC section 4).

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
