"""Decodes sound files of any kind, whole or in part, and never a part as if it were the whole.

What a file is, its first bytes say. libsndfile decodes what it decodes right; PyAV, the extra `phones`, the rest: m4a,
AAC, AMR, 3gp, Windows Media, WebM, Matroska, the sound of films, and mp3 of variable rate whose length no header gives.
Before a second is trusted, the container is counted (`sound_containers`).
"""

from __future__ import annotations

import contextlib
import functools
import mmap
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import soundfile
from jaxtyping import Float

from s2igan.errors import UserError
from s2igan.file_kinds import KINDS, START_BYTES, Kind, kind_of, mistaken
from s2igan.sound_containers import (
    Extent,
    Mp3,
    after_tags,
    extent,
    flac_rate,
    flac_samples,
    flac_with_length,
    mend_wav,
    mp3_frames,
    second_flac,
)

MAX_MISSING_SECONDS = 0.1
"""Of a file that is cut off: a recorder's last block may be short."""
BLOCK_NUMBERS = 1 << 25
"""Samples times channels that are decoded at once: 134 MB."""
SEEK_MARGIN_SECONDS = 2.0
"""Before a part of a file of a phone, from where it is decoded: decoders need a run-up."""
SNDFILE = frozenset({"wav", "w64", "aiff", "au", "caf", "flac", "ogg", "sph", "mp3"})
"""Kinds that libsndfile may decode."""
DEMUXERS = {
    "wav": "wav",
    "w64": "w64",
    "aiff": "aiff",
    "au": "au",
    "caf": "caf",
    "ogg": "ogg",
    "mp3": "mp3",
    "aac": "aac",
    "amr": "amr",
    "mp4": "mov",
    "asf": "asf",
    "ebml": "matroska",
    "avi": "avi",
    "ape": "ape",
    "wavpack": "wv",
    "ts": "mpegts",
}
"""Names of ffmpeg, by kind. It is never let guess: what it takes for a playlist may name files and servers."""
SEEKABLE = frozenset({"mp4"})
"""Kinds whose frames know their time to the sample."""
TIMED = frozenset({"mp4", "ebml", "asf", "ts"})
"""Kinds whose packets say when they are heard, whatever came before."""
PLAIN = frozenset({"IRCAM", "PVF", "PAF"})
"""Further kinds, by libsndfile's names, that are decoded: their sound reaches to the end of the file by definition."""
EXTRA = "phones"
COPY_AGAIN = "copy it from the device again"


@runtime_checkable
class Reader(Protocol):
    """An opened sound file."""

    @property
    def rate(self) -> int:
        """Hz."""

    @property
    def channels(self) -> int:
        """How many."""

    @property
    def total(self) -> int | None:
        """Samples of each channel that the file holds; None where only decoding tells."""

    @property
    def seconds(self) -> float | None:
        """How long it is as far as its header knows."""

    def blocks(self, start: int, stop: int | None) -> Iterator[Float[np.ndarray, "samples channels"]]:
        """The samples from `start` to `stop`, or to the end, in blocks; may be called again.

        Raises:
            UserError: it is read to its end, and that end is not that of the recording.
        """


@contextlib.contextmanager
def open_sound(path: Path) -> Iterator[Reader]:
    """Opens a sound file by the decoder that reads it right.

    Raises:
        UserError: naming the file, where it is missing, empty, no sound, damaged, two recordings in one file, or needs
            the extra `phones`.
    """
    if not os.path.isfile(path):  # Path.is_file raises where a name is too long
        raise UserError(f"{path}: no such sound file; check the path.")
    if path.stat().st_size == 0:
        raise UserError(f"{path}: the sound file is empty, it has 0 bytes; record it again or leave it out.")
    try:
        status = path.stat()
        counted = _count(str(path), status.st_size, status.st_mtime_ns)
        if counted.kind is not None and counted.name not in DEMUXERS.keys() | SNDFILE:
            raise UserError(f"{path}: {mistaken(counted.kind, 'sound')}.")
        with _reader(path, counted) as reader:
            yield reader
    except OSError as error:
        raise _unreadable(path, error) from error
    except soundfile.SoundFileError as error:
        if counted.flac_missing_seconds > 0:
            raise _cut_off(path, counted.flac_missing_seconds) from error
        raise _unreadable(path, error, counted.kind) from error


@dataclass(frozen=True)
class _Counted:
    """What a file is, and what its container says."""

    kind: Kind | None
    start: int
    """Byte at which what follows tags begins."""
    extent: Extent
    mp3: Mp3 | None = None
    flac: tuple[int, int] | None = None
    """Samples that the header promises, and those that are there."""
    flac_missing_seconds: float = 0.0

    @property
    def name(self) -> str:
        """Of the kind; empty where it is not known."""
        return "" if self.kind is None else self.kind.name


@functools.lru_cache(maxsize=64)
def _count(path: str, size: int, modified: int) -> _Counted:
    """Of a file as it was then: a session of hours is counted once, however many parts of it are read."""
    with mapped(Path(path)) as data:
        start = after_tags(data)
        kind = kind_of(bytes(data[start : start + START_BYTES]))
        if kind is None and start:
            kind = KINDS["mp3"]
        name = "" if kind is None else kind.name
        found = Extent(second_at=second_flac(data, start)) if name == "flac" else extent(name, data)
        mp3 = mp3_frames(data) if name == "mp3" else None
        if mp3 is not None:
            found = Extent(second_at=mp3.second_at, damaged_at=mp3.damaged_at)
        if name != "flac":
            return _Counted(kind, start, found, mp3)
        promised, there = flac_samples(data, start)
        missing_seconds = (promised - there) / max(1, flac_rate(data, start))
        return _Counted(kind, start, found, flac=(promised, there), flac_missing_seconds=missing_seconds)


@contextlib.contextmanager
def mapped(path: Path) -> Iterator[mmap.mmap]:
    """The bytes of a file, which can be changed without changing the file."""
    with path.open("rb") as raw, mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_COPY) as data:
        yield data


@contextlib.contextmanager
def _reader(path: Path, counted: _Counted) -> Iterator[Reader]:
    kind, name, found = counted.kind, counted.name, counted.extent
    if found.second_at is not None:
        raise UserError(
            f"{path}: a second recording begins at its byte {found.second_at:,}, as where files are joined by cat; "
            "split it into two files."
        )
    if found.damaged_at is not None:
        raise UserError(
            f"{path}: damaged, a part is missing or wrong from its byte {found.damaged_at:,} on; {COPY_AGAIN}."
        )
    if kind is not None and name in DEMUXERS and name not in SNDFILE:
        with _Av.open(path, kind, found) as reader:
            yield reader
        return
    with contextlib.ExitStack() as stack:
        try:
            sndfile: Reader = stack.enter_context(_Sndfile.open(path, counted))
        except soundfile.SoundFileError as error:
            if not os.access(path, os.R_OK):
                raise UserError(f"{path}: no permission to read the file; change its permissions.") from error
            if kind is None or name not in DEMUXERS or not _has_av():
                raise _unreadable(path, error, kind) from error
            sndfile = stack.enter_context(_Av.open(path, kind, found))
        except _MisjudgedError as wrong:  # libsndfile would give another length
            assert kind is not None
            sndfile = stack.enter_context(_Av.open(path, kind, wrong.extent, wrong.seconds))
        yield sndfile


def _unreadable(path: Path, error: Exception, kind: Kind | None = None) -> UserError:
    if not os.access(path, os.R_OK):
        return UserError(f"{path}: no permission to read the file; change its permissions.")
    if kind is None or kind.holds != "sound":
        return UserError(f"{path}: not a readable sound file ({_words(error)}); convert it to wav, flac, ogg or mp3.")
    remedy = f"{COPY_AGAIN}, or convert it to wav"
    if kind.name in DEMUXERS and not _has_av():
        remedy = f"{remedy}, or install what reads more kinds: pip install 's2igan[{EXTRA}]'"
    return UserError(f"{path}: {kind.words}, damaged or of a kind that is not read ({_words(error)}); {remedy}.")


def _words(error: Exception) -> str:
    """The decoder's own, without its number and the name of its function."""
    words = re.sub(r"^\[Errno \d+\] |: '[^']*'$|^Error : ", "", str(error).strip())
    return words.rstrip(".") or type(error).__name__


def _cut_off(path: Path, missing_seconds: float) -> UserError:
    return UserError(f"{path}: cut off, its last {missing_seconds:.2f} s are missing; {COPY_AGAIN}.")


def _torn(path: Path) -> UserError:
    return UserError(
        f"{path}: cut off, it ends in the middle of a block of sound, and nobody knows how much is missing; "
        f"{COPY_AGAIN}."
    )


# ------------------------------------------------------------------------------------------------------- libsndfile


class _MisjudgedError(Exception):
    """libsndfile takes this mp3 for another length than its `seconds`."""

    def __init__(self, seconds: float, torn: bool) -> None:
        super().__init__()
        self.seconds, self.extent = seconds, Extent(torn=torn)


@dataclass
class _Sndfile:
    path: Path
    file: soundfile.SoundFile
    extent: Extent
    begun: bool = False

    @classmethod
    @contextlib.contextmanager
    def open(cls, path: Path, counted: _Counted) -> Iterator[_Sndfile]:
        """Raises soundfile's errors, and `_MisjudgedError`."""
        found = counted.extent
        with contextlib.ExitStack() as stack:
            source: Any = path
            if counted.flac is not None and counted.flac[1] > counted.flac[0]:
                source = stack.enter_context(mapped(path))
                flac_with_length(source, counted.start, counted.flac[1])
            file = stack.enter_context(soundfile.SoundFile(source))
            if counted.kind is None and file.format not in PLAIN:
                raise UserError(
                    f"{path}: {file.format_info}, in which nothing here can tell whether all is there; convert it to "
                    "wav."
                )
            if counted.name == "wav" and not file.frames:
                source = stack.enter_context(mapped(path))
                mend_wav(source)
                file = stack.enter_context(soundfile.SoundFile(source))
            if counted.mp3 is not None:
                found = _checked_mp3(counted.mp3, file, found)
            yield cls(path, file, found)

    @property
    def rate(self) -> int:
        rate: int = self.file.samplerate
        return rate

    @property
    def channels(self) -> int:
        channels: int = self.file.channels
        return channels

    @property
    def total(self) -> int | None:
        total: int = self.file.frames
        return total

    @property
    def seconds(self) -> float | None:
        return self.file.frames / self.rate

    def blocks(self, start: int, stop: int | None) -> Iterator[Float[np.ndarray, "samples channels"]]:
        file = self.file
        stop = file.frames if stop is None else min(stop, file.frames)
        at_once = max(1, BLOCK_NUMBERS // file.channels)
        at = 0
        if file.seekable():
            if start or self.begun:
                file.seek(start)
            at = start
        elif self.begun:
            raise AssertionError("what cannot be sought is read once")
        self.begun = True
        while at < stop:
            size = min(at_once, (start if at < start else stop) - at)
            block = file.read(size, dtype="float32", always_2d=True)
            if not len(block):
                break
            if at >= start:
                yield block
            at += len(block)
        if stop == file.frames:
            self._check_end(missing=stop - at)

    def _check_end(self, missing: int) -> None:
        seconds = self.file.frames / self.rate
        if self.extent.torn:
            raise _torn(self.path)
        missing_seconds = missing / self.rate + seconds * (self.extent.promised - 1)
        if missing_seconds > MAX_MISSING_SECONDS:
            raise _cut_off(self.path, missing_seconds)
        if seconds * (self.extent.there - 1) > MAX_MISSING_SECONDS:
            raise UserError(
                f"{self.path}: its header promises {seconds:.2f} s of sound, and {seconds * self.extent.there:.2f} s "
                "are there; save it again in a sound editor that imports raw data, or record it again."
            )


def _checked_mp3(counted: Mp3, file: soundfile.SoundFile, found: Extent) -> Extent:
    """What the frames of an mp3 say. Raises `_MisjudgedError` where libsndfile takes them for fewer or more."""
    tolerance = MAX_MISSING_SECONDS * file.samplerate
    if counted.samples == 0:
        return found
    if len(counted.rates) > 1:
        raise UserError(
            f"{file.name}: its sample rate changes from {min(counted.rates):,} Hz to {max(counted.rates):,} Hz, as "
            "where files are joined by cat; split it."
        )
    if counted.promised is not None and counted.promised > counted.samples + tolerance:
        return Extent(promised=max(1.0, (counted.promised - counted.silence) / max(1, file.frames)))
    torn = counted.torn and counted.promised is None
    samples = counted.samples - counted.silence
    if abs(samples - file.frames) > tolerance:
        raise _MisjudgedError(samples / min(counted.rates), torn)
    return Extent(torn=torn)


# ------------------------------------------------------------------------------------------------------------- PyAV


@functools.cache
def _has_av() -> bool:
    try:
        import av  # noqa: F401
    except ImportError:
        return False
    return True


@dataclass
class _Av:
    path: Path
    kind: Kind
    extent: Extent
    rate: int
    channels: int
    seconds: float | None
    sure: bool
    """Whether the sound lasts as long as `seconds` at least."""
    lead_seconds: float = 0.0
    """From the beginning of a film until its sound begins."""
    total: int | None = None

    @classmethod
    @contextlib.contextmanager
    def open(cls, path: Path, kind: Kind, found: Extent, seconds: float | None = None) -> Iterator[_Av]:
        """`seconds` is how long it is, where that is known."""
        if not _has_av():
            what = f"this is {kind.words}"
            if kind.name == "mp3":
                what = "this is an mp3 of variable rate, and no header tells its length"
            raise UserError(
                f"{path}: {what}, which needs the extra {EXTRA!r}; pip install 's2igan[{EXTRA}]', or convert it to wav."
            )
        with _av_errors(path, kind, found), _av_container(path, kind) as container:
            streams = container.streams.audio
            if not streams:
                raise UserError(f"{path}: this is {kind.words} without sound; leave it out.")
            stream = streams[0]
            if stream.codec_context is None:
                raise UserError(f"{path}: {kind.words} whose sound no decoder here knows; convert it to wav.")
            sure = seconds is not None
            if seconds is None:
                if stream.duration:
                    seconds = float(stream.duration * stream.time_base)
                elif container.duration:
                    seconds = container.duration / 1e6
                alone = bool(stream.duration) or len(container.streams) == 1
                sure = alone and kind.name in {"mp4", "ebml", "asf", "avi"}
            frame = next(container.decode(stream), None)  # headers of HE-AAC know half of the rate
            if frame is None:
                raise _torn(path) if found.torn else UserError(f"{path}: the sound file is empty; record it again.")
            lead = 0.0
            if container.streams.video and stream.start_time is not None and container.start_time is not None:
                lead = float(stream.start_time * stream.time_base) - container.start_time / 1e6
                lead = lead if lead > MAX_MISSING_SECONDS else 0.0
        yield cls(path, kind, found, frame.sample_rate, frame.layout.nb_channels, seconds, sure, lead)

    def blocks(self, start: int, stop: int | None) -> Iterator[Float[np.ndarray, "samples channels"]]:
        import av

        with _av_errors(self.path, self.kind, self.extent), _av_container(self.path, self.kind) as container:
            stream = container.streams.audio[0]
            origin = stream.start_time or 0
            lead = round(self.lead_seconds * self.rate)
            first = self._sought(container, stream, start - lead, origin)
            resampler = av.AudioResampler(format="fltp")
            at: int | None = None
            ahead = 0
            for frame in container.decode(stream):
                if (frame.sample_rate, frame.layout.nb_channels) != (self.rate, self.channels):
                    raise UserError(
                        f"{self.path}: its sample rate or its number of channels changes on the way; convert it to wav."
                    )
                told = at or 0
                if frame.pts is not None and self.kind.name in TIMED:
                    told = lead + round((frame.pts - origin) * Fraction(stream.time_base) * self.rate)
                if at is None:
                    at = told if first else lead
                    ahead = told - at
                    silence = min(at, at if stop is None else stop) - start
                    if not first and silence > 0:
                        yield np.zeros((silence, self.channels), np.float32)
                if told - ahead - at > MAX_MISSING_SECONDS * self.rate:
                    raise UserError(
                        f"{self.path}: damaged, {(told - ahead - at) / self.rate:.2f} s are missing after "
                        f"{at / self.rate:.2f} s; {COPY_AGAIN}."
                    )
                for part in resampler.resample(frame):
                    block = part.to_ndarray().T
                    inside = block[max(0, start - at) : None if stop is None else max(0, stop - at)]
                    at += len(block)
                    if len(inside):
                        yield inside
                if stop is not None and at >= stop:
                    return
        self._check_end((at or lead) - lead)

    def _sought(self, container: Any, stream: Any, start: int, origin: int) -> bool:
        """Goes near the start of a part that is not near the file's; whether it did."""
        seconds = start / self.rate - SEEK_MARGIN_SECONDS
        if seconds <= SEEK_MARGIN_SECONDS or self.kind.name not in SEEKABLE:
            return False
        container.seek(origin + int(seconds / stream.time_base), stream=stream)
        return True

    def _check_end(self, samples: int) -> None:
        if self.extent.torn:
            raise _torn(self.path)
        missing = samples / self.rate * (self.extent.promised - 1)
        if self.sure and self.seconds is not None:
            missing = max(missing, self.seconds - samples / self.rate)
        if missing > MAX_MISSING_SECONDS:
            raise _cut_off(self.path, missing)


@contextlib.contextmanager
def _av_container(path: Path, kind: Kind) -> Iterator[Any]:
    import av

    with av.open(str(path), format=DEMUXERS[kind.name], metadata_errors="ignore") as container:
        yield container


@contextlib.contextmanager
def _av_errors(path: Path, kind: Kind, found: Extent) -> Iterator[None]:
    import av

    try:
        yield
    except (av.error.FFmpegError, ValueError, MemoryError) as error:
        if found.torn or found.promised > 1:
            raise _torn(path) from error
        raise _unreadable(path, error, kind) from error
