"""Images of very many boxes: parts that stay bounded, and the same parts as ever for fewer boxes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from regionclip.embeddings import save_embeddings
from regionclip.grouped import list_column
from regionclip.schemas import BOX, PROPOSALS
from stages import encode_regions, label_regions
from stages.contract import Artifact, Stage
from stages.encode_regions import EncodeConfig
from stages.label_regions import LabelsConfig
from stages.part_plan import MAX_PART_WEIGHT
from stages.parts import iter_tables, write_table

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
