import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from regionclip.boxes import (
    HEAD_WEIGHTS,
    UNIT_WEIGHTS,
    box_area,
    box_iou,
    check_boxes,
    clip_boxes,
    decode_deltas,
    encode_deltas,
    nonempty,
    xywh_to_xyxy,
    xyxy_to_xywh,
)

LAWS = settings(max_examples=60, deadline=None)


@st.composite
def boxes(draw: st.DrawFn, count: int | None = None) -> Tensor:
    number = count if count is not None else draw(st.integers(1, 6))
    coordinate = st.floats(-50, 200, width=32)
    side = st.floats(1, 300, width=32)
    rows = [[draw(coordinate), draw(coordinate), draw(side), draw(side)] for _ in range(number)]
    return xywh_to_xyxy(torch.tensor(rows, dtype=torch.float64))


@LAWS
@given(boxes())
def test_xywh_round_trip(given_boxes: Tensor) -> None:
    torch.testing.assert_close(xywh_to_xyxy(xyxy_to_xywh(given_boxes)), given_boxes)


def test_xywh_is_left_top_width_height() -> None:
    assert xyxy_to_xywh(torch.tensor([[10.0, 20.0, 13.0, 27.0]])).tolist() == [[10.0, 20.0, 3.0, 7.0]]


@LAWS
@given(boxes(4), boxes(4), st.sampled_from([HEAD_WEIGHTS, UNIT_WEIGHTS]))
def test_decoded_deltas_give_back_the_targets(
    proposals: Tensor, targets: Tensor, weights: tuple[float, float, float, float]
) -> None:
    deltas = encode_deltas(proposals, targets, weights)
    ratios = (targets[:, 2:] - targets[:, :2]) / (proposals[:, 2:] - proposals[:, :2])
    within = (ratios < 60).all(dim=1)
    torch.testing.assert_close(decode_deltas(proposals, deltas, weights)[within], targets[within])


def test_deltas_are_shifts_over_sides_and_log_ratios() -> None:
    proposal, target = torch.tensor([[0.0, 0.0, 10.0, 20.0]]), torch.tensor([[5.0, 10.0, 25.0, 30.0]])
    expected = torch.tensor([[10 * 10 / 10, 10 * 10 / 20, 5 * math.log(2), 0.0]])
    torch.testing.assert_close(encode_deltas(proposal, target), expected)


def test_scales_are_clamped_so_that_boxes_stay_finite() -> None:
    decoded = decode_deltas(torch.tensor([[0.0, 0.0, 16.0, 16.0]]), torch.tensor([[0.0, 0.0, 1e6, 1e6]]))
    torch.testing.assert_close(decoded, torch.tensor([[-492.0, -492.0, 508.0, 508.0]]))


def test_decode_broadcasts_a_proposal_over_the_boxes_of_classes() -> None:
    torch.manual_seed(0)
    proposals = torch.tensor([[0.0, 0.0, 10.0, 10.0], [5.0, 5.0, 9.0, 20.0]])
    deltas = torch.randn(2, 3, 4)
    for k in range(3):
        torch.testing.assert_close(
            decode_deltas(proposals[:, None], deltas)[:, k], decode_deltas(proposals, deltas[:, k])
        )


@LAWS
@given(boxes(), boxes())
def test_iou_laws(first: Tensor, second: Tensor) -> None:
    iou = box_iou(first, second)
    assert ((iou >= 0) & (iou <= 1)).all()
    torch.testing.assert_close(iou, box_iou(second, first).T)
    torch.testing.assert_close(box_iou(first, first).diagonal(), torch.ones(len(first), dtype=torch.float64))
    torch.testing.assert_close(iou, box_iou(3 * first + 7, 3 * second + 7), rtol=1e-6, atol=1e-9)


def test_iou_of_known_boxes() -> None:
    first = torch.tensor([[0.0, 0.0, 10.0, 10.0], [5.0, 5.0, 5.0, 5.0]])
    second = torch.tensor([[5.0, 0.0, 15.0, 10.0], [20.0, 20.0, 30.0, 30.0], [5.0, 5.0, 5.0, 5.0]])
    torch.testing.assert_close(box_iou(first, second), torch.tensor([[1 / 3, 0.0, 0.0], [0.0, 0.0, 0.0]]))


@LAWS
@given(boxes(), st.integers(1, 150), st.integers(1, 150))
def test_clipped_boxes_lie_in_the_image_and_clipping_twice_changes_nothing(
    given_boxes: Tensor, height: int, width: int
) -> None:
    clipped = clip_boxes(given_boxes, height, width)
    assert (clipped >= 0).all()
    assert (clipped[:, 0::2] <= width).all()
    assert (clipped[:, 1::2] <= height).all()
    assert torch.equal(clip_boxes(clipped, height, width), clipped)
    assert (box_area(clipped) <= box_area(given_boxes)).all()


def test_a_box_outside_the_image_is_empty_once_clipped() -> None:
    outside = torch.tensor([[120.0, 10.0, 140.0, 20.0], [90.0, 10.0, 140.0, 20.0]])
    assert nonempty(clip_boxes(outside, 100, 100)).tolist() == [False, True]


def test_min_size_holds_for_both_sides() -> None:
    sides = torch.tensor([[0.0, 0.0, 8.0, 8.0], [0.0, 0.0, 7.0, 20.0], [0.0, 0.0, 20.0, 7.0]])
    assert nonempty(sides, min_size=8).tolist() == [True, False, False]


@pytest.mark.parametrize(
    "bad", [[5.0, 0.0, 5.0, 9.0], [0.0, 9.0, 5.0, 3.0], [0.0, 0.0, float("nan"), 3.0], [0.0, 0.0, float("inf"), 3.0]]
)
def test_the_message_names_the_bad_box(bad: list[float]) -> None:
    with pytest.raises(ValueError, match=r"image 7: 1 of 2 boxes.*first is \[") as raised:
        check_boxes(torch.tensor([[0.0, 0.0, 1.0, 1.0], bad]), "image 7")
    assert str(bad) in str(raised.value)


def test_boxes_of_another_shape_are_refused_and_no_boxes_are_fine() -> None:
    with pytest.raises(ValueError, match=r"\(2, 5\)"):
        check_boxes(torch.zeros(2, 5), "image 7")
    check_boxes(torch.empty(0, 4), "image 7")
