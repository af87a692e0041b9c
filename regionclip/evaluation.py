"""Average precision by the COCO rules, and how often given boxes are named right, over groups of classes."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

ALL = "all"


@dataclass(frozen=True)
class TrueBoxes:
    """What an image shows: boxes [n, 4] xyxy pixels, their class names, and which of them are crowds (none if None)."""

    boxes: NDArray[Any]
    categories: Sequence[str]
    is_crowd: Sequence[bool] | None = None


@dataclass(frozen=True)
class ScoredBoxes:
    """What was detected in an image: boxes [n, 4] xyxy pixels, their class names and scores."""

    boxes: NDArray[Any]
    categories: Sequence[str]
    scores: Sequence[float]


def average_precision(
    ground_truth: Mapping[int, TrueBoxes],
    detections: Mapping[int, ScoredBoxes],
    classes: Sequence[str],
    groups: Mapping[str, Sequence[str]] | None = None,
    max_detections: int = 100,
) -> dict[str, float]:
    """Box AP in 0..1 by pycocotools: "AP_g" (IoU .5 to .95), "AP50_g" and "AP75_g" for each group g and for "all".

    ground_truth: every evaluated image by its id, those without boxes included. detections: images may be missing.
    A group's number averages the precision of its classes that have a true box; with none, the group has no entry.
    max_detections: best detections of a class in an image that count. Raises ValueError for unknown images or classes.
    """
    groups = _with_all(groups, classes)
    unknown = sorted(set(detections) - set(ground_truth))
    if unknown:
        raise ValueError(f"{len(unknown)} images have detections but no ground truth, first is {unknown[0]}")
    evaluation = _evaluate(ground_truth, detections, classes, max_detections)
    precision = evaluation.eval["precision"][..., 0, -1]  # [T, R, K]: IoU threshold, recall, class; -1 without truth
    thresholds = evaluation.params.iouThrs
    metrics = {}
    for group, names in groups.items():
        of_group = precision[:, :, [classes.index(name) for name in names]]
        for metric, chosen in (
            ("AP", of_group),
            ("AP50", of_group[np.isclose(thresholds, 0.5)]),
            ("AP75", of_group[np.isclose(thresholds, 0.75)]),
        ):
            valid = chosen[chosen > -1]
            if valid.size:
                metrics[f"{metric}_{group}"] = float(valid.mean())
    return metrics


def box_accuracy(
    predicted: Sequence[str], labels: Sequence[str], groups: Mapping[str, Sequence[str]]
) -> dict[str, float]:
    """Share of boxes named right, "box_accuracy_g" for each group g of true labels and for "all"; none if empty.

    The groups together hold every label; raises ValueError otherwise.
    """
    if len(predicted) != len(labels):
        raise ValueError(f"{len(predicted)} predicted names for {len(labels)} labelled boxes; give one a box")
    groups = _with_all(groups, list(dict.fromkeys(name for names in groups.values() for name in names)))
    _check_known(labels, groups[ALL], "labels")
    right = np.array([name == label for name, label in zip(predicted, labels, strict=True)], dtype=bool)
    metrics = {}
    for group, names in groups.items():
        members = np.isin(np.array(labels, dtype=object), list(names))
        if members.any():
            metrics[f"box_accuracy_{group}"] = float(right[members].mean())
    return metrics


def _with_all(groups: Mapping[str, Sequence[str]] | None, classes: Sequence[str]) -> dict[str, Sequence[str]]:
    if len(set(classes)) != len(classes):
        raise ValueError(f"{len(classes)} classes, of which {len(set(classes))} are different; name each once")
    for group, names in (groups or {}).items():
        _check_known(names, classes, f"group '{group}'")
    return {**(groups or {}), ALL: classes}


def _check_known(names: Iterable[str], classes: Sequence[str], what: str) -> None:
    unknown = sorted(set(names) - set(classes))
    if unknown:
        raise ValueError(f"{what}: '{unknown[0]}' is not among the {len(classes)} classes ({len(unknown)} unknown)")


def _evaluate(
    ground_truth: Mapping[int, TrueBoxes],
    detections: Mapping[int, ScoredBoxes],
    classes: Sequence[str],
    max_detections: int,
) -> Any:
    with contextlib.redirect_stdout(io.StringIO()):
        truth = _coco(ground_truth, ground_truth, classes)
        found = _coco(ground_truth, detections, classes)
        evaluation = COCOeval(truth, found, "bbox")
        evaluation.params.maxDets = [max_detections]
        evaluation.params.areaRng = evaluation.params.areaRng[:1]
        evaluation.params.areaRngLbl = evaluation.params.areaRngLbl[:1]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def _coco(
    image_ids: Iterable[int], rows: Mapping[int, TrueBoxes] | Mapping[int, ScoredBoxes], classes: Sequence[str]
) -> Any:
    category_ids = {name: number for number, name in enumerate(classes)}
    coco = COCO()
    coco.dataset = {
        "images": [{"id": image_id} for image_id in image_ids],
        "categories": [{"id": number, "name": name} for name, number in category_ids.items()],
        "annotations": [],
    }
    for image_id, row in rows.items():
        _check_known(row.categories, classes, f"image {image_id}")
        boxes = np.asarray(row.boxes, dtype=np.float64).reshape(-1, 4)
        sides = boxes[:, 2:] - boxes[:, :2]
        scores = row.scores if isinstance(row, ScoredBoxes) else [1.0] * len(boxes)
        crowds = [False] * len(boxes) if isinstance(row, ScoredBoxes) or row.is_crowd is None else row.is_crowd
        for box, side, name, score, crowd in zip(boxes, sides, row.categories, scores, crowds, strict=True):
            coco.dataset["annotations"].append(
                {
                    "id": len(coco.dataset["annotations"]) + 1,
                    "image_id": image_id,
                    "category_id": category_ids[name],
                    "bbox": [*box[:2].tolist(), *side.tolist()],
                    "area": float(side.prod()),
                    "score": float(score),
                    "iscrowd": int(crowd),
                }
            )
    coco.createIndex()
    return coco
