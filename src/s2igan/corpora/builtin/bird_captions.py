"""Sentences that people might say about a drawn bird, composed from its attributes (see `phrases`)."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence

from s2igan.corpora.builtin.phrases import (
    OPENERS,
    PATTERN_ADJECTIVES,
    POSSESSIVES,
    Choices,
    Part,
    Phrases,
    Shape,
    choose_mentions,
    with_article,
)

# How often an attribute is named, relative to the others: people name the colours of the large parts most.
MENTION_WEIGHTS = {
    "belly_colour": 1.0,
    "wing_colour": 1.0,
    "head_colour": 1.0,
    "back_colour": 0.6,
    "beak_length": 0.35,
    "beak_colour": 0.45,
    "breast_pattern": 0.45,
    "wing_bars": 0.35,
    "tail_length": 0.4,
    "habitat": 0.55,
}

COLOURS_OF_PARTS = ("belly_colour", "wing_colour", "head_colour", "back_colour")  # one of them is always named

BELLY: Choices = (
    ("belly", 36), ("breast", 20), ("chest", 18), ("stomach", 7), ("tummy", 5), ("underside", 6), ("front", 4),
)  # fmt: skip
BREAST: Choices = (("breast", 40), ("chest", 25), ("belly", 35))
HEAD: Choices = (("head", 82), ("crown", 8), ("face", 10))
BACK: Choices = (("back", 90), ("upper back", 10))
BEAK: Choices = (("beak", 65), ("bill", 35))
WINGS: Choices = (("wings", 88), ("wing feathers", 12))
TAIL: Choices = (("tail", 88), ("tail feathers", 12))
LENGTHS: Mapping[str, Choices] = {"short": (("short", 85), ("small", 15)), "long": (("long", 1),)}

PATTERN_NOUNS: Mapping[str, Choices] = {
    "plain": (("no pattern", 45), ("no markings", 55)),
    "striped": (("stripes", 80), ("streaks", 20)),
    "spotted": (("spots", 75), ("dots", 15), ("speckles", 10)),
}
BARS: Choices = (("wing bars", 45), ("bars on its wings", 35), ("bars across the wings", 20))

PLACES: Mapping[str, Choices] = {
    "forest": (
        ("in the forest", 40), ("in the woods", 18), ("in a forest", 12), ("among the trees", 15),
        ("on a branch in the forest", 15),
    ),
    "water": (
        ("by the water", 30), ("near the water", 16), ("at the water", 8), ("by a lake", 16), ("near a lake", 10),
        ("on a stone in the water", 10), ("at the edge of the water", 10),
    ),
    "snow": (
        ("in the snow", 50), ("on the snow", 12), ("on a snowy branch", 14), ("in a snowy place", 10),
        ("in a snowy landscape", 8), ("where there is snow", 6),
    ),
    "desert": (
        ("in the desert", 62), ("in a desert", 14), ("on the sand of the desert", 12), ("on a rock in the desert", 12),
    ),
    "meadow": (
        ("in a meadow", 34), ("in the meadow", 18), ("on a meadow", 8), ("in the grass", 14),
        ("in a grassy meadow", 10), ("among the flowers of a meadow", 16),
    ),
    "sky": (
        ("in the sky", 34), ("against the sky", 18), ("up in the sky", 14), ("high in the sky", 12),
        ("in front of the sky", 10), ("under the open sky", 12),
    ),
}  # fmt: skip

HAS: Choices = (*OPENERS, ("there is {}", 1), ("{}", 4))
BIRDS: Choices = (
    ("small bird", 50),
    ("little bird", 25),
    ("pretty bird", 9),
    ("colourful bird", 8),
    ("lovely bird", 8),
)
SITS: Choices = (
    ("is sitting", 40), ("sits", 25), ("is", 15), ("is perched", 10), ("is resting", 5), ("can be seen", 5),
)  # fmt: skip
SITTING: Choices = (("sitting", 55), ("perched", 15), ("resting", 10), ("seen", 8), ("", 12))
ARTICLE_FREE = frozenset({"wings", "wing feathers", "tail feathers"})


def caption(attributes: Mapping[str, str], rng: random.Random) -> tuple[str, tuple[str, ...]]:
    """A sentence about the bird, and the names of the attributes that it states, in their order.

    It depends on `attributes` and the state of `rng` alone.
    """
    mentions = choose_mentions(MENTION_WEIGHTS, COLOURS_OF_PARTS, rng)
    return _Speaker(attributes, rng).sentence(mentions), mentions


class _Speaker(Phrases):
    """Puts the named attributes of one bird into words."""

    noun, phrases, openers = "bird", BIRDS, HAS
    verb, verbs, participles, places = "sits", SITS, SITTING, PLACES

    # --- what is said of each part

    def parts(self, mentions: Sequence[str]) -> list[Part]:
        groups = [
            ("belly_colour", "breast_pattern"),
            ("wing_colour", "wing_bars"),
            ("head_colour",),
            ("back_colour",),
            ("beak_length", "beak_colour"),
            ("tail_length",),
        ]
        said: list[Part] = []
        for group in groups:
            named = tuple(name for name in group if name in mentions)
            if len(named) == 2 and "beak_colour" not in named and self.chance(0.25):
                said += [(named[0],), (named[1],)]
            elif named:
                said.append(named)
        self.rng.shuffle(said)
        return said

    def having(self, part: Part) -> str:
        """The part as a noun phrase: `a red belly`, `black wings without bars`."""
        value = [self.attributes[name] for name in part]
        match part:
            case ("belly_colour",):
                return self.coloured(value[0], self.pick(BELLY))
            case ("belly_colour", "breast_pattern"):
                noun = self.pick(BREAST)
                if self.chance(0.6):
                    return with_article(f"{self.pick(PATTERN_ADJECTIVES[value[1]])} {value[0]} {noun}")
                return f"{with_article(f'{value[0]} {noun}')} with {self.pick(PATTERN_NOUNS[value[1]])}"
            case ("breast_pattern",):
                noun = self.pick(BREAST)
                if self.chance(0.6):
                    return with_article(f"{self.pick(PATTERN_ADJECTIVES[value[0]])} {noun}")
                return f"{self.pick(PATTERN_NOUNS[value[0]])} on {self.pick(POSSESSIVES)} {noun}"
            case ("wing_colour",):
                return self.coloured(value[0], self.pick(WINGS))
            case ("wing_colour", "wing_bars"):
                if value[1] == "present":
                    return f"{value[0]} wings with {self.pick((('bars', 75), ('wing bars', 25)))}"
                return f"{value[0]} wings {self.pick((('without bars', 60), ('with no bars', 40)))}"
            case ("wing_bars",):
                return self.pick(BARS) if value[0] == "present" else f"no {self.pick(BARS)}"
            case ("head_colour",):
                return self.coloured(value[0], self.pick(HEAD))
            case ("back_colour",):
                return self.coloured(value[0], self.pick(BACK))
            case ("beak_length",):
                return with_article(f"{self.pick(LENGTHS[value[0]])} {self.pick(BEAK)}")
            case ("beak_colour",):
                return self.coloured(value[0], self.pick(BEAK))
            case ("beak_length", "beak_colour"):
                adjectives = [self.pick(LENGTHS[value[0]]), value[1]]
                if self.chance(0.15):
                    return f"a {self.pick(BEAK)} that is {adjectives[0]} and {adjectives[1]}"
                return with_article(f"{' '.join(adjectives)} {self.pick(BEAK)}")
            case _:
                length, noun = self.pick(LENGTHS[value[0]]), self.pick(TAIL)
                return f"{length} {noun}" if noun in ARTICLE_FREE else with_article(f"{length} {noun}")

    def being(self, part: Part, whose: str) -> str:
        """The part as a clause: `its belly is red`, `the wings are black and have no bars`."""
        value = [self.attributes[name] for name in part]
        match part:
            case ("belly_colour",) | ("head_colour",) | ("back_colour",) | ("beak_colour",):
                nouns = {"belly_colour": BELLY, "head_colour": HEAD, "back_colour": BACK, "beak_colour": BEAK}[part[0]]
                return f"{whose} {self.pick(nouns)} is {value[0]}"
            case ("belly_colour", "breast_pattern"):
                pattern = self.pick(PATTERN_ADJECTIVES[value[1]])
                said = [value[0], pattern] if self.chance(0.6) else [pattern, value[0]]
                return f"{whose} {self.pick(BREAST)} is {said[0]} and {said[1]}"
            case ("breast_pattern",):
                if self.chance(0.5):
                    return f"{whose} {self.pick(BREAST)} is {self.pick(PATTERN_ADJECTIVES[value[0]])}"
                return f"{whose} {self.pick(BREAST)} has {self.pick(PATTERN_NOUNS[value[0]])}"
            case ("wing_colour",):
                return f"{whose} {self.pick(WINGS)} are {value[0]}"
            case ("wing_colour", "wing_bars"):
                bars = self.pick((("bars", 1), ("wing bars", 1)))
                return f"{whose} wings are {value[0]} {'with' if value[1] == 'present' else 'without'} {bars}"
            case ("wing_bars",):
                return f"{whose} wings have {'' if value[0] == 'present' else 'no '}bars"
            case ("beak_length",):
                return f"{whose} {self.pick(BEAK)} is {self.pick(LENGTHS[value[0]])}"
            case ("beak_length", "beak_colour"):
                return f"{whose} {self.pick(BEAK)} is {self.pick(LENGTHS[value[0]])} and {value[1]}"
            case _:
                noun = self.pick(TAIL)
                verb = "are" if noun in ARTICLE_FREE else "is"
                return f"{whose} {noun} {verb} {self.pick(LENGTHS[value[0]])}"

    def coloured(self, colour: str, part: str) -> str:
        """`a red head`, `a head that is red`, `black wings`."""
        if self.chance(0.06):
            noun, verb = (part, "are") if part in ARTICLE_FREE else (with_article(part), "is")
            return f"{noun} that {verb} {colour}"
        phrase = f"{colour} {part}"
        return phrase if part in ARTICLE_FREE else with_article(phrase)

    def noun_phrases(self, parts: list[Part]) -> list[str]:
        """As elsewhere; but two single colours that agree may be said as one: `a blue head and back`."""
        single = [part for part in parts if part in {("belly_colour",), ("head_colour",), ("back_colour",)}]
        for first, second in itertools.pairwise(single):
            if self.attributes[first[0]] == self.attributes[second[0]] and self.chance(0.5):
                nouns = {"belly_colour": BELLY, "head_colour": HEAD, "back_colour": BACK}
                pair = f"{self.attributes[first[0]]} {self.pick(nouns[first[0]])} and {self.pick(nouns[second[0]])}"
                said = [self.having(part) for part in parts if part not in (first, second)]
                said.insert(self.rng.randrange(len(said) + 1), with_article(pair))
                return said
        return super().noun_phrases(parts)

    # --- sentences

    def shapes(self, parts: list[Part], place: str | None) -> list[tuple[Shape, float]]:
        return [
            (self.has_all, 46),
            (self.has_some_and_is, 18),
            (self.only_clauses, 16),
            (self.whose, 5),
            (self.compound, 9 if self.compounds(parts) else 0),
            (self.place_first, 14 if place else 0),
        ]

    def only_clauses(self, parts: list[Part], place: str | None) -> str:
        """`the bird's belly is red, its wings are black and the tail is long`."""
        if self.chance(0.5):
            first = self.being(parts[0], self.pick((("the bird's", 50), ("this bird's", 50))))
            said = self.listed([first, *([self.clauses(parts[1:])] if parts[1:] else [])])
        else:
            said = self.clauses(parts)
        return self.placed(said, place)

    def compounded(self, parts: list[Part]) -> tuple[str, list[Part]]:
        """`red bellied`."""
        named = self.rng.choice(self.compounds(parts))
        endings: Mapping[str, Choices] = {
            "belly_colour": (("bellied", 50), ("breasted", 50)),
            "wing_colour": (("winged", 1),),
            "head_colour": (("headed", 80), ("crowned", 20)),
            "back_colour": (("backed", 1),),
            "beak_length": (("billed", 60), ("beaked", 40)),
            "beak_colour": (("billed", 60), ("beaked", 40)),
            "tail_length": (("tailed", 1),),
        }
        adjective = f"{self.attributes[named[0]]} {self.pick(endings[named[0]])}"
        return adjective, [part for part in parts if part != named]

    def compounds(self, parts: list[Part]) -> list[Part]:
        """The parts that can stand before the bird as `red bellied`."""
        return [part for part in parts if len(part) == 1 and part[0] not in {"breast_pattern", "wing_bars"}]
