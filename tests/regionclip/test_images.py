from __future__ import annotations

import contextlib
import io
import struct
import zlib
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


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "1"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    image = Image.new("RGB", (4, 3), (0, 0, 0)).convert(mode)
    read = read_image(encoded(image, "TIFF" if mode == "CMYK" else "PNG"))
    assert read.mode == "RGB"
    assert read.size == (4, 3)
    assert not np.asarray(read).any()


def test_a_palette_with_transparency_keeps_its_colours() -> None:
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putpixel((1, 0), 1)
    read = read_image(encoded(palette, transparency=b"\x80\x80"))
    assert np.asarray(read).tolist() == [[[10, 20, 30], [40, 50, 60]]]


def test_sixteen_bit_grey_keeps_its_high_byte() -> None:
    values = np.array([[0, 255, 256, 0x8000, 0xFFFF]], dtype=np.uint16)
    read = np.asarray(read_image(encoded(Image.fromarray(values))))
    assert read[0, :, 0].tolist() == [0, 0, 1, 128, 255]
    assert (read[..., 0] == read[..., 2]).all()


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


COLOUR = (200, 40, 90)


@pytest.mark.parametrize(
    ("mode", "form"),
    [
        ("CMYK", "JPEG"),
        ("CMYK", "TIFF"),
        ("YCbCr", "JPEG"),
        ("RGBA", "PNG"),
        ("RGBA", "WEBP"),
        ("P", "PNG"),
        ("P", "GIF"),
    ],
)
def test_colours_survive_every_mode_and_form(mode: str, form: str) -> None:
    flat = Image.new("RGB", (16, 16), COLOUR)
    image = flat.convert("P", palette=Image.Palette.ADAPTIVE) if mode == "P" else flat.convert(mode)
    options = {"quality": 100} if form in ("JPEG", "WEBP") else {}
    pixels = np.asarray(read_image(encoded(image, form, **options))).reshape(-1, 3).astype(int)
    assert np.abs(pixels - COLOUR).max() <= 3


def test_alpha_is_dropped_and_the_colour_under_it_kept() -> None:
    image = Image.new("RGBA", (4, 4), (*COLOUR, 0))
    assert np.asarray(read_image(encoded(image)))[0, 0].tolist() == list(COLOUR)
    grey = Image.new("LA", (4, 4), (70, 0))
    assert np.asarray(read_image(encoded(grey)))[0, 0].tolist() == [70, 70, 70]


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bit_grey_of_any_form_keeps_its_high_byte(form: str) -> None:
    values = np.array([[0, 256, 0x8000, 0xFFFF]], dtype=np.uint16)
    assert np.asarray(read_image(encoded(Image.fromarray(values), form)))[0, :, 1].tolist() == [0, 1, 128, 255]


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


@pytest.mark.parametrize("junk", [b"", b"not an image", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0"])
def test_junk_is_a_value_error(junk: bytes) -> None:
    with pytest.raises(ValueError, match="cannot be read as an image"):
        read_image(junk)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"absent\.png: cannot be read as an image: .*No such file"):
        read_image(tmp_path / "absent.png")


@settings(max_examples=40, deadline=None)
@given(position=st.integers(0, 10_000), value=st.integers(0, 255), form=st.sampled_from(["PNG", "JPEG", "GIF"]))
def test_a_damaged_byte_gives_an_image_or_a_value_error(position: int, value: int, form: str) -> None:
    data = bytearray(encoded(noise(), form))
    data[position % len(data)] = value
    with contextlib.suppress(ValueError):
        assert read_image(bytes(data)).mode == "RGB"


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [9_000, 12_000, 60_000])
def test_a_decompression_bomb_is_refused_before_decoding(side: int) -> None:
    with pytest.raises(ValueError, match=r"more than the 64,000,000|too large to decode"):
        read_image(png_header(side, side))


def test_max_pixels_is_the_largest_area_that_is_read() -> None:
    data = encoded(noise(10, 20))
    assert read_image(data, max_pixels=200).size == (20, 10)
    with pytest.raises(ValueError, match="20 x 10 pixels, more than the 199 that are decoded; shrink the image"):
        read_image(data, max_pixels=199)


def test_float_pixels_are_refused() -> None:
    with pytest.raises(ValueError, match="floating-point pixels"):
        read_image(encoded(Image.new("F", (2, 2)), "TIFF"))
