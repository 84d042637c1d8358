"""Command lines of s2igan and of s2igan-edge, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run(module: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """A command line of ours in a process of its own."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT / "edge" / "src")])}
    return subprocess.run(
        [sys.executable, "-m", module, *map(str, words)], env=environment, capture_output=True, text=True, check=False
    )
