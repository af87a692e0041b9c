"""The whole chain through the command line, once from nothing, then again in every way that must not redo work."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pycocotools.coco import COCO

from pipelines.config import PipelineConfig
from pipelines.loading import load
from pipelines.tracking import upstream_runs
from stages.contract import Artifact
from stages.parts import read_table
from stages.storage import Folder

Rgc = Callable[..., Any]
AFTER_LABELS = {"label_regions", "pretrain", "transfer", "evaluate", "compare_recipes"}


def boxes_of(smoke: Any, artifact: Artifact) -> Artifact:
    key = artifact.manifest["inputs"]["boxes"]["key"]
    return Artifact("boxes", key, Folder(str(smoke.store / "boxes" / key)))


def lines(text: str) -> dict[str, str]:
    """Key -> outcome of every stage line."""
    found = re.findall(r"^\w+ +([0-9a-f]{8})  (.+)$", text, re.MULTILINE)
    return dict(found)


def test_the_chain_ends_with_a_page_and_a_table(smoke: Any) -> None:
    assert (smoke.outcome.code, smoke.outcome.err) == (0, "")
    (comparison,) = smoke.made_by("compare_recipes")
    page = comparison.folder.read("report.html").decode()
    for name in ("plain CLIP start", "whole-pool labels", "caption-guided labels"):
        assert name in page
        assert name in smoke.outcome.out
    assert comparison.folder.path("report.html") in smoke.outcome.out
    assert f"rgc ui --store {smoke.store}" in smoke.outcome.out


def test_a_second_run_writes_nothing(smoke: Any, rgc: Rgc) -> None:
    before = smoke.files()
    again = rgc(*smoke.arguments("all"))
    assert (again.code, again.err) == (0, "")
    assert smoke.files() == before
    assert set(lines(again.out)) == set(lines(smoke.outcome.out))
    assert all(outcome.startswith("reused") for outcome in lines(again.out).values())


def test_another_threshold_repeats_the_labels_and_what_follows(smoke: Any) -> None:
    plan = smoke.plan("labels.threshold=0.5")
    assert {step.stage for step in plan if step.action == "run"} == AFTER_LABELS
    before = {step.artifact for step in smoke.plan()}
    kept = {step.artifact for step in plan if step.action == "reuse"}
    assert kept < before
    assert not {step.stage for step in plan if step.artifact not in before} - AFTER_LABELS


def test_another_vocabulary_repeats_no_pass_over_the_images(smoke: Any) -> None:
    plan = smoke.plan("concepts.min_document_frequency=2")
    assert {step.action for step in plan if step.stage in ("propose_regions", "encode_regions")} == {"reuse"}
    assert "run" in {step.action for step in plan if step.stage == "label_regions"}


def test_resources_change_nothing(smoke: Any) -> None:
    overrides = ["num_workers=3", "num_cpus=2", "num_gpus=1", "batch_size=5"]
    plan = smoke.plan(
        *(f"resources.default.{override}" for override in overrides),
        *(f"resources.stages.pretrain.{override}" for override in overrides),
    )
    assert {step.action for step in plan} == {"reuse"}
    assert plan == smoke.plan()


def test_a_dry_run_prints_every_stage_and_key_and_writes_nothing(smoke: Any, rgc: Rgc, tmp_path: Path) -> None:
    store = tmp_path / "fresh" / "store"
    outcome = rgc("run", "all", "--config", str(smoke.config), "--store", str(store), "--dry-run")
    assert (outcome.code, outcome.err) == (0, "")
    assert not list(tmp_path.iterdir())
    for step in smoke.plan():
        (line,) = (line for line in outcome.out.splitlines() if step.artifact.key in line)
        assert step.stage in line
        assert "run" in line
    assert "reuse" not in outcome.out


def test_boxes_of_novel_classes_reach_no_training(smoke: Any) -> None:
    classes = load(PipelineConfig, str(smoke.config)).classes
    (dataset,) = smoke.made_by("make_scenes")
    scenes = json.loads(dataset.folder.read("annotations/instances.json"))
    train = {image["id"] for image in scenes["images"] if image["split"] == "train"}
    names = {category["id"]: category["name"] for category in scenes["categories"]}
    drawn = {names[box["category_id"]] for box in scenes["annotations"] if box["image_id"] in train}
    assert drawn & set(classes.novel)
    trained = [*smoke.made_by("transfer"), *smoke.made_by("train_proposer")]
    assert len(trained) == 4
    for artifact in trained:
        boxes = boxes_of(smoke, artifact)
        assert set(read_table(boxes, "boxes")["category"].to_pylist()) == drawn & set(classes.base)
        assert set(json.loads(boxes.folder.read("classes.json"))) == set(classes.base)


def test_the_detector_knows_all_classes_and_is_measured_on_them(smoke: Any) -> None:
    classes = load(PipelineConfig, str(smoke.config)).classes
    for detector in smoke.made_by("transfer"):
        assert json.loads(detector.folder.read("detector.json"))["classes"] == [*classes.base, *classes.novel]
    for report in smoke.made_by("evaluate"):
        told = json.loads(boxes_of(smoke, report).folder.read("classes.json"))
        assert set(told) == {*classes.base, *classes.novel}


def test_what_untrained_weights_made_says_so_to_the_end(smoke: Any) -> None:
    untouched = {"make_scenes", "read_images", "read_captions", "read_boxes"}
    untouched |= {"parse_captions", "extract_concepts", "report_concepts", "train_proposer"}
    for step in smoke.plan():
        marked = step.artifact.manifest["marks"] == ["untrained"]
        assert marked == (step.stage not in untouched | {"propose_regions"}), step.stage
    (comparison,) = smoke.made_by("compare_recipes")
    assert json.loads(comparison.folder.read("comparison.json"))["marks"] == ["untrained"]
    assert "untrained" in comparison.folder.read("report.html").decode()
    assert "untrained: the numbers show that the chain runs, no more" in smoke.outcome.out


@pytest.mark.parametrize(
    ("verb", "stage"),
    [
        ("pseudo-label", "label_regions"),
        ("pretrain", "pretrain"),
        ("transfer", "transfer"),
        ("evaluate", "evaluate"),
        ("train-proposer", "train_proposer"),
    ],
)
def test_every_verb_reuses_what_the_whole_chain_made(smoke: Any, verb: str, stage: str) -> None:
    plan = smoke.plan(verb=verb)
    assert {step.action for step in plan} == {"reuse"}
    assert plan[-1].stage == stage


def test_a_verb_prints_its_own_result(smoke: Any, rgc: Rgc) -> None:
    before = smoke.files()
    outcome = rgc(*smoke.arguments("evaluate"))
    assert (outcome.code, outcome.err) == (0, "")
    assert smoke.files() == before
    report = smoke.plan(verb="evaluate")[-1].artifact
    assert report.folder.uri in outcome.out
    assert "AP50_novel" in outcome.out


def test_listing_and_lineage_go_up_to_the_sources(smoke: Any, rgc: Rgc) -> None:
    (comparison,) = smoke.made_by("compare_recipes")
    listed = rgc("ls", "--store", str(smoke.store))
    assert listed.code == 0
    for step in smoke.plan():
        assert step.artifact.key[:8] in listed.out
    shown = rgc("show", comparison.key, "--store", str(smoke.store))
    assert shown.code == 0
    for step in smoke.plan():
        assert (step.artifact.key in shown.out) == (step.stage != "report_concepts"), step.stage


def test_from_the_run_of_a_detector_one_gets_back_to_the_captions(smoke: Any) -> None:
    from mlflow.tracking import MlflowClient

    uri = smoke.tracking
    client = MlflowClient(uri)
    detector = smoke.plan(verb="transfer")[-1].artifact
    runs = client.search_runs([client.get_experiment_by_name("rgc").experiment_id], f"tags.key = '{detector.key}'")
    assert runs
    upstream = {run.stage: run.key for run in upstream_runs(runs[-1].info.run_id, uri)}
    (captions,) = smoke.made_by("read_captions")
    (dataset,) = smoke.made_by("make_scenes")
    assert upstream["read_captions"] == captions.key
    assert upstream["make_scenes"] == dataset.key
    assert {"pretrain", "label_regions", "encode_regions", "train_proposer", "read_clip"} <= set(upstream)


def test_a_written_data_set_is_standard_coco_and_keys_follow_its_content(smoke: Any, rgc: Rgc, tmp_path: Path) -> None:
    here, there, store = tmp_path / "here", tmp_path / "there", tmp_path / "store"
    written = rgc("data", "scenes", "--config", str(smoke.config), "--out", str(here))
    assert (written.code, written.err) == (0, "")
    coco = COCO(str(here / "annotations" / "instances.json"))
    assert len(coco.getImgIds()) == 23
    assert len(coco.loadCats(coco.getCatIds())) == 40
    assert all((here / "images" / image["file_name"]).is_file() for image in coco.loadImgs(coco.getImgIds()))
    command = smoke.arguments("pseudo-label", smoke.in_place, store=store)
    first = rgc(*command, "--set", f"data.root={here}")
    assert (first.code, first.err) == (0, "")
    shutil.move(here, there)
    moved = rgc(*command, "--set", f"data.root={there}")
    assert (moved.code, moved.err) == (0, "")
    assert set(lines(first.out)) == set(lines(moved.out))
    again = [line.split()[0] for line in moved.out.splitlines() if lines(line) and "reused" not in line]
    assert set(again) == {"read_images", "read_captions", "read_boxes"}
    (images,) = Folder(str(store / "images")).folders()
    manifest = json.loads((store / "images" / images / "manifest.json").read_text())
    assert manifest["external"]["images"] == str(there / "images")
    assert rgc("data", "scenes", "--config", str(smoke.config), "--out", str(there)).code == 2
