"""The fixed parts of row work: bounded in items and in what the items hold."""

from __future__ import annotations

from collections.abc import Sequence

MAX_PART_WEIGHT = 65_536


def plan_parts(num_items: int, part_size: int, weights: Sequence[int] | None = None) -> list[slice]:
    """The items of each part: at most `part_size`, of at most MAX_PART_WEIGHT together unless one alone weighs more."""
    plan: list[slice] = []
    start, weight = 0, 0
    for item in range(num_items):
        own = 0 if weights is None else weights[item]
        if item - start == part_size or (item > start and weight + own > MAX_PART_WEIGHT):
            plan.append(slice(start, item))
            start, weight = item, 0
        weight += own
    return [*plan, slice(start, num_items)]
