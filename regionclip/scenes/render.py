"""Drawing one scene: a textured background and a few glyphs with known boxes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from regionclip.scenes.pictograms import PICTOGRAMS

Pixels = NDArray[np.float32]

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (205, 40, 40),
    "blue": (45, 75, 200),
    "green": (30, 140, 55),
    "yellow": (230, 200, 45),
    "purple": (125, 50, 155),
    "brown": (120, 75, 40),
    "black": (25, 25, 25),
    "white": (245, 245, 245),
    "pink": (240, 125, 170),
    "gray": (125, 125, 125),
}
GLYPH_SIZE = 96
INK = 0.35


@dataclass(frozen=True)
class SceneConfig:
    """How a scene looks; lengths in pixels.

    size: side of the square image.
    min_objects, max_objects: objects drawn, uniform; fewer where no free place is found.
    min_side, max_side: longer side of an object, log-uniform.
    max_rotation: degrees either way.
    repeat: chance that an object is of the class of the one before it.
    max_overlap: how much of the smaller of two boxes the other may cover.
    max_hidden: share of an object's own pixels that may be hidden; beyond it the object has no box and no name.
    max_outside: share of an object's side that may stick out of the image.
    noise: height of the background's grain, of 255.
    """

    size: int = 128
    min_objects: int = 2
    max_objects: int = 6
    min_side: int = 36
    max_side: int = 64
    max_rotation: float = 20.0
    repeat: float = 0.2
    max_overlap: float = 0.3
    max_hidden: float = 0.6
    max_outside: float = 0.1
    noise: int = 36

    def __post_init__(self) -> None:
        if not 1 <= self.min_objects <= self.max_objects:
            raise ValueError(f"objects {self.min_objects}..{self.max_objects}: need 1 <= min_objects <= max_objects")
        if not 8 <= self.min_side <= self.max_side <= self.size:
            raise ValueError(f"sides {self.min_side}..{self.max_side}: need 8 <= min_side <= max_side <= {self.size}")


@dataclass(frozen=True)
class SceneObject:
    """One visible object: class name, colour word, tight box (x1, y1, x2, y2) and visible area, in pixels."""

    name: str
    colour: str
    box: tuple[int, int, int, int]
    area: int


@dataclass(frozen=True)
class Scene:
    """A drawn image, uint8 [size, size, 3], the word for its background, and what can be seen on it."""

    image: NDArray[np.uint8]
    background: str
    objects: tuple[SceneObject, ...]


def draw_scene(config: SceneConfig, rng: np.random.Generator) -> Scene:
    """Draw one scene; the picture depends on the config and the state of `rng` alone."""
    texture = str(rng.choice(tuple(BACKGROUNDS)))
    canvas = _background(config, texture, rng)
    luma = float(_luma(canvas.mean(axis=(0, 1))))
    colours = [name for name, rgb in COLOURS.items() if abs(_luma(np.array(rgb)) - luma) >= 55]
    owner = np.full(canvas.shape[:2], -1, np.int16)
    drawn: list[tuple[str, str, tuple[int, int, int, int], int]] = []
    previous: int | None = None
    for _ in range(rng.integers(config.min_objects, config.max_objects + 1)):
        repeats = previous is not None and rng.random() < config.repeat
        index = previous if repeats and previous is not None else int(rng.integers(len(PICTOGRAMS)))
        ink = _ink(config, index, rng)
        place = _free_place(config, ink.shape, [box for _, _, box, _ in drawn], rng)
        if place is None:
            continue
        colour = str(rng.choice(colours))
        box, area = _paint(canvas, owner, ink, place, _jittered(COLOURS[colour], rng), len(drawn))
        drawn.append((PICTOGRAMS[index].name, colour, box, area))
        previous = index
    visible = np.bincount(owner.ravel() + 1, minlength=len(drawn) + 1)[1:]
    objects = tuple(
        SceneObject(name, colour, box, int(seen))
        for (name, colour, box, area), seen in zip(drawn, visible, strict=True)
        if seen >= (1 - config.max_hidden) * area
    )
    return Scene(canvas.clip(0, 255).astype(np.uint8), texture, objects)


def _ink(config: SceneConfig, index: int, rng: np.random.Generator) -> Pixels:
    """Coverage [h, w] in 0..1 of one rotated glyph whose longer side is drawn from the config."""
    glyphs = PICTOGRAMS[index].glyphs
    glyph = glyphs[int(rng.integers(len(glyphs)))]
    side = float(np.exp(rng.uniform(np.log(config.min_side), np.log(config.max_side))))
    angle = float(rng.uniform(-config.max_rotation, config.max_rotation))
    large = _glyph(glyph, int(rng.integers(3))).rotate(angle, Image.Resampling.BILINEAR, expand=True)
    large = large.crop(large.getbbox())
    scale = side / max(large.size)
    width, height = (max(2, round(length * scale)) for length in large.size)
    coverage = np.asarray(large.resize((width, height), Image.Resampling.BOX), np.float32) / 255
    if rng.random() < 0.5:
        coverage = coverage[:, ::-1]
    return np.minimum(coverage * 1.25, 1.0, dtype=np.float32)


@lru_cache(maxsize=512)
def _glyph(glyph: str, weight: int) -> Image.Image:
    """Greyscale mask of a glyph about 75 pixels large, its lines `weight` pixels bolder on each side."""
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    font = ImageFont.truetype(str(path), GLYPH_SIZE)
    left, top, right, bottom = font.getbbox(glyph, stroke_width=weight)
    mask = Image.new("L", (int(right - left) + 2, int(bottom - top) + 2))
    ImageDraw.Draw(mask).text((1 - left, 1 - top), glyph, font=font, fill=255, stroke_width=weight)
    return mask


def _free_place(
    config: SceneConfig, shape: tuple[int, ...], taken: list[tuple[int, int, int, int]], rng: np.random.Generator
) -> tuple[int, int] | None:
    """Left and top of a place that overlaps no taken box too much, or None after twelve tries."""
    height, width = shape[:2]
    margin_x, margin_y = config.max_outside * width, config.max_outside * height
    for _ in range(12):
        left = round(rng.uniform(-margin_x, config.size - width + margin_x))
        top = round(rng.uniform(-margin_y, config.size - height + margin_y))
        box = (left, top, left + width, top + height)
        if all(_overlap(box, other) <= config.max_overlap for other in taken):
            return left, top
    return None


def _overlap(first: tuple[int, int, int, int], second: tuple[int, int, int, int]) -> float:
    """Intersection over the smaller of two boxes."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    smaller = min((box[2] - box[0]) * (box[3] - box[1]) for box in (first, second))
    return width * height / smaller


def _paint(
    canvas: Pixels, owner: NDArray[np.int16], ink: Pixels, place: tuple[int, int], colour: Pixels, index: int
) -> tuple[tuple[int, int, int, int], int]:
    """Blend `ink` onto the canvas; the tight box of its pixels within the image, and how many there are."""
    left, top = place
    x1, y1 = max(left, 0), max(top, 0)
    x2, y2 = min(left + ink.shape[1], canvas.shape[1]), min(top + ink.shape[0], canvas.shape[0])
    coverage = ink[y1 - top : y2 - top, x1 - left : x2 - left]
    patch = canvas[y1:y2, x1:x2]
    patch += coverage[:, :, None] * (colour - patch)
    inked = coverage >= INK
    owner[y1:y2, x1:x2][inked] = index
    columns, rows = np.flatnonzero(inked.any(axis=0)), np.flatnonzero(inked.any(axis=1))
    box = (x1 + int(columns[0]), y1 + int(rows[0]), x1 + int(columns[-1]) + 1, y1 + int(rows[-1]) + 1)
    return box, int(inked.sum())


def _jittered(rgb: tuple[int, int, int], rng: np.random.Generator) -> Pixels:
    return np.asarray(np.array(rgb) + rng.uniform(-15, 15, 3), np.float32)


def _luma(rgb: NDArray[np.floating] | NDArray[np.integer]) -> float:
    return float(rgb @ np.array([0.299, 0.587, 0.114]))


def _background(config: SceneConfig, texture: str, rng: np.random.Generator) -> Pixels:
    """A textured float32 canvas [size, size, 3] around one or two related colours."""
    first = rng.uniform(40, 225) + rng.uniform(-30, 30, 3)
    second = first + rng.choice((-1, 1)) * rng.uniform(12, 40) + rng.uniform(-12, 12, 3)
    blend = BACKGROUNDS[texture](config.size, rng)[:, :, None]
    grain = rng.integers(-config.noise // 2, config.noise // 2 + 1, (config.size, config.size, 1))
    return np.asarray(first + blend * (second - first) + grain, np.float32)


def _ramp(size: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Coordinates [size, size] along a random direction, in pixels."""
    angle = rng.uniform(0, 2 * np.pi)
    along = np.arange(size)
    return np.asarray(np.cos(angle) * along[None, :] + np.sin(angle) * along[:, None], np.float64)


def _plain(size: int, rng: np.random.Generator) -> NDArray[np.float64]:
    return np.zeros((size, size))


def _gradient(size: int, rng: np.random.Generator) -> NDArray[np.float64]:
    ramp = _ramp(size, rng)
    return np.asarray((ramp - ramp.min()) / np.ptp(ramp), np.float64)


def _stripes(size: int, rng: np.random.Generator) -> NDArray[np.float64]:
    return 0.5 + 0.5 * np.sin(_ramp(size, rng) * 2 * np.pi / rng.uniform(8, 28))


def _checks(size: int, rng: np.random.Generator) -> NDArray[np.float64]:
    cells = np.arange(size) // rng.integers(8, 24)
    return ((cells[:, None] + cells[None, :]) % 2).astype(np.float64)


def _patches(size: int, rng: np.random.Generator) -> NDArray[np.float64]:
    coarse = Image.fromarray(rng.integers(0, 256, (6, 6), np.uint8))
    return np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC), np.float64) / 255


BACKGROUNDS: dict[str, Callable[[int, np.random.Generator], NDArray[np.float64]]] = {
    "plain": _plain,
    "smooth": _gradient,
    "striped": _stripes,
    "checkered": _checks,
    "patchy": _patches,
}
