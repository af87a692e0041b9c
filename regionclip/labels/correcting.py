"""Corrections written over region labels: which annotation is of which region, and what it changes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from regionclip.grouped import Grouped, grouped_lists, list_column
from regionclip.labels.choosing import first_concepts, first_scores
from regionclip.labels.corrections import Correction, Corrections
from regionclip.labels.overlaps import overlaps

ROUNDING = 1e-3  # pixels by which exported coordinates may differ from the stored ones
_COLUMNS = (
    *("boxes", "concept_ids", "log_probabilities", "keep"),
    *("pool_log_probabilities", "kept_mass", "margin", "source"),
)


class Corrected(NamedTuple):
    """A table with corrections written over it; counts of regions by what happened; annotations not taken."""

    table: pa.Table
    counts: dict[str, int]
    rejected: list[tuple[str, str]]


def correct(
    table: pa.Table,
    corrections: Corrections,
    source: str,
    tolerance: float,
    absent: Literal["drop", "keep"],
    before: int = 0,
) -> Corrected:
    """Write corrections over a table (`schemas.REGION_LABELS`); a region that they change gets the `source`.

    An annotation is of the region whose box differs by at most `tolerance` pixels in every coordinate. Another concept
    makes the region certain of it: log-probability 0, and -inf for the others. A region that was shown and has no
    annotation any more is not kept, unless `absent` is 'keep'; one whose annotation is rejected stays as it is, and so
    do images that the file does not list. before: regions of the whole table that come before this one.
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
        given, first = corrections.by_image[image_id], before + int(regions.offsets[position])
        matches = _match(regions["boxes"][rows], given, shown[rows], tolerance, first)
        rejected += matches.rejected
        for place, row in enumerate(rows.tolist()):
            if place in matches.spared:
                continue
            happened = _overwrite(regions, row, matches.given.get(place), bool(shown[row]), absent)
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
        keep = not kept if stated else (kept or other or (not shown and given.keep is None))
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


class _Matches(NamedTuple):
    """Of the regions of an image, by place: the correction of each, and those whose correction is rejected."""

    given: dict[int, Correction]
    spared: set[int]
    rejected: list[tuple[str, str]]


def _match(
    boxes: NDArray[np.float32], given: Sequence[Correction], shown: NDArray[np.bool_], tolerance: float, first: int
) -> _Matches:
    """Match corrections with boxes [n, 4], the nearest pairs first; `first` is the number of the first box.

    A rejected one spares the region that it is about: the shown one (or one at its place) that it overlaps most,
    rather the one it was exported for, else that one.
    """
    placed = np.array([[math.nan] * 4 if each.box is None else each.box for each in given], np.float32).reshape(-1, 4)
    apart = np.abs(placed[:, None] - boxes).max(axis=2)  # [m, n]
    near = apart <= tolerance + ROUNDING
    sound = np.array([not each.reason for each in given], bool)
    taken = _pairs(apart, near & sound[:, None])
    doubled = sound & near.any(axis=1)
    reasons = [
        each.reason
        or ("another annotation is of the same region" if twice else f"no region within {tolerance:g} pixels")
        for each, twice in zip(given, doubled.tolist(), strict=True)
    ]
    lost = ~np.isin(np.arange(len(given)), list(taken))
    free = ~doubled[:, None] & ~np.isin(np.arange(len(boxes)), list(taken.values())) & (shown | near)
    shares = overlaps(placed, boxes)
    exported = np.array([-1 if each.number is None else each.number - first for each in given])[:, None]
    same = exported == np.arange(len(boxes))
    likely = shares + np.where(shares > 0, 1.0, 1e-9) * same
    return _Matches(
        {place: given[number] for number, place in taken.items()},
        set(_pairs(-likely, (likely > 0) & free).values()),
        [(given[number].item, reasons[number]) for number in np.flatnonzero(lost).tolist()],
    )


def _pairs(cost: NDArray[Any], allowed: NDArray[np.bool_]) -> dict[int, int]:
    """Row -> column of the allowed pairs of least cost [m, n], each at most once, equal ones in order."""
    pairs: dict[int, int] = {}
    columns: set[int] = set()
    rows, places = np.nonzero(allowed)
    for index in np.argsort(cost[rows, places], kind="stable").tolist():
        row, column = int(rows[index]), int(places[index])
        if row not in pairs and column not in columns:
            pairs[row] = column
            columns.add(column)
    return pairs


def _with_columns(table: pa.Table, regions: Grouped) -> pa.Table:
    counts = np.diff(regions.offsets)
    for name in _COLUMNS[1:]:
        field_ = table.schema.field(name)
        column = list_column(regions[name], counts, field_.type.value_type)
        table = table.set_column(table.schema.get_field_index(name), field_, column)
    return table
