"""Pixel values: what a file holds, of any mode and depth, becomes the RGB that its numbers say."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageChops

from regionclip.images import read_image

GREYS = np.arange(256, dtype=np.uint8).reshape(16, 16)
SIXTEEN = np.random.default_rng(0).integers(0, 65536, (3, 5, 4), dtype=np.uint16)
SIXTEEN[0] = np.array([[0], [255], [256], [0x8000], [0xFFFF]])
COLOUR = (200, 40, 90)
INK = (200, 40, 10, 60)  # cyan, magenta, yellow, black


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def pixels(data: bytes) -> np.ndarray:
    image = read_image(data)
    assert image.mode == "RGB"
    return np.asarray(image)


def same_in_all(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., None], 3, axis=-1)


def sixteen_bit_png(samples: np.ndarray, colour: int) -> bytes:
    """Samples [H, W, C] under a colour type of PNG: 0 grey, 2 RGB, 4 grey and alpha, 6 RGB and alpha."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = samples.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def sixteen_bit_tiff(samples: np.ndarray, order: str, white_is_zero: bool = False) -> bytes:
    """Samples [H, W, C], C = 1 grey, 3 RGB, 4 RGB and alpha; order: '<' or '>'."""
    height, width, channels = samples.shape
    data = samples.astype(order + "u2").tobytes()
    photometric = 2 if channels > 1 else 0 if white_is_zero else 1
    values = {256: width, 257: height, 258: 16, 259: 1, 262: photometric, 273: 16, 277: channels, 278: height}
    values |= {279: len(data)} | ({338: 2} if channels == 4 else {})
    entries = [struct.pack(order + "HHIHH", tag, 3, 1, value, 0) for tag, value in values.items()]
    if channels > 1:
        entries[2] = struct.pack(order + "HHII", 258, 3, channels, 8)
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 16 + len(data))
    return (
        start
        + struct.pack(order + "4H", *[16] * 4)
        + data
        + struct.pack(order + "H", len(entries))
        + b"".join(entries)
        + bytes(4)
    )


@pytest.mark.parametrize(("colour", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)], ids=["grey", "rgb", "la", "rgba"])
def test_sixteen_bits_a_channel_of_a_png_keep_their_high_byte(colour: int, channels: int) -> None:
    high = (SIXTEEN >> 8).astype(np.uint8)
    expected = same_in_all(high[..., 0]) if channels < 3 else high[..., :3]
    assert np.array_equal(pixels(sixteen_bit_png(SIXTEEN[..., :channels], colour)), expected)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_a_channel_of_a_tiff_keep_their_high_byte(channels: int, order: str) -> None:
    high = (SIXTEEN >> 8).astype(np.uint8)
    expected = same_in_all(high[..., 0]) if channels == 1 else high[..., :3]
    assert np.array_equal(pixels(sixteen_bit_tiff(SIXTEEN[..., :channels], order)), expected)


def test_sixteen_bit_grey_in_which_white_is_zero_is_turned_over() -> None:
    data = sixteen_bit_tiff(SIXTEEN[..., :1], "<", white_is_zero=True)
    assert np.array_equal(pixels(data), same_in_all((65535 - SIXTEEN[..., 0] >> 8).astype(np.uint8)))


@pytest.mark.parametrize(("most", "shift"), [(65535, 8), (1023, 2)])
def test_grey_of_many_levels_is_read_as_a_share_of_the_most(most: int, shift: int) -> None:
    values = np.array([0, 3, most // 2, most], dtype=">u2")
    data = b"P5 4 1 %d\n" % most + values.tobytes()
    assert pixels(data)[0, :, 1].tolist() == [int(value) >> shift for value in values]


@pytest.mark.parametrize("form", ["PNG", "TIFF", "GIF", "PPM"])
def test_grey_is_the_same_in_all_channels(form: str) -> None:
    assert np.array_equal(pixels(encoded(Image.fromarray(GREYS), form)), same_in_all(GREYS))


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_grey_under_any_alpha_stays(form: str) -> None:
    grey_alpha = Image.merge("LA", [Image.fromarray(GREYS), Image.fromarray(GREYS.T.copy())])
    assert np.array_equal(pixels(encoded(grey_alpha, form)), same_in_all(GREYS))


@pytest.mark.parametrize(
    ("form", "options"), [("PNG", {}), ("GIF", {}), ("PPM", {}), ("TIFF", {}), ("TIFF", {"compression": "group4"})]
)
def test_one_bit_is_black_or_white(form: str, options: dict[str, str]) -> None:
    values = np.where(GREYS % 3 == 0, 255, 0).astype(np.uint8)
    image = Image.fromarray(values).convert("1", dither=Image.Dither.NONE)
    assert np.array_equal(pixels(encoded(image, form, **options)), same_in_all(values))


@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("PNG", {"bits": 4}),
        ("PNG", {"bits": 8, "transparency": 3}),
        ("PNG", {"transparency": bytes(16)}),
        ("PNG", {"transparency": bytes(range(0, 256, 16))}),
        ("GIF", {"transparency": 3}),
        ("TIFF", {}),
    ],
)
def test_a_palette_gives_its_colours_whatever_is_transparent(form: str, options: dict[str, object]) -> None:
    palette = np.random.default_rng(1).integers(0, 256, (16, 3), dtype=np.uint8)
    indices = GREYS % 16
    image = Image.frombytes("P", (16, 16), indices.tobytes())
    image.putpalette(palette.tobytes())
    assert np.array_equal(pixels(encoded(image, form, **options)), palette[indices])


@pytest.mark.parametrize(("mode", "transparent"), [("L", 5), ("RGB", (1, 2, 3))])
def test_a_colour_declared_transparent_stays(mode: str, transparent: object) -> None:
    values = np.array([[[1, 2, 3], [5, 5, 5], [7, 8, 9]]], dtype=np.uint8)
    values = values if mode == "RGB" else values[..., 0]
    expected = values if mode == "RGB" else same_in_all(values)
    assert np.array_equal(pixels(encoded(Image.fromarray(values), transparency=transparent)), expected)


def inverted_ycck() -> bytes:
    """INK as Photoshop stores it: inverted, and then cyan, magenta and yellow as luma and chroma."""
    coloured = Image.new("RGB", (16, 16), INK[:3]).convert("YCbCr").split()
    black = Image.new("L", (16, 16), INK[3])
    image = Image.merge("CMYK", [*map(ImageChops.invert, coloured), black])  # inverted once more as it is saved
    data = bytearray(encoded(image, "JPEG", quality=100))
    transform = data.index(b"Adobe") + 11
    assert data[transform] == 0
    data[transform] = 2
    return bytes(data)


@pytest.mark.parametrize("form", ["TIFF", "JPEG", "YCCK"])
def test_ink_takes_light_away(form: str) -> None:
    flat = Image.new("CMYK", (16, 16), INK)
    data = inverted_ycck() if form == "YCCK" else encoded(flat, form, **({"quality": 100} if form == "JPEG" else {}))
    assert (b"Adobe" in data) == (form != "TIFF")  # of a JPEG, this says that ink is stored as 255 - ink
    expected = (255 - np.array(INK[:3])) * (255 - INK[3]) / 255
    assert np.abs(pixels(data) - expected).max() <= 3


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
    assert np.abs(pixels(encoded(image, form, **options)).astype(int) - COLOUR).max() <= 3


def test_alpha_is_dropped_and_the_colour_under_it_kept() -> None:
    image = Image.new("RGBA", (4, 4), (*COLOUR, 0))
    assert pixels(encoded(image))[0, 0].tolist() == list(COLOUR)
