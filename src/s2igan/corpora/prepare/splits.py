"""Splits for corpora that bring none, and a validation split for those that bring only train and test.

What hangs together stays together: rows of one picture, rows of one sound (the same recording, or parts of it that
overlap), and files that hold the same bytes under two names. Where a corpus brings no splits and has classes, whole
classes are shared out, as in the paper; elsewhere pictures are. On request, all that one speaker says stays together.

A corpus that brings only train and test was published to be trained on with all of its `train`. Pictures of every large
enough class are held out of it to choose the weights of stage 1; stage 2 trains on them too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from s2igan.corpora.prepare.options import PROPORTIONS
from s2igan.data.manifest import Utterance
from s2igan.errors import UserError
from s2igan.text_utils import counted

SHARED_OUT = ("train", "validation", "test")
"""The splits of a corpus that brings none."""
MIN_CLASSES = 4
"""Fewer classes than this are not shared out whole: training would be left with a single one."""
MIN_TRAINING_PARTS = 2
"""Parts that hang together which training keeps, however small the corpus: it compares pictures with each other."""
BY_SPEAKER_REMEDY = "leave --speaker-disjoint out, or split by hand in the column 'split' of a manifest"


@dataclass(frozen=True)
class Splits:
    """Rows with their splits."""

    rows: list[Utterance]
    notes: tuple[str, ...] = ()
    """Sentences that a user should read."""
    validation_from_train: bool = False
    """Whether the validation split is held out of a `train` that the corpus brings, all of which stage 2 trains on."""


def with_splits(
    rows: Sequence[Utterance],
    *,
    proportions: tuple[float, float, float] = PROPORTIONS,
    seed: int = 0,
    speaker_disjoint: bool = False,
    same: Mapping[str, str] | None = None,
) -> Splits:
    """Give every row a split; splits that the corpus brings stay as they are.

    Args:
        rows: of one corpus, all with a class or none.
        proportions: shares of train, validation and test, counted in pictures.
        seed: of the choice.
        speaker_disjoint: no speaker is in two splits.
        same: for files that hold the same bytes as another, the path of that other.

    Raises:
        UserError: the proportions make no sense; or speakers cannot be kept apart.
    """
    if any(share < 0 for share in proportions) or proportions[0] <= 0 or not 0.99 < sum(proportions) < 1.01:
        raise UserError(
            f"--proportions {' '.join(f'{share:g}' for share in proportions)}: the shares of train, validation and "
            "test must add up to 1, and training needs some."
        )
    rows, same = list(rows), same or {}
    if speaker_disjoint:
        _check_speakers(rows)
    found = _shared(rows, proportions, seed, speaker_disjoint, same)
    classes = {row.class_name for row in found.rows if row.split == "train"}
    if len(classes) != 1 or classes == {None}:
        return found
    note = f"All pictures for training are of the class {classes.pop()!r}: that is as good as no classes, and left out."
    return replace(found, rows=[replace(row, class_name=None) for row in found.rows], notes=(*found.notes, note))


def _shared(
    rows: list[Utterance],
    proportions: tuple[float, float, float],
    seed: int,
    speaker_disjoint: bool,
    same: Mapping[str, str],
) -> Splits:
    brought = {row.split for row in rows} - {None}
    if not brought:
        shares = dict(zip(SHARED_OUT, proportions, strict=True))
        return _shared_out(rows, shares, seed, speaker_disjoint, same)
    notes = []
    without = sum(row.split is None for row in rows)
    if without:
        notes.append(f"{without:,} of {len(rows):,} utterances have no split while others have one: they are not used.")
    held_out = 0
    if "train" in brought and "validation" not in brought and proportions[1] > 0:
        share = proportions[1] / (proportions[0] + proportions[1])
        held_out = _hold_out(rows, share, seed, speaker_disjoint, same)
        notes.append(
            f"The corpus brings no validation split: {counted(held_out, 'picture')} of its training split "
            f"{'is' if held_out == 1 else 'are'} held out to choose stage 1; stage 2 trains on all of it."
            if held_out
            else "The corpus brings no validation split, and too few pictures for training to hold any of them out."
        )
    if "test" not in brought:
        notes.append("The corpus brings no test split: what is trained on it can only be scored on another split.")
    return Splits(rows, tuple(notes), validation_from_train=held_out > 0)


def _hold_out(rows: list[Utterance], share: float, seed: int, speaker_disjoint: bool, same: Mapping[str, str]) -> int:
    """Make about `share` of the training pictures the validation split, in place; returns how many.

    Every class gives its share, and keeps `MIN_TRAINING_PARTS`: stage 1 must know all classes that stage 2 meets.
    """
    number_of = [i for i, row in enumerate(rows) if row.split == "train"]
    training = [rows[i] for i in number_of]
    parts = _parts(training, same, by_class=False, by_speaker=speaker_disjoint)
    classes = [{training[i].class_name for i in part} for part in parts]
    pictures = [len({same.get(training[i].image, training[i].image) for i in part}) for part in parts]
    n_parts = Counter(name for names in classes for name in names)
    drawn: Counter[str | None] = Counter()
    order = []  # of every class the same share, as far as one goes
    for number in np.random.default_rng([seed, 0x401D]).permutation(len(parts)).tolist():
        drawn.update(classes[number])
        order.append((max(drawn[name] / n_parts[name] for name in classes[number]), number))

    left = Counter(n_parts)

    def spare(number: int) -> bool:
        return all(left[name] > MIN_TRAINING_PARTS for name in classes[number])

    room, held_out = share * sum(pictures), list[int]()
    for _, number in sorted(order):
        if pictures[number] / 2 <= room and spare(number):
            held_out.append(number)
            room -= pictures[number]
            left.subtract(classes[number])
    if not held_out:  # every part is larger than the share
        held_out = sorted(filter(spare, range(len(parts))), key=pictures.__getitem__)[:1]
    for number in held_out:
        for i in parts[number]:
            rows[number_of[i]] = replace(training[i], split="validation")
    return sum(pictures[number] for number in held_out)


def _check_speakers(rows: Sequence[Utterance]) -> None:
    unknown = next((row for row in rows if row.speaker is None), None)
    if unknown is not None:
        n = sum(row.speaker is None for row in rows)
        raise UserError(
            f"--speaker-disjoint needs the speaker of every utterance, and {n:,} of {len(rows):,} have none, the first "
            f"{unknown.audio or unknown.image}; {BY_SPEAKER_REMEDY}."
        )
    split_of: dict[str | None, str] = {}
    for row in rows:
        if row.split is not None and split_of.setdefault(row.speaker, row.split) != row.split:
            raise UserError(
                f"--speaker-disjoint: the corpus brings its own splits, and {row.speaker!r} speaks in "
                f"{split_of[row.speaker]} and in {row.split}; {BY_SPEAKER_REMEDY}."
            )


def _shared_out(
    rows: list[Utterance],
    shares: Mapping[str, float],
    seed: int,
    speaker_disjoint: bool,
    same: Mapping[str, str],
) -> Splits:
    """The rows of a corpus that brings no splits."""
    notes = []
    parts: list[list[int]] = []
    if any(row.class_name is not None for row in rows):
        parts = _parts(rows, same, by_class=True, by_speaker=speaker_disjoint)
        if len(parts) < MIN_CLASSES:
            together = " that share no picture, recording or speaker" if speaker_disjoint else ""
            notes.append(
                f"There {'is' if len(parts) == 1 else 'are'} {counted(len(parts), 'class')}{together}, too few to keep "
                f"some for testing ({MIN_CLASSES} are needed): pictures are split, and every split may show every "
                "class."
            )
            parts = []
    if not parts:
        parts = _parts(rows, same, by_class=False, by_speaker=speaker_disjoint)
    sizes = [len({same.get(rows[i].image, rows[i].image) for i in part}) for part in parts]
    names = _share_out(sizes, shares, seed)
    for part, name in zip(parts, names, strict=True):
        for i in part:
            rows[i] = replace(rows[i], split=name)
    empty = [name for name, share in shares.items() if share > 0 and name not in names]
    if empty:
        n = len(parts)
        notes.append(
            f"The corpus is too small for a {' and a '.join(empty)} split: it has {n} part{'s' * (n > 1)} that "
            f"share{'s' * (n == 1)} no picture or recording with the rest, and training keeps {MIN_TRAINING_PARTS}."
        )
    return Splits(rows, tuple(notes))


def _parts(rows: Sequence[Utterance], same: Mapping[str, str], *, by_class: bool, by_speaker: bool) -> list[list[int]]:
    """The connected components of the rows, in the order of their first rows.

    Raises:
        UserError: all hang together because of what speakers share.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ties: list[tuple[int, int]] = []
    first: dict[tuple[str, str], int] = {}
    sounds: dict[str, list[tuple[float, float, int]]] = {}
    for i, row in enumerate(rows):
        names = [("image", same.get(row.image, row.image))]
        if by_class and row.class_name is not None:
            names.append(("class", row.class_name))
        if by_speaker and row.speaker is not None:
            names.append(("speaker", row.speaker))
        ties += [(first.setdefault(name, i), i) for name in names]
        if row.audio:
            audio, start, end = row.recording
            sounds.setdefault(same.get(audio, audio), []).append((start, end, i))
    for sound in sounds.values():
        sound.sort()
        _, last_end, last = sound[0]
        for start, end, i in sound[1:]:
            if start < last_end:
                ties.append((last, i))
            if end > last_end:
                last_end, last = end, i
    shape = (len(rows), len(rows))
    _, part_of = connected_components(coo_array((np.ones(len(ties)), np.array(ties).T), shape=shape), directed=False)
    parts: dict[int, list[int]] = {}
    for i, part in enumerate(part_of.tolist()):
        parts.setdefault(part, []).append(i)
    if by_speaker and not by_class and len(parts) == 1:
        speakers = len({row.speaker for row in rows})
        raise UserError(
            f"--speaker-disjoint: no split keeps the {speakers} speaker{'s' * (speakers > 1)} apart, since the "
            f"pictures that they share tie all {len(rows):,} utterances together; {BY_SPEAKER_REMEDY}."
        )
    return list(parts.values())


def _share_out(sizes: Sequence[int], shares: Mapping[str, float], seed: int) -> list[str]:
    """A split for each part: the largest first, parts of one size in random order, each to the split that lacks most.

    Then a split that stayed empty gets the smallest part of training, as long as that keeps `MIN_TRAINING_PARTS`.
    """
    rng = np.random.default_rng([seed, 0x5B117])
    order = sorted(rng.permutation(len(sizes)).tolist(), key=lambda part: -sizes[part])
    lacking = {name: share * sum(sizes) for name, share in shares.items() if share > 0}
    names = [""] * len(sizes)
    for part in order:
        name = max(lacking, key=lacking.__getitem__)
        names[part] = name
        lacking[name] -= sizes[part]
    for name in ("test", "validation"):
        if name in lacking and name not in names and names.count("train") > MIN_TRAINING_PARTS:
            names[next(part for part in reversed(order) if names[part] == "train")] = name
    return names
