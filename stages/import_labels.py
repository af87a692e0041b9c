"""Region labels + a corrected COCO JSON file -> region labels with the corrections written over them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from regionclip.labels.choosing import Choice
from regionclip.labels.correcting import correct
from regionclip.labels.corrections import Corrections, read_corrections
from regionclip.schemas import rejected_table
from regionclip.source_files import named_sha256, on_disk
from stages.contract import Artifact, Context, Result, Stage
from stages.parts import REJECTED, iter_tables, read_table, write_table
from stages.rows import count_in_lists, table_schema

CONCEPTS = "concepts.json"


@dataclass(frozen=True)
class ImportLabelsConfig:
    """corrections: path or fsspec URI of the file, COCO JSON as 'rgc labels export' writes it.

    tolerance: pixels by which each side of a box may differ from its region's. absent: what the lack of a region that
    was shown means: 'drop' it, or 'keep' it as it is. min_score: that of the export, where the file has lost its info.
    max_rejected_fraction: how many annotations, of all, may belong to no region or name no concept; their regions stay
    as they are.
    """

    corrections: str
    tolerance: float = 1.0
    absent: Literal["drop", "keep"] = "drop"
    min_score: float = 0.0
    max_rejected_fraction: float = 0.1

    def __post_init__(self) -> None:
        if self.absent not in ("drop", "keep"):
            raise ValueError(f"absent is '{self.absent}'; choose 'drop' or 'keep'")
        if self.tolerance < 0:
            raise ValueError(f"tolerance {self.tolerance} is below 0; give pixels, 0 or more")


def import_labels(context: Context, config: ImportLabelsConfig, region_labels: Artifact) -> Result:
    """Write `region_labels-*.parquet`, `concepts.json` as it was, and annotations not taken as `rejected.parquet`."""
    names = json.loads(region_labels.folder.read(CONCEPTS))
    table_schema(region_labels, "region_labels", ["uri"])
    images = read_table(region_labels, "region_labels", ["image_id", "uri"])
    with on_disk(config.corrections) as path:
        corrections = _corrections(config, path, names["concepts"], region_labels, images)
    if corrections.num_renumbered:
        counted = f"{corrections.num_renumbered:,} of {len(corrections.by_image):,} images"
        context.say(f"{counted} have other ids in {path.name} than in the labels; their names say which they are")
    source = f"sha256:{_sha256(config)}"
    rejected = list(corrections.rejected)
    totals: dict[str, int] = {}
    before = 0
    for part, table in enumerate(iter_tables(region_labels, "region_labels")):
        corrected = correct(table, corrections, source, config.tolerance, config.absent, before)
        before += pc.sum(pc.list_value_length(table["keep"])).as_py() or 0
        write_table(context.folder, f"region_labels-{part:05d}", _with_source(corrected.table, source))
        rejected += corrected.rejected
        totals = {name: totals.get(name, 0) + count for name, count in corrected.counts.items()}
    _check_rejected(config, corrections, rejected)
    if rejected:
        write_table(context.folder, REJECTED, rejected_table(rejected))
    context.folder.write(CONCEPTS, region_labels.folder.read(CONCEPTS))
    counts = {f"num_{name}": count for name, count in totals.items()}
    return Result(
        metrics={
            "num_images": len(images),
            "num_regions": count_in_lists(context.folder, "region_labels", "keep"),
            "num_rejected": len(rejected),
            **counts,
        }
    )


def identity(config: ImportLabelsConfig) -> Mapping[str, Any]:
    """The content of the file in place of its path, and how it is read."""
    return {
        "corrections_sha256": _sha256(config),
        "tolerance": config.tolerance,
        "absent": config.absent,
        "min_score": config.min_score,
    }


def _sha256(config: ImportLabelsConfig) -> str:
    return named_sha256(config.corrections, "give a corrected export of 'rgc labels' (COCO JSON)")


def _corrections(
    config: ImportLabelsConfig, path: Path, concepts: list[str], labels: Artifact, images: pa.Table
) -> Corrections:
    found = read_corrections(path, concepts, images["image_id"].to_pylist(), images["uri"].to_pylist())
    if found.labels not in (None, labels.key) and config.absent == "drop":
        raise ValueError(
            f"{config.corrections} was exported from the labels {found.labels}, not from {labels.key}, so a region "
            "that it lacks may never have been shown; import it there, or set absent to 'keep' to take only what it "
            "states"
        )
    shown = Choice(found.shown.everything, max(found.shown.min_score, config.min_score))
    return replace(found, shown=shown)


def _with_source(table: pa.Table, source: str) -> pa.Table:
    """The table with this file added to those that its metadata names."""
    before = (table.schema.metadata or {}).get(b"corrections", b"").decode().split()
    return table.replace_schema_metadata({**(table.schema.metadata or {}), "corrections": " ".join([*before, source])})


def _check_rejected(config: ImportLabelsConfig, corrections: Corrections, rejected: list[tuple[str, str]]) -> None:
    total = sum(len(of_image) for of_image in corrections.by_image.values()) + len(corrections.rejected)
    if len(rejected) > config.max_rejected_fraction * total:
        item, reason = rejected[0]
        raise ValueError(
            f"{item}: {reason} ({len(rejected)} of {total} annotations are like that); correct the file, or raise "
            f"max_rejected_fraction (now {config.max_rejected_fraction:g}) to leave them out"
        )


STAGE = Stage(
    name="import_labels",
    version=2,
    inputs={"region_labels": ("region_labels",)},
    output="region_labels",
    run=import_labels,
    identity=identity,
)
