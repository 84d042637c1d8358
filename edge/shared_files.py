"""What `s2igan-edge` shares with s2igan: files that need no PyTorch, copied into the package when it is built.

    python edge/shared_files.py

writes the copies beside the package's own files, where git does not see them; the tests do so too.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

EDGE = Path(__file__).parent
SOURCE, TARGET = EDGE.parent / "src" / "s2igan", EDGE / "src" / "s2igan_edge"
MODULES = ("errors", "files", "file_kinds", "sound_containers", "sound_files", "audio", "pictures", "generate")
CHANGES = (
    (r"\bs2igan\.(?=\w)", "s2igan_edge."),
    (
        r"^from jaxtyping import (.*)$",
        r"from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    from jaxtyping import \1",
    ),
    (r"'s2igan\[", "'s2igan-edge["),
)
"""Names of modules and of extras; jaxtyping, which is not installed with the package, is for type checkers alone."""


def copies() -> dict[Path, str]:
    """What the shared files contain in this package."""
    files = {TARGET / f"{name}.py": (SOURCE / f"{name}.py").read_text(encoding="utf-8") for name in MODULES}
    for pattern, replacement in CHANGES:
        files = {path: re.sub(pattern, replacement, text, flags=re.MULTILINE) for path, text in files.items()}
    return {**files, EDGE / "LICENSE": (EDGE.parent / "LICENSE").read_text(encoding="utf-8")}


def write() -> None:
    """Writes those that differ; several processes may do so at once."""
    for path, text in copies().items():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(path)


class SharedFiles(BuildHookInterface):
    """Has hatchling build them in; from the sdist, where they lie already, they are taken as they are."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if SOURCE.is_dir():
            write()
        build_data["artifacts"] += [f"src/s2igan_edge/{name}.py" for name in MODULES] + ["LICENSE"]


if __name__ == "__main__":
    write()
