from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from regionclip.loading import ImageRecord
from regionclip.proposals.listed import (
    ListedProposer,
    listed_boxes,
    listed_counts,
    listed_in_parquet,
    read_coco_results,
    true_boxes,
)
from regionclip.proposals.proposer import Images, Proposals
from regionclip.schemas import BOXES

RECORD = ImageRecord(7, "seven.png", 100, 50)
GOOD = [1.0, 2.0, 30.0, 40.0]


def propose(boxes: list[list[float]], objectness: list[float]) -> tuple[Proposals, list[tuple[str, str]]]:
    rejected: list[tuple[str, str]] = []
    listed = {7: Proposals(torch.tensor(boxes), torch.tensor(objectness))}
    (found,) = ListedProposer(lambda ids: listed).propose(
        Images([RECORD]), lambda item, reason: rejected.append((item, reason))
    )
    return found, rejected


def results(path: Path, records: Any) -> Path:
    path.write_text(json.dumps(records))
    return path


def test_listed_boxes_come_best_first_and_a_pixel_of_overshoot_is_clipped() -> None:
    found, rejected = propose([GOOD, [-0.5, 0.0, 101.0, 50.0]], [0.5, 2.0])
    assert found.boxes.tolist() == [[0, 0, 100, 50], GOOD]
    assert found.objectness.tolist() == [2.0, 0.5]
    assert not rejected


@pytest.mark.parametrize(
    ("box", "logit", "reason"),
    [
        ([5.0, 5.0, 5.0, 9.0], 0.0, "[5, 5, 5, 9] has no positive width and height"),
        ([5.0, 9.0, 8.0, 5.0], 0.0, "[5, 9, 8, 5] has no positive width and height"),
        ([0.0, 0.0, 102.0, 9.0], 0.0, "lies outside the 100 x 50 pixels"),
        ([-1.5, 0.0, 5.0, 9.0], 0.0, "lies outside the 100 x 50 pixels"),
        ([100.2, 0.0, 100.9, 9.0], 0.0, "lies outside the 100 x 50 pixels"),
        ([0.0, math.nan, 5.0, 9.0], 0.0, "is not finite"),
        ([0.0, 0.0, math.inf, 9.0], 0.0, "is not finite"),
        ([0.0, 0.0, 5.0, 9.0], math.nan, "is not finite"),
    ],
)
def test_what_is_no_box_of_the_image_is_left_out_with_the_reason(box: list[float], logit: float, reason: str) -> None:
    found, ((item, said),) = propose([box, GOOD], [logit, 1.0])
    assert found.boxes.tolist() == [GOOD]
    assert item == "seven.png"
    assert said.startswith("1 of 2 given boxes are left out")
    assert reason in said


def test_an_image_that_is_not_listed_has_no_box() -> None:
    (found,) = ListedProposer(lambda ids: {}).propose(Images([RECORD]), lambda item, reason: None)
    assert found.boxes.shape == (0, 4)


def test_true_boxes_are_unscored_in_their_order_without_crowds() -> None:
    rows = [(3, [0, 0, 5, 5], False), (2, [1, 1, 2, 2], True), (1, [0, 0, 9, 9], False), (3, [4, 4, 8, 8], False)]
    table = pa.Table.from_pylist(
        [{"image_id": image, "category": "cat", "box": box, "is_crowd": crowd} for image, box, crowd in rows], BOXES
    )
    found = true_boxes(table)
    assert set(found) == {1, 3}
    assert found[3].boxes.tolist() == [[0, 0, 5, 5], [4, 4, 8, 8]]
    assert found[3].objectness.tolist() == [0, 0]
    assert true_boxes(table.slice(1, 1)) == {}


def test_coco_results_become_one_row_an_image_with_logits(tmp_path: Path) -> None:
    records = [
        {"image_id": 9, "category_id": 3, "bbox": [1, 2, 3, 4], "score": 0.75},
        {"image_id": 2, "bbox": [0, 0, 5, 6]},
        {"image_id": 9, "bbox": [5, 5, 1, 1], "score": 1},
    ]
    found = listed_boxes(read_coco_results(results(tmp_path / "r.json", records)))
    assert list(found) == [2, 9]
    assert found[9].boxes.tolist() == [[1, 2, 4, 6], [5, 5, 6, 6]]
    assert found[9].objectness.tolist() == pytest.approx([math.log(3), math.log(1e6)], rel=1e-4)
    assert found[2].objectness.tolist() == [0]


def test_annotations_of_an_instances_file_count_as_boxes_without_its_crowds(tmp_path: Path) -> None:
    annotations = [{"image_id": 1, "bbox": [0, 0, 2, 2], "iscrowd": crowd} for crowd in (0, 1)]
    table = read_coco_results(results(tmp_path / "i.json", {"annotations": annotations}))
    assert len(listed_boxes(table)[1]) == 1


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([], "lists no boxes"),
        ({"images": []}, "lists no boxes"),
        ([3], "record 0 is a int"),
        ([{"bbox": [0, 0, 1, 1]}], "image_id None"),
        ([{"image_id": 1, "bbox": [0, 0, 1]}], "record 0 has bbox"),
        ([{"image_id": 2**70, "bbox": [0, 0, 1, 1]}], f"record 0 has image_id {2**70}"),
        ([{"image_id": 1, "bbox": [0, 0, 10**400, 1]}], "record 0 has bbox"),
        ([{"image_id": 1, "bbox": [0, 0, 1, 1], "score": "high"}], "score 'high'"),
        ([{"image_id": 1, "bbox": [0, 0, 1, 1], "score": 10**400}], "record 0 has score 10000"),
        ([{"image_id": 1, "bbox": [0, 0, 1, 1], "score": 3.5}], r"3\.5 and no probability; .*logit"),
    ],
)
def test_a_file_of_another_form_is_refused(tmp_path: Path, records: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_coco_results(results(tmp_path / "r.json", records))


def test_a_box_that_is_not_finite_is_left_to_the_image_and_json_too_deep_is_refused(tmp_path: Path) -> None:
    table = read_coco_results(results(tmp_path / "r.json", [{"image_id": 1, "bbox": [0, 0, math.inf, math.nan]}]))
    assert not listed_boxes(table)[1].boxes.isfinite().all()
    (tmp_path / "r.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"r\.json: no readable JSON"):
        read_coco_results(tmp_path / "r.json")


@pytest.mark.parametrize("inner", [pa.list_(pa.float64()), pa.list_(pa.float32(), 4)])
def test_parquet_gives_the_boxes_of_the_images_asked_for(tmp_path: Path, inner: pa.DataType) -> None:
    path = tmp_path / "boxes.parquet"
    columns = {
        "image_id": pa.array([5, 7, 9], pa.int32()),
        "boxes": pa.array([[GOOD], [GOOD, GOOD], []], pa.list_(inner)),
        "objectness": pa.array([[0.25], [0.5, 0.75], []], pa.list_(pa.float64())),
    }
    pq.write_table(pa.table(columns), path)
    assert listed_counts(path) == {5: 1, 7: 2, 9: 0}
    found = listed_in_parquet(path)([7, 8, 9])
    assert {image_id: len(each) for image_id, each in found.items()} == {7: 2, 9: 0}
    assert found[7].objectness.tolist() == [0.5, 0.75]
    assert listed_in_parquet(path, "probability")([7])[7].objectness.tolist() == pytest.approx([0, math.log(3)])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"image_id": [1], "boxes": [[GOOD]]}, "no column objectness"),
        ({"image_id": [1, 1], "boxes": [[], []], "objectness": [[], []]}, "image 1 stands in 2 rows|one row an image"),
        ({"image_id": ["a"], "boxes": [[GOOD]], "objectness": [["high"]]}, "one row an image"),
    ],
)
def test_parquet_of_another_form_is_refused(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    path = tmp_path / "boxes.parquet"
    pq.write_table(pa.table(columns), path)
    with pytest.raises(ValueError, match=message):
        listed_counts(path)


def test_boxes_and_objectness_of_unequal_length_are_refused() -> None:
    table = pa.table({"image_id": [4], "boxes": [[GOOD]], "objectness": [[0.5, 0.5]]})
    with pytest.raises(ValueError, match="image 4 has not as many"):
        listed_boxes(table)
