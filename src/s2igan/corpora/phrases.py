"""What the captions of all drawn sets are put together with."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

Choices = Sequence[tuple[str, float]]  # wording, relative frequency


def choose_mentions(
    weights: Mapping[str, float], numbers: Mapping[int, float], one_of: Sequence[str], rng: random.Random
) -> set[str]:
    """Attributes to name, by weight.

    Args:
        weights: how often each attribute is named, relative to the others.
        numbers: how many attributes are named -> share of the captions.
        one_of: at least one of these is named.
    """
    count = rng.choices(list(numbers), list(numbers.values()))[0]
    chosen = {rng.choices(one_of, [weights[name] for name in one_of])[0]}
    while len(chosen) < count:
        left = [name for name in weights if name not in chosen]
        chosen.add(rng.choices(left, [weights[name] for name in left])[0])
    return chosen


class Phrases:
    """Chooses words for the attributes of one individual."""

    verbs: Choices
    """What it does somewhere: `is sitting`."""
    participles: Choices
    """The same, after a noun: `sitting`; may be empty."""

    def __init__(self, attributes: Mapping[str, str], rng: random.Random) -> None:
        self.attributes = attributes
        self.rng = rng

    def pick(self, choices: Choices) -> str:
        return self.rng.choices([word for word, _ in choices], [weight for _, weight in choices])[0]

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def listed(self, phrases: Sequence[str]) -> str:
        """`a`, `a and b`, `a, b and c`, with the pauses that people make or do not make."""
        *first, last = phrases
        if not first:
            return last
        if len(first) > 1 and self.chance(0.15):
            return " and ".join(phrases)
        return ", ".join(first) + self.pick(((" and ", 70), (", and ", 25), (" and also ", 5))) + last

    def placed(self, said: str, place: str | None) -> str:
        """The sentence with where the individual is: after it, before it, or in a clause."""
        if place is None:
            return said
        way = self.rng.random()
        if way < 0.45:
            participle = f"{self.pick(((' ', 60), (', ', 40)))}{self.pick(self.participles)}"
            return f"{said}{participle} {place}".replace("  ", " ").strip()
        if way < 0.75:
            link = self.pick(((" and it", 50), (", it", 25), (", and it", 25)))
            return f"{said}{link} {self.pick(self.verbs)} {place}"
        return f"{place}{self.pick(((', ', 70), (' ', 30)))}{said}"


def with_article(phrase: str) -> str:
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"
