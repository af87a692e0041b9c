from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from regionclip.boxes import box_iou
from regionclip.loading import ImageRecord
from regionclip.proposals.proposer import Images, JoinedProposers, Proposals, Reject
from regionclip.proposals.unseen import GridProposer, RandomProposer

RECORDS = [ImageRecord(1, "a.png", 96, 64), ImageRecord(2, "b.png", 64, 64)]


class Fixed:
    """Gives every image the same boxes."""

    def __init__(self, boxes: Tensor, objectness: Tensor, reads_pixels: bool = False) -> None:
        self.found, self.reads_pixels = Proposals(boxes, objectness), reads_pixels

    def propose(self, images: Images, reject: Reject) -> list[Proposals]:
        return [self.found] * len(images.records)


def squares(*lefts: float) -> Tensor:
    return torch.tensor([[left, 0.0, left + 10, 10.0] for left in lefts])


def join(*proposers: Fixed, **settings: object) -> Proposals:
    joined = JoinedProposers(proposers, **settings)  # type: ignore[arg-type]
    return joined.propose(Images(RECORDS[:1]), lambda item, reason: None)[0]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60), st.floats(0.2, 0.9), st.integers(0, 100))
def test_a_union_is_sorted_apart_bounded_and_of_its_parts(top_k: int, iou: float, seed: int) -> None:
    parts = [RandomProposer(20, seed), GridProposer((24,))]
    alone = [part.propose(Images(RECORDS), lambda item, reason: None) for part in parts]
    union = JoinedProposers(parts, (1.0, 0.0), iou, top_k).propose(Images(RECORDS), lambda item, reason: None)
    for image, found in enumerate(union):
        assert 0 < len(found) <= top_k
        assert torch.equal(found.objectness, found.objectness.sort(descending=True).values)
        assert box_iou(found.boxes, found.boxes).fill_diagonal_(0).max() <= iou
        together = {tuple(box) for part in alone for box in part[image].boxes.tolist()}
        assert {tuple(box) for box in found.boxes.tolist()} <= together


def test_the_better_box_of_any_method_suppresses_the_other() -> None:
    first, second = Fixed(squares(0, 50), torch.tensor([3.0, 1.0])), Fixed(squares(1, 51), torch.tensor([2.0, 2.0]))
    assert join(first, second, nms_iou=0.5).boxes[:, 0].tolist() == [0, 51]
    assert len(join(first, second)) == 4


def test_offsets_decide_between_methods_and_ties_go_to_the_earlier() -> None:
    first, second = Fixed(squares(0), torch.tensor([0.0])), Fixed(squares(1), torch.tensor([0.0]))
    assert join(first, second, top_k=1).boxes[0, 0] == 0
    shifted = join(first, second, logit_offsets=(0.0, 2.5), top_k=1)
    assert shifted.boxes[0, 0] == 1
    assert shifted.objectness.tolist() == [2.5]


@pytest.mark.parametrize("reading", [(False, False), (False, True)])
def test_a_union_reads_pixels_where_one_of_it_does(reading: tuple[bool, bool]) -> None:
    parts = [Fixed(squares(0), torch.zeros(1), reads_pixels) for reads_pixels in reading]
    assert JoinedProposers(parts).reads_pixels == any(reading)
