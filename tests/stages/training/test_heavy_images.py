"""Images of very many boxes: parts that stay bounded, and the same parts as ever for fewer boxes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from regionclip.embeddings import save_embeddings
from regionclip.grouped import list_column
from regionclip.proposals.unseen import grid_boxes
from regionclip.schemas import BOX, IMAGES, PROPOSALS
from stages import encode_regions, label_regions, propose_regions
from stages.contract import Artifact, Stage
from stages.encode_regions import EncodeConfig
from stages.label_regions import LabelsConfig
from stages.part_plan import MAX_PART_WEIGHT
from stages.parts import iter_tables, read_table, write_table
from stages.propose_regions import PrecomputedConfig, ProposeConfig

NUM_IMAGES, NUM_BOXES = 100, 3000


class NoTeacher:
    """Gives every region the same feature."""

    width, least_side = 4, 1

    def region_features(self, images: torch.Tensor, boxes: list[torch.Tensor]) -> torch.Tensor:
        return torch.ones(sum(map(len, boxes)), self.width)


@pytest.fixture
def proposals(world: Any) -> Artifact:
    total, counts = NUM_IMAGES * NUM_BOXES, np.full(NUM_IMAGES, NUM_BOXES)
    size = pa.array(np.full(NUM_IMAGES, 64, np.int32))
    columns = {
        "image_id": pa.array(np.arange(NUM_IMAGES)),
        "uri": pa.array(["1.png"] * NUM_IMAGES),
        "width": size,
        "height": size,
        "boxes": list_column(np.tile(np.array([[0, 0, 9, 9]], np.float32), (total, 1)), counts, BOX),
        "objectness": list_column(np.zeros(total, np.float32), counts, pa.float32()),
    }
    artifact: Artifact = world.artifact("proposals", "many")
    write_table(artifact.folder, "proposals", pa.table(columns, schema=PROPOSALS))
    return artifact


def test_a_part_is_bounded_in_boxes(world: Any, proposals: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encode_regions, "make_teacher", lambda *_: NoTeacher())
    pool = world.artifact("embeddings", "four")
    save_embeddings(pool.folder.local(), ["cat"], torch.ones(1, 4))

    def parts(stage: Stage, config: Any, key: str, **inputs: Artifact) -> tuple[Artifact, list[int]]:
        made = world.run(stage, config, key, **inputs)
        return made, [len(part) for part in iter_tables(made, stage.output, ["image_id"])]

    inputs = {"images": world["train_images"], "proposals": proposals, "clip": world["clip"]}
    most = MAX_PART_WEIGHT // NUM_BOXES
    bounded = [most] * 4 + [NUM_IMAGES - 4 * most]
    regions, found = parts(encode_regions.STAGE, EncodeConfig(num_regions=NUM_BOXES), "many", **inputs)
    assert found == bounded
    assert parts(label_regions.STAGE, LabelsConfig(), "many", regions=regions, embeddings=pool)[1] == bounded
    few = parts(encode_regions.STAGE, EncodeConfig(num_regions=100), "few", **inputs)[1]
    assert few == [NUM_IMAGES]


def test_parts_of_windows_and_given_boxes_are_bounded_too(world: Any, tmp_path: Path) -> None:
    size = pa.array(np.full(NUM_IMAGES, 64, np.int32))
    ids = pa.array(np.arange(NUM_IMAGES))
    listed = world.artifact("images", "many", external={"images": str(tmp_path)})
    columns = {"image_id": ids, "file_name": ["1.png"] * NUM_IMAGES, "width": size, "height": size}
    write_table(listed.folder, "images", pa.table(columns, schema=IMAGES))
    counts, total = np.full(NUM_IMAGES, NUM_BOXES), NUM_IMAGES * NUM_BOXES
    given = {
        "image_id": ids,
        "boxes": list_column(np.tile(np.array([[0, 0, 9, 9]], np.float32), (total, 1)), counts, BOX),
        "objectness": list_column(np.zeros(total, np.float32), counts, pa.float32()),
    }
    pq.write_table(pa.table(given), tmp_path / "boxes.parquet")
    windows = len(grid_boxes(64, 64, (4,)).boxes)
    expected = {}
    for method, each in (("grid", windows), ("precomputed", NUM_BOXES), ("random", 0)):
        of_file = PrecomputedConfig(str(tmp_path / "boxes.parquet")) if method == "precomputed" else None
        config = ProposeConfig(method=method, grid_sizes=(4,), precomputed=of_file, random_boxes=2)  # type: ignore[arg-type]
        made = world.run(propose_regions.STAGE, config, f"many_{method}", images=listed)
        expected[method] = MAX_PART_WEIGHT // each if each else NUM_IMAGES
        assert len(next(iter_tables(made, "proposals", ["image_id"]))) == expected[method]
        assert read_table(made, "proposals")["image_id"].equals(pa.chunked_array([ids]))
    assert max(expected["grid"], expected["precomputed"]) < NUM_IMAGES
