"""A found word in the place of another: what is cut out, what takes its place, and what is read of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from s2igan.corpora.builtin.birds import DRAWN_SET as BIRDS
from s2igan.corpora.builtin.drawn import prepare
from s2igan.corpora.builtin.invented import spoken_in
from s2igan.corpora.builtin.spoken_words import SpokenWord
from s2igan.data.store import Store
from s2igan.evaluation.words.association import Ranked
from s2igan.evaluation.words.options import WordSearch
from s2igan.evaluation.words.search import Discovery, find_words
from s2igan.evaluation.words.segments import Segments
from s2igan.evaluation.words.swap import (
    ELSEWHERE,
    FADE_SECONDS,
    FOUND,
    TRUE,
    UNCHANGED,
    Exchange,
    Piece,
    exchanges,
    pieces_of,
    spliced,
    swap_scores,
    word_span,
)
from small_birds import KnownPictures, make_flow_run, make_run

RATE = 22050


# --------------------------------------------------------------------------------------------------------- the splicing


def test_a_piece_takes_the_place_of_another_and_edges_fade():
    wave, other = np.full(RATE, 1.0, np.float32), np.full(RATE, -1.0, np.float32)
    changed = spliced(wave, 0.2, 0.5, other, 0.4, 0.6)
    assert changed.dtype == np.float32
    assert len(changed) == RATE - round(0.3 * RATE) + round(0.2 * RATE)
    half = round(FADE_SECONDS * RATE / 2)
    first, last = round(0.2 * RATE), round(0.4 * RATE)
    assert (changed[: first - half] == 1).all()
    assert (changed[first + half : last - half] == -1).all()
    assert (changed[last + half :] == 1).all()
    fade = changed[first - half : first + half]
    np.testing.assert_allclose(fade, np.linspace(1, -1, 2 * half), atol=1e-6)


def test_a_piece_in_its_own_place_changes_nothing():
    wave = np.random.default_rng(0).standard_normal(RATE).astype(np.float32)
    np.testing.assert_allclose(spliced(wave, 0.31, 0.52, wave, 0.31, 0.52), wave, atol=1e-6)


@pytest.mark.parametrize(("start", "end"), [(0.0, 0.3), (0.7, 1.0), (0.7, 1.01), (0.0, 1.0)])
def test_pieces_at_the_ends_are_replaced_too(start, end):
    wave, other = np.ones(RATE, np.float32), np.full(RATE, -1.0, np.float32)
    changed = spliced(wave, start, end, other, 0.0, 1.0)
    assert len(changed) == RATE - round(min(end, 1.0) * RATE) + round(start * RATE) + RATE
    assert changed[round(start * RATE) + RATE // 2] == -1


# ----------------------------------------------------------------------------------------------------------- the pieces


def pieces_where(heads: list[str]) -> list[Piece]:
    """Of two utterances whose pictures have these heads; clusters 0 and 1 are red and blue, 2 says nothing, 3 is of the
    tail and 4 below chance."""
    ranking = Ranked(
        np.array([0.2, 0.3, 0.01, 0.4, 0.04]),
        ["head_colour", "head_colour", "head_colour", "tail_length", "head_colour"],
        ["red", "blue", "red", "long", "red"],
        np.ones(5),
        0.05,
    )
    segments = Segments(
        np.array([0, 0, 0, 0, 0, 1, 1, 1]),
        np.array([0.0, 0.2, 0.4, 0.6, 0.8, 0.0, 0.3, 0.6]),
        np.array([0.2, 0.4, 0.6, 0.8, 1.0, 0.3, 0.6, 0.9]),
        np.zeros((8, 1)),
    )
    facts = {"head_colour": heads, "tail_length": ["long", "long"]}
    return pieces_of(segments, np.array([2, 0, 0, 3, 0, 1, 4, 0]), ranking, facts)


def test_pieces_are_neighbouring_segments_that_go_with_the_colour_of_the_picture():
    assert pieces_where(["red", "blue"]) == [
        Piece(0, 0.2, 0.6, "head_colour", "red"),
        Piece(0, 0.8, 1.0, "head_colour", "red"),
        Piece(1, 0.0, 0.3, "head_colour", "blue"),
    ]
    assert pieces_where(["green", "green"]) == []


def test_another_value_of_the_same_speaker_and_length_takes_the_place():
    red = Piece(0, 0.2, 0.6, "head_colour", "red")
    blue = [Piece(i, 0.0, seconds, "head_colour", "blue") for i, seconds in ((1, 0.4), (2, 0.3), (3, 0.1))]
    other = Piece(2, 0.0, 0.4, "wing_colour", "green")
    chosen = exchanges([red, *blue, other], ["ann", "bob", "ann", "ann"], 9, np.random.default_rng(0))
    of_red = [one for one in chosen if one.old == red]
    assert [one.new for one in of_red] == [blue[1]]
    assert {one.old for one in chosen} == {red, *blue}
    assert all(one.new == red for one in chosen if one.old != red)
    assert len(exchanges([red, *blue, other], ["ann"] * 4, 2, np.random.default_rng(0))) == 2


def test_the_true_word_is_the_nearest_of_its_kind():
    spoken = [SpokenWord("red", 0.1), SpokenWord("head", 0.3), SpokenWord("red", 0.8)]
    assert word_span(spoken, Piece(0, 0.7, 0.9, "x_colour", "red"), 1.2) == (0.8, 1.2)
    assert word_span(spoken, Piece(0, 0.0, 0.3, "x_colour", "red"), 1.2) == (0.1, 0.3)
    assert word_span(spoken, Piece(0, 0.0, 0.3, "x_colour", "blue"), 1.2) is None
    assert word_span(None, Piece(0, 0.0, 0.3, "x_colour", "blue"), 1.2) is None


# ----------------------------------------------------------------------------------------------------------- the scores


@pytest.fixture(scope="module", params=[(make_run, 32), (make_flow_run, 64)], ids=["rdg", "latent flow"])
def found(request, tmp_path_factory) -> Discovery:
    """What random networks find in a small corpus; every cluster is made to go with some colour of the head."""
    make, size = request.param
    out = tmp_path_factory.mktemp("corpus")
    options = {"classes": 14, "individuals": 3, "captions": 2, "size": size, "seed": 3, "jobs": 1}
    prepare(spoken_in(BIRDS, "invented:4"), out, **options)
    run = make(tmp_path_factory.mktemp("run") / "run", Store.open(out))
    search = WordSearch(clusters=12, shown=4, examples=2)
    real = find_words(run, out, search=search, split="train")
    colours = sorted(set(real.facts["head_colour"]))
    value = [colours[c % len(colours)] for c in range(12)]
    ranking = replace(real.ranking, bits=np.ones(12), attribute=["head_colour"] * 12, value=value, chance_bits=0.1)
    return replace(real, ranking=ranking)


def exchanged(found: Discovery, count: int) -> list[Exchange]:
    """What `swap_scores` exchanges with seed 1."""
    pieces = pieces_of(found.segments, found.clusters, found.ranking, found.facts)
    speakers = [found.split.store.speaker(int(u)) for u in found.utterances]
    return exchanges(pieces, speakers, count, np.random.default_rng([1, 0x5A4]))


def test_scores_are_read_from_the_nearest_pictures(found):
    scores = swap_scores(found, 5, seed=1)
    assert scores == swap_scores(found, 5, seed=1)
    assert scores["exchanges"] == 5
    assert scores["chance"] == pytest.approx(1 / len(set(found.facts["head_colour"])))
    kinds = scores["scores"]["nearest pictures"]
    assert {UNCHANGED, FOUND, ELSEWHERE} <= set(kinds) <= {UNCHANGED, FOUND, TRUE, ELSEWHERE}
    for score in kinds.values():
        assert 0 <= score["interval"][0] <= score["share"] <= score["interval"][1] <= 1
    assert kinds[FOUND]["count"] == 5


def test_an_encoder_that_hears_the_new_piece_follows_it(found, monkeypatch):
    """Embeddings that are those of a picture with the colour of the piece heard last: exchanged is all right, and the
    piece from elsewhere all wrong."""
    store = found.split.store
    facts = [store.image_attributes(i)["head_colour"] for i in range(len(store.images))]
    colours = sorted(set(facts))
    of_image = np.eye(len(colours))[[colours.index(value) for value in facts]]

    def hear(networks, mels):
        return np.stack([of_image[facts.index(value)] for value in wanted[next(waiting)]])

    pieces = exchanged(found, 4)
    old, new = [one.old.value for one in pieces], [one.new.value for one in pieces]
    wanted = {"old": old, "new": new}
    waiting = iter(["old", "new", *["old"] * 2])
    true = [
        one
        for one in pieces
        if all(word_span(found.spoken[p.utterance], p, 9.0) is not None for p in (one.old, one.new))
    ]
    if true:
        wanted["true"] = [one.new.value for one in true]
        waiting = iter(["old", "new", "true", "old"])
    monkeypatch.setattr("s2igan.evaluation.words.swap.embedded", hear)
    monkeypatch.setattr("s2igan.evaluation.words.swap.image_features", lambda *a, **k: of_image)
    monkeypatch.setattr("s2igan.evaluation.words.swap.NEAREST", 1)
    kinds = swap_scores(found, 4, seed=1)["scores"]["nearest pictures"]
    assert kinds[UNCHANGED]["share"] == kinds[FOUND]["share"] == 1
    assert kinds[ELSEWHERE]["share"] == 0


def test_without_pieces_nothing_is_exchanged(found):
    silent = replace(found, ranking=replace(found.ranking, chance_bits=2.0))
    assert swap_scores(silent, 5, seed=1) == {"exchanges": 0}


def test_a_drawn_picture_is_read_by_the_classifier(found):
    """One that sees the first value in every picture it does not know."""
    first = BIRDS.attributes["head_colour"][0]
    scores = swap_scores(found, 6, seed=1, classifier=KnownPictures(found.split.store))
    pieces = exchanged(found, 6)
    assert scores["scores"]["drawn"][FOUND]["share"] == np.mean([one.new.value == first for one in pieces])
    assert scores["scores"]["drawn"][UNCHANGED]["share"] == np.mean([one.old.value == first for one in pieces])
    assert "drawn" not in swap_scores(found, 6, seed=1)["scores"]
