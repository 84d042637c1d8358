"""How the captions of all drawn sets are put together.

A caption names two to five of the attributes. What it names, in which order, by which words and in which shape of
sentence is drawn at random, so that a speech encoder has to find the words that matter wherever they stand. It says
nothing of the picture beyond the attributes that it names; it is lower case, without digits or abbreviations, and a
comma is a pause.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from s2igan.corpora.builtin.tables import table

Choices = Mapping[str, float]
"""Wording -> relative frequency."""
Part = tuple[str, ...]
"""Attributes that are said in one breath."""
Shape = Callable[[list[Part], str | None], str]
"""(parts, place if it is named) -> sentence."""

N_MENTIONS = {2: 0.22, 3: 0.45, 4: 0.26, 5: 0.07}  # number of attributes named -> share of captions

COMMON = table("phrases")


def choose_mentions(weights: Mapping[str, float], one_of: Sequence[str], rng: random.Random) -> tuple[str, ...]:
    """Attributes to name, as many as `N_MENTIONS` has it, in the order of `weights`.

    Args:
        weights: how often each attribute is named, relative to the others.
        one_of: at least one of these is named.
    """
    count = rng.choices(list(N_MENTIONS), list(N_MENTIONS.values()))[0]
    chosen = {rng.choices(one_of, [weights[name] for name in one_of])[0]}
    while len(chosen) < count:
        left = [name for name in weights if name not in chosen]
        chosen.add(rng.choices(left, [weights[name] for name in left])[0])
    return tuple(name for name in weights if name in chosen)


class Phrases(ABC):
    """Puts the named attributes of one individual into words."""

    words: ClassVar[Mapping[str, Any]]
    """The set's wordings: the table beside its captions."""

    def __init__(self, attributes: Mapping[str, str], rng: random.Random) -> None:
        self.attributes = attributes
        self.rng = rng

    # --- what differs between sets

    @abstractmethod
    def parts(self, mentions: Sequence[str]) -> list[Part]:
        """The mentions but for the habitat, which `sentence` places, in random order."""

    @abstractmethod
    def having(self, part: Part) -> str:
        """The part as a noun phrase: `a red belly`."""

    @abstractmethod
    def being(self, part: Part, whose: str) -> str:
        """The part as a clause: `its belly is red`."""

    @abstractmethod
    def shapes(self, parts: list[Part], place: str | None) -> list[tuple[Shape, float]]:
        """The shapes that the sentence may have, with their relative frequencies."""

    @abstractmethod
    def compounded(self, parts: list[Part]) -> tuple[str, list[Part]]:
        """What stands before the noun, such as `red bellied`, and the parts that are left to say."""

    def compound_noun(self) -> str:
        """The noun that `compounded` stands before."""
        return str(self.words["noun"])

    def noun_phrases(self, parts: list[Part]) -> list[str]:
        """All parts as noun phrases."""
        return [self.having(part) for part in parts]

    def apart(self, parts: list[Part]) -> tuple[list[Part], list[Part]]:
        """The parts that the first half of a sentence says, and what it leaves to the second."""
        return parts, []

    def whose_part(self, parts: list[Part]) -> Part:
        """The part that follows `whose`."""
        return parts[0]

    # --- words

    def pick(self, choices: Choices) -> str:
        return self.rng.choices(list(choices), list(choices.values()))[0]

    def said(self, name: str) -> str:
        """An attribute's value as an adjective; most, such as colours, are their own."""
        value = self.attributes[name]
        choices = self.words["adjectives"].get(name, {}).get(value)
        return self.pick(choices) if choices else value

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def fill(self, template: str, *values: str) -> str:
        template = template.replace("{phrase}", self.pick(self.words["phrases"]))
        return template.replace("{noun}", self.words["noun"]).format(*values)

    def opened(self, parts: list[Part]) -> str:
        """`this bird has a red belly`."""
        return self.fill(self.pick(COMMON["openers"] | self.words["openers"]), self.all_of(parts))

    def listed(self, phrases: Sequence[str]) -> str:
        """`a`, `a and b`, `a, b and c`, with the pauses that people make or do not make."""
        *first, last = phrases
        if not first:
            return last
        if len(first) > 1 and self.chance(0.15):
            return " and ".join(phrases)
        return ", ".join(first) + self.pick({" and ": 70, ", and ": 25, " and also ": 5}) + last

    def placed(self, said: str, place: str | None) -> str:
        """The sentence with where the individual is: after it, before it, or in a clause."""
        if place is None:
            return said
        way = self.rng.random()
        if way < 0.45:
            participle = f"{self.pick({' ': 60, ', ': 40})}{self.pick(self.words['participles'])}"
            return f"{said}{participle} {place}".replace("  ", " ").strip()
        if way < 0.75:
            link = self.pick({" and it": 50, ", it": 25, ", and it": 25})
            return f"{said}{link} {self.pick(self.words['verbs'])} {place}"
        return f"{place}{self.pick({', ': 70, ' ': 30})}{said}"

    def all_of(self, parts: list[Part]) -> str:
        return self.listed(self.noun_phrases(parts))

    def clauses(self, parts: list[Part]) -> str:
        return self.listed([self.being(part, self.pick(COMMON["possessives"])) for part in parts])

    def followed(self, first: str, parts: list[Part]) -> str:
        """A clause, and the parts as clauses after it."""
        return self.listed([first, self.clauses(parts)]) if parts else first

    # --- sentences

    def sentence(self, mentions: Sequence[str]) -> str:
        parts = self.parts(mentions)
        place = self.pick(self.words["places"][self.attributes["habitat"]]) if "habitat" in mentions else None
        shapes = self.shapes(parts, place)
        shape = self.rng.choices([shape for shape, _ in shapes], [weight for _, weight in shapes])[0]
        return shape(parts, place)

    def has_all(self, parts: list[Part], place: str | None) -> str:
        """`a bird with a red belly and black wings sitting in the snow`."""
        return self.placed(self.opened(parts), place)

    def has_some_and_is(self, parts: list[Part], place: str | None) -> str:
        """`this bird has a red belly, and its wings are black`."""
        cut = self.rng.randrange(1, len(parts)) if len(parts) > 1 else 1
        first, later = self.apart(parts[:cut])
        said = self.opened(first)
        if rest := later + parts[cut:]:
            link = self.pick({", and ": 45, " and ": 25, ", ": 15, " while ": 15})
            said += link + self.clauses(rest)
        return self.placed(said, place)

    def whose(self, parts: list[Part], place: str | None) -> str:
        """`a bird whose belly is red, with black wings`."""
        first = self.whose_part(parts)
        openers = {"a {noun} {}": 40, "this is a {noun} {}": 30, "a {phrase} {}": 30}
        said = self.fill(self.pick(openers), self.being(first, "whose"))
        if rest := [part for part in parts if part != first]:
            said += self.pick({", with ": 60, ", and with ": 25, ", having ": 15}) + self.all_of(rest)
        return self.placed(said, place)

    def compound(self, parts: list[Part], place: str | None) -> str:
        """`a red bellied bird with black wings`."""
        adjective, rest = self.compounded(parts)
        opener = self.pick({"{}": 45, "this is {}": 25, "there is {}": 12, "i see {}": 8, "it is {}": 10})
        said = opener.format(with_article(f"{adjective} {self.compound_noun()}"))
        if rest:
            said += f" {self.pick({'with': 80, 'that has': 20})} " + self.all_of(rest)
        return self.placed(said, place)

    def place_first(self, parts: list[Part], place: str | None) -> str:
        """`a bird is sitting in the snow, its head is blue`; `in the snow sits a bird with a blue head`."""
        if self.chance(0.35):
            verb = self.pick({self.words["verb"]: 40, "there is": 40, "you can see": 20})
            kind = self.fill(self.pick({"a {noun}": 70, "a {phrase}": 30}))
            return f"{place} {verb} {kind} with {self.all_of(parts)}"
        said = f"{self.fill(self.pick(COMMON['subjects']))} {self.pick(self.words['verbs'])} {place}"
        if self.chance(0.5):
            return f"{said}{self.pick({', ': 60, ' and ': 40})}{self.clauses(parts)}"
        return f"{said}{self.pick({', it has ': 40, ' and it has ': 30, ' and has ': 30})}{self.all_of(parts)}"


def with_article(phrase: str) -> str:
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"
