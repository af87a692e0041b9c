from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor

from regionclip.boxes import xyxy_to_xywh
from regionclip.proposals.proposer import Proposals
from regionclip.proposals.recall import RecallRow, claim_ranks, recall

IOUS, LIMITS = (0.5, 0.75), (10, 100, 300, 1000)


def fixture(seed: int, num_images: int = 12) -> list[tuple[Proposals, Tensor, NDArray[np.bool_]]]:
    """Images with proposals around their objects, some equal, some objects crowds, some images without either."""
    rng = np.random.default_rng(seed)
    images = []
    for image in range(num_images):
        count = 0 if image == 0 else int(rng.integers(1, 9))
        corners = rng.integers(0, 150, (count, 2))
        sides = rng.choice([12, 32, 60, 96, 140], (count, 2))
        truth = np.concatenate([corners, corners + sides], axis=1).astype(np.float32)
        around = truth[rng.integers(0, count, 60)] if count else np.tile([0.0, 0, 9, 9], (60, 1))
        noise = rng.integers(-9, 10, (60, 4))
        boxes = np.stack([around[:, 0], around[:, 1], around[:, 2], around[:, 3]], axis=1) + noise
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
        scores = rng.permutation(60).astype(np.float32)
        kept = 0 if image == 1 else 60
        proposals = Proposals(torch.tensor(boxes[:kept], dtype=torch.float32), torch.tensor(scores[:kept]))
        images.append((proposals, torch.tensor(truth), rng.random(count) < 0.15))
    return images


def by_pycocotools(images: list[tuple[Proposals, Tensor, NDArray[np.bool_]]]) -> NDArray[np.float64]:
    """[IoUs, sizes, limits]: class-agnostic recalls of COCO's evaluation; -1 where there is no object."""
    annotations, results = [], []
    for image_id, (proposals, truth, crowd) in enumerate(images):
        for box, is_crowd in zip(xyxy_to_xywh(truth).tolist(), crowd.tolist(), strict=True):
            record = {"image_id": image_id, "category_id": 1, "bbox": box, "area": box[2] * box[3]}
            annotations.append({**record, "iscrowd": int(is_crowd), "id": len(annotations) + 1})
        scored = zip(xyxy_to_xywh(proposals.boxes).tolist(), proposals.objectness.tolist(), strict=True)
        results += [{"image_id": image_id, "category_id": 1, "bbox": box, "score": score} for box, score in scored]
    with contextlib.redirect_stdout(io.StringIO()):
        truth_api = COCO()
        truth_api.dataset = {
            "info": {},
            "images": [{"id": image_id} for image_id in range(len(images))],
            "categories": [{"id": 1}],
            "annotations": annotations,
        }
        truth_api.createIndex()
        evaluation = COCOeval(truth_api, truth_api.loadRes(results), "bbox")
        evaluation.params.useCats = 0
        evaluation.params.iouThrs = np.array(IOUS)
        evaluation.params.maxDets = list(LIMITS)
        evaluation.evaluate()
        evaluation.accumulate()
    found: NDArray[np.float64] = evaluation.eval["recall"][:, 0]
    return found


def table(rows: list[RecallRow]) -> NDArray[np.float64]:
    values = [row.recalls if row.recalls is not None else (-1.0,) * len(LIMITS) for row in rows]
    return np.array(values).reshape(len(IOUS), 4, len(LIMITS))


@pytest.mark.parametrize("seed", range(4))
def test_recall_is_that_of_pycocotools_without_categories(seed: int) -> None:
    images = fixture(seed)
    rows = recall(((proposals, truth[~crowd]) for proposals, truth, crowd in images), IOUS, LIMITS)
    assert [row.size for row in rows[:4]] == ["all", "small", "medium", "large"]
    expected = by_pycocotools(images)
    np.testing.assert_allclose(table(rows), expected, atol=1e-12)
    assert 0.1 < expected[1, 0, 0] < expected[0, 0, 1] < 1


def test_an_object_is_found_once_and_a_proposal_finds_one() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 11], [50, 50, 60, 60]])
    truth = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9]])
    one = Proposals(boxes[:1], torch.ones(1))
    assert recall([(one, truth)], (0.5,), (10,))[0].recalls == (0.5,)
    all_three = Proposals(boxes, torch.tensor([1.0, 2.0, 3.0]))
    assert recall([(all_three, truth)], (0.5,), (1, 2, 3))[0].recalls == (0.0, 0.5, 1.0)


def test_a_size_without_objects_has_no_recall() -> None:
    rows = recall([(Proposals(torch.empty(0, 4), torch.empty(0)), torch.tensor([[0.0, 0, 10, 10]]))])
    assert {(row.size, row.num_objects, row.recalls) for row in rows} == {
        ("all", 1, (0.0,) * 4),
        ("small", 1, (0.0,) * 4),
        ("medium", 0, None),
        ("large", 0, None),
    }


def test_of_objects_overlapped_equally_the_last_is_claimed_first() -> None:
    assert claim_ranks(np.array([[0.6, 0.6], [0.0, 0.9], [0.7, 0.0]]), 0.5).tolist() == [2, 0]
