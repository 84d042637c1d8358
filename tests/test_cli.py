"""The command line: quick help, errors of one line, exit statuses, and every command of the README."""

import contextlib
import errno
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from s2igan import cli
from s2igan.cli.corpora import OWN_SIZE
from s2igan.cli.options import Drawing
from s2igan.cli.output import say
from s2igan.corpora.prepare.options import PrepareOptions
from s2igan.errors import UserError
from s2igan.evaluation.options import EvaluationOptions, OtherConditions
from s2igan.recipes import resolve

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "torchvision", "timm", "pyarrow", "scipy", "lightning_fabric", "tensorboard", "soundfile", "PIL")
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def run(*args: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "s2igan", *args]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=300, check=False)


def run_of(backbone):
    """A run whose image encoder has this backbone."""
    return SimpleNamespace(config={"recipe": {"sen": {"image": {"backbone": backbone}}}})


@pytest.fixture
def calls(monkeypatch):
    """Replaces every command's library call by a record of its arguments."""
    made = []

    def record(name):
        return lambda *args, **kwargs: made.append((name, args, kwargs))

    monkeypatch.setattr("s2igan.cli.using._generate", record("generate"))
    for target in (
        "s2igan.corpora.builtin.drawn.prepare",
        "s2igan.corpora.prepare.corpus.prepare_corpus",
        "s2igan.training.train.train_run",
        "s2igan.evaluation.evaluate.evaluate",
        "s2igan.evaluation.blind_sheet.write_blind_sheet",
        "s2igan.reproduce.reproduce",
        "s2igan.report.card.write_card",
        "s2igan.report.words.write_words",
    ):
        monkeypatch.setattr(target, record(target.rsplit(".", 1)[1]))
    monkeypatch.setattr(
        "s2igan.run.run_corpus", lambda *args, **kwargs: made.append(("run", args, kwargs)) or Path("r")
    )
    monkeypatch.setattr("s2igan.evaluation.blind_sheet.count_answers", lambda sheet, answers: {"answers": len(answers)})
    monkeypatch.setattr("s2igan.corpora.registry.overview", lambda: "corpora")
    monkeypatch.setattr("s2igan.run_directory.RunDirectory.open", lambda path: run_of("inception_v3"))
    found = SimpleNamespace(passes=True, n_rejected=3, total=9)
    monkeypatch.setattr("s2igan.corpora.prepare.findings.summary", lambda source, findings: "counts")
    monkeypatch.setattr("s2igan.corpora.prepare.findings.write_fix_list", lambda path, source, findings: None)
    monkeypatch.setattr(
        "s2igan.corpora.prepare.validate.validate_source",
        lambda *args, **kwargs: made.append(("validate", args, kwargs)) or found,
    )
    mixed = SimpleNamespace(summary=lambda: "counts")
    monkeypatch.setattr(
        "s2igan.corpora.prepare.mix.mix", lambda *args, **kwargs: made.append(("mix", args, kwargs)) or mixed
    )
    monkeypatch.setattr("s2igan.dry_run.dry_run", lambda *args, **kwargs: made.append(("dry_run", args, kwargs)) or {})
    monkeypatch.setattr("s2igan.speech.speak_to_file", lambda sentence, voice, path: path)
    monkeypatch.setattr("s2igan.web.serve.serve", record("serve"))
    monkeypatch.setattr("s2igan.record.record", lambda *args, **kwargs: made.append(("record", args, kwargs)) or 1.0)
    forgotten = SimpleNamespace(utterances=1, recordings=(), runs=())
    monkeypatch.setattr(
        "s2igan.forget.forget_speaker", lambda *args: made.append(("forget_speaker", args, {})) or forgotten
    )
    model = SimpleNamespace(push_to_hub=record("push_to_hub"))
    monkeypatch.setattr("s2igan.pipeline.SpeechToImage.load", lambda *args: model)
    monkeypatch.setattr(
        "s2igan.onnx_export.export_onnx",
        lambda *args, **kwargs: made.append(("export_onnx", args, kwargs)) or Path(__file__).parent,
    )
    monkeypatch.setattr("s2igan.finding.Finder.load", lambda *args: None)
    monkeypatch.setattr("s2igan.generate.find_recordings", lambda names: list(names))
    for target in ("s2igan.embed.embed_files", "s2igan.finding.find_files"):
        name = target.rsplit(".", 1)[1]
        monkeypatch.setattr(target, lambda *args, name=name: made.append((name, args, {})) or ())
    monkeypatch.setattr("s2igan.report.write_report", lambda model: model / "report.html")
    monkeypatch.setattr("s2igan.report.headlines", lambda model: ["score 1"])
    return made


def test_help_answers_within_a_second():
    before = os.times()
    result = run("--help")
    after = os.times()
    # Of the processor, so that a busy machine does not fail the test.
    assert after.children_user + after.children_system - before.children_user - before.children_system < 1.0
    assert result.returncode == 0
    for name in (
        "prepare",
        "mix",
        "validate",
        "corpora",
        "run",
        "train",
        "generate",
        "speak",
        "record",
        "embed",
        "retrieve",
        "serve",
        "push",
        "export",
        "forget",
        "models",
        "show",
        "evaluate",
        "blind-sheet",
        "report",
    ):
        assert name in result.stdout


def test_help_imports_nothing_heavy():
    program = (
        "import sys\nfrom s2igan.cli import main\n"
        "for command in ('--help', 'train --help', 'prepare --help', 'recipes'):\n"
        "    try:\n        main(command.split())\n    except SystemExit as end:\n"
        "        assert not end.code, end.code\n"
        f"    print('heavy:', command, [name for name in {HEAVY!r} if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    said = [line for line in result.stdout.splitlines() if line.startswith("heavy: ")]
    assert said == [f"heavy: {command} []" for command in ("--help", "train --help", "prepare --help", "recipes")]


def test_importing_the_package_imports_nothing_heavy():
    program = f"import sys, s2igan, s2igan.cli; print([name for name in {HEAVY!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_an_unknown_public_name_is_an_attribute_error():
    import s2igan

    with pytest.raises(AttributeError, match="no_such_name"):
        s2igan.no_such_name  # noqa: B018


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["generate", "--model", "missing-run", "a.wav"], "missing-run"),
        (["speak", "--model", "missing-run", "a red bird", "--voice", "nobody:x"], "nobody:x"),
        (["train", "no-such-recipe", "--data", "d", "--out", "o"], "no-such-recipe"),
    ],
)
def test_what_the_user_can_mend_is_one_line_and_exit_1(args, named, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        cli.main(args)
    assert end.value.code == 1
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert line.startswith("s2igan: ")
    assert named in line
    assert out == ""


def test_the_program_itself_says_one_line_and_exits_1(tmp_path):
    result = run("report", "--model", "missing-run", cwd=tmp_path)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("s2igan: missing-run")
    assert result.stdout == ""


@pytest.mark.parametrize(("words", "command"), [([], "prepare"), (["prepare"], "birds")])
def test_without_a_command_the_help_is_printed(capsys, words, command):
    with pytest.raises(SystemExit) as end:
        cli.main(words)
    assert end.value.code == 0
    out, err = capsys.readouterr()
    assert out.startswith("usage: s2igan")
    assert command in out
    assert err == ""


@pytest.mark.parametrize(
    "words",
    [
        "generate a.wav --model m",
        "show page.html --models m",
        "speak hello --model m",
        "evaluate --model m --data d",
        "train birds --dry-run",
        "run birds --out o",
    ],
)
@pytest.mark.parametrize(("device", "sentence"), [("nonsense", "no such device"), ("cuda", "no GPU")])
def test_every_command_says_the_same_about_its_device(tmp_path, monkeypatch, capsys, words, device, sentence):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit) as end:
        cli.main([*words.split(), "--device", device])
    assert end.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"s2igan: --device {device}: ")
    assert sentence in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["train", "run", "evaluate", "generate", "speak", "show"])
def test_the_option_device_reads_the_same_everywhere(capsys, command):
    with pytest.raises(SystemExit, match="0"):
        cli.main([command, "--help"])
    text = re.sub(r"[\s│]+", " ", capsys.readouterr().out)
    assert "--device STR cpu, cuda or cuda:1; unless given, a GPU if there is one (default: None)" in text


def test_the_file_of_weights_reaches_the_image_encoder(calls, monkeypatch, capsys):
    for words in (
        "train cub --data d --out o",
        "run cub --source s --out o --recipe cub",
        "evaluate --model m --data d",
    ):
        monkeypatch.setenv("S2IGAN_IMAGE_ENCODER_WEIGHTS", "other.pth")
        cli.main([*words.split(), "--image-encoder-weights", "inception.pth"])
        assert os.environ["S2IGAN_IMAGE_ENCODER_WEIGHTS"] == "inception.pth"
    monkeypatch.setattr("s2igan.run_directory.RunDirectory.open", lambda path: run_of("efficientnet_lite0"))
    for words in ("train birds --data d --out o", "run birds --out o", "evaluate --model m --data d"):
        with pytest.raises(SystemExit, match="1"):
            cli.main([*words.split(), "--image-encoder-weights", "inception.pth"])
        assert "this recipe encodes images by efficientnet_lite0" in capsys.readouterr().err


def test_a_wrong_command_line_exits_2():
    assert run("train").returncode == 2
    assert run("no-such-command").returncode == 2


def test_no_recording_is_an_error(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["generate", "--model", "birds"])
    assert end.value.code == 1
    assert "no recording" in capsys.readouterr().err


def test_ctrl_c_exits_130(monkeypatch, capsys):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt("saved at step 7; go on with --resume")

    monkeypatch.setattr("s2igan.training.train.train_run", interrupted)
    with pytest.raises(SystemExit) as end:
        cli.main(["train", "demo", "--data", "d", "--out", "o"])
    assert end.value.code == 130
    assert capsys.readouterr().err == "s2igan: interrupted: saved at step 7; go on with --resume\n"


def test_an_unexpected_failure_keeps_its_traceback(monkeypatch):
    def broken(*args, **kwargs):
        raise ZeroDivisionError

    monkeypatch.setattr("s2igan.training.train.train_run", broken)
    with pytest.raises(ZeroDivisionError):
        cli.main(["train", "demo", "--data", "d", "--out", "o"])


def test_options_reach_the_library(calls):
    cli.main(
        [
            "prepare",
            "birds",
            "--out",
            "d",
            "--classes",
            "5",
            "--individuals",
            "2",
            "--captions",
            "3",
            "--size",
            "32",
            "--extra-voices",
            "espeak:fr",
        ]
    )
    cli.main(
        [
            "train",
            "demo",
            "--data",
            "d",
            "--out",
            "o",
            "--stage",
            "2",
            "--resume",
            "--seed",
            "3",
            "--allow-other-data",
            "--init-from",
            "birds",
            "--init-parts",
            "speech",
            "autoencoder",
        ]
    )
    cli.main(["generate", "a.wav", "b.flac", "--model", "run", "--samples", "2", "--seed", "9", "--out", "o"])
    cli.main(["speak", "A red bird, sitting!", "--model", "run"])
    heard = ["--condition-voices", "espeak:de", "--condition-rooms", "church.wav"]
    cli.main(["evaluate", "--model", "run", "--data", "d", "--max-captions", "50", "--allow-other-data", *heard])
    birds, trained, generated, spoken, evaluated = calls
    assert (birds[1][0].name, *birds[1][1:]) == ("birds", Path("d"), 5)
    assert birds[2] == {
        "individuals": 2,
        "captions": 3,
        "size": 32,
        "seed": 0,
        "jobs": None,
        "extra_voices": ("espeak:fr",),
        "say": say,
    }
    assert trained[1] == (resolve("demo"),)
    assert {"stage": "2", "resume": True, "seed": 3, "allow_other_data": True}.items() <= trained[2].items()
    assert trained[2]["init_from"] == Path("birds")
    assert trained[2]["init_parts"] == ("speech", "autoencoder")
    assert generated[1] == (("a.wav", "b.flac"), Drawing(Path("run"), 2, 9, Path("o")))
    assert spoken[1] == (("generated/a-red-bird-sitting.wav",), Drawing(Path("run")))
    options = EvaluationOptions(max_captions=50, allow_other_data=True)
    asked = {"out": None, "conditions": OtherConditions(("espeak:de",), (Path("church.wav"),)), "device": None}
    assert evaluated[1:] == ((Path("run"), Path("d"), options), asked)


def test_options_of_a_mix_reach_the_library(calls):
    cli.main(["mix", "a", "b", "--out", "o", "--recordings", "50", "--seed", "3"])
    assert calls == [("mix", ((Path("a"), Path("b")), Path("o")), {"recordings": 50, "seed": 3, "jobs": None})]


def test_options_of_using_and_sharing_reach_the_library(calls):
    cli.main(["record", "a.wav", "--seconds", "5", "--microphone", "USB"])
    cli.main(["embed", "a", "b.wav", "--model", "m", "--out", "t.parquet"])
    cli.main(["retrieve", "a.wav", "--model", "m", "--data", "d", "--k", "3", "--split", "test", "--out", "o"])
    cli.main(["serve", "m", "--data", "d", "--host", "::1", "--port", "0", "--per-minute", "9"])
    cli.main(["serve", "m", "--corpus", "d", "--host", "::1", "--port", "0", "--per-minute", "9"])
    cli.main(["push", "m", "ana/river", "--public", "--label", "A", "--label", "B", "--language", "gbe"])
    cli.main(["forget", "ana", "--data", "d", "--runs", "r"])
    recorded, embedded, found, served, again, pushed, forgotten = calls
    assert again == served
    assert recorded[1:] == ((Path("a.wav"),), {"seconds": 5.0, "microphone": "USB"})
    assert embedded[1][1:] == (["a", "b.wav"], Path("t.parquet"))
    assert found[1][1:] == (["a.wav"], Path("o"), 3)
    assert served[1] == (Path("m"),)
    assert {"data": Path("d"), "host": "::1", "port": 0, "per_minute": 9}.items() <= served[2].items()
    assert pushed[1] == ("ana/river",)
    assert pushed[2]["private"] is False
    assert pushed[2]["sharing"].labels == ("A", "B")
    assert forgotten[1] == ("ana", Path("d"), Path("r"))


def test_options_of_imports_reach_the_library(calls):
    words = "--source s --out o --size 32 --seed 2 --voice espeak:fr --voice espeak:de+f3 --window hamming"
    cli.main(
        [
            "prepare",
            "folder",
            *words.split(),
            "--speaker-disjoint",
            "--keep-personal-data",
            "--allow-rejected",
        ]
    )
    cli.main(["prepare", "cub", "--source", "s", "--out", "o", "--proportions", "0.6", "0.2", "0.2"])
    cli.main(["prepare", "flowers", "--out", "o"])
    cli.main(["validate", "s", "--corpus", "cub", "--speaker-disjoint"])
    cli.main(
        [
            "run",
            "folder",
            "--source",
            "s",
            "--out",
            "o",
            "--recipe",
            "no-rs",
            "--base",
            "birds-rdg",
            "--voice",
            "espeak:fr",
        ]
    )
    folder, cub, flowers, validated, ran = calls
    options = PrepareOptions(
        window="hamming",
        voice=("espeak:fr", "espeak:de+f3"),
        speaker_disjoint=True,
        keep_personal_data=True,
        allow_rejected=True,
    )
    assert folder[1] == ("folder", Path("s"), Path("o"), options)
    assert {"size": 32, "seed": 2}.items() <= folder[2].items()
    assert cub[2]["size"] == resolve("cub").image_size  # prepared and trained without --size, they fit together
    assert resolve("laptop").image_size == OWN_SIZE
    assert cub[1] == ("cub", Path("s"), Path("o"), PrepareOptions(proportions=(0.6, 0.2, 0.2)))
    assert (flowers[1][0].name, *flowers[1][1:]) == ("flowers", Path("o"), 100)
    assert validated[1] == (Path("s"), "cub")
    assert validated[2] == {"seed": 0, "speaker_disjoint": True, "jobs": None, "quick": False, "max_seconds": 600.0}
    assert ran[1] == ("folder", Path("s"), Path("o"), PrepareOptions(voice=("espeak:fr",)))
    assert ran[2]["recipe"] == resolve("no-rs", "birds-rdg")


def test_defaults_of_the_built_in_sets_are_those_of_the_library(monkeypatch):
    import inspect

    from s2igan.corpora.builtin import drawn

    stated = {name: value.default for name, value in inspect.signature(drawn.prepare).parameters.items()}
    given = {}
    monkeypatch.setattr(drawn, "prepare", lambda *args, **options: given.update(options))
    cli.main(["prepare", "birds", "--out", "o"])
    assert given.pop("say") == say
    assert given == {name: stated[name] for name in given}


def test_validation_that_fails_exits_1_after_its_findings(monkeypatch, capsys):
    found = SimpleNamespace(passes=False, n_rejected=3, total=9)
    monkeypatch.setattr("s2igan.corpora.prepare.validate.validate_source", lambda *args, **kwargs: found)
    monkeypatch.setattr("s2igan.corpora.prepare.findings.summary", lambda source, findings: "counts")
    with pytest.raises(SystemExit) as end:
        cli.main(["validate", "s"])
    assert end.value.code == 1
    out, err = capsys.readouterr()
    assert out == "counts\n"
    assert err.startswith("s2igan: s: 3 of 9 cannot be used, more than 20 %")


def test_generate_prints_json_lines_and_goes_on_after_a_bad_recording(monkeypatch, capsys):
    results = [{"image": "a-1.png"}, UserError("b.wav: not a sound"), {"image": "c-1.png"}]
    monkeypatch.setattr("s2igan.pipeline.SpeechToImage.load", lambda model, device: None)
    monkeypatch.setattr("s2igan.generate.generate_files", lambda *args, **options: iter(results))
    with pytest.raises(SystemExit) as end:
        cli.main(["generate", "a.wav", "b.wav", "c.wav", "--model", "run"])
    assert end.value.code == 1
    out, err = capsys.readouterr()
    assert [json.loads(line) for line in out.splitlines()] == [results[0], results[2]]
    assert err == "s2igan: b.wav: not a sound\n"


def commands(document: Path) -> list[str]:
    """The s2igan commands in a document's shell blocks, without the launcher of several processes."""
    blocks = re.findall(r"```(?:sh|shell|bash|console)\n(.*?)```", document.read_text(), flags=re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    launcher = re.compile(r"^(torchrun .*-m|OMP_NUM_THREADS=1) (?=s2igan )")
    lines = [launcher.sub("", line).partition(" > ")[0] for line in lines]
    return [line.removeprefix("$ ").removeprefix(".venv/bin/") for line in lines if "s2igan " in line.split("#")[0]]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_in_the_documents_are_understood(document, calls):
    for line in commands(document):
        words = shlex.split(line, comments=True)
        assert words[0] == "s2igan", line
        with contextlib.nullcontext() if "--help" not in words else pytest.raises(SystemExit, match="0"):
            cli.main(words[1:])


def test_the_readme_names_every_command():
    text = "\n".join(commands(ROOT / "README.md"))
    for name in ("prepare birds", "train", "generate", "speak", "evaluate", "report"):
        assert f"s2igan {name}" in text


@pytest.mark.parametrize(
    ("command", "option", "value"),
    [
        (command, option, value)
        for command in ("prepare folder --source a --out b", "validate a", "run folder --source a --out b")
        for option, value in (("--seed", "-1"), ("--seed", "9223372036854775808"), ("--jobs", "0"), ("--jobs", "-3"))
    ]
    + [
        ("run folder --source a --out b", "--max-captions", "0"),
        ("evaluate --model a --data b", "--max-captions", "0"),
        ("evaluate --model a --data b", "--seed", "-1"),
        ("train birds --data a --out b", "--seed", "-1"),
        ("prepare birds --out b", "--jobs", "0"),
        ("generate a.wav --model b", "--samples", "0"),
    ],
)
def test_numbers_out_of_range_are_a_wrong_command_line(capsys, command, option, value):
    """Before hours are spent on what ends in a traceback; `0` jobs were all cores."""
    with pytest.raises(SystemExit) as stopped:
        cli.main([*command.split(), option, value])
    assert stopped.value.code == 2
    message = " ".join(capsys.readouterr().err.split())
    assert f"{option}: {value} is not from" in message
    assert "<function" not in message


@pytest.mark.parametrize(("number", "sentence"), [(errno.ENAMETOOLONG, "too long"), (errno.EACCES, "no permission")])
def test_paths_that_cannot_be_asked_about_are_a_sentence(capsys, monkeypatch, number, sentence):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number), "some/path")

    monkeypatch.setattr("s2igan.corpora.prepare.validate.validate_source", refuse)
    with pytest.raises(SystemExit) as stopped:
        cli.main(["validate", "some/path"])
    assert stopped.value.code == 1
    assert re.fullmatch(rf"s2igan: some/path.*{sentence}.*; check the path.*\.\n", capsys.readouterr().err)
