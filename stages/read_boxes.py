"""Source: the boxes of a COCO instances file, of chosen classes only; the others never reach a training."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from regionclip.coco import Rows, check_rejected, dataset_folder, read_coco_boxes
from regionclip.digests import content_sha256
from regionclip.schemas import rejected_table
from stages.contract import Artifact, Context, Result, Stage
from stages.parts import REJECTED, write_table


@dataclass(frozen=True)
class BoxesConfig:
    """Which boxes: those of images in `split` and of `classes` (none named: all), which need not all be in the file.

    root: the data folder that `instances` is relative to; None where a data set artifact is given.
    max_rejected_fraction: how many boxes, of all, may be left out for lying outside their image or having no area.
    """

    root: str | None = None
    instances: str = "annotations/instances.json"
    split: str | None = None
    classes: tuple[str, ...] = ()
    max_rejected_fraction: float = 0.01


def read_boxes(context: Context, config: BoxesConfig, dataset: Artifact | None = None) -> Result:
    """Write `boxes.parquet`, `classes.json` (by category id, unknown ones last), and boxes left out as
    `rejected.parquet` if any."""
    rows, classes = _rows(config, dataset_folder(config.root, str(dataset.folder.local()) if dataset else None))
    write_table(context.folder, "boxes", rows.table)
    context.folder.write("classes.json", json.dumps(classes, indent=1, ensure_ascii=False).encode())
    for remark in rows.remarks:
        context.say(remark)
    if rows.rejected:
        write_table(context.folder, REJECTED, rejected_table(rows.rejected))
    return Result(
        metrics={"boxes": rows.table.num_rows, "classes": len(classes), "rejected": len(rows.rejected)},
    )


def identity(config: BoxesConfig) -> Mapping[str, Any]:
    """The content of the boxes and classes; names alone where they belong to a data set artifact."""
    if config.root is None:
        return asdict(config)
    rows, classes = _rows(config, dataset_folder(config.root, None))
    others = [*classes, *(f"{item}: {reason}" for item, reason in rows.rejected)]
    return {"content_sha256": content_sha256(rows.table, others)}


def _rows(config: BoxesConfig, root: str) -> tuple[Rows, list[str]]:
    rows, classes = read_coco_boxes(f"{root}/{config.instances}", config.split, config.classes)
    check_rejected(rows, config.max_rejected_fraction)
    return rows, classes


STAGE = Stage(
    name="read_boxes",
    version=2,
    inputs={"dataset": ("dataset",)},
    output="boxes",
    run=read_boxes,
    optional=frozenset({"dataset"}),
    identity=identity,
)
