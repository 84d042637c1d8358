"""What a file is, by its first bytes: names lie."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

START_BYTES = 4096
"""Of a file, which tell what it is."""
FILM_SUFFIXES = frozenset({
    ".mp4", ".m4v", ".mov", ".qt", ".webm", ".mkv", ".avi", ".3gp", ".3gpp", ".3g2", ".wmv", ".asf", ".mts", ".m2ts",
})  # fmt: skip
"""Of which the sound is read; some of them hold nothing else."""
AUDIO_SUFFIXES = FILM_SUFFIXES | {
    ".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".spx", ".mp3", ".mp2", ".mpga",
    ".aif", ".aiff", ".aifc", ".au", ".snd", ".caf", ".w64", ".rf64", ".sph", ".nist", ".m4a",
    ".m4b", ".aac", ".amr", ".awb", ".3ga", ".wma", ".mka", ".weba", ".wv", ".ape",
}  # fmt: skip
"""Names of sound files where a folder is searched; what a file is, its first bytes say when it is decoded."""


@dataclass(frozen=True)
class Kind:
    """A kind of file."""

    name: str
    """A short name, such as `heic`."""
    words: str
    """For people, with the article."""
    holds: Literal["sound", "picture", "neither"]
    remedy: str = ""
    """What to do where a sound or a picture was expected, where that is not to look for another file."""


def _of(holds: Literal["sound", "picture"], **words: str) -> dict[str, Kind]:
    return {name: Kind(name, description, holds) for name, description in words.items()}


KINDS = {
    **_of(
        "sound",
        wav="a wav file",
        w64="a Wave64 file",
        aiff="an AIFF file",
        au="an AU file",
        caf="a Core Audio file",
        flac="a FLAC file",
        ogg="an Ogg file",
        sph="a NIST Sphere file",
        mp3="an mp3 file",
        aac="an AAC recording",
        amr="an AMR recording of a phone",
        mp4="an m4a, mp4, 3gp or mov file",
        asf="a Windows Media file",
        ebml="a WebM or Matroska file",
        avi="an AVI film",
        ape="a Monkey's Audio file",
        wavpack="a WavPack file",
        tta="a True Audio file",
        ts="a film of a camcorder (MPEG-TS)",
        mpeg="an MPEG film",
        flv="a Flash film",
    ),
    **_of(
        "picture",
        jpeg="a JPEG picture",
        png="a PNG picture",
        gif="a GIF picture",
        bmp="a BMP picture",
        tiff="a TIFF picture, or a camera's raw one",
        webp="a WebP picture",
        heic="a HEIC picture",
        avif="an AVIF picture",
        psd="a Photoshop file",
        svg="an SVG drawing",
        jpeg2000="a JPEG 2000 picture",
        jxl="a JPEG XL picture",
    ),
    "lfs": Kind("lfs", "a Git LFS pointer", "neither", "run git lfs pull where it was cloned"),
    "annex": Kind("annex", "a git-annex pointer", "neither", "run git annex get where it was cloned"),
    "html": Kind("html", "a web page", "neither", "a server sent it in place of the file, so download that again"),
    "zeros": Kind("zeros", "nothing but zero bytes", "neither", "its copying failed, so copy it again"),
    "pdf": Kind("pdf", "a PDF document", "neither"),
    "zip": Kind("zip", "a zip archive or an office document", "neither"),
    "archive": Kind("archive", "a compressed archive", "neither"),
    "apple": Kind("apple", "a Mac's note on a file (AppleDouble)", "neither", "leave it out"),
    "text": Kind("text", "a text", "neither"),
}
MAGIC: tuple[tuple[bytes, str], ...] = (
    (rb"(?:RIFF|RIFX|RF64|BW64).{4}WAVE", "wav"),
    (rb"RIFF.{4}WEBP", "webp"),
    (rb"RIFF.{4}AVI ", "avi"),
    (rb"riff\x2e\x91\xcf\x11", "w64"),
    (rb"FORM.{4}AIF[FC]", "aiff"),
    (rb"\.snd|dns\.", "au"),
    (rb"caff", "caf"),
    (rb"fLaC", "flac"),
    (rb"OggS", "ogg"),
    (rb"NIST_1A", "sph"),
    (rb"#!AMR", "amr"),
    (rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "asf"),
    (rb"\x1a\x45\xdf\xa3", "ebml"),
    (rb"MAC ", "ape"),
    (rb"wvpk", "wavpack"),
    (rb"TTA1", "tta"),
    (rb"FLV\x01", "flv"),
    (rb"\0\0\x01\xba", "mpeg"),
    (rb"G.{187}G.{187}G|.{4}G.{191}G.{191}G", "ts"),
    (rb".{4}ftyp(?:hei[cxms]|hev[cx]|mif1|msf1)", "heic"),
    (rb".{4}ftypavi[fs]", "avif"),
    (rb".{4}ftypcrx ", "tiff"),
    (rb".{4}(?:ftyp|moov|mdat|wide|free|skip|pnot)", "mp4"),
    (rb"\xff\xd8\xff", "jpeg"),
    (rb"\x89PNG\r\n\x1a\n", "png"),
    (rb"GIF8[79]a", "gif"),
    (rb"BM.{4}\0{4}", "bmp"),
    (rb"II[*U]\0|MM\0\*|II\x2b\0|MM\0\x2b|IIRO|FUJIFILMCCD-RAW", "tiff"),
    (rb"8BPS", "psd"),
    (rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", "jpeg2000"),
    (rb"\xff\x0a|\0\0\0\x0cJXL ", "jxl"),
    (rb"ID3|TAG\+", "mp3"),
    (rb"\xff[\xf0\xf1\xf8\xf9][\x40-\x7f]", "aac"),
    (rb"\xff[\xe2-\xe7\xf2-\xf7\xfa-\xff][\x10-\xef]", "mp3"),
    (rb"%PDF", "pdf"),
    (rb"PK\x03\x04", "zip"),
    (rb"\x1f\x8b|BZh\d|\xfd7zXZ|7z\xbc\xaf|Rar!", "archive"),
    (rb"\0\x05\x16[\0\x07]", "apple"),
    (rb"version https://git-lfs", "lfs"),
    (rb"/annex/objects/|\S*\.git/annex/objects/", "annex"),
    (rb"(?i:(?:\xef\xbb\xbf)?\s*(?:<!doctype html|<html|<head|<body|<script))", "html"),
    (rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)?(?:<!DOCTYPE svg[^>]*>\s*)?<svg", "svg"),
    (rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*>\s*)?(?:<!DOCTYPE html[^>]*>\s*)?<html", "html"),
    (rb"\0{64,}\Z", "zeros"),
)
"""The first that matches at the start, and the key in `KINDS`."""
_PATTERNS = tuple((re.compile(pattern, re.DOTALL), name) for pattern, name in MAGIC)


def kind_of(start: bytes) -> Kind | None:
    """What begins with these bytes; None where that is not known."""
    start = start[:START_BYTES]
    for pattern, name in _PATTERNS:
        if pattern.match(start):
            return KINDS[name]
    try:
        text = start.decode("utf-8-sig", "strict" if len(start) < START_BYTES else "ignore")
    except UnicodeDecodeError:
        return None
    return (
        KINDS["text"]
        if text and all(character.isprintable() or character in "\r\n\t\f" for character in text)
        else None
    )


def kind_of_file(path: Path) -> Kind | None:
    """As `kind_of`; None also where the file cannot be read."""
    try:
        with path.open("rb") as file:
            return kind_of(file.read(START_BYTES))
    except OSError:
        return None


def mistaken(kind: Kind, wanted: Literal["sound", "picture"]) -> str:
    """What a file is that should be another, and what to do: a clause without a full stop."""
    if kind.name == "svg" and wanted == "picture":
        return "this is an SVG drawing, which is not read; export it as png"
    if kind.holds == wanted:
        return f"this is {kind.words}, which is not read; convert it to {'wav' if wanted == 'sound' else 'jpg or png'}"
    what = {"sound": "no sound", "picture": "no picture"}[wanted]
    return f"this is {kind.words}, {what}; {kind.remedy or 'look for the right file, or leave it out'}"
