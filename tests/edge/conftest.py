"""s2igan-edge as it is built, and models of both methods that `s2igan export` wrote for it."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock

import shared_files
from command_lines import run
from tiny_models import export_latent_flow, export_rdg

shared_files.write()

NEEDED = ("onnx", "onnxscript", "onnxruntime")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
METHODS = {"rdg": export_rdg, "latent_flow": export_latent_flow}


class Skipped(pytest.Module):
    """A file of tests that is not even imported."""

    def collect(self) -> list[pytest.Item]:
        pytest.skip(f"{', '.join(MISSING)} not installed: pip install 's2igan[onnx]'", allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    return Skipped.from_parent(parent, path=module_path) if MISSING else None


@dataclass(frozen=True)
class Exported:
    """A model with random weights, as s2igan and as s2igan-edge read it."""

    torch: Path
    onnx: Path


@pytest.fixture(scope="session", params=METHODS)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Written once for all processes of a run of the tests."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    model = Exported(shared / f"{request.param}-torch", shared / f"{request.param}-onnx")
    with FileLock(shared / f"{request.param}.lock"):
        if not model.onnx.is_dir():
            METHODS[request.param](model.torch)
            done = run("s2igan", "export", model.torch, "--onnx", model.onnx)
            assert done.returncode == 0, done.stderr
    return model
