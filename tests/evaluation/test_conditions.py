"""Speech as it is heard elsewhere: distortions do what they say, and each condition has the same captions."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_evaluate import QUICK

from s2igan import speech
from s2igan.audio import SAMPLE_RATE, write_recording
from s2igan.corpora.builtin.birds import DRAWN_SET as BIRDS
from s2igan.corpora.builtin.drawn import UNSEEN_VOICES, VOICES_OF_SPLIT, prepare
from s2igan.corpora.builtin.invented import language, spoken_in
from s2igan.data.manifest import read_manifest, write_manifest
from s2igan.data.pack import build_store
from s2igan.data.store import Store
from s2igan.errors import UserError
from s2igan.evaluation import conditions, evaluate
from s2igan.evaluation.conditions import (
    DISTORTIONS,
    ENGINES,
    OWN,
    Answers,
    Captions,
    Condition,
    aac,
    at_speed,
    condition_groups,
    condition_scores,
    in_room,
    markdown,
    noisy,
    reverberant,
    telephone,
)
from s2igan.evaluation.evaluation_split import EvaluationSplit, Networks
from s2igan.evaluation.options import EvaluationOptions, OtherConditions
from s2igan.evaluation.scores import Group
from s2igan.evaluation.subject import Subject
from s2igan.report import write_report
from s2igan.spectrograms import log_mel
from s2igan.speech.espeak import Espeak
from small_birds import KnownPictures, make_run

SENTENCE = "a small bird with a red belly and black wings"


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def wave() -> np.ndarray:
    return Espeak("en-us").synthesize(SENTENCE)


def tone(hz: float, seconds: float = 1.0) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hz * np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE)).astype(np.float32)


def level_db(wave: np.ndarray) -> float:
    middle = wave[len(wave) // 4 : -len(wave) // 4]
    return float(10 * np.log10((middle.astype(np.float64) ** 2).mean() + 1e-20))


def loudest_hz(wave: np.ndarray) -> float:
    return float(np.abs(np.fft.rfft(wave * np.hanning(len(wave)))).argmax() * SAMPLE_RATE / len(wave))


# --------------------------------------------------------------------------------------------------------- distortions


def test_a_telephone_transmits_the_middle_of_speech(rng):
    for hz, lost in ((80, 20), (1000, -1), (6000, 40)):
        heard = telephone(tone(hz), rng)
        assert len(heard) == pytest.approx(SAMPLE_RATE, abs=5)
        assert level_db(tone(hz)) - level_db(heard) > lost, hz
    assert level_db(telephone(tone(1000), rng)) == pytest.approx(level_db(tone(1000)), abs=1)
    quiet = telephone(0.01 * tone(1000), rng)
    assert level_db(quiet) == pytest.approx(level_db(0.01 * tone(1000)), abs=1.5)  # what the mu-law is for


@pytest.mark.parametrize("snr_db", [20, 10])
def test_noise_is_as_loud_as_it_says_and_loudest_at_low_frequencies(wave, snr_db):
    heard = noisy(wave, np.random.default_rng(1), snr_db)
    noise = heard - wave
    assert 10 * np.log10((wave**2).mean() / (noise**2).mean()) == pytest.approx(snr_db, abs=0.1)
    power = np.abs(np.fft.rfft(noise)) ** 2
    hz = np.fft.rfftfreq(len(noise), 1 / SAMPLE_RATE)
    octaves = [power[(hz >= low) & (hz < 2 * low)].sum() for low in (250, 500, 1000, 2000, 4000)]
    assert max(octaves) < 1.6 * min(octaves)
    np.testing.assert_array_equal(heard, noisy(wave, np.random.default_rng(1), snr_db))
    assert not np.array_equal(heard, noisy(wave, np.random.default_rng(2), snr_db))


def test_a_room_rings_on_and_falls_by_60_db_in_half_a_second(rng):
    click = np.zeros(SAMPLE_RATE, np.float32)
    click[100] = 1.0
    heard = reverberant(click, rng)
    assert np.abs(heard[:100]).max() < 1e-5
    assert heard[100] == pytest.approx(1.0, abs=1e-3)
    tail = heard[101:]
    early, late = (10 * np.log10((tail[round(at * SAMPLE_RATE) :][:1000] ** 2).mean()) for at in (0.05, 0.25))
    assert early - late == pytest.approx(60 * 0.2 / 0.5, abs=2)
    assert 10 * np.log10(1 / (tail**2).sum()) == pytest.approx(3, abs=0.5)
    assert np.abs(tail[round(0.52 * SAMPLE_RATE) :]).max() < 1e-4


def test_faster_is_shorter_and_higher(rng):
    fast, slow = (at_speed(tone(500), rng, factor) for factor in (1.2, 0.8))
    assert len(fast) == pytest.approx(SAMPLE_RATE / 1.2, abs=2)
    assert len(slow) == pytest.approx(SAMPLE_RATE / 0.8, abs=2)
    assert loudest_hz(fast) == pytest.approx(600, abs=2)
    assert loudest_hz(slow) == pytest.approx(400, abs=2)


def test_aac_keeps_the_sentence_and_not_the_samples(wave, rng):
    heard = aac(wave, rng)
    assert abs(len(heard) - len(wave)) < 0.15 * SAMPLE_RATE
    mels = [log_mel(torch.from_numpy(sound)).numpy()[:, :20] for sound in (wave, heard)]
    shortest = min(map(len, mels))
    best = max(np.corrcoef(mels[0][: shortest - lag].ravel(), mels[1][lag:shortest].ravel())[0, 1] for lag in range(12))
    assert best > 0.9
    assert not np.array_equal(heard[: len(wave)], wave[: len(heard)])


def test_every_distortion_leaves_speech_that_can_be_used(wave):
    for condition in DISTORTIONS:
        if condition.distort is not None:
            heard = condition.distort(wave, np.random.default_rng(0))
            assert heard.dtype == np.float32, condition.key
            assert np.isfinite(heard).all(), condition.key
            assert 0.05 < np.abs(heard).max() < 4, condition.key


# -------------------------------------------------------------------------------------------------------------- voices


def test_the_other_voices_speak_in_no_split():
    heard = {voice.partition("+")[2] for voices in VOICES_OF_SPLIT.values() for voice in voices}
    assert len({voice.partition("+")[2] for voice in UNSEEN_VOICES}) == len(UNSEEN_VOICES) == 8
    assert not {voice.partition("+")[2] for voice in UNSEEN_VOICES} & heard
    for voice in UNSEEN_VOICES:
        Espeak(voice)


def test_captions_are_spoken_anew_where_they_are_known(bird_store, monkeypatch):
    monkeypatch.setattr(conditions, "PIPER", "espeak:de")
    chosen = Captions.of(EvaluationSplit.of(bird_store, "test"), 5, seed=0)
    assert chosen.said == [bird_store.text(int(utterance)) for utterance in chosen.utterances]
    found, missing = chosen.conditions()
    by_key = {condition.key: condition for condition in found}
    assert by_key["espeak"].voices == tuple(f"espeak:{voice}" for voice in UNSEEN_VOICES)
    assert by_key["piper"].name == "Piper"
    left_out = {sentence.partition(",")[0] for sentence in missing}
    assert left_out | by_key.keys() >= {"flite", "festival"}
    waves = chosen.heard(by_key["espeak"], seed=0)
    for wave, text, voice in zip(waves, chosen.said, by_key["espeak"].voices, strict=False):
        np.testing.assert_array_equal(wave, speech.parse_voice(voice).synthesize(text))


def test_what_is_not_known_is_not_spoken(tmp_path, bird_store):
    chosen = Captions.of(EvaluationSplit.of(bird_store, "test"), 5, seed=0)
    found, missing = Captions(chosen.split, chosen.utterances, None).conditions()
    assert [condition.key for condition in found] == [condition.key for condition in DISTORTIONS]
    assert missing == ["other voices: what the captions say is not known, or not in English"]


def test_captions_in_other_languages_are_not_read_by_english_voices(tmp_path, bird_store):
    rows = read_manifest(bird_store.corpus_root / "manifest.jsonl")
    write_manifest(tmp_path / "manifest.jsonl", [replace(row, language="de") for row in rows])
    for name in ("audio", "images"):
        (tmp_path / name).symlink_to(bird_store.corpus_root / name)
    build_store(tmp_path / "manifest.jsonl", image_size=32, jobs=1)
    store = Store.open(tmp_path)
    assert store.language(0) == "de"
    assert Captions.of(EvaluationSplit.of(store, "test"), 5, seed=0).said is None


def test_a_made_up_language_is_spoken_by_other_voices_of_its_accents(tmp_path):
    options = {"classes": 20, "individuals": 1, "captions": 2, "size": 32, "jobs": 1}
    prepare(spoken_in(BIRDS, "invented:2"), tmp_path / "data", **options)
    store = Store.open(tmp_path / "data")
    run = make_run(tmp_path / "run", store, trained="sen")
    split = EvaluationSplit.of(store, "test")
    chosen = Captions.of(split, 6, seed=0)
    with pytest.raises(UserError, match="the captions are phonemes, which espeak-ng alone speaks"):
        chosen.conditions(OtherConditions(("espeak:pl",)))
    assert chosen.conditions(OtherConditions(("espeak:pl?phonemes=1",)))[0][-1].key == "voice_1"
    found, missing = chosen.conditions()
    assert [condition.key for condition in found] == [*(condition.key for condition in DISTORTIONS), "espeak"]
    assert missing == []
    for voice, english in zip(found[-1].voices, UNSEEN_VOICES, strict=True):
        spoken = speech.parse_voice(voice)
        assert isinstance(spoken, Espeak)
        assert spoken.phonemes
        assert spoken.voice == language(2).voice(english)
    (group,) = condition_groups(Networks.load(Subject.of(run), torch.device("cpu")), split, None, captions=6, seed=0)
    assert [score.key.partition("/")[2] for score in group.scores] == [condition.key for condition in found]


# -------------------------------------------------------------------------------------------------------------- scores


def test_every_condition_is_scored_on_the_same_captions(networks, bird_store, monkeypatch):
    monkeypatch.setattr(conditions, "PIPER", "espeak:de")
    split = EvaluationSplit.of(bird_store, "test")
    groups = condition_groups(networks, split, KnownPictures(bird_store), captions=8, seed=0)
    assert [group.key for group in groups] == ["conditions", "conditions_drawn"]
    for group in groups:
        scores = {score.key.partition("/")[2]: score for score in group.scores}
        assert scores.keys() >= {condition.key for condition in DISTORTIONS} | {"espeak", "piper"}
        for key, score in scores.items():
            against = "espeak" if key in (*ENGINES, "piper") else OWN
            assert score.ceiling == scores[against].value, key
            assert score.protocol["against"] == scores[against].name
            assert score.interval[0] <= score.value <= score.interval[1]
            assert (score.normalised is None) == (key == OWN or score.normalised_interval is None)
            assert 0 < score.chance < 1
            assert score.protocol["captions"] == 8
    distorted = [score.value for score in groups[0].scores if score.key != "conditions/own"]
    assert any(value != groups[0].scores[0].value for value in distorted)
    again = condition_groups(networks, split, KnownPictures(bird_store), captions=8, seed=0)
    assert [group.scores for group in again] == [group.scores for group in groups]
    table = markdown(groups)
    heads = "finding images by speech", "kept above chance", "what is drawn", "kept above chance"
    assert table.startswith(f"| condition | compared with | {' | '.join(heads)} |\n| --- |")
    assert table.count("\n") == 2 + len(groups[0].scores)
    assert "| a telephone's band | the split's recordings |" in table
    assert "| Piper | 8 other voices of espeak-ng |" in table


CAPTIONS_OF_SPECIES = np.repeat(np.arange(6), 20)


def answers(rng: np.random.Generator, shares: list[float]) -> Answers:
    """Questions that captions are asked at random and answer rightly in so many cases."""
    asked = rng.random((120, len(shares))) < 0.5
    return Answers((asked * (rng.random(asked.shape) < shares)).astype(float), asked)


def test_a_condition_is_compared_with_its_own_over_the_same_captions(rng):
    found = {OWN: answers(rng, [0.9, 0.7]), "espeak": answers(rng, [0.6, 0.8])}
    found["quiet"] = Answers(found[OWN].right * (rng.random((120, 1)) < 0.8), found[OWN].asked)
    found["same"] = found["espeak"]
    conditions = [Condition(OWN, "own"), Condition("espeak", "voices"), Condition("quiet", "quiet")]
    conditions.append(Condition("same", "another engine", against="espeak"))
    scores = condition_scores("conditions", conditions, found, 0.1, CAPTIONS_OF_SPECIES, {"seed": 0, "voices": "two"})
    own, _, quiet, same = scores
    right, asked = found[OWN].right.sum(axis=0), found[OWN].asked.sum(axis=0)
    assert own.value == pytest.approx(np.mean(right / asked))
    assert own.normalised is None
    assert quiet.normalised == pytest.approx((quiet.value - 0.1) / (own.value - 0.1))
    low, high = quiet.normalised_interval
    assert low < quiet.normalised < high < 1
    assert same.protocol["against"] == "voices"
    assert (same.normalised, same.normalised_interval) == (1.0, pytest.approx((1.0, 1.0))), "the same captions"
    table = markdown([Group("conditions", "Heard: found", "", scores)]).splitlines()
    assert table[0] == "| condition | compared with | found | kept above chance |"
    ends = " to ".join(f"{100 * end:.1f} %" for end in own.interval)
    assert table[2] == f"| own |  | {100 * own.value:.1f} % ({ends}) |  |"
    assert table[4].endswith(f"| {quiet.normalised:.0%} ({low:.0%} to {high:.0%}) |")
    assert table[5].startswith("| another engine | voices |")


def test_what_is_kept_of_nothing_is_not_said(rng):
    """Where the recordings themselves are at chance, no share means anything; and without other voices an engine is
    compared with the recordings."""
    found = {OWN: answers(rng, [0.1]), "engine": answers(rng, [0.5])}
    conditions = [Condition(OWN, "own"), Condition("engine", "engine", against="espeak")]
    scores = condition_scores("conditions", conditions, found, 0.1, CAPTIONS_OF_SPECIES, {"seed": 0, "voices": "two"})
    assert scores[1].protocol["against"] == "own"
    assert scores[1].normalised is None
    assert markdown([Group("conditions", "Heard: found", "", scores)]).splitlines()[3].endswith("|  |")


# ------------------------------------------------------------------------------------------- conditions that users add


def test_a_room_that_was_recorded(wave, rng):
    click = np.zeros(3000, np.float32)
    click[[700, 1700]] = 0.2, 0.1
    heard = in_room(wave, rng, click)
    assert len(heard) == len(wave) + 2299
    echo = np.concatenate([wave, np.zeros(2299)]) + 0.5 * np.concatenate([np.zeros(1000), wave, np.zeros(1299)])
    np.testing.assert_allclose(heard, echo * np.abs(wave).max() / np.abs(echo).max(), atol=1e-5)


def test_voices_and_rooms_that_are_named_are_rows(networks, bird_store, tmp_path, rng, monkeypatch):
    monkeypatch.setattr(conditions, "PIPER", "espeak:de")
    write_recording(
        tmp_path / "church.wav", rng.standard_normal(2000) * np.exp(-np.arange(2000) / 300) / 4, SAMPLE_RATE
    )
    others = OtherConditions(("espeak:de+f2",), (tmp_path / "church.wav",))
    split = EvaluationSplit.of(bird_store, "test")
    (group,) = condition_groups(networks, split, None, captions=4, seed=0, others=others)
    rows = {score.key.partition("/")[2]: score for score in group.scores}
    assert rows["room_1"].name == "the room church.wav"
    assert (rows["voice_1"].name, rows["voice_1"].protocol["against"]) == ("espeak:de+f2", rows["espeak"].name)
    assert rows["voice_1"].protocol["voices_heard"] == ["espeak:de+f2"]


def test_what_is_named_and_cannot_be_had_is_no_silent_gap(bird_store, tmp_path):
    chosen = Captions.of(EvaluationSplit.of(bird_store, "test"), 4, seed=0)
    with pytest.raises(UserError, match="no such voice"):
        chosen.conditions(OtherConditions(("nobody",)))
    with pytest.raises(UserError, match=r"nowhere\.wav"):
        chosen.conditions(OtherConditions(rooms=(tmp_path / "nowhere.wav",)))
    silent = Captions(chosen.split, chosen.utterances, None)
    with pytest.raises(UserError, match="--condition-voices espeak:de: what the captions say is not known"):
        silent.conditions(OtherConditions(("espeak:de",)))


def test_the_recordings_as_they_are_score_as_stage_1_does(networks, bird_store, monkeypatch):
    """On all captions of the split the undistorted row is `mAP, every utterance a query`."""
    monkeypatch.setattr(conditions, "DISTORTIONS", DISTORTIONS[:1])
    split = EvaluationSplit.of(bird_store, "test")
    monkeypatch.setattr(Captions, "conditions", lambda *_: (list(DISTORTIONS[:1]), []))
    (group,) = condition_groups(networks, split, None, captions=10**6, seed=0)
    known = {
        score.name: score.value for score in evaluate.stage_1_group(networks, split, {"sha256": "0"}, seed=0).scores
    }
    assert group.scores[0].value == pytest.approx(known["mAP, every utterance a query"], abs=2e-3)


def test_an_evaluation_keeps_the_table(small_run, bird_store, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "CAPTIONS", 3)
    monkeypatch.setattr(conditions, "PIPER", "espeak:de")
    run = tmp_path / "run"
    shutil.copytree(small_run, run)
    options = EvaluationOptions(max_captions=6, conditions=True)
    content = evaluate.evaluate(run, bird_store.directory, options, classifier=QUICK, device="cpu")
    assert {"conditions", "conditions_drawn"} <= content["groups"].keys()
    table = (run / "evaluation" / "conditions.md").read_text()
    shown = [score for score in content["scores"] if score["group"] == "conditions"]
    assert table.count("\n") == 2 + len(shown)
    assert {score["protocol"]["captions"] for score in shown} == {3}
    assert write_report(run).is_file()


def test_a_missing_package_is_named(wave, rng, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(UserError, match=r"pip install 's2igan\[phones\]'"):
        aac(wave, rng)
