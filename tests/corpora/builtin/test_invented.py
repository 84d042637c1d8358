"""A made-up language says what English says, at the same length, in sounds alone."""

from __future__ import annotations

import itertools
import pickle
import random
import re
from pathlib import Path

import numpy as np
import pytest

from s2igan.corpora.builtin import bird_captions
from s2igan.corpora.builtin.bird_drawing import ATTRIBUTES
from s2igan.corpora.builtin.birds import DRAWN_SET as BIRDS
from s2igan.corpora.builtin.drawn import VOICES_OF_SPLIT, Description, describe, prepare
from s2igan.corpora.builtin.flowers import DRAWN_SET as FLOWERS
from s2igan.corpora.builtin.invented import (
    ACCENTS_OF_ENGLISH,
    FAMILIES,
    NAME,
    PARTICLES,
    SECOND,
    TABLE,
    BirdCaptions,
    Clause,
    Language,
    Word,
    language,
    spoken_in,
)
from s2igan.data.manifest import read_manifest
from s2igan.data.store import Store
from s2igan.errors import UserError
from s2igan.evaluation.drawings import drawn_set_with
from s2igan.evaluation.figure3 import changed_voice
from s2igan.speech import parse_voice
from s2igan.speech.espeak import Espeak

LANGUAGES = [(0, NAME), (1, NAME), (2, NAME), (7, NAME), (2026, NAME), (1, SECOND), (6, SECOND), (2026, SECOND)]
COLOURS = set(ATTRIBUTES["belly_colour"])


@pytest.fixture(scope="module", params=LANGUAGES, ids=lambda pair: f"{pair[1]}:{pair[0]}")
def spoken(request) -> Language:
    return language(*request.param)


def birds(count: int) -> list[dict[str, str]]:
    rng = random.Random(0)
    return [{name: rng.choice(values) for name, values in ATTRIBUTES.items()} for _ in range(count)]


def captions_in(spoken: Language) -> BirdCaptions:
    return BirdCaptions(spoken.seed, spoken.family)


def sentences(spoken: Language, count: int) -> list[tuple[dict[str, str], list[Clause], tuple[str, ...]]]:
    rng = random.Random(1)
    return [(bird, *captions_in(spoken).words(bird, rng)) for bird in birds(count)]


def words(clauses: list[Clause]) -> list[Word]:
    return list(itertools.chain(*clauses))


# --------------------------------------------------------------------------------------------------------- the language


@pytest.mark.parametrize("family", FAMILIES)
def test_a_language_follows_from_its_seed_and_differs_from_others(family):
    assert language(5, family) == language.__wrapped__(5, family)
    vocabularies = [set(language(*pair).lexicon.values()) for pair in LANGUAGES]
    for a, b in itertools.combinations(vocabularies, 2):
        assert len(a & b) < 0.25 * len(a)
    drawn = [language(seed, family) for seed in range(12)]
    choices = {"marker_first", "evidential_first", "link_last", "stress_last"}
    for choice in choices | ({"prefixing", "verb_first"} if family == NAME else set()):
        assert {getattr(one, choice) for one in drawn} == {False, True}, choice
    assert len({one.vowels for one in drawn}) >= 3
    assert len({one.onsets for one in drawn}) >= 10


def test_inventories_have_gaps():
    """No language has all that its family may have; some lack a stop that others have."""
    about = TABLE["consonants"]
    every = {*about["always"], *about["some"], *itertools.chain(*about["stops"], *about["liquids"])}
    first = [{*language(seed).onsets, *language(seed).codas} for seed in range(40)]
    assert max(map(len, first)) < len(every) - 2
    for stop in ("p", "b", "d", "g"):
        assert 3 < sum(stop not in sounds for sounds in first) < 37
    second = [{*language(seed, SECOND).onsets} for seed in range(40)]
    assert not set("bdgvz") & set().union(*second)
    assert len({tuple(sorted(sounds & {"t.", "c", "?", "D"})) for sounds in second}) == 4


def test_families_differ_in_sounds_order_and_agreement():
    for seed in range(5):
        one, other = language(seed), language(seed, SECOND)
        assert any(vowel.endswith(":") for vowel in other.vowels)
        assert not any(vowel.endswith(":") for vowel in one.vowels)
        assert {"q"} <= {*other.onsets} - {*one.onsets}
        assert (one.noun_last, one.concord) == (False, False)
        assert (other.noun_last, other.concord) == (True, True)
        assert all(affix[0] not in other.vowels for affix in other.affixes)
        assert all(affix[-1] in one.vowels for affix in one.affixes)


def test_roots_of_the_second_family_keep_to_one_kind_of_vowel():
    for seed in range(5):
        spoken = language(seed, SECOND)
        for sounds in spoken.lexicon.values():
            kinds = {sound[0] in "ei" or sound[0] == "y" for sound in sounds if sound in spoken.vowels}
            assert len(kinds) == 1


def test_no_two_words_sound_alike_and_colours_differ_in_two_sounds(spoken):
    assert len(set(spoken.lexicon.values())) == len(spoken.lexicon)
    nouns = sorted(spoken.noun_class)
    forms = {(colour, noun): spoken.word(colour, noun).sounds for colour in COLOURS for noun in nouns}
    assert len(set(forms.values())) == len(COLOURS) * len(spoken.affixes)
    for a, b in itertools.combinations(sorted(COLOURS), 2):
        assert sum(x != y for x, y in zip(spoken.lexicon[a], spoken.lexicon[b], strict=True)) >= 2


def test_adjectives_agree_with_their_noun_by_an_affix(spoken):
    assert len(set(spoken.affixes)) == 3
    red = spoken.lexicon["red"]
    for noun, noun_class in spoken.noun_class.items():
        affix = spoken.affixes[noun_class]
        assert spoken.word("red", noun).sounds == (affix + red if spoken.prefixing else red + affix)
        root = spoken.lexicon[noun]
        assert spoken.word(noun).sounds == (root + affix if spoken.concord else root)
    nouns_of_parts = itertools.chain(*bird_captions.WORDS["nouns"].values())
    assert {spoken.noun_class[noun] for noun in nouns_of_parts} == {0, 1, 2}


def test_words_keep_to_the_sounds_of_the_language(spoken):
    known = {*spoken.vowels, *spoken.onsets, *spoken.codas}
    for meaning in spoken.lexicon:
        noun = "bird" if meaning in COLOURS else None
        word = spoken.word(meaning, noun)
        assert set(word.sounds) <= known
        syllables = [sound in spoken.vowels for sound in word.sounds]
        adjective = meaning in adjectives()
        expected = 2 if meaning in TABLE["syllables"]["two"] or noun else 1
        assert sum(syllables) == (2 if spoken.family == SECOND and adjective else expected)
        assert not any(a and b for a, b in itertools.pairwise(syllables))
        assert word.sounds[0] in spoken.onsets
        if not adjective:
            assert (word.sounds[-1] in spoken.vowels) == (meaning in PARTICLES)


def adjectives() -> set[str]:
    kinds = {word for kind in TABLE["subjects"]["kinds"] for word in kind.split()[1:]}
    return COLOURS | kinds | {word for value in bird_captions.WORDS["adjectives"].values() for word in words_of(value)}


def words_of(values) -> set[str]:
    return {word for wordings in values.values() for word in wordings}


# ------------------------------------------------------------------------------------------------------------- captions


def nearest_noun_first(said: list[Word], spoken: Language) -> list[tuple[int, Word]]:
    """The words with their places, those of a noun after it."""
    places = list(enumerate(said))
    return places[::-1] if spoken.noun_last else places


def understood(said: list[Word], spoken: Language) -> dict[str, str]:
    """What a sentence says of the bird, read from the meanings of its words in their order."""
    part_of = {noun: part for part, nouns in bird_captions.WORDS["nouns"].items() for noun in nouns}
    part_of |= {"breast": "breast", "chest": "breast", "belly": "belly"}
    place_of = {noun: habitat for habitat, place in TABLE["places"].items() for noun in place["nouns"]}
    patterns = {
        word.removeprefix("no "): value
        for table in (bird_captions.WORDS["patterns"], bird_captions.WORDS["adjectives"]["breast_pattern"])
        for value, wordings in table.items()
        for word in wordings
    }
    lengths = {
        word: value for value in ("short", "long") for word in bird_captions.WORDS["adjectives"]["tail_length"][value]
    }
    facts, part = {}, ""
    for i, word in nearest_noun_first(said, spoken):
        meaning = word.meaning
        if meaning in part_of:
            part = part_of[meaning]
        elif meaning == "bird":
            part = "bird"
        elif meaning in place_of:
            facts["habitat"] = place_of[meaning]
        elif meaning in COLOURS:
            facts["belly_colour" if part == "breast" else f"{part}_colour"] = meaning
        elif meaning == "bars":
            relation = said[i - 1 if spoken.adposition_first else i + 1].meaning
            facts["wing_bars"] = {"with": "present", "without": "absent"}[relation]
        elif meaning in patterns:
            facts["breast_pattern"] = patterns[meaning]
        elif meaning in lengths and part != "bird":
            facts[f"{part}_length"] = lengths[meaning]
    return facts


def test_captions_say_exactly_what_they_claim_to_mention(spoken):
    for bird, clauses, mentions in sentences(spoken, 500):
        assert understood(words(clauses), spoken) == {name: bird[name] for name in mentions}


def test_the_order_of_words_is_not_that_of_english(spoken):
    """The verb stands at an end of its clause; what describes a part follows it, or the verb is last."""
    verbs = {"is", "has", *TABLE["verbs"]["sitting"]}
    places = set()
    for _, clauses, _ in sentences(spoken, 300):
        for clause in clauses:
            meanings = [word.meaning for word in clause if word.meaning not in {*TABLE["evidentials"], "and"}]
            places |= {
                0 if i == 0 else 1
                for i, meaning in enumerate(meanings)
                if meaning in verbs and i in (0, len(meanings) - 1)
            }
            for i, meaning in enumerate(meanings):
                if meaning in COLOURS:
                    beside = meanings[i + 1 :] if spoken.noun_last else reversed(meanings[:i])
                    noun = next(word for word in beside if word in spoken.noun_class)
                    assert noun != "bird"
    assert places == ({0} if spoken.verb_first else {1})
    assert not (spoken.noun_last and spoken.verb_first)


def test_every_sentence_has_an_evidential_and_wings_have_their_number(spoken):
    for _, clauses, _ in sentences(spoken, 300):
        said = [word.meaning for word in words(clauses)]
        assert sum(meaning in TABLE["evidentials"] for meaning in said) == 1
        assert said[0 if spoken.evidential_first else -1] in TABLE["evidentials"]
        for i, meaning in enumerate(said):
            if meaning in ("wings", "wing feathers"):
                assert said[i - 1 if spoken.noun_last else i + 1] == "two"


def test_phrases_come_in_any_order_and_words_vary(spoken):
    bird = birds(1)[0]
    captions = [captions_in(spoken).words(bird, random.Random(i)) for i in range(600)]
    orders = {tuple(w.meaning for w in words(c) if w.meaning in spoken.noun_class) for c, _ in captions}
    assert len(orders) > 300
    assert len({noun for order in orders for noun in order} & set(bird_captions.WORDS["nouns"]["belly"])) == 7


def syllables_of_english(word: str) -> int:
    letters = re.sub(r"[^a-z]", "", word)
    spoken = re.sub(r"(?<=[^aeiouyl])es$|(?<!l)e$|(?<=[^td])ed$", "", letters)
    return max(1, len(re.findall(r"[aeiouy]+", spoken)))


@pytest.fixture(scope="module")
def english() -> list[list[str]]:
    rng = random.Random(1)
    return [bird_captions.caption(bird, rng)[0].replace(",", "").split() for bird in birds(1500)]


def without_values(said: list[str]) -> tuple[str, ...]:
    """A wording: what of a sentence does not depend on the bird."""
    values = set(itertools.chain(*ATTRIBUTES.values()))
    return tuple("..." if word in values else word for word in said)


def lengths_of(spoken: Language, english: list[list[str]]) -> dict[str, float]:
    """How many there are of each in as many sentences, as a share of English's."""
    said = [words(clauses) for _, clauses, _ in sentences(spoken, len(english))]
    return {
        "words": sum(map(len, said)) / sum(map(len, english)),
        "syllables": sum(map(spoken.syllables, said)) / sum(syllables_of_english(w) for one in english for w in one),
        "wordings": len({without_values([word.meaning for word in sentence]) for sentence in said})
        / len(set(map(without_values, english))),
        "forms": len({word.sounds for sentence in said for word in sentence})  # by how many classes a part's nouns have
        / len({word for sentence in english for word in sentence}),
    }


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("seed", [0, 7, 2026, *range(31, 36), 10**17])
def test_syllables_words_and_wordings_are_as_many_as_in_english(seed, family, english):
    found = lengths_of(language(seed, family), english)
    for name in ("words", "syllables", "wordings"):
        assert found[name] == pytest.approx(1, rel=0.1), name
    assert found["forms"] == pytest.approx(1, rel=0.15)


# --------------------------------------------------------------------------------------------------------------- voices


def test_as_many_voices_speak_as_in_english_in_eight_accents(spoken):
    assert len(set(spoken.accents)) == len(ACCENTS_OF_ENGLISH) == 8
    for split, voices in spoken.voices.items():
        assert len(set(voices)) == len(voices) == len(VOICES_OF_SPLIT[split])
        assert [voice.partition("+")[2] for voice in voices] == [v.partition("+")[2] for v in VOICES_OF_SPLIT[split]]
    heard = {voice.partition("+")[0] for voice in spoken.voices["train"]}
    assert len(heard) == 7
    unheard = spoken.accents[-1]
    assert unheard not in heard
    assert {voice.partition("+")[0] for voice in spoken.voices["test"]} & heard != set()
    assert unheard in {voice.partition("+")[0] for voice in spoken.voices["test"]}


@pytest.mark.parametrize("accent", TABLE["accents"])
def test_every_accent_keeps_all_sounds_apart(accent):
    """Of all the sounds that a language in this accent may have, no two sound the same in the same place."""
    about = TABLE["consonants"]
    consonants = {*about["always"], *about["some"], *itertools.chain(*about["stops"], *about["liquids"])}
    systems = [one["sounds"] for one in TABLE["vowels"] if accent not in one.get("without", ())]
    voice = Espeak(accent, phonemes=True)

    def apart(first: set[str], last: set[str], vowels: set[str], unstressed: str) -> None:
        frames = [
            [f"[[{sound}'a]]" for sound in sorted(first)],
            [f"[[t'a{sound}]]" for sound in sorted(last)],
            [f"[[t'{sound}k]]" for sound in sorted(vowels)],
            [unstressed.format(sound) for sound in sorted(vowels)],
        ]
        for said in frames:
            assert len({voice.synthesize(word).tobytes() for word in said}) == len(said)

    first, last = (consonants - set(about[never]) for never in ("never_first", "never_last"))
    apart(first, last, set(itertools.chain(*systems)), "[[t'ak{}]]")
    about = TABLE["second"]
    onsets = {*about["always"], *about["some"], *itertools.chain(*about["series"], *about["liquids"])}
    harmonies = [one for one in about["vowels"] if accent not in one.get("without", ())]
    short = {vowel for one in harmonies for vowel in (*one["back"], *one["front"])}
    apart(onsets, set(about["last"]), short | {f"{vowel}:" for vowel in short}, "[[t{}k'a]]")


def test_espeak_hears_every_word(spoken):
    drawn = spoken_in(BIRDS, f"{spoken.family}:{spoken.seed}")
    rng = random.Random(2)
    seconds = []
    for bird in birds(12):
        state = rng.getstate()
        description = describe(drawn, bird, "test", rng)
        rng.setstate(state)
        clauses, _ = captions_in(spoken).words(bird, rng)
        rng = random.Random(rng.random())
        voice = parse_voice(description.voice)
        assert isinstance(voice, Espeak)
        starts = voice.word_starts(description.text)
        assert len(starts) == len(words(clauses))
        assert starts == sorted(starts)
        seconds.append(len(voice.synthesize(description.text)) / voice.sample_rate)
        assert starts[-1] < seconds[-1]
    assert 2.5 < np.mean(seconds) < 5


# ----------------------------------------------------------------------------------------------------------- the corpus


@pytest.fixture(scope="module", params=FAMILIES)
def family(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def prepared(family, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("unwritten")
    prepare(spoken_in(BIRDS, f"{family}:7"), out, classes=14, individuals=1, captions=2, size=16, seed=5, jobs=1)
    return out


def spoken_again(row, family) -> tuple[list[Clause], Description]:
    """What a row of the manifest says: its words, and what the voice was given."""
    number, individual, k = re.match(r"audio/(\d+)/(\d+)_(\d+).flac", row.audio).groups()
    key = f"5/{int(number)}/{int(individual)}/caption/{k}"
    clauses, mentions = BirdCaptions(7, family).words(row.attributes, random.Random(key))
    assert mentions == row.mentions
    return clauses, describe(spoken_in(BIRDS, f"{family}:7"), row.attributes, row.split, random.Random(key))


def test_no_words_and_no_phonemes_are_kept_anywhere(prepared, family):
    """Neither the manifest, nor a sound file, nor the store holds a caption: all bytes of all files are searched, those
    of Parquet tables after reading them."""
    import pyarrow.parquet as pq

    rows = read_manifest(prepared / "manifest.jsonl")
    assert {row.text for row in rows} == {None}
    assert {row.language for row in rows} == {f"x-{family}-7"}
    kept = b"".join(path.read_bytes() for path in prepared.rglob("*") if path.is_file())
    kept += b"".join(str(pq.read_table(path).to_pylist()).encode() for path in prepared.rglob("*.parquet"))
    assert f"x-{family}-7".encode() in kept
    for row in rows:
        clauses, description = spoken_again(row, family)
        assert description.text.startswith("[[")
        for clause in clauses:
            for said in ("meaning", "phonemes"):
                assert " ".join(getattr(word, said) for word in clause[:3]).encode() not in kept or len(clause) < 3
    assert b"[[" not in b"".join((prepared / name).read_bytes() for name in ("manifest.jsonl", "birds.json"))
    assert b"text" not in (prepared / "manifest.jsonl").read_bytes()
    assert {path.name for path in (prepared / "images").iterdir()} == {f"{i:03d}" for i in range(14)}
    store = Store.open(prepared)
    assert all(store.text(i) is None for i in range(len(store)))


def test_recordings_are_the_sentences_spoken(prepared, family):
    from s2igan.audio import load_audio

    row = read_manifest(prepared / "manifest.jsonl")[3]
    _, description = spoken_again(row, family)
    assert description.speaker == row.speaker
    wave = parse_voice(description.voice).synthesize(description.text)
    np.testing.assert_allclose(load_audio(prepared / row.audio), wave, atol=0.51 / 2**10)


def test_pictures_and_splits_are_those_of_english(prepared, tmp_path):
    prepare(BIRDS, tmp_path, classes=14, individuals=1, captions=2, size=16, seed=5, jobs=1, extra_voices=())
    here, there = (read_manifest(root / "manifest.jsonl") for root in (prepared, tmp_path))
    assert [(row.attributes, row.split) for row in here] == [(row.attributes, row.split) for row in there]
    for a, b in zip(here, there, strict=True):
        assert (prepared / a.image).read_bytes() == (tmp_path / b.image).read_bytes()


def test_a_folder_in_another_language_is_refused(prepared, family):
    with pytest.raises(UserError, match=r"made with version [0-9a-f]+, not version"):
        prepare(BIRDS, prepared, classes=14, individuals=1, captions=2, size=16, seed=5, jobs=1, extra_voices=())
    with pytest.raises(UserError, match=f"language {family}:7, not language {family}:8"):
        prepare(spoken_in(BIRDS, f"{family}:8"), prepared, 14, individuals=1, captions=2, size=16, seed=5, jobs=1)


@pytest.mark.parametrize("name", ["klingon", "invented:x", "invented-c:1", "invented:-1", "invented: 1", ""])
def test_there_are_no_other_languages(name):
    with pytest.raises(UserError, match="choose english, invented:SEED or invented-b:SEED"):
        spoken_in(BIRDS, name)


def test_flowers_and_other_engines_know_english_alone(tmp_path):
    assert spoken_in(FLOWERS, "english") == FLOWERS
    with pytest.raises(UserError, match="the flowers are described in English alone"):
        spoken_in(FLOWERS, "invented:1")
    with pytest.raises(UserError, match="no other engine speaks a made-up language"):
        prepare(spoken_in(BIRDS, "invented"), tmp_path / "new", 14, extra_voices=["espeak:de"])
    assert not (tmp_path / "new").exists()


# ----------------------------------------------------------------------------------------------------------- evaluation


def test_evaluation_speaks_the_language_of_the_set(prepared, family):
    store = Store.open(prepared)
    drawn = drawn_set_with(ATTRIBUTES, store.report["language"])
    assert drawn.caption == BirdCaptions(7, family)
    assert pickle.loads(pickle.dumps(drawn)).sentence({"wing_colour": "red"}) == drawn.sentence({"wing_colour": "red"})
    voice = parse_voice(changed_voice(drawn, "test"))
    assert isinstance(voice, Espeak)
    assert voice.phonemes
    assert voice.voice.partition("+")[0] == language(7, family).accents[-1]
    sentences_of = [drawn.changed_sentence("belly_colour", colour) for colour in ("red", "blue")]
    assert len(sentences_of[0].split()) == len(sentences_of[1].split())
    differing = [(a, b) for a, b in zip(*(sentence.split() for sentence in sentences_of), strict=True) if a != b]
    assert len(differing) == 1
    assert all(sentence.startswith("[[") for sentence in sentences_of)
