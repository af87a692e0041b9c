"""Images that boxes or features cannot be had of: rejected by name, and nothing else of the part changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image

from regionclip.images import ResizeConfig
from regionclip.proposals.network import ProposalConfig
from regionclip.schemas import IMAGES
from regionclip.teachers.teacher import TeacherConfig
from stages import encode_regions, propose_regions
from stages.contract import Artifact
from stages.encode_regions import EncodeConfig
from stages.parts import read_table, write_table
from stages.propose_regions import ProposeConfig
from stages.storage import Folder

RESIZE = ResizeConfig("pretraining", 80, 120)
PROPOSE = ProposeConfig(proposals=ProposalConfig(post_nms=20), resize=RESIZE, part_size=5)


@pytest.fixture
def damaged(world: Any, tmp_path: Path) -> Artifact:
    """Four images, of which one is cut off and one has another size than its record says."""
    rows = read_table(world["train_images"], "images").to_pylist()[:4]
    folder = Folder(str(tmp_path))
    for row in rows:
        folder.write(row["file_name"], (world.store / "files" / row["file_name"]).read_bytes())
    folder.write(rows[1]["file_name"], folder.read(rows[1]["file_name"])[:60])
    rows[2]["width"] += 8
    listed = world.artifact("images", "damaged", external={"images": folder.uri})
    write_table(listed.folder, "images", pa.Table.from_pylist(rows, IMAGES))
    return listed


def test_unreadable_images_are_rejected_with_their_reasons(world: Any, damaged: Artifact) -> None:
    config = replace(PROPOSE, max_rejected_fraction=0.5)
    artifact = world.run(propose_regions.STAGE, config, "damaged", images=damaged, proposer=world["proposer"])
    assert read_table(artifact, "proposals")["image_id"].to_pylist() == [0, 3]
    reasons = {row["item"]: row["reason"] for row in read_table(artifact, "rejected").to_pylist()}
    assert reasons.keys() == {"1.png", "2.png"}
    assert "cannot be read" in reasons["1.png"]
    assert "is 64 x 64 pixels, but its record says 72 x 64" in reasons["2.png"]


@pytest.mark.parametrize("fused", [False, True])
def test_an_image_too_narrow_for_the_map_is_rejected_and_its_neighbours_keep_their_bits(
    world: Any, tmp_path: Path, fused: bool
) -> None:
    rows = read_table(world["test_images"], "images").to_pylist()
    folder = Folder(str(tmp_path))
    for row in rows:
        folder.write(row["file_name"], (world.store / "files" / row["file_name"]).read_bytes())
    Image.new("RGB", (300, 2)).save(tmp_path / "narrow.png")
    narrow = {"image_id": 1, "file_name": "narrow.png", "width": 300, "height": 2}
    listed = world.artifact("images", f"narrow_{fused}", external={"images": folder.uri})
    write_table(listed.folder, "images", pa.Table.from_pylist([*rows[:2], narrow, *rows[2:]], IMAGES))
    config = EncodeConfig(num_regions=6, resize=RESIZE, teacher=TeacherConfig(fused=fused), max_rejected_fraction=0.2)
    found = []
    for name, images in (("without", world["test_images"]), ("with", listed)):
        propose, key = replace(PROPOSE, part_size=6), f"{name}_narrow_{fused}"
        proposals = world.run(propose_regions.STAGE, propose, key, images=images, proposer=world["proposer"])
        inputs = {"images": images, "proposals": proposals, "clip": world["clip"]}
        found.append(world.run(encode_regions.STAGE, config, key, **inputs))
    without, with_narrow = found
    assert read_table(with_narrow, "regions").equals(read_table(without, "regions"))
    assert read_table(with_narrow, "rejected").to_pylist() == [
        {"item": "narrow.png", "reason": "300 x 2 pixels become 120 x 1; each side needs 16"}
    ]
    with pytest.raises(ValueError, match=r"1 of 6 items are rejected.*narrow\.png: 300 x 2 pixels become"):
        world.run(encode_regions.STAGE, replace(config, max_rejected_fraction=0.1), f"stop_{fused}", **inputs)


def test_an_image_too_narrow_for_random_boxes_is_rejected_by_name(world: Any, tmp_path: Path) -> None:
    rows = read_table(world["test_images"], "images").to_pylist()
    rows[1] |= {"file_name": "narrow.png", "height": 7}
    listed = world.artifact("images", "narrow_random", external={"images": str(tmp_path)})
    write_table(listed.folder, "images", pa.Table.from_pylist(rows, IMAGES))
    config = replace(PROPOSE, method="random", max_rejected_fraction=0.2)
    narrow, whole = (
        world.run(propose_regions.STAGE, config, f"random_{images.key}", images=images)
        for images in (listed, world["test_images"])
    )
    boxes, expected = (read_table(each, "proposals")["boxes"].to_pylist() for each in (narrow, whole))
    assert boxes == [expected[0], [], *expected[2:]]
    (rejected,) = read_table(narrow, "rejected").to_pylist()
    assert rejected == {"item": "narrow.png", "reason": f"{rows[1]['width']} x 7 pixels have no 8-pixel grid"}
    with pytest.raises(ValueError, match=r"1 of 5 items are rejected.*narrow\.png"):
        world.run(propose_regions.STAGE, replace(config, max_rejected_fraction=0.1), "random_stop", images=listed)


def test_encoding_rejects_what_it_cannot_read_and_stops_when_that_is_too_much(world: Any, damaged: Artifact) -> None:
    random = replace(PROPOSE, method="random", random_boxes=5)
    proposals = world.run(propose_regions.STAGE, random, "of_damaged", images=damaged)
    inputs = {"images": damaged, "proposals": proposals, "clip": world["clip"]}
    config = EncodeConfig(num_regions=5, resize=RESIZE, max_rejected_fraction=0.5)
    artifact = world.run(encode_regions.STAGE, config, "damaged", **inputs)
    assert read_table(artifact, "regions")["image_id"].to_pylist() == [0, 3]
    with pytest.raises(ValueError, match="2 of 4 items are rejected"):
        world.run(encode_regions.STAGE, replace(config, max_rejected_fraction=0.1), "stopped", **inputs)
