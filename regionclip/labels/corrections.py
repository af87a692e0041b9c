"""What people corrected in exported region labels: read from COCO JSON and written over the labels."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from regionclip.grouped import Grouped, grouped_lists, list_column
from regionclip.labels.choosing import Choice, first_concepts, first_scores

ROUNDING = 1e-3  # pixels by which exported coordinates may differ from the stored ones
_LARGEST = 1e9  # of coordinates in pixels
_Value = TypeVar("_Value")
_COLUMNS = (
    *("boxes", "concept_ids", "log_probabilities", "keep"),
    *("pool_log_probabilities", "kept_mass", "margin", "source"),
)


@dataclass(frozen=True)
class Correction:
    """An annotation: its name, box float32 [4] xyxy pixels, row of the pool, and `keep` where it states one."""

    item: str
    box: NDArray[np.float32]
    concept_id: int
    keep: bool | None


@dataclass(frozen=True)
class Corrections:
    """The annotations of each listed image, and what the file says of its export.

    labels: key of the labels it was exported from. shown: which of their regions it showed. Both are as in a plain
    export where the file has lost its `info`. rejected: annotations that are none, as (item, reason).
    """

    by_image: Mapping[int, Sequence[Correction]]
    labels: str | None = None
    shown: Choice = field(default_factory=Choice)
    rejected: Sequence[tuple[str, str]] = ()


class Corrected(NamedTuple):
    """A table with corrections written over it; counts of regions by what happened; annotations not taken."""

    table: pa.Table
    counts: dict[str, int]
    rejected: list[tuple[str, str]]


def read_corrections(path: Path, concepts: Sequence[str]) -> Corrections:
    """The corrections of a COCO JSON file whose categories are concepts of the pool, by name.

    An annotation of a category that the pool lacks, or without a box, is rejected. Raises ValueError for a file that
    is not COCO.
    """
    data = _load(path)
    try:
        by_image: dict[Any, list[Correction]] = {image["id"]: [] for image in data["images"]}
        names = {category["id"]: str(category["name"]) for category in data["categories"]}
        info = data.get("info") or {}
        shown = Choice(bool(info.get("everything", False)), float(info.get("min_score", 0.0)))
        labels = info.get("region_labels")
        annotations = list(data["annotations"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path} is not COCO JSON ({error!r}); give a corrected export of 'rgc labels'") from error
    rows = {name: row for row, name in enumerate(concepts)}
    rejected = []
    for position, annotation in enumerate(annotations):
        item, correction, reason = _correction(path, position, annotation, names, rows)
        if correction is None:
            rejected.append((item, reason))
        elif _found(by_image, annotation.get("image_id")) is None:
            rejected.append((item, "the file does not list its image"))
        else:
            by_image[annotation["image_id"]].append(correction)
    return Corrections(by_image, None if labels is None else str(labels), shown, tuple(rejected))


def unknown_images(corrections: Corrections, image_ids: Iterable[int]) -> list[tuple[str, str]]:
    """The annotations of images that are not labelled, as (item, reason)."""
    known = set(image_ids)
    unknown = (
        each for image_id, of_image in corrections.by_image.items() if image_id not in known for each in of_image
    )
    return [(correction.item, "no region of its image is labelled") for correction in unknown]


def correct(
    table: pa.Table, corrections: Corrections, source: str, tolerance: float, absent: Literal["drop", "keep"]
) -> Corrected:
    """Write corrections over a table (`schemas.REGION_LABELS`); a region that they change gets the `source`.

    An annotation is of the region whose box differs by at most `tolerance` pixels in every coordinate. Another concept
    makes the region certain of it: log-probability 0, and -inf for the others. A region that was shown and has no
    annotation any more is not kept, unless `absent` is 'keep'. Images that the file does not list stay as they are.
    """
    needed = ("uri", "sha256", *_COLUMNS)
    missing = [name for name in needed if name not in table.column_names or table[name].null_count]
    if missing:
        raise ValueError(f"the labels have no {', '.join(missing)}; label the regions again with 'rgc run'")
    regions = grouped_lists(table, _COLUMNS)
    counts = dict.fromkeys(("relabelled", "dropped", "added"), 0)
    rejected: list[tuple[str, str]] = []
    shown = corrections.shown.shown(regions["keep"], first_scores(regions["log_probabilities"]))
    for position, image_id in enumerate(table["image_id"].to_pylist()):
        if image_id not in corrections.by_image:
            continue
        rows = np.arange(regions.offsets[position], regions.offsets[position + 1])
        of_image = corrections.by_image[image_id]
        matched, unmatched = _matched(regions["boxes"][rows], of_image, tolerance)
        rejected += unmatched
        for row, given in zip(rows.tolist(), matched, strict=True):
            happened = _overwrite(regions, row, given, bool(shown[row]), absent)
            if happened:
                regions["source"][row] = source
            for what in happened:
                counts[what] += 1
    return Corrected(_with_columns(table, regions), counts, rejected)


def _overwrite(
    regions: Grouped, row: int, given: Correction | None, shown: bool, absent: Literal["drop", "keep"]
) -> list[str]:
    """Change one region, and say what that was."""
    kept = bool(regions["keep"][row])
    if given is None:
        keep, other = kept and not (shown and absent == "drop"), False
    else:
        other = given.concept_id != int(first_concepts(regions["concept_ids"])[row])
        stated = given.keep is not None and given.keep != kept
        keep = not kept if stated else (kept or other or not shown)
    if other and given is not None:
        _relabel(regions, row, given.concept_id)
    regions["keep"][row] = keep
    return [
        *(["relabelled"] if other else []),
        *(["added"] if keep and not kept else []),
        *(["dropped"] if kept and not keep else []),
    ]


def _relabel(regions: Grouped, row: int, concept_id: int) -> None:
    """Put a concept first, in place of the last one where it was not stored; its distribution is certain."""
    ids, pool = regions["concept_ids"][row], regions["pool_log_probabilities"][row]
    stored = np.flatnonzero(ids == concept_id)
    place = int(stored[0]) if len(stored) else len(ids) - 1
    likelihood = pool[place] if len(stored) else math.nan
    others = np.arange(len(ids)) != place
    ids[:], pool[:] = [concept_id, *ids[others]], [likelihood, *pool[others]]
    regions["log_probabilities"][row] = [0.0, *[-math.inf] * (len(ids) - 1)]
    regions["kept_mass"][row] = np.nansum(np.exp(pool))
    regions["margin"][row] = math.nan


def _matched(
    boxes: NDArray[np.float32], given: Sequence[Correction], tolerance: float
) -> tuple[list[Correction | None], list[tuple[str, str]]]:
    """The correction of each box [n, 4], the nearest pairs first, and the corrections that belong to none."""
    matched: list[Correction | None] = [None] * len(boxes)
    if not given:
        return matched, []
    apart = np.abs(np.stack([each.box for each in given])[:, None] - boxes).max(axis=2)  # [m, n]
    near = apart <= tolerance + ROUNDING
    free = set(range(len(given)))
    for index in np.argsort(apart, axis=None, kind="stable").tolist():
        number, row = divmod(index, len(boxes))
        if near[number, row] and number in free and matched[row] is None:
            matched[row] = given[number]
            free.remove(number)
    reasons = [
        "another annotation is of the same region" if near[number].any() else f"no region within {tolerance:g} pixels"
        for number in sorted(free)
    ]
    return matched, [(given[number].item, reason) for number, reason in zip(sorted(free), reasons, strict=True)]


def _with_columns(table: pa.Table, regions: Grouped) -> pa.Table:
    counts = np.diff(regions.offsets)
    for name in _COLUMNS[1:]:
        field_ = table.schema.field(name)
        column = list_column(regions[name], counts, field_.type.value_type)
        table = table.set_column(table.schema.get_field_index(name), field_, column)
    return table


def _correction(
    path: Path, position: int, annotation: Any, names: Mapping[Any, str], rows: Mapping[str, int]
) -> tuple[str, Correction | None, str]:
    """The name of an annotation beside what it says, or the reason why it says nothing."""
    if not isinstance(annotation, dict):
        return f"{path.name}: annotation at {position}", None, f"{annotation!r} is not an object"
    item = f"{path.name}: annotation {annotation.get('id', f'at {position}')} of image {annotation.get('image_id')}"
    name = _found(names, annotation.get("category_id"))
    if name is None:
        return item, None, f"category_id {annotation.get('category_id')!r} is not among the file's categories"
    if name not in rows:
        return item, None, f"'{name}' is not in the pool; label the regions with a pool that has it"
    bbox, keep = annotation.get("bbox"), annotation.get("keep")
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(_is_number(side) for side in bbox):
        return item, None, f"bbox {bbox!r} is not four numbers"
    if keep is not None and not isinstance(keep, bool):
        return item, None, f"keep {keep!r} is neither true nor false"
    x, y, width, height = bbox
    box = np.array([x, y, x + width, y + height], np.float32)
    return item, Correction(item, box, rows[name], keep), ""


def _found(by_id: Mapping[Any, _Value], identity: object) -> _Value | None:
    return by_id.get(identity) if isinstance(identity, (int, str)) else None


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -_LARGEST < value < _LARGEST


def _load(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"{path}: no such file; give a corrected export of 'rgc labels' (COCO JSON)")
    try:
        data = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); give a corrected export of 'rgc labels'") from error
    if not isinstance(data, dict):
        raise ValueError(f"{path} holds a JSON {type(data).__name__}, not a COCO object; give a corrected export")
    return data
