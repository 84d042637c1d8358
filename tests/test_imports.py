"""Imports point one way, between packages too."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "s2igan"
ABOVE = {
    "metrics": {"data", "models", "training", "evaluation", "report", "pipeline", "run", "cli"},
    "training": {"evaluation", "report", "pipeline", "run", "cli"},
    "evaluation": {"recipes", "report", "run", "cli"},
    "report": {"models", "training", "pipeline", "recipes", "run", "cli"},
    "pipeline.py": {"training", "evaluation", "recipes", "report", "run", "cli"},
}
"""What a package must not import."""


def imported(file: Path) -> set[str]:
    """The parts of s2igan that a module names in its imports."""
    names = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            names.append(node.module or "")
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    return {name.split(".")[1] for name in names if name.startswith("s2igan.")}


@pytest.mark.parametrize("package", ABOVE)
def test_nothing_imports_what_stands_above_it(package):
    path = SOURCE / package
    files = [path] if path.is_file() else sorted(path.glob("*.py"))
    assert files
    assert {file.name: found for file in files if (found := imported(file) & ABOVE[package])} == {}
