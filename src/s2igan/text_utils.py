"""Words for people, and from them."""

from __future__ import annotations

PLURALS = {"class": "classes"}


UTF_16 = (b"\xff\xfe", b"\xfe\xff")
"""Byte order marks."""


def unicode_text(raw: bytes) -> str:
    """UTF-8 with or without a byte order mark, or UTF-16 with one, as spreadsheets save it; else UnicodeDecodeError."""
    return raw.decode("utf-16" if raw.startswith(UTF_16) else "utf-8-sig")


def counted(number: int, noun: str) -> str:
    """`1 picture`, `1,200 pictures`."""
    return f"{number:,} {noun if number == 1 else PLURALS.get(noun, f'{noun}s')}"
