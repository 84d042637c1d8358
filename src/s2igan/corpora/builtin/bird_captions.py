"""Sentences that people might say about a drawn bird, composed from its attributes (see `phrases`)."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence

from s2igan.corpora.builtin.phrases import COMMON, Part, Phrases, Shape, choose_mentions, with_article
from s2igan.corpora.builtin.tables import table

WORDS = table("bird_captions")
MENTION_WEIGHTS: Mapping[str, float] = WORDS["mentions"]
COLOURS_OF_PARTS = ("belly_colour", "wing_colour", "head_colour", "back_colour")  # one of them is always named
GROUPS: Sequence[Part] = (
    ("belly_colour", "breast_pattern"), ("wing_colour", "wing_bars"), ("head_colour",), ("back_colour",),
    ("beak_length", "beak_colour"), ("tail_length",),
)  # fmt: skip
PLURAL = frozenset({"wings", "wing feathers", "tail feathers"})


def caption(attributes: Mapping[str, str], rng: random.Random) -> tuple[str, tuple[str, ...]]:
    """A sentence about the bird, and the names of the attributes that it states, in their order.

    It depends on `attributes` and the state of `rng` alone.
    """
    mentions = choose_mentions(MENTION_WEIGHTS, COLOURS_OF_PARTS, rng)
    return _Speaker(attributes, rng).sentence(mentions), mentions


def said_together(mentions: Sequence[str], rng: random.Random) -> list[Part]:
    """The mentions but for the habitat, in random order; two of one part of the bird mostly in one breath."""
    said: list[Part] = []
    for group in GROUPS:
        named = tuple(name for name in group if name in mentions)
        if len(named) == 2 and "beak_colour" not in named and rng.random() < 0.25:
            said += [(named[0],), (named[1],)]
        elif named:
            said.append(named)
    rng.shuffle(said)
    return said


class _Speaker(Phrases):
    """Puts the named attributes of one bird into words."""

    words = WORDS

    # --- what is said of each part

    def parts(self, mentions: Sequence[str]) -> list[Part]:
        return said_together(mentions, self.rng)

    def noun(self, name: str) -> str:
        """The part of the bird that an attribute is of: `beak` or `bill`."""
        return self.pick(WORDS["nouns"][name.partition("_")[0]])

    def pattern(self) -> str:
        """`stripes`, `no markings`."""
        return self.pick(WORDS["patterns"][self.attributes["breast_pattern"]])

    def having(self, part: Part) -> str:
        """The part as a noun phrase: `a red belly`, `black wings without bars`."""
        value = [self.attributes[name] for name in part]
        match part:
            case ("belly_colour", "breast_pattern"):
                noun = self.noun("breast")
                if self.chance(0.6):
                    return with_article(f"{self.said('breast_pattern')} {value[0]} {noun}")
                return f"{with_article(f'{value[0]} {noun}')} with {self.pattern()}"
            case ("breast_pattern",):
                noun = self.noun("breast")
                if self.chance(0.6):
                    return with_article(f"{self.said('breast_pattern')} {noun}")
                return f"{self.pattern()} on {self.pick(COMMON['possessives'])} {noun}"
            case ("wing_colour", "wing_bars"):
                if value[1] == "present":
                    return f"{value[0]} wings with {self.pick({'bars': 75, 'wing bars': 25})}"
                return f"{value[0]} wings {self.pick({'without bars': 60, 'with no bars': 40})}"
            case ("wing_bars",):
                return f"{'' if value[0] == 'present' else 'no '}{self.pick(WORDS['bars'])}"
            case ("beak_length", "beak_colour"):
                length = self.said("beak_length")
                if self.chance(0.15):
                    return f"a {self.noun('beak')} that is {length} and {value[1]}"
                return with_article(f"{length} {value[1]} {self.noun('beak')}")
            case ("beak_length",) | ("tail_length",):
                return self.one_or_some(self.said(part[0]), self.noun(part[0]))
            case _:
                return self.coloured(value[0], self.noun(part[0]))

    def being(self, part: Part, whose: str) -> str:
        """The part as a clause: `its belly is red`, `the wings are black and have no bars`."""
        value = [self.attributes[name] for name in part]
        match part:
            case ("belly_colour", "breast_pattern"):
                pattern = self.said("breast_pattern")
                said = [value[0], pattern] if self.chance(0.6) else [pattern, value[0]]
                return f"{whose} {self.noun('breast')} is {said[0]} and {said[1]}"
            case ("breast_pattern",):
                if self.chance(0.5):
                    return f"{whose} {self.noun('breast')} is {self.said('breast_pattern')}"
                return f"{whose} {self.noun('breast')} has {self.pattern()}"
            case ("wing_colour", "wing_bars"):
                bars = self.pick({"bars": 1, "wing bars": 1})
                return f"{whose} wings are {value[0]} {'with' if value[1] == 'present' else 'without'} {bars}"
            case ("wing_bars",):
                return f"{whose} wings have {'' if value[0] == 'present' else 'no '}bars"
            case _:
                noun = self.noun(part[0])
                return f"{whose} {noun} {'are' if noun in PLURAL else 'is'} {' and '.join(map(self.said, part))}"

    def coloured(self, colour: str, noun: str) -> str:
        """`a red head`, `a head that is red`, `black wings`."""
        if self.chance(0.06):
            return f"{noun} that are {colour}" if noun in PLURAL else f"{with_article(noun)} that is {colour}"
        return self.one_or_some(colour, noun)

    def one_or_some(self, adjective: str, noun: str) -> str:
        """`a long tail`, `long tail feathers`."""
        return f"{adjective} {noun}" if noun in PLURAL else with_article(f"{adjective} {noun}")

    def noun_phrases(self, parts: list[Part]) -> list[str]:
        """As elsewhere; but two single colours that agree may be said as one: `a blue head and back`."""
        single = [part for part in parts if part in {("belly_colour",), ("head_colour",), ("back_colour",)}]
        for first, second in itertools.pairwise(single):
            if self.attributes[first[0]] == self.attributes[second[0]] and self.chance(0.5):
                pair = f"{self.attributes[first[0]]} {self.noun(first[0])} and {self.noun(second[0])}"
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
            first = self.being(parts[0], self.pick({"the bird's": 50, "this bird's": 50}))
            return self.placed(self.followed(first, parts[1:]), place)
        return self.placed(self.clauses(parts), place)

    def compounded(self, parts: list[Part]) -> tuple[str, list[Part]]:
        """`red bellied`."""
        named = self.rng.choice(self.compounds(parts))
        adjective = f"{self.attributes[named[0]]} {self.pick(WORDS['compounds'][named[0]])}"
        return adjective, [part for part in parts if part != named]

    def compounds(self, parts: list[Part]) -> list[Part]:
        """The parts that can stand before the bird as `red bellied`."""
        return [part for part in parts if len(part) == 1 and part[0] not in {"breast_pattern", "wing_bars"}]
