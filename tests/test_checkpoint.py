"""Checkpoints: what is loaded is what was saved, to the bit, or an error that names the file."""

import errno
import hashlib
import json
import logging
import math
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from s2igan import checkpoint
from s2igan.checkpoint import (
    checkpoint_path,
    flatten_state,
    load_checkpoint,
    load_latest,
    load_model,
    prune,
    save_checkpoint,
    save_model,
    unflatten_state,
)
from s2igan.errors import UserError


def same(a: Any, b: Any) -> bool:
    """Equal in value, type, order and every bit."""
    if isinstance(a, torch.Tensor):
        if not isinstance(b, torch.Tensor) or a.dtype != b.dtype or a.shape != b.shape:
            return False
        return a.detach().contiguous().view(-1).view(torch.uint8).equal(b.contiguous().view(-1).view(torch.uint8))
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if type(a) is not type(b):
        return False
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return (
        a == b and math.copysign(1, a) == math.copysign(1, b) if isinstance(a, float) and a == a else repr(a) == repr(b)
    )


def training_state(seed: int = 0, steps: int = 3) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 36, 2))
    network.to(memory_format=torch.channels_last)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    adam = torch.optim.Adam(network.parameters(), betas=(0.5, 0.999))
    numpy_rng = np.random.default_rng(seed)
    for _ in range(steps):
        adam.zero_grad()
        network(torch.randn(2, 3, 8, 8, generator=generator)).square().mean().backward()
        adam.step()
        numpy_rng.random()
    return {
        "network": network.state_dict(),
        "optimiser": adam.state_dict(),
        "torch_rng": generator.get_state(),
        "numpy_rng": numpy_rng.bit_generator.state,
        "step": steps,
        "best": None,
    }


EVERYTHING: dict[str, Any] = {
    "scalars": [
        0,
        -1,
        2**127 + 1,
        True,
        False,
        None,
        1.0,
        -0.0,
        0.1,
        1e-320,
        math.inf,
        -math.inf,
        math.nan,
        "",
        'é\n"\0',
    ],
    "nesting": {"a": [], "b": (), "c": {}, "d": ((1, [2, (3,)]), {"x": (None,)})},
    "int keys": {3: "c", -1: torch.ones(2), 10: {}},
    "mixed keys": {"1": 1, 1: "one"},
    "like our own words": {
        "tensor": "x",
        "dict": {"items": [1]},
        "tuple": (1,),
        "float": "inf",
        "layout": "channels_last",
    },
    "dtypes": [
        torch.tensor([1, 2**62, -5]),
        torch.tensor([True, False]),
        torch.tensor([1.5, math.nan, -math.inf], dtype=torch.bfloat16),
        torch.tensor([1.5, -0.0], dtype=torch.float16),
        torch.tensor([math.pi], dtype=torch.float64),
        torch.arange(256, dtype=torch.int16).to(torch.uint8),
        torch.tensor([1 + 2j]),
        torch.tensor([-3], dtype=torch.int8),
    ],
    "shapes": [torch.tensor(3.0), torch.empty(0), torch.empty(2, 0, 3), torch.arange(6.0).view(2, 3).t()],
}


def test_any_nesting_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "sen" / "step-00000001"
    save_checkpoint(path, EVERYTHING)
    assert same(EVERYTHING, load_checkpoint(path))
    assert sorted(file.name for file in path.iterdir()) == ["state.json", "state.safetensors"]
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert same(EVERYTHING, unflatten_state(*flatten_state(EVERYTHING)))


@pytest.mark.parametrize("state", [None, 3, torch.arange(3), [], (torch.ones(1),), OrderedDict(a=1)])
def test_the_state_need_not_be_a_dict(tmp_path: Path, state: Any) -> None:
    save_checkpoint(tmp_path / "step-00000001", state)
    assert same(dict(state) if isinstance(state, dict) else state, load_checkpoint(tmp_path / "step-00000001"))


def test_same_notices_what_differs() -> None:
    assert not same({"a": 1}, {"a": 1.0})
    assert not same([1], (1,))
    assert not same([0.0], [-0.0])
    assert not same({"a": 1, "b": 2}, {"b": 2, "a": 1})
    assert not same(torch.zeros(2), torch.zeros(2, dtype=torch.int32))
    assert not same([torch.zeros(2)], [-torch.zeros(2)])


def test_training_goes_on_as_if_not_interrupted(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "step-00000003", training_state())
    state = load_checkpoint(tmp_path / "step-00000003")
    assert same(training_state(), state)

    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 36, 2))
    network.to(memory_format=torch.channels_last)
    adam = torch.optim.Adam(network.parameters())
    network.load_state_dict(state["network"])
    adam.load_state_dict(state["optimiser"])
    generator = torch.Generator()
    generator.set_state(state["torch_rng"])
    numpy_rng = np.random.default_rng(7)
    numpy_rng.bit_generator.state = state["numpy_rng"]
    adam.zero_grad()
    network(torch.randn(2, 3, 8, 8, generator=generator)).square().mean().backward()
    adam.step()
    numpy_rng.random()
    uninterrupted = training_state(steps=4)
    assert same(uninterrupted["network"], network.state_dict())
    assert same(uninterrupted["optimiser"], adam.state_dict())
    assert same(uninterrupted["numpy_rng"], numpy_rng.bit_generator.state)
    assert uninterrupted["network"]["0.weight"].stride() == network.state_dict()["0.weight"].stride()


def test_the_layout_in_memory_comes_back(tmp_path: Path) -> None:
    last = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    state = {"first": last.contiguous(), "last": last, "matrix": torch.arange(6.0).view(2, 3).t()}
    save_checkpoint(tmp_path / "c", state)
    loaded = load_checkpoint(tmp_path / "c")
    assert same(state, loaded)
    assert loaded["last"].stride() == last.stride()
    assert loaded["first"].is_contiguous()


@pytest.mark.parametrize(
    ("state", "place"),
    [
        ({"a": [0, {"b": {1, 2}}]}, "a/1/b is a set"),
        ({"a": np.zeros(2)}, "a is a ndarray"),
        ({"a": {(1, 2): 1}}, "a is a dict"),
        ({"a/b": torch.zeros(1), "a": {"b": torch.ones(1)}}, "a/b is the name of two tensors"),
        (object(), "the state is a object"),
    ],
)
def test_other_types_are_refused(tmp_path: Path, state: Any, place: str) -> None:
    with pytest.raises(TypeError, match=place):
        save_checkpoint(tmp_path / "c", state)
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------------------------- damage


def test_every_flipped_bit_is_found(tmp_path: Path) -> None:
    path = tmp_path / "step-00000001"
    save_checkpoint(path, training_state())
    rng = random.Random(0)
    for name in ("state.json", "state.safetensors"):
        file = path / name
        whole = file.read_bytes()
        positions = [*range(100), *(rng.randrange(len(whole)) for _ in range(200)), len(whole) - 1]
        for position in positions:
            damaged = bytearray(whole)
            damaged[position] ^= 1 << rng.randrange(8)
            file.write_bytes(damaged)
            with pytest.raises(UserError, match=name):
                load_checkpoint(path)
        file.write_bytes(whole)
    assert same(training_state(), load_checkpoint(path))


@pytest.mark.parametrize("name", ["state.json", "state.safetensors"])
def test_torn_longer_empty_and_missing_files_are_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / "step-00000001"
    save_checkpoint(path, training_state())
    whole = (path / name).read_bytes()
    for content in (whole[:-1], whole[: len(whole) // 2], whole[:8], b"", whole + b"\0"):
        (path / name).write_bytes(content)
        with pytest.raises(UserError, match=rf"step-00000001/{name}: is torn"):
            load_checkpoint(path)
    (path / name).unlink()
    with pytest.raises(UserError, match=rf"step-00000001/{name}: is missing"):
        load_checkpoint(path)
    with pytest.raises(UserError, match=r"nowhere/state\.json: is missing"):
        load_checkpoint(tmp_path / "nowhere")


def test_files_of_two_checkpoints_do_not_mix(tmp_path: Path) -> None:
    for step in (1, 2):
        save_checkpoint(checkpoint_path(tmp_path, step), {"x": torch.full((3,), float(step))})
    (tmp_path / "step-00000001/state.safetensors").replace(tmp_path / "step-00000002/state.safetensors")
    with pytest.raises(UserError, match=r"step-00000002/state\.safetensors: is altered"):
        load_checkpoint(checkpoint_path(tmp_path, 2))


def test_another_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "VERSION", 999)
    save_checkpoint(tmp_path / "c", {})
    monkeypatch.undo()
    with pytest.raises(UserError, match="written in format 999"):
        load_checkpoint(tmp_path / "c")


# ------------------------------------------------------------------------------------------------ several checkpoints


def save_steps(parent: Path, *steps: int) -> None:
    for step in steps:
        save_checkpoint(checkpoint_path(parent, step), {"step": step, "x": torch.arange(step % 100)})


def newest(parent: Path) -> tuple[str, int]:
    """Name and step of what `load_latest` finds."""
    found = load_latest(parent)
    assert found is not None
    return found[0].name, found[1]["step"]


def test_the_newest_whole_one_is_used_and_damaged_ones_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert load_latest(tmp_path) is None
    assert load_latest(tmp_path / "nowhere") is None
    save_steps(tmp_path, 5, 40, 99_999_999, 100_000_000)  # as words, the last would come before the one before it
    (tmp_path / "step-00000999").mkdir()
    (tmp_path / "notes").mkdir()
    caplog.set_level(logging.WARNING)
    assert newest(tmp_path) == ("step-100000000", 100_000_000)
    assert not caplog.records
    data = tmp_path / "step-100000000/state.safetensors"
    data.write_bytes(data.read_bytes()[:-1])
    assert newest(tmp_path) == ("step-99999999", 99_999_999)
    assert [name in record.getMessage() for record, name in zip(caplog.records, ("100000000",), strict=True)]
    for step in (5, 40, 99_999_999):
        (checkpoint_path(tmp_path, step) / "state.json").write_text("{}")
    with pytest.raises(UserError, match="all 5 checkpoints are damaged"):
        load_latest(tmp_path)


def test_prune_keeps_the_newest_whole_ones(tmp_path: Path) -> None:
    save_steps(tmp_path, 1, 2, 3, 4, 5)
    (checkpoint_path(tmp_path, 4) / "state.safetensors").unlink()
    prune(tmp_path, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000003", "step-00000004", "step-00000005"]
    prune(tmp_path / "nowhere", keep=1)


def gone_process() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_leftovers_of_killed_writers_are_ignored_and_removed(tmp_path: Path) -> None:
    save_steps(tmp_path, 1)
    host = os.uname().nodename
    dead = tmp_path / f".step-00000002.{host}-{gone_process()}.tmp"
    alive = tmp_path / f".step-00000003.{host}-{os.getppid()}.tmp"
    elsewhere = tmp_path / ".step-00000004.another-host-77.tmp"
    for path in (dead, alive, elsewhere):
        path.mkdir()
        (path / "state.safetensors").write_bytes(b"half")
    assert newest(tmp_path) == ("step-00000001", 1)
    assert (dead.exists(), alive.exists(), elsewhere.exists()) == (False, True, True)


def test_saving_again_replaces(tmp_path: Path) -> None:
    path = checkpoint_path(tmp_path, 7)
    save_checkpoint(path, {"x": torch.zeros(100)})
    save_checkpoint(path, {"y": 1})
    assert load_checkpoint(path) == {"y": 1}
    assert list(tmp_path.iterdir()) == [path]


# ----------------------------------------------------------------------------------------------- failures of the disk


@pytest.mark.parametrize("where", ["tensors", "json", "sync", "rename"])
def test_a_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    save_steps(tmp_path, 1, 2)

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def full_as_safetensors_says_it(*args: object, **kwargs: object) -> None:
        raise checkpoint.SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    if where == "tensors":
        monkeypatch.setattr(checkpoint.safetensors.torch, "save_file", full_as_safetensors_says_it)
    elif where == "json":
        monkeypatch.setattr(Path, "write_bytes", full)
    elif where == "sync":
        monkeypatch.setattr(os, "fsync", full)
    else:
        rename = Path.rename
        new = ".step-0000000{}." + os.uname().nodename
        fails = tuple(new.format(step) for step in (2, 3))
        monkeypatch.setattr(Path, "rename", lambda a, b: full() if a.name.startswith(fails) else rename(a, b))
    for step in (2, 3):
        with pytest.raises(UserError, match=f"step-0000000{step}: the disk is full; free some space") as caught:
            save_checkpoint(checkpoint_path(tmp_path, step), {"new": torch.ones(3)})
        assert str(tmp_path) in str(caught.value)
    monkeypatch.undo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000001", "step-00000002"]
    assert load_checkpoint(checkpoint_path(tmp_path, 2))["step"] == 2


SAVER = """
import sys, torch
from pathlib import Path
from s2igan.checkpoint import checkpoint_path, prune, save_checkpoint
parent = Path(sys.argv[1])
torch.set_num_threads(1)
print("go", flush=True)
for step in range(int(sys.argv[2]), 1000000):
    save_checkpoint(checkpoint_path(parent, step), {"step": step, "x": torch.full((50000,), float(step))})
    save_checkpoint(checkpoint_path(parent, step), {"step": step, "x": torch.full((50000,), float(step))})
    prune(parent, keep=2)
    print(step, flush=True)
"""


def test_killed_while_saving(tmp_path: Path) -> None:
    """Whatever the moment of kill -9, the newest checkpoint loads and is not older than the last one announced."""
    rng = random.Random(1)
    first = 0
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", SAVER, str(tmp_path), str(first)], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "go\n"
            time.sleep(0.15 + 0.2 * rng.random())
            process.send_signal(signal.SIGKILL)
            announced = process.stdout.read().split()
        found = load_latest(tmp_path)
        assert found is not None
        state = found[1]
        assert state["x"].unique().tolist() == [state["step"]]
        assert state["step"] >= (int(announced[-1]) if announced else first - 1)
        first = state["step"] + 1
        assert len(list(tmp_path.iterdir())) <= 3, "leftovers are removed"


# ----------------------------------------------------------------------------------------------------- exported model


def test_a_model_comes_back(tmp_path: Path) -> None:
    config = {"width": 16, "resolutions": [16, 32], "dense": "previous", "weights": None, "lr": 2e-4}
    weights = {"generator.weight": torch.randn(3, 4), "half": torch.ones(2).half()}
    save_model(tmp_path / "model", config, weights)
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["config.json", "weights.safetensors"]
    loaded = load_model(tmp_path / "model")
    assert loaded[0] == config
    assert set(loaded[1]) == set(weights)
    assert all(same(weights[name], loaded[1][name]) for name in weights)
    file = tmp_path / "model/weights.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 4
    file.write_bytes(data)
    with pytest.raises(UserError, match=r"weights\.safetensors: is altered"):
        load_model(tmp_path / "model")


@pytest.mark.parametrize("config", [{"a": (1, 2)}, {"a": {1: 2}}, {"a": {1, 2}}])
def test_a_config_must_be_plain_json(tmp_path: Path, config: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        save_model(tmp_path / "model", config, {})
    assert list(tmp_path.iterdir()) == []


def test_weights_that_are_a_pickle_are_refused_and_run_nothing(tmp_path):
    """As somebody would write them who means harm: digests and sizes fit."""

    class Harm:
        def __reduce__(self):
            return (Path.write_text, (tmp_path / "run", "harm was done"))

    folder = tmp_path / "model"
    save_model(folder, {}, {"x": torch.zeros(1)})
    content = pickle.dumps(Harm())
    (folder / "weights.safetensors").write_bytes(content)
    about = json.loads((folder / "config.json").read_text())
    about["tensors"] |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    about["sha256"] = checkpoint.NO_DIGEST
    text = json.dumps(about).encode()
    (folder / "config.json").write_bytes(text.replace(b"0" * 64, hashlib.sha256(text).hexdigest().encode(), 1))
    with pytest.raises(UserError, match=r"weights\.safetensors: is not in the safetensors format"):
        load_model(folder)
    assert not (tmp_path / "run").exists()
