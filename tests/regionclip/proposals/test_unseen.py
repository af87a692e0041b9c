import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from regionclip.boxes import check_boxes
from regionclip.loading import ImageRecord
from regionclip.proposals.proposer import Images
from regionclip.proposals.unseen import RandomProposer, grid_boxes, random_boxes


@settings(max_examples=40, deadline=None)
@given(st.integers(8, 200), st.integers(8, 200), st.integers(0, 50), st.integers(0, 1000))
def test_random_boxes_lie_on_the_grid_within_the_image(height: int, width: int, count: int, seed: int) -> None:
    proposals = random_boxes(height, width, count, seed)
    assert len(proposals) == count
    check_boxes(proposals.boxes, "random boxes")
    assert (proposals.boxes % 8 == 0).all()
    if count:
        assert proposals.boxes[:, 2].max() <= width
        assert proposals.boxes[:, 3].max() <= height
    assert torch.equal(proposals.boxes, random_boxes(height, width, count, seed).boxes)


def test_random_boxes_need_a_grid() -> None:
    with pytest.raises(ValueError, match="7 pixels"):
        random_boxes(64, 7, 10, seed=0)


@settings(max_examples=30, deadline=None)
@given(st.integers(20, 200), st.integers(20, 200), st.integers(16, 64), st.sampled_from([0.0, 0.3, 0.5]))
def test_grid_boxes_cover_the_image_and_share_the_overlap(height: int, width: int, size: int, overlap: float) -> None:
    boxes = grid_boxes(height, width, sizes=(size,), aspect_ratios=(1.0,), overlap=overlap).boxes
    check_boxes(boxes, "grid boxes")
    for axis, side in ((0, width), (1, height)):
        starts, ends = boxes[:, axis].unique(), boxes[:, axis + 2].unique()
        assert starts[0] == 0
        assert ends[-1] == pytest.approx(side)
        shared = ends[:-1] - starts[1:]
        assert (shared >= overlap * min(size, side) - 1e-3).all()


def test_random_boxes_depend_on_the_image_and_not_on_its_neighbours() -> None:
    records = [ImageRecord(image_id, "", 64, 48) for image_id in (1, 2)]
    proposer = RandomProposer(5, seed=3)
    together = proposer.propose(Images(records), lambda item, reason: None)
    (alone,) = proposer.propose(Images(records[1:]), lambda item, reason: None)
    assert torch.equal(alone.boxes, together[1].boxes)
    assert not torch.equal(together[0].boxes, together[1].boxes)


def test_an_image_too_narrow_for_random_boxes_goes_without_and_its_neighbours_keep_theirs() -> None:
    records = [ImageRecord(1, "narrow.png", 300, 7), ImageRecord(2, "wide.png", 64, 48)]
    proposer, rejected = RandomProposer(5, seed=3), dict[str, str]()
    narrow, wide = proposer.propose(Images(records), rejected.__setitem__)
    (alone,) = proposer.propose(Images(records[1:]), rejected.__setitem__)
    assert (len(narrow), len(wide)) == (0, 5)
    assert torch.equal(wide.boxes, alone.boxes)
    assert rejected == {"narrow.png": "300 x 7 pixels have no 8-pixel grid"}
