"""Overlaps of boxes as arrays."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from regionclip.boxes import box_iou
from regionclip.labels.overlaps import overlaps

corners = st.floats(-50, 200, width=32)
some_boxes = st.lists(st.tuples(corners, corners, corners, corners), max_size=5)


@settings(max_examples=60, deadline=None)
@given(first=some_boxes, second=some_boxes)
def test_overlaps_are_those_of_tensors(first: list[tuple[float, ...]], second: list[tuple[float, ...]]) -> None:
    """Equal to the last bit, empty and turned boxes included."""
    boxes, others = (np.array(given, np.float32).reshape(-1, 4) for given in ([*first, *second[:2]], second))
    expected = box_iou(torch.from_numpy(boxes).double(), torch.from_numpy(others).double())
    np.testing.assert_array_equal(overlaps(boxes, others), expected.numpy())
