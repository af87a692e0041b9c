"""Region labels in, one page to judge and compare them by out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import ijson

from pipelines import inputs
from pipelines.concept_pool import concept_pool
from pipelines.config import PipelineConfig, SplitConfig
from pipelines.pseudo_label import pseudo_label
from pipelines.runner import Runner
from pipelines.store import find_artifact
from regionclip.source_files import file_system, is_file
from stages import report_labels
from stages.contract import Artifact
from stages.lineage import upstream


def label_report(
    config: PipelineConfig,
    run: Runner,
    keys: Sequence[str] = (),
    candidates: Sequence[Literal["pool", "captions", "weighted"]] = (),
    truth: str | None = None,
) -> Artifact:
    """The page about the labels of these keys, or about those of the config, one set for each of the candidates.

    truth: an annotation file of the data folder, in place of that of the train split, whose boxes labels are judged by.
    """
    if keys and candidates:
        raise ValueError(f"keys {', '.join(keys)} and candidates {', '.join(candidates)}; give one of the two")
    sets = [_labels(run, key) for key in keys]
    images = inputs.images(config, run, config.data.train)
    if keys:
        _check_images(sets, images)
        concepts = _pool(sets[0])
    else:
        plans = [replace(config, labels=replace(config.labels, candidates=each)) for each in candidates]
        sets = [pseudo_label(plan, run) for plan in plans or [config]]
        concepts = concept_pool(config, run)
    if twice := [found.key for index, found in enumerate(sets) if found in sets[:index]]:
        raise ValueError(f"the labels {twice[0]} are asked for twice; name different ones")
    classes = {"base": config.classes.base, "novel": config.classes.novel}
    return run(
        report_labels.stage_for(len(sets) - 1),
        replace(config.labels_report, groups={**classes, **config.labels_report.groups}),
        images=images,
        region_labels=sets[0],
        concepts=concepts,
        boxes=_truth(config, run, truth),
        **{f"labels_{index}": found for index, found in enumerate(sets) if index},
    )


def _labels(run: Runner, key: str) -> Artifact:
    found = find_artifact(run.store, key)
    if found.kind != "region_labels":
        raise ValueError(f"{key} is a {found.kind}; give the key of region_labels ('rgc ls' lists them)")
    return found


def _check_images(sets: Sequence[Artifact], images: Artifact) -> None:
    for labels in sets:
        *_, oldest = upstream(labels, ("region_labels", "regions"))
        labelled = oldest.manifest["inputs"].get("images", {}).get("key", images.key)
        if labelled != images.key:
            raise ValueError(
                f"labels {labels.key} are of the images {labelled}, the config's are {images.key}; give the config "
                "that the labels were made with"
            )


def _pool(labels: Artifact) -> Artifact | None:
    """The concepts that were embedded for these labels; None where the store does not hold them."""
    *_, last = upstream(labels, ("region_labels", "embeddings", "concepts"))
    return last if last.kind == "concepts" else None


def _truth(config: PipelineConfig, run: Runner, truth: str | None) -> Artifact | None:
    """The annotated boxes of the labelled images, of all classes; None where the train split has none."""
    train = config.data.train
    if truth is not None:
        return inputs.boxes(config, run, replace(train, instances=truth, split=None), (), "data.train")
    root = config.data.root
    return inputs.boxes(config, run, train, ()) if root is None or _has_boxes(root, train) else None


def _has_boxes(root: str, split: SplitConfig) -> bool:
    """Whether the annotation file of a split is there and has a box in one of its images."""
    files, folder = file_system(root)
    path = f"{folder}/{split.instances}"
    if not is_file(files, path, f"{root}/{split.instances}"):
        return False
    with files.open(path, "rb") as file:
        records = ijson.items(file, "images.item")
        images = {record.get("id") for record in records if split.split in (None, record.get("split"))}
    with files.open(path, "rb") as file:
        return any("bbox" in each and each.get("image_id") in images for each in ijson.items(file, "annotations.item"))
