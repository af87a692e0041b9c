"""Labelled images as COCO JSON, YOLO text files and ODVG JSON lines."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from regionclip.labels.choosing import LabelledImage

CLASSES = "classes.txt"
URIS = "uris.json"
_DIGITS = 3  # of coordinates in pixels
_SCORE_DIGITS = 6


class Written(NamedTuple):
    """What a file holds."""

    images: int
    regions: int


def write_coco(
    file: BinaryIO, images: Iterable[LabelledImage], concepts: Sequence[str], info: Mapping[str, Any]
) -> Written:
    """Write COCO JSON, piece by piece: category id = row of the pool + 1, annotation id = number of the region + 1.

    bbox is [x, y, width, height] in pixels. Beside COCO's own, an annotation has `score`, `concept` and `keep`, and an
    image the `uri` by which the labels know it.
    """
    seen: list[dict[str, Any]] = []
    categories = [{"id": row + 1, "name": name} for row, name in enumerate(concepts)]
    file.write(b'{"info": ' + _json(info) + b',\n"categories": ' + _json(categories) + b',\n"annotations": [')

    def annotations() -> Iterator[dict[str, Any]]:
        for image in images:
            size = {"width": image.width, "height": image.height}
            seen.append({"id": image.image_id, "file_name": image.file_name, "uri": image.uri, **size})
            yield from _annotations(image, concepts)

    num_regions = _write_list(file, annotations())
    file.write(b'\n],\n"images": [')
    _write_list(file, seen)
    file.write(b"\n]}\n")
    return Written(len(seen), num_regions)


def write_yolo(write: Callable[[str, str], None], images: Iterable[LabelledImage], concepts: Sequence[str]) -> Written:
    """Write `labels/<image>.txt`, a line `class cx cy width height` a region, the class names as `classes.txt` and
    the images' uris by the names of their files as `uris.json`.

    Numbers are fractions of the image; classes are rows of the pool. `write(name, text)` stores a file. An image
    without a region gets an empty file. Raises ValueError where two images would share a file.
    """
    uris: dict[str, str] = {}
    num_regions = 0
    write(CLASSES, "".join(f"{name}\n" for name in concepts))
    for image in images:
        name = f"labels/{PurePosixPath(image.file_name).with_suffix('.txt')}"
        if name in uris:
            raise ValueError(f"{image.uri} and {uris[name]} would share {name}; rename one, or export as COCO (.json)")
        uris[name] = image.uri
        size = np.array([image.width, image.height], np.float64)
        corners = (image.boxes.astype(np.float64).reshape(-1, 2, 2) / size).clip(0, 1)
        centres, sides = corners.mean(axis=1), corners[:, 1] - corners[:, 0]
        rows = zip(image.concept_ids.tolist(), np.concatenate([centres, sides], axis=1).tolist(), strict=True)
        write(name, "".join(f"{row} {' '.join(f'{value:.6f}' for value in box)}\n" for row, box in rows))
        num_regions += len(image.numbers)
    write(URIS, json.dumps(uris, ensure_ascii=False, indent=0))
    return Written(len(uris), num_regions)


def write_odvg(file: BinaryIO, images: Iterable[LabelledImage], concepts: Sequence[str]) -> Written:
    """Write a JSON line an image with a region, as Open-GroundingDino reads detection data (its data_format.md).

    bbox is [x1, y1, x2, y2] in pixels, label a row of the pool; `odvg_label_map` has the names of the rows.
    """
    num_images = num_regions = 0
    for image in images:
        if not len(image.numbers):
            continue
        instances = [
            {"bbox": box, "label": row, "category": concepts[row], "score": score}
            for box, row, score in zip(
                _rounded(image.boxes), image.concept_ids.tolist(), _scores(image.scores), strict=True
            )
        ]
        about = {"filename": image.file_name, "uri": image.uri, "height": image.height, "width": image.width}
        file.write(_json({**about, "detection": {"instances": instances}}) + b"\n")
        num_images, num_regions = num_images + 1, num_regions + len(instances)
    return Written(num_images, num_regions)


def odvg_label_map(concepts: Sequence[str]) -> bytes:
    """The JSON object, label -> name, that goes with `write_odvg`."""
    return _json({str(row): name for row, name in enumerate(concepts)}) + b"\n"


def _annotations(image: LabelledImage, concepts: Sequence[str]) -> Iterator[dict[str, Any]]:
    boxes = np.concatenate([image.boxes[:, :2], image.boxes[:, 2:] - image.boxes[:, :2]], axis=1)
    columns = (image.numbers, image.concept_ids, _rounded(boxes), _scores(image.scores), image.keep.tolist())
    for number, row, bbox, score, keep in zip(*columns, strict=True):
        yield {
            "id": int(number) + 1,
            "image_id": image.image_id,
            "category_id": int(row) + 1,
            "bbox": bbox,
            "area": round(bbox[2] * bbox[3], _DIGITS),
            "iscrowd": 0,
            "score": score,
            "concept": concepts[row],
            "keep": keep,
        }


def _write_list(file: BinaryIO, records: Iterable[dict[str, Any]]) -> int:
    count = 0
    for count, record in enumerate(records, 1):
        file.write((b",\n" if count > 1 else b"\n") + _json(record))
    return count


def _rounded(boxes: np.ndarray) -> list[list[float]]:
    rounded: list[list[float]] = boxes.astype(np.float64).round(_DIGITS).tolist()
    return rounded


def _scores(scores: np.ndarray) -> list[float]:
    rounded: list[float] = scores.astype(np.float64).round(_SCORE_DIGITS).tolist()
    return rounded


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
