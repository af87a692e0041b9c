"""Images + proposals -> teacher features of regions: the expensive pass, done once for any vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import torch

from regionclip import schemas
from regionclip.clip_models import load_clip
from regionclip.grouped import Grouped, grouped_lists, list_column
from regionclip.images import ResizeConfig
from regionclip.loading import ImageRecord, load_batches
from regionclip.teachers.making import make_teacher
from regionclip.teachers.memory import keep_freed_memory
from regionclip.teachers.teacher import TeacherConfig
from stages.contract import Artifact, Context, Result, Stage
from stages.parts import REJECTED, process_parts
from stages.rows import RowReader, RowRef, count_in_lists, image_files, images_folder, row_refs
from stages.storage import Folder


@dataclass(frozen=True)
class EncodeConfig:
    """num_regions: proposals kept of an image, by objectness. part_size: images of one part."""

    num_regions: int = 100
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    resize: ResizeConfig = field(default_factory=lambda: ResizeConfig(rule="pretraining"))
    max_rejected_fraction: float = 0.01
    part_size: int = 256


@dataclass(frozen=True)
class ProposedImage:
    """An image and where its proposals stand."""

    record: ImageRecord
    proposals: RowRef


class RegionEncoding:
    """Encodes the regions of one part; rows of `schemas.regions`, boxes in original pixels."""

    def __init__(
        self, config: EncodeConfig, images: Folder, proposals: Folder, clip: Folder, batch_size: int, device: str
    ) -> None:
        self._config, self._images, self._batch_size, self._device = config, images, batch_size, device
        keep_freed_memory()
        self._teacher = make_teacher(load_clip(clip.local()), config.teacher, device)
        self._proposals = RowReader(proposals, ["boxes", "objectness"])

    def __call__(self, items: Sequence[ProposedImage]) -> dict[str, pa.Table]:
        table = self._proposals.take([item.proposals for item in items])
        proposals = best_proposals(grouped_lists(table, ["boxes", "objectness"]), self._config.num_regions)
        boxes = torch.split(torch.from_numpy(proposals["boxes"]), np.diff(proposals.offsets).tolist())
        records = [item.record for item in items]
        rejected: list[tuple[str, str]] = []
        features: dict[int, torch.Tensor] = {}
        for batch in load_batches(
            self._images.read,
            records,
            self._config.resize,
            self._batch_size,
            lambda item, reason: rejected.append((item, reason)),
        ):
            placed = [(boxes[position] * batch.scale).to(self._device) for position in batch.positions]
            pixels = batch.normalized(self._config.teacher.mean, self._config.teacher.std, self._device)
            encoded = self._teacher.region_features(pixels, placed).half().cpu()
            features |= zip(batch.positions, torch.split(encoded, [len(each) for each in placed]), strict=True)
        regions = regions_table(records, proposals, features, self._teacher.width)
        return {"regions": regions, REJECTED: schemas.rejected_table(rejected)}


def best_proposals(proposals: Grouped, most: int) -> Grouped:
    """The `most` proposals of each image with the highest objectness, best first; equal ones in stored order."""
    owner = np.repeat(np.arange(len(proposals)), np.diff(proposals.offsets))
    order = np.lexsort((-proposals["objectness"], owner))
    rank = np.arange(len(owner)) - proposals.offsets[owner]
    chosen = order[rank < most]
    counts = np.minimum(np.diff(proposals.offsets), most)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    return Grouped(offsets, {name: values[chosen] for name, values in proposals.columns.items()})


def regions_table(
    records: Sequence[ImageRecord], proposals: Grouped, features: dict[int, torch.Tensor], width: int
) -> pa.Table:
    """One row (`schemas.regions`) for each image that has features."""
    positions = np.array(sorted(features), dtype=np.int64)
    rows, _ = proposals.rows(positions)
    counts = proposals.counts(positions)
    flat = torch.cat([torch.empty(0, width, dtype=torch.float16), *(features[each] for each in positions.tolist())])
    columns = [
        pa.array([records[each].image_id for each in positions.tolist()], pa.int64()),
        pa.array([records[each].width for each in positions.tolist()], pa.int32()),
        pa.array([records[each].height for each in positions.tolist()], pa.int32()),
        list_column(proposals["boxes"][rows], counts, schemas.BOX),
        list_column(proposals["objectness"][rows], counts, pa.float32()),
        list_column(flat.numpy(), counts, pa.list_(pa.float16(), width)),
    ]
    return pa.Table.from_arrays(columns, schema=schemas.regions(width))


def encode_regions(
    context: Context, config: EncodeConfig, images: Artifact, proposals: Artifact, clip: Artifact
) -> Result:
    """Write `regions-*.parquet`: boxes, objectness and the teacher's features of each image's best proposals."""
    refs, table = row_refs(proposals, "proposals", ["image_id", "width", "height"])
    files = image_files(images, table["image_id"].to_numpy())
    items = [
        ProposedImage(ImageRecord(file_name=name, **row), ref)
        for name, row, ref in zip(files.names, table.to_pylist(), refs, strict=True)
    ]
    arguments = {
        "config": config,
        "images": images_folder(images),
        "proposals": proposals.folder,
        "clip": clip.folder,
        "batch_size": context.resources.batch_size,
        "device": context.resources.device,
    }
    summary = process_parts(
        context, items, config.part_size, RegionEncoding, arguments, ("regions",), config.max_rejected_fraction
    )
    total = count_in_lists(context.folder, "regions", "objectness")
    return Result(metrics={**summary.metrics, "num_regions": total, "num_images": summary.num_rows["regions"]})


STAGE = Stage(
    name="encode_regions",
    version=1,
    inputs={"images": ("images",), "proposals": ("proposals",), "clip": ("clip", "region_encoder")},
    output="regions",
    run=encode_regions,
    resumable=True,
)
