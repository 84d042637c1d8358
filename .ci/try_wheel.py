"""Builds sdist and wheel, installs the wheel in an empty environment, and turns a recording into pictures there.

    python .ci/try_wheel.py dist

The wheel is built from the sdist, so both are tried. Everything that the wheel needs is installed, PyTorch too: what
pip's cache has not is downloaded. Every shipped model is found by its name, draws, and is served on the page.
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


def main(dist: Path) -> None:
    """Leaves sdist and wheel in `dist`."""
    subprocess.run([sys.executable, "-m", "build", "--outdir", dist, ROOT], check=True, stdout=subprocess.DEVNULL)
    wheel = max(dist.glob("*.whl"), key=lambda path: path.stat().st_mtime)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        venv.create(work / "empty", with_pip=True)
        programs = work / "empty" / ("Scripts" if os.name == "nt" else "bin")

        def run(*words: str | Path) -> str:
            done = subprocess.run(words, check=True, cwd=work, env=environment, stdout=subprocess.PIPE, text=True)
            return done.stdout

        def install(what: str) -> None:
            run(programs / "python", "-m", "pip", "install", "-q", "--no-compile", "--disable-pip-version-check", what)

        install(str(wheel))
        names = run(programs / "python", "-c", PROGRAM, RECORDING).split()
        for name in names:
            lines = run(programs / "s2igan", "generate", "--model", name, RECORDING, "--samples", "1", "--out", name)
            picture = work / json.loads(lines)["image"]
            assert picture.read_bytes().startswith(b"\x89PNG")
        install(f"{wheel}[web]")
        for name in names:
            ask_page([programs / "s2igan", "serve", name, "--port", "0"], work, environment)
        packages = run(programs / "python", "-m", "pip", "list", "--format", "json")
        installed = {package["name"] for package in json.loads(packages)}
        assert not installed & {"espeakng-loader", "piper-tts"}, "without extras nothing is under the GPL"
    print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB, draws in an empty environment by {', '.join(names)}")


def ask_page(command: list[str | Path], work: Path, environment: dict[str, str]) -> None:
    """Starts the page, has one recording drawn, and plays one example."""
    with subprocess.Popen(command, cwd=work, env=environment, stdout=subprocess.PIPE, text=True) as process:
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


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
