"""A made-up language that nobody writes: the drawn birds described in sounds.

A seed draws the language: its phonemes and syllables, with gaps, a word for every meaning, noun classes with the affix
by which what is said of a noun agrees with it, the order of words, where the stress lies, and in which accents it is
spoken, each the phoneme set of another language of espeak-ng. There are two families, which differ in kind as those of
Swahili and Turkish do (`FAMILIES`). Speakers choose among synonyms, frames and orders of
phrases as freely as those of English do (`bird_captions`), whose frequencies they share: what is said, and how many
words it takes, is the same, and nothing else is.

A sentence lives as phoneme mnemonics for as long as it takes to speak it. No corpus or store holds any.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from s2igan.corpora.builtin import bird_captions
from s2igan.corpora.builtin.bird_captions import COLOURS_OF_PARTS, MENTION_WEIGHTS, said_together
from s2igan.corpora.builtin.bird_captions import WORDS as ENGLISH
from s2igan.corpora.builtin.bird_drawing import ATTRIBUTES
from s2igan.corpora.builtin.drawn import ENGLISH as IN_ENGLISH
from s2igan.corpora.builtin.drawn import VOICES_OF_SPLIT, DrawnSet
from s2igan.corpora.builtin.phrases import Choices, Part, choose_mentions
from s2igan.corpora.builtin.tables import table
from s2igan.errors import UserError

TABLE = table("invented")
PARTICLES = frozenset(TABLE["particles"]["words"])
NAME, SECOND = "invented", "invented-b"
"""Of the families of languages, in `--language invented:SEED`."""
VOICE_OPTION = "phonemes=1"
"""By which espeak-ng reads phonemes (`s2igan.speech.espeak`)."""
N_CLASSES = 3
"""Of nouns."""
PAUSE = 0.05
"""How often a pause separates two phrases, beside those between clauses."""
ACCENTS_OF_ENGLISH = (
    "en-us", "en-gb", "en-gb-scotland", "en-us-nyc", "en-029", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-gb-x-rp",
)  # fmt: skip
"""Of the voices of English; each becomes one accent of the made-up language, so that as many voices speak each."""

MAX_SEED_DIGITS = 18

Sounds = tuple[str, ...]


@dataclass(frozen=True)
class Word:
    """A word as it is spoken."""

    meaning: str
    """In English: what a test or a measurement compares, and nobody hears."""
    sounds: Sounds
    """espeak-ng's phoneme mnemonics."""
    stressed: int | None
    """Which of the sounds is the vowel that bears the stress; None in a particle."""

    @property
    def phonemes(self) -> str:
        """As espeak-ng reads it between `[[` and `]]`."""
        return "".join(f"'{s}" if i == self.stressed else s for i, s in enumerate(self.sounds))


Clause = list[Word]
"""Words between two pauses."""


@dataclass(frozen=True)
class Language:
    """A made-up language; `language` draws it."""

    family: str
    seed: int
    vowels: Sounds
    onsets: Sounds
    """Consonants that can begin a syllable."""
    codas: Sounds
    """Consonants that can end one."""
    lexicon: Mapping[str, Sounds]
    """Meaning -> root."""
    noun_class: Mapping[str, int]
    """Noun -> the class that its adjectives agree with."""
    affixes: tuple[Sounds, ...]
    """Of each noun class, what an adjective of it bears."""
    concord: bool
    """Whether the noun bears it too."""
    noun_last: bool
    """Whether a noun follows what describes it."""
    prefixing: bool
    """Whether the affix stands before the adjective."""
    verb_first: bool
    """Else it is last."""
    marker_first: bool
    """Whether `its` and `the` stand before their noun."""
    adposition_first: bool
    evidential_first: bool
    """Whether the particle that says how one knows begins the sentence."""
    link_last: bool
    """Whether `and` follows what it adds."""
    stress_last: bool
    """Else words are stressed on their first syllable."""
    accents: tuple[str, ...]
    """Phoneme sets of espeak-ng, in the order of `ACCENTS_OF_ENGLISH`."""

    def voice(self, english: str) -> str:
        """A voice of English in the accent of this language that is in its accent's place."""
        accent, plus, variant = english.partition("+")
        return self.accents[ACCENTS_OF_ENGLISH.index(accent)] + plus + variant

    @property
    def voices(self) -> dict[str, tuple[str, ...]]:
        """For each split those of English, as `voice` has them."""
        return {split: tuple(map(self.voice, voices)) for split, voices in VOICES_OF_SPLIT.items()}

    def word(self, meaning: str, noun: str | None = None) -> Word:
        """A word; an adjective agrees with the noun that it describes."""
        sounds = self.lexicon[meaning]
        if self.concord and meaning in self.noun_class:
            noun = meaning
        if noun is not None:
            affix = self.affixes[self.noun_class[noun]]
            sounds = affix + sounds if self.prefixing else sounds + affix
        if meaning in PARTICLES:
            return Word(meaning, sounds, None)
        vowels = [i for i, sound in enumerate(sounds) if sound in self.vowels]
        return Word(meaning, sounds, vowels[-1 if self.stress_last else 0])

    def syllables(self, words: Iterable[Word]) -> int:
        return sum(sound in self.vowels for word in words for sound in word.sounds)


@functools.cache
def language(seed: int, family: str = NAME) -> Language:
    """The language of a seed, in one of the `FAMILIES`."""
    return FAMILIES[family](seed)


def _first_family(seed: int) -> Language:
    """Closed syllables; what describes a noun follows it, and bears a syllable of the noun's class."""
    rng = random.Random(f"{seed}/language")
    system = rng.choice(TABLE["vowels"])
    vowels = system["sounds"]
    about = TABLE["consonants"]
    consonants = [*about["always"], *rng.choice(about["stops"]), *rng.choice(about["liquids"])]
    consonants += rng.sample(about["some"], rng.randint(5, 8))
    onsets = tuple(sound for sound in consonants if sound not in about["never_first"])
    codas = tuple(sound for sound in consonants if sound not in about["never_last"])
    verb_first, prefixing = rng.random() < 0.5, rng.random() < 0.5
    affixes = _affixes(vowels, onsets, prefixing, rng)
    return Language(
        family=NAME,
        seed=seed,
        vowels=tuple(vowels),
        onsets=onsets,
        codas=codas,
        lexicon=_lexicon(vowels, onsets, codas, rng),
        noun_class=_noun_classes(rng),
        affixes=affixes,
        concord=False,
        noun_last=False,
        prefixing=prefixing,
        verb_first=verb_first,
        marker_first=rng.random() < 0.5,
        adposition_first=verb_first,  # as in most languages
        evidential_first=rng.random() < 0.5,
        link_last=rng.random() < 0.5,
        stress_last=rng.random() < 0.5,
        accents=tuple(rng.sample(_accents_with(system), len(ACCENTS_OF_ENGLISH))),
    )


def _second_family(seed: int) -> Language:
    """Open syllables with long vowels and vowel harmony, without voiced stops; a noun follows what describes it, all of
    them end in the consonant of its class, and the verb is last."""
    rng = random.Random(f"{seed}/language b")
    about = TABLE["second"]
    harmony = rng.choice(about["vowels"])
    short = [*harmony["back"], *harmony["front"]]
    consonants = [*about["always"], *rng.choice(about["series"]), *rng.choice(about["liquids"])]
    consonants += rng.sample(about["some"], rng.randint(5, 7))
    codas = [sound for sound in consonants if sound in about["last"]]
    return Language(
        family=SECOND,
        seed=seed,
        vowels=(*short, *map(_long, short)),
        onsets=tuple(consonants),
        codas=tuple(codas),
        lexicon=_harmonic_lexicon(harmony, consonants, codas, rng),
        noun_class=_noun_classes(rng),
        affixes=tuple((sound,) for sound in rng.sample(codas, N_CLASSES)),
        concord=True,
        noun_last=True,
        prefixing=False,
        verb_first=False,
        marker_first=rng.random() < 0.5,
        adposition_first=False,
        evidential_first=rng.random() < 0.5,
        link_last=rng.random() < 0.5,
        stress_last=rng.random() < 0.5,
        accents=tuple(rng.sample(_accents_with(harmony), len(ACCENTS_OF_ENGLISH))),
    )


def _accents_with(vowels: Mapping[str, Any]) -> list[str]:
    """Those that keep all of these vowels apart."""
    return [accent for accent in TABLE["accents"] if accent not in vowels.get("without", ())]


FAMILIES: Mapping[str, Callable[[int], Language]] = {NAME: _first_family, SECOND: _second_family}


# --------------------------------------------------------------------------------------------------------- the lexicon


def _words_in(tables: Any) -> set[str]:
    """Every wording of a table of tables."""
    if not isinstance(tables, Mapping):
        return set()
    found: set[str] = set()
    for key, value in tables.items():
        found |= _words_in(value) if isinstance(value, Mapping) else {key}
    return found


def _colours() -> list[str]:
    return sorted({value for name in COLOURS_OF_PARTS for value in ATTRIBUTES[name]})


def _adjectives() -> list[str]:
    """But for the colours."""
    of_birds = {word for kind in TABLE["subjects"]["kinds"] for word in kind.split()[1:]}
    return sorted(_words_in(ENGLISH["adjectives"]) | of_birds)


def _nouns() -> list[str]:
    patterns = {wording.removeprefix("no ") for wording in _words_in(ENGLISH["patterns"])}
    places = {noun for place in TABLE["places"].values() for noun in place["nouns"]}
    return sorted(_words_in(ENGLISH["nouns"]) | patterns | places | _words_in(TABLE["spots"]) | {"bird", "bars"})


def _verbs() -> list[str]:
    frames = {verb.partition(" ")[0] for verb in TABLE["verbs"]["having"]}
    return sorted((frames | set(TABLE["verbs"]["sitting"])) - PARTICLES)


def _noun_classes(rng: random.Random) -> dict[str, int]:
    """As many nouns in each class."""
    nouns = _nouns()
    classes = [i % N_CLASSES for i in range(len(nouns))]
    rng.shuffle(classes)
    return dict(zip(nouns, classes, strict=True))


def _affixes(vowels: Sequence[str], onsets: Sequence[str], prefixing: bool, rng: random.Random) -> tuple[Sounds, ...]:
    """A vowel for each class, behind; before the word, a consonant and a vowel."""
    endings = rng.sample(vowels, N_CLASSES)
    if not prefixing:
        return tuple((vowel,) for vowel in endings)
    return tuple(zip(rng.sample(onsets, N_CLASSES), endings, strict=True))


def _lexicon(
    vowels: Sequence[str], onsets: Sequence[str], codas: Sequence[str], rng: random.Random
) -> dict[str, Sounds]:
    """A root for every meaning, no two alike; those of colours differ among themselves in two sounds."""
    open_syllables: list[Sounds] = list(itertools.product(onsets, vowels))
    closed_syllables: list[Sounds] = list(itertools.product(onsets, vowels, codas))

    def root(meaning: str) -> Sounds:
        if meaning in PARTICLES:
            return rng.choice(open_syllables)
        if meaning in TABLE["syllables"]["two"]:
            return rng.choice(open_syllables) + rng.choice(closed_syllables)
        return rng.choice(closed_syllables)

    colours = _colours()
    return _all_different(dict(zip(colours, _apart(closed_syllables, len(colours), rng), strict=True)), root)


def _harmonic_lexicon(
    harmony: Mapping[str, Sequence[str]], onsets: Sequence[str], codas: Sequence[str], rng: random.Random
) -> dict[str, Sounds]:
    """The same in the second family: both vowels of a root are front ones, or both back ones."""
    vowels = [*harmony["back"], *harmony["front"]]
    every = [*vowels, *map(_long, vowels)]
    two_syllables: list[Sounds] = [
        root
        for kind in ("back", "front")
        for root in itertools.product(onsets, [*harmony[kind], *map(_long, harmony[kind])], onsets, harmony[kind])
    ]

    def root(meaning: str) -> Sounds:
        if meaning in adjectives or meaning in TABLE["syllables"]["two"]:
            return rng.choice(two_syllables)
        open_syllable = rng.choice(onsets), rng.choice(every if meaning in nouns else vowels)
        return open_syllable if meaning in nouns or meaning in PARTICLES else (*open_syllable, rng.choice(codas))

    colours, adjectives, nouns = _colours(), set(_adjectives()), set(_nouns())
    return _all_different(dict(zip(colours, _apart(two_syllables, len(colours), rng), strict=True)), root)


def _all_different(lexicon: dict[str, Sounds], root: Callable[[str], Sounds]) -> dict[str, Sounds]:
    """The roots of colours, and others, drawn until no two are alike."""
    for meaning in itertools.chain(_adjectives(), _nouns(), _verbs(), sorted(PARTICLES)):
        while meaning not in lexicon:
            drawn = root(meaning)
            if drawn not in lexicon.values():
                lexicon[meaning] = drawn
    return lexicon


def _long(vowel: str) -> str:
    return f"{vowel}:"


def _apart(roots: Sequence[Sounds], count: int, rng: random.Random) -> list[Sounds]:
    """So many roots of one length of which no two have two sounds in common."""
    while True:
        chosen: list[Sounds] = []
        for root in rng.sample(roots, len(roots)):
            if all(sum(x == y for x, y in zip(root, other, strict=True)) < 2 for other in chosen):
                chosen.append(root)
            if len(chosen) == count:
                return chosen


# ------------------------------------------------------------------------------------------------------------ sentences


class _Speaker:
    """Puts the named attributes of one bird into words."""

    def __init__(self, spoken: Language, attributes: Mapping[str, str], rng: random.Random) -> None:
        self.language = spoken
        self.attributes = attributes
        self.rng = rng

    def pick(self, choices: Choices) -> str:
        return self.rng.choices(list(choices), list(choices.values()))[0]

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def words(self, meanings: str) -> Clause:
        return [self.language.word(meaning) for meaning in meanings.split()]

    # --- what is said of each part

    def noun(self, part: Part) -> str:
        kind = part[0].partition("_")[0]
        return self.pick(ENGLISH["nouns"]["breast" if part == ("belly_colour", "breast_pattern") else kind])

    def marked(self, noun: Clause, marker: str) -> Clause:
        marks = self.words(marker)
        return marks + noun if self.language.marker_first else noun + marks

    def quality(self, name: str, noun: str) -> Clause:
        """What an attribute says of its noun: `red`, `striped`, `with spots`, `without bars`."""
        value = self.attributes[name]
        if name == "wing_bars":
            return self.related("with" if value == "present" else "without", self.words("bars"))
        if name == "breast_pattern" and self.chance(0.3):
            pattern = self.pick(ENGLISH["patterns"][value])
            kept = self.words(pattern.removeprefix("no "))
            return self.related("without" if pattern.startswith("no ") else "with", kept)
        choices = ENGLISH["adjectives"].get(name, {}).get(value)
        return [self.language.word(self.pick(choices) if choices else value, noun)]

    def related(self, adposition: str, to: Clause) -> Clause:
        words = self.words(adposition)
        return words + to if self.language.adposition_first else to + words

    def described(self, part: Part, marker: str) -> Clause:
        """The part with its qualities behind it: `its belly red`, `wings two black without bars`; or before it."""
        noun = self.noun(part)
        head = [self.language.word(noun)]
        if part[0].startswith("wing"):
            head = self.beside(head, self.words("two"))
        elif marker:
            head = self.marked(head, marker)
        qualities = [self.quality(name, noun) for name in part]
        if len(qualities) == 2 and self.chance(0.5):
            qualities.reverse()
        if len(qualities) == 2 and self.chance(0.6):
            qualities = [qualities[0], self.linked(qualities[1])]
        return self.beside(head, list(itertools.chain(*qualities)))

    def beside(self, noun: Clause, said: Clause) -> Clause:
        """A noun with what describes it."""
        return said + noun if self.language.noun_last else noun + said

    def linked(self, said: Clause) -> Clause:
        """`and` with what it adds."""
        link = self.words("and")
        return said + link if self.language.link_last else link + said

    # --- sentences

    def governed(self, verb: str, phrases: list[Clause]) -> list[Clause]:
        """Phrases with their verb at the beginning or the end."""
        said = [list(phrase) for phrase in phrases]
        if self.language.verb_first:
            said[0] = self.words(verb) + said[0]
        else:
            said[-1] = said[-1] + self.words(verb)
        return said

    def listed(self, phrases: list[Clause]) -> list[Clause]:
        """Phrases of which the last, and sometimes each but the first, is added by `and`."""
        first, *others = phrases
        each = self.chance(0.4)
        return [first, *(self.linked(p) if each or p is others[-1] else p for p in others)]

    def subject(self) -> Clause:
        noun, *adjectives = self.pick(TABLE["subjects"]["kinds"]).split()
        said = self.beside([self.language.word(noun)], [self.language.word(word, noun) for word in adjectives])
        return self.marked(said, self.pick(TABLE["subjects"]["markers"]))

    def has(self, parts: list[Part]) -> list[Clause]:
        """`has this bird small belly red and wings two black`, its phrases in any order."""
        verb, _, relation = self.pick(TABLE["verbs"]["having"]).partition(" ")
        phrases = self.listed([self.described(part, self.pick({"a": 20, "": 80})) for part in parts])
        if relation:
            phrases[0] = self.related(relation, phrases[0])
        subject = self.subject()
        return self.governed(verb, [subject, *phrases] if self.chance(0.7) else [*phrases, subject])

    def clauses(self, parts: list[Part]) -> list[Clause]:
        """`is belly its red, and is head the blue`."""
        said = [self.governed("is", [self.described(part, self.pick({"its": 60, "the": 40}))])[0] for part in parts]
        return self.listed(said)

    def place(self) -> Clause:
        """`forest the in`, `forest the of branch on`."""
        habitat = self.attributes["habitat"]
        about = TABLE["places"][habitat]
        said = self.marked(self.words(self.pick(about["nouns"])), "the")
        if self.chance(0.25):
            spot = self.words(self.pick(TABLE["spots"][habitat]))
            of = self.related("of", said)
            return self.related("on", spot + of if self.language.adposition_first else of + spot)
        return self.related(self.pick(about["adpositions"]), said)

    def joined(self, phrases: list[Clause]) -> list[Clause]:
        """Phrases in one breath, or with pauses between them."""
        clauses = [phrases[0]]
        for phrase in phrases[1:]:
            if self.chance(PAUSE):
                clauses.append(phrase)
            else:
                clauses[-1] = clauses[-1] + phrase
        return clauses

    def sentence(self, mentions: Sequence[str]) -> list[Clause]:
        parts = said_together(mentions, self.rng)
        cut = self.rng.choices([len(parts), len(parts) // 2, 0], [60, 22, 18])[0]  # what comes after is said in clauses
        said: list[Clause] = self.joined(self.has(parts[:cut])) if cut else []
        if cut < len(parts):
            first, *others = self.clauses(parts[cut:])
            said += [self.linked(first) if said and self.chance(0.5) else first, *others]
        if "habitat" in mentions:
            place = self.place()
            if self.chance(0.5):
                place = self.governed(self.pick(TABLE["verbs"]["sitting"]), [place])[0]
            said.insert(self.rng.randrange(len(said) + 1), place)
        evidential = self.words(self.pick(TABLE["evidentials"]))
        if self.language.evidential_first:
            said[0] = evidential + said[0]
        else:
            said[-1] = said[-1] + evidential
        return said


@dataclass(frozen=True)
class BirdCaptions:
    """Describes birds in a made-up language; called as `bird_captions.caption` is."""

    seed: int
    family: str = NAME

    @property
    def language(self) -> Language:
        return language(self.seed, self.family)

    def __call__(self, attributes: Mapping[str, str], rng: random.Random) -> tuple[str, tuple[str, ...]]:
        """A sentence as phonemes that espeak-ng reads, and the names of the attributes that it states."""
        clauses, mentions = self.words(attributes, rng)
        return phonemes(clauses), mentions

    def words(self, attributes: Mapping[str, str], rng: random.Random) -> tuple[list[Clause], tuple[str, ...]]:
        """The same sentence word by word."""
        mentions = choose_mentions(MENTION_WEIGHTS, COLOURS_OF_PARTS, rng)
        return _Speaker(self.language, attributes, rng).sentence(mentions), mentions

    def sentence(self, facts: Mapping[str, str]) -> str:
        """See `DrawnSet.sentence`."""
        return phonemes(_Speaker(self.language, facts, random.Random(self.seed)).sentence(tuple(facts)))


def phonemes(clauses: Iterable[Clause]) -> str:
    """Clauses as espeak-ng reads them where its voice has the option `VOICE_OPTION`."""
    return ", ".join(f"[[{' '.join(word.phonemes for word in clause)}]]" for clause in clauses)


def spoken_in(drawn: DrawnSet, name: str) -> DrawnSet:
    """A drawn set described in the language that is named: `english`, or one of the `FAMILIES` with a seed, as in
    `invented:3`, which is 0 unless given.

    Raises:
        UserError: there is no such language, or the set is described in English alone.
    """
    family, _, seed = name.partition(":")
    if name == IN_ENGLISH:
        return drawn
    if family not in FAMILIES or not (seed or "0").isdecimal() or len(seed) > MAX_SEED_DIGITS:
        raise UserError(f"--language {name}: choose {IN_ENGLISH}, {NAME}:SEED or {SECOND}:SEED, as {NAME}:3.")
    if drawn.name != "birds":
        raise UserError(f"--language {name}: the {drawn.name} are described in English alone; leave it out.")
    caption = BirdCaptions(int(seed or 0), family)
    voice, voices = caption.language.voice, caption.language.voices
    return dataclasses.replace(
        drawn,
        caption=caption,
        sentence=caption.sentence,
        class_name="",  # the name of a species would be words of English
        language=f"{family}:{caption.seed}",
        voices=voices,
        unseen_voices=tuple(map(voice, drawn.unseen_voices)),
        voice_options=VOICE_OPTION,
        wordings=(bird_captions.__name__,),
    )
