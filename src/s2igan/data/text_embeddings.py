"""Embeddings of captions that somebody else computed, beside a store: `text_embeddings.safetensors`.

- `keys` int64 (captions), ascending: the first 8 bytes of the SHA-256 of each caption's text;
- `embeddings` float16 (captions, dimensions), a row for each key.

They are found by the text and by nothing else, since that is all that they depend on: the file fits every store that
has these captions, whatever its splits, its order, and what of it was rejected. float16 is off by at most one part in
2,048 of a value, and half as large as what is published.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float16, Int64

from s2igan.errors import UserError
from s2igan.files import atomic_write

FILE = "text_embeddings.safetensors"
VERSION = 1
HEADER = "s2igan"
KEY_BYTES = 8
"""Of a digest: that two of 118,000 captions share a key has a chance of 4 in 10,000,000,000."""


class TextEmbeddings:
    """The file opened for reading; its rows are mapped into memory, not copied."""

    def __init__(
        self, path: Path, header: dict[str, Any], keys: Int64[np.ndarray, " n"], rows: Float16[np.ndarray, "n d"]
    ) -> None:
        """Use `TextEmbeddings.open`."""
        self.path = path
        self.made_from: str = header["made_from"]
        """What whoever wrote the file knows it by."""
        self.fingerprint: str = header["digest"]
        """Of all keys and embeddings."""
        self.rows = rows
        self._keys = keys

    @classmethod
    def open(cls, directory: str | Path) -> TextEmbeddings:
        """The embeddings beside a store.

        Raises:
            UserError: there are none, or the file is damaged or of another version.
        """
        from safetensors import SafetensorError, safe_open

        path = Path(directory) / FILE
        remedy = "run 's2igan prepare' again with --text-embeddings"
        if not path.exists():
            raise UserError(f"{path}: there are no text embeddings beside this store; {remedy} (cub and oxford102).")
        try:
            with safe_open(path, framework="pt") as file:  # of torch: only those are mapped and not read
                header = json.loads((file.metadata() or {})[HEADER])
                keys, rows = file.get_tensor("keys").numpy(), file.get_tensor("embeddings").numpy()
            version = header["version"]
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise UserError(f"{path}: the text embeddings are damaged ({error}); {remedy}.") from error
        if version != VERSION:
            raise UserError(f"{path}: of version {version}, and this program reads version {VERSION}; {remedy}.")
        rows.setflags(write=False)
        return cls(path, header, keys, rows)

    def __len__(self) -> int:
        """Number of captions."""
        return len(self._keys)

    def find(self, texts: Iterable[str]) -> Int64[np.ndarray, " texts"]:
        """The row of each caption, -1 where there is none."""
        wanted = text_keys(texts)
        if not len(self):
            return np.full(len(wanted), -1)
        row = np.minimum(np.searchsorted(self._keys, wanted), len(self) - 1)
        return np.where(self._keys[row] == wanted, row, -1)


def write_text_embeddings(
    directory: str | Path, texts: Sequence[str], rows: Float16[np.ndarray, "n d"], *, made_from: str = ""
) -> Path:
    """Write the embeddings of captions beside a store and return the path; the order does not matter.

    Raises:
        ValueError: a text is there twice.
        UserError: the disk is full.
    """
    import safetensors.numpy

    keys = text_keys(texts)
    order = np.argsort(keys)
    keys, rows = keys[order], rows[order]
    if (keys[1:] == keys[:-1]).any():
        raise ValueError("two of the texts are the same")
    digest = hashlib.sha256(keys.tobytes())
    digest.update(rows.data)
    header = json.dumps({"version": VERSION, "made_from": made_from, "digest": digest.hexdigest()})
    path = Path(directory) / FILE
    with atomic_write(path) as file:
        file.write(safetensors.numpy.save({"keys": keys, "embeddings": rows}, metadata={HEADER: header}))
    return path


def text_keys(texts: Iterable[str]) -> Int64[np.ndarray, " texts"]:
    """What captions are found by."""
    digests = (hashlib.sha256(text.encode()).digest()[:KEY_BYTES] for text in texts)
    return np.array([int.from_bytes(digest, "big", signed=True) for digest in digests], np.int64)
