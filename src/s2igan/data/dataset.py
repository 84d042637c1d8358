"""Batches for training, drawn from a prepared store.

Nothing here keeps a random state: whoever asks brings a `numpy.random.Generator`, which training derives from (seed,
stage, step). A resumed run therefore sees the batches that an uninterrupted one would have seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from s2igan.data.store import Store
from s2igan.errors import UserError
from s2igan.text import one_hot


class SpeechImageData:
    """One split of a store, or several: the images, the utterances that describe each, and their classes.

    Positions (`0 <= position < len(self)`) number the images of this split; `images[position]` is the image's number
    in the store. Sets without classes are handled as the paper does (method.md 5): every image is its own class,
    and the similar image is a second crop of the same one.

    Raises:
        UserError: the split has no utterances.
    """

    def __init__(self, store: Store, split: str | tuple[str, ...], image_size: int) -> None:
        self.store = store
        self.image_size = image_size
        splits = (split,) if isinstance(split, str) else split
        self.utterances = np.asarray(store.split_indices(*splits), dtype=np.int64)
        if len(self.utterances) == 0:
            raise UserError(
                f"The store {store.directory} has no utterances in its {splits[0]!r} split; prepare it with such a "
                "split."
            )
        stored_size = store.images.shape[1]
        if stored_size < image_size:
            raise UserError(
                f"The store {store.directory} holds images of {stored_size} px, too small for training at "
                f"{image_size} px; prepare it again with --size {image_size}."
            )
        if store.image_size > image_size:
            raise UserError(
                f"The store {store.directory} was prepared for training at {store.image_size} px, of which a crop of "
                f"{image_size} px shows a corner; prepare it again with --size {image_size}, or choose a recipe of "
                f"{store.image_size} px."
            )
        image_of_utterance = np.asarray(store.image_index)[self.utterances]
        self.images, position_of_utterance = np.unique(image_of_utterance, return_inverse=True)
        order = np.argsort(position_of_utterance, kind="stable")
        self._captions = self.utterances[order]
        self._first = np.searchsorted(position_of_utterance[order], np.arange(len(self.images) + 1))

        self.has_classes = bool(store.has_classes)
        store_class = np.asarray(store.image_class)[self.images] if self.has_classes else self.images
        present, self.classes = np.unique(store_class, return_inverse=True)
        self.n_classes = len(present)
        self._by_class = np.argsort(self.classes, kind="stable")
        self._class_first = np.searchsorted(self.classes[self._by_class], np.arange(self.n_classes + 1))
        self._place_by_class = np.empty(len(self.images), dtype=np.int64)
        self._place_by_class[self._by_class] = np.arange(len(self.images))

    def __len__(self) -> int:
        return len(self.images)

    def positions(self, step: int, batch_size: int, seed: int) -> Int[np.ndarray, " batch"]:
        """Image positions of one step: every epoch is a new permutation of the split, its incomplete last batch
        dropped.

        A split smaller than the batch is repeated until it fills one.
        """
        epoch, index = divmod(step, self.steps_per_epoch(batch_size))
        return _epoch(len(self), epoch, batch_size, seed)[index]

    def pairs_of_similar_length(
        self, step: int, batch_size: int, seed: int, window: int
    ) -> tuple[Int[np.ndarray, " batch"], Int[np.ndarray, " batch"]]:
        """Image positions of one step and a random utterance for each, the utterances of a batch being of similar
        length.

        An epoch has the images of `positions`. Each `window` consecutive batches of it (the last one may hold fewer)
        are sorted by the utterances' number of frames, ties at random, and cut anew; in which order they come is
        random. No other step need be drawn before.
        """
        epoch, index = divmod(step, self.steps_per_epoch(batch_size))
        first = index - index % window
        batches = _epoch(len(self), epoch, batch_size, seed)[first : first + window]
        positions = batches.ravel()
        rng = np.random.default_rng([seed, 0x1E9, epoch, first])
        utterances = self.caption(positions, rng)
        ties = rng.random(len(utterances))
        by_length = np.lexsort((ties, self.store.n_frames[utterances])).reshape(batches.shape)
        # Within the batch the epoch's order again: processes that share it get short and long ones alike.
        rows = np.sort(rng.permutation(by_length)[index - first])
        return positions[rows], utterances[rows]

    def steps_per_epoch(self, batch_size: int) -> int:
        """Optimiser steps in one pass over the images (one random caption each)."""
        return max(1, len(self) // batch_size)

    def caption(self, positions: Int[np.ndarray, " batch"], rng: np.random.Generator) -> Int[np.ndarray, " batch"]:
        """One random utterance (its number in the store) for each image."""
        first, last = self._first[positions], self._first[positions + 1]
        return self._captions[first + (rng.random(len(positions)) * (last - first)).astype(np.int64)]

    def similar(self, positions: Int[np.ndarray, " batch"], rng: np.random.Generator) -> Int[np.ndarray, " batch"]:
        """Another image of the same class; the same image where its class has no other."""
        label = self.classes[positions]
        first, count = self._class_first[label], self._class_first[label + 1] - self._class_first[label]
        shift = np.where(count > 1, 1 + (rng.random(len(positions)) * (count - 1)).astype(np.int64), 0)
        return self._by_class[first + (self._place_by_class[positions] - first + shift) % count]

    def mismatched(self, positions: Int[np.ndarray, " batch"], rng: np.random.Generator) -> Int[np.ndarray, " batch"]:
        """A random image of another class, all images of other classes being equally likely.

        Raises:
            UserError: all images of the split are of one class.
        """
        if self.n_classes < 2:
            raise UserError(f"The store {self.store.directory} has a single class; mismatched pairs need at least two.")
        label = self.classes[positions]
        first, last = self._class_first[label], self._class_first[label + 1]
        others = len(self) - (last - first)
        drawn = (rng.random(len(positions)) * others).astype(np.int64)
        return self._by_class[np.where(drawn < first, drawn, drawn + (last - first))]

    def crops(
        self,
        positions: Int[np.ndarray, " batch"],
        rng: np.random.Generator | None,
        rows: slice | Int[np.ndarray, " _"] = slice(None),
        reach: float = 1.0,
        side: int | None = None,
    ) -> Float[Tensor, "_ 3 side side"]:
        """Images in [-1, 1]: a random crop and a random flip; the centre crop where rng is None.

        Args:
            rows: only these are read; they are cropped as they would be among all.
            reach: share of the stored picture's margins around its middle that crops keep to; with 1 they are anywhere
                on it.
            side: of a crop in pixels; the training size unless given.
        """
        pictures = [self.store.images.whole(image) for image in self.images[positions]]
        return crop_and_flip(pictures, side or self.image_size, rng, rows, reach)


@lru_cache(maxsize=1)
def _epoch(n_images: int, epoch: int, batch_size: int, seed: int) -> Int[np.ndarray, "batches batch"]:
    """Image positions of all steps of an epoch; kept, since drawing takes as long as the split is large."""
    order = np.random.default_rng([seed, 0x5E9, epoch]).permutation(n_images)
    if n_images < batch_size:
        order = np.resize(order, batch_size)
    batches = max(1, n_images // batch_size)
    drawn = order[: batches * batch_size].reshape(batches, batch_size)
    drawn.flags.writeable = False
    return drawn


def draw_other_views(
    views: Int[np.ndarray, " batch"], is_same: Bool[np.ndarray, " batch"], n_views: int, rng: np.random.Generator
) -> Int[np.ndarray, " batch"]:
    """A view, of `n_views` computed before, of each image that is paired with one of which `views` were drawn.

    Where both are the same image (`similar` in sets without classes) it is another view of it: the pair is two crops of
    one image, as where crops are drawn anew, and not twice the same.

    Raises:
        UserError: an image is paired with itself and there is one view alone.
    """
    drawn = rng.integers(0, n_views, len(views))
    if is_same.any():
        if n_views < 2:
            raise UserError(
                "In a set without classes a pair of similar images is two views of one image, and image_views is 1; "
                "choose 2 or more, or 0 to crop anew in each step."
            )
        drawn[is_same] = (views[is_same] + rng.integers(1, n_views, is_same.sum())) % n_views
    return drawn


def encoder_input(
    store: Store,
    utterances: Int[np.ndarray, " batch"],
    reads: Literal["speech", "text", "embeddings"],
    window: tuple[int, np.random.Generator] | None = None,
) -> tuple[Float[Tensor, "batch frames bands"], Int[Tensor, " batch"]]:
    """What an encoder reads of utterances (their numbers in the store), zero-padded to the longest, and the lengths.

    Log-mels, and with ``window`` a random part of so many frames of those that are longer; for the baselines that read
    text, one-hot characters, or one frame that is a published embedding of the text.

    Raises:
        UserError: text is wanted and an utterance has none, or there is no embedding of it.
    """
    if reads == "speech":
        mels = [store.mel(int(index)) for index in utterances]
        return pad_mels(mels if window is None else [_part(mel, *window) for mel in mels])
    if reads == "embeddings":
        rows = store.text_embeddings.rows[embedding_rows(store, utterances)]
        return torch.from_numpy(rows[:, None].astype(np.float32)), torch.ones(len(rows), dtype=torch.int64)
    named = zip(texts_of(store, utterances), utterances, strict=True)
    return pad_mels([one_hot(text, f"The text of {_named(store, index)}") for text, index in named])


def _part(mel: np.ndarray, longest: int, rng: np.random.Generator) -> np.ndarray:
    """All of a log-mel (frames, mels), or a random part of one that is longer than `longest`; only those draw."""
    start = int(rng.integers(0, len(mel) - longest + 1)) if len(mel) > longest else 0
    return mel[start : start + longest]


def embedding_rows(store: Store, utterances: Int[np.ndarray, " batch"]) -> Int[np.ndarray, " batch"]:
    """The rows of `Store.text_embeddings` with the embeddings of utterances.

    Raises:
        UserError: there are no embeddings, an utterance has no text, or its text has no embedding.
    """
    embeddings = store.text_embeddings
    texts = texts_of(store, utterances)
    rows = embeddings.find(texts)
    if (rows < 0).any():
        missing = int(np.argmin(rows))
        raise UserError(
            f"{embeddings.path}: has no embedding of {(rows < 0).sum():,} of {len(rows):,} captions, such as "
            f"{texts[missing]!r} of {_named(store, utterances[missing])}; run 's2igan prepare' again with "
            "--text-embeddings."
        )
    return rows


def texts_of(store: Store, utterances: Int[np.ndarray, " batch"]) -> list[str]:
    """The words of utterances.

    Raises:
        UserError: one has none.
    """
    texts = []
    for index in utterances:
        text = store.text(int(index))
        if not text:
            raise UserError(
                f"{_named(store, index)} has no text; a recipe that reads text needs one for every utterance."
            )
        texts.append(text)
    return texts


def _named(store: Store, index: int | np.integer) -> str:
    return f"{store.audio_path(int(index))} in the manifest"


def crop_and_flip(
    pictures: Sequence[np.ndarray] | np.ndarray,
    size: int,
    rng: np.random.Generator | None,
    rows: slice | Int[np.ndarray, " _"] = slice(None),
    reach: float = 1.0,
) -> Float[Tensor, "_ 3 size size"]:
    """uint8 pictures (height, width, 3) -> [-1, 1] (batch, 3, size, size), channels last in memory: a random crop and
    flip of each, or the square in its middle where rng is None.

    Only those of ``rows`` are read and returned, with the draws that they have among all. Crops keep to the share
    ``reach`` of the margins.
    """
    spare = np.array([picture.shape[:2] for picture in pictures]).T - size
    if rng is None:
        top, left = spare // 2
        flip = np.zeros(len(pictures), dtype=bool)
    else:
        kept = (spare * reach).astype(np.int64)
        top, left = (spare - kept) // 2 + rng.integers(0, kept + 1)
        flip = rng.random(len(pictures)) < 0.5
    chosen = np.arange(len(pictures))[rows]
    out = np.empty((len(chosen), size, size, 3), dtype=np.uint8)
    for to, i in zip(out, chosen, strict=True):
        crop = pictures[i][top[i] : top[i] + size, left[i] : left[i] + size]
        to[:] = crop[:, ::-1] if flip[i] else crop
    return torch.from_numpy(out).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


def pad_mels(mels: list[np.ndarray]) -> tuple[Float[Tensor, "batch frames mels"], Int[Tensor, " batch"]]:
    """Zero-pad float16 or float32 inputs such as log-mels (frames, mels) to the longest; returns float32 and the
    lengths."""
    lengths = torch.tensor([len(mel) for mel in mels])
    padded = torch.zeros(len(mels), int(lengths.max()), mels[0].shape[1])
    for row, mel in zip(padded, mels, strict=True):
        row[: len(mel)] = torch.from_numpy(np.asarray(mel, dtype=np.float32))
    return padded, lengths
