"""Images and boxes read from COCO-layout annotation files at a path or URI, checked once at this edge."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import pyarrow as pa
from fsspec.implementations.local import LocalFileSystem

from regionclip import schemas
from regionclip.place_errors import reading
from regionclip.source_files import file_system, is_file, stays_below, uri_of

BOX_TOLERANCE = 1.0  # pixels that a box may overshoot its image; such boxes are clipped
_LARGEST = 1e9  # of numbers; far more than any image has pixels a side


@dataclass(frozen=True)
class Rows:
    """A checked table beside the rows that were left out, each as (item, reason), and what its user should know."""

    table: pa.Table
    rejected: list[tuple[str, str]]
    remarks: list[str] = field(default_factory=list)


def read_coco_images(path: str | Path, split: str | None = None) -> pa.Table:
    """The images that an annotation file lists (`schemas.IMAGES`, file order), only those of `split` if given.

    Raises ValueError for a missing or non-COCO file, malformed or duplicate records, and an empty selection.
    """
    images = list(_image_records(path, _load(path), split).values())
    return pa.Table.from_pylist(
        [
            {
                "image_id": image["id"],
                "file_name": image["file_name"],
                "width": image["width"],
                "height": image["height"],
            }
            for image in images
        ],
        schema=schemas.IMAGES,
    )


def read_coco_boxes(path: str | Path, split: str | None = None, classes: Sequence[str] = ()) -> tuple[Rows, list[str]]:
    """The boxes of a COCO instances file (`schemas.BOXES`, file order) and their class names by ascending category id.

    Only boxes of images in `split` and of `classes` are kept, when given; those of `classes` that the file does not
    know come after the others and into a remark. Boxes without area or more than
    `BOX_TOLERANCE` outside their image are left out with the reason; smaller overshoot is clipped.
    Raises ValueError for a missing or non-COCO file, duplicate ids, boxes of unknown images or categories,
    `classes` of which none is known, and an empty selection.
    """
    data = _load(path)
    records = _image_records(path, data, None)
    selected = _of_split(path, records, split)
    categories = _categories(path, data)
    kept, remarks = _kept_classes(path, list(categories.values()), classes)
    rows = []
    rejected = []
    for annotation in _checked_annotations(path, _list(path, data, "annotations"), records):
        identity = annotation["id"]
        if not _is_listed(annotation.get("category_id"), categories):
            raise ValueError(
                f"{path}: annotation {identity} has category_id {annotation.get('category_id')!r}, which 'categories' "
                "does not list; add the category or remove the annotation"
            )
        category = categories[annotation["category_id"]]
        if annotation["image_id"] not in selected or category not in kept:
            continue
        box, problem = _box(annotation.get("bbox"), records[annotation["image_id"]])
        if problem:
            rejected.append((f"{_name(path)}: annotation {identity} of image {annotation['image_id']}", problem))
            continue
        is_crowd = bool(annotation.get("iscrowd", 0))
        rows.append({"image_id": annotation["image_id"], "category": category, "box": box, "is_crowd": is_crowd})
    if not rows and not rejected:
        raise ValueError(f"{path}: no box is left for split {split!r} and classes {list(classes)}; choose other ones")
    return Rows(pa.Table.from_pylist(rows, schema=schemas.BOXES), rejected, remarks), kept


def check_rejected(rows: Rows, max_fraction: float) -> None:
    """Raise ValueError, naming the first, when more than `max_fraction` of all rows were left out."""
    rejected = len(rows.rejected)
    if rejected > max_fraction * (rejected + rows.table.num_rows):
        item, reason = rows.rejected[0]
        raise ValueError(
            f"{item}: {reason} ({rejected} of {rejected + rows.table.num_rows} rows are like that); "
            f"correct the file, or raise max_rejected_fraction (now {max_fraction}) to leave them out"
        )


def dataset_folder(root: str | None, dataset: str | None) -> str:
    """The folder, a path or URI, that a data set's file names are relative to: `root` or that of a data set artifact,
    exactly one of them."""
    if (root is None) == (dataset is None):
        raise ValueError(f"data root {root!r} with data set {dataset}: give one of the two, a root or a data set")
    folder = str(root if dataset is None else dataset)
    files, path = file_system(folder)
    if not files.isdir(path):
        raise ValueError(f"{folder}: no such data folder; set root to the folder that holds the data")
    return uri_of(files, path)


def check_image_files(images: pa.Table, folder: str | Path) -> None:
    """Raise ValueError unless every file of an images table is in `folder`, a path or URI."""
    files, path = file_system(str(folder))
    if not files.isdir(path):
        raise ValueError(f"{folder}: no such image folder; set root and images to where the images are")
    missing = _missing(images["file_name"].to_pylist(), files, path)
    if missing:
        raise ValueError(
            f"{folder}: {len(missing)} of {images.num_rows} image files are missing, first is {missing[0]}; "
            "set images to the folder that holds them, choose a split whose images are there, or remove the records of "
            "the missing ones from the annotation files"
        )


def _missing(names: Sequence[str], files: Any, path: str) -> list[str]:
    if isinstance(files, LocalFileSystem):
        return [name for name in names if not os.path.isfile(f"{path}/{name}")]
    there = {each[len(path.rstrip("/")) + 1 :] for each in files.find(path)}  # one listing, not a request a file
    return [name for name in names if name not in there]


def _load(path: str | Path) -> dict[str, Any]:
    files, inside = file_system(str(path))
    if not is_file(files, inside, str(path)):
        raise ValueError(f"{path}: no such file; check root and the file name")
    with reading(str(path)):
        read = files.cat_file(inside)
    try:
        data = json.loads(read)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON ({error}); give a COCO annotation file") from error
    if not isinstance(data, dict):
        raise ValueError(f"{path}: a JSON {type(data).__name__}, not a COCO object; give a file with 'images'")
    return data


def _name(path: str | Path) -> str:
    return str(path).rpartition("/")[2]


def _list(path: str | Path, data: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    value = data.get(name)
    if not isinstance(value, list) or not all(isinstance(record, dict) for record in value):
        raise ValueError(f"{path}: not COCO, it has no list of records '{name}'; give a COCO annotation file")
    if not value:
        raise ValueError(f"{path}: empty dataset, its list '{name}' has no records; give a file with some")
    return value


def is_count(value: object, least: int = 0, bits: int = 63) -> TypeGuard[int]:
    """Whether a JSON value is a whole number from `least` that fits in `bits` bits."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < 2**bits


def is_number(value: object) -> TypeGuard[float]:
    """Whether a JSON value is a number, finite and not so large that no coordinate or score can be meant."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -_LARGEST < value < _LARGEST


def _is_listed(identity: object, ids: Container[int]) -> bool:
    """Whether a JSON value is one of the ids, which lists and objects cannot even be asked for."""
    return isinstance(identity, (int, float)) and identity in ids


def _image_records(path: str | Path, data: Mapping[str, Any], split: str | None) -> dict[int, dict[str, Any]]:
    records: dict[int, dict[str, Any]] = {}
    for image in _list(path, data, "images"):
        identity = image.get("id")
        if not is_count(identity):
            raise ValueError(f"{path}: an image record has the id {identity!r}; ids are whole numbers")
        if identity in records:
            raise ValueError(f"{path}: image id {identity} stands twice in 'images'; make ids unique")
        name = image.get("file_name")
        if not isinstance(name, str) or not name:
            raise ValueError(f"{path}: image {identity} has no 'file_name'; add it")
        if not stays_below(name):
            raise ValueError(f"{path}: image {identity} has the file_name '{name}'; give one below the image folder")
        for side in ("width", "height"):
            if not is_count(image.get(side), least=1, bits=31):
                raise ValueError(f"{path}: image {identity} has the {side} {image.get(side)!r}; give pixels, 1 or more")
        records[identity] = image
    return _of_split(path, records, split)


def _of_split(path: str | Path, records: dict[int, dict[str, Any]], split: str | None) -> dict[int, dict[str, Any]]:
    if split is None:
        return records
    without = next((identity for identity, image in records.items() if not isinstance(image.get("split"), str)), None)
    if without is not None:
        raise ValueError(
            f"{path}: split '{split}' is asked but image {without} has no 'split'; add it or set split: null"
        )
    selected = {identity: image for identity, image in records.items() if image["split"] == split}
    if not selected:
        present = ", ".join(sorted({image["split"] for image in records.values()}))
        raise ValueError(f"{path}: no image has the split '{split}'; choose one of {present}")
    return selected


def _checked_annotations(
    path: str | Path, annotations: Iterable[dict[str, Any]], records: Mapping[int, object]
) -> Iterable[dict[str, Any]]:
    seen: set[int] = set()
    for annotation in annotations:
        identity = annotation.get("id")
        if not is_count(identity):
            raise ValueError(f"{path}: an annotation has the id {identity!r}; ids are whole numbers")
        if identity in seen:
            raise ValueError(f"{path}: annotation id {identity} stands twice; make ids unique")
        if not _is_listed(annotation.get("image_id"), records):
            raise ValueError(
                f"{path}: annotation {identity} has image_id {annotation.get('image_id')!r}, which 'images' does not "
                "list; add the image record or remove the annotation"
            )
        seen.add(identity)
        yield annotation


def _categories(path: str | Path, data: Mapping[str, Any]) -> dict[int, str]:
    categories: dict[int, str] = {}
    for category in _list(path, data, "categories"):
        identity, name = category.get("id"), category.get("name")
        if not is_count(identity) or not isinstance(name, str) or not name:
            raise ValueError(f"{path}: category {category!r} needs a whole-number 'id' and a 'name'")
        if identity in categories or name in categories.values():
            raise ValueError(f"{path}: category {identity} '{name}' stands twice; make ids and names unique")
        categories[identity] = name
    return dict(sorted(categories.items()))


def _kept_classes(path: str | Path, names: list[str], classes: Sequence[str]) -> tuple[list[str], list[str]]:
    """The kept names, those that the file does not know last, and a remark about these, if any."""
    unknown = [name for name in dict.fromkeys(classes) if name not in names]
    if not unknown:
        return ([name for name in names if name in classes] if classes else names), []
    close = {name: difflib.get_close_matches(name, names, n=1) for name in unknown}
    if len(unknown) == len(set(classes)):
        more = f" and {len(unknown) - 1} more, none is known" if len(unknown) > 1 else ""
        known = ", ".join(close[unknown[0]] or names[:5])
        raise ValueError(f"{path}: unknown class '{unknown[0]}'{more}; did you mean {known}?")
    told = (f"'{name}'" + (f" (did you mean '{close[name][0]}'?)" if close[name] else "") for name in unknown)
    remark = f"{_name(path)} does not know {len(unknown)} of {len(set(classes))} classes: {', '.join(told)}"
    return [*(name for name in names if name in classes), *unknown], [remark]


def _box(bbox: object, image: Mapping[str, Any]) -> tuple[list[float], str]:
    """The clipped xyxy box of a COCO `bbox` [x, y, width, height], or the reason why it is none."""
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(map(is_number, bbox)):
        return [], f"bbox {bbox!r} is not four numbers"
    x, y, width, height = (float(side) for side in bbox)
    if width <= 0 or height <= 0:
        return [], f"bbox {bbox} has no positive width and height"
    x2, y2 = x + width, y + height
    if min(x, y) < -BOX_TOLERANCE or x2 > image["width"] + BOX_TOLERANCE or y2 > image["height"] + BOX_TOLERANCE:
        return [], f"bbox {bbox} lies outside its image of {image['width']} x {image['height']} pixels"
    corners = [max(x, 0.0), max(y, 0.0), min(x2, float(image["width"])), min(y2, float(image["height"]))]
    box: list[float] = np.asarray(corners, np.float32).tolist()
    if box[0] >= box[2] or box[1] >= box[3]:
        return [], f"bbox {bbox} lies outside its image of {image['width']} x {image['height']} pixels"
    return box, ""
