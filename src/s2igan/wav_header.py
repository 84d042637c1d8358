"""Headers of wav files whose writer could not say how much sound would follow."""

from __future__ import annotations

import mmap

UNKNOWN_LENGTH = 0x7FFF_0000
"""Bytes; programs that write into a pipe promise this much or more."""


def mend_length(wav: bytearray | mmap.mmap) -> None:
    """Writes the length of the sound into a wav where it is 0 although sound follows, to the end of the file.

    So leave it a recorder whose battery is empty and some programs that write into a pipe; promises of too much
    libsndfile corrects itself. Whatever else is given stays as it is.
    """
    if wav[:4] != b"RIFF" or wav[8:12] != b"WAVE":
        return
    at, empty_at = 12, None
    while at + 8 <= len(wav):
        length = int.from_bytes(wav[at + 4 : at + 8], "little")
        if wav[at : at + 4] == b"data" and length == 0 and empty_at is None:
            empty_at = at + 4
        elif at + 8 + length > len(wav):  # what stands here is no chunk
            break
        at += 8 + length + length % 2
    if empty_at is not None and at < len(wav):
        rest = min(len(wav) - empty_at - 4, UNKNOWN_LENGTH - 1)
        wav[empty_at : empty_at + 4] = rest.to_bytes(4, "little")
