"""What an evaluation says of each class, and of groups of classes, from tables of named boxes and detections."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from regionclip.detections import Detections
from regionclip.evaluation import ScoredBoxes, TrueBoxes, average_precision, box_accuracy
from regionclip.grouped import grouped_rows
from regionclip.schemas import BOX, DETECTIONS

_CLASS = "class:"
NAMED_BOXES = pa.schema(
    [
        ("image_id", pa.int64()),
        ("box", BOX),
        ("category", pa.string()),
        ("predicted", pa.string()),
        ("score", pa.float32()),
    ]
)


def detections_table(detections: Mapping[int, Detections], classes: Sequence[str]) -> pa.Table:
    """One row (`schemas.DETECTIONS`) a detection, by image id in the given order."""
    found = list(detections.values())
    boxes = torch.cat([torch.empty(0, 4), *(each.boxes for each in found)]).float().numpy()
    labels = torch.cat([torch.empty(0, dtype=torch.int64), *(each.labels for each in found)])
    scores = torch.cat([torch.empty(0), *(each.scores for each in found)]).float().numpy()
    columns = [
        pa.array(np.repeat(np.array(list(detections), dtype=np.int64), [len(each) for each in found])),
        pa.array([classes[label] for label in labels.tolist()], pa.string()),
        pa.FixedSizeListArray.from_arrays(pa.array(boxes.reshape(-1)), type=BOX),
        pa.array(scores),
    ]
    return pa.Table.from_arrays(columns, schema=DETECTIONS)


def true_boxes(boxes: pa.Table) -> dict[int, TrueBoxes]:
    """The true boxes (`schemas.BOXES`) of each image that has any, by its id."""
    found: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in boxes.to_pylist():
        found[row["image_id"]].append(row)
    return {
        image_id: TrueBoxes(
            np.array([row["box"] for row in rows], np.float32),
            [row["category"] for row in rows],
            [row["is_crowd"] for row in rows],
        )
        for image_id, rows in found.items()
    }


def class_rows(
    classes: Sequence[str], groups: Mapping[str, Sequence[str]], truth: Mapping[int, TrueBoxes]
) -> dict[str, dict[str, Any]]:
    """A row for each class, with its group and its number of true boxes."""
    group_of = {name: group for group, names in groups.items() for name in names}
    counts = Counter(name for boxes in truth.values() for name in boxes.categories)
    return {name: {"group": group_of.get(name, "all"), "num_boxes": counts[name]} for name in classes}


def score_names(
    named: pa.Table, groups: Mapping[str, Sequence[str]], per_class: dict[str, dict[str, Any]]
) -> dict[str, float]:
    """Box accuracy of named boxes (`NAMED_BOXES`) over groups; each class's own goes to its row of `per_class`."""
    predicted, labels = named["predicted"].to_pylist(), named["category"].to_pylist()
    one_each = {_CLASS + name: (name,) for name in per_class}
    values = box_accuracy(predicted, labels, {**groups, **one_each})
    return _move_classes(values, per_class)


def score_detections(
    detections: pa.Table,
    truth: Mapping[int, TrueBoxes],
    groups: Mapping[str, Sequence[str]],
    per_class: dict[str, dict[str, Any]],
) -> dict[str, float]:
    """AP, AP50 and AP75 of detections (`schemas.DETECTIONS`) over groups; each class's own go to its row."""
    image_ids = np.array(sorted(truth), dtype=np.int64)
    columns = {name: np.array(detections[name].to_pylist(), dtype=object) for name in ("category", "score")}
    boxes = np.array(detections["box"].to_pylist(), dtype=np.float64).reshape(-1, 4)
    found = grouped_rows(detections["image_id"].to_numpy(), image_ids, {"box": boxes, **columns})
    scored = {}
    for image, image_id in enumerate(image_ids.tolist()):
        rows = slice(found.offsets[image], found.offsets[image + 1])
        scored[image_id] = ScoredBoxes(
            found["box"][rows], found["category"][rows].tolist(), found["score"][rows].tolist()
        )
    one_each = {_CLASS + name: (name,) for name in per_class}
    values = average_precision(truth, scored, list(per_class), {**groups, **one_each})
    return _move_classes(values, per_class)


def _move_classes(values: dict[str, float], per_class: dict[str, dict[str, Any]]) -> dict[str, float]:
    """The values of groups; those of single classes move into the rows."""
    for label in [label for label in values if _CLASS in label]:
        metric, _, name = label.partition("_" + _CLASS)
        per_class[name][metric] = values.pop(label)
    return values
