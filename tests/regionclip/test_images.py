from __future__ import annotations

import contextlib
import io
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from regionclip.images import (
    image_size,
    read_image,
)


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def noise(height: int = 24, width: int = 32) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def test_a_path_and_its_bytes_give_the_same_pixels(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(encoded(noise()))
    for source in (path, str(path), path.read_bytes()):
        assert np.array_equal(np.asarray(read_image(source)), np.asarray(noise()))


def stored_as(orientation: int, upright: np.ndarray) -> Image.Image:
    """The pixels that a file with this orientation holds."""
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright, 1),
        7: np.rot90(upright.swapaxes(0, 1), 2),
        8: np.rot90(upright, -1),
    }
    return Image.fromarray(stored[orientation].copy())


def oriented(orientation: int, upright: np.ndarray, form: str) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": "4:4:4"}}.get(form, {})
    return encoded(stored_as(orientation, upright), form, exif=exif, **options)


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP", "JPEG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_undone_once(orientation: int, form: str) -> None:
    upright = np.asarray(noise())
    data = oriented(orientation, upright, form)
    read = np.asarray(read_image(data))
    assert read.shape == upright.shape
    assert np.abs(read.astype(int) - upright).max() <= (12 if form == "JPEG" else 0)
    assert image_size(data) == (32, 24)


@pytest.mark.parametrize("orientation", [0, 9, 300])
def test_an_orientation_that_means_nothing_turns_nothing(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(noise(), "PNG", exif=exif)
    assert np.array_equal(np.asarray(read_image(data)), np.asarray(noise()))
    assert image_size(data) == (32, 24)


def test_an_orientation_behind_the_pixels_of_a_png_counts() -> None:
    whole = oriented(6, np.asarray(noise()), "PNG")
    start = whole.index(b"eXIf") - 4
    end = start + 12 + struct.unpack(">I", whole[start : start + 4])[0]
    end_chunk = whole.rindex(b"IEND") - 4
    moved = whole[:start] + whole[end:end_chunk] + whole[start:end] + whole[end_chunk:]
    assert np.array_equal(np.asarray(read_image(moved)), np.asarray(noise()))
    assert image_size(moved) == (32, 24)


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_the_size_is_read_of_the_header_alone(form: str) -> None:
    data = encoded(noise(64, 96), form)
    assert image_size(data[: len(data) // 2]) == (96, 64)
    with pytest.raises(ValueError, match="cannot be read as an image"):
        read_image(data[: len(data) // 2])


@pytest.mark.parametrize(
    "data", [b"", b"not an image", png_header(60_000, 60_000), encoded(Image.new("F", (2, 2)), "TIFF")]
)
def test_the_size_has_the_errors_of_reading(data: bytes) -> None:
    reasons = []
    for function in (image_size, read_image):
        with pytest.raises(ValueError, match="image of") as error:
            function(data)
        reasons.append(str(error.value))
    assert reasons[0] == reasons[1]
    assert "0x" not in reasons[0]  # an address in memory differs from run to run


@pytest.mark.parametrize("form", ["GIF", "WEBP", "TIFF"])
def test_of_many_frames_the_first_is_read(form: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((255, 0, 0), (0, 0, 255))]
    options = {"lossless": True} if form == "WEBP" else {}
    data = encoded(frames[0], form, save_all=True, append_images=frames[1:], **options)
    assert np.asarray(read_image(data))[0, 0].tolist() == [255, 0, 0]
    assert image_size(data) == (8, 8)


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_a_truncated_file_is_an_error_and_never_half_an_image(form: str) -> None:
    whole = encoded(noise(64, 64), form)
    with pytest.raises(ValueError, match=r"image of \d+ bytes: cannot be read as an image: .*trunc"):
        read_image(whole[: len(whole) // 2])


@pytest.mark.parametrize(
    ("form", "kept", "options"),
    [
        ("JPEG", 0.95, {}),
        ("JPEG", 0.95, {"progressive": True}),
        ("PNG", 0.95, {}),
        ("WEBP", 0.5, {}),
        ("WEBP", 0.5, {"lossless": True}),
        ("GIF", 0.5, {}),
        ("TIFF", 0.5, {}),
        ("TIFF", 0.5, {"compression": "tiff_lzw"}),
    ],
)
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_file_cut_short_is_rejected_with_a_reason(
    form: str, kept: float, options: dict[str, object], tmp_path: Path
) -> None:
    whole = encoded(noise(64, 96), form, **options)
    assert read_image(whole).size == (96, 64)
    path = tmp_path / "image"
    cut = whole[: int(kept * len(whole))]
    path.write_bytes(cut)
    for source, name in ((cut, f"image of {len(cut)} bytes"), (path, str(path))):
        with pytest.raises(ValueError, match=f"^{re.escape(name)}: cannot be read as an image: .*[a-z]{{4}}"):
            read_image(source)


@pytest.mark.parametrize("junk", [b"", b"not an image", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0"])
def test_junk_is_a_value_error(junk: bytes) -> None:
    with pytest.raises(ValueError, match="cannot be read as an image"):
        read_image(junk)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"absent\.png: cannot be read as an image: .*No such file"):
        read_image(tmp_path / "absent.png")


@settings(max_examples=40, deadline=None)
@given(position=st.integers(0, 10_000), value=st.integers(0, 255), form=st.sampled_from(["PNG", "JPEG", "GIF", "AVIF"]))
def test_a_damaged_byte_gives_an_image_or_a_value_error(position: int, value: int, form: str) -> None:
    data = bytearray(encoded(noise(), form))
    data[position % len(data)] = value
    with contextlib.suppress(ValueError):
        assert read_image(bytes(data)).mode == "RGB"


def test_damaged_pixels_of_an_avif_are_a_value_error() -> None:
    data = encoded(noise(), "AVIF")
    pixels = data.index(b"mdat") + 4
    with pytest.raises(ValueError, match=r"image of \d+ bytes: cannot be read as an image: Failed to decode"):
        read_image(data[:pixels] + bytes(len(data) - pixels))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [9_000, 12_000, 60_000])
def test_a_decompression_bomb_is_refused_before_decoding(side: int) -> None:
    with pytest.raises(ValueError, match=r"more than the 64,000,000|too large to decode"):
        read_image(png_header(side, side))


def patched(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def jpeg_of(width: int, height: int) -> bytes:
    small = encoded(noise(8, 8), "JPEG")
    return patched(small, small.index(b"\xff\xc0") + 5, struct.pack(">HH", height, width))


def tiff_of(width: int, height: int) -> bytes:
    fields = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: width * height}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in fields.items())
    return b"II*\0" + struct.pack("<IH", 8, len(fields)) + entries + bytes(4)


def gif_of(width: int, height: int) -> bytes:
    """A screen and on it a frame of this size."""
    return patched(gif_with_frame_of(width, height), 6, struct.pack("<HH", width, height))


def gif_with_frame_of(width: int, height: int) -> bytes:
    """A screen of one pixel, which the frame enlarges."""
    screen = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + bytes(6)
    return screen + b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x01\x00\x00;"


def webp_of(width: int, height: int) -> bytes:
    return patched(encoded(noise(8, 8), "WEBP"), 26, struct.pack("<HH", width, height))


def lossless_webp_of(width: int, height: int) -> bytes:
    sides = struct.pack("<I", (width - 1) | (height - 1) << 14)
    return patched(encoded(noise(8, 8), "WEBP", lossless=True), 21, sides)


def animated_webp_of(width: int, height: int) -> bytes:
    """A canvas of this size under frames of 8 x 8."""
    frames = encoded(noise(8, 8), "WEBP", save_all=True, append_images=[Image.new("RGB", (8, 8))])
    return patched(frames, 24, struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3])


@pytest.mark.parametrize("sides", [(9_000, 8_000), (16_000, 15_000)])
@pytest.mark.parametrize(
    "header", [jpeg_of, tiff_of, gif_of, gif_with_frame_of, webp_of, lossless_webp_of, animated_webp_of]
)
def test_a_bomb_declared_in_any_header_is_refused_before_decoding(
    header: Callable[[int, int], bytes], sides: tuple[int, int]
) -> None:
    bomb = header(*sides)
    assert image_size(header(100, 90)) == (100, 90)
    assert len(bomb) < 2000
    for function in (read_image, image_size):
        with pytest.raises(ValueError, match=r"9000 x 8000 pixels, more than the 64,000,000|too large to decode"):
            function(bomb)


def test_max_pixels_is_the_largest_area_that_is_read() -> None:
    data = encoded(noise(10, 20))
    assert read_image(data, max_pixels=200).size == (20, 10)
    with pytest.raises(ValueError, match="20 x 10 pixels, more than the 199 that are decoded; shrink the image"):
        read_image(data, max_pixels=199)


def test_float_pixels_are_refused() -> None:
    with pytest.raises(ValueError, match="floating-point pixels"):
        read_image(encoded(Image.new("F", (2, 2)), "TIFF"))
