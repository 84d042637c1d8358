"""Sentences that people might say about a drawn flower, composed from its attributes (see `phrases`)."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from s2igan.corpora.builtin.phrases import Part, Phrases, Shape, choose_mentions, with_article
from s2igan.corpora.builtin.tables import table

WORDS = table("flower_captions")
MENTION_WEIGHTS: Mapping[str, float] = WORDS["mentions"]
ONE_OF = ("petal_colour", "petal_count", "centre_colour")  # one of them is always named
PETALS = ("petal_count", "petal_shape", "petal_colour", "petal_pattern")  # said in one breath, in this order
COMPOUNDS = {  # what follows the value before the noun
    "petal_colour": "", "petal_count": " petalled", "petal_shape": " petalled", "centre_colour": " centred",
    "leaf_shape": " leaved",
}  # fmt: skip


def caption(attributes: Mapping[str, str], rng: random.Random) -> tuple[str, tuple[str, ...]]:
    """A sentence about the flower, and the names of the attributes that it states, in their order.

    It depends on `attributes` and the state of `rng` alone.
    """
    mentions = choose_mentions(MENTION_WEIGHTS, ONE_OF, rng)
    return _Speaker(attributes, rng).sentence(mentions), mentions


class _Speaker(Phrases):
    """Puts the named attributes of one flower into words."""

    words = WORDS

    # --- what is said of each part

    def parts(self, mentions: Sequence[str]) -> list[Part]:
        groups = (PETALS, ("centre_size", "centre_colour"), ("stamens",), ("leaf_shape",))
        said = [named for group in groups if (named := tuple(name for name in group if name in mentions))]
        self.rng.shuffle(said)
        return said

    def apart(self, parts: list[Part]) -> tuple[list[Part], list[Part]]:
        """Sometimes what is said of the petals is said in two: the parts with less in them, and what is missing there.

        `five petals`, and then `the petals are red`.
        """
        for i, part in enumerate(parts):
            if part[0] in PETALS and len(part) > 1 and self.chance(0.3):
                later = self.rng.choice([name for name in part if name != "petal_count"])
                return [*parts[:i], tuple(name for name in part if name != later), *parts[i + 1 :]], [(later,)]
        return parts, []

    def centre(self) -> str:
        return self.pick(WORDS["centre"])

    def stamens(self) -> str:
        return self.pick(WORDS["stamens"][self.attributes["stamens"]])

    def having(self, part: Part) -> str:
        """The part as a noun phrase: `five round red petals`, `a large yellow centre`."""
        match part:
            case ("centre_size", "centre_colour"):
                size, colour = map(self.said, part)
                if self.chance(0.12):
                    return f"{with_article(self.centre())} that is {size} and {colour}"
                return with_article(f"{size} {colour} {self.centre()}")
            case ("centre_size",):
                return with_article(f"{self.said('centre_size')} {self.centre()}")
            case ("centre_colour",):
                colour = self.said("centre_colour")
                if self.chance(0.06):
                    return f"{with_article(self.centre())} that is {colour}"
                return with_article(f"{colour} {self.centre()}")
            case ("stamens",):
                return self.stamens()
            case ("leaf_shape",):
                return f"{self.said('leaf_shape')} leaves"
            case _:
                return self.petals(part)

    def petals(self, part: Part) -> str:
        """`five round red petals with stripes`, `petals that are red and pointed`."""
        count, adjectives, pattern = self.count(part), self.adjectives(part), self.pattern(part)
        if adjectives and self.chance(0.1):
            noun = f"{count} petals".strip() + f" that are {' and '.join(adjectives)}"
            return f"{noun} and have {pattern}" if pattern else noun
        noun = " ".join([word for word in (count, *adjectives) if word] + ["petals"])
        return f"{noun} with {pattern}" if pattern else noun

    def count(self, part: Part) -> str:
        return self.said("petal_count") if "petal_count" in part else ""

    def adjectives(self, part: Part) -> list[str]:
        """Shape, colour and, where it is not left to `pattern`, the pattern of the petals."""
        words = [self.said(name) for name in ("petal_shape", "petal_colour") if name in part]
        if self.chance(0.2):
            words.reverse()
        can_be = "petal_pattern" in part and self.attributes["petal_pattern"] in WORDS["adjectives"]["petal_pattern"]
        self.said_pattern = can_be and self.chance(0.55)
        if self.said_pattern:
            words.insert(self.rng.randrange(len(words) + 1), self.said("petal_pattern"))
        return words

    def pattern(self, part: Part) -> str:
        """`stripes`, where `adjectives` has not said it."""
        if "petal_pattern" not in part or self.said_pattern:
            return ""
        return self.pick(WORDS["patterns"][self.attributes["petal_pattern"]])

    def being(self, part: Part, whose: str) -> str:
        """The part as a clause: `its petals are red and round`, `the leaves are feathery`."""
        owner = "it" if whose in {"its", "the"} else whose
        match part:
            case ("centre_size", "centre_colour"):
                size, colour = map(self.said, part)
                return f"{whose} {self.centre()} is {size} and {colour}"
            case ("centre_size",) | ("centre_colour",):
                return f"{whose} {self.centre()} is {self.said(part[0])}"
            case ("stamens",):
                return f"{owner} has {self.stamens()}"
            case ("leaf_shape",):
                return f"{whose} leaves are {self.said('leaf_shape')}"
            case _ if "petal_count" in part:
                return f"{owner} has {self.petals(part)}"
            case _:
                adjectives, pattern = self.adjectives(part), self.pattern(part)
                if not adjectives:
                    return f"{whose} petals have {pattern}"
                return f"{whose} petals are {' and '.join(adjectives)}" + (f" with {pattern}" if pattern else "")

    # --- sentences

    def shapes(self, parts: list[Part], place: str | None) -> list[tuple[Shape, float]]:
        return [
            (self.has_all, 42),
            (self.has_some_and_is, 18),
            (self.only_clauses, 14),
            (self.whose, 6 if self.without_count(parts) else 0),
            (self.compound, 24 if self.compounds(parts) else 0),
            (self.place_first, 14 if place else 0),
        ]

    def only_clauses(self, parts: list[Part], place: str | None) -> str:
        """`the flower's petals are red, its centre is yellow and the leaves are broad`."""
        parts, later = self.apart(parts)
        parts = parts + later
        first = self.being(parts[0], self.pick({"the": 40, "its": 60}))
        if not first.startswith("it ") and self.chance(0.5):
            first = self.pick({"the flower's": 50, "this flower's": 50}) + first[first.index(" ") :]
        return self.placed(self.followed(first, parts[1:]), place)

    def without_count(self, parts: list[Part]) -> list[Part]:
        """The parts that can follow `a flower whose`."""
        return [part for part in parts if "petal_count" not in part and part != ("stamens",)]

    def whose_part(self, parts: list[Part]) -> Part:
        return self.rng.choice(self.without_count(parts))

    def compounds(self, parts: list[Part]) -> list[str]:
        """The attributes that can stand before the flower: `a red flower`, `a broad leaved flower`."""
        alone = {part[0] for part in parts if len(part) == 1}
        return [
            name
            for part in parts
            for name in part
            if name == "petal_colour"
            or (name == "petal_count" and self.attributes[name] != "many")
            or (name in alone and name in {"petal_shape", "centre_colour", "leaf_shape"})
        ]

    def compounded(self, parts: list[Part]) -> tuple[str, list[Part]]:
        """`red`, `six petalled`."""
        name = self.rng.choice(self.compounds(parts))
        adjective = f"{self.said(name)}{COMPOUNDS[name]}"
        adjective = adjective.replace("shaped petalled", "petalled").replace("like leaved", "leaved")
        return adjective, [left for part in parts if (left := tuple(other for other in part if other != name))]

    def compound_noun(self) -> str:
        return self.pick({"flower": 88, "blossom": 12})
