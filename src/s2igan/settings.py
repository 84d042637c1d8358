"""Settings that refuse values which would crash a training or do nothing in it."""

from __future__ import annotations

import math

from s2igan.errors import UserError


def at_least(config: object, least: float, *names: str) -> None:
    """Refuses numbers below `least` in the named fields of a configuration, and what is no number; None passes.

    Raises:
        UserError: naming the field and its value; of a tuple all elements are looked at.
    """
    _within(config, least, math.inf, names, f"{least:g} or more")


def shares(config: object, *names: str) -> None:
    """Refuses numbers in the named fields that are below 0, or 1 and more; None passes.

    Raises:
        UserError: as `at_least`.
    """
    _within(config, 0.0, 1.0, names, "0 or more and below 1")


def _within(config: object, low: float, high: float, names: tuple[str, ...], wanted: str) -> None:
    for name in names:
        value = getattr(config, name)
        numbers = value if isinstance(value, tuple) else (value,)
        if not all(number is None or low <= number < high for number in numbers):
            shown = " ".join(map(str, numbers))
            raise UserError(f"{name} {shown} must be {wanted}.")
