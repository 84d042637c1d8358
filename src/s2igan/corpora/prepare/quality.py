"""How well recordings are made: clipping, level, noise and silence, as whoever records can hear and mend it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from s2igan.data.manifest import Utterance
from s2igan.data.pack import Item, in_shares
from s2igan.errors import UserError
from s2igan.parallel import each_result, progress_bars
from s2igan.text_utils import counted

FRAME_SECONDS = 0.02
FLAT_SAMPLES = 3
"""Neighbours at the largest value that a microphone or a converter cut off."""
FLAT = 0.999
"""Of the largest value."""
TOP, BELOW_TOP = 0.9, 0.75
"""Of full scale: a codec ripples flat tops, but more samples lie above the one than between both, unlike in speech."""
LOUD = 0.25
"""Of full scale: below, nothing is clipped."""
DARKEST_DB = -120.0
SPEECH_MARGIN_DB = 6.0
"""That speech is above the noise at least."""
TRIM_MARGIN_SECONDS = 0.2
"""Of silence that is left before and after what is said."""
SPEAKERS_SHOWN = 4
EXAMPLES = 2


@dataclass(frozen=True)
class Quality:
    """Of one recording, or of a part of one."""

    seconds: float
    clipped: float
    """Share of the samples that lie in flat tops, or where those were before a codec."""
    level_db: float
    """Of the louder frames, in decibels below full scale."""
    noise_db: float
    """By how much the quietest tenth of the frames is quieter; speech over a noise that never stops has little."""
    silence: float
    """Share of the frames in which nobody speaks; 0 where speech does not stand out of the noise."""


def quality(wave: Float[np.ndarray, " samples"], rate: float) -> Quality:
    """Of a waveform at its own rate (Hz)."""
    level, floor, speech = _frames(wave, rate)
    is_told_apart = len(speech) > 0 and level - floor >= 2 * SPEECH_MARGIN_DB
    silence = 1.0 - float(speech.mean()) if is_told_apart else 0.0
    return Quality(len(wave) / rate, _clipped(wave), level, level - floor, silence)


def _clipped(wave: Float[np.ndarray, " samples"]) -> float:
    peak = float(np.abs(wave).max(initial=0.0))
    if peak < LOUD:
        return 0.0
    share = 0.0
    for sign in (1.0, -1.0):
        at_top = np.r_[False, sign * wave >= FLAT * peak, False]
        edges = np.flatnonzero(at_top[1:] != at_top[:-1])
        lengths = edges[1::2] - edges[::2]
        share += float(lengths[lengths >= FLAT_SAMPLES].sum()) / len(wave)
    loud = np.abs(wave) >= TOP
    below = (np.abs(wave) >= BELOW_TOP) & ~loud
    heaped = float(loud.mean())
    return max(share, heaped if heaped > float(below.mean()) else 0.0)


def _frames(wave: Float[np.ndarray, " samples"], rate: float) -> tuple[float, float, Bool[np.ndarray, " frames"]]:
    """Level and noise in decibels, and in which frames somebody speaks."""
    size = max(1, round(FRAME_SECONDS * rate))
    frames = wave[: len(wave) // size * size].reshape(-1, size).astype(np.float64)
    if not len(frames):
        return DARKEST_DB, DARKEST_DB, np.zeros(0, bool)
    power = np.maximum(frames.var(axis=1), 10 ** (DARKEST_DB / 10))
    decibels = 10 * np.log10(power)
    level, floor = (float(np.percentile(decibels, share)) for share in (90, 10))
    return level, floor, decibels > floor + max(SPEECH_MARGIN_DB, 0.4 * (level - floor))


def speech_span(wave: Float[np.ndarray, " samples"], rate: float) -> tuple[float, float]:
    """From where to where somebody speaks, in seconds, with a margin; all where nothing stands out of the noise."""
    seconds = len(wave) / rate
    level, floor, speech = _frames(wave, rate)
    spoken = np.flatnonzero(speech)
    if level - floor < 2 * SPEECH_MARGIN_DB or not len(spoken):
        return 0.0, seconds
    start = max(0.0, int(spoken[0]) * FRAME_SECONDS - TRIM_MARGIN_SECONDS)
    return start, min(seconds, (int(spoken[-1]) + 1) * FRAME_SECONDS + TRIM_MARGIN_SECONDS)


# -------------------------------------------------------------------------------------------------------------- trimmed


def trimmed(rows: Sequence[Utterance], root: Path, jobs: int | None) -> list[Utterance]:
    """The rows with their times around what is said; those that cannot be decoded stay as they are."""
    sounds = {Item(row.audio, row.start_seconds, row.end_seconds): None for row in rows if row.audio}
    spans: dict[Item, tuple[float, float]] = {}
    with progress_bars() as bars:
        bar = bars.add_task("silence looked for", total=len(sounds))
        tasks = [(root, share) for share in in_shares(list(sounds), 64)]
        for (_, share), found in each_result(_spans, tasks, 1 if len(tasks) <= 4 else jobs):
            spans |= found
            bars.advance(bar, len(share))
    cut = []
    for row in rows:
        span = spans.get(Item(row.audio, row.start_seconds, row.end_seconds))
        cut.append(row if span is None else replace(row, start_seconds=span[0], end_seconds=span[1]))
    return cut


def _spans(task: tuple[Path, tuple[Item, ...]]) -> dict[Item, tuple[float, float]]:
    from s2igan.audio import decoded

    root, items = task
    spans = {}
    for item in items:
        try:
            wave, rate = decoded(root / item.path, item.start_seconds, item.end_seconds)
        except UserError:
            continue
        start, end = (round(edge + (item.start_seconds or 0.0), 3) for edge in speech_span(wave, rate))
        spans[item] = start, end
    return spans


# ------------------------------------------------------------------------------------------------------------- in words


LIMITS = (
    (
        "clipped",
        "over 0.1 % of the samples are clipped; record with less gain, further from the mouth",
        lambda q: q.clipped > 1e-3,
    ),
    (
        "noisy",
        "speech is less than 10 dB above the noise; record in a quieter place, nearer to the mouth",
        lambda q: q.noise_db < 10,
    ),
    ("faint", "the level is below -45 dB; record with more gain", lambda q: q.level_db < -45),
    (
        "mostly silent",
        "over 70 % is silence; cut it, or prepare with --trim-silence",
        lambda q: q.silence > 0.7 and q.seconds > 2,
    ),
)
"""What is pointed out, and not refused: the name, what to do, and where it holds."""


def warnings_of(found: Mapping[str, Quality]) -> list[dict[str, Any]]:
    """`path`, `kind` and `reason` of every recording that stands out, by kind; `found` is by path."""
    return [
        {"path": path, "kind": kind, "reason": reason}
        for kind, reason, holds in LIMITS
        for path, own in found.items()
        if holds(own)
    ]


def by_speaker(found: Iterable[tuple[str, Quality]]) -> dict[str, dict[str, float]]:
    """Medians over the recordings of each speaker, and how many there are."""
    groups: dict[str, list[Quality]] = {}
    for speaker, own in found:
        groups.setdefault(speaker, []).append(own)
    return {
        speaker: {
            "recordings": len(own),
            **{
                name: round(median(getattr(q, name) for q in own), 4)
                for name in ("clipped", "level_db", "noise_db", "silence")
            },
        }
        for speaker, own in sorted(groups.items())
    }


def lines_of(speakers: Mapping[str, Mapping[str, float]], warnings: Sequence[Mapping[str, Any]]) -> list[str]:
    """For a terminal: the speakers with the most noise first, then what stands out."""
    lines = []
    worst = sorted(speakers, key=lambda name: speakers[name]["noise_db"])
    for name in worst[:SPEAKERS_SHOWN]:
        own = speakers[name]
        lines.append(
            f"  {name}: {counted(int(own['recordings']), 'recording')}, level {own['level_db']:.0f} dB, noise "
            f"{own['noise_db']:.0f} dB below, {100 * own['clipped']:.2g} % clipped, {100 * own['silence']:.0f} % silent"
        )
    if len(worst) > SPEAKERS_SHOWN:
        lines.append(f"  and {counted(len(worst) - SPEAKERS_SHOWN, 'more speaker')}, with less noise")
    for kind, reason, _ in LIMITS:
        own_paths = [warning["path"] for warning in warnings if warning["kind"] == kind]
        if own_paths:
            more = f" and {len(own_paths) - EXAMPLES:,} more" if len(own_paths) > EXAMPLES else ""
            lines.append(f"  {len(own_paths):,} {kind}: {reason} ({', '.join(own_paths[:EXAMPLES])}{more})")
    return lines
