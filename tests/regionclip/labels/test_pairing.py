"""Two sets of labels side by side, though their parts and images differ."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from regionclip.labels.pairing import listed_places, paired

LISTED = np.array([40, 3, 17, 8, 25, 1, 99, 12])
SUBSET = st.lists(st.booleans(), min_size=len(LISTED), max_size=len(LISTED)).map(
    lambda chosen: [int(image_id) for image_id, is_in in zip(LISTED, chosen, strict=True) if is_in]
)
CUTS = st.lists(st.integers(1, 4), min_size=len(LISTED), max_size=len(LISTED))


def parts(image_ids: Sequence[int], sizes: Sequence[int], name: str) -> list[pa.Table]:
    tables, start = [], 0
    for size in sizes:
        rows = image_ids[start : start + size]
        if rows:
            tables.append(pa.table({"image_id": pa.array(rows, pa.int64()), "of": [f"{name}{row}" for row in rows]}))
        start += size
    return tables


@settings(max_examples=60, deadline=None)
@given(SUBSET, SUBSET, CUTS, CUTS)
def test_the_images_of_both_are_paired_however_the_parts_are_cut(
    first: list[int], other: list[int], first_sizes: list[int], other_sizes: list[int]
) -> None:
    tables = parts(first, first_sizes, "a")
    pairs = list(paired(tables, parts(other, other_sizes, "b"), listed_places(LISTED)))
    mine = [value for pair in pairs for value in pair[0]["of"].to_pylist()]
    theirs = [value for pair in pairs for value in pair[1]["of"].to_pylist()]
    both = [image_id for image_id in first if image_id in other]
    assert mine == [f"a{image_id}" for image_id in both]
    assert theirs == [f"b{image_id}" for image_id in both]


def test_no_more_is_read_of_the_other_set_than_is_needed() -> None:
    ids = [int(image_id) for image_id in LISTED]
    read = []

    def others() -> object:
        for table in parts(ids, [2, 2, 2, 2], "b"):
            read.append(table.num_rows)
            yield table

    next(iter(paired(parts(ids, [2, 6], "a"), others(), listed_places(LISTED))))  # type: ignore[arg-type]
    assert len(read) == 1


def test_an_image_that_is_not_listed_has_no_place() -> None:
    assert listed_places(LISTED)(np.array([17, 2, 1000, 40])).tolist() == [2, -1, -1, 0]
    assert listed_places(np.array([], np.int64))(np.array([5])).tolist() == [-1]
