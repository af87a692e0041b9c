"""The fixed parts of row work: bounded in items and in what the items hold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MAX_PART_WEIGHT = 65_536
Weights = Sequence[int] | NDArray[np.int64]


def plan_parts(num_items: int, part_size: int, weights: Weights | None = None) -> list[slice]:
    """The items of each part: at most `part_size`, of at most MAX_PART_WEIGHT together unless one alone weighs more."""
    if part_size < 1:
        raise ValueError(f"part_size is {part_size}; give 1 item a part or more")
    ends = np.cumsum(np.zeros(num_items, np.int64) if weights is None else weights)
    plan: list[slice] = []
    start = 0
    while start < num_items:
        most = MAX_PART_WEIGHT + (int(ends[start - 1]) if start else 0)
        stop = min(start + part_size, max(start + 1, int(np.searchsorted(ends, most, side="right"))))
        plan.append(slice(start, stop))
        start = stop
    return plan
