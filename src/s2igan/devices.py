"""The one reading of `--device`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from s2igan.errors import UserError

if TYPE_CHECKING:
    import torch

HELP = "cpu, cuda or cuda:1; unless given, a GPU if there is one"
"""What every command says about its option."""


def choose_device(device: str | torch.device | None = None) -> torch.device:
    """The device of that name.

    Args:
        device: "cpu", "cuda", or one GPU by its number such as "cuda:1"; unless given, a GPU if there is one.

    Raises:
        UserError: the name means nothing, or this machine has no such device.
    """
    import torch

    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    match = re.fullmatch(r"cpu|cuda(?::(\d+))?", str(device))
    if match is None:
        raise UserError(f"--device {device}: there is no such device; choose cpu, cuda or cuda:1.")
    if match[0] != "cpu" and not torch.cuda.is_available():
        raise UserError(f"--device {device}: PyTorch finds no GPU here; choose --device cpu.")
    if match[1] and int(match[1]) >= torch.cuda.device_count():
        n = torch.cuda.device_count()
        raise UserError(f"--device {device}: this machine has {n} GPUs, counted from cuda:0; choose another.")
    return torch.device(match[0])
