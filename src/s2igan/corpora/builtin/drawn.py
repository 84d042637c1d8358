"""The built-in corpora: pictures drawn of invented species, described aloud by synthetic voices.

A class is a species, a fixed combination of attributes (`species`); its individuals are drawn, each picture gets
captions that name some of its attributes, and every caption is spoken by a voice of espeak-ng. The split is by class as
CUB's is (method.md section 5): the combinations of the development and test classes are new though every value was
seen, and each of these splits has two voices that speak in no other. All follows from one seed, however many processes
work.

What is drawn and how it is described is a `DrawnSet`; `birds` and `flowers` are the two there are.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import io
import itertools
import json
import random
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float16, Int64, UInt8
from PIL import Image

from s2igan.corpora.builtin import phrases, svg
from s2igan.corpora.builtin.tables import source, table
from s2igan.data.layout import stored_size
from s2igan.data.manifest import SPLITS, Utterance, write_manifest
from s2igan.errors import UserError
from s2igan.files import abandoned, atomic_write_json, disk_errors, has_content, write_whole
from s2igan.parallel import each_result, progress_bars
from s2igan.speech import flac, parse_voice, speak

HELD_OUT_SHARE = 130 / 250  # of the classes
VALIDATION_SHARE = 30 / 130  # of these; development and test have half of the others each
MAX_CLASSES = 1000
SWAPS_PER_CELL, MAX_SWAPS = 60, 60_000  # attempts to balance the species, per class and attribute and in all
ENGLISH = "english"
LANGUAGE = "language"
"""Key of the settings and of the store's report under which an unwritten language is named."""
PNG_LEVEL = 3  # zlib's; a higher one takes longer than the drawing is worth
FLAC_BITS = 11  # precision of the speech files: noise at -66 dB of full scale, half the size of 16 bits

MIN_DIFFERENT = 4  # attributes in which a class that training does not see differs from every other, where possible
PATIENCE = 5_000  # exchanges of values that are tried between the classes of a split to set them apart

RATES = (135, 205)  # words a minute
PITCHES = (30, 70)  # espeak-ng's scale; 50 is the voice's own
RANGES = (30, 80)  # the same, for how far the pitch moves

VOICES = table("drawn")  # of espeak-ng
TRAINING_VOICES, DEVELOPMENT_VOICES, TEST_VOICES, UNSEEN_VOICES = (
    tuple(itertools.chain(*VOICES[name].values())) for name in ("training", "development", "test", "unseen")
)
VOICES_OF_SPLIT: dict[str, tuple[str, ...]] = {
    "train": TRAINING_VOICES, "validation": TRAINING_VOICES, "development": DEVELOPMENT_VOICES, "test": TEST_VOICES
}  # fmt: skip
# A neural voice at four speeds, without noise of its own, which takes half the time. Taught by espeak-ng's voices
# alone, a speech encoder hardly understands other engines (`benchmarks/other_voices.py`).
NEURAL_VOICES = tuple(
    f"piper:joe?length_scale={factor}&noise_scale=0&noise_w_scale=0" for factor in (0.75, 0.9, 1.05, 1.25)
)


@dataclass(frozen=True)
class DrawnSet:
    """Something that is drawn in many species, and how people speak of it.

    All functions stand at the top level of a module, where other processes find them.
    """

    name: str
    """Of the corpus, in the plural."""
    attributes: Mapping[str, tuple[str, ...]]
    """Every attribute with all its values."""
    draw: Callable[[Mapping[str, str], int, int], UInt8[np.ndarray, "side side 3"]]
    """(attributes, seed of the individual, side in pixels) -> picture."""
    caption: Callable[[Mapping[str, str], random.Random], tuple[str, tuple[str, ...]]]
    """(attributes, random numbers) -> a sentence, and the names of the attributes that it states."""
    class_name: str
    """Name of a species, and of its folder, after its number; an attribute in braces stands for its value. Empty, the
    number is the name."""
    changed_sentences: Mapping[str, str] = field(default_factory=dict)
    """For the paper's Figure 3: attribute -> a sentence with `{}` where its word goes; the first one is shown. The
    accuracies of these attributes in generated images are headlines of the report."""
    kept_in_sentences: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """For each changed attribute, what else its sentence says: attribute -> value."""
    language: str = ENGLISH
    """That the captions are in: `english`, or the name of an unwritten one (`invented.spoken_in`)."""
    sentence: Callable[[Mapping[str, str]], str] | None = None
    """Of an unwritten language, facts -> a sentence that states them, by the same words and order whatever the values.
    Its captions are phonemes that only the voices are given, and nothing keeps them."""
    voices: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: VOICES_OF_SPLIT)
    """For each split, those of espeak-ng that speak the captions."""
    unseen_voices: tuple[str, ...] = UNSEEN_VOICES
    """Others, which speak in no split."""
    voice_options: str = ""
    """What their voice strings say beside speed and pitch."""
    wordings: tuple[str, ...] = ()
    """Modules that the captions follow from beside the module of `caption`."""

    @property
    def written(self) -> bool:
        return self.sentence is None

    @property
    def language_tag(self) -> str:
        """The language in a manifest (BCP 47; a tag that begins with `x` is private)."""
        return "en" if self.written else f"x-{self.language.replace(':', '-')}"

    def changed_sentence(self, attribute: str, value: str) -> str:
        """The sentence of a changed attribute with one value, as a voice of the language is given it to speak."""
        if self.sentence is None:
            return fill(self.changed_sentences[attribute], value)
        return self.sentence({attribute: value, **self.kept_in_sentences[attribute]})

    def voice(self, name: str, **options: int) -> str:
        """The voice string of one of the `voices`, which speaks this language."""
        said = [f"{key}={value}" for key, value in options.items()] + [self.voice_options] * bool(self.voice_options)
        return f"espeak:{name}" + (f"?{'&'.join(said)}" if said else "")

    @property
    def min_classes(self) -> int:
        """The fewest classes: enough to train, and one for each of the other splits."""
        return self.min_training_classes + 3

    @property
    def min_training_classes(self) -> int:
        """The fewest that show every value of every attribute."""
        return max(map(len, self.attributes.values()))


def fill(template: str, value: str) -> str:
    """ "has a {} belly" with "orange" gives "has an orange belly"; a template with "{} wings" gets no article."""
    article = "an" if value[0] in "aeiou" else "a"
    return re.sub(r"\ba \{\}", f"{article} {value}", template).replace("{}", value)


# -------------------------------------------------------------------------------------------------------------- species


def split_classes(drawn: DrawnSet, classes: int) -> list[str]:
    """The split of each class, by number: 120 train, 30 validation, 50 development and 50 test of 250, in this order.

    Other numbers are split in proportion; of few, training keeps `DrawnSet.min_training_classes`, and each of the other
    splits has one or more.

    Raises:
        UserError: for fewer classes than show every value in training, or more than 1,000.
    """
    if not drawn.min_classes <= classes <= MAX_CLASSES:
        raise UserError(
            f"--classes {classes}: the {drawn.name} need {drawn.min_classes} to {MAX_CLASSES} classes; fewer leave too "
            "few for training to show every colour."
        )
    held_out = min(round(classes * HELD_OUT_SHARE), classes - drawn.min_training_classes)
    validation = round(held_out * VALIDATION_SHARE)
    development = (held_out - validation) // 2
    counts = (classes - held_out, validation, development, held_out - validation - development)
    return [name for name, count in zip(SPLITS, counts, strict=True) for _ in range(count)]


def species(drawn: DrawnSet, classes: int, seed: int = 0) -> list[dict[str, str]]:
    """The attributes of each class: {attribute: value}, in the order of `split_classes`.

    Within each split every value of an attribute appears equally often, give or take one. In training the pairing of
    attributes is balanced as well (`_balance`), so that no attribute tells anything about another. The classes of the
    other splits are drawn at random and set apart (`_set_apart`), so that each differs from every other class in
    `MIN_DIFFERENT` attributes where there is room for that (`differences` counts); balancing them together with the
    training classes would make their pairs the rarest ones, a test that misleads on purpose.

    Raises:
        UserError: for a number of classes that `split_classes` refuses.
    """
    splits = split_classes(drawn, classes)
    rng = random.Random(f"{seed}/species")
    n_values = [len(values) for values in drawn.attributes.values()]

    def draw(count: int) -> Int64[np.ndarray, "count attributes"]:
        return np.array([_evenly(n, count, rng) for n in n_values], dtype=np.int64).T

    codes = draw(splits.count("train"))
    _balance(codes, n_values, rng)
    for name in SPLITS[1:]:
        new = draw(splits.count(name))
        _set_apart(codes, new, n_values, rng)
        codes = np.concatenate([codes, new])
    return [
        {name: values[code] for (name, values), code in zip(drawn.attributes.items(), row, strict=True)}
        for row in codes.tolist()
    ]


def _evenly(n_values: int, count: int, rng: random.Random) -> list[int]:
    """`count` numbers below `n_values` in random order, each as often as the others or once more."""
    rounds, rest = divmod(count, n_values)
    column = list(range(n_values)) * rounds + rng.sample(range(n_values), rest)
    rng.shuffle(column)
    return column


def _set_apart(
    codes: Int64[np.ndarray, "classes attributes"],
    new: Int64[np.ndarray, "more attributes"],
    n_values: Sequence[int],
    rng: random.Random,
) -> None:
    """Exchange values of an attribute between new classes, in place, until each of them differs from every other class,
    new or not, in `MIN_DIFFERENT` attributes.

    An exchange leaves every value as frequent as it was. It is kept unless it brings classes nearer to each other: what
    falls is the sum, over new classes and their others, of the squared number of differences that are lacking. Two
    equal classes are never left; after `PATIENCE` exchanges anything else is. A single new class has nobody to exchange
    with, and is drawn again.
    """

    def lacking() -> Int64[np.ndarray, "more others"]:
        different = (new[:, None] != np.concatenate([codes, new])).sum(axis=2)
        different[:, len(codes) :][np.diag_indices(len(new))] = MIN_DIFFERENT  # from itself
        return (MIN_DIFFERENT - different).clip(min=0)

    now = lacking()
    for tried in itertools.count():
        if not now.any() or (tried >= PATIENCE and now.max() < MIN_DIFFERENT):
            return
        before = new.copy()
        near = int(now.max(axis=1).argmax())
        if len(new) == 1:
            new[0] = [rng.randrange(n) for n in n_values]
        else:
            pair = [near, rng.choice([i for i in range(len(new)) if i != near])]
            column = rng.randrange(len(n_values))
            new[pair, column] = new[pair[::-1], column]
        then = lacking()
        if (then**2).sum() <= (now**2).sum():
            now = then
        else:
            new[:] = before


def differences(drawn: DrawnSet, kinds: Sequence[Mapping[str, str]]) -> list[int]:
    """In how many attributes each species that training does not see differs from the species that is most like it."""
    codes = np.array([list(kind.values()) for kind in kinds])
    different = (codes[:, None] != codes).sum(axis=2)
    np.fill_diagonal(different, codes.shape[1])
    return different[split_classes(drawn, len(kinds)).count("train") :].min(axis=1).tolist()


def _balance(codes: Int64[np.ndarray, "classes attributes"], n_values: Sequence[int], rng: random.Random) -> None:
    """Exchange values of an attribute between classes, in place, while that spreads pairs of attributes more evenly.

    Minimised is the sum over pairs of attributes of (number of cells) * (sum of squared counts), which up to constants
    is their chi-square statistic.
    """
    weights = np.multiply.outer(n_values, n_values) * (1 - np.eye(len(n_values), dtype=np.int64))
    everything = np.arange(len(n_values))
    # counts[a, b, x, y]: classes with value x of attribute a and y of b
    counts = np.zeros((*weights.shape, max(n_values), max(n_values)), dtype=np.int64)
    for row in codes:
        counts[everything[:, None], everything, row[:, None], row] += 1
    for _ in range(min(SWAPS_PER_CELL * codes.size, MAX_SWAPS)):
        i, j = rng.sample(range(len(codes)), 2)
        a = rng.randrange(len(n_values))
        x, y, of_i, of_j = codes[i, a], codes[j, a], codes[i], codes[j]
        if x == y:
            continue
        won = counts[a][everything, y, of_i] + counts[a][everything, x, of_j]
        lost = counts[a][everything, x, of_i] + counts[a][everything, y, of_j]
        if ((won - lost + 2) * weights[a] * (of_i != of_j)).sum() > 0:
            continue
        for row, old, new in ((i, x, y), (j, y, x)):
            others = everything[everything != a]
            values = codes[row, others]
            for value, step in ((old, -1), (new, 1)):
                counts[a, others, value, values] += step
                counts[others, a, values, value] += step
            codes[row, a] = new


# --------------------------------------------------------------------------------------------------------- descriptions


@dataclass(frozen=True)
class Description:
    """A caption and who speaks it."""

    text: str
    """Words, or phonemes where the language is not written."""
    mentions: tuple[str, ...]
    """Names of the attributes that the text states."""
    voice: str
    """For `s2igan.speech.parse_voice`."""

    @property
    def speaker(self) -> str:
        """The voice without its speed and pitch."""
        return self.voice.partition("?")[0]


def describe(
    drawn: DrawnSet,
    attributes: Mapping[str, str],
    split: str,
    rng: random.Random,
    extra_voices: Sequence[str] = (),
) -> Description:
    """One caption of an individual and a voice to speak it.

    It is one of `extra_voices` as it is, if there are any, else one of espeak-ng's for the split at a random speed and
    pitch.
    """
    text, mentions = drawn.caption(attributes, rng)
    if extra_voices:
        return Description(text, mentions, rng.choice(extra_voices))
    voice = rng.choice(drawn.voices[split])
    rate, pitch, pitch_range = rng.randint(*RATES), rng.randint(*PITCHES), rng.randint(*RANGES)
    return Description(text, mentions, drawn.voice(voice, rate=rate, pitch=pitch, range=pitch_range))


def caption_key(seed: int, number: int, individual: int, k: int) -> str:
    """Seed of the k-th caption of an individual of a species."""
    return f"{seed}/{number}/{individual}/caption/{k}"


# ---------------------------------------------------------------------------------------------------------- preparation


@dataclass(frozen=True)
class _Picture:
    """One individual with its descriptions: what a process makes files of."""

    drawn: DrawnSet
    root: Path
    class_name: str
    split: str
    attributes: dict[str, str]
    number: int
    seed: int
    """Of the drawing."""
    side: int
    """Pixels."""
    descriptions: tuple[Description, ...]

    @property
    def image(self) -> str:
        return f"images/{self.class_name}/{self.number:02d}.png"

    def audio(self, k: int) -> str:
        return f"audio/{self.class_name}/{self.number:02d}_{k}.flac"

    def finished(self) -> bool:
        files = [self.image, *(self.audio(k) for k in range(len(self.descriptions)))]
        return all(has_content(self.root / file) for file in files)

    def make(self) -> list[tuple[str, Float16[np.ndarray, "_ 40"]]]:
        """Draw and speak what is not there yet; the paths of what was spoken now, with log-mels equal to those that the
        files would give."""
        from s2igan.audio import resampled
        from s2igan.data.pack import stored_log_mel

        if not has_content(self.root / self.image):
            write_whole(self.root / self.image, _png(self.drawn.draw(self.attributes, self.seed, self.side)))
        spoken = {}
        for k, description in enumerate(self.descriptions):
            if not has_content(self.root / self.audio(k)):
                voice = parse_voice(description.voice)
                samples = speak(voice, description.text, bits=FLAC_BITS)
                write_whole(self.root / self.audio(k), flac(samples, voice.sample_rate))
                spoken[self.audio(k)] = samples / np.float32(32768), voice.sample_rate
        mels = []
        for path, (wave, sample_rate) in spoken.items():
            with contextlib.suppress(UserError):  # `build_store` says what is wrong with the file
                mels.append((path, stored_log_mel(resampled(wave, sample_rate, path))))
        return mels

    def rows(self) -> Iterator[Utterance]:
        for k, description in enumerate(self.descriptions):
            yield Utterance(
                audio=self.audio(k),
                image=self.image,
                class_name=self.class_name,
                split=self.split,
                speaker=description.speaker,
                language=self.drawn.language_tag,
                text=description.text if self.drawn.written else None,
                attributes=self.attributes,
                mentions=description.mentions,
            )


def prepare(
    drawn: DrawnSet,
    out: str | Path,
    classes: int,
    individuals: int = 16,
    captions: int = 6,
    size: int = 256,
    seed: int = 0,
    jobs: int | None = None,
    extra_voices: Sequence[str] | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Draw a set, have its captions spoken, and pack both for training under `out`.

    Writes `images/<class>/<individual>.png`, `audio/<class>/<individual>_<caption>.flac`, `manifest.jsonl` and the
    store. Every file follows from the arguments alone, whatever `jobs` and the order of work. What is there already is
    kept, so that an interrupted preparation goes on, and more individuals or captions can be added.

    Args:
        out: directory to make.
        classes: species; see `split_classes`. The usual number is in `registry.BUILT_IN`.
        individuals: pictures of each species.
        captions: spoken descriptions of each picture.
        size: side in pixels of the images to be trained on; 76/64 of it is stored.
        seed: everything follows from it.
        jobs: processes; one per usable core unless given.
        extra_voices: voice strings besides those of espeak-ng, for the first caption of each class of training and
            validation; unless given, `NEURAL_VOICES`, or none that would have to read an unwritten language.
        say: gets a line about the classes that are nearer to another one than they should be, if there are any.

    Raises:
        UserError: for counts or voices that cannot be, if `out` holds another corpus or this one made with other
            arguments, or the disk is full.
    """
    from s2igan.data.pack import build_store

    out = Path(out)
    for option, count in (("--individuals", individuals), ("--captions", captions)):
        if count < 1:
            raise UserError(f"{option} {count}: choose 1 or more.")
    kinds = species(drawn, classes, seed)
    different = differences(drawn, kinds)
    if (near := sum(count < MIN_DIFFERENT for count in different)) > 0:
        say(
            f"{near} of {len(different)} species outside of training differ from another one in fewer than "
            f"{MIN_DIFFERENT} attributes, at least in {min(different)}."
        )
    if extra_voices is None:
        extra_voices = NEURAL_VOICES if drawn.written else ()
    if extra_voices and not drawn.written:
        raise UserError("--extra-voices: no other engine speaks a made-up language; leave it out.")
    for voice in [*(f"espeak:{voice}" for voice in sorted(set().union(*drawn.voices.values()))), *extra_voices]:
        parse_voice(voice)
    settings = {"classes": classes, "size": size, "seed": seed, "version": version(drawn)}
    settings["extra_voices"] = list(extra_voices)
    if not drawn.written:
        settings[LANGUAGE] = drawn.language
    _claim(out, drawn.name, settings)

    pictures = []
    for number, (attributes, split) in enumerate(zip(kinds, split_classes(drawn, classes), strict=True)):
        for individual in range(individuals):
            key = f"{seed}/{number}/{individual}"
            extra = extra_voices if individual == 0 and split in ("train", "validation") else ()
            descriptions = tuple(
                describe(
                    drawn,
                    attributes,
                    split,
                    random.Random(caption_key(seed, number, individual, k)),
                    () if k else extra,
                )
                for k in range(captions)
            )
            drawing = random.Random(f"{key}/drawing").getrandbits(32)
            name = f"{number:03d}" + (drawn.class_name and f"_{drawn.class_name.format(**attributes)}")
            pictures.append(
                _Picture(drawn, out, name, split, attributes, individual, drawing, stored_size(size), descriptions)
            )
    write_manifest(out / "manifest.jsonl", (row for picture in pictures for row in picture.rows()))
    facts: dict[str, Any] = {
        "least_differences": {"wanted": MIN_DIFFERENT, "found": min(different), "species_below": near}
    }
    if not drawn.written:
        facts[LANGUAGE] = drawn.language
    build_store(out / "manifest.jsonl", out, image_size=size, facts=facts, made=_make_all(pictures, jobs), jobs=jobs)


def _make_all(pictures: Sequence[_Picture], jobs: int | None) -> Iterator[tuple[str, Float16[np.ndarray, "_ 40"]]]:
    """Draw and speak what is not there yet; gives the log-mels of what was spoken, by path."""
    root = pictures[0].root
    with disk_errors(root):
        for kind in ("images", "audio"):
            for name in {picture.class_name for picture in pictures}:
                (root / kind / name).mkdir(parents=True, exist_ok=True)
            for temporary in (root / kind).glob("*/.*.tmp"):
                if abandoned(temporary):
                    temporary.unlink(missing_ok=True)
    todo = [picture for picture in pictures if not picture.finished()]
    with progress_bars() as bars:
        bar = bars.add_task(
            f"{pictures[0].drawn.name} drawn and described", total=len(pictures), completed=len(pictures) - len(todo)
        )
        for _, mels in each_result(_Picture.make, todo, jobs):
            yield from mels
            bars.advance(bar)


def _claim(out: Path, name: str, settings: dict[str, Any]) -> None:
    """Write down what the files under `out` are made with; refuse a folder where that was something else."""
    path = out / f"{name}.json"
    if not path.exists():
        if (out / "manifest.jsonl").exists():
            raise UserError(f"{out}: holds another corpus, its manifest.jsonl; choose another folder for the {name}.")
        atomic_write_json(path, settings)
        return
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        found = {}
    if found != settings:
        differ = [name for name in settings if found.get(name) != settings[name]]
        was, now = (", ".join(f"{name} {values.get(name)}" for name in differ) for values in (found, settings))
        raise UserError(f"{out}: holds {name} made with {was}, not {now}; choose another folder or delete this one.")


def version(drawn: DrawnSet) -> str:
    """Changes when the source of drawings, captions or voices does, wordings included, or the renderer, so that files
    of two versions are not mixed."""
    digest = hashlib.sha256(f"{importlib.metadata.version('resvg-py')} {drawn.class_name}".encode())
    names = (drawn.draw.__module__, drawn.caption.__module__, *drawn.wordings)
    for module in (*(sys.modules[name] for name in names), svg, phrases, sys.modules[__name__]):
        digest.update(source(module))
    return digest.hexdigest()[:12]


def _png(pixels: UInt8[np.ndarray, "side side 3"]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=PNG_LEVEL)
    return file.getvalue()
