"""Builds sdist and wheel, installs the wheel in an empty environment, and turns a recording into a picture there.

    python .ci/try_wheel.py dist

The wheel is built from the sdist, so both are tried. Everything that the wheel needs is downloaded, PyTorch too.
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


def main(dist: Path) -> None:
    """Leaves sdist and wheel in `dist`."""
    subprocess.run([sys.executable, "-m", "build", "--outdir", dist, ROOT], check=True, stdout=subprocess.DEVNULL)
    wheel = max(dist.glob("*.whl"), key=lambda path: path.stat().st_mtime)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        venv.create(work / "empty", with_pip=True)
        programs = work / "empty" / ("Scripts" if os.name == "nt" else "bin")
        options = ["--quiet", "--disable-pip-version-check"]
        subprocess.run([programs / "python", "-m", "pip", "install", *options, f"{wheel}[web]"], check=True)

        def run(*words: str | Path) -> str:
            environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
            done = subprocess.run(words, check=True, cwd=work, env=environment, stdout=subprocess.PIPE, text=True)
            return done.stdout

        run(programs / "python", "-c", PROGRAM, RECORDING)
        lines = run(programs / "s2igan", "generate", "--model", "birds", RECORDING, "--samples", "1", "--out", "drawn")
        picture = work / json.loads(lines)["image"]
        assert picture.read_bytes().startswith(b"\x89PNG")
        packages = run(programs / "python", "-m", "pip", "list", "--format", "json")
        names = {package["name"] for package in json.loads(packages)}
        assert not names & {"espeakng-loader", "piper-tts"}, "without extras nothing is under the GPL"
    print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB, draws in an empty environment")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
