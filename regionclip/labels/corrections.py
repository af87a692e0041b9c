"""What people corrected in exported region labels: annotations of COCO JSON, with the images they are of."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from regionclip.coco import is_number
from regionclip.image_sources.places import TableRow, parse_place
from regionclip.labels.choosing import Choice, file_names

_LARGEST_ID = 1 << 62
_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Correction:
    """An annotation: its name, box float32 [4] xyxy pixels, row of the pool, and `keep` where it states one.

    reason: why it cannot be taken; box or row may then be missing. number: the region of the whole table that it was
    exported for, if its id is still that of the export.
    """

    item: str
    box: NDArray[np.float32] | None = None
    concept_id: int = -1
    keep: bool | None = None
    number: int | None = None
    reason: str = ""


@dataclass(frozen=True)
class Corrections:
    """The annotations of each labelled image that the file lists, and what the file says of its export.

    labels: key of the labels it was exported from. shown: which of their regions it showed. Both are as in a plain
    export where the file has lost its `info`. rejected: annotations of no labelled image, as (item, reason).
    num_renumbered: images that have another id in the file than in the labels.
    """

    by_image: Mapping[int, Sequence[Correction]]
    labels: str | None = None
    shown: Choice = field(default_factory=Choice)
    rejected: Sequence[tuple[str, str]] = ()
    num_renumbered: int = 0


def read_corrections(path: Path, concepts: Sequence[str], image_ids: Sequence[int], uris: Sequence[str]) -> Corrections:
    """The corrections of a COCO JSON file whose categories are concepts of the pool, by name.

    image_ids, uris: of all labelled images, in order. An image of the file is the one of its `uri`, else of its
    `file_name` (a uri, or a name that exports give it), else, where it has neither, of its id. Raises ValueError for
    a file that is not COCO or lists no labelled image.
    """
    data = _load(path)
    try:
        images = list(data["images"])
        of_file: dict[Any, list[Any]] = {image["id"]: [] for image in images}
        categories = list(data["categories"])
        names = {category["id"]: str(category["name"]) for category in categories}
        info = data.get("info") or {}
        shown = Choice(bool(info.get("everything", False)), float(info.get("min_score", 0.0)))
        labels = info.get("region_labels")
        annotations = list(data["annotations"])
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise ValueError(f"{path} is not COCO JSON ({error!r}); give a corrected export of 'rgc labels'") from error
    if len(of_file) < len(images):
        raise ValueError(f"{path}: {len(images)} images have {len(of_file)} ids; give each image an id of its own")
    if len(names) < len(categories):
        raise ValueError(
            f"{path}: {len(categories)} categories have {len(names)} ids; give each category an id of its own"
        )
    rows = {name: row for row, name in enumerate(concepts)}
    rejected = []
    for position, annotation in enumerate(annotations):
        correction = _correction(path, position, annotation, names, rows)
        image_id = annotation.get("image_id") if isinstance(annotation, dict) else None
        if _found(of_file, image_id) is None:
            rejected.append((correction.item, correction.reason or "the file does not list its image"))
        else:
            of_file[image_id].append(correction)
    known = _KnownImages(image_ids, uris)
    by_image: dict[int, list[Correction]] = {}
    num_renumbered = 0
    for image in images:
        image_id, reason = known.find(image)
        if image_id is None:
            rejected += [(correction.item, reason) for correction in of_file[image["id"]]]
        else:
            by_image.setdefault(image_id, []).extend(of_file[image["id"]])
            num_renumbered += image_id != image["id"]
    if images and not by_image:
        raise ValueError(
            f"{path}: none of its {len(images)} images is labelled; of the first, {known.find(images[0])[1]}"
        )
    return Corrections(by_image, None if labels is None else str(labels), shown, tuple(rejected), num_renumbered)


class _KnownImages:
    """Finds the labelled image that a file means."""

    def __init__(self, image_ids: Sequence[int], uris: Sequence[str]) -> None:
        self._ids = set(image_ids)
        self._named: defaultdict[str, set[int]] = defaultdict(set)
        self._rows: defaultdict[str, set[int]] = defaultdict(set)
        for image_id, uri, name in zip(image_ids, uris, file_names(uris), strict=True):
            self._named[uri].add(image_id)
            self._named[name].add(image_id)
            if isinstance(parse_place(uri), TableRow):
                self._rows[name].add(image_id)

    def find(self, image: Mapping[str, Any]) -> tuple[int | None, str]:
        """The id of a labelled image, or why the image of the file is none."""
        image_id, given = image["id"], [image.get(key) for key in ("uri", "file_name")]
        names = [name for name in given if isinstance(name, str) and name]
        if not names:
            known = isinstance(image_id, int) and image_id in self._ids
            return (image_id, "") if known else (None, f"its image {image_id} is not labelled")
        found = next((ids for ids in map(self._with_name, names) if ids), set())
        if not found:
            return None, f"its image '{names[-1]}' is not labelled; give the name it was exported with, or only its id"
        if image_id not in found and len(found) > 1:
            return None, f"{len(found)} labelled images are '{names[-1]}' and none has its id {image_id}"
        return (image_id if image_id in found else min(found)), ""

    def _with_name(self, name: str) -> set[int]:
        """The images of a name; that of a parquet row is exported without an ending and may have got one."""
        return self._named.get(name) or self._rows.get(name.rpartition(".")[0]) or set()


def _correction(
    path: Path, position: int, annotation: Any, names: Mapping[Any, str], rows: Mapping[str, int]
) -> Correction:
    """What an annotation says, or as much of it as tells its region, with the reason why it is no correction."""
    if not isinstance(annotation, dict):
        return Correction(f"{path.name}: annotation at {position}", reason=f"{annotation!r} is not an object")
    item = f"{path.name}: annotation {annotation.get('id', f'at {position}')} of image {annotation.get('image_id')}"
    name, identity = _found(names, annotation.get("category_id")), annotation.get("id")
    bbox, keep = annotation.get("bbox"), annotation.get("keep")
    box, reason = None, ""
    if isinstance(bbox, list) and len(bbox) == 4 and all(map(is_number, bbox)):
        x, y, width, height = bbox
        box = np.array([x, y, x + width, y + height], np.float32)
    if name is None:
        reason = f"category_id {annotation.get('category_id')!r} is not among the file's categories"
    elif name not in rows:
        reason = f"'{name}' is not in the pool; label the regions with a pool that has it"
    elif box is None:
        reason = f"bbox {bbox!r} is not four numbers"
    elif keep is not None and not isinstance(keep, bool):
        reason = f"keep {keep!r} is neither true nor false"
    number = identity - 1 if isinstance(identity, int) and 0 < identity < _LARGEST_ID else None
    return Correction(item, box, rows.get(name or "", -1), keep if isinstance(keep, bool) else None, number, reason)


def _found(by_id: Mapping[Any, _Value], identity: object) -> _Value | None:
    return by_id.get(identity) if isinstance(identity, (int, str)) else None


def _load(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"{path}: no such file; give a corrected export of 'rgc labels' (COCO JSON)")
    try:
        data = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON ({error}); give a corrected export of 'rgc labels'") from error
    if not isinstance(data, dict):
        raise ValueError(f"{path} holds a JSON {type(data).__name__}, not a COCO object; give a corrected export")
    return data
