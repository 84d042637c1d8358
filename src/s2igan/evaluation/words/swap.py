"""One found word put in the place of another: does the picture follow?

A piece of a recording that goes with a colour is cut out, and a piece that goes with another colour, from another
recording, takes its place, with short cross-fades. Pieces are found without text (`search`). What is understood of the
changed recording is read from the nearest pictures, or from a picture that the model draws.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from s2igan.audio import SAMPLE_RATE, load_audio
from s2igan.corpora.builtin.spoken_words import SpokenWord
from s2igan.data.dataset import crop_and_flip
from s2igan.data.pack import stored_log_mel
from s2igan.evaluation.attributes import AttributeClassifier
from s2igan.evaluation.conditions import embedded
from s2igan.evaluation.evaluation_split import Networks
from s2igan.evaluation.features import image_features
from s2igan.evaluation.generation import HEARD_AT_ONCE, draw_samples
from s2igan.evaluation.words.association import Ranked
from s2igan.evaluation.words.scores import word_spans
from s2igan.evaluation.words.search import Discovery
from s2igan.evaluation.words.segments import Segments
from s2igan.metrics.bootstrap import mean_interval
from s2igan.metrics.retrieval import cosine_similarity

FADE_SECONDS = 0.01
NEAREST = 10
"""Pictures of the whole set, of all splits, that say what is understood of a recording: the value that most of them
have."""
COLOUR = "_colour"
"""How attributes end whose words are exchanged."""
UNCHANGED, FOUND, TRUE, ELSEWHERE = "unchanged", "exchanged", "exchanged at true boundaries", "a piece from elsewhere"

Wave = Float[np.ndarray, " _"]


@dataclass(frozen=True)
class Piece:
    """Neighbouring segments that go with the same value of an attribute."""

    utterance: int
    """Position among the utterances of the search."""
    start_seconds: float
    end_seconds: float
    attribute: str
    value: str

    @property
    def seconds(self) -> float:
        return self.end_seconds - self.start_seconds


@dataclass(frozen=True)
class Exchange:
    """A piece, and what takes its place."""

    old: Piece
    new: Piece


def pieces_of(
    segments: Segments,
    clusters: Int[np.ndarray, " segments"],
    ranking: Ranked,
    facts: Mapping[str, Sequence[str]],
) -> list[Piece]:
    """The pieces that go with the colour that the picture has, whose clusters tell more than chance does."""
    told = [
        (ranking.attribute[c], ranking.value[c])
        if ranking.bits[c] > ranking.chance_bits and ranking.attribute[c].endswith(COLOUR)
        else None
        for c in clusters.tolist()
    ]
    pieces = []
    runs = itertools.groupby(range(len(segments)), key=lambda i: (int(segments.utterance[i]), told[i]))
    for (utterance, what), run in runs:
        if what is None or facts[what[0]][utterance] != what[1]:
            continue
        members = list(run)
        pieces.append(Piece(utterance, float(segments.start[members[0]]), float(segments.end[members[-1]]), *what))
    return pieces


def exchanges(
    pieces: Sequence[Piece], speakers: Sequence[str | None], count: int, rng: np.random.Generator
) -> list[Exchange]:
    """Pieces in random order, each with one of another value of the same attribute from another recording: that of the
    same speaker, if there is any, whose length is nearest."""
    chosen = []
    for i in rng.permutation(len(pieces)).tolist():
        old = pieces[i]
        others = sorted({piece.value for piece in pieces if piece.attribute == old.attribute} - {old.value})
        if not others:
            continue
        value = others[rng.integers(len(others))]
        new = min(
            (piece for piece in pieces if (piece.attribute, piece.value) == (old.attribute, value)),
            key=lambda piece: (
                speakers[piece.utterance] != speakers[old.utterance],
                abs(piece.seconds - old.seconds),
            ),
        )
        chosen.append(Exchange(old, new))
        if len(chosen) == count:
            break
    return chosen


def spliced(
    wave: Wave, start: float, end: float, other: Wave, other_start: float, other_end: float
) -> Float[np.ndarray, " changed"]:
    """A recording with a piece of another one in the place of its own from `start` to `end` (seconds).

    At both edges one fades into the other over `FADE_SECONDS`, the edge in the middle.
    """
    half = round(FADE_SECONDS * SAMPLE_RATE / 2)

    def cut(samples: Wave, first: float, last: float) -> Wave:
        """With half a fade more at either edge, as silence where the recording has none."""
        a, b = (min(round(time * SAMPLE_RATE), len(samples)) for time in (first, last))
        return np.pad(samples, half)[a : b + 2 * half]

    changed = cut(wave, 0, start)
    rise = np.linspace(0, 1, 2 * half, dtype=np.float32)
    for part in (cut(other, other_start, other_end), cut(wave, end, len(wave) / SAMPLE_RATE)):
        blended = changed[-2 * half :] * (1 - rise) + part[: 2 * half] * rise
        changed = np.concatenate([changed[: -2 * half], blended, part[2 * half :]])
    return changed[half:-half].astype(np.float32)


def word_span(spoken: Sequence[SpokenWord] | None, piece: Piece, seconds: float) -> tuple[float, float] | None:
    """When the colour of a piece is spoken: the utterance of that word nearest to the piece's middle."""
    spans = [(start, end) for word, start, end in word_spans(spoken or (), seconds) if word == piece.value]
    middle = (piece.start_seconds + piece.end_seconds) / 2
    return min(spans, key=lambda span: abs(sum(span) / 2 - middle), default=None)


def swap_scores(
    found: Discovery, count: int, seed: int, classifier: AttributeClassifier | None = None
) -> dict[str, Any]:
    """How often pictures follow when a found word is exchanged, as in `words.json`.

    Beside it: how often the nearest pictures have the colour that the recording as it is names; the same exchange at
    the true boundaries of the words, where those are known; and, to see what cutting alone does, as much of the new
    recording from anywhere else in it.

    Args:
        count: exchanges, where there are as many pieces.
        classifier: says what is drawn, if stage 2 is trained.
    """
    store, utterances = found.split.store, found.utterances
    rng = np.random.default_rng([seed, 0x5A4])
    pieces = pieces_of(found.segments, found.clusters, found.ranking, found.facts)
    chosen = exchanges(pieces, [store.speaker(int(u)) for u in utterances], count, rng)
    if not chosen:
        return {"exchanges": 0}
    waves = {
        i: load_audio(store.audio_path(int(utterances[i])), *store.segment(int(utterances[i])))
        for i in sorted({piece.utterance for one in chosen for piece in (one.old, one.new)})
    }
    heard: dict[str, dict[int, Wave]] = {UNCHANGED: {}, FOUND: {}, TRUE: {}, ELSEWHERE: {}}
    for number, one in enumerate(chosen):
        old, new = one.old, one.new
        wave, other = waves[old.utterance], waves[new.utterance]
        seconds = [len(samples) / SAMPLE_RATE for samples in (wave, other)]
        heard[UNCHANGED][number] = wave
        heard[FOUND][number] = spliced(
            wave, old.start_seconds, old.end_seconds, other, new.start_seconds, new.end_seconds
        )
        start = _elsewhere(new, seconds[1], rng)
        heard[ELSEWHERE][number] = spliced(wave, old.start_seconds, old.end_seconds, other, start, start + new.seconds)
        spans = [
            word_span(found.spoken[piece.utterance], piece, length)
            for piece, length in zip((old, new), seconds, strict=True)
        ]
        if spans[0] is not None and spans[1] is not None:
            heard[TRUE][number] = spliced(wave, *spans[0], other, *spans[1])
    asked = {kind: [(chosen[i].old if kind == UNCHANGED else chosen[i].new) for i in of] for kind, of in heard.items()}
    readings: dict[str, Callable[[Sequence[Wave], Sequence[Piece]], Float[np.ndarray, " _"]]] = {
        "nearest pictures": _Nearest(found)
    }
    if found.networks.model is not None and classifier is not None:
        readings["drawn"] = _Drawn(found.networks, classifier, seed)
    species = np.array([store.image_class[store.image_index[utterances[one.old.utterance]]] for one in chosen])
    scores: dict[str, Any] = {}
    for name, reads in readings.items():
        scores[name] = {}
        for kind, of in heard.items():
            if of:
                right = reads(list(of.values()), asked[kind])
                scores[name][kind] = {
                    "share": float(right.mean()),
                    "interval": mean_interval(right, species[list(of)], seed=seed),
                    "count": len(right),
                }
    values = [len(set(found.facts[one.old.attribute])) for one in chosen]
    return {
        "exchanges": len(chosen),
        "mean_seconds": float(np.mean([one.old.seconds for one in chosen])),
        "chance": float(np.mean([1 / n for n in values])),
        "scores": scores,
    }


def _elsewhere(piece: Piece, seconds: float, rng: np.random.Generator) -> float:
    """Where in its recording another piece as long begins, beside it where there is room."""
    before, after = piece.start_seconds - piece.seconds, seconds - piece.end_seconds - piece.seconds
    room = [max(0.0, before), max(0.0, after)]
    at = rng.random() * sum(room)
    if not sum(room):
        return 0.0
    return at if at < room[0] else piece.end_seconds + at - room[0]


class _Nearest:
    """Of each recording, whether most of the nearest pictures have a value."""

    def __init__(self, found: Discovery) -> None:
        store = found.split.store
        self.networks, self.window = found.networks, store.window
        every = np.arange(len(store.images))
        self.images = image_features(
            found.networks.image, store.images, every, crop=found.networks.image_size, project=True
        )
        self.facts = [store.image_attributes(int(image)) for image in every]

    def __call__(self, waves: Sequence[Wave], asked: Sequence[Piece]) -> Float[np.ndarray, " recordings"]:
        mels = [stored_log_mel(wave, self.window).astype(np.float32) for wave in waves]  # type: ignore[arg-type]
        cosines = cosine_similarity(embedded(self.networks, mels), self.images)
        near = np.argpartition(-cosines, NEAREST, axis=1)[:, :NEAREST]
        return np.array([self._most(rows, piece) for rows, piece in zip(near, asked, strict=True)], np.float64)

    def _most(self, rows: Int[np.ndarray, " nearest"], piece: Piece) -> bool:
        values, counts = np.unique([self.facts[row][piece.attribute] for row in rows], return_counts=True)
        return bool(values[counts.argmax()] == piece.value)


class _Drawn:
    """Of each recording, whether a picture drawn for it shows a value; the noise is the same for all."""

    def __init__(self, networks: Networks, classifier: AttributeClassifier, seed: int) -> None:
        assert networks.model is not None
        self.model, self.classifier = networks.model, classifier
        self.noise = self.model.noise(1, seed)

    def __call__(self, waves: Sequence[Wave], asked: Sequence[Piece]) -> Float[np.ndarray, " recordings"]:
        right = []
        for at in range(0, len(waves), HEARD_AT_ONCE):
            condition = self.model.hear(waves[at : at + HEARD_AT_ONCE])
            noise = self.noise[None].expand(len(condition.embedding), -1, -1)
            pictures = draw_samples(self.model, condition, noise)[:, 0]
            shown = self.classifier.predict(crop_and_flip(pictures, pictures.shape[1], None))
            for row, piece in enumerate(asked[at : at + HEARD_AT_ONCE]):
                known = self.classifier.attributes[piece.attribute]
                right.append(known[shown[piece.attribute][row]] == piece.value)
        return np.array(right, np.float64)
