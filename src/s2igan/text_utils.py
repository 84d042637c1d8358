"""Words for people."""

from __future__ import annotations

PLURALS = {"class": "classes"}


def counted(number: int, noun: str) -> str:
    """`1 picture`, `1,200 pictures`."""
    return f"{number:,} {noun if number == 1 else PLURALS.get(noun, f'{noun}s')}"
