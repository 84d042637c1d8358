"""Captions are true, say exactly what they claim to mention, and vary."""

from __future__ import annotations

import random
import re
from collections import Counter

import pytest

from s2igan.corpora.builtin.bird_captions import MENTION_WEIGHTS, caption
from s2igan.corpora.builtin.bird_drawing import ATTRIBUTES, PLUMAGE
from s2igan.corpora.builtin.phrases import N_MENTIONS

# A reader of English that knows nothing of how the captions are made.
PARTS = {
    "belly": "belly breast chest stomach tummy underside front bellied breasted",
    "wing": "wings wing winged",
    "head": "head crown face headed crowned",
    "back": "back backed",
    "beak": "beak bill beaked billed",
    "tail": "tail tailed",
}
PART_OF = {word: part for part, words in PARTS.items() for word in words.split()}
PATTERNS = {
    "plain": "plain unmarked pattern markings",
    "striped": "striped streaked stripy stripes streaks",
    "spotted": "spotted speckled dotted spots dots speckles",
}
PATTERN_OF = {word: value for value, words in PATTERNS.items() for word in words.split()}
PLACES = {
    "forest": "forest woods trees",
    "water": "water lake",
    "snow": "snow snowy",
    "desert": "desert",
    "meadow": "meadow grass",
    "sky": "sky",
}
PLACE_OF = {word: value for value, words in PLACES.items() for word in words.split()}
LENGTH_OF = {"short": "short", "small": "short", "long": "long"}


def parts_described(words: list[str], at: int) -> list[str]:
    """The parts that the adjective at this place is said of; none if it is said of the bird."""
    i = at + 1
    while words[i] in {*PLUMAGE, *PATTERN_OF}:  # `short [red] beak`
        i += 1
    if words[i] in PART_OF:
        shared = words[i + 1] == "and" and PART_OF.get(words[i + 2]) in {"belly", "head", "back"}
        return [PART_OF[words[i]], PART_OF[words[i + 2]]] if shared else [PART_OF[words[i]]]
    if words[i] == "bird":
        return []
    i = at - 1
    while words[i] not in PART_OF:  # `beak is long and [red]`
        assert words[i] in {"is", "are", "and", "that", "feathers", *LENGTH_OF, *PATTERN_OF, *PLUMAGE}, (words, at)
        i -= 1
    return [PART_OF[words[i]]]


def understood(text: str) -> dict[str, str]:
    """What a sentence says of the bird, as attributes."""
    words = [*re.findall(r"[a-z']+|,", text.replace("upper back", "back")), "", "", ""]
    facts: list[tuple[str, str]] = []
    for i, word in enumerate(words):
        if word in PLUMAGE:
            facts += [(f"{part}_colour", word) for part in parts_described(words, i)]
        elif word in LENGTH_OF:
            facts += [(f"{part}_length", LENGTH_OF[word]) for part in parts_described(words, i)]
        elif word in PATTERN_OF:
            assert (PATTERN_OF[word] == "plain") == (words[i - 1] == "no" or word in {"plain", "unmarked"}), text
            facts.append(("breast_pattern", PATTERN_OF[word]))
        elif word == "bars":
            before = words[i - 2 : i] if words[i - 1] == "wing" else words[i - 1 : i]
            facts.append(("wing_bars", "absent" if {"no", "without"} & set(before) else "present"))
        elif word in PLACE_OF:
            facts.append(("habitat", PLACE_OF[word]))
    said = dict(facts)
    assert all(said[name] == value for name, value in facts), f"contradicts itself: {text}"
    return said


def random_bird(rng: random.Random) -> dict[str, str]:
    return {name: rng.choice(values) for name, values in ATTRIBUTES.items()}


@pytest.fixture(scope="module")
def spoken() -> list[tuple[dict[str, str], str, tuple[str, ...]]]:
    """4,000 captions of random birds."""
    rng = random.Random(0)
    birds = [random_bird(rng) for _ in range(4000)]
    return [(bird, *caption(bird, rng)) for bird in birds]


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("a bird with a red belly and black wings", {"belly_colour": "red", "wing_colour": "black"}),
        ("a small bird whose beak is long and red", {"beak_length": "long", "beak_colour": "red"}),
        ("a blue head and back, no wing bars", {"head_colour": "blue", "back_colour": "blue", "wing_bars": "absent"}),
        (
            "a grey belly with no pattern in the snow",
            {"belly_colour": "grey", "breast_pattern": "plain", "habitat": "snow"},
        ),
    ],
)
def test_the_reader_understands_english(text, facts):
    assert understood(text) == facts


def test_captions_state_true_attributes_and_exactly_those_they_mention(spoken):
    for bird, text, mentions in spoken:
        assert understood(text) == {name: bird[name] for name in mentions}, text


def test_mentions_are_in_the_order_of_the_attributes_and_two_to_five(spoken):
    for _, _, mentions in spoken:
        assert 2 <= len(mentions) <= 5
        assert list(mentions) == [name for name in ATTRIBUTES if name in mentions]
        assert any(name in mentions for name in ("belly_colour", "wing_colour", "head_colour", "back_colour"))


def test_the_number_of_mentions_is_as_stated(spoken):
    counts = Counter(len(mentions) for _, _, mentions in spoken)
    assert sum(N_MENTIONS.values()) == pytest.approx(1)
    for number, share in N_MENTIONS.items():
        assert counts[number] / len(spoken) == pytest.approx(share, abs=0.03)


def test_large_parts_are_named_most_and_nothing_rarely(spoken):
    named = Counter(name for _, _, mentions in spoken for name in mentions)
    assert set(MENTION_WEIGHTS) == set(ATTRIBUTES)
    large = [named[name] for name in ("belly_colour", "wing_colour", "head_colour")]
    rest = [named[name] for name in ATTRIBUTES if name not in ("belly_colour", "wing_colour", "head_colour")]
    assert min(large) > max(rest)
    assert min(rest) > 0.1 * len(spoken)


def test_every_value_is_put_into_words(spoken):
    said = {(name, bird[name]) for bird, _, mentions in spoken for name in mentions}
    assert said == {(name, value) for name, values in ATTRIBUTES.items() for value in values}


def test_the_wording_varies(spoken):
    bird = spoken[0][0]
    texts = [caption(bird, random.Random(i))[0] for i in range(500)]
    assert len(set(texts)) > 450
    first_words = Counter(text.split()[0] for text in texts)
    assert max(first_words.values()) < 300
    colours = Counter(tuple(w for w in re.findall(r"\w+", t) if w in PART_OF) for t in texts)
    assert len(colours) > 150  # parts by different words in different orders


def test_the_text_can_be_spoken_as_it_is(spoken):
    for _, text, _ in spoken:
        assert re.fullmatch(r"[a-z][a-z' ,]*[a-z]", text), text
        assert "  " not in text, text
        assert " ," not in text, text
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", text), text
        assert 4 <= len(text.split()) <= 34, text


def test_a_caption_follows_from_bird_and_generator_alone():
    bird = random_bird(random.Random(3))
    assert caption(bird, random.Random(5)) == caption(dict(reversed(bird.items())), random.Random(5))
