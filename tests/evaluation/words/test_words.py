"""Words found in speech: boundaries, clusters and what they go with, each where the truth is known."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
from sklearn.metrics import mutual_info_score

from s2igan import cli
from s2igan.corpora.builtin.birds import DRAWN_SET as BIRDS
from s2igan.corpora.builtin.drawn import prepare
from s2igan.corpora.builtin.invented import TABLE, language, spoken_in
from s2igan.corpora.builtin.spoken_words import SpokenWord, WordTimes
from s2igan.data.manifest import read_manifest, write_manifest
from s2igan.data.pack import build_store
from s2igan.data.store import Store
from s2igan.errors import UserError
from s2igan.evaluation.evaluation_split import Networks
from s2igan.evaluation.subject import Subject
from s2igan.evaluation.words.association import likeliest, mutual_information, ranked
from s2igan.evaluation.words.frames import WINDOW, FrameTimes, _whole_and_local, fine_frames
from s2igan.evaluation.words.options import WordSearch
from s2igan.evaluation.words.scores import boundary_scores, cut_out, most_overlapping, named
from s2igan.evaluation.words.search import find_words
from s2igan.evaluation.words.segments import (
    MOST_PIECES,
    Segments,
    clustered,
    equal_boundaries,
    pooled,
    prominent_boundaries,
    segmented,
    shuffled_boundaries,
)
from small_birds import make_run
from test_report import Page

SEARCH = WordSearch(clusters=12, picture_clusters=2, shown=4, examples=2)


@pytest.fixture(scope="module", params=["english", "invented:4"])
def corpus(request, tmp_path_factory):
    """A few birds described in a language, and a run of random networks."""
    out = tmp_path_factory.mktemp("corpus")
    options = {"classes": 20, "individuals": 2, "captions": 2, "size": 32, "seed": 3, "jobs": 1}
    prepare(spoken_in(BIRDS, request.param), out, **options, extra_voices=())
    store = Store.open(out)
    return store, make_run(tmp_path_factory.mktemp("run") / "run", store, trained="sen")


# ----------------------------------------------------------------------------------------------------------- boundaries


def pieces(lengths: list[int], noise: float = 0.05) -> np.ndarray:
    """Frames that stay near one point for each of these lengths."""
    rng = np.random.default_rng(1)
    points = rng.standard_normal((len(lengths), 8)).repeat(lengths, axis=0)
    return points + noise * rng.standard_normal(points.shape)


def test_boundaries_are_where_the_frames_change():
    lengths = [5, 9, 7, 12, 6]
    found = prominent_boundaries(pieces(lengths), prominence=0.5, span=1)
    assert found.tolist() == [0, *np.cumsum(lengths)[:-1]]
    backwards = prominent_boundaries(pieces(lengths)[::-1], prominence=0.5, span=1)
    assert backwards.tolist() == [0, *(sum(lengths) - np.cumsum(lengths)[:-1])[::-1]]


def test_only_prominent_changes_are_boundaries():
    frames = pieces([8, 8, 8, 8, 8, 8], noise=0.3)
    counts = [len(prominent_boundaries(frames, prominence, 1)) for prominence in (0.01, 0.5, 3.0)]
    assert counts[0] > counts[1] > counts[2] >= 1
    assert prominent_boundaries(np.ones((20, 4)), 0.5, 3).tolist() == [0]
    assert prominent_boundaries(np.ones((1, 4)), 0.5, 3).tolist() == [0]


def best_by_trial(frames, peaks, centres, cost, most) -> list[int]:
    """`segmented`, by trying every choice of peaks."""

    def price(starts: tuple[int, ...]) -> float:
        total, ends = 0.0, [*starts[1:], len(frames)]
        for vector, start, end in zip(pooled(frames, np.array(starts)), starts, ends, strict=True):
            pieces = sum(start <= peak < end for peak in peaks)
            if pieces > 1 and (pieces > MOST_PIECES or end - start > most):
                return np.inf
            total += (end - start) * ((vector - centres) ** 2).sum(axis=1).min() + cost
        return total

    inner = peaks[1:].tolist()
    choices = [(0, *some) for n in range(len(inner) + 1) for some in combinations(inner, n)]
    return list(min(choices, key=price))


@pytest.mark.parametrize("cost", [0.01, 0.5, 2.0, 8.0])
@pytest.mark.parametrize("most", [6, 12])
def test_segments_are_those_nearest_to_the_middles_of_clusters(cost, most):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        frames, centres = rng.standard_normal((24, 3)), rng.standard_normal((4, 3))
        centres /= np.linalg.norm(centres, axis=1, keepdims=True)
        peaks = np.array([0, 2, 5, 6, 9, 13, 17, 20])
        found = segmented(frames, peaks, centres, cost, most)
        assert found.tolist() == best_by_trial(frames, peaks, centres, cost, most)


def test_a_word_that_comes_again_is_not_cut_at_a_peak_within_it():
    """Of a word of two sounds, whose mean is a cluster's middle, the peak between the sounds is no boundary."""
    one, two, other = np.eye(3)
    frames = np.stack([one] * 4 + [two] * 4 + [other] * 6)
    word = (one + two) / np.linalg.norm(one + two)
    peaks = np.array([0, 4, 8])
    assert segmented(frames, peaks, np.stack([word, other]), 0.5, 30).tolist() == [0, 8]
    assert segmented(frames, peaks, np.eye(3), 0.5, 30).tolist() == [0, 4, 8]
    assert segmented(frames[:4], np.array([0]), np.eye(3), 0.5, 30).tolist() == [0]


def test_other_boundaries_are_as_many():
    assert equal_boundaries(12, 4).tolist() == [0, 3, 6, 9]
    shuffled = shuffled_boundaries(12, 4, np.random.default_rng(0))
    assert len(set(shuffled.tolist())) == 4
    assert shuffled[0] == 0
    assert shuffled.tolist() == sorted(shuffled.tolist())
    assert shuffled_boundaries(12, 12, np.random.default_rng(0)).tolist() == list(range(12))


def test_a_segment_is_the_mean_of_its_frames():
    frames = np.array([[2.0, 0.0], [4.0, 0.0], [0.0, 5.0], [3.0, 4.0], [3.0, 4.0]])
    np.testing.assert_allclose(pooled(frames, np.array([0, 2, 3])), [[1, 0], [0, 1], [0.6, 0.8]], atol=1e-6)


@pytest.mark.parametrize(
    ("found", "true", "scores"),
    [
        ([[0.5, 1.0]], [[0.5, 1.0]], (1, 1)),
        ([[0.5, 1.0]], [[0.54, 1.2]], (0.5, 0.5)),
        ([[0.5, 0.52]], [[0.51]], (0.5, 1)),  # one true boundary is met once
        ([[0.5], [0.7]], [[0.5, 0.9], [0.1]], (0.5, 1 / 3)),
        ([[], [0.5]], [[0.3], []], (0, 0)),
    ],
)
def test_boundaries_are_scored_within_their_utterance(found, true, scores):
    result = boundary_scores([np.array(f) for f in found], [np.array(t) for t in true], 0.05)
    assert (result["precision"], result["recall"]) == pytest.approx(scores)
    assert result["f1"] == pytest.approx(2 * scores[0] * scores[1] / max(1e-9, sum(scores)))


# --------------------------------------------------------------------------------------------------------------- frames


def test_frames_are_those_of_the_encoder_three_times_as_fine(corpus):
    store, run = corpus
    encoder = Networks.load(Subject.of(run), torch.device("cpu")).speech
    utterances = np.array([3, 0, 7])
    fine = fine_frames(encoder, store, utterances)
    step, width = encoder.config.conv_stride**2, encoder.config.embedding
    alone = []
    for utterance in utterances:
        mel = torch.from_numpy(np.array(store.mel(int(utterance)), np.float32))
        parts = []
        for shift in (0, round(step / 3), round(2 * step / 3)):
            with torch.no_grad():
                parts.append(encoder.frames(mel[None, shift:], torch.tensor([len(mel) - shift]))[0][0].numpy())
        shortest = min(map(len, parts))
        alone.append(np.stack([part[:shortest] for part in parts], axis=1).reshape(-1, width))
    every = np.concatenate(alone)
    for found, expected in zip(fine, alone, strict=True):
        standard = (expected - every.mean(0)) / (every.std(0) + 1e-6)
        np.testing.assert_allclose(found.whole, standard, atol=2e-3)
        assert found.local.shape == found.whole.shape


def test_local_frames_know_nothing_from_farther_away(corpus):
    """Of an utterance whose end is another's, the first local frames stay the same and the whole ones do not."""
    _, run = corpus
    encoder = Networks.load(Subject.of(run), torch.device("cpu")).speech
    mel = torch.randn(1, 200, 40, generator=torch.Generator().manual_seed(0))
    other = mel.clone()
    other[:, 120:] = torch.randn(1, 80, 40, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        (whole, local, n), (changed, same, _) = (
            _whole_and_local(encoder, one, torch.tensor([200])) for one in (mel, other)
        )
    stride, reach = encoder.config.conv_stride**2, WINDOW // 2
    before = (120 - 6 * stride) // stride - reach
    assert before > 5
    np.testing.assert_allclose(local[0, :before], same[0, :before], atol=1e-6)
    assert np.abs(whole[0, :before] - changed[0, :before]).max() > 1e-5
    assert not np.allclose(local[0, before + 2 * reach :], same[0, before + 2 * reach :])
    assert n.tolist() == [whole.shape[1]]


def test_a_frame_is_at_the_middle_of_what_it_sees(corpus):
    """What changes of the frames when a mel frame is changed lies around its time."""
    _, run = corpus
    encoder = Networks.load(Subject.of(run), torch.device("cpu")).speech
    times = FrameTimes.of(encoder)
    mel = torch.zeros(1, 120, 40)
    louder = mel.clone()
    louder[0, 60] = 5.0
    with torch.no_grad():
        change = (encoder.convolve(louder) - encoder.convolve(mel)).abs().sum(dim=1)[0].numpy()
    coarse = times.step_seconds * 3
    centre = (change * (times.first_seconds + coarse * np.arange(len(change)))).sum() / change.sum()
    assert centre == pytest.approx(60 * 220 / 22050, abs=0.5 * coarse)
    np.testing.assert_allclose(
        times.starts(np.array([0, 1, 4])),
        [0, times.first_seconds + 0.5 * times.step_seconds, times.first_seconds + 3.5 * times.step_seconds],
    )


# ------------------------------------------------------------------------------------------------------------- clusters


def test_clusters_are_found_and_the_nearest_is_near():
    points = np.array([[0.0, 0], [0, 0.1], [9, 9], [9, 9.3], [9, 8.9]])
    labels, distances, centres = clustered(points, 2, seed=0)
    assert labels[0] == labels[1] != labels[2] == labels[3] == labels[4]
    np.testing.assert_allclose(distances[:2], 0.05, atol=1e-6)
    assert np.argmax(distances) == 3
    np.testing.assert_allclose(centres[labels[2:]], np.full((3, 2), [9, 9.2 / 3 + 18 / 3]), atol=1e-6)
    with pytest.raises(UserError, match="5 segments cannot be put into 6 clusters"):
        clustered(points, 6, seed=0)


def test_mutual_information_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 200)
    present = rng.random((200, 3)) < 0.3
    present[:, 1] = labels == 2
    present[:, 2] = True
    found = mutual_information(present, labels)
    expected = [mutual_info_score(column, labels) / np.log(2) for column in present.T]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    share = (labels == 2).mean()
    entropy = -share * np.log2(share) - (1 - share) * np.log2(1 - share)
    assert found[1] == pytest.approx(entropy)
    assert found[2] == 0
    best, lift = likeliest(present, labels)
    assert best[1] == 2
    assert lift[1] == pytest.approx(1 / share)


def test_a_word_for_a_value_is_named_by_it_and_noise_is_below_chance():
    rng = np.random.default_rng(0)
    facts = {
        "head_colour": rng.choice(["red", "blue", "green"], 300).tolist(),
        "tail_length": rng.choice(["short", "long"], 300).tolist(),
    }
    present = rng.random((300, 6)) < 0.4
    present[:, 2] = (np.array(facts["head_colour"]) == "blue") & (rng.random(300) < 0.8)
    present[:, 4] = (np.array(facts["tail_length"]) == "long") & (rng.random(300) < 0.5)
    result = ranked(present, facts, seed=0)
    assert (result.attribute[2], result.value[2]) == ("head_colour", "blue")
    assert (result.attribute[4], result.value[4]) == ("tail_length", "long")
    assert result.lift[2] == pytest.approx(300 / facts["head_colour"].count("blue"))
    assert np.argsort(-result.bits)[:2].tolist() == [2, 4]
    assert result.bits[[2, 4]].min() > result.chance_bits
    assert result.bits[[0, 1, 3, 5]].max() < 1.5 * result.chance_bits


def test_a_segment_is_the_word_that_it_has_most_of():
    words = [[SpokenWord("red", 0.1), SpokenWord("head", 0.5)], None, [SpokenWord("bird", 0.0)]]
    segments = Segments(
        np.array([0, 0, 0, 2]), np.array([0.0, 0.2, 0.45, 0.0]), np.array([0.2, 0.45, 0.9, 0.4]), np.zeros((4, 1))
    )
    assert most_overlapping(segments, words) == ["red", "red", "head", "bird"]


@pytest.mark.parametrize(
    ("starts", "ends", "names", "precision", "recall", "whole"),
    [
        ([0.0, 0.1, 0.5], [0.1, 0.5, 0.9], ["bird", "red", "head"], 1, 1, 1),
        ([0.0, 0.1, 0.5], [0.1, 0.5, 0.9], ["bird", "blue", "head"], 0, 0, 0),
        ([0.0, 0.3], [0.3, 0.9], ["red", "head"], 0.2 / 0.3, 0.2 / 0.4, 0),
        ([0.0, 0.13], [0.13, 0.9], ["bird", "red"], 0.37 / 0.77, 0.37 / 0.4, 0),
        ([0.0, 0.13, 0.48], [0.13, 0.48, 0.9], ["bird", "red", "head"], 1, 0.35 / 0.4, 1),
        ([0.0, 0.1, 0.3], [0.1, 0.3, 0.5], ["bird", "red", "red"], 1, 1, 0),
    ],
)
def test_words_are_cut_out_from_edge_to_edge(starts, ends, names, precision, recall, whole):
    words = [[SpokenWord("bird", 0.0), SpokenWord("red", 0.1), SpokenWord("head", 0.5)], None]
    segments = Segments(np.zeros(len(starts), int), np.array(starts), np.array(ends), np.zeros((len(starts), 1)))
    found = cut_out(segments, names, words, np.array([0.9, 1.0]), ["blue", "red"], 0.05)
    assert (found["time_precision"], found["time_recall"]) == pytest.approx((precision, recall))
    assert found["time_f1"] == pytest.approx(2 * precision * recall / max(precision + recall, 1e-9))
    assert found["whole"] == whole


def test_clusters_are_scored_by_the_words_of_their_segments():
    said = ["red", "red", "head", "blue", "blue", "red", "the", "the"]
    clusters = np.array([0, 0, 0, 1, 1, 1, 2, 0])
    result = named(clusters, said, ["blue", "red"], 4)
    assert result.word[:3] == ["red", "blue", "the"]
    np.testing.assert_allclose(result.share, [2 / 4, 2 / 3, 1, 0])
    assert result.purity == pytest.approx(5 / 8)
    assert result.wanted_purity == pytest.approx(4 / 7)
    assert result.recall == {"blue": 1.0, "red": pytest.approx(2 / 3)}


# ---------------------------------------------------------------------------------------------------- the words spoken


def test_the_set_tells_when_each_word_is_spoken(corpus):
    store, _ = corpus
    invented = "language" in store.report
    drawn = spoken_in(BIRDS, store.report.get("language", "english"))
    times = WordTimes(store, drawn)
    spoken = [times.of(utterance) for utterance in range(len(store))]
    known = [(utterance, words) for utterance, words in enumerate(spoken) if words is not None]
    assert len(known) >= (1.0 if invented else 0.75) * len(store)
    meanings = {*language(4).lexicon} if invented else None
    for utterance, words in known:
        starts = [word.start_seconds for word in words]
        assert all(a < b for a, b in pairwise(starts))
        assert 0 <= starts[0] < 0.3
        assert starts[-1] < store.n_frames[utterance] * 220 / 22050
        if meanings is None:
            assert [word.word for word in words] == store.text(utterance).replace(",", "").split()
        else:
            assert {word.word for word in words} <= meanings
            assert sum(word.word in TABLE["evidentials"] for word in words) == 1


def test_nothing_is_told_of_other_recordings(corpus, tmp_path):
    store, _ = corpus
    drawn = spoken_in(BIRDS, store.report.get("language", "english"))
    rows = read_manifest(store.corpus_root / "manifest.jsonl")
    other = [replace(rows[0], speaker="espeak:de"), replace(rows[1], mentions=rows[1].mentions[1:]), rows[2]]
    write_manifest(tmp_path / "manifest.jsonl", other)
    for name in ("audio", "images", "birds.json"):
        (tmp_path / name).symlink_to(store.corpus_root / name)
    build_store(tmp_path / "manifest.jsonl", image_size=32, jobs=1)
    changed = Store.open(tmp_path)
    times = WordTimes(changed, drawn)
    assert times.of(0) is None
    assert times.of(1) is None


def test_a_set_in_another_language_is_refused(corpus):
    store, _ = corpus
    other = "invented:9" if "language" in store.report else "invented:4"
    with pytest.raises(UserError, match=f"the set is in another language than {other}"):
        WordTimes(store, spoken_in(BIRDS, other))


# ----------------------------------------------------------------------------------------------------------- the search


def test_a_search_finds_words_with_examples_and_scores_them(corpus):
    store, run = corpus
    found = find_words(run, store.directory, search=SEARCH, split="test", seed=1)
    again = find_words(run, store.directory, search=SEARCH, split="test", seed=1)
    assert found.record == again.record
    assert len(found.words) == 12
    bits = [word.bits for word in found.words]
    assert bits == sorted(bits, reverse=True)
    assert sum(word.segments for word in found.words) == found.record["segments"]
    test = set(store.split_indices("test").tolist())
    for word in found.words:
        assert word.attribute in store.attributes
        assert word.value in store.attributes[word.attribute]
        assert 1 <= len(word.examples) <= 2
        assert len({example.utterance for example in word.examples}) == len(word.examples)
        for example in word.examples:
            assert example.utterance in test
            assert example.image == store.image_index[example.utterance]
            assert 0 <= example.start_seconds < example.end_seconds <= store.n_frames[example.utterance] / 100 + 0.01
    assert list(found.record["scores"]) == ["found", "equally long", "shuffled"]
    for scores in found.record["scores"].values():
        assert 0 < scores["boundaries"]["f1"] < 1
        assert 0 < scores["purity"] <= 1
        assert 0 <= scores["colours"]["time_f1"] <= 1
    json.dumps(found.record)


def test_without_attributes_words_go_with_kinds_of_pictures(corpus, tmp_path):
    store, run = corpus
    rows = read_manifest(store.corpus_root / "manifest.jsonl")
    write_manifest(tmp_path / "manifest.jsonl", [replace(row, attributes={}, mentions=()) for row in rows])
    for name in ("audio", "images"):
        (tmp_path / name).symlink_to(store.corpus_root / name)
    build_store(tmp_path / "manifest.jsonl", image_size=32, jobs=1)
    found = find_words(run, tmp_path, search=SEARCH)
    assert {word.attribute for word in found.words} == {"picture"}
    assert {word.value for word in found.words} <= {"kind 1", "kind 2"}
    assert {word.said for word in found.words} == {None}
    assert found.record["scores"] == {}
    with pytest.raises(UserError, match="no attributes of the pictures are known"):
        find_words(run, tmp_path, search=replace(SEARCH, against="attributes"))
    asked = find_words(run, store.directory, search=replace(SEARCH, against="pictures"))
    assert {word.attribute for word in asked.words} == {"picture"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clusters": 1}, "--clusters 1: choose 2 or more"),
        ({"picture_clusters": 0}, "--picture-clusters 0"),
        ({"utterances": 0}, "--utterances 0: choose 1 or more"),
        ({"swaps": -1}, "--swaps -1: choose 0 or more"),
        ({"boundary_cost": 0.0}, "--boundary-cost 0: choose a number above 0"),
        ({"prominence": 0.0}, "--prominence 0: choose a number above 0"),
    ],
)
def test_settings_refuse_themselves(options, message):
    with pytest.raises(UserError, match=message):
        WordSearch(**options)


def test_the_page_plays_each_word_beside_its_pictures(corpus, capsys):
    store, run = corpus
    words = ["words", "--model", str(run), "--data", str(store.directory), "--clusters", "12", "--shown", "4"]
    cli.main([*words, "--examples", "2", "--swaps", "6"])
    assert str(run / "words.html") in capsys.readouterr().out
    page = Page((run / "words.html").read_text())
    record = json.loads((run / "evaluation" / "words.json").read_text())
    assert page.open == []
    played = sum(len(word["examples"]) for word in record["words"][:4])
    assert len(page.all("audio")) == len(page.all("img")) == played
    assert all(sound["src"].startswith("data:audio/mpeg") for sound in page.all("audio"))
    assert "equally long" in page.text
    assert ("One word in the place of another" in page.text) == (record["swaps"]["exchanges"] > 0)
    assert f"“{record['words'][0]['said']}”" in page.text
