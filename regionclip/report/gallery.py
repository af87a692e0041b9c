"""Pictures to judge labels by: images and regions chosen by a seed in one pass over the labels, then drawn."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from regionclip.boxes import box_iou
from regionclip.labels.first_labels import FirstLabels, first_labels
from regionclip.report.drawing import NamedBox, draw_boxes, jpeg

COLUMNS = ("image_id", "boxes", "concept_ids", "log_probabilities", "keep")
MAX_BOXES = 6
SAME_THING = 0.2  # IoU from which two boxes of one concept are shown as one, so that a picture stays clear
THUMBNAIL_SIDE = 168
_MARGIN = 1.3  # side of the cut-out, in longer sides of the box
_SHEET_SIDE = 440
_BESIDE = "#8a9097"  # what lies outside of the image


@dataclass(frozen=True)
class ShownRegion:
    """A kept region: box xyxy in pixels of its image, the row of its concept in the pool, its score."""

    image_id: int
    box: tuple[float, float, float, float]
    concept: int
    score: float


@dataclass(frozen=True)
class ShownImage:
    """An image with its kept regions, the highest score first."""

    image_id: int
    regions: tuple[ShownRegion, ...]


@dataclass(frozen=True)
class Crop:
    """A square cut-out around a region (JPEG) with the region's score."""

    jpeg: bytes
    image_id: int
    score: float


@dataclass(frozen=True)
class LabelledPicture:
    """An image with boxes drawn on it (JPEG).

    shown: (concept, score) of each box drawn; more: kept regions that are not drawn.
    """

    jpeg: bytes
    image_id: int
    shown: tuple[tuple[str, float], ...]
    more: int


@dataclass(frozen=True)
class Drawn:
    """Pictures of images, crops by concept, and why others could not be drawn, by image id."""

    images: Sequence[LabelledPicture]
    crops: Mapping[int, Sequence[Crop]]
    unreadable: Mapping[int, str]


class GalleryChoice:
    """Draws `num_images` images, and up to `num_crops` kept regions of each of `concepts`, table by table.

    Each image and region has a place that the seed and its id decide; the first places are taken. So neither the
    order of tables nor what else they hold matters, and no more is held than is shown.
    """

    def __init__(self, concepts: Iterable[int], num_images: int, num_crops: int, seed: int) -> None:
        self._num_images, self._num_crops, self._seed = num_images, num_crops, seed
        self._images: list[tuple[int, ShownImage]] = []
        self._crops: dict[int, list[tuple[int, ShownRegion]]] = {concept: [] for concept in concepts}

    def add(self, table: pa.Table) -> None:
        """Look at a table (`schemas.REGION_LABELS`) with at least `COLUMNS`."""
        labels, image_ids = first_labels(table), table["image_id"].to_numpy().astype(np.int64)
        self._add_images(labels, image_ids)
        places = random_places(self._seed, image_ids[labels.image], labels.region)
        for concept, chosen in self._crops.items():
            rows = np.flatnonzero(labels.keep & (labels.ids == concept))
            rows = rows[np.argsort(places[rows], kind="stable")[: self._num_crops]]
            new = [(int(places[row]), _region(labels, image_ids, row)) for row in rows.tolist()]
            self._crops[concept] = heapq.nsmallest(self._num_crops, [*chosen, *new], key=_place)

    def images(self) -> list[ShownImage]:
        """The images drawn so far."""
        return [image for _, image in self._images]

    def crops(self) -> dict[int, list[ShownRegion]]:
        """The regions drawn so far, by concept."""
        return {concept: [region for _, region in chosen] for concept, chosen in self._crops.items()}

    def image_ids(self) -> list[int]:
        """The images that are to be opened, sorted."""
        regions = itertools.chain.from_iterable(self.crops().values())
        return sorted({region.image_id for region in regions} | {image.image_id for image in self.images()})

    def _add_images(self, labels: FirstLabels, image_ids: NDArray[np.int64]) -> None:
        places = random_places(self._seed, image_ids, np.full(len(image_ids), -1))
        starts = labels.offsets(len(image_ids))
        new = []
        for image in np.argsort(places, kind="stable")[: self._num_images].tolist():
            rows = starts[image] + np.flatnonzero(labels.keep[starts[image] : starts[image + 1]])
            best = rows[np.argsort(-labels.scores[rows], kind="stable")]
            regions = tuple(_region(labels, image_ids, row) for row in best.tolist() if labels.ids[row] >= 0)
            new.append((int(places[image]), ShownImage(int(image_ids[image]), regions)))
        self._images = heapq.nsmallest(self._num_images, [*self._images, *new], key=_place)


def choose_concepts(kept_of: Sequence[int], number: int, seed: int) -> list[int]:
    """Up to `number` concepts with kept regions: half of them the most frequent, half drawn, both by falling number."""
    ranked = sorted((row for row, count in enumerate(kept_of) if count), key=lambda row: (-kept_of[row], row))
    frequent, others = ranked[: (number + 1) // 2], ranked[(number + 1) // 2 :]
    drawn = np.random.default_rng(seed).permutation(len(others))[: number - len(frequent)]
    return frequent + [others[row] for row in sorted(drawn.tolist())]


def random_places(seed: int, image_ids: NDArray[np.int64], regions: NDArray[np.int64]) -> NDArray[np.uint64]:
    """A number, uint64 [R], for each region [R] of an image [R], that looks random and that these three decide."""
    places = _mixed(_mixed(np.full(len(image_ids), seed)) ^ image_ids.astype(np.uint64))
    return _mixed(places ^ regions.astype(np.uint64))


def _mixed(values: NDArray[np.int64] | NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, 2014)."""
    mixed = values.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _place(each: tuple[int, object]) -> int:
    return each[0]


def _region(labels: FirstLabels, image_ids: NDArray[np.int64], row: int) -> ShownRegion:
    left, top, right, bottom = labels.boxes[row].tolist()
    image_id = int(image_ids[labels.image[row]])
    return ShownRegion(image_id, (left, top, right, bottom), int(labels.ids[row]), float(labels.scores[row]))


def labelled_picture(
    image: Image.Image, shown: ShownImage, concepts: Sequence[str], colour_of: Callable[[str], str]
) -> LabelledPicture:
    """The image with its best kept regions, of those of one concept that overlap only the best."""
    chosen = _distinct(shown.regions)
    named = [(concepts[region.concept], region.score) for region in chosen]
    boxes = [
        NamedBox(region.box, f"{name} {score:.2f}", colour_of(name))
        for region, (name, score) in zip(chosen, named, strict=True)
    ]
    picture = jpeg(draw_boxes(image, boxes[::-1], _SHEET_SIDE))  # the best on top
    return LabelledPicture(picture, shown.image_id, tuple(named), len(shown.regions) - len(chosen))


def _distinct(regions: Sequence[ShownRegion]) -> list[ShownRegion]:
    chosen: list[ShownRegion] = []
    for region in regions:
        same = [other.box for other in chosen if other.concept == region.concept]
        overlaps = box_iou(torch.tensor([region.box]), torch.tensor(same).reshape(-1, 4))
        if len(chosen) < MAX_BOXES and not bool((overlaps >= SAME_THING).any()):
            chosen.append(region)
    return chosen


def crop(image: Image.Image, region: ShownRegion, colour: str) -> Crop:
    """The square around a region with some margin, grey beside the image, and the box drawn."""
    left, top, right, bottom = region.box
    side = max(round(_MARGIN * max(right - left, bottom - top)), 1)
    x, y = round((left + right - side) / 2), round((top + bottom - side) / 2)
    scale = THUMBNAIL_SIDE / side
    inside = (max(x, 0), max(y, 0), min(x + side, image.width), min(y + side, image.height))
    ends = [round((end - start) * scale) for end, start in zip(inside, (x, y, x, y), strict=True)]
    size = (max(ends[2] - ends[0], 1), max(ends[3] - ends[1], 1))
    tile = Image.new("RGB", (THUMBNAIL_SIDE, THUMBNAIL_SIDE), _BESIDE)
    tile.paste(image.resize(size, Image.Resampling.LANCZOS, box=inside), (ends[0], ends[1]))
    begin = ((left - x) * scale, (top - y) * scale)
    end = ((right - x) * scale - 1, (bottom - y) * scale - 1)
    corners = [*begin, max(begin[0], end[0]), max(begin[1], end[1])]  # a thin box is still a line
    ImageDraw.Draw(tile).rectangle(corners, outline=colour, width=3)
    return Crop(jpeg(tile), region.image_id, region.score)


def draw(
    choice: GalleryChoice,
    read: Callable[[int], Image.Image],
    concepts: Sequence[str],
    colour_of: Callable[[str], str],
) -> Drawn:
    """The pictures of all that was chosen, each image opened once; `read` raises ValueError or OSError for some."""
    images, crops = {image.image_id: image for image in choice.images()}, choice.crops()
    wanted: dict[int, list[ShownRegion]] = {image_id: [] for image_id in images}
    for region in itertools.chain(*crops.values()):
        wanted.setdefault(region.image_id, []).append(region)
    pictures: dict[int, LabelledPicture] = {}
    cut: dict[ShownRegion, Crop] = {}
    unreadable: dict[int, str] = {}
    for image_id, regions in sorted(wanted.items()):
        try:
            image = read(image_id)
        except (ValueError, OSError) as error:
            unreadable[image_id] = str(error)
            continue
        cut |= {region: crop(image, region, colour_of(concepts[region.concept])) for region in regions}
        if image_id in images:
            pictures[image_id] = labelled_picture(image, images[image_id], concepts, colour_of)
    return Drawn(
        images=[pictures[image_id] for image_id in images if image_id in pictures],
        crops={concept: [cut[region] for region in chosen if region in cut] for concept, chosen in crops.items()},
        unreadable=unreadable,
    )
