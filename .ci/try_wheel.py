"""Builds sdists and wheels of s2igan and s2igan-edge, and turns a recording into a picture by each wheel.

    python .ci/try_wheel.py dist

Wheels are built from the sdists, so both are tried. Each wheel is installed in an empty environment of its own, that of
s2igan-edge without PyTorch; the first exports a model for the second, and both draw the same picture. Everything that
the wheels need is downloaded, PyTorch too.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from urllib.request import Request, urlopen

ROOT = Path(__file__).parents[1]
RECORDING = min((ROOT / "src" / "s2igan" / "web" / "examples").glob("*.mp3"))
PROGRAM = """
import sys, s2igan
from s2igan import SpeechToImage
from s2igan.models.exported import shipped_models
assert "site-packages" in s2igan.__file__, s2igan.__file__
assert "birds" in shipped_models()
for name in shipped_models():
    drawn = SpeechToImage.from_pretrained(name)(sys.argv[1], samples=1, seed=2)
    assert drawn.speech_seconds > 1 and drawn.images[0].width >= 64
    print(name)
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
        programs, packages = environment(work / "empty", f"{wheel}[web,onnx]")
        assert not packages & {"espeakng-loader", "piper-tts"}, "without extras nothing is under the GPL"
        names = run(work, programs / "python", "-c", PROGRAM, RECORDING).split()
        drawing = ("generate", RECORDING, "--samples", "1", "--model")
        for name in names:
            lines = run(work, programs / "s2igan", *drawing, name, "--out", name)
            assert (work / json.loads(lines)["image"]).read_bytes().startswith(b"\x89PNG")
            ask_page([programs / "s2igan", "serve", name, "--port", "0"], work)

        run(work, programs / "s2igan", "export", EXPORTED, "--onnx", "graphs")
        without, packages = environment(work / "without-torch", str(edge))
        assert not packages & {"torch", "s2igan", "scipy"}, "s2igan-edge needs no PyTorch"
        run(work, without / "s2igan-edge", *drawing, "graphs", "--out", "by-edge")
        picture = f"{RECORDING.stem}-1.png"
        run(work, without / "python", "-c", COMPARISON, f"{EXPORTED}/{picture}", f"by-edge/{picture}")
    for path in (wheel, edge):
        print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB, draws in an empty environment")


def ask_page(command: list[str | Path], work: Path) -> None:
    """Starts the page, has one recording drawn, and plays one example."""
    with subprocess.Popen(command, cwd=work, env=outside(), stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"http://\S+", process.stdout.readline())
            assert found is not None
            request = Request(f"{found[0]}/api/draw?samples=1", data=RECORDING.read_bytes(), method="POST")
            with urlopen(request, timeout=120) as answer:
                assert len(json.load(answer)["images"]) == 1
            with urlopen(f"{found[0]}/api") as answer:
                example = json.load(answer)["examples"][0]["file"]
            with urlopen(f"{found[0]}/examples/{example}") as answer:
                assert answer.status == 200
        finally:
            process.terminate()


def built(project: Path, dist: Path) -> Path:
    """The wheel of a project."""
    subprocess.run([sys.executable, "-m", "build", "--outdir", dist, project], check=True, stdout=subprocess.DEVNULL)
    return max(dist.glob("*.whl"), key=lambda path: path.stat().st_mtime)


def environment(folder: Path, package: str) -> tuple[Path, set[str]]:
    """Where programs are in a new environment with a package and what it needs, and the names of all packages there."""
    venv.create(folder, with_pip=True)
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    pip = [programs / "python", "-m", "pip"]
    subprocess.run([*pip, "install", "--quiet", "--no-compile", "--disable-pip-version-check", package], check=True)
    packages = run(folder, *pip, "list", "--format", "json")
    return programs, {package["name"] for package in json.loads(packages)}


def run(folder: Path, *words: str | Path) -> str:
    """What a program prints that runs in a folder and sees nothing of this repository."""
    done = subprocess.run(words, check=True, cwd=folder, env=outside(), stdout=subprocess.PIPE, text=True)
    return done.stdout


def outside() -> dict[str, str]:
    """The environment variables without the way into this repository."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
