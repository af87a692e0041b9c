from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
import torch

from regionclip.clip_models import load_clip
from regionclip.detector import load_detector
from regionclip.embeddings import save_embeddings
from regionclip.images import ResizeConfig
from regionclip.schemas import BOXES, CAPTIONS
from regionclip.training.clip import ClipTrainingConfig
from regionclip.training.pretrain import LossWeights, PretrainConfig
from regionclip.training.transfer import TransferConfig
from stages import label_regions, pretrain, train_teacher, transfer
from stages.contract import Artifact
from stages.label_regions import LabelsConfig
from stages.parts import read_table, write_table
from stages.train_teacher import TeacherConfig

Inputs = dict[str, Artifact]


def test_the_student_is_a_whole_clip_with_the_text_tower_it_started_from(world: Any, encoder: Artifact) -> None:
    before, after = (load_clip(artifact.folder.local()).state_dict() for artifact in (world["clip"], encoder))
    changed = {name.partition(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"visual"}


def test_pretraining_again_gives_the_same_weights(
    world: Any, pretrain_config: PretrainConfig, pretrain_inputs: Inputs
) -> None:
    weights = [
        world.run(pretrain.STAGE, pretrain_config, key, **pretrain_inputs).folder.read("clip.safetensors")
        for key in ("first", "second")
    ]
    assert weights[0] == weights[1]


def test_labels_of_another_pool_are_refused(
    world: Any, pretrain_config: PretrainConfig, pretrain_inputs: Inputs
) -> None:
    other = world.artifact("embeddings", "reordered")
    save_embeddings(other.folder.local(), ["cup", "cat", "kite", "anchor"], torch.ones(4, 32))
    with pytest.raises(ValueError, match="4 concepts of another list or order than the 4 embedded"):
        world.run(pretrain.STAGE, pretrain_config, "x", **pretrain_inputs | {"embeddings": other})


def test_a_control_without_captions_is_refused(
    world: Any, pretrain_config: PretrainConfig, pretrain_inputs: Inputs
) -> None:
    del pretrain_inputs["captions"]
    with pytest.raises(ValueError, match="none of the images has a caption"):
        world.run(pretrain.STAGE, pretrain_config, "x", **pretrain_inputs)
    without = replace(pretrain_config, num_steps=1, losses=LossWeights(1.0, 1.0, 0.0))
    world.run(pretrain.STAGE, without, "uncaptioned", **pretrain_inputs)


def test_regions_that_no_threshold_keeps_are_refused_without_captions(
    world: Any, pretrain_config: PretrainConfig, pretrain_inputs: Inputs
) -> None:
    strict = LabelsConfig(temperature=0.1, threshold=1.0)
    pretrain_inputs["region_labels"] = world.run(
        label_regions.STAGE, strict, "none_kept", regions=world["regions"], embeddings=world["embeddings"]
    )
    config = replace(pretrain_config, losses=LossWeights(1.0, 1.0, 0.0))
    with pytest.raises(ValueError, match="no region is kept"):
        world.run(pretrain.STAGE, config, "x", **pretrain_inputs)


def test_a_detector_knows_all_classes_and_was_trained_on_base_boxes_alone(world: Any, detector: Artifact) -> None:
    loaded = load_detector(detector.folder.local())
    assert loaded.classes == ("cat", "cup", "kite", "anchor")
    num_base = len(read_table(world["train_base_boxes"], "boxes"))
    assert detector.manifest["metrics"]["num_boxes"] == num_base < len(read_table(world["train_boxes"], "boxes"))


def test_a_base_class_without_embedding_is_refused(
    world: Any, transfer_config: TransferConfig, transfer_inputs: Inputs
) -> None:
    other = world.artifact("embeddings", "no_cup")
    save_embeddings(other.folder.local(), ["cat", "kite", "anchor"], torch.ones(3, 32))
    with pytest.raises(ValueError, match="1 of 3 base classes have no embedding, first is 'cup'"):
        world.run(transfer.STAGE, transfer_config, "x", **transfer_inputs | {"embeddings": other})


def test_boxes_without_any_row_are_refused(
    world: Any, transfer_config: TransferConfig, transfer_inputs: Inputs
) -> None:
    empty = world.artifact("boxes", "empty")
    write_table(empty.folder, "boxes", pa.Table.from_pylist([], BOXES))
    empty.folder.write("classes.json", json.dumps(["cat"]).encode())
    with pytest.raises(ValueError, match="none of the images of proposals train has a box"):
        world.run(transfer.STAGE, transfer_config, "x", **transfer_inputs | {"boxes": empty})


def test_a_teacher_learns_from_captioned_images(world: Any) -> None:
    config = TeacherConfig(
        ClipTrainingConfig("rgc-test-rn", num_steps=1, batch_size=4), ResizeConfig("detection", 64, 64)
    )
    captions = world.artifact("captions", "loose")
    write_table(captions.folder, "captions", pa.Table.from_pylist([{"image_id": None, "caption": "a cat"}], CAPTIONS))
    with pytest.raises(ValueError, match="no caption of loose belongs to an image"):
        world.run(train_teacher.STAGE, config, "x", images=world["train_images"], captions=captions)
    square = [row for row in read_table(world["train_captions"], "captions").to_pylist() if row["image_id"] % 3]
    write_table(captions.folder, "captions", pa.Table.from_pylist(square, CAPTIONS))
    teacher = world.run(train_teacher.STAGE, config, "taught", images=world["train_images"], captions=captions)
    assert teacher.manifest["metrics"] == {"num_images": 8, "width": 32}
    load_clip(teacher.folder.local())
