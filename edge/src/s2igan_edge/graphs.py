"""What `s2igan export` writes, read back: config.json, verified, and the ONNX graphs."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from s2igan_edge import audio
from s2igan_edge.errors import UserError

FORMAT = 1
"""Of config.json and the graphs' inputs and outputs."""
CONFIG = "config.json"
EXPORT = "write it again with s2igan export MODEL --onnx FOLDER"


class Graphs:
    """The graphs of a model, every byte of them verified, and what its config.json says."""

    def __init__(self, directory: str | os.PathLike[str], threads: int | None = None) -> None:
        """Reads a folder.

        Args:
            threads: that compute; one for each core unless given.

        Raises:
            UserError: there is no such folder or no model in it, a file is missing, torn or altered, or another
                version wrote it.
        """
        self.directory = Path(directory)
        self.config = _read_config(self.directory)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.log_severity_level = 3  # errors
        self._sessions = {
            name.removesuffix(".onnx"): self._session(name, about, options)
            for name, about in self.config["files"].items()
        }

    def run(self, name: str, inputs: dict[str, np.ndarray], outputs: Sequence[str] | None = None) -> list[np.ndarray]:
        """What a graph makes of its inputs: all of its outputs, or those that are named, and no more is computed."""
        options = onnxruntime.RunOptions()
        options.only_execute_path_to_fetches = outputs is not None
        results: list[np.ndarray] = self._sessions[name].run(outputs, inputs, options)
        return results

    def _session(self, name: str, about: dict[str, Any], options: Any) -> Any:
        path = self.directory / name
        try:
            content = path.read_bytes()
        except OSError as error:
            what = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
            raise UserError(f"{path}: {what}; {EXPORT}.") from error
        if len(content) != about["bytes"]:
            raise UserError(f"{path}: is torn ({len(content):,} of {about['bytes']:,} bytes); {EXPORT}.")
        if hashlib.sha256(content).hexdigest() != about["sha256"]:
            raise UserError(f"{path}: is altered (its checksum differs); {EXPORT}.")
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _read_config(directory: Path) -> dict[str, Any]:
    path = directory / CONFIG
    if not directory.is_dir():
        raise UserError(f"{directory}: no such folder; name one that s2igan export MODEL --onnx FOLDER wrote.")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{directory}: no {CONFIG} is in this folder, so it is no exported model; {EXPORT}.") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read, it is torn perhaps; {EXPORT}.") from error
    if not isinstance(config, dict) or "format" not in config:
        raise UserError(f"{path}: describes no ONNX graphs; {EXPORT}.")
    heard = {name: config.get("audio", {}).get(name) for name in audio.LOG_MEL}
    if config["format"] != FORMAT or heard != audio.LOG_MEL:
        raise UserError(
            f"{path}: written for another version of s2igan-edge, by s2igan {config.get('s2igan')}; install that one."
        )
    return config
