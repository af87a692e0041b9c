"""Proposals + true boxes -> how many of the objects the proposals cover."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from regionclip.proposals.listed import COLUMNS, listed_boxes, true_boxes
from regionclip.proposals.proposer import Proposals
from regionclip.proposals.recall import RecallRow, recall
from stages.contract import Artifact, Context, Result, Stage
from stages.parts import iter_tables, read_table


@dataclass(frozen=True)
class RecallConfig:
    """At which overlaps an object counts as found, and among how many of an image's best proposals."""

    ious: tuple[float, ...] = (0.5, 0.75)
    limits: tuple[int, ...] = (10, 100, 300, 1000)

    def __post_init__(self) -> None:
        if not self.ious or not all(0 < iou <= 1 for iou in self.ious):
            raise ValueError(f"ious are {self.ious}; give overlaps above 0, up to 1")
        if not self.limits or min(self.limits) < 1:
            raise ValueError(f"limits are {self.limits}; give numbers of boxes from 1")


def recall_proposals(context: Context, config: RecallConfig, proposals: Artifact, boxes: Artifact) -> Result:
    """Write `recall.json`: a row for each IoU and size of object.

    Images that have true boxes and no row among the proposals count as having none proposed.
    """
    truth = true_boxes(read_table(boxes, "boxes"))
    unproposed = set(truth)

    def images() -> Iterator[tuple[Proposals, Tensor]]:
        for table in iter_tables(proposals, "proposals", COLUMNS):
            for image_id, found in listed_boxes(table).items():
                if image_id in unproposed:
                    unproposed.remove(image_id)
                    yield found, truth[image_id].boxes
        if len(unproposed) == len(truth):
            raise ValueError(
                f"no image of proposals {proposals.key} has a box in boxes {boxes.key}; give the boxes of its images"
            )
        if unproposed:
            context.say(
                f"{len(unproposed)} of {len(truth)} images with boxes are not among those of the proposals; their "
                "objects count as missed"
            )
        for image_id in sorted(unproposed):
            yield Proposals(torch.empty(0, 4), torch.empty(0)), truth[image_id].boxes

    rows = recall(images(), config.ious, config.limits)
    context.folder.write("recall.json", json.dumps([asdict(row) for row in rows], indent=1).encode())
    counts = {"num_images": len(truth), "num_images_without_proposals": len(unproposed)}
    return Result(metrics={**counts, **{name: value for row in rows for name, value in _metrics(row).items()}})


def _metrics(row: RecallRow) -> dict[str, float]:
    """Such as 'recall50_100' and 'recall75_1000_small': IoU in percent, boxes of an image, size of the objects."""
    size = "" if row.size == "all" else f"_{row.size}"
    names = [f"recall{round(100 * row.iou)}_{limit}{size}" for limit in row.limits]
    return dict(zip(names, row.recalls, strict=True)) if row.recalls is not None else {}


STAGE = Stage(
    name="recall_proposals",
    version=1,
    inputs={"proposals": ("proposals",), "boxes": ("boxes",)},
    output="recall",
    run=recall_proposals,
)
