"""Region features + concept embeddings -> region labels; no image is opened, so a new pool costs no GPU pass."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from regionclip.concepts.parser import ConceptParser
from regionclip.embeddings import check_width, load_embeddings, order_sha256
from regionclip.grouped import grouped_lists, list_column
from regionclip.matching import confident, match
from regionclip.schemas import REGION_LABELS
from stages.contract import Artifact, Context, Result, Stage
from stages.parts import iter_tables, process_parts, read_table
from stages.rows import RowReader, RowRef, row_refs
from stages.storage import Folder

CONCEPTS = "concepts.json"


@dataclass(frozen=True)
class LabelsConfig:
    """How a region gets its concept, and when it is kept.

    threshold: the label's probability must exceed it. pool_threshold: so must its probability over the whole pool,
    which differs where captions guide the labels.
    top_k: likeliest concepts stored of a region.
    candidates: 'pool' weighs all concepts alike, as the method does. Two departures from it read the captions of the
    image: 'captions' allows only the concepts they name, and keeps no region where they name none; 'weighted'
    multiplies the odds of those by `caption_weight`.
    part_size: images of one part, the piece that is redone after an interruption.
    """

    temperature: float = 0.01
    threshold: float = 0.1
    pool_threshold: float = 0.0
    top_k: int = 20
    candidates: Literal["pool", "captions", "weighted"] = "pool"
    caption_weight: float = 10.0
    part_size: int = 256

    def __post_init__(self) -> None:
        if self.candidates not in ("pool", "captions", "weighted"):
            raise ValueError(f"candidates is '{self.candidates}'; choose 'pool', 'captions' or 'weighted'")
        if self.top_k < 1 or self.caption_weight <= 0 or self.temperature <= 0:
            raise ValueError(
                f"top_k {self.top_k}, caption_weight {self.caption_weight} and temperature {self.temperature} "
                "must be above 0"
            )


class Labels(NamedTuple):
    """concept_ids int64 [R, k] and log_probabilities float32 [R, k], the likeliest first; keep bool [R]."""

    concept_ids: Tensor
    log_probabilities: Tensor
    keep: Tensor


def label(features: Tensor, embeddings: Tensor, config: LabelsConfig, named: Sequence[int]) -> Labels:
    """Labels of one image's regions [R, D] among the concepts [N, D]; `named` are those its captions name."""
    log_probabilities = match(features, embeddings, config.temperature)
    pool = log_probabilities
    if named and config.candidates != "pool":
        only = config.candidates == "captions"
        prior = torch.full((1, len(embeddings)), -math.inf if only else 0.0)
        prior[0, list(named)] = 0.0 if only else math.log(config.caption_weight)
        log_probabilities = match(features, embeddings, config.temperature, prior)
    top = log_probabilities.topk(min(config.top_k, len(embeddings)), dim=1)
    keep = confident(top.values[:, 0].exp(), config.threshold, keep_all_if_none=False)
    keep &= confident(pool.gather(1, top.indices[:, :1])[:, 0].exp(), config.pool_threshold, keep_all_if_none=False)
    if config.candidates == "captions" and not named:
        keep = torch.zeros_like(keep)
    return Labels(top.indices, top.values, keep)


@dataclass(frozen=True)
class CaptionedRegions:
    """Where the regions of an image stand, and its captions (left out where labels do not depend on them)."""

    regions: RowRef
    captions: tuple[str, ...]


class RegionLabeller:
    """Labels the regions of one part; rows of `schemas.REGION_LABELS`."""

    def __init__(self, config: LabelsConfig, regions: Folder, concepts: Sequence[str], embeddings: Tensor) -> None:
        self._config, self._embeddings = config, embeddings
        self._regions = RowReader(regions)
        self._parser = ConceptParser(concepts)
        self._ids = {concept: row for row, concept in enumerate(concepts)}

    def __call__(self, items: Sequence[CaptionedRegions]) -> dict[str, pa.Table]:
        table = self._regions.take([item.regions for item in items])
        regions = grouped_lists(table, ["features"])
        counts = np.diff(regions.offsets)
        features = torch.split(torch.from_numpy(regions["features"].astype(np.float32)), counts.tolist())
        made = [
            label(of_image, self._embeddings, self._config, self._named(item.captions))
            for of_image, item in zip(features, items, strict=True)
        ]
        columns = [
            *(table[name] for name in ("image_id", "width", "height", "boxes", "objectness")),
            list_column(torch.cat([each.concept_ids for each in made]).int().numpy(), counts, pa.list_(pa.int32())),
            list_column(torch.cat([each.log_probabilities for each in made]).numpy(), counts, pa.list_(pa.float32())),
            list_column(torch.cat([each.keep for each in made]).numpy(), counts, pa.bool_()),
        ]
        return {"region_labels": pa.Table.from_arrays(columns, schema=REGION_LABELS)}

    def _named(self, captions: Iterable[str]) -> list[int]:
        return sorted({self._ids[concept] for caption in captions for concept in self._parser.concepts_of(caption)})


def label_regions(
    context: Context,
    config: LabelsConfig,
    regions: Artifact,
    embeddings: Artifact,
    captions: Artifact | None = None,
) -> Result:
    """Write `region_labels-*.parquet`, and the names behind the concept ids as `concepts.json`."""
    concepts, table = load_embeddings(embeddings.folder.local())
    first = next(iter_tables(regions, "regions", ["features"]))
    check_width(table, first.schema.field("features").type.value_type.list_size, f"embeddings {embeddings.key}")
    refs, rows = row_refs(regions, "regions", ["image_id"])
    texts = _captions_by_image(config, captions)
    items = [
        CaptionedRegions(ref, tuple(texts.get(image_id, ())))
        for ref, image_id in zip(refs, rows["image_id"].to_pylist(), strict=True)
    ]
    arguments = {"config": config, "regions": regions.folder, "concepts": concepts, "embeddings": table}
    summary = process_parts(context, items, config.part_size, RegionLabeller, arguments, ("region_labels",), 0.0)
    names = {"concepts": concepts, "order_sha256": order_sha256(concepts)}
    context.folder.write(CONCEPTS, json.dumps(names, indent=1, ensure_ascii=False).encode())
    return Result(metrics={"num_images": summary.num_items, **_totals(context.folder)})


def _captions_by_image(config: LabelsConfig, captions: Artifact | None) -> dict[int, list[str]]:
    if config.candidates == "pool":
        return {}
    if captions is None:
        raise ValueError(f"candidates '{config.candidates}' needs captions of the images; give them or choose 'pool'")
    by_image: dict[int, list[str]] = {}
    for row in read_table(captions, "captions", ["image_id", "caption"]).to_pylist():
        by_image.setdefault(row["image_id"], []).append(row["caption"])
    by_image.pop(None, None)  # type: ignore[call-overload]
    if not by_image:
        raise ValueError("no caption belongs to an image; give captions with image ids or choose candidates 'pool'")
    return by_image


def _totals(folder: Folder) -> dict[str, float]:
    """Regions, kept ones, and concepts that label a kept one."""
    num_regions = num_kept = 0
    used: set[int] = set()
    for table in iter_tables(folder, "region_labels", ["keep", "concept_ids"]):
        keep = pc.list_flatten(table["keep"])
        first = pc.list_element(pc.list_flatten(table["concept_ids"]), 0)
        num_regions += len(keep)
        num_kept += pc.sum(keep).as_py() or 0
        used.update(pc.unique(first.filter(keep)).to_pylist())
    return {"num_regions": num_regions, "num_kept_regions": num_kept, "num_used_concepts": len(used)}


STAGE = Stage(
    name="label_regions",
    version=1,
    inputs={"regions": ("regions",), "embeddings": ("embeddings",), "captions": ("captions",)},
    output="region_labels",
    run=label_regions,
    optional=frozenset({"captions"}),
    resumable=True,
)
