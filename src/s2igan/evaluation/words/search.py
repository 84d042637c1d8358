"""The search for words in the recordings of a split, from frames to a record of what was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from s2igan.audio import HOP_LENGTH, SAMPLE_RATE
from s2igan.corpora.builtin.spoken_words import SpokenWord, WordTimes
from s2igan.data.store import Store
from s2igan.errors import UserError
from s2igan.evaluation.drawings import drawn_set_of
from s2igan.evaluation.evaluation_split import EvaluationSplit, Networks
from s2igan.evaluation.features import image_features
from s2igan.evaluation.subject import Subject
from s2igan.evaluation.words.association import Ranked, ranked
from s2igan.evaluation.words.frames import FineFrames, FrameTimes, fine_frames
from s2igan.evaluation.words.options import WordSearch
from s2igan.evaluation.words.scores import TOLERANCE_SECONDS, Named, scored
from s2igan.evaluation.words.segments import (
    Clustering,
    Segments,
    clustered,
    equal_boundaries,
    segmented_and_clustered,
    shuffled_boundaries,
)
from s2igan.models.speech_encoder import SpeechEncoder

DEFAULTS = WordSearch()


@dataclass(frozen=True)
class Example:
    """A segment to play."""

    utterance: int
    """Number in the store, as `image`."""
    image: int
    start_seconds: float
    end_seconds: float


@dataclass(frozen=True)
class FoundWord:
    """A cluster of segments."""

    number: int
    segments: int
    utterances: int
    """That it is heard in."""
    bits: float
    attribute: str
    value: str
    lift: float
    said: str | None
    """The word that most of its segments are, where that is known."""
    share: float | None
    """Of its segments that are this word."""
    examples: tuple[Example, ...]
    """Those nearest to its middle, each of another recording."""


@dataclass(frozen=True)
class Discovery:
    """What a search found, the words that tell most first."""

    split: EvaluationSplit
    networks: Networks
    utterances: Int[np.ndarray, " utterances"]
    """That were searched; numbers in the store."""
    segments: Segments
    clusters: Int[np.ndarray, " segments"]
    """The cluster of each segment."""
    ranking: Ranked
    facts: Mapping[str, Sequence[str]]
    """Of each utterance's picture, by attribute."""
    spoken: Sequence[Sequence[SpokenWord] | None]
    """The words of each utterance, where they are known: to score by."""
    words: list[FoundWord]
    record: dict[str, Any]
    """As in `words.json`: settings, counts, scores."""


def find_words(
    run: str | Path,
    data_dir: str | Path,
    *,
    search: WordSearch = DEFAULTS,
    split: str = "test",
    seed: int = 0,
    device: torch.device | None = None,
) -> Discovery:
    """Look for words in the recordings of a split.

    Raises:
        UserError: the run or the set cannot be read, its encoder is not the paper's, it has no attributes where they
            are asked for, or scikit-learn is not installed.
    """
    store = Store.open(data_dir)
    chosen = EvaluationSplit.of(store, split)
    networks = Networks.load(Subject.of(run), device or torch.device("cpu"))
    if not isinstance(networks.speech, SpeechEncoder):
        raise UserError(f"{run}: words are found in the frames of the paper's speech encoder; this run has another.")
    order = np.random.default_rng([seed, 0x30D]).permutation(chosen.utterances)
    utterances = np.sort(order[: search.utterances])
    frames = fine_frames(networks.speech, store, utterances)
    times = FrameTimes.of(networks.speech)
    seconds = store.n_frames[utterances] * (HOP_LENGTH / SAMPLE_RATE)

    found = segmented_and_clustered(frames, seconds, times, search, seed)
    segments, clusters = found.segments, found.clusters
    present = np.zeros((len(utterances), search.clusters), bool)
    present[segments.utterance, clusters] = True
    facts = facts_of(networks, chosen, utterances, search, seed)
    ranking = ranked(present, facts, seed)
    spoken = words_spoken(store, utterances)
    names, scores = _compared(found, frames, spoken, seconds, times, facts, search.clusters, seed)
    words = [
        _word(number, found, ranking, names, store, utterances, search.examples)
        for number in np.argsort(-ranking.bits, kind="stable").tolist()
    ]
    record = {
        "split": split,
        "voices": chosen.voices,
        "seed": seed,
        "search": asdict(search),
        "utterances": len(utterances),
        "segments": len(segments),
        "utterances_with_known_words": sum(of_one is not None for of_one in spoken),
        "tolerance_seconds": TOLERANCE_SECONDS,
        "chance_bits": ranking.chance_bits,
        "scores": scores,
        "words": [asdict(word) for word in words],
    }
    return Discovery(chosen, networks, utterances, segments, clusters, ranking, facts, spoken, words, record)


def _compared(
    found: Clustering,
    frames: Sequence[FineFrames],
    spoken: Sequence[Sequence[SpokenWord] | None],
    seconds: Float[np.ndarray, " utterances"],
    times: FrameTimes,
    facts: Mapping[str, Sequence[str]],
    n_clusters: int,
    seed: int,
) -> tuple[Named | None, dict[str, Any]]:
    """The clusters by the words spoken, and the scores of what was found and of as many segments that are equally long
    or begin anywhere; None and nothing where no words are known."""
    if all(words is None for words in spoken):
        return None, {}
    colours = sorted({value for name in facts if name.endswith("_colour") for value in facts[name]})
    names, of_found = scored(found.segments, found.clusters, spoken, seconds, colours)
    scores = {"found": of_found}
    local, rng = [each.local for each in frames], np.random.default_rng([seed, 0x5B0])
    pairs = list(zip(local, found.starts, strict=True))
    others = {
        "equally long": [equal_boundaries(len(f), len(starts)) for f, starts in pairs],
        "shuffled": [shuffled_boundaries(len(f), len(starts), rng) for f, starts in pairs],
    }
    for name, starts in others.items():
        other = Segments.of(local, starts, seconds, times)
        in_clusters, *_ = clustered(other.vectors, n_clusters, seed)
        _, scores[name] = scored(other, in_clusters, spoken, seconds, colours)
    return names, scores


def _word(
    number: int,
    found: Clustering,
    ranking: Ranked,
    names: Named | None,
    store: Store,
    utterances: Int[np.ndarray, " utterances"],
    examples: int,
) -> FoundWord:
    """A cluster by its number."""
    segments, members = found.segments, np.flatnonzero(found.clusters == number)
    nearest = members[np.argsort(found.distances[members], kind="stable")]
    heard_in, first = np.unique(segments.utterance[nearest], return_index=True)
    return FoundWord(
        number,
        segments=len(members),
        utterances=len(heard_in),
        bits=float(ranking.bits[number]),
        attribute=ranking.attribute[number],
        value=ranking.value[number],
        lift=float(ranking.lift[number]),
        said=None if names is None else names.word[number],
        share=None if names is None else float(names.share[number]),
        examples=tuple(
            Example(
                utterance=int(utterances[segments.utterance[i]]),
                image=int(store.image_index[utterances[segments.utterance[i]]]),
                start_seconds=float(segments.start[i]),
                end_seconds=float(segments.end[i]),
            )
            for i in nearest[np.sort(first)][:examples]
        ),
    )


def facts_of(
    networks: Networks, split: EvaluationSplit, utterances: Int[np.ndarray, " some"], search: WordSearch, seed: int
) -> dict[str, list[str]]:
    """Of each utterance's picture: its attributes by name, or else the kind of picture that it is.

    Raises:
        UserError: attributes are asked for and the set has none.
    """
    store = split.store
    if search.against == "attributes" and not store.attributes:
        raise UserError(f"{store.directory}: no attributes of the pictures are known; leave --against out.")
    images = store.image_index[utterances]
    if store.attributes and search.against != "pictures":
        known = {int(image): store.image_attributes(int(image)) for image in np.unique(images)}
        return {name: [known[int(image)].get(name, "unknown") for image in images] for name in store.attributes}
    embedded = image_features(networks.image, store.images, split.images, crop=networks.image_size, project=True)
    kinds, *_ = clustered(embedded, min(search.picture_clusters, len(embedded)), seed)
    return {"picture": [f"kind {kinds[i] + 1}" for i in np.searchsorted(split.images, images)]}


def words_spoken(store: Store, utterances: Int[np.ndarray, " some"]) -> list[list[SpokenWord] | None]:
    """The words of each utterance, where a drawn set tells."""
    drawn = drawn_set_of(store)
    if drawn is None:
        return [None] * len(utterances)
    try:
        times = WordTimes(store, drawn)
        return [times.of(int(utterance)) for utterance in utterances]
    except UserError:  # another version of the set, or espeak-ng is not installed
        return [None] * len(utterances)
