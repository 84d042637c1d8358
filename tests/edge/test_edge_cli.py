"""`s2igan-edge generate` does what `s2igan generate` does."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from command_lines import ROOT, run
from s2igan_edge import __version__, cli


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sounds")
    rng = np.random.default_rng(0)
    for name, rate in (("a.wav", 16_000), ("deep/b.flac", 44_100)):
        (folder / name).parent.mkdir(exist_ok=True)
        soundfile.write(folder / name, 0.1 * rng.standard_normal(rate), rate)
    (folder / "broken.wav").write_bytes(b"RIFF nothing")
    return folder


def test_the_same_files_and_the_same_lines(exported, sounds, tmp_path):
    """But for the name of the program in complaints."""
    options = ["--samples", "2", "--seed", "6", "--truncation", "0.9", "--out"]
    ours = run("s2igan", "generate", sounds, "--model", exported.torch, *options, tmp_path / "torch")
    edge = run("s2igan_edge", "generate", sounds, "--model", exported.onnx, *options, tmp_path / "edge")
    assert (ours.returncode, edge.returncode) == (1, 1)  # one is broken
    assert edge.stdout == ours.stdout.replace(str(tmp_path / "torch"), str(tmp_path / "edge"))
    assert edge.stderr.replace("s2igan-edge", "s2igan") == ours.stderr
    names = sorted(path.name for path in (tmp_path / "torch").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "edge").iterdir())
    assert names == ["a-1.png", "a-2.png", "b-1.png", "b-2.png", "contact-sheet.png"]
    for name in names:
        with Image.open(tmp_path / "torch" / name) as one, Image.open(tmp_path / "edge" / name) as other:
            assert np.abs(np.asarray(one, int) - np.asarray(other, int)).max() <= 1


def test_in_this_process(exported, sounds, tmp_path, capsys):
    """Nothing fails: no exit, and a line for each picture."""
    words = ["generate", str(sounds / "a.wav"), "--model", str(exported.onnx), "--samples", "1", "--threads", "1"]
    cli.main([*words, "--out", str(tmp_path)])
    (line,) = capsys.readouterr().out.splitlines()
    assert Path(json.loads(line)["image"]).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["generate", "said.wav", "--model", "nowhere"], 1, "s2igan-edge: nowhere: no such folder"),
        (["generate", "x/*.wav", "--model", "nowhere"], 1, "nothing matches"),
        (["generate"], 2, "--model"),
        ([], 2, "COMMAND"),
    ],
)
def test_wrong_command_lines(words, status, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(words)
    assert stopped.value.code == status
    assert message in capsys.readouterr().err


def test_the_version(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out.strip() == __version__


@pytest.mark.parametrize(("document", "picture"), [("docs/edge.md", "bird.png"), ("edge/README.md", "picture.png")])
def test_the_examples_of_the_documents_run(document, picture, exported, sounds, tmp_path, monkeypatch):
    (tmp_path / "description.wav").symlink_to(sounds / "a.wav")
    for folder in ("birds-onnx", "FOLDER"):
        (tmp_path / folder).symlink_to(exported.onnx)
    monkeypatch.chdir(tmp_path)
    text = (ROOT / document).read_text()
    for example in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        exec(compile(example, document, "exec"), {})
    assert (tmp_path / picture).is_file()
    for command in re.findall(r"^s2igan-edge (generate .*description\.wav.*)$", text, flags=re.MULTILINE):
        cli.main(command.split())
        assert len(list((tmp_path / "drawn").glob("description-*.png"))) == 4
