"""Given and joined boxes, localisers from outside, and recall, as stages."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from regionclip.images import ResizeConfig
from regionclip.proposals.network import ProposalConfig, ProposalNetwork, ProposerConfig, load_proposer, save_proposer
from stages import propose_regions, read_proposer, recall_proposals
from stages.contract import Artifact
from stages.parts import read_table, write_table
from stages.propose_regions import PrecomputedConfig, ProposeConfig
from stages.read_proposer import ProposerSourceConfig
from stages.recall_proposals import RecallConfig
from stages.storage import Folder

PROPOSE = ProposeConfig(proposals=ProposalConfig(post_nms=20), resize=ResizeConfig("pretraining", 80, 120), part_size=5)


def results(path: Path, image_ids: range) -> str:
    """COCO results of three boxes an image, of which the last lies outside."""
    boxes = [([0, 0, 20, 30], 0.9), ([10, 10, 30, 20], 0.5), ([60, 0, 90, 9], 0.2)]
    records = [{"image_id": each, "bbox": box, "score": score} for each in image_ids for box, score in boxes]
    path.write_text(json.dumps(records))
    return str(path)


def rows(artifact: Artifact) -> list[dict[str, Any]]:
    return read_table(artifact, "proposals").to_pylist()


def test_true_boxes_are_found_again_by_recall(world: Any) -> None:
    truth = {"images": world["test_images"], "boxes": world["test_boxes"]}
    found = world.run(propose_regions.STAGE, replace(PROPOSE, method="ground_truth"), "truth", **truth)
    listed = read_table(world["test_boxes"], "boxes").to_pylist()
    for row in rows(found):
        assert row["boxes"] == [each["box"] for each in listed if each["image_id"] == row["image_id"]]
        assert set(row["objectness"]) == {0.0}
    recall = world.run(
        recall_proposals.STAGE, RecallConfig(limits=(1, 10)), "truth", proposals=found, boxes=world["test_boxes"]
    )
    metrics = recall.manifest["metrics"]
    assert metrics["num_images"] == 5
    assert metrics["recall75_10"] == metrics["recall50_10_small"] == 1
    assert metrics["recall50_1"] == pytest.approx(5 / len(listed))
    written = json.loads(recall.folder.read("recall.json"))
    assert [(row["iou"], row["size"]) for row in written[:2]] == [(0.5, "all"), (0.5, "small")]
    assert written[0]["recalls"] == [metrics["recall50_1"], metrics["recall50_10"]]
    assert written[3]["recalls"] is None


def test_images_without_proposals_count_as_missed_and_strangers_are_refused(world: Any) -> None:
    truth = {"images": world["test_images"], "boxes": world["test_boxes"]}
    every = world.run(propose_regions.STAGE, replace(PROPOSE, method="ground_truth"), "every", **truth)
    some = world.artifact("proposals", "some")
    write_table(some.folder, "proposals", read_table(every, "proposals").slice(0, 2))
    recall = world.run(recall_proposals.STAGE, RecallConfig(), "some", proposals=some, boxes=world["test_boxes"])
    assert recall.manifest["metrics"]["num_images_without_proposals"] == 3
    assert recall.manifest["metrics"]["recall50_100"] == pytest.approx(2 / 5)
    with pytest.raises(ValueError, match="no image of proposals some has a box in boxes train_boxes"):
        world.run(recall_proposals.STAGE, RecallConfig(), "x", proposals=some, boxes=world["train_boxes"])


def test_a_union_joins_the_methods(world: Any) -> None:
    inputs = {"images": world["test_images"], "proposer": world["proposer"], "boxes": world["test_boxes"]}
    config = replace(PROPOSE, method=("rpn", "ground_truth"), logit_offsets={"ground_truth": 50.0}, top_k=10)
    union = rows(world.run(propose_regions.STAGE, config, "union", **inputs))
    truth = read_table(world["test_boxes"], "boxes").to_pylist()
    for row in union:
        true = [each["box"] for each in truth if each["image_id"] == row["image_id"]]
        assert row["boxes"][: len(true)] == true
        assert len(row["boxes"]) == 10
        assert row["objectness"] == sorted(row["objectness"], reverse=True)


def test_boxes_of_a_json_file_are_taken_and_those_outside_told(world: Any, tmp_path: Path) -> None:
    path = results(tmp_path / "boxes.json", range(3))
    config = replace(PROPOSE, method="precomputed", precomputed=PrecomputedConfig(path), max_rejected_fraction=0.3)
    artifact = world.run(propose_regions.STAGE, config, "json", images=world["train_images"])
    found = rows(artifact)
    assert [len(row["boxes"]) for row in found] == [2, 2, 2] + [0] * 9
    assert found[0]["boxes"] == [[0, 0, 20, 30], [10, 10, 40, 30]]
    assert found[0]["objectness"] == pytest.approx([np.log(9), 0])
    reasons = read_table(artifact, "rejected").to_pylist()
    assert {row["item"] for row in reasons} == {"0.png", "1.png", "2.png"}
    assert "1 of 3 given boxes are left out, the first [60, 0, 150, 9] lies outside" in reasons[0]["reason"]
    with pytest.raises(ValueError, match="3 of 12 items are rejected"):
        world.run(
            propose_regions.STAGE, replace(config, max_rejected_fraction=0.1), "few", images=world["train_images"]
        )


def test_proposals_written_as_parquet_come_back_the_same(world: Any, tmp_path: Path) -> None:
    table = read_table(world["train_proposals"], "proposals")
    pq.write_table(table.select(["image_id", "boxes", "objectness"]), tmp_path / "boxes.parquet", row_group_size=4)
    config = replace(
        PROPOSE, method="precomputed", precomputed=PrecomputedConfig(str(tmp_path / "boxes.parquet")), top_k=30
    )
    again = world.run(propose_regions.STAGE, config, "parquet", images=world["train_images"])
    assert read_table(again, "proposals").equals(table)


def test_the_content_of_precomputed_boxes_enters_the_key_and_their_path_does_not(world: Any, tmp_path: Path) -> None:
    def key(path: str) -> str:
        config = replace(PROPOSE, method="precomputed", precomputed=PrecomputedConfig(path))
        return propose_regions.STAGE.key(config, {"images": world["train_images"]})

    first, copy, other = (
        key(results(tmp_path / name, range(count))) for name, count in (("a.json", 3), ("b.json", 3), ("c.json", 4))
    )
    assert first == copy != other


def test_precomputed_boxes_behind_a_uri_are_those_of_the_disk(world: Any, tmp_path: Path) -> None:
    results(tmp_path / "boxes.json", range(12))
    table = read_table(world["train_proposals"], "proposals").select(["image_id", "boxes", "objectness"])
    pq.write_table(table, tmp_path / "boxes.parquet")
    remote = Folder(f"memory://{tmp_path.name}")
    for name in ("boxes.json", "boxes.parquet"):
        remote.write(name, (tmp_path / name).read_bytes())
        found = []
        for place in (str(tmp_path), remote.uri):
            given = PrecomputedConfig(f"{place}/{name}")
            config = replace(PROPOSE, method="precomputed", precomputed=given, max_rejected_fraction=1.0)
            key = propose_regions.STAGE.key(config, {"images": world["train_images"]})
            made = world.run(propose_regions.STAGE, config, f"{name}_{len(found)}", images=world["train_images"])
            found.append((key, read_table(made, "proposals")))
        assert found[0] == found[1]
        assert found[0][1]["boxes"].to_pylist()[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": ()}, "at most once"),
        ({"method": ("grid", "grid")}, "at most once"),
        ({"method": "selective_search"}, "give each of rpn"),
        ({"method": "precomputed"}, "go together"),
        ({"precomputed": PrecomputedConfig("a.json")}, "go together"),
        ({"logit_offsets": {"grid": 1.0}}, "logit_offsets are for grid"),
        ({"nms_iou": 0.0}, "nms_iou is 0"),
        ({"top_k": 0}, "top_k is 0"),
    ],
)
def test_configs_that_mean_nothing_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(PROPOSE, **change)


def test_files_that_cannot_be_precomputed_boxes_are_refused(world: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"boxes\.csv are neither \.json nor \.parquet"):
        PrecomputedConfig("boxes.csv")
    absent = replace(PROPOSE, method="precomputed", precomputed=PrecomputedConfig(str(tmp_path / "absent.json")))
    with pytest.raises(ValueError, match="no such file"):
        propose_regions.STAGE.key(absent, {"images": world["train_images"]})
    others = PrecomputedConfig(results(tmp_path / "others.json", range(500, 503)))
    with pytest.raises(ValueError, match="of 3 images and none of these 12"):
        world.run(propose_regions.STAGE, replace(absent, precomputed=others), "others", images=world["train_images"])


def test_true_boxes_are_asked_for_where_they_take_part(world: Any) -> None:
    config = replace(PROPOSE, method=("grid", "ground_truth"))
    with pytest.raises(ValueError, match="method is 'grid, ground_truth'; give true boxes"):
        world.run(propose_regions.STAGE, config, "x", images=world["train_images"])


@pytest.mark.parametrize("limits", [{"ious": ()}, {"ious": (0.0,)}, {"limits": ()}, {"limits": (0,)}])
def test_recall_at_no_overlap_or_box_is_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"ious|limits"):
        RecallConfig(**limits)


def test_a_proposer_is_read_from_a_folder_or_a_checkpoint_and_known_by_content(world: Any, tmp_path: Path) -> None:
    network = ProposalNetwork(ProposerConfig(blocks=(1,), width=8, levels=(4,), fpn_channels=8, anchor_sizes=((16,),)))
    for name in ("one", "two"):
        save_proposer(network, tmp_path / name)
    one, two = (read_proposer.STAGE.key(ProposerSourceConfig(str(tmp_path / name)), {}) for name in ("one", "two"))
    assert one == two
    read = world.run(read_proposer.STAGE, ProposerSourceConfig(str(tmp_path / "one")), "one")
    assert load_proposer(read.folder.local()).config == network.config
    torch.save({"model": {"backbone.stem.conv1.weight": torch.zeros(1)}}, tmp_path / "rpn.pth")
    with pytest.raises(ValueError, match=r"rpn\.pth: it has no 'backbone\.res2\.0\.conv1\.weight'"):
        world.run(read_proposer.STAGE, ProposerSourceConfig(str(tmp_path / "rpn.pth")), "rpn")
    for absent, message in (("absent.pth", "do not exist"), ("absent", "is missing")):
        with pytest.raises(ValueError, match=message):
            read_proposer.STAGE.key(ProposerSourceConfig(str(tmp_path / absent)), {})
