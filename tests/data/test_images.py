"""Pictures of every kind come out as the RGB that a viewer shows."""

import re
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from s2igan.data.images import load_image
from s2igan.errors import UserError

FILES = Path(__file__).parent / "files"
RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def halves(left: Any, right: Any, mode: str = "RGB", size: tuple[int, int] = (40, 40)) -> Image.Image:
    picture = Image.new(mode, size, left)
    picture.paste(right, (size[0] // 2, 0, *size))
    return picture


def corners(array: np.ndarray) -> list[tuple[int, ...]]:
    """Left and right, away from the edge between them."""
    middle = array.shape[0] // 2
    return [tuple(int(v) for v in array[middle, column]) for column in (array.shape[1] // 8, -1 - array.shape[1] // 8)]


def close(found: list[tuple[int, ...]], expected: list[tuple[int, ...]], tolerance: int) -> bool:
    return bool(np.abs(np.array(found) - np.array(expected)).max() <= tolerance)


@pytest.mark.parametrize(
    ("picture", "name", "options", "tolerance"),
    [
        (halves(RED, BLUE), "a.png", {}, 0),
        (halves(RED, BLUE), "a.jpg", {"quality": 95}, 3),
        (halves(RED, BLUE), "a.webp", {"lossless": True}, 0),
        (halves(RED, BLUE), "a.bmp", {}, 0),
        (halves(RED, BLUE), "a.tiff", {}, 0),
        (halves(RED, BLUE).quantize(4), "a.png", {}, 0),
        (halves(RED, BLUE).quantize(4), "a.gif", {}, 0),
        (halves(RED, BLUE).convert("CMYK"), "a.jpg", {"quality": 95}, 3),
        (halves(RED, BLUE).convert("CMYK"), "a.tiff", {}, 0),
        (halves((*RED, 255), (*BLUE, 255), "RGBA"), "a.png", {}, 0),
    ],
)
def test_modes_and_formats(
    tmp_path: Path, picture: Image.Image, name: str, options: dict[str, Any], tolerance: int
) -> None:
    picture.save(tmp_path / name, **options)
    array = load_image(tmp_path / name, 40)
    assert (array.shape, array.dtype) == ((40, 40, 3), np.uint8)
    assert close(corners(array), [RED, BLUE], tolerance)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_parts_are_white(tmp_path: Path, mode: str) -> None:
    if mode == "P":
        picture = halves(0, 1, "P")
        picture.putpalette([*RED, *BLUE])
        picture.save(tmp_path / "a.png", transparency=1)
        expected = [RED, WHITE]
    else:
        left, right = {"RGBA": ((*RED, 255), (*BLUE, 0)), "LA": ((90, 255), (10, 0))}[mode]
        halves(left, right, mode).save(tmp_path / "a.png")
        expected = [RED if mode == "RGBA" else (90, 90, 90), WHITE]
    assert corners(load_image(tmp_path / "a.png", 40)) == expected


def test_half_transparent_parts_are_mixed(tmp_path: Path) -> None:
    Image.new("RGBA", (20, 20), (0, 0, 0, 51)).save(tmp_path / "a.png")
    assert corners(load_image(tmp_path / "a.png", 20)) == [(204, 204, 204)] * 2


@pytest.mark.parametrize("name", ["a.png", "a.tiff"])
def test_16_bit_greys_use_their_whole_range(tmp_path: Path, name: str) -> None:
    grey = np.zeros((40, 40), np.uint16)
    grey[:, 20:] = 128 * 257
    Image.fromarray(grey).save(tmp_path / name)
    assert corners(load_image(tmp_path / name, 40)) == [(0, 0, 0), (128, 128, 128)]


def test_floating_point_greys(tmp_path: Path) -> None:
    grey = np.zeros((40, 40), np.float32)
    grey[:, 20:] = 0.2
    Image.fromarray(grey).save(tmp_path / "a.tiff")
    assert corners(load_image(tmp_path / "a.tiff", 40)) == [(0, 0, 0), (51, 51, 51)]


def test_black_and_white_and_grey(tmp_path: Path) -> None:
    halves(0, 1, "1").save(tmp_path / "a.png")
    assert corners(load_image(tmp_path / "a.png", 40)) == [(0, 0, 0), WHITE]
    halves(7, 200, "L").save(tmp_path / "b.png")
    assert corners(load_image(tmp_path / "b.png", 40)) == [(7, 7, 7), (200, 200, 200)]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tiff"])
def test_the_camera_may_have_been_turned(tmp_path: Path, orientation: int, name: str) -> None:
    upright = np.zeros((64, 64, 3), np.uint8)
    upright[:32, :32], upright[:32, 32:], upright[32:, :32] = RED, BLUE, WHITE
    turned = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: np.rot90(upright, -1),
    }[orientation]
    picture = Image.fromarray(np.ascontiguousarray(turned))
    exif = picture.getexif()
    exif[0x0112] = orientation
    picture.save(tmp_path / name, exif=exif)
    array = load_image(tmp_path / name, 64).astype(int)
    for row, column, colour in ((16, 16, RED), (16, 48, BLUE), (48, 16, WHITE), (48, 48, (0, 0, 0))):
        assert np.abs(array[row, column] - colour).max() < 10


def test_the_middle_square_is_kept(tmp_path: Path) -> None:
    wide = Image.new("RGB", (120, 40), BLUE)
    wide.paste(RED, (40, 0, 80, 40))
    wide.save(tmp_path / "wide.png")
    assert (load_image(tmp_path / "wide.png", 40) == RED).all()
    wide.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "tall.png")
    assert (load_image(tmp_path / "tall.png", 40) == RED).all()


def test_the_square_around_a_bounding_box(tmp_path: Path) -> None:
    """Half-side 0.75 * max(width, height) around the centre of the box (method.md section 5)."""
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    # Box 100..180 x 60..100: centre (140, 80), half-side 60.
    assert (load_image(tmp_path / "a.png", 120, box=(100, 60, 80, 40)) == noise[20:140, 80:200]).all()
    # Near the corner: centre (20, 20), half-side 30, clipped to 0..50.
    assert (load_image(tmp_path / "a.png", 50, box=(0, 10, 40, 20)) == noise[0:50, 0:50]).all()
    with pytest.raises(UserError, match="under 8"):
        load_image(tmp_path / "a.png", 50, box=(500, 10, 4, 4))


def test_a_picture_of_the_right_size_is_kept_as_it_is(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (76, 76, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    assert (load_image(tmp_path / "a.png", 76) == noise).all()


def test_shrinking_averages(tmp_path: Path) -> None:
    board = (np.indices((256, 256)).sum(0) % 2 * 255).astype(np.uint8)
    Image.fromarray(board).convert("RGB").save(tmp_path / "a.png")
    inner = load_image(tmp_path / "a.png", 32)[2:-2, 2:-2].astype(int)
    assert np.abs(inner - 127).max() <= 3, "every pixel is the mean of 8 x 8"


def test_a_large_jpeg_is_decoded_small_and_looks_the_same(tmp_path: Path) -> None:
    smooth = np.add.outer(np.arange(1200), np.arange(1600))[..., None] * [1, 0.5, 0.25] / 2800 * 255
    Image.fromarray(smooth.astype(np.uint8)).save(tmp_path / "a.jpg", quality=95)
    Image.fromarray(smooth.astype(np.uint8)).save(tmp_path / "a.png")
    difference = load_image(tmp_path / "a.jpg", 76).astype(int) - load_image(tmp_path / "a.png", 76)
    assert np.abs(difference).max() <= 4


def test_bad_files_are_named(tmp_path: Path) -> None:
    halves(RED, BLUE).save(tmp_path / "whole.jpg", quality=95)
    halves(RED, BLUE, size=(400, 400)).save(tmp_path / "whole.png")
    jpg, png = (tmp_path / "whole.jpg").read_bytes(), (tmp_path / "whole.png").read_bytes()
    contents = {
        "noise.jpg": bytes(range(7, 256)),
        "torn.jpg": jpg[: len(jpg) // 2],
        "torn.png": png[: len(png) // 2],
        "header.png": png[:40],
        "flipped.png": png[:50] + bytes([png[50] ^ 255]) + png[51:],
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=f"{name}: not a readable image"):
            load_image(tmp_path / name, 40)
    (tmp_path / "empty.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"empty\.png: the image file is empty"):
        load_image(tmp_path / "empty.png", 40)
    with pytest.raises(UserError, match=r"absent\.png: no such image"):
        load_image(tmp_path / "absent.png", 40)
    Image.new("RGB", (40, 7)).save(tmp_path / "thin.png")
    with pytest.raises(UserError, match=r"thin\.png: the image is 40 x 7 px, under 8"):
        load_image(tmp_path / "thin.png", 40)
    # A header that promises 20,000 x 20,000 pixels.
    chunk = b"IHDR" + struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    header = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    (tmp_path / "bomb.png").write_bytes(header + png[33:])
    with pytest.raises(UserError, match=r"bomb\.png: too large an image"):
        load_image(tmp_path / "bomb.png", 40)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\n<!doctype HTML>\n<html>", "this is a web page, no picture; a server sent it in place of the file"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\n",
            "this is a Git LFS pointer, no picture; run git",
        ),
        (b"RIFF\x24\0\0\0WAVEfmt ", "this is a wav file, no picture"),
        (b"not a picture", "this is a text, no picture"),
        (bytes(9000), "this is nothing but zero bytes, no picture"),
        (b"<?xml version='1.0'?>\n<svg/>", "this is an SVG drawing, which is not read; export it as png"),
        (b"%PDF-1.4", "this is a PDF document, no picture"),
    ],
)
def test_what_is_no_picture_is_called_what_it_is(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(UserError, match=rf"a\.jpg: {re.escape(words)}"):
        load_image(tmp_path / "a.jpg", 40)


@pytest.mark.parametrize(("bits", "most"), [(8, 255), (10, 1023), (12, 4095), (16, 65535)])
@pytest.mark.parametrize("name", ["a.png", "a.tiff"])
def test_10_and_12_bits_in_16(tmp_path: Path, bits: int, most: int, name: str) -> None:
    grey = np.full((40, 40), round(most * 0.2), np.uint16)
    grey[:, 20:] = most
    Image.fromarray(grey).save(tmp_path / name)
    assert corners(load_image(tmp_path / name, 40)) == [(51, 51, 51), WHITE]


def test_white_may_be_zero(tmp_path: Path) -> None:
    grey = np.full((40, 40), 65535, np.uint16)
    grey[:, 20:] = 0
    Image.fromarray(grey).save(tmp_path / "a.tiff", tiffinfo={262: 0})
    raw = bytearray((tmp_path / "a.tiff").read_bytes())
    at = raw.find(struct.pack("<HHI", 262, 3, 1)) + 8
    raw[at : at + 2] = bytes(2)
    (tmp_path / "a.tiff").write_bytes(raw)
    assert corners(load_image(tmp_path / "a.tiff", 40)) == [(0, 0, 0), WHITE]


@pytest.mark.parametrize("most", [1023, 4095])
def test_colours_of_12_bits_in_16_are_refused(tmp_path: Path, most: int) -> None:
    (tmp_path / "a.png").write_bytes(deep_png(most))
    with pytest.raises(UserError, match=r"a\.png: not a readable image \(its colours have 16 bits and use 12 or fewer"):
        load_image(tmp_path / "a.png", 16)
    (tmp_path / "a.png").write_bytes(deep_png(65535))
    assert (load_image(tmp_path / "a.png", 16) == 255).all()


def deep_png(value: int, side: int = 16) -> bytes:
    """RGB of 16 bits, all of one value."""

    def chunk(name: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + checksum

    rows = (b"\0" + struct.pack(">H", value) * 3 * side) * side
    head = struct.pack(">IIBBBBB", side, side, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("chunk", ["itxt", "text", "many"])
def test_a_png_may_hold_a_long_text(tmp_path: Path, chunk: str) -> None:
    info = PngInfo()
    if chunk == "itxt":
        info.add_itxt("XML:com.adobe.xmp", "x" * 2_000_000, zip=True)
    elif chunk == "text":
        info.add_text("note", "x" * 2_000_000, zip=True)
    else:
        for number in range(80):
            info.add_text(f"note {number}", "x" * 1_000_000, zip=True)
    halves(RED, BLUE).save(tmp_path / "a.png", pnginfo=info)
    assert corners(load_image(tmp_path / "a.png", 40)) == [RED, BLUE]


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_jpeg_that_lacks_only_its_end_marker_is_whole(tmp_path: Path, progressive: bool, mode: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8)
    Image.fromarray(noise).convert(mode).save(tmp_path / "a.jpg", quality=80, progressive=progressive)
    expected, raw = load_image(tmp_path / "a.jpg", 70), (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(raw[:-2])
    np.testing.assert_array_equal(load_image(tmp_path / "a.jpg", 70), expected)
    for lacking in (12, 100, len(raw) // 2):
        (tmp_path / "a.jpg").write_bytes(raw[:-lacking])
        with pytest.raises(UserError, match=r"a\.jpg: not a readable image \(.*truncated"):
            load_image(tmp_path / "a.jpg", 70)


@pytest.mark.parametrize(
    "orientation",
    [("H", b"\x06\0"), ("I", b"\x06\0\0\0"), ("B", b"\x06"), ("text", b"6\0")],
)
def test_malformed_tags_do_not_stop_the_turning(tmp_path: Path, orientation: tuple[str, bytes]) -> None:
    """Beside an orientation, in whatever type, tags that Pillow cannot write again."""
    kind, value = orientation
    number = {"H": 3, "I": 4, "B": 1, "text": 2}[kind]
    entries = [
        struct.pack("<HHI", 0x0112, number, len(value) if kind == "text" else 1) + value.ljust(4, b"\0"),
        struct.pack("<HHI4s", 0x011A, 5, 1, b"\xff\xff\xff\x7f"),  # a fraction that lies behind the end
        struct.pack("<HHI4s", 0x8769, 4, 3, b"\xff\xff\xff\x7f"),
        struct.pack("<HHI4s", 0x9286, 7, 9, b"\x01\0\0\0"),
        struct.pack("<HHI4s", 0xC4A5, 99, 1, b"abcd"),
    ]
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    halves(RED, BLUE).save(tmp_path / "a.jpg", exif=exif, quality=95)
    assert corners(load_image(tmp_path / "a.jpg", 40).swapaxes(0, 1))[0][0] > 240


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"]
)
def test_exif_that_makes_no_sense_is_passed_over(tmp_path: Path, exif: bytes) -> None:
    halves(RED, BLUE).save(tmp_path / "a.jpg", exif=exif, quality=95)
    assert close(corners(load_image(tmp_path / "a.jpg", 40)), [RED, BLUE], 8)


def test_heic_of_a_phone(tmp_path: Path) -> None:
    """Red left of blue, in 10 bits and in 8 with a turn of the camera, by libheif and x265."""
    for name, sides in (("ten", (RED, BLUE)), ("turned", None)):
        (tmp_path / "a.jpg").write_bytes((FILES / f"{name}.heic").read_bytes())
        array = load_image(tmp_path / "a.jpg", 64)
        found = corners(array if sides else array.swapaxes(0, 1))
        assert close(found, [RED, BLUE], 12)
        (tmp_path / "a.jpg").write_bytes((FILES / f"{name}.heic").read_bytes()[:-100])
        with pytest.raises(UserError, match=r"a\.jpg: not a readable image"):
            load_image(tmp_path / "a.jpg", 64)


def test_avif(tmp_path: Path) -> None:
    halves(RED, BLUE).save(tmp_path / "a.jpg", format="AVIF", quality=90)
    assert close(corners(load_image(tmp_path / "a.jpg", 40)), [RED, BLUE], 8)


def test_a_name_too_long_for_any_disk_is_a_missing_file():
    with pytest.raises(UserError, match="no such image file"):
        load_image("x" * 300 + ".jpg", 8)


def test_a_file_that_may_not_be_read_is_not_called_damaged(tmp_path, monkeypatch):
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")

    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Image, "open", refuse)  # the tests may run as root
    with pytest.raises(UserError, match=r"a\.png: no permission to read the file"):
        load_image(tmp_path / "a.png", 8)


def test_a_box_that_leaves_nothing_is_not_blamed_on_the_picture(tmp_path):
    Image.new("RGB", (30, 24)).save(tmp_path / "a.png")
    with pytest.raises(
        UserError, match=r"a\.png: the image is 30 x 24 px and the square around its bounding box under 8"
    ):
        load_image(tmp_path / "a.png", 8, (200.0, 200.0, 50.0, 50.0))
    Image.new("RGB", (30, 4)).save(tmp_path / "b.png")
    with pytest.raises(UserError, match=r"b\.png: the image is 30 x 4 px, under 8; use a larger one"):
        load_image(tmp_path / "b.png", 8, (0.0, 0.0, 4.0, 4.0))


@pytest.mark.parametrize(("width", "height"), [(90, 60), (60, 90), (97, 60), (61, 60), (60, 60), (300, 60)])
def test_the_longer_side_is_kept_where_asked(tmp_path: Path, width: int, height: int) -> None:
    """Up to the share that is asked for, around the same square in the middle."""
    noise = np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    for size in (60, 40):
        square, whole = load_image(tmp_path / "a.png", size), load_image(tmp_path / "a.png", size, longest=2.0)
        long, wide = max(whole.shape), width > height
        assert min(whole.shape[:2]) == size
        assert 0 <= min(2.0, max(width, height) / 60) * size - long < 2
        first = (long - size) // 2
        middle = whole[:, first : first + size] if wide else whole[first : first + size]
        difference = np.abs(middle.astype(int) - square)
        assert difference.mean() < 0.5  # Pillow resizes the sides in another order, and rounds in between
        assert (difference == 0).all() or height > width
    if width % 2 == 0:
        left = (width - min(width, 120)) // 2
        whole = load_image(tmp_path / "a.png", 60, longest=2.0)
        np.testing.assert_array_equal(whole, noise[:, left : left + 120])


def test_a_box_at_the_border_keeps_its_longer_side(tmp_path: Path) -> None:
    noise = np.random.default_rng(4).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    box = (0.0, 80.0, 40.0, 40.0)  # a square of 60 px around it, of which 10 px are outside
    assert (load_image(tmp_path / "a.png", 50, box, longest=2.0) == noise[70:130, 0:50]).all()
    assert (load_image(tmp_path / "a.png", 50, box) == noise[75:125, 0:50]).all()


def png_16(values: np.ndarray) -> bytes:
    """Grey, grey with alpha, RGB or RGBA by the number of channels, which come last."""
    height, width, channels = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff_rgb_16(values: np.ndarray) -> bytes:
    """Without compression, (height, width, 3)."""
    height, width, _ = values.shape
    content = values.astype("<u2").tobytes()
    tags = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, 200), (259, 3, 1, 1), (262, 3, 1, 2), (273, 4, 1, 210),
        (277, 3, 1, 3), (278, 4, 1, height), (279, 4, 1, len(content)),
    ]  # fmt: skip
    directory = struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return (directory + bytes(4)).ljust(200, b"\0") + struct.pack("<3H4x", 16, 16, 16) + content


@pytest.mark.parametrize("channels", [2, 3, 4])
@pytest.mark.parametrize("opaque", [4095, 65535])
def test_12_bits_in_16_are_never_black_in_silence(tmp_path: Path, channels: int, opaque: int) -> None:
    values = np.linspace(0, 4095, 40)[None, :, None].repeat(40, 0).repeat(channels, 2)
    if channels in (2, 4):
        values[..., -1] = opaque
    (tmp_path / "a.png").write_bytes(png_16(values))
    with pytest.raises(UserError, match="use 12 or fewer of them"):
        load_image(tmp_path / "a.png", 40)
    bright = values * 16
    bright[..., -1] = 65535 if channels in (2, 4) else bright[..., -1]
    (tmp_path / "a.png").write_bytes(png_16(bright))
    assert np.ptp(load_image(tmp_path / "a.png", 40)) > 250


def test_12_bits_in_16_of_a_coloured_tiff(tmp_path: Path) -> None:
    values = np.linspace(0, 4095, 40)[None, :, None].repeat(40, 0).repeat(3, 2)
    (tmp_path / "a.tif").write_bytes(tiff_rgb_16(values))
    with pytest.raises(UserError, match="use 12 or fewer of them"):
        load_image(tmp_path / "a.tif", 40)
    (tmp_path / "a.tif").write_bytes(tiff_rgb_16(16 * values))
    assert np.ptp(load_image(tmp_path / "a.tif", 40)) > 250


@pytest.mark.parametrize("most", [1.0, 255.0, 1023.0, 65535.0])
def test_floating_point_greys_of_any_range(tmp_path: Path, most: float) -> None:
    ramp = np.linspace(0, most, 40, dtype=np.float32)[None].repeat(40, 0)
    Image.fromarray(ramp).save(tmp_path / "a.tif")
    expected = np.linspace(0, 255, 40).round().astype(int)
    assert np.abs(load_image(tmp_path / "a.tif", 40)[0, :, 0].astype(int) - expected).max() <= 1
    Image.fromarray(ramp - most / 2).save(tmp_path / "a.tif")
    with pytest.raises(UserError, match="numbers below 0"):
        load_image(tmp_path / "a.tif", 40)


def test_a_damaged_note_in_a_png_is_passed_over(tmp_path: Path) -> None:
    halves(RED, BLUE).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    note = struct.pack(">I", 4) + b"gAMA" + b"\0\0\xb1\x8f" + b"\0\0\0\0"
    (tmp_path / "a.png").write_bytes(content[:33] + note + content[33:])
    assert corners(load_image(tmp_path / "a.png", 40)) == [RED, BLUE]
    (tmp_path / "a.png").write_bytes(content[:20] + bytes(9) + content[29:])
    with pytest.raises(UserError, match="begins as a PNG picture"):
        load_image(tmp_path / "a.png", 40)
