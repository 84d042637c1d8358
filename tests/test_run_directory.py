"""The run directory: one process at a time, one configuration, no line lost or doubled."""

import errno
import json
import logging
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from s2igan import __version__
from s2igan.errors import UserError
from s2igan.run_directory import RunDirectory, environment, in_words, with_what_was_off

CONFIG = {"recipe": "birds", "seed": 0, "sen": {"batch": 64, "betas": [0.95, 0.999]}, "weights": None}


def test_create_writes_what_resume_reads(tmp_path: Path) -> None:
    with RunDirectory.create(tmp_path / "a" / "run", CONFIG) as run:
        assert run.config == CONFIG
    with RunDirectory.resume(tmp_path / "a" / "run") as run:
        assert run.config == CONFIG
    assert RunDirectory.open(tmp_path / "a" / "run").config == CONFIG
    assert json.loads((run.path / "config.json").read_text()) == CONFIG
    about = json.loads((run.path / "environment.json").read_text())
    assert about["torch"] == torch.__version__
    assert about["s2igan"] == __version__
    assert about.keys() == environment().keys()


def test_tuples_in_the_config_are_lists_at_once(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", {"betas": (0.5, 0.9)})
    assert run.config == {"betas": [0.5, 0.9]}
    run.close()
    RunDirectory.resume(tmp_path / "run", {"betas": (0.5, 0.9)}).close()
    with pytest.raises(TypeError):
        RunDirectory.create(tmp_path / "other", {"a": object()})
    assert not (tmp_path / "other").exists()


def test_a_used_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"not empty; go on with --resume, or choose another --out\."):
        RunDirectory.create(tmp_path, CONFIG)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    with pytest.raises(UserError, match="a file is here"):
        RunDirectory.create(tmp_path / "notes.txt", CONFIG)
    (tmp_path / "empty").mkdir()
    RunDirectory.create(tmp_path / "empty", CONFIG).close()
    with pytest.raises(UserError, match="not empty"):
        RunDirectory.create(tmp_path / "empty", CONFIG)


def test_a_creation_that_was_killed_can_be_repeated(tmp_path: Path) -> None:
    for name in (".lock", "environment.json", ".config.json.host-1.tmp"):
        (tmp_path / name).write_text("")
    RunDirectory.create(tmp_path, CONFIG).close()
    assert RunDirectory.open(tmp_path).config == CONFIG


def test_the_place_of_the_data_may_change_between_two_starts(tmp_path: Path) -> None:
    """What counts is the store's fingerprint."""
    RunDirectory.create(tmp_path / "run", {"data": "corpus", "store": "1f"}).close()
    RunDirectory.resume(tmp_path / "run", {"data": "/elsewhere/corpus/", "store": "1f"}).close()
    with pytest.raises(UserError, match=r"\(store was \"1f\", is now \"2e\"\)"):
        RunDirectory.resume(tmp_path / "run", {"data": "corpus", "store": "2e"})


def test_a_run_of_another_version_is_one_sentence(tmp_path: Path) -> None:
    """Not a list of all the settings that have other names by now."""
    RunDirectory.create(tmp_path, {"recipe": {"a": 1}}).close()
    with pytest.raises(
        UserError, match=r"this run was made by another version of s2igan, .*; train anew .*or use that version\.$"
    ):
        RunDirectory.resume(tmp_path, {"version": 2, "recipe": {"b": 1}})


def test_settings_that_came_later_were_off_then() -> None:
    known = {"rate": 1, "augment": {"noise": 0.3}, "layers": [1, 2]}
    asked = {"rate": 1, "augment": {"noise": 0.3, "room": 0.0}, "layers": [1, 2], "mask": False, "name": None}
    assert in_words(with_what_was_off(known, asked), asked) == ""
    on = asked | {"augment": {"noise": 0.3, "room": 0.5}}
    assert in_words(with_what_was_off(known, on), on) == "augment.room was null, is now 0.5"
    changed = asked | {"augment": {"noise": 0.0}}
    assert in_words(with_what_was_off(known, changed), changed) == "augment.noise was 0.3, is now 0.0"
    assert in_words(with_what_was_off(known | {"gone": 1}, asked), asked) == "gone was 1, is now null"


def test_resume_needs_a_run(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError, match=r"no run is here"):
            RunDirectory.resume(path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config\.json: not readable"):
        RunDirectory.resume(tmp_path)


def test_resume_names_every_change_of_the_config(tmp_path: Path) -> None:
    RunDirectory.create(tmp_path / "run", CONFIG).close()
    RunDirectory.resume(tmp_path / "run", CONFIG).close()
    changed = {"recipe": "birds", "seed": 1, "sen": {"batch": 32, "betas": [0.95, 0.999]}, "new": "x"}
    with pytest.raises(UserError) as caught:
        RunDirectory.resume(tmp_path / "run", changed)
    message = str(caught.value)
    assert 'seed was 0, is now 1; sen.batch was 64, is now 32; new was null, is now "x"' in message
    assert "betas" not in message
    RunDirectory.resume(tmp_path / "run").close()  # the failed attempt holds no lock


# --------------------------------------------------------------------------------------------------------------- lock

HOLDER = """
import sys
from s2igan.run_directory import RunDirectory
run = RunDirectory.resume(sys.argv[1])
print("locked", flush=True)
sys.stdin.read()
"""


def test_a_second_process_is_told_who_trains_here(tmp_path: Path) -> None:
    RunDirectory.create(tmp_path / "run", CONFIG).close()
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "run")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(UserError, match=f"run: process {other.pid} on .* is training here; wait"):
            RunDirectory.resume(tmp_path / "run")
        with pytest.raises(UserError, match=f"process {other.pid} on"):
            RunDirectory.create(tmp_path / "run", CONFIG)
        assert RunDirectory.open(tmp_path / "run").config == CONFIG  # looking is allowed
        other.kill()
    RunDirectory.resume(tmp_path / "run").close()  # a killed process keeps nothing locked


def test_close_releases_the_lock(tmp_path: Path) -> None:
    first = RunDirectory.create(tmp_path / "run", CONFIG)
    with pytest.raises(UserError, match=f"process {os.getpid()} on"):
        RunDirectory.resume(tmp_path / "run")
    first.close()
    first.close()
    RunDirectory.resume(tmp_path / "run").close()


# ---------------------------------------------------------------------------------------------------- log and metrics


def test_metrics_are_plain_json(tmp_path: Path) -> None:
    with RunDirectory.create(tmp_path / "run", CONFIG) as run:
        assert run.read_metrics() == []
        run.metrics({"stage": "sen", "step": 1, "loss": 0.5, "lr": 0.25, "ok": True})
        run.metrics({"stage": "sen", "step": 2, "loss": math.nan, "peak": -math.inf, "note": None})
        assert run.read_metrics() == [
            {"stage": "sen", "step": 1, "loss": 0.5, "lr": 0.25, "ok": True},
            {"stage": "sen", "step": 2, "loss": None, "peak": None, "note": None},
        ]
        assert len((run.path / "metrics.jsonl").read_text().splitlines()) == 2


def test_rewind_drops_what_will_be_written_again(tmp_path: Path) -> None:
    with RunDirectory.create(tmp_path / "run", CONFIG) as run:
        run.rewind("sen", 0)
        for stage, step in (("sen", 1), ("sen", 2), ("rdg", 1), ("rdg", 2), ("rdg", 3)):
            run.metrics({"stage": stage, "step": step})
        with (run.path / "metrics.jsonl").open("a") as file:
            file.write('{"stage": "rdg", "step": 2, "lo')
        assert len(run.read_metrics()) == 5
        run.rewind("rdg", 2)
        run.metrics({"stage": "rdg", "step": 3, "again": True})
        assert run.read_metrics() == [
            {"stage": "sen", "step": 1},
            {"stage": "sen", "step": 2},
            {"stage": "rdg", "step": 1},
            {"stage": "rdg", "step": 2},
            {"stage": "rdg", "step": 3, "again": True},
        ]


def test_the_log_holds_the_warnings_of_the_package(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with RunDirectory.create(tmp_path / "run", CONFIG) as run:
        run.log("step 1")
        logging.getLogger("s2igan.checkpoint").warning("passed over %s", "step-00000002")
        logging.getLogger("elsewhere").warning("not ours")
    logging.getLogger("s2igan.checkpoint").warning("after the run")
    lines = (run.path / "log.txt").read_text().splitlines()
    assert [line[20:] for line in lines] == ["step 1", "WARNING: passed over step-00000002"]
    assert lines[0][:2] == "20"
    assert capsys.readouterr().err == "passed over step-00000002\n"


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with RunDirectory.create(tmp_path / "run", CONFIG) as run:

        def full(*args: object, **kwargs: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(Path, "open", full)
        with pytest.raises(UserError, match=r"metrics\.jsonl: the disk is full"):
            run.metrics({"step": 1})


def test_paths(tmp_path: Path) -> None:
    with RunDirectory.create(tmp_path / "run", CONFIG) as run:
        found = [run.samples, run.tensorboard, run.model, run.evaluation, run.report, run.checkpoints("sen")]
    names = ["samples", "tensorboard", "model", "evaluation", "report.html", "checkpoints/sen"]
    assert [path.relative_to(run.path).as_posix() for path in found] == names
