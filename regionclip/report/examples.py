"""Rows of pictures for the page: test images with their detections, training images with their labels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from regionclip.report.drawing import NamedBox, correct_detections, draw_boxes, jpeg
from regionclip.report.page import Picture
from regionclip.report.plots import GROUP_COLOURS

NEUTRAL = "#6b7077"
MAX_LABELS = 5


def sample_ids(ids: Sequence[int], seed: int) -> list[int]:
    """The ids in an order that only the seed and the set of ids decide."""
    order = np.random.default_rng(seed).permutation(len(set(ids)))
    ranked = sorted(set(ids))
    return [ranked[index] for index in order]


def rows_of(table: pa.Table, image_id: int) -> list[dict[str, Any]]:
    """The rows of one image."""
    rows: list[dict[str, Any]] = table.filter(pc.equal(table["image_id"], image_id)).to_pylist()
    return rows


def truth_picture(image: Image.Image, objects: Sequence[Mapping[str, Any]], groups: Mapping[str, str]) -> Picture:
    """The image with its ground truth (rows of `schemas.BOXES`); groups: class -> base or novel."""
    boxes = [
        NamedBox(row["box"], row["category"], GROUP_COLOURS.get(groups.get(row["category"], ""), NEUTRAL))
        for row in objects
    ]
    num_novel = sum(groups.get(row["category"]) == "novel" for row in objects)
    return Picture(
        jpeg(draw_boxes(image, boxes)), "Ground truth", f"objects: {len(objects)}, of novel classes: {num_novel}"
    )


def detection_picture(
    image: Image.Image,
    objects: Sequence[Mapping[str, Any]],
    detections: Sequence[Mapping[str, Any]],
    groups: Mapping[str, str],
    heading: str,
) -> Picture:
    """The image with as many detections (rows of `schemas.DETECTIONS`) as it has objects, the best scores first."""
    shown = sorted(detections, key=lambda row: -row["score"])[: len(objects)]
    correct = correct_detections(
        [row["box"] for row in shown],
        [row["category"] for row in shown],
        [row["box"] for row in objects],
        [row["category"] for row in objects],
    )
    boxes = [
        NamedBox(row["box"], row["category"], GROUP_COLOURS.get(groups.get(row["category"], ""), NEUTRAL), hit)
        for row, hit in zip(shown, correct, strict=True)
    ]
    return Picture(jpeg(draw_boxes(image, boxes)), heading, f"{sum(correct)} of {len(objects)} found")


def label_picture(
    image: Image.Image, labels: Mapping[str, Any] | None, concepts: Sequence[str], heading: str
) -> Picture:
    """The image with its best kept region of up to `MAX_LABELS` concepts (a row of `schemas.REGION_LABELS`)."""
    regions = _kept(labels) if labels else []
    best: dict[int, tuple[float, Sequence[float]]] = {}
    for score, concept, box in sorted(regions, key=lambda region: -region[0]):
        best.setdefault(concept, (score, box))
    shown = list(best.items())[:MAX_LABELS]
    boxes = [NamedBox(box, f"{concepts[concept]} {score:.2f}", NEUTRAL) for concept, (score, box) in shown]
    return Picture(
        jpeg(draw_boxes(image, boxes)), heading, f"kept regions: {len(regions)}, their concepts: {len(best)}"
    )


def _kept(labels: Mapping[str, Any]) -> list[tuple[float, int, Sequence[float]]]:
    columns = (labels["boxes"], labels["concept_ids"], labels["log_probabilities"], labels["keep"])
    return [(math.exp(logs[0]), ids[0], box) for box, ids, logs, keep in zip(*columns, strict=True) if keep and ids]
