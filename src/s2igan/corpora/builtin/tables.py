"""The tables beside the code of the drawn sets: what there is to draw, in which colours, and how people speak of it."""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import Any


def table(name: str) -> dict[str, Any]:
    """`<name>.toml`, the table of the module `name` of this package; lists are tuples."""
    content = tomllib.loads((resources.files(__package__) / f"{name}.toml").read_text(encoding="utf-8"))
    return {key: _frozen(value) for key, value in content.items()}


def _frozen(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _frozen(inner) for key, inner in value.items()}
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def source(module: ModuleType) -> bytes:
    """All that a module's pictures or sentences follow from: its code, and its table if it has one."""
    code = Path(module.__file__ or "")
    beside = code.with_suffix(".toml")
    return code.read_bytes() + (beside.read_bytes() if beside.exists() else b"")
