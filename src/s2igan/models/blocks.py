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

from s2igan.models.small_maps import as_product, convolve

LEAKY_SLOPE = 0.2
"""Negative slope of the discriminators' leaky ReLU."""

BATCH_NORM_SPREAD = 0.02
"""Standard deviation of the batch norms' initial weights around 1 (method.md section 4)."""


class ConcatConv3x3(nn.Module):
    """3x3 convolution, zero padding 1, of ``cat(c repeated over the map, h)``, without building that tensor.

    A convolution is linear, so it splits into the part that sees ``h`` and the part that sees the repeated ``c``. The
    second part has only nine values per channel: four corners, four edges, the middle. It is computed on a 3x3 map.
    Concatenation makes the step of stage 2 in the sizes of `birds` 6 % longer (`benchmarks/tricks.py birds-rdg`). The
    state dict holds the one weight of the plain convolution, ``c``'s channels first.
    """

    def __init__(self, condition: int, channels: int, out_channels: int) -> None:
        super().__init__()
        self.condition = condition
        self.weight = nn.Conv2d(condition + channels, out_channels, 3).weight

    def forward(
        self, c: Float[Tensor, "batch condition"], h: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch out height width"]:
        """For maps of 2 pixels a side or more."""
        for_c, for_h = self.weight.split([self.condition, h.shape[1]], dim=1)
        response = F.conv2d(c[:, :, None, None].expand(-1, -1, 3, 3), for_c, padding=1)
        for dim in (2, 3):
            first, middle, last = response.split(1, dim)
            response = torch.cat((first, middle.repeat_interleave(h.shape[dim] - 2, dim), last), dim)
        return F.conv2d(h, for_h, padding=1) + response


def gate(x: Float[Tensor, "batch twice *map"]) -> Float[Tensor, "batch channels *map"]:
    """GLU: the first half of the channels times the sigmoid of the second."""
    a, b = x.chunk(2, dim=1)
    return a * torch.sigmoid(b)


def enlarge_and_convolve(
    h: Float[Tensor, "batch in height width"], weight: Float[Tensor, "out in 3 3"]
) -> Float[Tensor, "batch out 2*height 2*width"]:
    """Nearest-neighbour enlargement by 2, then a 3x3 convolution with zero padding 1.

    Of the nine taps several see the same pixel of ``h``. So both operations are one transposed convolution with stride
    2, whose 4x4 kernel is the mirrored 3x3 kernel convolved with 2x2 ones. Two operations make the step of stage 2 in
    the sizes of `birds` 7 % longer, and 8 % at full size (`benchmarks/tricks.py birds-rdg`, `cub-rdg`).
    """
    if as_product(4 * h[0, 0].numel(), weight):
        return convolve(F.interpolate(h, scale_factor=2, mode="nearest"), weight)
    kernel = 4 * F.avg_pool2d(weight.flip(2, 3), 2, stride=1, padding=1).transpose(0, 1)
    kernel = kernel.contiguous(memory_format=layout(weight))  # else the result is not channels last where the weight is
    return F.conv_transpose2d(h, kernel, stride=2, padding=1)


def layout(x: Float[Tensor, "_ _ _ _"]) -> torch.memory_format:
    """How a map or a weight lies in memory."""
    last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return torch.channels_last if last else torch.contiguous_format


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
            nn.init.orthogonal_(part.weight, generator=generator)
            if isinstance(part, nn.Linear) and part.bias is not None:
                nn.init.zeros_(part.bias)
            elif isinstance(part, nn.Conv2d) and part.bias is not None:
                bound = 1 / math.sqrt(part.weight[0].numel())
                nn.init.uniform_(part.bias, -bound, bound, generator=generator)
        elif isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(part.weight, 1.0, BATCH_NORM_SPREAD, generator=generator)
            nn.init.zeros_(part.bias)


@contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Inside, PyTorch's global random numbers follow from ``seed``; afterwards they go on as if nothing had been drawn.

    Args:
        seed: of the CPU's generator and, where ``device`` is a GPU, of that GPU's. Those of other GPUs are not touched.
        device: where modules inside are built or draw dropout; None is the CPU.
    """
    generators = [torch.default_generator]
    if device is not None and device.type == "cuda":
        torch.cuda.init()  # before it there are no generators
        index = torch.cuda.current_device() if device.index is None else device.index
        generators.append(torch.cuda.default_generators[index])
    states = [generator.get_state() for generator in generators]
    try:
        for generator in generators:
            generator.manual_seed(seed)
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
