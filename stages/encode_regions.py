"""Images + proposals -> teacher features of regions: the expensive pass, done once for any vocabulary."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import get_args

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from regionclip import schemas
from regionclip.clip_models import load_clip
from regionclip.grouped import Grouped, grouped_lists, list_column
from regionclip.images import ResizeConfig
from regionclip.loading import ImageRecord, load_batches, records_of
from regionclip.region_features import pack_features
from regionclip.teachers.making import make_teacher, teacher_pixels
from regionclip.teachers.memory import keep_freed_memory
from regionclip.teachers.teacher import TeacherConfig
from stages.contract import Artifact, Context, Result, Stage
from stages.listed_images import ImageFolder, images_folder
from stages.parts import REJECTED, process_parts
from stages.rows import RowReader, RowRef, count_in_lists, list_lengths, table_rows, table_schema
from stages.storage import Folder

NOT_FINITE = "the teacher gives features that are not finite; try regions.teacher.precision: fp32, or other weights"


@dataclass(frozen=True)
class EncodeConfig:
    """How regions are encoded.

    num_regions: proposals kept of an image, by objectness; the method takes all 300. part_size: images of one part.
    storage: numbers of a feature, in half precision, or in 8 bits with a scale for each region: half the bytes, and
    not quite the same labels.
    """

    num_regions: int = 300
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    resize: ResizeConfig = field(default_factory=lambda: ResizeConfig(rule="pretraining"))
    storage: schemas.Storage = "float16"
    max_rejected_fraction: float = 0.01
    part_size: int = 256

    def __post_init__(self) -> None:
        if self.num_regions < 1:
            raise ValueError(f"num_regions is {self.num_regions}; give 1 region an image or more")
        if self.storage not in get_args(schemas.Storage):
            raise ValueError(f"storage is '{self.storage}'; choose one of {', '.join(get_args(schemas.Storage))}")


@dataclass(frozen=True)
class EncodedImage:
    """The sha256 (hex) of an image's bytes, and its regions' features as columns with a row each (`pack_features`)."""

    sha256: str
    features: Mapping[str, Tensor]


class RegionEncoding:
    """Encodes the regions of one part; rows of `schemas.regions`, boxes in original pixels."""

    def __init__(
        self, config: EncodeConfig, images: ImageFolder, proposals: Folder, clip: Folder, batch_size: int, device: str
    ) -> None:
        self._config, self._images, self._batch_size, self._device = config, images, batch_size, device
        keep_freed_memory()
        weights = load_clip(clip.local())
        self._teacher = make_teacher(weights, config.teacher, device)
        self._pixels = teacher_pixels(weights, config.teacher)
        self._proposals = RowReader(proposals, schemas.PROPOSALS.names)

    def __call__(self, rows: Sequence[RowRef]) -> dict[str, pa.Table]:
        table = self._proposals.take(rows)
        proposals = best_proposals(grouped_lists(table, ["boxes", "objectness"]), self._config.num_regions)
        boxes = torch.split(torch.from_numpy(proposals["boxes"]), np.diff(proposals.offsets).tolist())
        rejected: list[tuple[str, str]] = []
        encoded = dict(self._encoded(records_of(table, "uri"), boxes, rejected))
        schema = schemas.regions(self._teacher.width, self._config.storage)
        return {"regions": regions_table(table, proposals, encoded, schema), REJECTED: schemas.rejected_table(rejected)}

    def _encoded(
        self, records: Sequence[ImageRecord], boxes: Sequence[Tensor], rejected: list[tuple[str, str]]
    ) -> Iterator[tuple[int, EncodedImage]]:
        """The images that can be encoded, with their positions among the records; the others go to `rejected`."""
        digests: dict[str, str] = {}
        teacher, config = self._teacher, self._config

        def reject(item: str, reason: str) -> None:
            rejected.append((item, reason))

        with self._images.gathered([record.file_name for record in records]) as source:

            def read(uri: str) -> bytes:
                data = source(uri)
                digests[uri] = hashlib.sha256(data).hexdigest()
                return data

            for batch in load_batches(read, records, config.resize, self._batch_size, reject, teacher.least_side):
                placed = [(boxes[position] * batch.scale).to(self._device) for position in batch.positions]
                pixels = batch.normalized(*self._pixels, self._device)
                raw = torch.split(teacher.region_features(pixels, placed).cpu(), [len(each) for each in placed])
                for position, features in zip(batch.positions, raw, strict=True):
                    uri = records[position].file_name
                    if bool(torch.isfinite(features).all()):
                        yield position, EncodedImage(digests[uri], pack_features(features, config.storage))
                    else:
                        reject(uri, NOT_FINITE)


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
    images: pa.Table, proposals: Grouped, encoded: Mapping[int, EncodedImage], schema: pa.Schema
) -> pa.Table:
    """One row (`schema`, of `schemas.regions`) for each row of `images` that is encoded."""
    if not encoded:
        return schema.empty_table()
    positions = np.array(sorted(encoded), dtype=np.int64)
    rows, _ = proposals.rows(positions)
    counts = proposals.counts(positions)
    found = [encoded[position] for position in positions.tolist()]
    lists = {name: proposals[name][rows] for name in ("boxes", "objectness")}
    lists |= {name: torch.cat([each.features[name] for each in found]).numpy() for name in found[0].features}
    columns = {name: images[name].take(pa.array(positions)) for name in ("image_id", "uri", "width", "height")}
    columns["sha256"] = pa.array([each.sha256 for each in found], pa.string())
    for name, values in lists.items():
        columns[name] = list_column(values, counts, schema.field(name).type.value_type)
    return pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)


def encode_regions(
    context: Context, config: EncodeConfig, images: Artifact, proposals: Artifact, clip: Artifact
) -> Result:
    """Write `regions-*.parquet`: boxes, objectness and the teacher's features of each image's best proposals."""
    _check_images(images, proposals)
    table_schema(proposals, "proposals", ["uri"])
    weights = list_lengths(proposals, "proposals", "objectness").clip(max=config.num_regions)
    arguments = {
        "config": config,
        "images": images_folder(images),
        "proposals": proposals.folder,
        "clip": clip.folder,
        "batch_size": context.resources.batch_size,
        "device": context.resources.device,
    }
    summary = process_parts(
        context,
        table_rows(proposals, "proposals"),
        config.part_size,
        RegionEncoding,
        arguments,
        ("regions",),
        config.max_rejected_fraction,
        weights=weights,
    )
    total = count_in_lists(context.folder, "regions", "objectness")
    return Result(metrics={**summary.metrics, "num_regions": total, "num_images": summary.num_rows["regions"]})


def _check_images(images: Artifact, proposals: Artifact) -> None:
    searched = proposals.manifest.get("inputs", {}).get("images", {}).get("key", images.key)
    if searched != images.key:
        raise ValueError(
            f"proposals {proposals.key} were found in the images {searched}, not in {images.key}; give the images that "
            "they were found in"
        )


STAGE = Stage(
    name="encode_regions",
    version=3,
    inputs={"images": ("images",), "proposals": ("proposals",), "clip": ("clip", "region_encoder")},
    output="regions",
    run=encode_regions,
    resumable=True,
)
