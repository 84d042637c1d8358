"""The Python examples of the documents run as they are written, with the shipped model."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import soundfile

from s2igan.models.exported import shipped_models
from s2igan.web.app import EXAMPLES

ROOT = Path(__file__).parents[1]
SERVED = "http://127.0.0.1:7860"
"""What docs/serving.md calls the server."""
DOCUMENTS = ("README.md", "docs/using.md", "docs/serving.md")


def python_of(document: str) -> str:
    """All of a document's Python, in the order of reading."""
    return "\n".join(re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(), flags=re.DOTALL))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with what the examples name: recordings, and two runs."""
    recording = min(EXAMPLES.glob("*.mp3"))
    samples, rate = soundfile.read(recording)
    for name in ("description", "red", "blue"):
        soundfile.write(tmp_path / f"{name}.wav", samples, rate)
    (tmp_path / "runs").mkdir()
    for run in ("demo", "river"):
        (tmp_path / "runs" / run).symlink_to(shipped_models()["birds"])
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("document", DOCUMENTS[:2])
def test_examples_run(document, here):
    heard = soundfile.read(here / "description.wav")[0]
    known = {"samples": (heard * 32767).astype(np.int16)}
    with mock.patch("huggingface_hub.HfApi", autospec=True) as hub:
        exec(compile(python_of(document), document, "exec"), known)
    assert (here / "bird.png").is_file()
    assert hub.return_value.upload_folder.called == (document == "docs/using.md")


def test_the_client_of_the_api_runs(here):
    command = [sys.executable, "-m", "s2igan", "serve", "birds", "--port", "0", "--device", "cpu"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            address = re.search(r"http://\S+", process.stdout.readline())[0]
            text = python_of(DOCUMENTS[2])
            assert SERVED in text
            exec(compile(text.replace(SERVED, address), DOCUMENTS[2], "exec"), {})
        finally:
            process.terminate()
    assert sorted(path.name for path in here.glob("drawn-*.png")) == ["drawn-3.png", "drawn-4.png"]
