"""Pictures with boxes: enlarged images, named boxes, and which detections are right."""

from __future__ import annotations

import functools
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from regionclip.boxes import box_iou

TILE_SIDE = 480
_LINE, _FONT_SIZE, _DASH = 4, 21, 12
_INK = "#ffffff"


@dataclass(frozen=True)
class NamedBox:
    """A box (xyxy, pixels of the image) with its label and colour; `solid` False draws it dashed."""

    box: Sequence[float]
    label: str
    colour: str
    solid: bool = True


def draw_boxes(image: Image.Image, boxes: Sequence[NamedBox], side: int = TILE_SIDE) -> Image.Image:
    """The image with its longer side brought to `side` pixels, and every box drawn and named on it."""
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    picture = image.resize(size, Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(picture)
    corners = [tuple(float(value) * scale for value in named.box) for named in boxes]
    for named, (left, top, right, bottom) in zip(boxes, corners, strict=True):
        _outline(draw, (left, top, right, bottom), named)
    for named, (left, top, _, _) in zip(boxes, corners, strict=True):
        _name(draw, named, left, top, size)
    return picture


def _outline(draw: ImageDraw.ImageDraw, box: tuple[float, float, float, float], named: NamedBox) -> None:
    left, top, right, bottom = box
    if named.solid:
        draw.rectangle(box, outline=named.colour, width=_LINE)
        return
    for start in np.arange(left, right, 2 * _DASH):
        for y in (top, bottom):
            draw.line((start, y, min(start + _DASH, right), y), fill=named.colour, width=_LINE)
    for start in np.arange(top, bottom, 2 * _DASH):
        for x in (left, right):
            draw.line((x, start, x, min(start + _DASH, bottom)), fill=named.colour, width=_LINE)


def _name(draw: ImageDraw.ImageDraw, named: NamedBox, left: float, top: float, size: tuple[int, int]) -> None:
    font = _font()
    width, height = draw.textlength(named.label, font=font) + 8, _FONT_SIZE + 6
    x = min(max(left - _LINE // 2, 0), max(size[0] - width, 0))
    y = top - height if top >= height else max(top, 0)
    draw.rectangle((x, y, x + width, y + height), fill=named.colour)
    draw.text((x + 4, y + height / 2), named.label, fill=_INK, font=font, anchor="lm")


@functools.cache
def _font() -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans-Bold.ttf", _FONT_SIZE)


def jpeg(picture: Image.Image, quality: int = 85) -> bytes:
    """The picture as the bytes of a JPEG file without metadata."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def correct_detections(
    boxes: Sequence[Sequence[float]],
    categories: Sequence[str],
    true_boxes: Sequence[Sequence[float]],
    true_categories: Sequence[str],
    iou: float = 0.5,
) -> list[bool]:
    """Whether each detection, best score first, is on an object of its class that no earlier one claimed."""
    overlaps = box_iou(
        torch.tensor(np.asarray(boxes, dtype=np.float32).reshape(-1, 4)),
        torch.tensor(np.asarray(true_boxes, dtype=np.float32).reshape(-1, 4)),
    ).numpy()  # [detections, objects]
    free = np.ones(len(true_boxes), dtype=bool)
    same = np.array([[category == other for other in true_categories] for category in categories], dtype=bool)
    correct = []
    for row, overlap in enumerate(overlaps):
        candidates = np.where(free & same[row], overlap, 0.0)
        hit = bool(candidates.size and candidates.max() >= iou)
        correct.append(hit)
        if hit:
            free[candidates.argmax()] = False
    return correct
