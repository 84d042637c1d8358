"""`make gpu` on a CPU: the same program at toy width, so that the first machine with a GPU finds it whole."""

import json
import subprocess
from pathlib import Path

import pytest

import gpu

ROOT = Path(__file__).parents[2]


def options(**given):
    return gpu.argparse.Namespace(**{"device": "cpu", "quick": True, "seconds": 0.1, "workers": 0} | given)


def test_all_of_it_at_toy_width(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("OUT", str(tmp_path))
    monkeypatch.setattr(gpu, "WARM_STEPS", 1)
    monkeypatch.setattr(gpu, "run_tests", lambda *_: {"problem": "", "failed": 0})
    assert gpu.main(options()) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == json.loads((tmp_path / "gpu.json").read_text())
    assert found["missing"] == []
    assert found["speed"].keys() == {"sen float32", "sen bf16", "rdg float32", "rdg bf16"}
    for measured in found["speed"].values():
        assert measured["images_per_second"] > 0
        assert 0 <= measured["waiting_for_batches"] < 1


@pytest.mark.parametrize(
    ("tests", "speed"),
    [
        ({"problem": "", "failed": 1}, {}),
        ({"problem": "stopped after 140 s"}, {}),
        ({"problem": ""}, {"sen bf16": {"failed": "no time was left"}}),
        ({"problem": ""}, {"sen bf16": {"not_finite": ["total"]}}),
    ],
)
def test_what_failed_is_the_exit_status(tests, speed, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "run_tests", lambda *_: tests)
    monkeypatch.setattr(gpu, "speeds", lambda *_: speed)
    assert gpu.main(options()) == 1
    assert json.loads(capsys.readouterr().out)["good"] is False


def test_tests_are_counted(monkeypatch, tmp_path):
    source = (
        "import pytest\ndef test_a(): pass\ndef test_b(): assert False\n@pytest.mark.skip('why')\ndef test_c(): pass\n"
    )
    (tmp_path / "test_three.py").write_text(source)
    monkeypatch.setattr(gpu, "TESTS", (str(tmp_path / "test_three.py"),))
    found = gpu.run_tests("cpu", quick=False)
    assert (found["passed"], found["failed"], found["skipped"], found["problem"]) == (1, 1, 1, "")
    (failure,) = found["failures"]  # before it stands where pytest sees the folder from
    assert failure.endswith("test_three.test_b")
    assert found["skips"] == ["why"]
    assert gpu.run_tests("cpu", quick=True)["problem"] == "pytest ended with status 5"  # none is chosen


def test_missing_packages_are_named(monkeypatch, capsys):
    monkeypatch.setattr(gpu, "installed", lambda module: module not in ("timm", "torchvision", "soxr"))
    monkeypatch.setattr(gpu.importlib.metadata, "version", lambda name: "1")
    assert gpu.main(options()) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["missing"] == [
        "timm is missing: no tests",
        "torchvision is missing: no speed",
        "soxr is missing: no recording is read",
    ]
    assert found["tests"]["problem"] == "not run without timm"
    monkeypatch.setattr(gpu, "installed", lambda module: module != "torch")
    assert gpu.main(options()) == 1
    assert "has no PyTorch; name one that has" in capsys.readouterr().err


def test_the_target():
    command = ["make", "-n", "--no-print-directory", "gpu", "PYTHON_GPU=some-python"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "PYTHONPATH=src:$PYTHONPATH some-python benchmarks/gpu.py"
