from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.part_plan import MAX_PART_WEIGHT, plan_parts


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 2 * MAX_PART_WEIGHT), min_size=1, max_size=40), st.integers(1, 9))
def test_a_part_is_bounded_in_items_and_weight_and_no_smaller_than_need_be(weights: list[int], part_size: int) -> None:
    plan = plan_parts(len(weights), part_size, weights)
    assert plan == plan_parts(len(weights), part_size, np.array(weights))
    assert [item for part in plan for item in range(part.start, part.stop)] == list(range(len(weights)))
    for part, following in zip(plan, [*plan[1:], None], strict=True):
        size, weight = part.stop - part.start, sum(weights[part])
        assert 1 <= size <= part_size
        assert weight <= MAX_PART_WEIGHT or size == 1
        if following is not None and size < part_size:
            assert weight + weights[following.start] > MAX_PART_WEIGHT


@pytest.mark.parametrize("part_size", [0, -1])
def test_a_part_of_nothing_is_refused(part_size: int) -> None:
    with pytest.raises(ValueError, match=rf"part_size is {part_size}; give 1 item a part or more"):
        plan_parts(3, part_size)


def test_without_weights_parts_are_of_equal_size() -> None:
    assert plan_parts(7, 3) == plan_parts(7, 3, [0] * 7) == [slice(0, 3), slice(3, 6), slice(6, 7)]
