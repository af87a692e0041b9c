"""Real photos through every stage, with untrained weights and small sizes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.config import PipelineConfig
from pipelines.loading import load
from pipelines.store import list_artifacts
from stages.contract import Artifact
from stages.parts import read_table
from stages.storage import Folder

SMALL = [
    "teacher.model=rgc-test-rn",
    "teacher.pretrained=null",
    "teacher.allow_untrained=true",
    *(
        f"{stage}.resize={{rule: {rule}, short_side: 64, max_side: 96}}"
        for stage, rule in {
            "proposer_training": "detection",
            "proposals": "detection",
            "regions": "pretraining",
            "pretrain": "pretraining",
            "transfer": "detection",
            "evaluate": "detection",
        }.items()
    ),
    "proposer_training.num_steps=2",
    "proposals.proposals.post_nms=10",
    "regions.num_regions=5",
    "labels.threshold=0",
    "pretrain.num_steps=2",
    "transfer.num_steps=2",
    "evaluate.inference.score_threshold=0",
    "evaluate.inference.max_detections=5",
    "embeddings.templates=plain",
    "resources={default: {num_workers: 0, num_cpus: 1, batch_size: 8}, stages: {}}",
]


@pytest.fixture(scope="module")
def photos(shared: Path, smoke: Any, rgc: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Artifact]]:
    """The artifacts by the stage that made them, of the preset for photos."""
    store = tmp_path_factory.mktemp("photos") / "store"
    overrides = [f"data.root={shared / 'data' / 'coco_mini'}", *SMALL]
    outcome = rgc(*smoke.arguments("all", *overrides, store=store, config="coco_small"))
    assert (outcome.code, outcome.err) == (0, "")
    made: dict[str, list[Artifact]] = {}
    for artifact in list_artifacts(Folder(str(store))):
        made.setdefault(artifact.manifest["stage"], []).append(artifact)
    return made


@pytest.fixture(scope="module")
def annotations(shared: Path) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads((shared / "data/coco_mini/annotations/instances.json").read_text())
    return parsed


@pytest.fixture(scope="module")
def config() -> PipelineConfig:
    return load(PipelineConfig, "coco_small", ["data.root=photos"])


def ids(annotations: dict[str, Any], split: str) -> set[int]:
    return {image["id"] for image in annotations["images"] if image["split"] == split}


def found_by(photos: dict[str, list[Artifact]], stage: str, name: str) -> Artifact:
    """The one artifact that all of a stage took as the input `name`."""
    given = {artifact.manifest["inputs"][name]["key"] for artifact in photos[stage]}
    (artifact,) = (each for made in photos.values() for each in made if each.key in given)
    return artifact


def test_every_train_photo_is_labelled_with_regions_inside_it(
    photos: dict[str, list[Artifact]], annotations: dict[str, Any]
) -> None:
    (labels,) = photos["label_regions"]
    rows = read_table(labels, "region_labels").to_pylist()
    assert {row["image_id"] for row in rows} == ids(annotations, "train2017")
    names = json.loads(labels.folder.read("concepts.json"))["concepts"]
    assert {"man", "table", "street"} & set(names)
    for row in rows:
        boxes = np.array(row["boxes"])
        assert len(boxes) == len(row["keep"]) == len(row["concept_ids"])
        assert (boxes[:, :2] >= 0).all()
        assert (boxes[:, 2] <= row["width"]).all()
        assert (boxes[:, 3] <= row["height"]).all()
        assert all(0 <= concept < len(names) for concepts in row["concept_ids"] for concept in concepts)


def test_only_boxes_of_base_classes_are_learnt_from(
    photos: dict[str, list[Artifact]], annotations: dict[str, Any], config: PipelineConfig
) -> None:
    names = {category["id"]: category["name"] for category in annotations["categories"]}
    train = ids(annotations, "train2017")
    there = [box for box in annotations["annotations"] if box["image_id"] in train]
    base = [box for box in there if names[box["category_id"]] in config.classes.base]
    assert {names[box["category_id"]] for box in there} & set(config.classes.novel)
    for stage in ("transfer", "train_proposer"):
        boxes = read_table(found_by(photos, stage, "boxes"), "boxes")
        assert len(boxes) == len(base)
        assert set(boxes["category"].to_pylist()) <= set(config.classes.base)


def test_the_detector_names_65_classes_and_is_measured_on_the_other_photos(
    photos: dict[str, list[Artifact]], annotations: dict[str, Any], config: PipelineConfig
) -> None:
    classes = [*config.classes.base, *config.classes.novel]
    assert len(classes) == 65
    for detector in photos["transfer"]:
        assert json.loads(detector.folder.read("detector.json"))["classes"] == classes
    for report in photos["evaluate"]:
        assert report.manifest["metrics"]["num_images"] == len(ids(annotations, "val2017"))
    detections = [each for each in photos["evaluate"] if "proposals" in each.manifest["inputs"]]
    for report in detections:
        rows = read_table(report, "detections")
        assert set(rows["image_id"].to_pylist()) <= ids(annotations, "val2017")
        assert len(rows) > 0


def test_the_page_says_that_the_weights_were_untrained(photos: dict[str, list[Artifact]]) -> None:
    (comparison,) = photos["compare_recipes"]
    assert comparison.manifest["marks"] == ["untrained"]
    assert "untrained" in comparison.folder.read("report.html").decode()
