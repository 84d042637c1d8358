"""Builds sdists and wheels of s2igan and s2igan-edge, and turns a recording into a picture by each wheel.

    python .ci/try_wheel.py dist

Wheels are built from the sdists, so both are tried. Each wheel is installed in an empty environment of its own, that of
s2igan-edge without PyTorch; the first exports a model for the second, and both draw the same picture. Everything that
the wheels need is downloaded, PyTorch too.
"""

import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
RECORDING = ROOT / "src" / "s2igan" / "web" / "examples" / "red-belly-black-wings.mp3"
PROGRAM = """
import sys, s2igan
from s2igan import SpeechToImage
assert "site-packages" in s2igan.__file__, s2igan.__file__
drawn = SpeechToImage.from_pretrained("birds")(sys.argv[1], samples=1, seed=2)
assert drawn.speech_seconds > 1 and drawn.images[0].width >= 64
from s2igan.web.app import EXAMPLES
assert (EXAMPLES / "examples.json").is_file()
"""
EXPORTED = "birds-rdg"
COMPARISON = """
import sys, numpy as np
from PIL import Image
one, other = (np.asarray(Image.open(name), int) for name in sys.argv[1:])
assert np.abs(one - other).max() <= 1, "the same seed, the same picture"
"""


def main(dist: Path) -> None:
    """Leaves sdists and wheels in `dist`."""
    wheel, edge = built(ROOT, dist), built(ROOT / "edge", dist)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        programs, names = environment(work / "empty", f"{wheel}[web,onnx]")
        assert not names & {"espeakng-loader", "piper-tts"}, "without extras nothing is under the GPL"
        run(work, programs / "python", "-c", PROGRAM, RECORDING)
        drawing = ("generate", RECORDING, "--samples", "1", "--model")
        lines = run(work, programs / "s2igan", *drawing, "birds", "--out", "drawn")
        assert (work / json.loads(lines)["image"]).read_bytes().startswith(b"\x89PNG")

        run(work, programs / "s2igan", "export", EXPORTED, "--onnx", "graphs")
        run(work, programs / "s2igan", *drawing, EXPORTED, "--out", "by-torch")
        without, names = environment(work / "without-torch", str(edge))
        assert not names & {"torch", "s2igan", "scipy"}, "s2igan-edge needs no PyTorch"
        run(work, without / "s2igan-edge", *drawing, "graphs", "--out", "by-edge")
        picture = f"{RECORDING.stem}-1.png"
        run(work, without / "python", "-c", COMPARISON, f"by-torch/{picture}", f"by-edge/{picture}")
    for path in (wheel, edge):
        print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB, draws in an empty environment")


def built(project: Path, dist: Path) -> Path:
    """The wheel of a project."""
    subprocess.run([sys.executable, "-m", "build", "--outdir", dist, project], check=True, stdout=subprocess.DEVNULL)
    return max(dist.glob("*.whl"), key=lambda path: path.stat().st_mtime)


def environment(folder: Path, package: str) -> tuple[Path, set[str]]:
    """Where programs are in a new environment with a package and what it needs, and the names of all packages there."""
    venv.create(folder, with_pip=True)
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    pip = [programs / "python", "-m", "pip"]
    subprocess.run([*pip, "install", "--quiet", "--disable-pip-version-check", package], check=True)
    packages = run(folder, *pip, "list", "--format", "json")
    return programs, {package["name"] for package in json.loads(packages)}


def run(folder: Path, *words: str | Path) -> str:
    """What a program prints that runs in a folder and sees nothing of this repository."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(words, check=True, cwd=folder, env=variables, stdout=subprocess.PIPE, text=True)
    return done.stdout


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
