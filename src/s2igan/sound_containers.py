"""Where sound begins and ends in a file: what its header promises, and what is there.

Decoders believe headers. A recorder whose battery ran out, a copy that stopped, two files joined by `cat`: of such
files they give a part as if it were all. So the parts of a container are counted here, without decoding them.
"""

from __future__ import annotations

import mmap
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass

MAX_SECONDS = 600.0
"""Of one description; elicited ones often last for minutes."""
Bytes = bytes | bytearray | mmap.mmap

UNKNOWN_LENGTH = 0x7FFF_0000
"""Bytes; programs that write into a pipe promise this much or more."""


@dataclass(frozen=True)
class Extent:
    """What a container says of the length of its sound."""

    promised: float = 1.0
    """What the header promises, as a multiple of what is decoded; over 1 where the file is cut off."""
    there: float = 1.0
    """What the file holds, as a multiple of what is decoded; over 1 where the header promises too little."""
    torn: bool = False
    """It ends within a part, so that something is missing, nobody knows how much."""
    second_at: int | None = None
    """Byte at which a second recording begins."""
    damaged_at: int | None = None
    """Byte from which on a part in the middle is missing or wrong, so that what follows comes too early."""


def extent(kind: str, data: Bytes) -> Extent:
    """Of a file of a kind (`file_kinds.KINDS`); all is well where nothing is known of the kind."""
    if kind in CHUNKED:
        return _chunked_extent(data, CHUNKED[kind])
    return WALKS[kind](data) if kind in WALKS else Extent()


# -------------------------------------------------------------------------------------------- wav, AIFF, CAF, Wave64


@dataclass(frozen=True)
class _Layout:
    """How a file of chunks is laid out; lengths in bytes."""

    first: int
    """Where the first chunk begins."""
    name: bytes
    """Of the chunk with the sound."""
    order: str
    """Of the bytes of a length."""
    name_length: int = 4
    size_length: int = 4
    align: int = 2
    """What a chunk is filled up to."""
    counts_itself: bool = False
    """Whether a length counts the name and itself."""
    before_sound: int = 0
    """What of the chunk comes before its sound."""
    reads_on: bool = False
    """Whether libsndfile reads to the end of the file, whatever the chunk's length is."""

    def length(self, data: Bytes, at: int) -> int:
        """Of the chunk that begins here, without its name and its length."""
        big = self.order == "big" or data[:4] == b"RIFX"
        head = self.name_length + self.size_length
        raw = data[at + self.name_length : at + head]
        return int.from_bytes(raw, "big" if big else "little") - head * self.counts_itself


CHUNKED = {
    "wav": _Layout(12, b"data", "little"),
    "aiff": _Layout(12, b"SSND", "big", before_sound=8),
    "caf": _Layout(8, b"data", "big", size_length=8, align=1, before_sound=4),
    "w64": _Layout(
        40,
        b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a",
        "little",
        name_length=16,
        size_length=8,
        align=8,
        counts_itself=True,
        reads_on=True,
    ),
}
BEGINNINGS = (b"RIFF", b"RIFX", b"RF64", b"BW64", b"FORM", b"caff", b"riff", b"fLaC", b"OggS")
SIZE_64 = 28
"""Byte of a wav of over 4 GB (RF64, BW64) at which the length of its sound stands, in the chunk ds64."""


@dataclass(frozen=True)
class _Sound:
    """The chunk with the sound."""

    size_at: int
    """Where its length stands."""
    promised: int
    """That length, without what comes before the sound."""
    found: int
    """Bytes of it that are there."""
    understood: int
    """Where what follows it is no chunk any more."""
    second_at: int | None = None
    """Where another chunk with sound begins."""


def _sound_chunk(data: Bytes, layout: _Layout) -> _Sound | None:
    head = layout.name_length + layout.size_length
    at, sound, second_at = layout.first, None, None

    def is_chunk(at: int) -> bool:
        name = data[at : at + 4]
        return (
            at + head <= len(data)
            and all(0x20 <= letter < 0x7F for letter in name)
            and 0 <= layout.length(data, at) <= len(data) - at - head
        )

    while at + head <= len(data):
        name, size, body = bytes(data[at : at + layout.name_length]), layout.length(data, at), at + head
        if name == layout.name and sound is None:
            if data[:4] in (b"RF64", b"BW64") and size == 0xFFFF_FFFF:
                size = int.from_bytes(data[SIZE_64 : SIZE_64 + 8], "little")
            found = max(0, min(size, len(data) - body) - layout.before_sound)
            sound = _Sound(at + layout.name_length, size - layout.before_sound, found, min(body + size, len(data)))
            if body + size >= len(data):
                return sound
        elif not 0 <= size <= len(data) - body or (sound is not None and (name[:4] in BEGINNINGS or not is_chunk(at))):
            break
        elif name == layout.name and size and sound is not None and second_at is None:
            second_at = at
        at = body + size
        filled = at + -at % layout.align
        at = at if at != filled and is_chunk(at) and not is_chunk(filled) else filled
        if sound is not None:
            sound = _Sound(sound.size_at, sound.promised, sound.found, min(at, len(data)), second_at)
    return sound


def _chunked_extent(data: Bytes, layout: _Layout) -> Extent:
    sound = _sound_chunk(data, layout)
    if sound is None or sound.found == 0:
        return Extent()
    if sound.promised > sound.found:
        return Extent(promised=sound.promised / sound.found if sound.promised < UNKNOWN_LENGTH else 1.0)
    rest = data[sound.understood : sound.understood + 4]
    if rest in BEGINNINGS or sound.second_at is not None:
        return Extent(second_at=sound.understood if sound.second_at is None else sound.second_at)
    extra = len(data) - sound.understood
    is_more = not layout.reads_on and _any(data, sound.understood)
    return Extent(there=1 + extra / sound.found if is_more else 1.0)


def _any(data: Bytes, start: int) -> bool:
    """Whether anything but zeros stands from here on."""
    return any(data[at : at + 65536].strip(b"\0") for at in range(start, len(data), 65536))


def mend_wav(wav: bytearray | mmap.mmap) -> None:
    """Writes the length of the sound into a wav where it is 0 although sound follows, to the end of the file.

    So leave it a recorder whose battery is empty and some programs that write into a pipe; promises of too much
    libsndfile corrects itself. Whatever else is given stays as it is.
    """
    if wav[:4] not in (b"RIFF", b"RF64", b"BW64") or wav[8:12] != b"WAVE":
        return
    sound = _sound_chunk(wav, CHUNKED["wav"])
    if sound is None or sound.promised or sound.understood >= len(wav):
        return
    rest = len(wav) - sound.size_at - 4
    if wav[:4] == b"RIFF" or wav[sound.size_at : sound.size_at + 4] != b"\xff" * 4:
        wav[sound.size_at : sound.size_at + 4] = min(rest, UNKNOWN_LENGTH - 1).to_bytes(4, "little")
    else:
        wav[SIZE_64 : SIZE_64 + 8] = rest.to_bytes(8, "little")


def _au(data: Bytes) -> Extent:
    order = "big" if data[:4] == b".snd" else "little"
    offset, promised = (int.from_bytes(data[at : at + 4], order) for at in (4, 8))  # type: ignore[arg-type]
    found = min(promised, len(data) - offset)
    if promised >= UNKNOWN_LENGTH or found <= 0:
        return Extent()
    extra = len(data) - offset - promised
    return Extent(promised / found, 1 + extra / found if extra > 0 and _any(data, offset + promised) else 1.0)


NIST_FIELD = re.compile(rb"^(sample_count|sample_n_bytes|channel_count) -i (\d+)\s*$", re.MULTILINE)
NIST_PLAIN = re.compile(rb"^sample_coding -s\d+ (?:pcm|[au]law|mu-law)\s*$", re.MULTILINE)


def _sph(data: Bytes) -> Extent:
    """A NIST Sphere file begins with lines of text, the second being how long they are."""
    lines = bytes(data[:1024])
    size = lines[8:16].strip()
    known = {name: int(value) for name, value in NIST_FIELD.findall(lines)}
    if (
        not size.isdigit()
        or b"sample_count" not in known
        or (b"sample_coding" in lines and not NIST_PLAIN.search(lines))
    ):
        return Extent()
    promised = known[b"sample_count"] * known.get(b"sample_n_bytes", 2) * known.get(b"channel_count", 1)
    found = min(promised, len(data) - int(size))
    if found <= 0:
        return Extent()
    end = int(size) + promised
    if data[end : end + 7] == b"NIST_1A":
        return Extent(second_at=end)
    return Extent(promised / found, (len(data) - int(size)) / found if _any(data, end) else 1.0)


# ------------------------------------------------------------------------------------------------------------- FLAC

FLAC_STREAMINFO = (b"fLaC\0\0\0\x22", b"fLaC\x80\0\0\x22")
FLAC_TAIL = 1 << 20
"""Bytes at the end in which the last frame begins: a frame of 8 channels of 32 bits and 65,535 samples has 2 MB, the
usual ones 20 kB."""
FLAC_BLOCKS = {
    1: 192,
    **{code: 576 << (code - 2) for code in range(2, 6)},
    **{code: 1 << code for code in range(8, 16)},
}


def flac_samples(data: Bytes, start: int) -> tuple[int, int]:
    """Samples that the header of a FLAC stream promises (0: unknown), and those up to the end of its last frame.

    `start` is where the stream's `fLaC` stands.
    """
    info = data[start + 8 : start + 42]
    promised = int.from_bytes(info[13:18], "big") & (1 << 36) - 1
    block = int.from_bytes(info[2:4], "big")
    at = len(data)
    while (at := data.rfind(b"\xff", max(start + 42, len(data) - FLAC_TAIL), at)) >= 0:
        found = _flac_frame_end(data, at, block)
        if found is not None:
            return promised, found
    return promised, promised


def flac_rate(data: Bytes, start: int) -> int:
    """Samples in a second that the header of a FLAC stream promises."""
    return int.from_bytes(data[start + 18 : start + 21], "big") >> 4


def _flac_frame_end(data: Bytes, at: int, block: int) -> int | None:
    """The number of the sample that follows a frame; None where no frame begins here."""
    head = bytes(data[at : at + 16])
    if len(head) < 6 or head[1] & 0xFE != 0xF8 or head[2] >> 4 == 0 or head[3] & 1:
        return None
    ones = next((bit for bit in range(8) if not head[4] & (0x80 >> bit)), 8)
    if ones in (1, 8):
        return None
    more = max(0, ones - 1)
    number = head[4] & (0xFF >> (ones + 1))
    for byte in head[5 : 5 + more]:
        if byte & 0xC0 != 0x80:
            return None
        number = number << 6 | byte & 0x3F
    end, code, rate = 5 + more, head[2] >> 4, head[2] & 0xF
    wide = {6: 1, 7: 2}.get(code, 0)
    samples = FLAC_BLOCKS[code] if not wide else int.from_bytes(head[end : end + wide], "big") + 1
    end += wide + {12: 1, 13: 2, 14: 2}.get(rate, 0)
    if len(head) <= end or _crc8(head[:end]) != head[end]:
        return None
    return number + samples if head[1] & 1 else number * block + samples


def _crc8(raw: bytes) -> int:
    crc = 0
    for byte in raw:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ 0x07) & 0xFF if crc & 0x80 else crc << 1
    return crc


def flac_with_length(flac: mmap.mmap, start: int, samples: int) -> None:
    """Writes the number of samples into the header."""
    at = start + 8 + 13
    number = int.from_bytes(flac[at : at + 5], "big") >> 36 << 36 | samples
    flac[at : at + 5] = number.to_bytes(5, "big")


def second_flac(data: Bytes, start: int) -> int | None:
    """Where another FLAC stream begins after this one."""
    found = [at for at in (data.find(magic, start + 4) for magic in FLAC_STREAMINFO) if at >= 0]
    return min(found, default=None)


# ---------------------------------------------------------------------------------------------- MP3, AAC, AMR: frames

BIT_RATES = {  # kbit/s by index, of MPEG 1 and of MPEG 2 and 2.5, by layer
    (1, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
SAMPLE_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
"""In Hz, by the version in a header: MPEG 1, 2, 2.5."""
TAG_BYTES = 10
END_TAGS = (b"TAG", b"APETAGEX", b"LYRICSBEGIN")
RESYNC_BYTES = 1 << 16
"""Of something else between two frames, at most."""


def after_tags(data: Bytes, at: int = 0) -> int:
    """Where what follows ID3 tags begins."""
    while data[at : at + 3] == b"ID3" and len(data) >= at + TAG_BYTES:
        size = sum((data[at + 6 + i] & 0x7F) << 7 * (3 - i) for i in range(4))
        at += TAG_BYTES + size + TAG_BYTES * bool(data[at + 5] & 0x10)
    return at


@dataclass(frozen=True)
class Mp3:
    """The frames of an mp3 file."""

    samples: int
    """In all frames."""
    rates: frozenset[int]
    """In Hz."""
    promised: int | None
    """Samples that the header of an encoder (Xing, Info, VBRI) promises; None where there is none."""
    torn: bool
    """The last frame is not whole."""
    silence: int = 0
    """Samples before and after the sound that the encoder added, as its header says."""
    second_at: int | None = None
    """Byte at which the tags of another recording begin."""
    damaged_at: int | None = None
    """Byte at which something else than a frame stands in the middle."""


def mp3_frames(data: Bytes) -> Mp3:
    """Counts the frames of an mp3 file."""
    at, samples, rates, promised, torn, first = after_tags(data), 0, set(), None, False, True
    silence, second_at, damaged_at = 0, None, None
    while at < len(data):
        frame = _mp3_frame(data, at)
        if frame is None or (first and not _goes_on(data, at + frame[0])):
            if data[at : at + 3] == b"ID3":
                tags, at = at, after_tags(data, at)
                if second_at is None and _mp3_frame(data, at) is not None:
                    second_at = tags
                continue
            if any(data[at : at + len(tag)] == tag for tag in END_TAGS):
                break
            following = _next_mp3_frame(data, at + 1)
            if following is None:
                break
            if not first and damaged_at is None:
                damaged_at = at
            at = following
            continue
        size, own, rate = frame
        if at + size > len(data):
            torn = True
            break
        if first:
            promised, silence = _promised(data, at, size)
            promised = None if promised is None else promised * own
            samples -= own if promised is not None else 0
            first = False
        samples += own
        rates.add(rate)
        at += size
    return Mp3(samples, frozenset(rates), promised, torn, silence, second_at, damaged_at)


def _mp3_frame(data: Bytes, at: int) -> tuple[int, int, int] | None:
    """Bytes, samples and rate (Hz) of the frame whose header stands here."""
    head = data[at : at + 4]
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer, index, rate_index = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3), head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer == 4 or index in (0, 15) or rate_index == 3:
        return None
    rate, padding = SAMPLE_RATES[version][rate_index], head[2] >> 1 & 1
    bits = 1000 * BIT_RATES[1 if version == 3 else 2, layer][index]
    if layer == 1:
        return (12 * bits // rate + padding) * 4, 384, rate
    samples = 576 if layer == 3 and version != 3 else 1152
    return samples // 8 * bits // rate + padding, samples, rate


def _goes_on(data: Bytes, at: int) -> bool:
    """Whether another frame or the end of the file is here: four bytes alone may look like a header."""
    return at >= len(data) or _mp3_frame(data, at) is not None or data[at : at + 3] in (b"TAG", b"ID3", b"APE")


def _next_mp3_frame(data: Bytes, start: int) -> int | None:
    at, end = start, min(len(data), start + RESYNC_BYTES)
    while (at := data.find(b"\xff", at, end)) >= 0:
        frame = _mp3_frame(data, at)
        if frame is not None and at + frame[0] < len(data) and _goes_on(data, at + frame[0]):
            return at
        at += 1
    return None


def _promised(data: Bytes, at: int, size: int) -> tuple[int | None, int]:
    """What the header of an encoder in the first frame promises: frames, and in them the samples of silence that it
    added. The latter stand after a name of nine bytes and twelve more, where all four optional parts are there."""
    frame = bytes(data[at : at + size])
    for offset in (36, 21, 13, 38, 23, 15):  # after the side information; with a checksum 2 bytes later
        if frame[offset : offset + 4] in (b"Xing", b"Info") and frame[offset + 7] & 1:
            encoder = frame[offset + 120 : offset + 144] if frame[offset + 7] & 15 == 15 else b""
            added = int.from_bytes(encoder[21:24], "big") if encoder[:3] in (b"LAM", b"Lav") else 0
            return int.from_bytes(frame[offset + 8 : offset + 12], "big"), (added >> 12) + (added & 0xFFF)
        if frame[offset : offset + 4] == b"VBRI":
            return int.from_bytes(frame[offset + 14 : offset + 18], "big"), 0
    return None, 0


def _aac(data: Bytes) -> Extent:
    at = after_tags(data)
    while at + 7 <= len(data):
        if data[at] != 0xFF or data[at + 1] & 0xF6 != 0xF0:
            return Extent()  # a tag at the end, or damage that the decoder meets
        size = (data[at + 3] & 3) << 11 | data[at + 4] << 3 | data[at + 5] >> 5
        if size < 7:
            return Extent()
        at += size
    return Extent(torn=at != len(data))


AMR_BYTES = {
    b"#!AMR\n": (13, 14, 16, 18, 20, 21, 27, 32, 6, 1, 1, 1, 1, 1, 1, 1),
    b"#!AMR-WB\n": (18, 24, 33, 37, 41, 47, 51, 59, 61, 6, 1, 1, 1, 1, 1, 1),
}
"""Of a frame, by its mode."""


def _amr(data: Bytes) -> Extent:
    for magic, sizes in AMR_BYTES.items():
        if data[: len(magic)] == magic:
            at = len(magic)
            while at < len(data):
                if data[at : at + 5] == b"#!AMR":
                    return Extent(second_at=at)
                at += sizes[data[at] >> 3 & 15]
            return Extent(torn=at != len(data))
    return Extent()


# --------------------------------------------------------------------------------------- Ogg, mp4, Matroska, ASF, AVI


REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
"""Every byte with its bits in the other order."""


def ogg_checksum(page: bytes) -> int:
    """Of a page whose own checksum is zeros: CRC-32 as zlib's, but from the highest bit on and from 0."""
    return int(f"{zlib.crc32(page.translate(REVERSED), 0xFFFF_FFFF) ^ 0xFFFF_FFFF:032b}"[::-1], 2)


def _ogg(data: Bytes) -> Extent:
    """A page that says it is the last one is no sign: phones never write it. Decoders pass over pages that are damaged
    or missing without a word; so checksums and numbers of pages are compared, but of programs that leave both 0."""
    at, begun, last = 0, False, dict[bytes, int]()
    while at < len(data):
        if data[at : at + 4] != b"OggS":
            is_damaged = data.find(b"OggS", at) >= 0
            return Extent(torn=not is_damaged and _any(data, at), damaged_at=at if is_damaged else None)
        segments = data[at + 27 : at + 27 + data[at + 26]] if at + 27 <= len(data) else b""
        size = 27 + len(segments) + sum(segments)
        if at + size > len(data) or len(segments) != data[at + 26]:
            return Extent(torn=True)
        is_first = bool(data[at + 5] & 2)
        if is_first and begun:
            return Extent(second_at=at)
        begun = begun or not is_first
        page, stream = bytes(data[at : at + size]), bytes(data[at + 14 : at + 18])
        number, told = int.from_bytes(page[18:22], "little"), int.from_bytes(page[22:26], "little")
        is_gap = stream in last and number not in (0, last[stream] + 1)
        if is_gap or (told and told != ogg_checksum(page[:22] + bytes(4) + page[26:])):
            return Extent(damaged_at=at)
        last[stream] = number
        at += size
    return Extent()


def _mp4(data: Bytes) -> Extent:
    at, names = 0, set()
    while at + 8 <= len(data):
        size, name = int.from_bytes(data[at : at + 4], "big"), bytes(data[at + 4 : at + 8])
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16], "big")
        if name == b"ftyp" and "moov" in names:
            return Extent(second_at=at)
        names.add(name.decode("latin1"))
        if size == 0:
            break
        if size < 8 or at + size > len(data):
            return Extent(torn=size >= 8 or _any(data, at))
        at += size
    return Extent(torn="moov" not in names)


EBML, SEGMENT, CLUSTER = 0x1A45DFA3, 0x18538067, 0x1F43B675


def _matroska(data: Bytes) -> Extent:
    def number(at: int, keep: bool) -> tuple[int, int, bool]:
        """A number of 1 to 8 bytes, how many, and whether it means that nobody knows."""
        length = next((bit + 1 for bit in range(8) if data[at] & (0x80 >> bit)), 1)
        value = int.from_bytes(data[at : at + length], "big")
        bare = value & (1 << 7 * length) - 1
        return value if keep else bare, length, bare == (1 << 7 * length) - 1

    at = 0
    while at + 2 <= len(data):
        name, name_length, _ = number(at, keep=True)
        if at + name_length >= len(data):
            return Extent(torn=True)
        if name == EBML and at:
            return Extent(second_at=at)
        size, size_length, unknown = number(at + name_length, keep=False)
        body = at + name_length + size_length
        if not unknown and body + size > len(data):
            return Extent(torn=True)
        at = body if unknown or name in (SEGMENT, CLUSTER) else body + size
    return Extent()


ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")


def _asf(data: Bytes) -> Extent:
    at = data.find(ASF_PROPERTIES, 0, 1 << 16)
    if at < 0 or len(data) < at + 92:
        return Extent(torn=True)
    size, flags = int.from_bytes(data[at + 40 : at + 48], "little"), int.from_bytes(data[at + 88 : at + 92], "little")
    if flags & 1:  # a broadcast does not know its size
        return Extent()
    return Extent(torn=len(data) < size, second_at=size if data[size : size + 8] == data[:8] else None)


def _ts(data: Bytes) -> Extent:
    """Packets of 188 bytes, in those of camcorders after a time of four."""
    return Extent(torn=len(data) % (188 if data[188:189] == b"G" else 192) != 0)


def _avi(data: Bytes) -> Extent:
    end = int.from_bytes(data[4:8], "little") + 8
    is_second = data[end : end + 4] == b"RIFF" and data[end + 8 : end + 12] == b"AVI "
    return Extent(torn=end > len(data), second_at=end if is_second else None)


WALKS: dict[str, Callable[[Bytes], Extent]] = {
    "au": _au,
    "aac": _aac,
    "amr": _amr,
    "ogg": _ogg,
    "mp4": _mp4,
    "ebml": _matroska,
    "asf": _asf,
    "avi": _avi,
    "sph": _sph,
    "ts": _ts,
}
