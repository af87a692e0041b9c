from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.ops import roi_align

from regionclip.teachers.roi_align import align

SIDE = st.integers(-100, 200).map(lambda step: step * 1.37 + 0.0137)
SPAN = st.tuples(SIDE, SIDE).map(sorted)
BOX = st.tuples(st.integers(0, 1), SPAN, SPAN).map(lambda row: (row[0], row[1][0], row[2][0], row[1][1], row[2][1]))


def maps(height: int, width: int) -> Tensor:
    return torch.randn(2, 5, height, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@settings(max_examples=60, deadline=None)
@given(st.lists(BOX, min_size=1, max_size=5), st.integers(1, 9), st.integers(1, 12), st.sampled_from([1, 2, 7]))
def test_the_gather_is_torchvisions_roi_align(
    rows: list[tuple[float, ...]], height: int, width: int, size: int
) -> None:
    feature_map, boxes = maps(height, width), torch.tensor(rows, dtype=torch.float64)
    expected = roi_align(feature_map, boxes, size, 1 / 16, -1, True)
    torch.testing.assert_close(align(feature_map, boxes, size, 1 / 16), expected, rtol=1e-9, atol=1e-9)


def test_single_precision_differs_by_rounding_alone() -> None:
    feature_map = maps(46, 83)
    corners = torch.rand(50, 2, generator=torch.Generator().manual_seed(1)) * 500
    boxes = torch.cat([torch.zeros(50, 1), corners, 1.5 * corners + 40], dim=1)
    exact = roi_align(feature_map, boxes.double(), 14, 1 / 16, -1, True)
    found = align(feature_map.float(), boxes, 14, 1 / 16)
    assert found.dtype == torch.float32
    assert (found - exact).abs().max() < 1e-6 * exact.abs().max()


def test_half_precision_maps_are_pooled_in_single_precision() -> None:
    feature_map, boxes = maps(60, 60).bfloat16(), torch.tensor([[0.0, 902.0, 902.0, 918.0, 913.0]])
    pooled = align(feature_map, boxes, 4, 1 / 16)
    assert torch.equal(pooled, align(feature_map.float(), boxes, 4, 1 / 16).bfloat16())


def test_no_boxes_give_no_regions() -> None:
    assert align(maps(3, 4), torch.empty(0, 5), 7, 1 / 16).shape == (0, 5, 7, 7)
