"""Finding without drawing: the pictures of a prepared corpus that are nearest to what is said, and the recordings that
are nearest to a picture. With a few hundred recordings this works long before drawing does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image

from s2igan.audio import Audio
from s2igan.corpora.importers.source_files import IMAGE_SUFFIXES
from s2igan.data.dataset import crop_and_flip
from s2igan.data.images import load_image
from s2igan.data.store import Store
from s2igan.devices import choose_device
from s2igan.errors import UserError
from s2igan.evaluation.extractors import Embedding, Extraction
from s2igan.files import disk_errors
from s2igan.generate import CONTACT_SHEET, Recording, contact_sheet
from s2igan.listener import Listener
from s2igan.models.encoders import Encoder
from s2igan.models.exported import ExportedModel, FrontEnd, find_model
from s2igan.models.image_encoder import ImageEncoder, digest_of
from s2igan.pictures import write_picture
from s2igan.run_directory import SEN_FOLDER, has_stage_1_alone
from s2igan.training.frozen import speech_embeddings

ALL = "all"
"""Every split."""
SHEET_SIDE = 160
"""Side in pixels of the pictures on a contact sheet."""


@dataclass(frozen=True)
class Found:
    """A picture or an utterance of the corpus."""

    number: int
    """In the store: of the image, or of the utterance."""
    similarity: float
    """Cosine of the embeddings, -1 to 1."""


@dataclass(frozen=True)
class Finder:
    """Both encoders of stage 1 and a prepared corpus."""

    speech: Listener
    """Hears the queries."""
    image: ImageEncoder
    image_size: int
    """Side in pixels of the images that the image encoder was trained on."""
    store: Store
    split: str = ALL

    @classmethod
    def load(cls, model: str | Path, data: str | Path, split: str = ALL, device: str | None = None) -> Finder:
        """Reads a model, or a run of which only stage 1 is finished, and opens a prepared corpus.

        Raises:
            UserError: one of them cannot be read, the model's speech encoder cannot hear or does not know such
                spectrograms, or the split has no utterances.
        """
        where = choose_device(device)
        first_stage_only = has_stage_1_alone(Path(model))
        exported = ExportedModel.read(Path(model) / SEN_FOLDER if first_stage_only else find_model(model))
        store = Store.open(data)
        front_end = exported.front_end
        if first_stage_only:  # which was trained on this window, and records none
            front_end = FrontEnd(window="hamming" if store.window == "hamming" else "hann")
        if front_end.window != store.window:
            raise UserError(
                f"{store.directory}: its spectrograms are through a {store.window} window and the model learnt from "
                f"a {front_end.window} one; prepare the corpus with --window {front_end.window}."
            )
        image = exported.image_encoder().to(where).eval()
        finder = cls(
            Listener(exported.speech_encoder(), front_end, where),
            image,
            min(exported.image_size, store.image_size),
            store,
            split,
        )
        if len(finder.utterances) == 0:
            raise UserError(f"{store.directory}: the split {split!r} has no utterances; name another, or all.")
        return finder

    @cached_property
    def utterances(self) -> Int[np.ndarray, " utterances"]:
        """Numbers in the store of those that are looked through."""
        return np.arange(len(self.store)) if self.split == ALL else self.store.split_indices(self.split)

    @cached_property
    def images(self) -> Int[np.ndarray, " images"]:
        """The same of the pictures: those that the utterances describe."""
        return np.unique(self.store.image_index[self.utterances]).astype(np.int64)

    def prepare(self) -> None:
        """Embeds the corpus's pictures now, and not at the first recording (they are cached for the next time)."""
        _ = self._images

    def pictures(self, audio: Audio, k: int) -> list[Found]:
        """The k pictures that are nearest to a recording; UserError where it cannot be used."""
        return _nearest(self._images @ self.speech.embed(audio).numpy(), self.images, k)

    def recordings(self, picture: Path, k: int) -> list[Found]:
        """The k utterances that are nearest to a picture; UserError where it cannot be read."""
        pixels = load_image(picture, self.store.images.shape[1])
        images = crop_and_flip(pixels[None], self.image_size, None)
        with torch.inference_mode():
            query = self.image(images.to(self.speech.device))[0].cpu().numpy()
        return _nearest(self._speech @ query, self.utterances, k)

    @cached_property
    def _images(self) -> Float[np.ndarray, "images embedding"]:
        reader = Embedding("pictures", self.image, {"image_encoder": digest_of(self.image)})
        return Extraction([reader]).of_stored(self.store, self.images, crop=self.image_size)["pictures"]

    @cached_property
    def _speech(self) -> Float[np.ndarray, "utterances embedding"]:
        with torch.inference_mode():
            encoder: Encoder = self.speech.speech_encoder
            return speech_embeddings(self.store, encoder, self.utterances, device=self.speech.device).numpy()


def _nearest(similarities: Float[np.ndarray, " n"], numbers: Int[np.ndarray, " n"], k: int) -> list[Found]:
    order = np.argsort(-similarities, kind="stable")[:k]
    return [Found(int(numbers[row]), float(similarities[row])) for row in order]


def is_picture(name: str) -> bool:
    """Whether a query is a picture; everything else is a recording."""
    return Path(name).suffix.lower() in IMAGE_SUFFIXES


def find_files(finder: Finder, queries: Sequence[Recording], out: Path, k: int) -> Iterator[dict[str, Any] | UserError]:
    """Writes `contact-sheet.png`, a row of pictures for each query; a query that is a picture begins its row.

    Yields a record of everything found: query, rank, similarity, image, and where a picture was asked about, audio
    with start_seconds and end_seconds; and the error of each query that cannot be used.
    """
    store = finder.store
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    rows: list[list[Image.Image]] = []
    for query in queries:
        row: list[Image.Image] = []
        try:
            if is_picture(query.name):
                found = finder.recordings(Path(query.name), k)
                row.append(Image.fromarray(load_image(query.name, SHEET_SIDE)))
            else:
                found = finder.pictures(query.audio, k)
        except UserError as error:
            yield error
            continue
        for rank, one in enumerate(found, start=1):
            facts: dict[str, Any] = {"query": query.name, "rank": rank, "similarity": round(one.similarity, 4)}
            image = one.number
            if is_picture(query.name):
                start, end = store.segment(one.number)
                heard = {"audio": str(store.audio_path(one.number)), "start_seconds": start, "end_seconds": end}
                facts |= {name: value for name, value in heard.items() if value is not None}
                image = int(store.image_index[one.number])
            row.append(Image.fromarray(store.images[image]).resize((SHEET_SIDE, SHEET_SIDE)))
            yield {**facts, "image": str(store.image_path(image))}
        rows.append(row)
    if rows:
        write_picture(out / CONTACT_SHEET, contact_sheet(rows))
