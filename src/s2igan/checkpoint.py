"""Checkpoints and exported models: safetensors and JSON, written atomically, verified when read, never pickled.

A checkpoint is a directory `step-00001000/` with `state.safetensors` (every tensor) and `state.json` (everything
else, the size and SHA-256 of the other file, and its own SHA-256). It is written under a hidden name beside its
place, brought to the disk, and renamed: whenever the writer is killed, either the whole checkpoint is there or none.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar, cast

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from s2igan.errors import UserError
from s2igan.files import TEMPORARY_SUFFIX, abandoned, disk_errors, sync_directory, temporary_path

VERSION = 1  # of both formats; another version is refused
STATE_FILES = ("state.json", "state.safetensors")
MODEL_FILES = ("config.json", "weights.safetensors")
CHECKPOINT_NAME = re.compile(r"step-(\d{8,})")

DIGEST_START, NO_DIGEST = b'{"sha256": "', "0" * 64
"""The JSON file begins with its own digest, taken while its digits are zeros."""

State = Any
"""A nesting of dicts (keys str or int), lists and tuples of int, float, str, bool, None and Tensor."""

Config = TypeVar("Config")

log = logging.getLogger(__name__)


# ------------------------------------------------------------------------------------------------------ nested state


def flatten_state(state: State) -> tuple[dict[str, Tensor], Any]:
    """Split a nested training state into its tensors, named by their places, and a description for JSON.

    `unflatten_state` gives back the same nesting, bit for bit, and tensors that lay channels last lie so again. They
    come back on the CPU, without gradients; dict subclasses as dicts.

    Raises:
        TypeError: naming the place of a value of any other type, or of a name that two tensors would have.
    """
    tensors: dict[str, Tensor] = {}

    def encode(value: State, place: str) -> Any:
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, list | tuple):
            items = [encode(item, f"{place}/{i}") for i, item in enumerate(value)]
            return {"tuple": items} if isinstance(value, tuple) else items
        if isinstance(value, dict) and all(isinstance(key, str | int) for key in value):
            entries = {key: encode(item, f"{place}/{key}" if place else str(key)) for key, item in value.items()}
            # JSON would turn the numbers that an optimiser's state is indexed by into words.
            return {"dict": entries} if all(isinstance(key, str) for key in value) else {"items": [*entries.items()]}
        if not isinstance(value, Tensor):
            raise TypeError(f"{place or 'the state'} is a {type(value).__name__}, which a checkpoint does not take")
        if place in tensors:
            raise TypeError(f"{place} is the name of two tensors; a checkpoint takes one")
        tensors[place] = value
        channels_last = value.dim() == 4 and value.is_contiguous(memory_format=torch.channels_last)
        layout = {"layout": "channels_last"} if channels_last and not value.is_contiguous() else {}
        return {"tensor": place, **layout}

    description = encode(state, "")
    return tensors, description


def unflatten_state(tensors: Mapping[str, Tensor], description: Any) -> State:
    """The nested state that `flatten_state` split."""

    def decode(value: Any) -> State:
        if isinstance(value, list):
            return [decode(item) for item in value]
        if not isinstance(value, dict):
            return value
        if "tuple" in value:
            return tuple(decode(item) for item in value["tuple"])
        if "dict" in value:
            return {key: decode(item) for key, item in value["dict"].items()}
        if "items" in value:
            return {key: decode(item) for key, item in value["items"]}
        tensor = tensors[value["tensor"]]
        return tensor.contiguous(memory_format=torch.channels_last) if "layout" in value else tensor

    return decode(description)


# -------------------------------------------------------------------------------------------------------- checkpoints


def checkpoint_path(parent: str | Path, step: int) -> Path:
    """Where the checkpoint of a step belongs: `parent/step-00001000`."""
    return Path(parent) / f"step-{step:08d}"


def save_checkpoint(directory: str | Path, state: State) -> None:
    """Write a nested state as a checkpoint, in place of one that has this name already.

    Raises:
        TypeError: for a state that `flatten_state` does not take; nothing is written.
        UserError: when there is no room or no permission; what was there before stays, and no part of the new one does.
    """
    tensors, description = flatten_state(state)
    _write(Path(directory), STATE_FILES, tensors, {"state": description})


def load_checkpoint(directory: str | Path) -> State:
    """Read a checkpoint back, after checking every byte of it.

    Raises:
        UserError: naming the file that is missing, torn, altered or of another version.
    """
    content, tensors = _read(Path(directory), STATE_FILES)
    return unflatten_state(tensors, content["state"])


def load_latest(parent: str | Path) -> tuple[Path, State] | None:
    """The newest whole checkpoint in `parent` and its state, or None where there is none at all; every damaged one
    passed over is logged.

    Raises:
        UserError: if there are checkpoints and all are damaged.
    """
    parent = Path(parent)
    clean(parent)
    checkpoints = _checkpoints(parent)
    for path in checkpoints:
        try:
            return path, load_checkpoint(path)
        except UserError as error:
            log.warning("Passed over a damaged checkpoint: %s", error)
    if checkpoints:
        raise UserError(
            f"{parent}: all {len(checkpoints)} checkpoints are damaged; restore one from a backup or start a new run."
        )
    return None


def prune(parent: str | Path, keep: int) -> None:
    """Delete the oldest checkpoints, so that `keep` whole ones stay (judged by their sizes and JSON, not by every
    byte)."""
    whole = 0
    for path in _checkpoints(Path(parent)):
        if whole >= keep:
            _delete(path)
            continue
        try:
            _read_json(path, STATE_FILES)
            whole += 1
        except UserError:
            pass  # it does not count, and whoever loads will name it
    clean(parent)


def clean(parent: str | Path) -> None:
    """Remove what writers that no longer run did not finish."""
    for path in Path(parent).glob(f".*{TEMPORARY_SUFFIX}"):
        if abandoned(path):
            shutil.rmtree(path, ignore_errors=True)


def _checkpoints(parent: Path) -> list[Path]:
    """Newest first."""
    if not parent.is_dir():
        return []
    found = [(int(match[1]), path) for path in parent.iterdir() if (match := CHECKPOINT_NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found, reverse=True)]


# ------------------------------------------------------------------------------------------------------ exported model


def save_model(directory: str | Path, config: dict[str, Any], weights: Mapping[str, Tensor]) -> None:
    """Export a model: `config.json` with `config` in it, and `weights.safetensors` under the names given.

    Raises:
        TypeError: if `config` holds something that JSON has no word for.
        UserError: when there is no room or no permission; what was there before stays.
    """
    if json.loads(json.dumps(config, allow_nan=False)) != config:
        raise TypeError("the config of a model must come back unchanged from JSON: str keys, and lists for tuples")
    _write(Path(directory), MODEL_FILES, weights, {"config": config})


def load_model(directory: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The config and the weights of an exported model.

    Raises:
        UserError: naming the file that is missing, torn, altered or of another version.
    """
    content, weights = _read(Path(directory), MODEL_FILES)
    return content["config"], weights


def config_from_json(kind: type[Config], values: Any, path: Path, what: str) -> Config:
    """A config dataclass from what a model's `config.json`, the file `path`, kept of it; lists become tuples again.

    Raises:
        UserError: `values` does not describe `what`, such as "a generator", as this version knows it.
    """
    known = {field.name for field in fields(cast(Any, kind))}
    if isinstance(values, Mapping) and values.keys() <= known:
        plain = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
        with contextlib.suppress(TypeError):  # a field without a default is missing
            return kind(**plain)
    raise UserError(
        f"{path} does not describe {what} that this version knows; use the version of s2igan that trained the model."
    )


# --------------------------------------------------------------------------------------------------- files and digests


def _write(directory: Path, names: tuple[str, str], tensors: Mapping[str, Tensor], content: dict[str, Any]) -> None:
    json_name, tensors_name = names
    temporary = temporary_path(directory)
    with disk_errors(directory):
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            _save_tensors(temporary / tensors_name, tensors)
            about = {"file": tensors_name, "bytes": (temporary / tensors_name).stat().st_size}
            about["sha256"] = file_digest(temporary / tensors_name)
            whole = {"sha256": NO_DIGEST, "version": VERSION, "tensors": about, **content}
            text = json.dumps(whole, indent=1).replace("{\n ", "{", 1) + "\n"
            (temporary / json_name).write_bytes(_with_digest(text.encode()))
            for name in names:
                with (temporary / name).open("rb+") as file:
                    os.fsync(file.fileno())
            put_in_place(temporary, directory)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def put_in_place(temporary: Path, directory: Path) -> None:
    """Gives a finished directory its name, in place of one that has it already."""
    sync_directory(temporary)
    if directory.exists():
        _delete(directory, replacement=temporary)
    else:
        temporary.rename(directory)
    sync_directory(directory.parent)


def _delete(directory: Path, replacement: Path | None = None) -> None:
    """Not seen half deleted by anyone; a directory that is replaced comes back where the other cannot take its name."""
    aside = temporary_path(directory.with_name(f"{directory.name}.old"))
    shutil.rmtree(aside, ignore_errors=True)
    directory.rename(aside)
    if replacement is not None:
        try:
            replacement.rename(directory)
        except BaseException:
            aside.rename(directory)
            raise
    shutil.rmtree(aside, ignore_errors=True)


def _save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    try:
        safetensors.torch.save_file({name: x.detach().cpu().contiguous() for name, x in tensors.items()}, path)
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _with_digest(raw: bytes) -> bytes:
    """The JSON file with the digest that belongs at its beginning."""
    rest = raw[len(DIGEST_START) + len(NO_DIGEST) :]
    digest = hashlib.sha256(DIGEST_START + NO_DIGEST.encode() + rest).hexdigest()
    return DIGEST_START + digest.encode() + rest


def _read_json(directory: Path, names: tuple[str, str]) -> dict[str, Any]:
    """The JSON file, verified, the other file's size included."""
    path, tensors_path = (directory / name for name in names)
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise _damaged(path, "is missing" if isinstance(error, FileNotFoundError) else str(error.strerror)) from error
    if raw != _with_digest(raw):
        raise _damaged(path, "is torn or altered (its checksum differs)")
    content: dict[str, Any] = json.loads(raw)
    if content["version"] != VERSION:
        raise UserError(
            f"{path}: written in format {content['version']} where this program reads {VERSION}; use the version of "
            "s2igan that wrote it."
        )
    try:
        found = tensors_path.stat().st_size
    except OSError as error:
        raise _damaged(tensors_path, "is missing") from error
    expected = content["tensors"]["bytes"]
    if found != expected:
        raise _damaged(tensors_path, f"is torn ({found:,} of {expected:,} bytes)")
    return content


def _read(directory: Path, names: tuple[str, str]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The JSON file and the tensors, every byte of both verified."""
    content = _read_json(directory, names)
    path = directory / names[1]
    if file_digest(path) != content["tensors"]["sha256"]:
        raise _damaged(path, "is altered (its checksum differs)")
    try:
        tensors = safetensors.torch.load_file(path)
    except SafetensorError as error:
        raise _damaged(path, f"is not in the safetensors format ({error})") from error
    # Copied, since what is mapped would change or vanish with the file.
    return content, {name: tensor.clone() for name, tensor in tensors.items()}


def _damaged(path: Path, what: str) -> UserError:
    return UserError(f"{path}: {what}; use another checkpoint, or write it again.")
