"""Images -> class-agnostic boxes with objectness, by a trained proposer or without one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pyarrow as pa
import torch

from regionclip.boxes import clip_boxes
from regionclip.grouped import list_column
from regionclip.images import ResizeConfig
from regionclip.loading import ImageRecord, load_batches
from regionclip.proposer import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    ProposalConfig,
    Proposals,
    grid_boxes,
    load_proposer,
    random_boxes,
)
from regionclip.schemas import BOX, PROPOSALS, rejected_table
from stages.contract import Artifact, Context, Result, Stage
from stages.parts import REJECTED, process_parts, read_table
from stages.rows import count_in_lists, images_folder
from stages.storage import Folder


@dataclass(frozen=True)
class ProposeConfig:
    """How boxes are found.

    method: 'rpn' takes a trained proposer on images resized by `resize`; 'random' and 'grid' open no image.
    random_boxes: boxes of an image, of `seed`. grid_sizes: sides of the sliding windows in pixels.
    part_size: images of one part, the piece that is redone after an interruption.
    """

    method: Literal["rpn", "random", "grid"] = "rpn"
    proposals: ProposalConfig = field(default_factory=lambda: ProposalConfig(nms_iou=0.5, post_nms=300))
    resize: ResizeConfig = field(default_factory=ResizeConfig)
    random_boxes: int = 100
    grid_sizes: tuple[int, ...] = (24, 40, 64)
    seed: int = 0
    max_rejected_fraction: float = 0.01
    part_size: int = 256


class RegionProposer:
    """Proposes boxes in the images of one part; rows of `schemas.PROPOSALS`, boxes in original pixels."""

    def __init__(
        self, config: ProposeConfig, images: Folder, proposer: Folder | None, batch_size: int, device: str
    ) -> None:
        self._config, self._images, self._batch_size, self._device = config, images, batch_size, device
        self._proposer = None if proposer is None else load_proposer(proposer.local()).to(device)

    def __call__(self, records: Sequence[ImageRecord]) -> dict[str, pa.Table]:
        rejected: list[tuple[str, str]] = []
        if self._proposer is None:
            found = dict(enumerate(map(self._without_image, records)))
        else:
            found = dict(self._by_network(records, rejected))
        order = sorted(found)
        return {
            "proposals": proposals_table([records[position] for position in order], [found[each] for each in order]),
            REJECTED: rejected_table(rejected),
        }

    def _without_image(self, record: ImageRecord) -> Proposals:
        if self._config.method == "grid":
            return grid_boxes(record.height, record.width, self._config.grid_sizes)
        seed = int(np.random.SeedSequence((self._config.seed, record.image_id)).generate_state(1)[0])
        return random_boxes(record.height, record.width, self._config.random_boxes, seed)

    def _by_network(
        self, records: Sequence[ImageRecord], rejected: list[tuple[str, str]]
    ) -> Iterator[tuple[int, Proposals]]:
        assert self._proposer is not None
        batches = load_batches(
            self._images.read,
            records,
            self._config.resize,
            self._batch_size,
            lambda item, reason: rejected.append((item, reason)),
        )
        for batch in batches:
            pixels = batch.normalized(IMAGENET_MEAN, IMAGENET_STD, self._device)
            sizes = [batch.size] * len(pixels)
            with torch.inference_mode():
                proposals = self._proposer.propose(pixels, sizes, self._config.proposals)
            for position, each in zip(batch.positions, proposals, strict=True):
                record = records[position]
                boxes = clip_boxes(each.boxes / batch.scale, record.height, record.width)
                yield position, Proposals(boxes, each.objectness)


def proposals_table(records: Sequence[ImageRecord], proposals: Sequence[Proposals]) -> pa.Table:
    """One row (`schemas.PROPOSALS`) an image."""
    counts = [len(each) for each in proposals]
    boxes = torch.cat([torch.empty(0, 4), *(each.boxes for each in proposals)]).float().numpy()
    objectness = torch.cat([torch.empty(0), *(each.objectness for each in proposals)]).float().numpy()
    columns = [
        pa.array([record.image_id for record in records], pa.int64()),
        pa.array([record.width for record in records], pa.int32()),
        pa.array([record.height for record in records], pa.int32()),
        list_column(boxes, counts, BOX),
        list_column(objectness, counts, pa.float32()),
    ]
    return pa.Table.from_arrays(columns, schema=PROPOSALS)


def propose_regions(
    context: Context, config: ProposeConfig, images: Artifact, proposer: Artifact | None = None
) -> Result:
    """Write `proposals-*.parquet`, one row an image."""
    if (config.method == "rpn") != (proposer is not None):
        remedy = "give a proposer" if proposer is None else "leave the proposer out or set the method to rpn"
        raise ValueError(f"the proposal method is '{config.method}'; {remedy}")
    records = [ImageRecord(**row) for row in read_table(images, "images").to_pylist()]
    arguments = {
        "config": config,
        "images": images_folder(images),
        "proposer": None if proposer is None else proposer.folder,
        "batch_size": context.resources.batch_size,
        "device": "cuda" if context.resources.num_gpus > 0 else "cpu",
    }
    summary = process_parts(
        context, records, config.part_size, RegionProposer, arguments, ("proposals",), config.max_rejected_fraction
    )
    total = count_in_lists(context.folder, "proposals", "objectness")
    return Result(metrics={**summary.metrics, "num_proposals": total, "num_images": summary.num_rows["proposals"]})


STAGE = Stage(
    name="propose_regions",
    version=1,
    inputs={"images": ("images",), "proposer": ("proposer",)},
    output="proposals",
    run=propose_regions,
    optional=frozenset({"proposer"}),
    resumable=True,
)
