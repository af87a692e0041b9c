"""Images from bytes to normalised batches: reading, the two resize rules, padding."""

from __future__ import annotations

import functools
import io
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

MAX_PIXELS = 64_000_000
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

_EXIF_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)
_TIFF_PHOTOMETRIC = 262
_PNG_ORIENTATION = (b"eXIf", b"Raw profile type", b"XML:com.adobe.xmp")  # one of these stands where a PNG states it
_DECODE_ERRORS = (
    *(OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, struct.error, zlib.error),
    RuntimeError,  # of damaged AVIF
)


@dataclass(frozen=True)
class ResizeConfig:
    """How an image is brought to the model's size; both sides in pixels.

    rule: 'detection' (bilinear, sizes rounded half up) or 'pretraining' (bicubic, sizes truncated, an image whose
    shorter side already is `short_side` stays untouched however long the other).
    """

    rule: Literal["detection", "pretraining"] = "detection"
    short_side: int = 800
    max_side: int = 1333

    def __post_init__(self) -> None:
        if self.rule not in ("detection", "pretraining"):
            raise ValueError(f"resize rule '{self.rule}' is unknown; choose 'detection' or 'pretraining'")
        if not 0 < self.short_side <= self.max_side:
            raise ValueError(
                f"short_side {self.short_side} and max_side {self.max_side} must satisfy 0 < short_side <= max_side"
            )


def read_image(source: str | Path | bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode one image file, or its bytes, to an upright RGB image (first frame; alpha dropped; 16 bits to 8).

    Raises ValueError with the reason for a missing, corrupt, truncated or unsupported file, and, before any pixel
    is decoded, for one of more than `max_pixels` pixels.
    """
    with _opened(source, max_pixels) as image:
        white_is_zero = getattr(image, "tag_v2", {}).get(_TIFF_PHOTOMETRIC) == 0
        image.load()  # TIFF turns itself upright here, and then states no orientation
        return _rgb(_upright(image), white_is_zero)


def image_size(data: bytes, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """The (width, height) of what `read_image` makes of these bytes, from the header; the same errors, save damage.

    The pixels of a PNG are decoded where they may come before its orientation.
    """
    with _opened(data, max_pixels) as image:
        if image.format == "TIFF" or (image.format == "PNG" and not any(mark in data for mark in _PNG_ORIENTATION)):
            return image.size
        width, height = image.size
        return (height, width) if image.getexif().get(_EXIF_ORIENTATION, 1) in _SIDEWAYS else (width, height)


@contextmanager
def _opened(source: str | Path | bytes, max_pixels: int) -> Iterator[Image.Image]:
    """An image of which the header is read; errors of the block are told as those of this image."""
    name = f"image of {len(source)} bytes" if isinstance(source, bytes) else str(source)
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=_formats()) as image:
            width, height = image.size
            if width * height <= max_pixels:
                if image.mode == "F":
                    raise ValueError("floating-point pixels have no fixed range; save it with 8 bits a channel")
                yield image
                return
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"{name}: too large to decode: {error}") from error
    except UnidentifiedImageError as error:  # whose message has an address in memory
        raise ValueError(f"{name}: cannot be read as an image: no known format begins like this") from error
    except _DECODE_ERRORS as error:
        raise ValueError(f"{name}: cannot be read as an image: {error or type(error).__name__}") from error
    raise ValueError(
        f"{name}: {width} x {height} pixels, more than the {max_pixels:,} that are decoded; shrink the image"
    )


@functools.cache
def _formats() -> tuple[str, ...]:
    """The formats that are read, of those that this Pillow knows: no more, as some start other programs (EPS)."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _upright(image: Image.Image) -> Image.Image:
    turn = _UPRIGHT.get(image.getexif().get(_EXIF_ORIENTATION, 1))
    return image if turn is None else image.transpose(turn)


def _rgb(image: Image.Image, white_is_zero: bool) -> Image.Image:
    """8-bit RGB; white_is_zero: a TIFF says so, which Pillow heeds for 8 bits and not for 16."""
    if image.mode == "I" or image.mode.startswith("I;16"):
        sixteen_bits = np.clip(np.asarray(image).astype(np.int64), 0, 65535)
        if white_is_zero:
            sixteen_bits = 65535 - sixteen_bits
        image = Image.fromarray((sixteen_bits >> 8).astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def resized_size(width: int, height: int, config: ResizeConfig) -> tuple[int, int]:
    """The (width, height) that `resize` gives an image of this size."""
    short, long = min(width, height), max(width, height)
    if config.rule == "detection":
        new_short, new_long = _detection_sides(short, long, config)
    else:
        new_short, new_long = _pretraining_sides(short, long, config)
    new_short, new_long = max(new_short, 1), max(new_long, 1)
    return (new_short, new_long) if width <= height else (new_long, new_short)


def _detection_sides(short: int, long: int, config: ResizeConfig) -> tuple[int, int]:
    new_short, new_long = float(config.short_side), config.short_side / short * long
    if new_long > config.max_side:
        shrink = config.max_side / new_long
        new_short, new_long = new_short * shrink, new_long * shrink
    return int(new_short + 0.5), int(new_long + 0.5)


def _pretraining_sides(short: int, long: int, config: ResizeConfig) -> tuple[int, int]:
    if short == config.short_side:
        return short, long
    new_short, new_long = config.short_side, int(config.short_side * long / short)
    if new_long > config.max_side:
        new_short, new_long = int(config.max_side * new_short / new_long), config.max_side
    return new_short, new_long


def resize(image: Image.Image, config: ResizeConfig) -> Image.Image:
    """The image at `resized_size`: bilinear under the detection rule, bicubic under the pretraining rule."""
    size = resized_size(*image.size, config)
    if size == image.size:
        return image
    bilinear = config.rule == "detection"
    return image.resize(size, Image.Resampling.BILINEAR if bilinear else Image.Resampling.BICUBIC)


def other_size(size: tuple[int, int], recorded: tuple[int, int]) -> str:
    """Why a decoded, upright image of this (width, height) is not the one of the record, or ''."""
    if size == recorded:
        return ""
    remedy = "correct the record"
    if size == recorded[::-1]:
        remedy = "state size and boxes as the image is shown, turned upright by its EXIF orientation, or remove that"
    (width, height), (said_width, said_height) = size, recorded
    return f"is {width} x {height} pixels, but its record says {said_width} x {said_height}; {remedy}"


def image_tensor(image: Image.Image) -> Tensor:
    """An RGB image as float32 [3, H, W] in [0, 1]."""
    pixels = torch.from_numpy(np.array(image, dtype=np.uint8))  # [H, W, 3]
    return pixels.permute(2, 0, 1).contiguous().float() / 255


def normalize(images: Tensor, mean: Sequence[float] = CLIP_MEAN, std: Sequence[float] = CLIP_STD) -> Tensor:
    """(images - mean) / std per channel, for images [..., 3, H, W] in [0, 1]."""
    mean_chw, std_chw = (images.new_tensor(values).view(-1, 1, 1) for values in (mean, std))
    return (images - mean_chw) / std_chw


def pad_batch(images: Sequence[Tensor]) -> Tensor:
    """Normalised images [3, H_i, W_i] as one [B, 3, max H, max W], zeros at the right and at the bottom."""
    if not images:
        raise ValueError("a batch needs at least one image, got none")
    height = max(image.shape[-2] for image in images)
    width = max(image.shape[-1] for image in images)
    batch = images[0].new_zeros(len(images), images[0].shape[0], height, width)
    for row, image in zip(batch, images, strict=True):
        row[:, : image.shape[-2], : image.shape[-1]] = image
    return batch
