"""The prepared store: every log-mel and every picture of a corpus, ready to be read without decoding or copying.

`pack.build_store` writes it; `layout` says which files there are.
"""

from __future__ import annotations

import hashlib
import json
import os
from functools import cached_property
from operator import index
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex

import numpy as np
from jaxtyping import Float16, Int8, Int32, Int64, UInt8

from s2igan.data.layout import HEADER, IMAGES, INDEX, REJECTED, REPORT, STORE, VERSION, Kind, damaged, shard_name
from s2igan.data.manifest import SPLITS, split_name
from s2igan.data.text_embeddings import TextEmbeddings
from s2igan.errors import UserError
from s2igan.text_utils import counted

if TYPE_CHECKING:
    import pyarrow as pa


class Store:
    """A prepared corpus, opened for reading. Utterances and pictures are numbered from 0, in the order of the manifest.

    Columns are numpy or Arrow arrays and shards are mapped into memory when first touched, so that opening costs
    little and processes share one copy of the data. A store may be pickled: the other process opens it again.
    """

    def __init__(self, directory: Path, report: dict[str, Any], utterances: pa.Table, images: pa.Table) -> None:
        """Use `Store.open`."""
        self.directory = directory
        self._stored_report = report
        self.corpus_root = directory / report["corpus"]
        """The folder that the paths of the manifest are relative to."""
        self.image_size: int = report["image_size"]
        """Side in pixels of the training images; the shorter side of those stored is 76/64 of it."""
        self.window: str = report["window"]
        self.validation_from_train: bool = report["validation_from_train"]
        """Whether the validation split was held out of a published `train`, all of which stage 2 trains on."""

        self.image_index: Int32[np.ndarray, " utterances"] = utterances["image"].to_numpy()
        """The picture that each utterance describes."""
        self.n_frames: Int32[np.ndarray, " utterances"] = utterances["n_frames"].to_numpy()
        self._mel_shard, self._mel_offset = utterances["shard"].to_numpy(), utterances["offset"].to_numpy()
        split, names = _codes(utterances["split"])
        order = np.array([SPLITS.index(name) for name in names] + [-1], np.int8)
        self.split: Int8[np.ndarray, " utterances"] = order[split]
        """Position in `SPLITS` of each utterance's split, -1 where it has none."""
        self.speaker_index, self.speakers = _codes(utterances["speaker"])
        """Position in `speakers`, -1 where unknown."""
        self._languages = utterances["language"]
        _, self.languages = _codes(self._languages)
        """Codes of the languages that are spoken, where known."""
        self._audio, self._texts, self._mentions, self._start, self._end = (
            utterances[name] for name in ("audio", "text", "mentions", "start_seconds", "end_seconds")
        )

        label, self.classes = _codes(images["class"])
        self.has_classes = bool(self.classes)
        self.image_class: Int32[np.ndarray, " images"] = (
            label if self.has_classes else np.arange(images.num_rows, dtype=np.int32)
        )
        """Position in `classes` of each picture's class; without classes every picture is its own (method.md 5)."""
        self._image_path, self._attributes = images["path"], images["attributes"]
        store = directory / STORE
        self._mels = _MappedShards(store, "mels")
        self.images = StoredImages(_MappedShards(store, "images"), images, report["stored_size"])
        """All pictures, as one array-like of uint8 (images, S, S, 3): the squares in their middles."""

    @classmethod
    def open(cls, directory: str | Path) -> Store:
        """Open what `build_store` wrote under `directory`.

        Raises:
            UserError: naming the file, if there is no finished store, it is of another version, or a file of it is
                missing or has another size than was written.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        directory = Path(directory)
        store = directory / STORE
        try:
            report = json.loads((store / REPORT).read_text(encoding="utf-8"))
            version, shards = report["version"], report["shards"]
        except (FileNotFoundError, NotADirectoryError):
            raise UserError(f"{directory}: no finished store is here; run 's2igan prepare' for it first.") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise damaged(store / REPORT, error) from error
        if version != VERSION:
            raise UserError(
                f"{store / REPORT}: the store is of version {version} and this program reads version {VERSION}; run "
                "'s2igan prepare' again."
            )
        with os.scandir(store) as entries:
            found = {entry.name: entry.stat().st_size for entry in entries}
        for name, size in shards.items():
            if name not in found:
                raise damaged(store / name, FileNotFoundError())
            if found[name] != size:
                raise damaged(store / name, ValueError(f"{found[name]:,} bytes where {size:,} were written"))
        tables = []
        for name in (INDEX, IMAGES):
            try:
                tables.append(pq.read_table(store / name))
            except (pa.ArrowException, OSError) as error:
                raise damaged(store / name, error) from error
        return cls(directory, report, *tables)

    def __reduce__(self) -> tuple[Any, ...]:
        return Store.open, (self.directory,)

    def __len__(self) -> int:
        """Number of utterances."""
        return len(self.image_index)

    @property
    def n_images(self) -> int:
        return len(self.image_class)

    @cached_property
    def utterance_class(self) -> Int32[np.ndarray, " utterances"]:
        """The class of the picture that each utterance describes."""
        return self.image_class[self.image_index]

    def mel(self, utterance: SupportsIndex) -> Float16[np.ndarray, "frames 40"]:
        """The normalised log-mel, read-only and not copied."""
        offset = self._mel_offset[utterance]
        return self._mels[int(self._mel_shard[utterance])][offset : offset + self.n_frames[utterance]]

    def split_indices(self, *splits: str) -> Int64[np.ndarray, " selected"]:
        """The utterances of one or more splits, ascending.

        Raises:
            UserError: if there is no such word for a split.
        """
        try:
            numbers = [SPLITS.index(split_name(split)) for split in splits]
        except ValueError as error:
            raise UserError(f"{self.directory}: {error}.") from error
        return np.flatnonzero(np.isin(self.split, numbers))

    def training_splits(self, stage: Literal["sen", "rdg"]) -> tuple[str, ...]:
        """The splits that a stage trains on: `train`, and in stage 2 also what was held out of a published `train` to
        choose the weights of stage 1. The test split is never one of them."""
        return ("train", "validation") if stage == "rdg" and self.validation_from_train else ("train",)

    def text(self, utterance: SupportsIndex) -> str | None:
        """The words spoken, where known."""
        return self._texts[index(utterance)].as_py()

    def language(self, utterance: SupportsIndex) -> str | None:
        """The language spoken, as the corpus names it."""
        return self._languages[index(utterance)].as_py()

    @cached_property
    def text_embeddings(self) -> TextEmbeddings:
        """Published embeddings of the captions, where `s2igan prepare` was asked for them; UserError where not."""
        return TextEmbeddings.open(self.directory)

    def mentions(self, utterance: SupportsIndex) -> tuple[str, ...]:
        """The names of the attributes that the utterance states."""
        return tuple(self._mentions[index(utterance)].as_py() or ())

    def speaker(self, utterance: SupportsIndex) -> str | None:
        code = self.speaker_index[utterance]
        return None if code < 0 else self.speakers[code]

    def audio_path(self, utterance: SupportsIndex) -> Path:
        """The recording; see also `segment`."""
        return self.corpus_root / self._audio[index(utterance)].as_py()

    def segment(self, utterance: SupportsIndex) -> tuple[float | None, float | None]:
        """Where in its recording the utterance starts and ends (seconds); None is the start or end of the recording."""
        return self._start[index(utterance)].as_py(), self._end[index(utterance)].as_py()

    def image_path(self, image: SupportsIndex) -> Path:
        """The picture as the corpus has it."""
        return self.corpus_root / self._image_path[index(image)].as_py()

    def image_attributes(self, image: SupportsIndex) -> dict[str, str]:
        """All known facts of a picture."""
        return json.loads(self._attributes[index(image)].as_py())

    @property
    def attributes(self) -> dict[str, tuple[str, ...]]:
        """Every attribute that any picture has, with all its values."""
        return {name: tuple(values) for name, values in self._stored_report["attributes"].items()}

    @cached_property
    def report(self) -> dict[str, Any]:
        """What is in the store: settings, counts in total and per split, hours of speech, rejections."""
        from s2igan.audio import FRAMES_PER_SECOND

        def counts(chosen: np.ndarray) -> dict[str, Any]:
            images, speakers = np.unique(self.image_index[chosen]), np.unique(self.speaker_index[chosen])
            return {
                "utterances": len(chosen),
                "images": len(images),
                "classes": len(np.unique(self.image_class[images])) if self.has_classes else 0,
                "speakers": int((speakers >= 0).sum()),
                "hours": round(float(self.n_frames[chosen].sum(dtype=np.int64)) / FRAMES_PER_SECOND / 3600, 4),
            }

        splits = {name: counts(self.split_indices(name)) for name in SPLITS}
        return self._stored_report | counts(np.arange(len(self))) | {"splits": splits}

    @cached_property
    def fingerprint(self) -> str:
        """A hash of what the store was made from and how; another corpus, split or setting gives another."""
        from safetensors import safe_open

        digest = hashlib.sha256(json.dumps(self._stored_report, sort_keys=True).encode())
        for name in sorted(self._stored_report["shards"]):
            with safe_open(self.directory / STORE / name, framework="np") as file:
                digest.update(file.metadata()[HEADER].encode())
        for name in (INDEX, IMAGES):
            digest.update((self.directory / STORE / name).read_bytes())
        return digest.hexdigest()

    def summary(self) -> str:
        """The report as a few lines of text."""
        report = self.report

        def line(counts: dict[str, Any]) -> str:
            words = [f"{counted(counts['utterances'], 'utterance')} ({counts['hours']:.2f} h)"]
            words.append(counted(counts["images"], "image"))
            for name, noun in (("classes", "class"), ("speakers", "speaker")):
                words += [counted(counts[name], noun)] if counts[name] else []
            return ", ".join(words)

        lines = [f"{self.directory}: {line(report)}"]
        lines += [f"  {name}: {line(counts)}" for name, counts in report["splits"].items() if counts["utterances"]]
        lines.append(f"  images stored at {self.images.shape[1]} px for training at {self.image_size} px")
        if (apart := report.get("least_differences")) and apart["species_below"]:
            lines.append(
                f"  {apart['species_below']} species outside of training differ from another one in fewer than "
                f"{apart['wanted']} attributes, at least in {apart['found']}"
            )
        if report["rejected"]:
            rejected = self.directory / REJECTED
            lines.append(f"  {report['rejected']:,} of {report['rows']:,} rows could not be used: see {rejected}")
        return "\n".join(lines)


class StoredImages:
    """An array-like of uint8 (images, S, S, 3) over the mapped shards: of each picture the square in its middle.

    `images[3]` is a read-only view; a slice, a list, an array of integers or a mask gives a new array. `whole` is all
    that is stored of a picture.
    """

    def __init__(self, shards: _MappedShards, images: pa.Table, size: int) -> None:
        self._shards = shards
        self._shard, self._offset = images["shard"].to_numpy(), images["offset"].to_numpy()
        self._length, self._wide = images["length"].to_numpy(), images["wide"].to_numpy()
        self.shape = (images.num_rows, size, size, 3)

    def __len__(self) -> int:
        return self.shape[0]

    def whole(self, image: SupportsIndex) -> UInt8[np.ndarray, "height width 3"]:
        """A picture, read-only and not copied: its shorter side has S pixels, the longer up to twice as many."""
        return self._lines(index(image), 0, int(self._length[image]))

    def _lines(self, image: int, first: int, count: int) -> UInt8[np.ndarray, "height width 3"]:
        at = int(self._offset[image]) + first
        lines = self._shards[int(self._shard[image])][at : at + count]
        return lines.swapaxes(0, 1) if self._wide[image] else lines

    def _square(self, image: int) -> UInt8[np.ndarray, "size size 3"]:
        size = self.shape[1]
        return self._lines(image, (int(self._length[image]) - size) // 2, size)

    def __getitem__(self, chosen: Any) -> UInt8[np.ndarray, "... size size 3"]:
        numbers = np.arange(len(self))[chosen]
        if numbers.ndim == 0:
            return self._square(int(numbers))
        images = np.empty((*numbers.shape, *self.shape[1:]), np.uint8)
        flat = images.reshape(-1, *self.shape[1:])
        for i, number in enumerate(numbers.ravel().tolist()):
            flat[i] = self._square(number)
        return images


class _MappedShards(dict[int, np.ndarray]):
    """The main tensor of each shard of a kind, mapped when first asked for."""

    def __init__(self, store: Path, kind: Kind) -> None:
        self._store, self._kind = store, kind

    def __missing__(self, number: int) -> np.ndarray:
        from safetensors import SafetensorError, safe_open

        path = self._store / shard_name(self._kind, number)
        try:
            # As a torch tensor, since only those are mapped and not read. The file is closed again: thousands of shards
            # must not use up the open files that a process may have.
            with safe_open(path, framework="pt") as file:
                array = file.get_tensor(self._kind).numpy()
        except (SafetensorError, OSError) as error:
            raise damaged(path, error) from error
        array.setflags(write=False)
        self[number] = array
        return array


def _codes(column: pa.ChunkedArray) -> tuple[Int32[np.ndarray, " rows"], tuple[str, ...]]:
    """A column of words as positions in the sorted list of those that occur; -1 is null."""
    encoded = column.unify_dictionaries().combine_chunks()
    words = encoded.dictionary.to_pylist()
    names = sorted(words)
    number = {name: i for i, name in enumerate(names)}
    position = np.array([number[word] for word in words] + [-1], np.int32)
    return position[encoded.indices.fill_null(-1).to_numpy()], tuple(names)
