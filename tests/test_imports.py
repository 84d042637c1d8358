"""Imports point one way, between packages too; those inside functions and for types alone count as well."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src"
LAYERS = (
    {"__main__"},
    {"cli", "web"},
    {"run", "reproduce"},
    {"dry_run", "flags"},
    {"recipes", "report", "finding"},
    {"evaluation"},
    {"embed", "onnx_export"},
    {"training", "pipeline", "listener", "record", "forget"},
    {"losses", "models", "metrics", "data", "corpora", "checkpoint", "run_directory", "hub"},
    {"generate", "spectrograms"},
    {"pictures"},
    {"speech", "audio"},
    {"sound_files"},
    {"sound_containers"},
    {"files", "parallel", "devices", "settings", "text", "text_utils", "file_kinds"},
    {"errors"},
)
"""From top to bottom: what stands in one may import from its own and from those below."""


def imports(source: Path = SOURCE) -> Iterator[tuple[str, str, str]]:
    """(importing module, imported module, where) of everything in the package."""
    files = {".".join(path.relative_to(source).with_suffix("").parts): path for path in source.rglob("*.py")}
    modules = {name.removesuffix(".__init__") for name in files}
    for name, path in files.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                targets = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert not node.level, f"{path}:{node.lineno}: a relative import"
                below = [f"{node.module}.{alias.name}" for alias in node.names]
                targets = [target if target in modules else str(node.module) for target in below]
            else:
                continue
            for target in targets:
                if target.startswith("s2igan."):
                    yield name.removesuffix(".__init__"), target, f"{path.relative_to(source)}:{node.lineno}"


def test_what_is_imported_lies_in_the_same_layer_or_below() -> None:
    level = {name: number for number, names in enumerate(LAYERS) for name in names}
    found = [
        (importing.split(".")[1], target.split(".")[1], where)
        for importing, target, where in imports()
        if importing != "s2igan"  # which offers the public names
    ]
    assert {name for pair in found for name in pair[:2]} <= level.keys(), "give the new module its place in LAYERS"
    up = {f"{where} imports {target}" for importing, target, where in found if level[target] < level[importing]}
    assert not up


def test_no_two_folders_import_each_other() -> None:
    """A module beside the folders, such as `audio`, counts as one."""
    folders = {".".join(path.relative_to(SOURCE).parts[:-1]) for path in SOURCE.rglob("*/__init__.py")}
    folders -= {"s2igan", "s2igan.training.beyond"}  # what goes beyond the paper hooks into the step, which stages join

    def place(module: str) -> str:
        folder = module if module in folders else module.rpartition(".")[0].removesuffix(".beyond")
        return module if folder == "s2igan" else folder

    graph = defaultdict(set)
    for importing, target, _ in imports():
        if importing != "s2igan" and place(importing) != place(target):
            graph[place(importing)].add(place(target))
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" imported by ".join(error.args[1]))
    assert {"s2igan.data", "s2igan.corpora.prepare"} <= graph["s2igan.run"]  # the walk finds what is inside functions
