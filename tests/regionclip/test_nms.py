import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from regionclip.boxes import box_iou
from regionclip.nms import SoftNms, per_class_nms, soft_nms

LAWS = settings(max_examples=50, deadline=None)


def candidates(seed: int, count: int, num_classes: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    corners = 60 * torch.rand(count, 2, generator=generator, dtype=torch.float64)
    sides = 10 + 40 * torch.rand(count, 2, generator=generator, dtype=torch.float64)
    scores = torch.rand(count, generator=generator, dtype=torch.float64)
    labels = torch.randint(num_classes, (count,), generator=generator)
    return torch.cat((corners, corners + sides), dim=1), scores, labels


def slow_nms(boxes: Tensor, scores: Tensor, labels: Tensor, iou: float) -> list[int]:
    kept: list[int] = []
    for index in sorted(range(len(boxes)), key=lambda i: -float(scores[i])):
        rivals = [k for k in kept if labels[k] == labels[index]]
        if all(float(box_iou(boxes[[index]], boxes[[k]])) <= iou for k in rivals):
            kept.append(index)
    return kept


def slow_soft_nms(
    boxes: Tensor, scores: Tensor, labels: Tensor, method: str, sigma: float, iou: float, prune: float
) -> list[tuple[int, float]]:
    remaining = {index: float(score) for index, score in enumerate(scores) if score > prune}
    chosen = []
    while remaining:
        best = max(remaining, key=lambda i: remaining[i])
        chosen.append((best, remaining.pop(best)))
        for index in list(remaining):
            if labels[index] != labels[best]:
                continue
            overlap = float(box_iou(boxes[[index]], boxes[[best]]))
            if method == "gaussian":
                remaining[index] *= math.exp(-(overlap**2) / sigma)
            elif overlap > iou:
                remaining[index] *= 1 - overlap
            if remaining[index] <= prune:
                del remaining[index]
    return chosen


@LAWS
@given(st.integers(0, 10**6), st.integers(0, 25), st.integers(1, 4), st.sampled_from([0.1, 0.3, 0.5, 0.9]))
def test_nms_equals_the_greedy_loop(seed: int, count: int, num_classes: int, iou: float) -> None:
    boxes, scores, labels = candidates(seed, count, num_classes)
    keep = per_class_nms(boxes, scores, labels, iou)
    assert keep.tolist() == slow_nms(boxes, scores, labels, iou)
    overlaps = box_iou(boxes[keep], boxes[keep]).fill_diagonal_(0)
    assert (overlaps[labels[keep][:, None] == labels[keep]] <= iou).all()


def test_classes_do_not_meet_even_where_a_coordinate_offset_would_lose_precision() -> None:
    pair = torch.tensor([[0.0, 0.0, 1000.0, 0.01], [0.0, 0.006, 1000.0, 0.016]])  # IoU .25
    labels = torch.tensor([1200, 1200])
    boxes, labels = torch.cat((pair, pair)), torch.cat((labels, torch.tensor([0, 1])))
    scores = torch.tensor([0.9, 0.8, 0.7, 0.6])
    assert per_class_nms(boxes, scores, labels, 0.3).tolist() == [0, 1, 2, 3]
    assert per_class_nms(boxes, scores, labels, 0.2).tolist() == [0, 2, 3]


def test_ties_keep_the_order_of_the_input() -> None:
    boxes = torch.tensor([[0.0, 0.0, 9.0, 9.0], [20.0, 0.0, 29.0, 9.0], [40.0, 0.0, 49.0, 9.0]])
    assert per_class_nms(boxes, torch.full((3,), 0.5), torch.tensor([2, 0, 1]), 0.5).tolist() == [0, 1, 2]


@LAWS
@given(st.integers(0, 10**6), st.integers(0, 20), st.integers(1, 4), st.sampled_from(["gaussian", "linear"]))
def test_soft_nms_equals_the_loop_and_never_raises_a_score(
    seed: int, count: int, num_classes: int, method: SoftNms
) -> None:
    boxes, scores, labels = candidates(seed, count, num_classes)
    keep, decayed = soft_nms(boxes, scores, labels, method, sigma=0.5, iou=0.3, prune=0.05)
    expected = slow_soft_nms(boxes, scores, labels, method, sigma=0.5, iou=0.3, prune=0.05)
    assert keep.tolist() == [index for index, _ in expected]
    torch.testing.assert_close(decayed, torch.tensor([score for _, score in expected], dtype=torch.float64))
    assert (decayed <= scores[keep]).all()
    assert (decayed > 0.05).all()


def test_a_limit_keeps_the_best_of_each_class() -> None:
    boxes, scores, labels = candidates(3, 40, 2)
    keep, decayed = soft_nms(boxes, scores, labels, limit=5)
    everything, all_decayed = soft_nms(boxes, scores, labels)
    for label in (0, 1):
        assert keep[labels[keep] == label].tolist() == everything[labels[everything] == label][:5].tolist()
    assert torch.equal(decayed[:5], all_decayed[:5])


def test_linear_soft_nms_removes_a_duplicate() -> None:
    twins = torch.tensor([[0.0, 0.0, 10.0, 10.0]]).repeat(2, 1)
    keep, decayed = soft_nms(twins, torch.tensor([0.4, 0.9]), torch.zeros(2, dtype=torch.int64), "linear")
    assert (keep.tolist(), decayed.tolist()) == ([1], pytest.approx([0.9]))


def test_an_unknown_method_is_refused() -> None:
    boxes, scores, labels = candidates(0, 3, 1)
    with pytest.raises(ValueError, match="'square'"):
        soft_nms(boxes, scores, labels, "square")  # type: ignore[arg-type]
