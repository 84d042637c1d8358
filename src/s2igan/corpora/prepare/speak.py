"""Speech for whole corpora: captions that have no recording are spoken by synthetic voices, into files."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path, PurePosixPath

from s2igan.corpora.importers.source import Problem
from s2igan.data.manifest import Utterance
from s2igan.errors import UserError
from s2igan.files import disk_errors, has_content, remove_abandoned, write_whole
from s2igan.parallel import each_result, progress_bars
from s2igan.speech import flac, parse_voice, speak

FOLDER = "speech"  # under the folder of the corpus
CAPTIONS_PER_TASK = 8  # few enough that Ctrl-C does not wait long for a slow voice, enough that a task costs nothing
GIVE_UP_AFTER = 50  # captions that a voice could not speak, where it has spoken none
MAX_STEM = 40  # letters of the picture's name in a recording's name, for people who look into the folder


def speak_rows(
    rows: Sequence[Utterance], voices: Sequence[str], out: Path, *, seed: int, jobs: int | None = None
) -> tuple[list[Utterance], list[Problem]]:
    """Have the rows spoken that have a text and no recording.

    Every such row is given one of the voices by the seed, its picture and its text alone: other rows, their order and
    `jobs` change nothing about it, and a further voice takes over only the captions that become its own. Its recording
    is `speech/<2 letters>/<picture>-<hash>.flac` under `out`, where the hash is of voice, picture and text, so that
    what was spoken before (also by a run that was killed) is not spoken again. Rows that differ in nothing are counted,
    and have recordings of their own.

    Args:
        voices: one or more, for `s2igan.speech.parse_voice`.
        seed: of the choice of voices.

    Returns:
        The rows in their order: those that were spoken have `audio`, relative to `out`, and the voice as `speaker`,
        those with a recording are as they were, those that could not be spoken are left out. And of these why, by the
        path of the picture.

    Raises:
        UserError: if there is no such voice, a voice could not speak any of its first 50 captions, or the disk is full.
    """
    captions = _captions(rows, voices, out, seed)
    todo = [caption for caption in captions.values() if not has_content(caption.path)]
    with disk_errors(out / FOLDER):
        for folder in {caption.path.parent for caption in todo}:
            folder.mkdir(parents=True, exist_ok=True)
        remove_abandoned(out / FOLDER)

    tasks = [tuple(todo[at : at + CAPTIONS_PER_TASK]) for at in range(0, len(todo), CAPTIONS_PER_TASK)]
    reasons: dict[Path, str] = {}
    failed: Counter[str] = Counter()
    spoke: set[str] = set()
    with progress_bars(bool(captions)) as bars:
        bar = bars.add_task("captions spoken", total=len(captions), completed=len(captions) - len(todo))
        for task, results in each_result(_speak, tasks, jobs):
            for caption, reason in zip(task, results, strict=True):
                if reason is None:
                    spoke.add(caption.voice)
                    continue
                reasons[caption.path] = reason
                failed[caption.voice] += 1
                if failed[caption.voice] == GIVE_UP_AFTER and caption.voice not in spoke:
                    raise UserError(
                        f"voice {caption.voice!r}: could speak none of its first {GIVE_UP_AFTER} captions ({reason}); "
                        "try it on one sentence, or name another voice."
                    )
            bars.advance(bar, len(task))

    spoken, problems = [], []
    for number, row in enumerate(rows):
        described = captions.get(number)
        if described is None and row.audio:
            spoken.append(row)
        elif described is None:
            problems.append(Problem(row.image, "neither a recording nor a text that could be spoken"))
        elif described.path in reasons:
            problems.append(Problem(row.image, reasons[described.path]))
        else:
            spoken.append(replace(row, audio=described.path.relative_to(out).as_posix(), speaker=described.voice))
    return spoken, problems


@dataclass(frozen=True)
class _Caption:
    """A text to be spoken, and where to."""

    voice: str
    text: str
    path: Path


def _captions(rows: Sequence[Utterance], voices: Sequence[str], out: Path, seed: int) -> dict[int, _Caption]:
    """What has to be spoken, by number of the row."""
    names = {voice: parse_voice(voice).name for voice in voices}
    seen: Counter[tuple[str, str]] = Counter()
    captions = {}
    for number, row in enumerate(rows):
        text = row.text.strip() if row.text else ""
        if row.audio or not text:
            continue
        occurrence = seen[row.image, text]
        seen[row.image, text] += 1
        key = _hash(f"{row.image}\n{text}\n{occurrence}")
        voice = max(names, key=lambda voice: _hash(f"{seed}\n{key}\n{voice}"))
        digest = _hash(f"{names[voice]}\n{key}")
        stem = re.sub(r"[^\w-]+", "-", PurePosixPath(row.image).stem, flags=re.ASCII).strip("-")[:MAX_STEM]
        captions[number] = _Caption(voice, text, out / FOLDER / digest[:2] / f"{stem}-{digest}.flac")
    return captions


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=10).hexdigest()


_voice = cache(parse_voice)  # once a process: some have to be loaded


def _speak(task: Sequence[_Caption]) -> list[str | None]:
    """Write the recordings; for each None, or why there is none."""
    reasons: list[str | None] = []
    for caption in task:
        try:
            voice = _voice(caption.voice)
            content = flac(speak(voice, caption.text), voice.sample_rate)
        except UserError as error:
            reasons.append(str(error).rstrip("."))
            continue
        write_whole(caption.path, content)
        reasons.append(None)
    return reasons
