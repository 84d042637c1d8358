"""Checkpoints and exported models: safetensors and JSON, written atomically, verified when read, never pickled.

A checkpoint is a directory `step-00001000/` with `state.safetensors` (every tensor) and `state.json` (everything
else, the size and SHA-256 of the other file, and its own SHA-256). It is written under a hidden name beside its
place, brought to the disk, and renamed: whenever the writer is killed, either the whole checkpoint is there or none.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import math
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from s2igan.errors import UserError
from s2igan.files import TEMPORARY_SUFFIX, abandoned, disk_errors, sync_directory, temporary_path

VERSION = 1  # of both formats; another version is refused
STATE_FILES = ("state.json", "state.safetensors")
MODEL_FILES = ("config.json", "weights.safetensors")
REPLACED_SUFFIX = ".replaced"
CHECKPOINT_NAME = re.compile(r"step-(\d{8,})")

# The JSON file begins with its own digest, taken while these 64 digits are zeros.
DIGEST_PREFIX, DIGEST_DIGITS = b'{"sha256": "', 64

State = Any
"""A nesting of dicts (keys str or int), lists and tuples of int, float, str, bool, None and Tensor."""

log = logging.getLogger(__name__)


# ------------------------------------------------------------------------------------------------------ nested state


def flatten_state(state: State) -> tuple[dict[str, Tensor], Any]:
    """Split a nested training state into its tensors by name and a description in JSON that refers to them by name.

    `unflatten_state` gives back the same nesting, bit for bit: dtypes, the difference between tuples and lists,
    between 1 and 1.0, integers of any size, infinities, channels-last layout, and that one tensor occurs in two
    places. Tensors come back on the CPU, without gradients; dict subclasses as dicts; partly overlapping views as
    separate tensors.

    Raises:
        TypeError: naming the place of a value of any other type.
    """
    tensors: dict[str, Tensor] = {}
    names: dict[tuple[Any, ...], str] = {}

    def encode(value: State, place: str) -> Any:
        if value is None or type(value) in (bool, int, str):
            return value
        if type(value) is float:
            return value if math.isfinite(value) else {"float": repr(value)}
        if isinstance(value, Tensor):
            return encode_tensor(value.detach(), place)
        if type(value) is list:
            return [encode(item, f"{place}/{i}") for i, item in enumerate(value)]
        if type(value) is tuple:
            return {"tuple": [encode(item, f"{place}/{i}") for i, item in enumerate(value)]}
        if isinstance(value, dict):
            for key in value:
                if type(key) not in (str, int):
                    raise TypeError(f"{place or 'the state'} has the key {key!r}; a checkpoint takes str and int keys")
            if all(type(key) is str for key in value):
                return {"dict": {key: encode(item, _join(place, key)) for key, item in value.items()}}
            return {"items": [[key, encode(item, _join(place, key))] for key, item in value.items()]}
        raise TypeError(f"{place or 'the state'} is a {type(value).__name__}, which a checkpoint does not take")

    def encode_tensor(tensor: Tensor, place: str) -> Any:
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.dtype == torch.complex128:
            raise TypeError(f"{place} is a tensor of {tensor.layout}, {tensor.dtype}, which a checkpoint does not take")
        identity = (tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride(), tensor.device, tensor.is_conj())
        name = names.get(identity) if tensor.numel() else None
        if name is None:
            name = place
            while name in tensors:  # {"a": {"b": x}, "a/b": y}
                name += "'"
            # Held in `tensors` from here on, so that no other tensor can get its address.
            tensors[name], names[identity] = tensor, name
        encoded = {"tensor": name}
        channels_last = tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
        return encoded | {"layout": "channels_last"} if channels_last and not tensor.is_contiguous() else encoded

    description = encode(state, "")
    return tensors, description


def unflatten_state(tensors: Mapping[str, Tensor], description: Any) -> State:
    """The nested state that `flatten_state` split.

    Raises:
        KeyError, TypeError, ValueError: if the tensors and the description do not belong together.
    """
    laid_out: dict[str, Tensor] = {}

    def decode(value: Any) -> State:
        if isinstance(value, list):
            return [decode(item) for item in value]
        if not isinstance(value, dict):
            return value
        if "float" in value:
            return float(value["float"])
        if "tuple" in value:
            return tuple(decode(item) for item in value["tuple"])
        if "dict" in value:
            return {key: decode(item) for key, item in value["dict"].items()}
        if "items" in value:
            return {key: decode(item) for key, item in value["items"]}
        name = value["tensor"]
        if value.get("layout") != "channels_last":
            return tensors[name]
        return laid_out.setdefault(name, tensors[name].contiguous(memory_format=torch.channels_last))

    return decode(description)


def _join(place: str, key: str | int) -> str:
    return f"{place}/{key}" if place else str(key)


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
    directory = Path(directory)
    content, tensors = _read(directory, STATE_FILES)
    try:
        return unflatten_state(tensors, content["state"])
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(directory / STATE_FILES[0], f"does not fit its tensors ({error})") from error


def latest_checkpoint(parent: str | Path) -> Path | None:
    """The newest whole checkpoint in `parent`, or None where there is none at all; every damaged one passed over is
    logged.

    Raises:
        UserError: if there are checkpoints and all are damaged.
    """
    found = _newest(Path(parent), functools.partial(_verify, names=STATE_FILES))
    return None if found is None else found[0]


def load_latest(parent: str | Path) -> tuple[Path, State] | None:
    """`latest_checkpoint` and its state, verified and read in one pass."""
    return _newest(Path(parent), load_checkpoint)


def _newest(parent: Path, read: Callable[[Path], Any]) -> tuple[Path, Any] | None:
    clean(parent)
    checkpoints = _checkpoints(parent)
    for path in reversed(checkpoints):
        try:
            return path, read(path)
        except UserError as error:
            log.warning("Passed over a damaged checkpoint: %s", error)
    if checkpoints:
        raise UserError(
            f"{parent}: all {len(checkpoints)} checkpoints are damaged; restore one from a backup or start a new run."
        )
    return None


def prune(parent: str | Path, keep: int) -> None:
    """Delete the oldest checkpoints, so that `keep` whole ones stay (judged by their sizes and JSON, not by every
    byte).

    Raises:
        ValueError: if `keep` is below 1.
    """
    if keep < 1:
        raise ValueError(f"keep must be 1 or more, not {keep}")
    whole = 0
    for path in reversed(_checkpoints(Path(parent))):
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
    """Tidy up after writers that no longer run: remove what they did not finish, put back what they had moved aside."""
    for path in Path(parent).glob(f".*{REPLACED_SUFFIX}"):
        _put_back(path.with_name(path.name[1:].removesuffix(REPLACED_SUFFIX)))
    for path in Path(parent).glob(f".*{TEMPORARY_SUFFIX}"):
        if abandoned(path):
            shutil.rmtree(path, ignore_errors=True)


def _checkpoints(parent: Path) -> list[Path]:
    """Oldest first."""
    if not parent.is_dir():
        return []
    found = [(int(match[1]), path) for path in parent.iterdir() if (match := CHECKPOINT_NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found)]


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
    return _current_names(content["config"], weights)


def _current_names(config: dict[str, Any], weights: dict[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A model of version 0.1.0, such as `models/birds`, under the names that it would be exported with now."""
    config = {"rerank" if key == "candidates" else key: value for key, value in config.items()}
    if isinstance(generator := config.get("generator"), dict):
        config["generator"] = {"condition_scale" if k == "emphasis" else k: value for k, value in generator.items()}
    prefixes = ("generator.emphasis.", "generator.condition_scale.")
    return config, {name.replace(*prefixes): tensor for name, tensor in weights.items()}


# --------------------------------------------------------------------------------------------------- files and digests


def _write(directory: Path, names: tuple[str, str], tensors: Mapping[str, Tensor], content: dict[str, Any]) -> None:
    json_name, tensors_name = names
    temporary = temporary_path(directory)
    replaced = _replaced(directory)
    with disk_errors(directory):
        _put_back(directory)
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            _save_tensors(temporary / tensors_name, tensors)
            about = {"file": tensors_name, "bytes": (temporary / tensors_name).stat().st_size}
            about["sha256"] = file_digest(temporary / tensors_name)
            body = json.dumps({"version": VERSION, "tensors": about, **content}, indent=1)
            (temporary / json_name).write_bytes(_with_digest(body))
            for name in names:
                _sync_file(temporary / name)
            sync_directory(temporary)
            if directory.exists():
                directory.rename(replaced)
            temporary.rename(directory)
        except BaseException:
            _put_back(directory)
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        sync_directory(directory.parent)
        shutil.rmtree(replaced, ignore_errors=True)


def _replaced(directory: Path) -> Path:
    """Where a directory waits while the one that replaces it takes its name."""
    return directory.with_name(f".{directory.name}{REPLACED_SUFFIX}")


def _put_back(directory: Path) -> None:
    """Undo, or finish, a replacement that was interrupted."""
    replaced = _replaced(directory)
    if directory.exists():
        shutil.rmtree(replaced, ignore_errors=True)
    elif replaced.exists():
        replaced.rename(directory)


def _save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    plain, seen = {}, set()
    for name, tensor in tensors.items():
        tensor = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
        storage = tensor.untyped_storage().data_ptr()
        if storage in seen:  # safetensors takes no two views of one storage
            tensor = tensor.clone()
        seen.add(storage)
        plain[name] = tensor
    try:
        safetensors.torch.save_file(plain, path)
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error


def _sync_file(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _with_digest(body: str) -> bytes:
    """`body`, a JSON object, with its digest as the first entry."""
    rest = b'",\n' + body.removeprefix("{").lstrip("\n").encode() + b"\n"
    digest = hashlib.sha256(DIGEST_PREFIX + b"0" * DIGEST_DIGITS + rest).hexdigest()
    return DIGEST_PREFIX + digest.encode() + rest


def _read_json(directory: Path, names: tuple[str, str]) -> dict[str, Any]:
    """The JSON file, verified, the other file's size included."""
    path, tensors_path = (directory / name for name in names)
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise _damaged(path, "is missing" if isinstance(error, FileNotFoundError) else str(error.strerror)) from error
    end = len(DIGEST_PREFIX) + DIGEST_DIGITS
    zeroed = DIGEST_PREFIX + b"0" * DIGEST_DIGITS + raw[end:]
    if raw[:end] != DIGEST_PREFIX + hashlib.sha256(zeroed).hexdigest().encode():
        raise _damaged(path, "is torn or altered (its checksum differs)")
    content = json.loads(raw)
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


def _verify(directory: Path, names: tuple[str, str]) -> dict[str, Any]:
    """The JSON file, every byte of both files verified."""
    content = _read_json(directory, names)
    path = directory / names[1]
    if file_digest(path) != content["tensors"]["sha256"]:
        raise _damaged(path, "is altered (its checksum differs)")
    return content


def _read(directory: Path, names: tuple[str, str]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    _put_back(directory)
    content = _verify(directory, names)
    try:
        mapped = safetensors.torch.load_file(directory / names[1])
    except (SafetensorError, OSError) as error:
        raise _damaged(directory / names[1], f"is not readable ({error})") from error
    # Copied, since what is mapped would change or vanish with the file.
    return content, {name: tensor.clone() for name, tensor in mapped.items()}


def _damaged(path: Path, what: str) -> UserError:
    return UserError(f"{path}: {what}; use another checkpoint, or write it again.")


def _delete(directory: Path) -> None:
    """Not seen half deleted by anyone."""
    temporary = temporary_path(directory)
    shutil.rmtree(temporary, ignore_errors=True)
    directory.rename(temporary)
    shutil.rmtree(temporary, ignore_errors=True)
