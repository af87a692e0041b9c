from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from regionclip import schemas
from regionclip.clip_models import create_clip, load_clip, save_clip
from regionclip.grouped import Grouped, grouped_lists
from regionclip.images import CLIP_MEAN, CLIP_STD, ResizeConfig, image_tensor, normalize, read_image, resize
from regionclip.proposals.network import ProposalConfig
from regionclip.region_encoder import RegionEncoder
from regionclip.region_features import read_features
from regionclip.teachers.teacher import TeacherConfig
from stages import encode_regions, label_regions, propose_regions
from stages.contract import MANIFEST, Artifact
from stages.encode_regions import EncodeConfig, best_proposals
from stages.label_regions import LabelsConfig
from stages.parts import read_table, table_files, write_table
from stages.propose_regions import ProposeConfig
from stages.storage import Folder

RESIZE = ResizeConfig("pretraining", 80, 120)
SAME_SIZE = ResizeConfig("pretraining", 64, 96)
PROPOSE = ProposeConfig(proposals=ProposalConfig(post_nms=20), resize=RESIZE, part_size=5)


def test_the_best_proposals_of_each_image_are_kept_in_order() -> None:
    proposals = Grouped(
        np.array([0, 3, 3, 5]),
        {"boxes": np.arange(20.0).reshape(5, 4), "objectness": np.array([0.5, 2.0, 0.5, -1.0, 1.0])},
    )
    best = best_proposals(proposals, 2)
    assert best.offsets.tolist() == [0, 2, 2, 4]
    assert best["objectness"].tolist() == [2.0, 0.5, 1.0, -1.0]
    assert best["boxes"][:, 0].tolist() == [4.0, 0.0, 16.0, 12.0]


def test_features_are_those_of_each_image_alone_in_the_resized_frame(world: Any) -> None:
    config = EncodeConfig(num_regions=6, resize=RESIZE, part_size=7)
    inputs = {"images": world["train_images"], "proposals": world["train_proposals"], "clip": world["clip"]}
    artifact = world.run(encode_regions.STAGE, config, "alone", **inputs)
    encoder = RegionEncoder(load_clip(world["clip"].folder.local()).visual).eval()
    table = read_table(artifact, "regions")
    assert table["image_id"].to_pylist() == list(range(12))
    regions = grouped_lists(table, ["boxes", "features"])
    for position in (0, 5):
        image = read_image(world.store / "files" / f"{position}.png")
        resized = resize(image, RESIZE)
        rows, _ = regions.rows(np.array([position]))
        scale = torch.tensor([resized.width / image.width, resized.height / image.height] * 2)
        pixels = normalize(image_tensor(resized), CLIP_MEAN, CLIP_STD)[None]
        with torch.inference_mode():
            expected = encoder.region_features(pixels, [torch.from_numpy(regions["boxes"][rows]) * scale])
        found = torch.from_numpy(regions["features"][rows])
        assert found.dtype == torch.float16
        torch.testing.assert_close(found.float(), expected, atol=1e-3, rtol=1e-2)


def features_of(artifact: Artifact) -> np.ndarray[Any, Any]:
    return grouped_lists(read_table(artifact, "regions"), ["features"])["features"]


def test_without_a_choice_of_teacher_the_stored_bits_are_the_region_encoders(world: Any) -> None:
    config = EncodeConfig(num_regions=6, resize=RESIZE, part_size=12)
    inputs = {"images": world["test_images"], "proposals": world["test_proposals"], "clip": world["clip"]}
    artifact = world.run(encode_regions.STAGE, config, "bits", **inputs)
    encoder = RegionEncoder(load_clip(world["clip"].folder.local()).visual).eval().to(memory_format=torch.channels_last)
    regions = grouped_lists(read_table(artifact, "regions"), ["boxes", "features"])
    images = [resize(read_image(world.store / "files" / f"{100 + index}.png"), RESIZE) for index in range(5)]
    for size in {image.size for image in images}:
        same = np.array([index for index, image in enumerate(images) if image.size == size])
        original = [read_image(world.store / "files" / f"{100 + index}.png").size for index in same]
        scales = [torch.tensor([size[0] / width, size[1] / height] * 2) for width, height in original]
        boxes = [torch.from_numpy(regions["boxes"][regions.rows(np.array([index]))[0]]) for index in same]
        placed = [each * scale for each, scale in zip(boxes, scales, strict=True)]
        pixels = normalize(torch.stack([image_tensor(images[index]) for index in same]), CLIP_MEAN, CLIP_STD)
        with torch.inference_mode():
            expected = encoder.region_features(pixels, placed).half()
        assert np.array_equal(regions["features"][regions.rows(same)[0]], expected.numpy())


def test_pixels_are_normalised_as_the_config_says_else_as_the_weights_want(world: Any) -> None:
    wanted: dict[str, Any] = {"mean": [0.2, 0.3, 0.4], "std": [0.5, 0.6, 0.7]}
    clip = world.artifact("clip", "other_pixels")
    shutil.copytree(world["clip"].folder.local(), clip.folder.local(), dirs_exist_ok=True)
    description = json.loads(clip.folder.read("clip.json"))
    clip.folder.write("clip.json", json.dumps(description | wanted).encode())
    inputs = {"images": world["test_images"], "proposals": world["test_proposals"]}
    known, said, clips = (
        features_of(
            world.run(
                encode_regions.STAGE,
                EncodeConfig(num_regions=6, resize=RESIZE, teacher=teacher),
                name,
                **inputs,
                clip=each,
            )
        )
        for name, each, teacher in (
            ("known", clip, TeacherConfig()),
            ("said", world["clip"], TeacherConfig(**{name: tuple(values) for name, values in wanted.items()})),
            ("clips", world["clip"], TeacherConfig()),
        )
    )
    assert np.array_equal(known, said)
    assert not np.array_equal(known, clips)


@pytest.mark.parametrize("mode", ["dense", "crop"])
def test_a_vision_transformer_encodes_regions_in_each_mode(world: Any, mode: Any) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vit = create_clip("rgc-test-vit")
    clip = world.artifact("clip", f"vit_{mode}")
    save_clip(vit, "rgc-test-vit", clip.folder.local())
    config = EncodeConfig(num_regions=6, resize=RESIZE, teacher=TeacherConfig(mode=mode))
    inputs = {"images": world["train_images"], "proposals": world["train_proposals"], "clip": clip}
    features = features_of(world.run(encode_regions.STAGE, config, f"vit_{mode}", **inputs))
    assert features.shape[1] == 32
    assert np.allclose(np.linalg.norm(features.astype(np.float32), axis=1), 1, atol=2e-3)
    assert len(np.unique(features, axis=0)) > 12


@pytest.mark.parametrize(
    "change", [{"precision": "bf16"}, {"fused": True}, {"channels_last": False}, {"compile": True}, {"mode": "crop"}]
)
def test_whatever_can_change_a_bit_changes_the_key(world: Any, change: dict[str, Any]) -> None:
    inputs = {"images": world["train_images"], "proposals": world["train_proposals"], "clip": world["clip"]}
    keys = {
        encode_regions.STAGE.key(EncodeConfig(teacher=teacher), inputs)
        for teacher in (TeacherConfig(), TeacherConfig(**change))
    }
    assert len(keys) == 2


def test_proposals_lie_inside_the_original_images_best_first(world: Any) -> None:
    artifact = world.run(
        propose_regions.STAGE, PROPOSE, "inside", images=world["train_images"], proposer=world["proposer"]
    )
    for row in read_table(artifact, "proposals").to_pylist():
        boxes = np.array(row["boxes"])
        assert (boxes[:, :2] >= 0).all()
        assert (boxes[:, 2:] <= [row["width"], row["height"]]).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert row["objectness"] == sorted(row["objectness"], reverse=True)


@pytest.mark.parametrize("method", ["random", "grid"])
def test_boxes_without_a_proposer_open_no_image_and_repeat(world: Any, method: Any, tmp_path: Path) -> None:
    listed = world.artifact("images", f"absent_{method}", external={"images": str(tmp_path)})
    write_table(listed.folder, "images", read_table(world["train_images"], "images"))
    config = replace(PROPOSE, method=method, random_boxes=7)
    first, second = (
        read_table(world.run(propose_regions.STAGE, config, f"{method}_{each}", images=listed), "proposals")
        for each in range(2)
    )
    assert first.equals(second)
    assert len(first) == 12
    if method == "random":
        assert first["boxes"][0] != first["boxes"][3]


def test_a_proposer_and_a_method_that_do_not_fit_are_refused(world: Any) -> None:
    with pytest.raises(ValueError, match="method is 'rpn'; give a proposer"):
        world.run(propose_regions.STAGE, PROPOSE, "x", images=world["train_images"])
    grid = replace(PROPOSE, method="grid")
    with pytest.raises(ValueError, match="method is 'grid'; leave the proposer out"):
        world.run(propose_regions.STAGE, grid, "x", images=world["train_images"], proposer=world["proposer"])


def test_images_without_any_box_are_told_and_give_no_region(world: Any) -> None:
    context = world.lent("proposals", "boxless")
    config = replace(PROPOSE, method="random", random_boxes=0)
    proposals = world.run(propose_regions.STAGE, config, "boxless", context, images=world["test_images"])
    assert context.said == ["no box in any of 5 images, so no region; choose other settings or another method"]
    inputs = {"images": world["test_images"], "proposals": proposals, "clip": world["clip"]}
    regions = world.run(encode_regions.STAGE, EncodeConfig(resize=RESIZE), "boxless", **inputs)
    assert read_table(regions, "regions")["boxes"].to_pylist() == [[]] * 5
    labels = world.run(label_regions.STAGE, LabelsConfig(), "boxless", regions=regions, embeddings=world["embeddings"])
    assert read_table(labels, "region_labels")["keep"].to_pylist() == [[]] * 5


def test_proposals_of_other_images_are_refused(world: Any) -> None:
    inputs = {"images": world["test_images"], "proposals": world["train_proposals"], "clip": world["clip"]}
    with pytest.raises(
        ValueError, match="proposals train were found in the images train, not in test; give the images"
    ):
        world.run(encode_regions.STAGE, EncodeConfig(resize=RESIZE), "x", **inputs)


def test_regions_say_where_their_images_are_and_of_which_bytes_they_are(world: Any) -> None:
    for table in (read_table(world["train_proposals"], "proposals"), read_table(world["regions"], "regions")):
        assert table["uri"].to_pylist() == [f"{image_id}.png" for image_id in table["image_id"].to_pylist()]
    files = [world.store / "files" / uri for uri in table["uri"].to_pylist()]
    assert table["sha256"].to_pylist() == [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]


def test_a_moved_folder_changes_no_byte_and_the_listed_images_are_not_read_again(world: Any, tmp_path: Path) -> None:
    shutil.copytree(world.store / "files", tmp_path / "moved")
    moved = Artifact("images", "train", Folder(str(tmp_path / "moved_images")))
    moved.folder.write(MANIFEST, json.dumps({"external": {"images": str(tmp_path / "moved")}}).encode())
    inputs = {"images": moved, "proposals": world["train_proposals"], "clip": world["clip"]}
    config = EncodeConfig(num_regions=10, resize=SAME_SIZE, part_size=5)
    artifact = world.run(encode_regions.STAGE, config, "moved", **inputs)
    names = table_files(artifact.folder, "regions")
    assert len(names) == 3
    assert all(artifact.folder.read(name) == world["regions"].folder.read(name) for name in names)


def test_proposals_of_an_older_version_are_refused(world: Any) -> None:
    old = world.artifact("proposals", "old")
    write_table(old.folder, "proposals", read_table(world["train_proposals"], "proposals").drop_columns(["uri"]))
    inputs = {"images": world["train_images"], "proposals": old, "clip": world["clip"]}
    with pytest.raises(ValueError, match="proposals old have no column uri: an older version made them"):
        world.run(encode_regions.STAGE, EncodeConfig(resize=RESIZE), "x", **inputs)


def test_features_in_8_bits_are_near_those_in_half_precision_and_half_as_large(world: Any) -> None:
    config = EncodeConfig(num_regions=10, resize=SAME_SIZE, part_size=5, storage="int8")
    inputs = {"images": world["train_images"], "proposals": world["train_proposals"], "clip": world["clip"]}
    coarse = read_table(world.run(encode_regions.STAGE, config, "coarse", **inputs), "regions")
    fine = read_table(world["regions"], "regions")
    assert coarse.schema.equals(schemas.regions(32, "int8"))
    assert fine.schema.equals(schemas.regions(32))
    assert coarse["features"].nbytes < 0.6 * fine["features"].nbytes
    scale = grouped_lists(coarse, ["scale"])["scale"][:, None]
    apart = np.abs(read_features(coarse)["features"] - read_features(fine)["features"].astype(np.float32))
    assert (apart <= 0.5 * scale + 2e-4).all()
    same = [name for name in fine.column_names if name != "features"]
    assert coarse.select(same).equals(fine.select(same))
    with pytest.raises(ValueError, match="storage is 'int4'; choose one of float16, int8"):
        replace(config, storage="int4")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["proposals", "regions", "labels"])
def test_pandas_reads_each_image_with_its_boxes(world: Any, name: str) -> None:
    artifact = world["train_proposals" if name == "proposals" else name]
    frame = pd.concat(
        pd.read_parquet(artifact.folder.path(each)) for each in table_files(artifact.folder, artifact.kind)
    )
    assert frame["uri"].tolist() == [f"{image_id}.png" for image_id in range(12)]
    lists = [column for column in frame.columns if isinstance(frame[column].iloc[0], np.ndarray)]
    assert {"boxes", "objectness"} <= set(lists)
    for _, row in frame.iterrows():
        assert len({len(row[column]) for column in lists}) == 1
