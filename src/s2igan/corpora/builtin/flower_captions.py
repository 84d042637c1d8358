"""Sentences that people might say about a drawn flower, composed from its attributes (see `phrases`)."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from s2igan.corpora.builtin.phrases import (
    OPENERS,
    PATTERN_ADJECTIVES,
    Choices,
    Part,
    Phrases,
    Shape,
    choose_mentions,
    with_article,
)

# How often an attribute is named, relative to the others: people name the colour and number of the petals most.
MENTION_WEIGHTS = {
    "petal_colour": 1.0,
    "petal_count": 0.8,
    "petal_shape": 0.65,
    "petal_pattern": 0.5,
    "centre_colour": 0.8,
    "centre_size": 0.35,
    "stamens": 0.35,
    "leaf_shape": 0.45,
    "habitat": 0.55,
}
ONE_OF = ("petal_colour", "petal_count", "centre_colour")  # one of them is always named
PETALS = ("petal_count", "petal_shape", "petal_colour", "petal_pattern")  # said in one breath, in this order

MANY: Choices = (("many", 62), ("lots of", 24), ("very many", 14))
PETAL_SHAPES: Mapping[str, Choices] = {
    "round": (("round", 75), ("rounded", 25)),
    "pointed": (("pointed", 75), ("pointy", 15), ("sharp", 10)),
    "narrow": (("narrow", 55), ("thin", 25), ("slender", 20)),
    "heart": (("heart shaped", 80), ("notched", 20)),
}
PATTERN_NOUNS: Mapping[str, Choices] = {
    "plain": (("no pattern", 45), ("no markings", 55)),
    "edged": (("a coloured edge", 45), ("coloured edges", 25), ("a coloured rim", 20), ("a coloured border", 10)),
    "striped": (("stripes", 75), ("streaks", 25)),
    "spotted": (("spots", 75), ("dots", 15), ("speckles", 10)),
    "ringed": (("a dark ring", 60), ("a dark ring inside", 20), ("a dark base", 20)),
}
CENTRE: Choices = (("centre", 55), ("middle", 35), ("eye", 10))
SIZES: Mapping[str, Choices] = {
    "small": (("small", 75), ("little", 15), ("tiny", 10)),
    "large": (("large", 60), ("big", 40)),
}
STAMENS: Mapping[str, Choices] = {
    "present": (("stamens", 40), ("long stamens", 35), ("stamens that stick out", 25)),
    "absent": (("no stamens", 70), ("no visible stamens", 30)),
}
LEAVES: Mapping[str, Choices] = {
    "broad": (("broad", 65), ("wide", 35)),
    "narrow": (("narrow", 50), ("thin", 20), ("slender", 15), ("grass like", 15)),
    "feathery": (("feathery", 60), ("fern like", 25), ("feathered", 15)),
}

PLACES: Mapping[str, Choices] = {
    "forest": (
        ("in the forest", 40), ("in the woods", 20), ("in a forest", 14), ("among the trees", 14),
        ("on the floor of the forest", 12),
    ),
    "pond": (
        ("by a pond", 32), ("near a pond", 20), ("by the water", 16), ("on the shore of a pond", 18),
        ("beside the water", 14),
    ),
    "meadow": (
        ("in a meadow", 40), ("in the meadow", 24), ("in the grass", 16), ("in a grassy meadow", 10),
        ("in the middle of a meadow", 10),
    ),
    "mountains": (
        ("in the mountains", 50), ("high in the mountains", 18), ("on a mountain", 12),
        ("in front of the mountains", 12), ("up in the mountains", 8),
    ),
    "desert": (
        ("in the desert", 64), ("in a desert", 14), ("on the sand of the desert", 12), ("in the dry desert", 10),
    ),
    "garden": (
        ("in a garden", 40), ("in the garden", 26), ("in front of a fence", 14), ("by the fence of a garden", 10),
        ("by a fence", 10),
    ),
}  # fmt: skip

HAS: Choices = (*OPENERS, ("this blossom has {}", 3), ("a blossom with {}", 2), ("{}", 4))
FLOWERS: Choices = (
    ("pretty flower", 35), ("lovely flower", 25), ("beautiful flower", 20), ("wild flower", 12), ("fresh flower", 8),
)  # fmt: skip
GROWS: Choices = (("is growing", 30), ("grows", 30), ("is", 12), ("stands", 12), ("blooms", 10), ("can be seen", 6))
GROWING: Choices = (("growing", 50), ("blooming", 15), ("standing", 12), ("seen", 8), ("", 15))


def caption(attributes: Mapping[str, str], rng: random.Random) -> tuple[str, tuple[str, ...]]:
    """A sentence about the flower, and the names of the attributes that it states, in their order.

    It depends on `attributes` and the state of `rng` alone.
    """
    mentions = choose_mentions(MENTION_WEIGHTS, ONE_OF, rng)
    return _Speaker(attributes, rng).sentence(mentions), mentions


class _Speaker(Phrases):
    """Puts the named attributes of one flower into words."""

    noun, phrases, openers = "flower", FLOWERS, HAS
    verb, verbs, participles, places = "grows", GROWS, GROWING, PLACES

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

    def having(self, part: Part) -> str:
        """The part as a noun phrase: `five round red petals`, `a large yellow centre`."""
        value = self.attributes
        match part:
            case ("centre_size", "centre_colour"):
                size = self.pick(SIZES[value["centre_size"]])
                if self.chance(0.12):
                    return f"{with_article(self.pick(CENTRE))} that is {size} and {value['centre_colour']}"
                return with_article(f"{size} {value['centre_colour']} {self.pick(CENTRE)}")
            case ("centre_size",):
                return with_article(f"{self.pick(SIZES[value['centre_size']])} {self.pick(CENTRE)}")
            case ("centre_colour",):
                if self.chance(0.06):
                    return f"{with_article(self.pick(CENTRE))} that is {value['centre_colour']}"
                return with_article(f"{value['centre_colour']} {self.pick(CENTRE)}")
            case ("stamens",):
                return self.pick(STAMENS[value["stamens"]])
            case ("leaf_shape",):
                return f"{self.pick(LEAVES[value['leaf_shape']])} leaves"
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
        if "petal_count" not in part:
            return ""
        number = self.attributes["petal_count"]
        return self.pick(MANY) if number == "many" else number

    def adjectives(self, part: Part) -> list[str]:
        """Shape, colour and, where it is not left to `pattern`, the pattern of the petals."""
        words = []
        if "petal_shape" in part:
            words.append(self.pick(PETAL_SHAPES[self.attributes["petal_shape"]]))
        if "petal_colour" in part:
            words.append(self.attributes["petal_colour"])
        if self.chance(0.2):
            words.reverse()
        self.said_pattern = False
        pattern = self.attributes["petal_pattern"]
        if "petal_pattern" in part and pattern in PATTERN_ADJECTIVES and self.chance(0.55):
            words.insert(self.rng.randrange(len(words) + 1), self.pick(PATTERN_ADJECTIVES[pattern]))
            self.said_pattern = True
        return words

    def pattern(self, part: Part) -> str:
        """`stripes`, where `adjectives` has not said it."""
        if "petal_pattern" not in part or self.said_pattern:
            return ""
        return self.pick(PATTERN_NOUNS[self.attributes["petal_pattern"]])

    def being(self, part: Part, whose: str) -> str:
        """The part as a clause: `its petals are red and round`, `the leaves are feathery`."""
        value = self.attributes
        match part:
            case ("centre_size", "centre_colour"):
                size = self.pick(SIZES[value["centre_size"]])
                return f"{whose} {self.pick(CENTRE)} is {size} and {value['centre_colour']}"
            case ("centre_size",):
                return f"{whose} {self.pick(CENTRE)} is {self.pick(SIZES[value['centre_size']])}"
            case ("centre_colour",):
                return f"{whose} {self.pick(CENTRE)} is {value['centre_colour']}"
            case ("stamens",):
                return f"{'it' if whose in {'its', 'the'} else whose} has {self.pick(STAMENS[value['stamens']])}"
            case ("leaf_shape",):
                return f"{whose} leaves are {self.pick(LEAVES[value['leaf_shape']])}"
            case _ if "petal_count" in part:
                return f"{'it' if whose in {'its', 'the'} else whose} has {self.petals(part)}"
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
        first = self.being(parts[0], self.pick((("the", 40), ("its", 60))))
        if not first.startswith("it ") and self.chance(0.5):
            first = self.pick((("the flower's", 50), ("this flower's", 50))) + first[first.index(" ") :]
        said = self.listed([first, *([self.clauses(parts[1:])] if parts[1:] else [])])
        return self.placed(said, place)

    def without_count(self, parts: list[Part]) -> list[Part]:
        """The parts that can follow `a flower whose`."""
        return [part for part in parts if "petal_count" not in part and part != ("stamens",)]

    def whose_part(self, parts: list[Part]) -> Part:
        return self.rng.choice(self.without_count(parts))

    def compounds(self, parts: list[Part]) -> list[str]:
        """The attributes that can stand before the flower: `a red flower`, `a broad leaved flower`."""
        names = [name for part in parts for name in part]
        alone = {part[0] for part in parts if len(part) == 1}
        return [
            name
            for name in names
            if name == "petal_colour"
            or (name == "petal_count" and self.attributes[name] != "many")
            or (name in alone and name in {"petal_shape", "centre_colour", "leaf_shape"})
        ]

    def compounded(self, parts: list[Part]) -> tuple[str, list[Part]]:
        """`red`, `six petalled`."""
        name = self.rng.choice(self.compounds(parts))
        value = self.attributes[name]
        adjective = {
            "petal_colour": lambda: value,
            "petal_count": lambda: f"{value} petalled",
            "petal_shape": lambda: f"{self.pick(PETAL_SHAPES[value])} petalled".replace("shaped petalled", "petalled"),
            "centre_colour": lambda: f"{value} centred",
            "leaf_shape": lambda: f"{self.pick(LEAVES[value])} leaved".replace("like leaved", "leaved"),
        }[name]()
        return adjective, [left for part in parts if (left := tuple(other for other in part if other != name))]

    def compound_noun(self) -> str:
        return self.pick((("flower", 88), ("blossom", 12)))
