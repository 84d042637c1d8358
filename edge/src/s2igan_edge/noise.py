"""The normal numbers that PyTorch draws on a CPU, in numpy: a seed gives the same picture as with `s2igan`.

PyTorch's generator is a Mersenne Twister (Matsumoto & Nishimura 1998). 16 numbers and more come from the method of Box
and Muller (1958) over uniform numbers of 24 bits, in groups of 16; fewer from the same over numbers of 53 bits.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float

WORDS = 624
"""Of the generator's state, 32 bits each."""
GROUP = 16
"""Numbers that are made together, the first half by cosine and the second by sine."""
MULTIPLIER = 1_812_433_253
"""Of the sequence that makes a state of a seed."""


def normal_numbers(n: int, seed: int) -> Float[np.ndarray, " n"]:
    """What `torch.randn(n, generator=torch.Generator().manual_seed(seed))` gives, but for the last bits."""
    stream = _twister(seed)
    if n < GROUP:
        return _few(n, stream)
    uniform = _uniform(n, stream)
    whole = n - n % GROUP
    numbers = np.empty(n, np.float32)
    numbers[:whole] = _box_muller(uniform[:whole])
    if n % GROUP:
        numbers[-GROUP:] = _box_muller(_uniform(GROUP, stream))
    return numbers


def truncated(numbers: Float[np.ndarray, "*shape"], limit: float) -> Float[np.ndarray, "*shape"]:
    """Normal numbers as those of the distribution that is cut off at so many standard deviations, in their order."""
    normal = NormalDist()
    cut = normal.cdf(-limit)
    inside = [normal.inv_cdf(cut + (1 - 2 * cut) * normal.cdf(float(number))) for number in numbers.ravel()]
    return np.array(inside, numbers.dtype).reshape(numbers.shape)


def _twister(seed: int) -> np.random.MT19937:
    key = [seed & 0xFFFF_FFFF]
    for number in range(1, WORDS):
        key.append((MULTIPLIER * (key[-1] ^ (key[-1] >> 30)) + number) & 0xFFFF_FFFF)
    stream = np.random.MT19937()
    stream.state = {"bit_generator": "MT19937", "state": {"key": np.array(key, np.uint32), "pos": WORDS}}
    return stream


def _uniform(n: int, stream: np.random.MT19937) -> Float[np.ndarray, " n"]:
    return (stream.random_raw(n) & 0xFF_FFFF) / 2.0**24


def _box_muller(uniform: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    first, second = uniform.reshape(-1, 2, GROUP // 2).transpose(1, 0, 2)
    radius, angle = np.sqrt(-2 * np.log(1 - first)), 2 * np.pi * second
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).ravel()


def _few(n: int, stream: np.random.MT19937) -> Float[np.ndarray, " n"]:
    words = stream.random_raw(4 * ((n + 1) // 2)).astype(np.uint64).reshape(-1, 4)
    first, second = (
        ((words[:, at] << np.uint64(32) | words[:, at + 1]) & np.uint64(2**53 - 1)) / 2.0**53 for at in (0, 2)
    )
    radius, angle = np.sqrt(-2 * np.log1p(-second)), 2 * np.pi * first
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).ravel()[:n].astype(np.float32)
