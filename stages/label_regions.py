"""Region features + concept embeddings -> region labels; no image is opened, so a new pool costs no GPU pass."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from regionclip import schemas
from regionclip.concepts.finding import ConceptParser
from regionclip.embeddings import DESCRIPTION, check_width, load_embeddings, order_sha256
from regionclip.grouped import grouped_rows, list_column
from regionclip.matching import Matches, confident, match_top
from regionclip.region_features import feature_width, read_features
from regionclip.teachers.memory import keep_freed_memory
from stages.contract import WORK, Artifact, Context, Result, Stage
from stages.parts import iter_tables, process_parts, read_table, write_table
from stages.rows import RowReader, RowRef, TableRows, column_values, list_lengths, table_rows, table_schema
from stages.storage import Folder

CONCEPTS = "concepts.json"
TEACHER = "teacher"


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
    top_k: int = 32
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
        if not (0 <= self.threshold <= 1 and 0 <= self.pool_threshold <= 1):
            raise ValueError(
                f"threshold {self.threshold} and pool_threshold {self.pool_threshold} are probabilities; give 0 to 1"
            )


class Labels(NamedTuple):
    """The likeliest concepts of regions [R], and which regions to keep, bool [R]."""

    matches: Matches
    keep: Tensor


def label(
    features: Tensor,
    embeddings: Tensor,
    config: LabelsConfig,
    counts: Sequence[int],
    named: Sequence[Sequence[int]] | None = None,
) -> Labels:
    """Labels of regions [R, D] among the concepts [N, D].

    counts: regions of each image in turn. named: the concepts that the captions of each image name; not needed where
    the candidates are the whole pool.
    """
    image = torch.repeat_interleave(torch.tensor(counts, device=features.device))
    prior = None if named is None or config.candidates == "pool" else _caption_prior(config, named, len(embeddings))
    matches = match_top(features, embeddings, config.temperature, config.top_k, prior, image)
    keep = confident(matches.log_probabilities[:, 0].exp(), config.threshold, keep_all_if_none=False)
    keep &= confident(matches.pool_log_probabilities[:, 0].exp(), config.pool_threshold, keep_all_if_none=False)
    if named is not None and config.candidates == "captions":
        keep &= torch.tensor([bool(each) for each in named], device=features.device)[image]
    return Labels(matches, keep)


def _caption_prior(config: LabelsConfig, named: Sequence[Sequence[int]], num_concepts: int) -> Tensor:
    """The log-prior of each image [I, N]; all alike where the captions name no concept."""
    only = config.candidates == "captions"
    prior = torch.zeros(len(named), num_concepts)
    for row, concepts in zip(prior, named, strict=True):
        if concepts:
            row.fill_(-math.inf if only else 0.0)
            row[list(concepts)] = 0.0 if only else math.log(config.caption_weight)
    return prior


class RegionLabeller:
    """Labels the regions of one part; rows of `schemas.REGION_LABELS`, whose metadata is `about`.

    captions: tables of the names and rows of those of the regions, with the captions of each image; None where labels
    do not depend on them.
    """

    def __init__(
        self,
        config: LabelsConfig,
        regions: Folder,
        captions: Folder | None,
        concepts: Sequence[str],
        embeddings: Tensor,
        surface_forms: Mapping[str, Sequence[str]],
        about: Mapping[str, str],
        device: str,
    ) -> None:
        keep_freed_memory()
        self._config, self._about, self._device = config, about, device
        self._embeddings = embeddings.to(device)
        self._regions = RowReader(regions)
        self._captions = None if captions is None else RowReader(captions)
        self._parser = None if captions is None else ConceptParser(concepts, surface_forms)
        self._ids = {concept: row for row, concept in enumerate(concepts)}

    def __call__(self, rows: Sequence[RowRef]) -> dict[str, pa.Table]:
        table = self._regions.take(rows)
        regions = read_features(table)
        counts = np.diff(regions.offsets)
        features = torch.from_numpy(regions["features"]).to(self._device)
        labels = label(features, self._embeddings, self._config, counts.tolist(), self._named(rows))
        return {"region_labels": labels_table(table, counts, labels, self._about)}

    def _named(self, rows: Sequence[RowRef]) -> list[list[int]] | None:
        """The concepts that the captions of each image name."""
        if self._captions is None or self._parser is None:
            return None
        parser, captions = self._parser, self._captions.take(rows)["captions"]
        named = ({concept for text in texts for concept in parser.concepts_of(text)} for texts in captions.to_pylist())
        return [sorted(self._ids[concept] for concept in concepts) for concepts in named]


def labels_table(regions: pa.Table, counts: np.ndarray, labels: Labels, about: Mapping[str, str]) -> pa.Table:
    """Labels [R] of the regions in the rows of `regions`, `counts` of them in each row."""
    matches, schema = labels.matches, schemas.region_labels(about)
    tensors = {
        "concept_ids": matches.concept_ids.int(),
        "log_probabilities": matches.log_probabilities,
        "keep": labels.keep,
        "pool_log_probabilities": matches.pool_log_probabilities,
        "log_normalizer": matches.log_normalizer,
        "kept_mass": matches.pool_log_probabilities.exp().sum(dim=1).clamp(max=1.0),
        "entropy": matches.entropy,
        "margin": matches.margin,
    }
    columns = {name: regions[name] for name in schema.names if name in regions.column_names}
    for name, values in tensors.items():
        columns[name] = list_column(values.cpu().numpy(), counts, schema.field(name).type.value_type)
    columns["source"] = list_column(np.full(int(counts.sum()), TEACHER), counts, pa.string())
    return pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)


def label_regions(
    context: Context,
    config: LabelsConfig,
    regions: Artifact,
    embeddings: Artifact,
    captions: Artifact | None = None,
    concepts: Artifact | None = None,
) -> Result:
    """Write `region_labels-*.parquet`, and the names behind the concept ids as `concepts.json`.

    concepts: where given, captions name a concept also by the words that were merged into it.
    """
    names, table = load_embeddings(embeddings.folder.local())
    schema = table_schema(regions, "regions", ["uri", "sha256"])
    check_width(table, feature_width(schema), f"embeddings {embeddings.key}")
    rows = table_rows(regions, "regions")
    arguments = {
        "config": config,
        "regions": regions.folder,
        "captions": _write_captions(context, config, captions, regions, rows),
        "concepts": names,
        "embeddings": table,
        "surface_forms": _surface_forms(names, concepts),
        "about": _about(config, names, regions, embeddings),
        "device": context.resources.device,
    }
    weights = list_lengths(regions, "regions", "objectness")
    summary = process_parts(
        context, rows, config.part_size, RegionLabeller, arguments, ("region_labels",), 0.0, weights=weights
    )
    order = {"concepts": names, "order_sha256": order_sha256(names)}
    context.folder.write(CONCEPTS, json.dumps(order, indent=1, ensure_ascii=False).encode())
    return Result(metrics={"num_images": summary.num_items, **_totals(context.folder)})


def _write_captions(
    context: Context, config: LabelsConfig, captions: Artifact | None, regions: Artifact, rows: TableRows
) -> Folder | None:
    """Where the captions of each image stand, in tables of the names and rows of those of the regions.

    None where labels do not depend on them.
    """
    if config.candidates == "pool":
        return None
    if captions is None:
        raise ValueError(f"candidates '{config.candidates}' needs captions of the images; give them or choose 'pool'")
    said = read_table(captions, "captions", ["image_id", "caption"])
    said = said.filter(pc.is_valid(said["image_id"]))
    if not len(said):
        raise ValueError("no caption belongs to an image; give captions with image ids or choose candidates 'pool'")
    number = {"number": np.arange(len(said))}
    by_image = grouped_rows(said["image_id"].to_numpy(), column_values(regions, "regions", "image_id"), number)
    texts = said["caption"].cast(pa.large_string()).combine_chunks().take(pa.array(by_image["number"]))
    folder, row = context.folder.child(WORK), 0
    for part in rows.ranges:
        offsets = by_image.offsets[row : row + len(part) + 1]
        lists = pa.LargeListArray.from_arrays(pa.array(offsets - offsets[0]), texts[offsets[0] : offsets[-1]])
        write_table(folder, part.part, pa.table({"captions": lists}), durable=False)
        row += len(part)
    return folder


def _surface_forms(names: Sequence[str], concepts: Artifact | None) -> dict[str, list[str]]:
    """Further words for each embedded concept: the names merged into it, then how captions wrote it."""
    if concepts is None:
        return {}
    rows = read_table(concepts, "concepts", ["concept", "merged_from", "surface_forms"]).to_pylist()
    forms = {row["concept"]: [*row["merged_from"], *row["surface_forms"]] for row in rows}
    missing = [name for name in names if name not in forms]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(names)} embedded concepts are not in concepts {concepts.key}, first is "
            f"'{missing[0]}'; give the concepts that were embedded"
        )
    return {name: forms[name] for name in names}


def _about(config: LabelsConfig, names: Sequence[str], regions: Artifact, embeddings: Artifact) -> dict[str, str]:
    """What the labels are made of, as metadata of every file: keys of the store and the numbers of the softmax."""
    encoded, embedded = regions.manifest, embeddings.manifest
    made_with: Mapping[str, Any] = json.loads(embeddings.folder.read(DESCRIPTION))  # unlike the config, without a path
    weight = {"caption_weight": f"{config.caption_weight:g}"} if config.candidates == "weighted" else {}
    return {
        "regions": regions.key,
        "teacher": _input_key(encoded, "clip"),
        "pool": _input_key(embedded, "concepts"),
        "pool_order_sha256": order_sha256(names),
        "embeddings": embeddings.key,
        "templates": str(made_with.get("templates", "")),
        "ensemble": str(made_with.get("ensemble", "")),
        "temperature": f"{config.temperature:g}",
        "candidates": config.candidates,
        **weight,
    }


def _input_key(manifest: Mapping[str, Any], name: str) -> str:
    """The key of an input; empty for a source, which has none."""
    return str(manifest.get("inputs", {}).get(name, {}).get("key", ""))


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
    version=6,
    inputs={
        "regions": ("regions",),
        "embeddings": ("embeddings",),
        "captions": ("captions",),
        "concepts": ("concepts",),
    },
    output="region_labels",
    run=label_regions,
    optional=frozenset({"captions", "concepts"}),
    resumable=True,
)
