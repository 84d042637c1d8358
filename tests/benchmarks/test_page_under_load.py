"""The load test and the timing of a model in use: what they send is what they say, and what they print adds up."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from in_use import timed
from page import damaged, malformed

from s2igan.errors import UserError
from s2igan.pipeline import waveform
from s2igan.web.app import EXAMPLES
from tiny_models import export_rdg

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("number", range(24))
def test_malformed_uploads_are_no_recordings(number):
    with pytest.raises(UserError):
        waveform(malformed(number))


def test_damaged_recordings_begin_as_sound_does():
    recording = min(EXAMPLES.glob("*.mp3")).read_bytes()
    one, again, other = damaged([recording], 3), damaged([recording], 3), damaged([recording], 4)
    assert one == again
    assert one != other
    assert one not in recording


def test_a_run_that_takes_longer_is_seen():
    spent = timed(lambda: sum(range(1_000_000)), 3)
    assert 0 < spent["processor_seconds_least"] <= spent["processor_seconds"]
    assert 0 < spent["seconds_least"] <= spent["seconds"]
    assert timed(lambda: None, 3)["processor_seconds"] < spent["processor_seconds"]


def test_the_load_test_runs(tmp_path):
    model = export_rdg(tmp_path / "finches")
    options = ["--model", str(model), "--users", "2", "--requests", "4", "--malformed", "3", "--long", "0"]
    command = [sys.executable, str(ROOT / "benchmarks" / "page.py"), *options]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads(done.stdout)
    assert record["failed"] == 0
    assert record["malformed_refused_with_a_sentence"] == 3
    assert record["damaged_drawn"] + record["damaged_refused_with_a_sentence"] == 3
    assert record["alive_afterwards"]
