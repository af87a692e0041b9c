"""Boxes that are given: true ones as proposals, and those that another program found, from COCO JSON or parquet."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from regionclip.boxes import clip_boxes, nonempty
from regionclip.coco import BOX_TOLERANCE, is_count, is_number
from regionclip.grouped import Grouped, grouped_lists, grouped_rows, list_column
from regionclip.loading import ImageRecord
from regionclip.proposals.proposer import UNSCORED, Images, Proposals, Reject
from regionclip.schemas import BOX

Scores = Literal["probability", "logit"]
Lookup = Callable[[Sequence[int]], Mapping[int, Proposals]]
"""The boxes listed for images, by image id; images without any may be left out."""

COLUMNS = ("image_id", "boxes", "objectness")
_SCHEMA = pa.schema([("image_id", pa.int64()), ("boxes", pa.list_(BOX)), ("objectness", pa.list_(pa.float32()))])
_LEAST_PROBABILITY = 1e-6  # that a probability of 0 or 1 is taken for, so that logits stay finite


class ListedProposer:
    """The boxes listed for an image, clipped to it; those that are no boxes of it are left out with the reason."""

    reads_pixels = False

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup

    def propose(self, images: Images, reject: Reject) -> list[Proposals]:
        """See `Proposer.propose`."""
        listed = self._lookup([record.image_id for record in images.records])
        return [
            _sound(listed[record.image_id], record, reject) if record.image_id in listed else _none()
            for record in images.records
        ]


def true_boxes(table: pa.Table) -> dict[int, Proposals]:
    """The boxes of a boxes table (`schemas.BOXES`) by image id: unscored, in the order of the table, without crowds."""
    rows = table.filter(np.logical_not(table["is_crowd"].to_numpy()))
    if not len(rows):
        return {}
    owners = rows["image_id"].to_numpy()
    image_ids = np.unique(owners)
    boxes = rows["box"].combine_chunks().flatten().to_numpy().reshape(-1, 4)
    columns = {"boxes": boxes, "objectness": np.full(len(boxes), UNSCORED, np.float32)}
    return _by_id(image_ids, grouped_rows(owners, image_ids, columns))


def listed_boxes(table: pa.Table) -> dict[int, Proposals]:
    """The boxes of a table with one row an image (columns image_id, boxes, objectness) by image id.

    Raises ValueError, naming the image, where boxes and objectness are not of one length.
    """
    if not len(table):
        return {}
    lengths = [pc.list_value_length(table[name]) for name in ("boxes", "objectness")]
    same = pc.fill_null(pc.equal(*lengths), False)
    if not pc.all(same).as_py():
        image_id = table["image_id"].filter(pc.invert(same))[0]
        raise ValueError(f"image {image_id} has not as many objectness values as boxes; give each box one")
    return _by_id(table["image_id"].to_numpy(), grouped_lists(table, ["boxes", "objectness"]))


def listed_in_parquet(path: Path, scores: Scores = "logit") -> Lookup:
    """The boxes of a parquet file with one row an image: image_id, boxes (lists of xyxy pixels), objectness.

    Only the row groups that may hold the images asked for are read, so a large file should be sorted by image_id.
    """

    def lookup(image_ids: Sequence[int]) -> Mapping[int, Proposals]:
        wanted = pc.field("image_id").isin(list(image_ids))
        listed = listed_boxes(pq.read_table(path, columns=list(COLUMNS), filters=wanted).cast(_SCHEMA))
        if scores == "logit":
            return listed
        return {
            image_id: Proposals(each.boxes, torch.from_numpy(_logits(each.objectness.numpy(), scores)))
            for image_id, each in listed.items()
        }

    return lookup


def listed_counts(path: Path) -> dict[int, int]:
    """How many boxes a parquet file for `listed_in_parquet` has of each image, by its id.

    Raises ValueError unless it is such a file and names no image twice.
    """
    try:
        schema = pq.read_schema(path)
        missing = [name for name in COLUMNS if name not in schema.names]
        if missing:
            raise ValueError(f"it has no column {', '.join(missing)}, only {', '.join(schema.names)}")
        schema.empty_table().select(COLUMNS).cast(_SCHEMA)
        table = pq.read_table(path, columns=["image_id", "objectness"])
        ids: NDArray[np.int64] = table["image_id"].cast(pa.int64()).to_numpy()
    except (ValueError, NotImplementedError, OSError) as error:
        raise ValueError(f"{path}: {error}; give one row an image: image_id, boxes and objectness") from error
    values, rows = np.unique(ids, return_counts=True)
    if (rows > 1).any():
        raise ValueError(f"{path}: image {values[rows > 1][0]} stands in {rows.max()} rows; give one row an image")
    counts = pc.fill_null(pc.list_value_length(table["objectness"]), 0)
    return dict(zip(ids.tolist(), counts.to_pylist(), strict=True))


def read_coco_results(path: Path, scores: Scores = "probability") -> pa.Table:
    """The boxes of a COCO results file (a list), or of the annotations of an instances file, by ascending image id.

    Columns image_id, boxes, objectness, as in parquet. Categories are ignored, crowds left out, and a box without a
    'score' is unscored. Raises ValueError for a file or record of another form.
    """
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: no readable JSON ({error}); give COCO results or a .parquet file") from error
    records = data.get("annotations") if isinstance(data, dict) else data
    if not isinstance(records, list) or not records:
        raise ValueError(f"{path}: it lists no boxes; give COCO results: a list of image_id, bbox and score")
    owners, corners, given = [], [], []
    for number, record in enumerate(records):
        problem = _problem(record)
        if problem:
            raise ValueError(f"{path}: record {number} {problem}; give image_id, bbox [x, y, width, height] and score")
        if not record.get("iscrowd", 0):
            x, y, width, height = record["bbox"]
            owners.append(record["image_id"])
            corners.append((x, y, x + width, y + height))
            given.append(record.get("score", math.nan))
    image_ids, counts = np.unique(np.array(owners, np.int64), return_counts=True)
    order = np.argsort(owners, kind="stable")
    objectness = np.array(given, np.float32)
    unscored = np.isnan(objectness)
    objectness[~unscored] = _logits(objectness[~unscored], scores)
    objectness[unscored] = UNSCORED
    columns = [
        pa.array(image_ids),
        list_column(np.array(corners, np.float32).reshape(-1, 4)[order], counts, BOX),
        list_column(objectness[order], counts, pa.float32()),
    ]
    return pa.Table.from_arrays(columns, schema=_SCHEMA)


def _problem(record: Any) -> str:
    """Why a record of COCO results is none; empty when it is one. A box that is not finite is left to its image."""
    if not isinstance(record, dict):
        return f"is a {type(record).__name__}"
    image_id, bbox, score = record.get("image_id"), record.get("bbox"), record.get("score", 0.0)
    if not is_count(image_id):
        return f"has image_id {image_id!r}"
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(isinstance(x, float) or is_number(x) for x in bbox):
        return f"has bbox {bbox!r}"
    if not is_number(score):
        return f"has score {score!r}"
    return ""


def _logits(values: NDArray[Any], scores: Scores) -> NDArray[np.float32]:
    if scores == "logit":
        return values.astype(np.float32)
    wrong = values[(values < 0) | (values > 1)]
    if len(wrong):
        raise ValueError(f"a listed score is {wrong[0]:g} and no probability; set precomputed.scores to logit")
    probabilities = values.astype(np.float64).clip(_LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY)
    logits: NDArray[np.float32] = np.log(probabilities / (1 - probabilities)).astype(np.float32)
    return logits


def _by_id(image_ids: NDArray[np.int64], grouped: Grouped) -> dict[int, Proposals]:
    boxes, objectness = (torch.from_numpy(np.ascontiguousarray(grouped[name])) for name in ("boxes", "objectness"))
    counts = np.diff(grouped.offsets).tolist()
    pairs = zip(torch.split(boxes, counts), torch.split(objectness, counts), strict=True)
    return {image_id: Proposals(*pair) for image_id, pair in zip(image_ids.tolist(), pairs, strict=True)}


def _none() -> Proposals:
    return Proposals(torch.empty(0, 4), torch.empty(0))


def _sound(listed: Proposals, record: ImageRecord, reject: Reject) -> Proposals:
    """The boxes that lie in their image, clipped to it where they overshoot by up to `BOX_TOLERANCE`, best first."""
    size = torch.tensor([record.width, record.height])
    clipped = clip_boxes(listed.boxes, record.height, record.width)
    overshoot = torch.cat((-listed.boxes[:, :2], listed.boxes[:, 2:] - size), dim=1).amax(dim=1)
    tests = {
        "is not finite": torch.isfinite(listed.boxes).all(dim=1) & torch.isfinite(listed.objectness),
        "has no positive width and height": nonempty(listed.boxes),
        f"lies outside the {record.width} x {record.height} pixels": (overshoot <= BOX_TOLERANCE) & nonempty(clipped),
    }
    sound = torch.stack(list(tests.values())).all(dim=0)
    if not bool(sound.all()):
        bad = int((~sound).nonzero()[0])
        reason = next(text for text, passed in tests.items() if not passed[bad])
        count = f"{int((~sound).sum())} of {len(listed)} given boxes are left out"
        reject(record.file_name, f"{count}, the first {_text(listed.boxes[bad])} {reason}")
    return Proposals(clipped[sound], listed.objectness[sound]).best_first()


def _text(box: Tensor) -> str:
    return f"[{', '.join(f'{side:g}' for side in box.tolist())}]"
