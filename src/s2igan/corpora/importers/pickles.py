"""Pickles of plain data that others made: lists, strings, numbers and arrays of numbers; nothing else is built or run.

A pickle is a program that may name any function of the machine. Here it may name the few that arrays and bytes are
written with. They are stand-ins that only take notes, and an array is made from the notes and its bytes after both
were checked. Pickles of Python 2 are read as well: their strings are bytes, which become text by Latin-1.
"""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np

from s2igan.errors import UserError

MAX_DEPTH = 4  # of lists in lists


def read_pickle(path: str | Path) -> Any:
    """Lists, tuples and dicts of strings, numbers and numpy arrays of numbers.

    Raises:
        UserError: naming the file, where it cannot be read, is damaged, or holds or asks for anything else.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            return _plain(_Unpickler(file, encoding="latin1").load())
    except _RefusedError as error:
        raise UserError(f"{path}: this pickle is not read, since it {error}; use only files of plain data.") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the file.") from error
    except Exception as error:  # a damaged pickle makes the unpickler raise nearly anything
        raise UserError(
            f"{path}: not a readable pickle ({error or type(error).__name__}); fetch the file again."
        ) from error


class _RefusedError(Exception):
    """What the pickle does that it may not, after "it"."""


class _Unpickler(pickle._Unpickler):
    """In Python, since the one in C lets a pickle of twenty bytes ask for all the memory there is."""

    def find_class(self, module: str, name: str) -> Any:
        if module in {"numpy.core.multiarray", "numpy._core.multiarray"} and name == "_reconstruct":
            return _Function(lambda *_: _Array())
        if module == "numpy" and name == "ndarray":
            return "numpy.ndarray"  # only ever an argument of _reconstruct
        if module == "numpy" and name == "dtype":
            return _Function(lambda code, *_: _Dtype(code))
        if module == "_codecs" and name == "encode":  # how Python 3 writes bytes for Python 2
            return _Function(_encode)
        if module in {"__builtin__", "builtins"} and name == "bytes":  # without bytes it writes this
            return _Function(lambda: b"")
        raise _RefusedError(f"asks for {module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        raise _RefusedError("refers to something outside itself")


class _Function:
    """Can be called, and nothing else: a pickle may otherwise set attributes of what it is given."""

    __slots__ = ("_call",)

    def __init__(self, call: Any) -> None:
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise _RefusedError("changes a function")


class _Dtype:
    """A number type."""

    __slots__ = ("code", "order")

    def __init__(self, code: Any) -> None:
        if not isinstance(code, str) or not re.fullmatch(r"[fiu][1248]|b1", code):
            raise _RefusedError(f"holds an array of {code!r}, not of numbers")
        self.code, self.order = code, "<"

    def __setstate__(self, state: Any) -> None:
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else None
        if order not in ("<", ">", "|", "="):
            raise _RefusedError("holds an array of an unknown kind")
        self.order = order


class _Array:
    """An array whose content comes by `__setstate__`."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise _RefusedError("holds an array of an unknown version")
        _, shape, dtype, fortran, raw = state
        raw = raw.encode("latin1") if isinstance(raw, str) else raw
        if not isinstance(dtype, _Dtype) or not isinstance(raw, bytes):
            raise _RefusedError("holds an array of objects, not of numbers")
        if not isinstance(shape, tuple) or not all(type(side) is int and side >= 0 for side in shape):
            raise _RefusedError("holds an array without a shape")
        flat = np.frombuffer(raw, np.dtype(dtype.order + dtype.code))  # its size is that of the bytes
        self.value = flat.reshape(shape, order="F" if fortran else "C")


def _encode(text: Any, encoding: Any = "utf-8", *_: Any) -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1", "utf-8"):
        raise _RefusedError("encodes what is no text")
    return text.encode(encoding)


def _plain(value: Any, depth: int = 0, seen: dict[int, Any] | None = None) -> Any:
    """`seen` holds what is finished, by identity: a pickle can name one list a million times."""
    seen = {} if seen is None else seen
    if depth > MAX_DEPTH:
        raise _RefusedError(f"holds lists more than {MAX_DEPTH} deep")
    if isinstance(value, str | bytes | int | float | type(None)):
        return value
    if id(value) in seen:
        return seen[id(value)]
    if isinstance(value, _Array) and value.value is not None:
        return value.value
    if isinstance(value, list | tuple):
        plain: Any = type(value)(_plain(item, depth + 1, seen) for item in value)
    elif isinstance(value, dict):
        plain = {_plain(key, depth + 1, seen): _plain(item, depth + 1, seen) for key, item in value.items()}
    else:
        raise _RefusedError(f"holds a {type(value).__name__.strip('_').lower()}")
    seen[id(value)] = plain
    return plain
