"""The short form of `benchmarks/kills.py`: SIGKILL at random moments, and bit for bit the same in the end."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_killed_twice_and_as_if_nothing_had_happened():
    command = [sys.executable, str(ROOT / "benchmarks" / "kills.py"), "--kills", "2", "--steps", "6"]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr
    facts = json.loads(done.stdout)
    assert facts["kills"] == 2
    assert facts["failures"] == []
    assert facts["tensors_compared"] > 200
