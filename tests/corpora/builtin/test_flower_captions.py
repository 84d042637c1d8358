"""Captions of flowers are true, say exactly what they claim to mention, and vary."""

from __future__ import annotations

import random
import re
from collections import Counter

import pytest

from s2igan.corpora.builtin.flower_captions import MENTION_WEIGHTS, ONE_OF, caption
from s2igan.corpora.builtin.flower_drawing import ATTRIBUTES, CENTRES, PETALS
from s2igan.corpora.builtin.phrases import N_MENTIONS

# A reader of English that knows nothing of how the captions are made.
COLOUR_WORDS = {*PETALS, *CENTRES}
NOUNS = {
    **dict.fromkeys(("petals", "petalled", "flower", "flower's", "blossom"), "petal"),
    **dict.fromkeys(("centre", "centred", "middle", "eye"), "centre"),
    **dict.fromkeys(("leaves", "leaved"), "leaf"),
}
SHAPES = {"round": "round", "rounded": "round", "pointed": "pointed", "pointy": "pointed", "sharp": "pointed",
          "heart": "heart", "notched": "heart"}  # fmt: skip
SLIM = {"narrow", "thin", "slender"}
LEAF_SHAPES = {"broad": "broad", "wide": "broad", "grass": "narrow", "feathery": "feathery", "feathered": "feathery",
               "fern": "feathery"}  # fmt: skip
PATTERNS = {
    "plain": "plain unmarked pattern markings",
    "striped": "striped streaked stripy stripes streaks",
    "spotted": "spotted speckled dotted spots dots speckles",
    "edged": "edge edges rim border",
    "ringed": "ring base",
}
PATTERN_OF = {word: value for value, words in PATTERNS.items() for word in words.split()}
SIZE_OF = {"small": "small", "little": "small", "tiny": "small", "large": "large", "big": "large"}
COUNTS = {**dict.fromkeys(("three", "four", "five", "six", "eight"), None), "many": "many", "lots": "many"}
PLACES = {
    "forest": "forest woods trees",
    "pond": "pond water",
    "meadow": "meadow grassy grass",
    "mountains": "mountains mountain",
    "desert": "desert",
    "garden": "garden fence",
}
PLACE_OF = {word: value for value, words in PLACES.items() for word in words.split()}
SKIPPED = {"and", "is", "are", "that", "shaped", "like", "very", "visible", *COLOUR_WORDS, *SHAPES, *SLIM, *LEAF_SHAPES,
           *PATTERN_OF, *SIZE_OF, *COUNTS}  # fmt: skip


def described(words: list[str], at: int) -> str:
    """The part that the adjective at this place is said of: the noun after it, or the one before `is` or `are`."""
    i = at + 1
    while words[i] in SKIPPED - {"and", "is", "are", "that"}:
        i += 1
    if words[i] in NOUNS:
        return NOUNS[words[i]]
    i = at - 1
    while words[i] not in NOUNS:
        assert words[i] in SKIPPED, (words, at)
        i -= 1
    return NOUNS[words[i]]


def understood(text: str) -> dict[str, str]:
    """What a sentence says of the flower, as attributes."""
    text = re.sub(r"in the middle of a meadow|among the flowers of a meadow", "in a meadow", text)
    words = [*re.findall(r"[a-z']+|,", text), "", ""]
    facts: list[tuple[str, str]] = []
    for i, word in enumerate(words):
        if word in COLOUR_WORDS:
            facts.append((f"{described(words, i)}_colour", word))
        elif word in COUNTS:
            facts.append(("petal_count", COUNTS[word] or word))
        elif word == "grass" and words[i + 1] not in {"like", "leaved"}:
            facts.append(("habitat", "meadow"))
        elif word in SLIM:
            facts.append((f"{described(words, i)}_shape", "narrow"))
        elif word in SHAPES:
            facts.append(("petal_shape", SHAPES[word]))
        elif word in LEAF_SHAPES:
            facts.append(("leaf_shape", LEAF_SHAPES[word]))
        elif word in PATTERN_OF:
            assert (word in {"pattern", "markings"}) == (words[i - 1] == "no"), text
            facts.append(("petal_pattern", PATTERN_OF[word]))
        elif word in SIZE_OF:
            facts.append((f"{described(words, i)}_size", SIZE_OF[word]))
        elif word == "stamens":
            facts.append(("stamens", "absent" if "no" in words[max(0, i - 2) : i] else "present"))
        elif word in PLACE_OF:
            facts.append(("habitat", PLACE_OF[word]))
    said = dict(facts)
    assert all(said[name] == value for name, value in facts), f"contradicts itself: {text}"
    return said


def random_flower(rng: random.Random) -> dict[str, str]:
    return {name: rng.choice(values) for name, values in ATTRIBUTES.items()}


@pytest.fixture(scope="module")
def spoken() -> list[tuple[dict[str, str], str, tuple[str, ...]]]:
    """3,000 captions of random flowers."""
    rng = random.Random(0)
    flowers = [random_flower(rng) for _ in range(3000)]
    return [(flower, *caption(flower, rng)) for flower in flowers]


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        (
            "a red flower with five pointed petals",
            {"petal_colour": "red", "petal_count": "five", "petal_shape": "pointed"},
        ),
        ("its centre is large and green", {"centre_size": "large", "centre_colour": "green"}),
        (
            "thin leaves, petals that are slender and blue",
            {"leaf_shape": "narrow", "petal_shape": "narrow", "petal_colour": "blue"},
        ),
        (
            "lots of petals with no markings, no stamens, in the grass",
            {"petal_count": "many", "petal_pattern": "plain", "stamens": "absent", "habitat": "meadow"},
        ),
    ],
)
def test_the_reader_understands_english(text, facts):
    assert understood(text) == facts


def test_captions_state_true_attributes_and_exactly_those_they_mention(spoken):
    for flower, text, mentions in spoken:
        assert understood(text) == {name: flower[name] for name in mentions}, text


def test_mentions_are_in_order_and_as_many_as_stated(spoken):
    assert sum(N_MENTIONS.values()) == pytest.approx(1)
    assert MENTION_WEIGHTS.keys() == ATTRIBUTES.keys()
    counts = Counter(len(mentions) for _, _, mentions in spoken)
    assert counts.keys() == N_MENTIONS.keys()
    for number, share in N_MENTIONS.items():
        assert counts[number] / len(spoken) == pytest.approx(share, abs=0.03)
    for _, _, mentions in spoken:
        assert list(mentions) == [name for name in ATTRIBUTES if name in mentions]
        assert set(mentions) & set(ONE_OF)


def test_petals_are_named_most_and_nothing_rarely(spoken):
    named = Counter(name for _, _, mentions in spoken for name in mentions)
    assert named.most_common(1)[0][0] == "petal_colour"
    assert min(named.values()) > 0.12 * len(spoken)


def test_every_value_is_put_into_words(spoken):
    said = {(name, flower[name]) for flower, _, mentions in spoken for name in mentions}
    assert said == {(name, value) for name, values in ATTRIBUTES.items() for value in values}


def test_the_wording_varies(spoken):
    texts = [caption(spoken[0][0], random.Random(i))[0] for i in range(500)]
    assert len(set(texts)) > 440
    assert max(Counter(text.split()[0] for text in texts).values()) < 300


def test_the_text_can_be_spoken_as_it_is(spoken):
    for _, text, _ in spoken:
        assert re.fullmatch(r"[a-z][a-z' ,]*[a-z]", text), text
        assert "  " not in text, text
        assert " ," not in text, text
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", text), text
        assert 3 <= len(text.split()) <= 40, text


def test_a_caption_follows_from_flower_and_generator_alone():
    flower = random_flower(random.Random(3))
    assert caption(flower, random.Random(5)) == caption(dict(reversed(flower.items())), random.Random(5))
