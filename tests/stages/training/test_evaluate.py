from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import Any

import pytest
import torch

from regionclip.detections import InferenceConfig
from regionclip.embeddings import save_embeddings
from regionclip.images import ResizeConfig
from regionclip.loading import LoadedBatch
from stages import evaluate
from stages.contract import Artifact
from stages.evaluate import EvaluateConfig
from stages.parts import read_table

CONFIG = EvaluateConfig(
    base=("cat", "cup", "kite"),
    novel=("anchor",),
    temperature=0.1,
    inference=InferenceConfig(score_threshold=0.0),
    resize=ResizeConfig("detection", 64, 96),
    part_size=2,
)
Inputs = dict[str, Artifact]


@pytest.fixture
def inputs(world: Any) -> Inputs:
    return {"images": world["test_images"], "boxes": world["test_boxes"], "embeddings": world["embeddings"]}


def report(artifact: Artifact) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(artifact.folder.read("metrics.json"))
    return parsed


def test_box_accuracy_is_the_share_of_true_boxes_named_right(world: Any, encoder: Artifact, inputs: Inputs) -> None:
    artifact = world.run(evaluate.STAGE, CONFIG, "named", model=encoder, **inputs)
    named = read_table(artifact, "named_boxes").to_pylist()
    truth = read_table(world["test_boxes"], "boxes").to_pylist()
    assert [(row["image_id"], row["box"], row["category"]) for row in named] == [
        (row["image_id"], row["box"], row["category"]) for row in truth
    ]
    for group, names in (("base", CONFIG.base), ("novel", CONFIG.novel), ("all", CONFIG.base + CONFIG.novel)):
        right = [row["predicted"] == row["category"] for row in named if row["category"] in names]
        assert report(artifact)["metrics"][f"box_accuracy_{group}"] == pytest.approx(sum(right) / len(right))
    assert "AP50_all" not in report(artifact)["metrics"]


def test_an_encoder_with_proposals_is_a_zero_shot_detector(world: Any, encoder: Artifact, inputs: Inputs) -> None:
    artifact = world.run(
        evaluate.STAGE, CONFIG, "zero_shot", model=encoder, proposals=world["test_proposals"], **inputs
    )
    assert {"box_accuracy_novel", "AP50_novel", "AP50_base", "AP50_all"} <= report(artifact)["metrics"].keys()


def test_a_report_of_a_detector_holds_groups_classes_and_detections(
    world: Any, detector: Artifact, inputs: Inputs
) -> None:
    del inputs["embeddings"]
    proposals = world["test_proposals"]
    artifact = world.run(evaluate.STAGE, CONFIG, "detected", model=detector, proposals=proposals, **inputs)
    found = report(artifact)
    assert found["groups"]["novel"] == ["anchor"]
    assert found["per_class"]["cup"].keys() == {"group", "num_boxes", "AP", "AP50", "AP75"}
    base = [found["per_class"][name]["AP50"] for name in CONFIG.base]
    assert found["metrics"]["AP50_base"] == pytest.approx(sum(base) / 3)
    assert found["metrics"]["AP50_novel"] == pytest.approx(found["per_class"]["anchor"]["AP50"])
    sizes = {row["image_id"]: row for row in read_table(world["test_images"], "images").to_pylist()}
    detections = read_table(artifact, "detections").to_pylist()
    assert {row["image_id"] for row in detections} == sizes.keys()
    for row in detections:
        image = sizes[row["image_id"]]
        assert row["box"][2] <= image["width"] + 1e-3
        assert row["box"][3] <= image["height"] + 1e-3


def test_an_encoder_needs_the_class_embeddings_and_a_detector_proposals(
    world: Any, encoder: Artifact, detector: Artifact, inputs: Inputs
) -> None:
    with pytest.raises(ValueError, match="is evaluated on proposals"):
        world.run(evaluate.STAGE, CONFIG, "x", model=detector, **inputs)
    del inputs["embeddings"]
    with pytest.raises(ValueError, match="needs the embeddings of the classes"):
        world.run(evaluate.STAGE, CONFIG, "x", model=encoder, **inputs)


@pytest.mark.parametrize(
    ("names", "width", "message"),
    [
        (["cat", "cup", "kite"], 32, "class table of the model has 3 names, the boxes 4; they differ in anchor"),
        (["cat", "cup", "kite", "dog"], 32, "differ in anchor, dog"),
        (["cat", "cup", "kite", "anchor"], 16, "encoder's features are 32 wide"),
    ],
)
def test_a_class_table_that_does_not_fit_is_refused(
    world: Any, encoder: Artifact, inputs: Inputs, names: list[str], width: int, message: str
) -> None:
    other = world.artifact("embeddings", f"{names[-1]}_{width}")
    save_embeddings(other.folder.local(), names, torch.ones(len(names), width))
    with pytest.raises(ValueError, match=message):
        world.run(evaluate.STAGE, CONFIG, "x", model=encoder, **inputs | {"embeddings": other})


def test_groups_that_leave_out_a_class_are_refused(world: Any, encoder: Artifact, inputs: Inputs) -> None:
    with pytest.raises(ValueError, match="base and novel classes has 3 names, the boxes 4; they differ in kite"):
        world.run(evaluate.STAGE, replace(CONFIG, base=("cat", "cup")), "x", model=encoder, **inputs)


def test_images_too_narrow_for_the_encoder_are_rejected_and_the_pixels_are_its_weights_own(
    world: Any, encoder: Artifact, inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    narrow = replace(CONFIG, resize=ResizeConfig("detection", 12, 24))
    with pytest.raises(ValueError, match=r"items are rejected.*each side needs 16.*raise max_rejected_fraction"):
        world.run(evaluate.STAGE, narrow, "narrow", model=encoder, **inputs)
    normalized, seen = LoadedBatch.normalized, set()

    def normalize(batch: LoadedBatch, mean: Any, std: Any, device: str) -> torch.Tensor:
        seen.add((mean, std))
        return normalized(batch, mean, std, device)

    other = world.artifact("region_encoder", "other_pixels", marks=[])
    shutil.copytree(encoder.folder.local(), other.folder.local(), dirs_exist_ok=True)
    wanted: dict[str, Any] = {"mean": [0.2, 0.3, 0.4], "std": [0.5, 0.6, 0.7]}
    other.folder.write("clip.json", json.dumps(json.loads(other.folder.read("clip.json")) | wanted).encode())
    monkeypatch.setattr(LoadedBatch, "normalized", normalize)
    world.run(evaluate.STAGE, CONFIG, "pixels", model=other, **inputs)
    assert seen == {tuple(map(tuple, wanted.values()))}
