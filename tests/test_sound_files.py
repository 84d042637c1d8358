"""Every kind of sound file is read whole, or refused by a sentence that says what it is or lacks."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from field_sounds import PHONES, RATE, encoded, phone, voice
from s2igan import audio, sound_files
from s2igan.errors import UserError
from s2igan.sound_containers import ogg_checksum


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def at_22050(wave: np.ndarray, rate: int = RATE) -> np.ndarray:
    return soxr.resample(wave, rate, audio.SAMPLE_RATE)


def agrees(found: np.ndarray, expected: np.ndarray, tolerance: float = 0.06, delay: float = 0.07) -> None:
    """The same sound but for what coding and a codec's delay (seconds) change."""
    assert abs(len(found) - len(expected)) <= delay * audio.SAMPLE_RATE
    size = 1 << (2 * max(len(found), len(expected))).bit_length()
    correlation = np.fft.irfft(np.fft.rfft(found, size) * np.conj(np.fft.rfft(expected, size)))
    reach = round(delay * audio.SAMPLE_RATE)
    best = max(correlation[:reach].max(), correlation[-reach:].max())
    assert best / np.sqrt((found**2).sum() * (expected**2).sum()) > 1 - tolerance


def refusal(path: Path, *part: float) -> str:
    with pytest.raises(UserError, match=re.escape(str(path))) as raised:
        audio.load_audio(path, *part)
    return str(raised.value)


# ---------------------------------------------------------------------------------------------------------------- mp3


def mp3_without_header(wave: np.ndarray) -> bytes:
    """Of variable rate, without the frame by which an encoder tells the length."""
    content = encoded(wave, format="MP3", subtype="MPEG_LAYER_III")
    return content[content.find(b"\xff" + content[1:2], 4) :]


def test_an_mp3_of_variable_rate_without_header_is_read_to_its_real_end(tmp_path):
    wave = np.r_[voice(3), np.zeros(20 * RATE, np.float32)]
    found = audio.load_audio(write(tmp_path / "a.mp3", mp3_without_header(wave)))
    assert len(found) / audio.SAMPLE_RATE == pytest.approx(23.0, abs=0.15)
    agrees(found[: 3 * audio.SAMPLE_RATE], at_22050(voice(3)), delay=0.15)


def test_without_the_extra_it_is_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(sound_files, "_has_av", lambda: False)
    content = mp3_without_header(np.r_[voice(3), np.zeros(20 * RATE, np.float32)])
    message = refusal(write(tmp_path / "a.mp3", content))
    assert "an mp3 of variable rate" in message
    assert "pip install 's2igan[phones]'" in message


@pytest.mark.parametrize("word", [b"Info", b"Xing", b"VBRI"])
def test_a_word_in_a_title_is_no_header(tmp_path, word):
    """An mp3 of constant rate without a header; its ID3 title holds the name of one."""
    content = mp3_without_header(voice(9))
    title = b"\x00My " + word + b"\x00\x00\x00\x0f\x00\x00\x9f\xff for you"
    frame = b"TIT2" + len(title).to_bytes(4, "big") + b"\0\0" + title
    tag = b"ID3\x03\0\0" + bytes([0, 0, 0, len(frame)]) + frame
    found = audio.load_audio(write(tmp_path / "a.mp3", tag + content))
    agrees(found, at_22050(voice(9)), delay=0.15)


def test_an_mp3_after_another_is_read_too(tmp_path):
    one, two = (encoded(voice(3, seed), format="MP3", subtype="MPEG_LAYER_III") for seed in (0, 1))
    found = audio.load_audio(write(tmp_path / "ab.mp3", one + two))
    assert len(found) / audio.SAMPLE_RATE == pytest.approx(6.0, abs=0.3)


def test_mp3s_of_two_rates_are_named(tmp_path):
    content = encoded(voice(2), format="MP3") + encoded(voice(2), rate=44_100, format="MP3")
    assert "sample rate changes from 16,000 Hz to 44,100 Hz" in refusal(write(tmp_path / "ab.mp3", content))


def test_an_mp3_that_ends_within_a_frame_is_cut_off(tmp_path):
    content = mp3_without_header(voice(6))
    assert "cut off" in refusal(write(tmp_path / "a.mp3", content[: len(content) * 6 // 10]))


@pytest.mark.parametrize("rate", [8_000, 11_025, 12_000, 16_000, 22_050])
@pytest.mark.parametrize("seconds", [1.0, 6.0])
def test_the_silence_that_an_encoder_adds_to_an_mp3_is_not_missing(tmp_path, rate, seconds):
    path = phone(tmp_path / "a.mp3", voice(seconds), "mp3", "libmp3lame", rate)
    assert len(audio.load_audio(path)) / audio.SAMPLE_RATE == pytest.approx(seconds, abs=0.05)


@pytest.mark.parametrize("share", [0.4, 0.7, 0.95])
def test_what_an_mp3_lacks_is_told_in_seconds(tmp_path, share):
    content = encoded(voice(6), format="MP3", subtype="MPEG_LAYER_III", bitrate_mode="CONSTANT")
    missing = re.search(
        r"its last ([\d.]+) s", refusal(write(tmp_path / "a.mp3", content[: int(share * len(content))]))
    )
    assert float(missing[1]) == pytest.approx(6 * (1 - share), abs=0.2)


@pytest.mark.parametrize("filling", [b"", bytes(2000), bytes(range(1, 251)) * 8])
def test_a_hole_in_an_mp3_is_named(tmp_path, filling):
    content = mp3_without_header(voice(6))
    middle = len(content) // 2
    message = refusal(write(tmp_path / "a.mp3", content[:middle] + filling + content[middle + 2000 :]))
    assert "damaged, a part is missing or wrong from its byte" in message


def test_an_mp3_with_tags_after_another_is_named(tmp_path):
    content = encoded(voice(2), format="MP3", subtype="MPEG_LAYER_III")
    joined = content + b"ID3\x04\0\0\0\0\0\x0a" + bytes(10) + content
    assert f"second recording begins at its byte {len(content):,}" in refusal(write(tmp_path / "ab.mp3", joined))


# ------------------------------------------------------------------------------------------------------ Ogg and FLAC


def ogg_pages(content: bytes) -> list[int]:
    return [found.start() for found in re.finditer(b"OggS", content)]


@pytest.mark.parametrize("subtype", ["OPUS", "VORBIS"])
@pytest.mark.parametrize("fault", ["bit", "page lost", "page twice", "zeros", "bytes lost"])
def test_a_hole_in_an_ogg_is_named(tmp_path, subtype, fault):
    content = encoded(voice(6), format="OGG", subtype=subtype)
    pages, middle = ogg_pages(content), len(content) // 2
    place = len(pages) // 2
    damaged = {
        "bit": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
        "page lost": content[: pages[place]] + content[pages[place + 1] :],
        "page twice": content[: pages[place + 1]] + content[pages[place] :],
        "zeros": content[:middle] + bytes(4096) + content[middle + 4096 :],
        "bytes lost": content[:middle] + content[middle + 4096 :],
    }[fault]
    message = refusal(write(tmp_path / "a.ogg", damaged))
    assert "damaged, a part is missing or wrong from its byte" in message


@pytest.mark.parametrize("subtype", ["OPUS", "VORBIS"])
def test_the_checksum_of_ogg_is_that_of_libogg(subtype):
    content = encoded(voice(2), format="OGG", subtype=subtype)
    for start, end in pairwise([*ogg_pages(content), len(content)]):
        page = content[start:end]
        bare = page[:22] + bytes(4) + page[26:]
        assert ogg_checksum(bare) == slow_checksum(bare) == int.from_bytes(page[22:26], "little")


@pytest.mark.parametrize("share", [0.4, 0.7, 0.97])
def test_a_flac_that_is_cut_off_says_so(tmp_path, share):
    content = encoded(voice(6), format="FLAC")
    assert "cut off, its last" in refusal(write(tmp_path / "a.flac", content[: int(share * len(content))]))


@pytest.mark.parametrize("subtype", ["OPUS", "VORBIS"])
@pytest.mark.parametrize("seconds", [6, 30])
@pytest.mark.parametrize("share", [0.6, 0.93])
def test_an_ogg_that_is_cut_off_is_refused(tmp_path, subtype, seconds, share):
    content = encoded(voice(seconds), format="OGG", subtype=subtype)
    assert "cut off" in refusal(write(tmp_path / "a.ogg", content[: int(share * len(content))]))


@pytest.mark.parametrize("subtype", ["OPUS", "VORBIS"])
def test_an_ogg_without_a_last_page_that_says_so_is_whole(tmp_path, subtype):
    content = bytearray(encoded(voice(6), format="OGG", subtype=subtype))
    last = content.rfind(b"OggS")
    content[last + 5] &= ~4
    if subtype == "OPUS":  # nothing is trimmed from a page that is not the last
        granule = int.from_bytes(content[last + 6 : last + 14], "little")
        content[last + 6 : last + 14] = (granule + -granule % 960).to_bytes(8, "little")
    content[last + 22 : last + 26] = bytes(4)
    content[last + 22 : last + 26] = slow_checksum(bytes(content[last:])).to_bytes(4, "little")
    agrees(audio.load_audio(write(tmp_path / "a.ogg", bytes(content))), at_22050(voice(6)))


def slow_checksum(page: bytes) -> int:
    crc = 0
    for byte in page:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ 0x04C11DB7 if crc & 0x80000000 else crc << 1) & 0xFFFFFFFF
    return crc


@pytest.mark.parametrize(
    "format",
    [
        {"format": "OGG", "subtype": "OPUS"},
        *({"format": name} for name in ("FLAC", "WAV", "AIFF", "CAF")),
        {"format": "W64", "subtype": "PCM_24"},
        {"format": "NIST", "subtype": "PCM_16"},
    ],
)
def test_a_second_recording_in_a_file_is_named(tmp_path, format):
    one, two = encoded(voice(2), **format), encoded(voice(2, 1), **format)
    message = refusal(write(tmp_path / "ab", one + two))
    assert f"a second recording begins at its byte {len(one):,}" in message


def flac_without_length(wave: np.ndarray) -> bytearray:
    content = bytearray(encoded(wave, format="FLAC"))
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    return content


def test_a_flac_of_unknown_length_is_read_to_its_end(tmp_path):
    path = write(tmp_path / "a.flac", flac_without_length(voice(6)))
    np.testing.assert_allclose(audio.load_audio(path), at_22050(voice(6)), atol=1e-3)
    part = audio.load_audio(path, 4.0, 5.0)
    np.testing.assert_allclose(part, at_22050(voice(6)[4 * RATE : 5 * RATE]), atol=1e-3)
    path = write(tmp_path / "long.flac", flac_without_length(np.tile(voice(6), 101)))
    assert "too long, 606.0 s" in refusal(path)


def test_a_flac_of_unknown_length_that_is_cut_off(tmp_path):
    content = flac_without_length(voice(6))
    message = refusal(write(tmp_path / "a.flac", content[: len(content) * 6 // 10]))
    assert re.search("cut off|damaged", message)


def test_a_flac_whose_header_promises_too_little_is_read_whole(tmp_path):
    content = flac_without_length(voice(6))
    content[22:26] = (RATE).to_bytes(4, "big")
    found = audio.load_audio(write(tmp_path / "a.flac", content))
    np.testing.assert_allclose(found, at_22050(voice(6)), atol=1e-3)


# ---------------------------------------------------------------------------------------------------------------- wav


@pytest.mark.parametrize("subtype", ["GSM610", "G721_32", "NMS_ADPCM_32", "IMA_ADPCM", "MS_ADPCM", "ULAW"])
def test_a_wav_of_telephones_whole_and_in_part(tmp_path, subtype):
    path = write(tmp_path / "g.wav", encoded(voice(6), format="WAV", subtype=subtype))
    agrees(audio.load_audio(path), at_22050(voice(6)), tolerance=0.1)
    agrees(audio.load_audio(path, 1.0, 2.0), at_22050(voice(6)[RATE : 2 * RATE]), tolerance=0.1)


@pytest.mark.parametrize("format", ["WAV", "AIFF", "AU", "CAF", "RF64", "WAVEX"])
@pytest.mark.parametrize("claimed", [1.0, 5.0])
def test_a_header_that_claims_less_than_follows_is_named_with_both_lengths(tmp_path, format, claimed):
    content = bytearray(encoded(voice(6), format=format, subtype="PCM_16"))
    at, extra = {
        "WAV": (content.find(b"data") + 4, 0),
        "WAVEX": (content.find(b"data") + 4, 0),
        "RF64": (28, 0),
        "AIFF": (content.find(b"SSND") + 4, 8),
        "AU": (8, 0),
        "CAF": (content.find(b"data") + 8, 4),
    }[format]
    order = "big" if format in ("AIFF", "AU", "CAF") else "little"
    assert content[at : at + 4] == (6 * RATE * 2 + extra).to_bytes(4, order)
    content[at : at + 4] = (int(claimed * RATE) * 2 + extra).to_bytes(4, order)
    message = refusal(write(tmp_path / "a.wav", content))
    assert f"promises {claimed:.2f} s of sound, and 6.00 s are there" in message
    assert len(audio.load_audio(tmp_path / "a.wav", 0.2, 0.7)) == audio.SAMPLE_RATE / 2


def test_a_wave64_that_claims_less_than_follows_is_read_whole(tmp_path):
    content = bytearray(encoded(voice(6), format="W64", subtype="PCM_16"))
    at = content.find(b"data\xf3") + 16
    content[at : at + 4] = (RATE * 2 + 24).to_bytes(4, "little")
    np.testing.assert_allclose(audio.load_audio(write(tmp_path / "a.w64", content)), at_22050(voice(6)), atol=1e-3)


def test_what_follows_the_sound_is_not_sound(tmp_path):
    content = encoded(voice(2), format="WAV", subtype="PCM_16")
    info = b"LIST\x0e\0\0\0INFOICMT\x02\0\0\0ab"
    for tail in (
        info,
        b"id3 " + (99_990).to_bytes(4, "little") + bytes(range(1, 100)) * 1010,
        bytes(50_000),
        b"TAG" * 9,
    ):
        found = audio.load_audio(write(tmp_path / "a.wav", content + tail + b"\0" * (len(tail) % 2)))
        np.testing.assert_allclose(found, at_22050(voice(2)), atol=1e-3)


def test_a_chunk_of_odd_length_that_nothing_fills_up(tmp_path):
    content = bytearray(encoded(voice(2)[:-1], format="WAV", subtype="PCM_U8"))
    if content[-1] == 0 and len(content) % 2 == 0:
        del content[-1]
    found = audio.load_audio(
        write(tmp_path / "a.wav", content + b"LIST" + (60_000).to_bytes(4, "little") + b"x" * 60_000)
    )
    np.testing.assert_allclose(found, at_22050(voice(2)[:-1]), atol=0.02)


@pytest.mark.parametrize("format", ["CAF", "NIST", "W64", "RF64", "AU"])
@pytest.mark.parametrize("share", [0.4, 0.7, 0.97])
def test_a_cut_off_file_of_any_kind_is_refused_with_what_is_missing(tmp_path, format, share):
    content = encoded(voice(6), format=format, subtype="PCM_16")
    message = refusal(write(tmp_path / "a.wav", content[: int(share * len(content))]))
    missing = re.search(r"cut off, (?:its last ([\d.]+) s|it ends in the middle)", message)
    assert float(missing[1] or 6 * (1 - share)) == pytest.approx(6 * (1 - share), abs=0.15)
    assert missing[1] or format == "CAF"  # which PyAV decodes, and before its version 15 not to the cut


def test_a_kind_of_which_nobody_knows_the_length_is_not_trusted(tmp_path):
    content = encoded(voice(6), format="VOC", subtype="PCM_16")
    assert "convert it to wav" in refusal(write(tmp_path / "a.wav", content[: len(content) // 2]))


def test_sound_in_two_chunks_is_named(tmp_path):
    content = encoded(voice(2), format="WAV", subtype="PCM_16")
    message = refusal(write(tmp_path / "a.wav", content + content[content.index(b"data") :]))
    assert f"a second recording begins at its byte {len(content):,}" in message


def test_a_wav_of_64_bits_that_was_never_closed_is_read_to_its_end(tmp_path):
    content = bytearray(encoded(voice(2), format="RF64", subtype="PCM_16"))
    content[28:36] = bytes(8)
    np.testing.assert_allclose(audio.load_audio(write(tmp_path / "a.wav", content)), at_22050(voice(2)), atol=1e-3)


# ------------------------------------------------------------------------------------------------------------- phones


@pytest.mark.parametrize("suffix", ["amr", "wma"])
def test_a_second_recording_of_an_older_phone_is_named(tmp_path, suffix):
    content = phone(tmp_path / "one", voice(2), *PHONES[suffix]).read_bytes()
    assert f"begins at its byte {len(content):,}" in refusal(write(tmp_path / f"ab.{suffix}", content + content))


@pytest.mark.parametrize(
    ("container", "codec"),
    [("asf", "wmav2"), ("avi", "libmp3lame"), ("mpegts", "aac"), ("mp4", "aac"), ("matroska", "libopus")],
)
@pytest.mark.parametrize("film_frames", [0, 50])
def test_a_hole_in_what_a_phone_recorded_is_named(tmp_path, container, codec, film_frames):
    path = phone(tmp_path / "a", voice(6), container, codec, 48_000, film_frames=film_frames)
    content = path.read_bytes()
    middle = len(content) // 2
    message = refusal(write(path, content[:middle] + bytes(188 * 25) + content[middle + 188 * 25 :]))
    assert re.search("damaged|cut off", message)


def test_the_films_of_camcorders(tmp_path):
    path = phone(tmp_path / "a.ts", voice(6), "mpegts", "aac", 44_100, film_frames=60)
    agrees(audio.load_audio(path), at_22050(voice(6)), delay=0.1)
    packets = path.read_bytes()
    timed = b"".join(bytes(4) + packets[at : at + 188] for at in range(0, len(packets), 188))
    agrees(audio.load_audio(write(tmp_path / "a.mts", timed)), at_22050(voice(6)), delay=0.1)
    assert re.search("cut off|damaged", refusal(write(tmp_path / "b.mts", timed[: len(timed) // 2 + 7])))


def test_sound_that_begins_after_the_film_keeps_its_times(tmp_path):
    path = phone(tmp_path / "a.mp4", voice(6), "mp4", "aac", 44_100, film_frames=80, delay_seconds=1.0)
    expected = np.r_[np.zeros(audio.SAMPLE_RATE, np.float32), at_22050(voice(6))]
    agrees(audio.load_audio(path), expected)
    agrees(audio.load_audio(path, 0.5, 3.0), expected[audio.SAMPLE_RATE // 2 : 3 * audio.SAMPLE_RATE])
    agrees(audio.load_audio(path, 5.5, 6.5), expected[11 * audio.SAMPLE_RATE // 2 : 13 * audio.SAMPLE_RATE // 2])


@pytest.mark.parametrize(
    ("container", "codec"), [("flv", "aac"), ("mpeg", "mp2"), ("tta", "tta")], ids=lambda name: name
)
def test_kinds_of_which_a_part_may_pass_for_the_whole_are_not_read(tmp_path, container, codec):
    assert "is not read; convert it to wav" in refusal(phone(tmp_path / "a.wav", voice(2), container, codec, 44_100))


@pytest.mark.parametrize("suffix", PHONES)
def test_what_phones_record_is_read_whole_and_in_part(tmp_path, suffix):
    container, codec, rate = PHONES[suffix]
    path = phone(tmp_path / f"a.{suffix}", voice(6), container, codec, rate)
    tolerance = 0.45 if "amr" in codec else 0.2  # which keeps what matters of speech alone
    agrees(audio.load_audio(path), at_22050(voice(6)), tolerance, delay=0.1)
    agrees(audio.load_audio(path, 1.0, 2.5), at_22050(voice(6)[RATE : 5 * RATE // 2]), tolerance, delay=0.1)


@pytest.mark.parametrize("suffix", ["m4a", "aac", "webm", "mka", "mov", "3gp", "wma"])
def test_a_part_far_in_is_that_of_the_whole(tmp_path, suffix):
    container, codec, rate = PHONES[suffix]
    path = phone(tmp_path / f"a.{suffix}", voice(40), container, codec, rate)
    whole = audio.load_audio(path)
    part = audio.load_audio(path, 31.0, 33.0)
    expected = whole[31 * audio.SAMPLE_RATE : 33 * audio.SAMPLE_RATE]
    assert len(part) == len(expected)
    size = slice(2000, -2000)  # resampling begins anew
    assert np.corrcoef(part[size], expected[size])[0, 1] > 0.99


@pytest.mark.parametrize("suffix", PHONES)
def test_what_a_phone_cut_off_is_refused(tmp_path, suffix):
    container, codec, rate = PHONES[suffix]
    content = phone(tmp_path / "whole", voice(6), container, codec, rate).read_bytes()
    message = refusal(write(tmp_path / f"a.{suffix}", content[: int(0.6 * len(content)) + 1]))
    assert "cut off" in message


@pytest.mark.parametrize("suffix", ["m4a", "webm"])
def test_a_second_recording_of_a_phone_is_named(tmp_path, suffix):
    content = phone(tmp_path / "one", voice(2), *PHONES[suffix]).read_bytes()
    assert f"begins at its byte {len(content):,}" in refusal(write(tmp_path / f"ab.{suffix}", content + content))


@pytest.mark.parametrize("suffix", PHONES)
def test_without_the_extra_one_sentence_names_it(tmp_path, monkeypatch, suffix):
    path = phone(tmp_path / f"a.{suffix}", voice(2), *PHONES[suffix])
    monkeypatch.setattr(sound_files, "_has_av", lambda: False)
    assert "needs the extra 'phones'; pip install 's2igan[phones]'" in refusal(path)


def test_names_do_not_matter(tmp_path):
    path = phone(tmp_path / "a.wav", voice(2), *PHONES["m4a"])
    agrees(audio.load_audio(path), at_22050(voice(2)))
    path = write(tmp_path / "b.mp3", encoded(voice(2), format="WAV", subtype="PCM_16"))
    np.testing.assert_allclose(audio.load_audio(path), at_22050(voice(2)), atol=1e-3)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<!DOCTYPE html>\n<html><body>404</body></html>", "this is a web page, no sound; a server sent it"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9\n",
            "this is a Git LFS pointer, no sound; run",
        ),
        (b"\xff\xd8\xff\xe0" + bytes(100), "this is a JPEG picture, no sound"),
        (b"\0\0\0\x18ftypheic" + bytes(100), "this is a HEIC picture, no sound"),
        (b"%PDF-1.4\n", "this is a PDF document, no sound"),
        (bytes(9000), "this is nothing but zero bytes, no sound; its copying failed"),
    ],
)
def test_what_is_no_sound_is_called_what_it_is(tmp_path, content, words):
    assert words in refusal(write(tmp_path / "a.wav", content))


def test_no_playlist_is_followed(tmp_path):
    """ffmpeg would read whatever a playlist names."""
    phone(tmp_path / "secret.m4a", voice(2), *PHONES["m4a"])
    for content in (b"#EXTM3U\n#EXTINF:2,\nsecret.m4a\n", b"ffconcat version 1.0\nfile secret.m4a\n"):
        assert "this is a text, no sound" in refusal(write(tmp_path / "list.m4a", content))


# ----------------------------------------------------------------------------------------------------------- channels


@pytest.mark.parametrize("gain", [-1.0, -0.9, -0.5])
def test_channels_that_cancel_each_other_do_not(tmp_path, gain):
    x = voice(3)
    stereo = np.stack([gain * x, x], 1)
    soundfile.write(tmp_path / "a.wav", stereo, RATE, subtype="FLOAT")
    for found in (audio.load_audio(tmp_path / "a.wav"), audio.of_array(stereo, RATE, "the array")):
        sign = np.sign(np.dot(found, at_22050(x)))  # of two that are equally loud either will do
        np.testing.assert_allclose(sign * found, at_22050(x), atol=1e-5)


def test_channels_that_differ_are_averaged(tmp_path):
    x, y = voice(3), voice(3, seed=5)
    for stereo in (np.stack([x, y], 1), np.stack([x, 0 * x], 1), np.stack([x, 0.5 * x, 0 * x], 1)):
        np.testing.assert_allclose(audio.of_array(stereo, RATE, "it"), at_22050(stereo.mean(1)), atol=1e-5)


def test_arrays_with_channels_first():
    x = voice(3)
    for array in (x[None], np.stack([x, x]), np.stack([x] * 8)):
        np.testing.assert_allclose(audio.of_array(array, RATE, "it"), at_22050(x), atol=1e-5)


# -------------------------------------------------------------------------------------------------------------- scale


@pytest.mark.parametrize(("scale", "subtype"), [(1e30, "FLOAT"), (1e300, "DOUBLE"), (1e12, "FLOAT")])
def test_sound_beyond_any_scale_is_refused(tmp_path, scale, subtype):
    soundfile.write(tmp_path / "a.wav", voice(2).astype(np.float64) * scale, RATE, subtype=subtype)
    assert re.search("beyond any scale|not numbers", refusal(tmp_path / "a.wav"))


def test_whole_numbers_written_as_floats_are_sound(tmp_path):
    soundfile.write(tmp_path / "a.wav", voice(2) * 32768, RATE, subtype="FLOAT")
    np.testing.assert_allclose(audio.load_audio(tmp_path / "a.wav"), at_22050(voice(2) * 32768), atol=1)
