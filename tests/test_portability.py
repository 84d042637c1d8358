"""What only some systems have is not needed: the package works where there is no fcntl, no memfd and no fork."""

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent
WITHOUT = """
import os, sys

sys.modules["fcntl"] = None  # importing it fails
for name in ("fork", "forkpty", "memfd_create", "sched_getaffinity"):
    if hasattr(os, name):
        delattr(os, name)
"""
"""Run by Python when it starts, in the processes that it starts as well."""
SCRIPT = """
import importlib, os, pkgutil, sys
from pathlib import Path

import s2igan
from own_corpus import own_corpus
from s2igan.corpora.prepare.corpus import prepare_corpus
from s2igan.corpora.prepare.options import PrepareOptions
from s2igan.generate import Recording, generate_files
from s2igan.pipeline import SpeechToImage
from s2igan.training.train import train_run
from tiny_corpus import tiny_recipe

if __name__ == "__main__":
    assert not hasattr(os, "fork")
    for module in pkgutil.walk_packages(s2igan.__path__, "s2igan."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    root = Path(sys.argv[1])
    source = own_corpus(root / "source", n=12, classes=3)
    report = prepare_corpus(
        "folder", source, root / "data", PrepareOptions(proportions=(1, 0, 0)), size=32, jobs=2
    )
    assert report["utterances"] == 24
    run = train_run(tiny_recipe(steps=2), data=root / "data", out=root / "run")
    sound = next(source.rglob("*.wav"))
    (found,) = generate_files(SpeechToImage.load(run), [Recording(str(sound), sound)], root / "made", 1, 1)
    print(found)
"""


def test_prepare_train_and_generate_without_fcntl_memfd_and_fork(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(WITHOUT)
    (tmp_path / "script.py").write_text(SCRIPT)
    path = os.pathsep.join([str(tmp_path / "site"), str(TESTS), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", tmp_path / "script.py", tmp_path],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert list((tmp_path / "made").rglob("*.png")), done.stdout
