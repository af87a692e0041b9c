"""The whole stage `label_regions` over an artifact of seeded regions, in place and through Ray, and its parts."""

from __future__ import annotations

import functools
import json
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from relabel_rates import product_seconds
from torch import Tensor
from torch.nn import functional

from regionclip import schemas
from regionclip.embeddings import save_embeddings
from regionclip.grouped import list_column
from stages import label_regions, parts, rows
from stages.contract import MANIFEST, Artifact, Resources
from stages.local_context import LocalContext
from stages.ray_session import ensure_ray
from stages.storage import Folder

IMAGES_A_PART = 256  # as encode_regions writes them
STEPS = {
    "read": (rows.RowReader, "take"),
    "unpack": (label_regions, "read_features"),
    "match": (label_regions, "label"),
    "tables": (label_regions, "labels_table"),
    "write": (parts, "write_table"),
    "checksum": (Folder, "checksum"),
    "totals": (label_regions, "_totals"),
}


@dataclass(frozen=True)
class Settings:
    """Regions of width `width`, `boxes` in each image, that are labelled with `concepts` by `threads` threads."""

    regions: int
    boxes: int
    width: int
    concepts: int
    temperature: float
    top_k: int
    threads: int


@dataclass
class Progress(LocalContext):
    """Notes how many images were done when."""

    done: list[tuple[int, float]] = field(default_factory=list)

    def advance(self, done: int, total: int, unit: str) -> None:
        self.done.append((done, time.perf_counter()))


def stage_rates(settings: Settings) -> dict[str, Any]:
    """Regions a second of the stage in place and on Ray, beside the product's rate before, between and after."""
    torch.set_num_threads(settings.threads)
    random = torch.Generator().manual_seed(0)
    pool = functional.normalize(torch.randn(settings.concepts, settings.width, generator=random), dim=1)
    block = _features(random, 16_384, settings.width)

    def product() -> float:
        return min(product_seconds(block, pool, "cpu") for _ in range(3))

    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="relabel-") as scratch:
        inputs = make_inputs(settings, Path(scratch), random, pool)
        products = [product()]
        for name, resources in _ways(settings.threads).items():
            output = Folder(f"{scratch}/{name}")
            found[name] = _run(settings, Progress(output, resources), inputs)
            products.append(product())
            output.clear()
    rate = len(block) / statistics.median(products)
    for way in found.values():
        way["share_of_product_rate"] = round(way["regions_a_second"] / rate, 3)
        way["share_once_started"] = round(way["regions_a_second_once_started"] / rate, 3)
    return {**vars(settings), "product_regions_a_second": round(rate), "ways": found}


def _ways(threads: int) -> dict[str, Resources]:
    return {
        f"in place, {threads} threads": Resources(num_workers=0, num_cpus=threads),
        f"Ray, {threads} workers": Resources(num_workers=threads, num_cpus=1),
    }


def make_inputs(settings: Settings, scratch: Path, random: torch.Generator, pool: Tensor) -> dict[str, Artifact]:
    """Regions as `encode_regions` writes them, and embeddings."""
    regions, embeddings = Folder(str(scratch / "regions")), Folder(str(scratch / "embeddings"))
    num_images = settings.regions // settings.boxes
    for number, start in enumerate(range(0, num_images, IMAGES_A_PART)):
        ids = np.arange(start, min(start + IMAGES_A_PART, num_images))
        features = _features(random, len(ids) * settings.boxes, settings.width)
        parts.write_table(regions, f"regions-{number:05d}", _regions_table(ids, features), durable=False)
    save_embeddings(scratch / "embeddings", [f"concept {number}" for number in range(len(pool))], pool)
    for folder in (regions, embeddings):
        folder.write(MANIFEST, json.dumps({}).encode())
    return {
        "regions": Artifact("regions", "seeded", regions),
        "embeddings": Artifact("embeddings", "seeded", embeddings),
    }


def _features(random: torch.Generator, num_rows: int, width: int) -> Tensor:
    return functional.normalize(torch.randn(num_rows, width, generator=random), dim=1).half()


def _regions_table(ids: np.ndarray, features: Tensor) -> Any:
    import pyarrow as pa

    schema = schemas.regions(features.shape[1])
    counts = np.full(len(ids), len(features) // len(ids))
    corner = np.random.default_rng(int(ids[0])).uniform(0, 200, (len(features), 2)).astype(np.float32)
    lists = {
        "boxes": np.concatenate([corner, corner + 50], axis=1),
        "objectness": corner[:, 0],
        "features": features.numpy(),
    }
    columns = {
        "image_id": pa.array(ids),
        "uri": pa.array([f"{image:012d}.jpg" for image in ids]),
        "sha256": pa.array([f"{image:064x}" for image in ids]),
        "width": pa.array(np.full(len(ids), 640, np.int32)),
        "height": pa.array(np.full(len(ids), 480, np.int32)),
    }
    columns |= {name: list_column(values, counts, schema.field(name).type.value_type) for name, values in lists.items()}
    return pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)


def _run(settings: Settings, progress: Progress, inputs: dict[str, Artifact]) -> dict[str, Any]:
    config = label_regions.LabelsConfig(temperature=settings.temperature, top_k=settings.top_k)
    on_ray = progress.resources.num_workers > 0
    if on_ray:
        ensure_ray()
    with _timed_steps() as steps:
        began = time.perf_counter()
        result = label_regions.STAGE.run(progress, config, **inputs)
        total = time.perf_counter() - began
    num_regions = int(result.metrics["num_regions"])
    assert num_regions == settings.regions // settings.boxes * settings.boxes
    round_ = max(1, progress.resources.num_workers)  # the first part of each worker bears its start
    (first, since), (last, until) = progress.done[min(round_, len(progress.done) - 1)], progress.done[-1]
    steps["rest"] = total - sum(steps.values())
    written = sum(progress.folder.checksum(name)[1] for name in progress.folder.names())
    return {
        "seconds": round(total, 2),
        "seconds_to_the_first_parts": round(since - began, 2),
        "regions_a_second": round(num_regions / total),
        "regions_a_second_once_started": round((last - first) * settings.boxes / (until - since))
        if last > first
        else 0,
        "bytes_a_region": round(written / num_regions),
        "share_of_time": {} if on_ray else {name: round(seconds / total, 3) for name, seconds in steps.items()},
    }


@contextmanager
def _timed_steps() -> Iterator[dict[str, float]]:
    """Seconds that this process spends in each of `STEPS`."""
    spent: dict[str, float] = defaultdict(float)
    with ExitStack() as patches:
        for name, (owner, function) in STEPS.items():
            patches.enter_context(mock.patch.object(owner, function, _timed(getattr(owner, function), name, spent)))
        yield spent


def _timed(function: Callable[..., Any], name: str, spent: dict[str, float]) -> Callable[..., Any]:
    @functools.wraps(function)
    def timed(*arguments: Any, **named: Any) -> Any:
        began = time.perf_counter()
        try:
            return function(*arguments, **named)
        finally:
            spent[name] += time.perf_counter() - began

    return timed


def print_stage(results: dict[str, Any]) -> None:
    """What `stage` found."""
    print(
        f"{results['regions']:,} regions of width {results['width']}, {results['concepts']:,} concepts, "
        f"top {results['top_k']}"
    )
    print(f"{'product alone':<20} {results['product_regions_a_second']:>9,} regions/s")
    for name, way in results["ways"].items():
        print(
            f"{name:<20} {way['regions_a_second']:>9,} regions/s, "
            f"{way['share_of_product_rate']} of the product's rate; "
            f"{way['seconds']} s, {way['bytes_a_region']} bytes a region written"
        )
        if way["regions_a_second_once_started"]:
            print(
                f"{'  once started':<20} {way['regions_a_second_once_started']:>9,} regions/s, "
                f"{way['share_once_started']} of the product's rate; "
                f"the first parts took {way['seconds_to_the_first_parts']} s"
            )
        if way["share_of_time"]:
            print("  " + ", ".join(f"{step} {share:.1%}" for step, share in way["share_of_time"].items()))
