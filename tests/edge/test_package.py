"""The distribution: light, up to date with what it shares, imports one way."""

import ast
import re
import subprocess
import sys
import tomllib

import s2igan
import s2igan_edge
import shared_files

EDGE = shared_files.EDGE
OWN = [path for path in shared_files.TARGET.glob("*.py") if path not in shared_files.copies()]
LAYERS = (
    {"__main__"},
    {"cli"},
    {"pipeline"},
    {"sampler", "speech_encoder"},
    {"graphs", "log_mel", "noise", "generate"},
    {"pictures"},
    {"audio"},
    {"sound_files"},
    {"sound_containers", "files", "file_kinds"},
    {"errors"},
)


def test_nothing_heavy_is_imported():
    program = "import sys, s2igan_edge.cli; print(' '.join({name.partition('.')[0] for name in sys.modules}))"
    environment = {"PYTHONPATH": str(EDGE / "src"), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert {"s2igan_edge", "onnxruntime", "numpy", "PIL", "soundfile", "soxr"} <= loaded
    assert not loaded & {"s2igan", "torch", "scipy", "jaxtyping", "onnx", "av", "safetensors", "pyarrow"}


def test_it_has_the_version_of_s2igan():
    assert s2igan_edge.__version__ == s2igan.__version__


def test_only_what_it_names_is_imported():
    """Outside functions and what type checkers alone see."""
    project = tomllib.loads((EDGE / "pyproject.toml").read_text())["project"]
    named = {re.match(r"\w+", name)[0] for name in project["dependencies"]}
    assert named == {"numpy", "onnxruntime", "pillow", "soundfile", "soxr"}
    allowed = named - {"pillow"} | {"PIL", "s2igan_edge"} | set(sys.stdlib_module_names)
    for path in shared_files.TARGET.glob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [str(node.module)]
                assert {name.partition(".")[0] for name in names} <= allowed, path


def test_imports_point_one_way():
    level = {name: number for number, names in enumerate(LAYERS) for name in names}
    assert {path.stem for path in shared_files.TARGET.glob("*.py")} == level.keys() | {"__init__"}
    for path in shared_files.TARGET.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("s2igan_edge.") and path.stem in level:
                assert level[node.module.split(".")[1]] >= level[path.stem], path


def test_the_copies_speak_of_this_package():
    for path, text in shared_files.copies().items():
        assert path.read_text() == text
        assert not re.search(r"\bs2igan\.\w|^from jaxtyping|'s2igan\[", text, flags=re.MULTILINE), path
