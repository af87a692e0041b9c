from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regionclip.grouped import Grouped, grouped_lists, grouped_rows, list_column
from regionclip.schemas import BOX

counts_of_lists = st.lists(st.integers(0, 4), min_size=1, max_size=6).filter(any)


@settings(max_examples=50, deadline=None)
@given(counts=counts_of_lists)
def test_list_columns_read_back_as_they_were_written(counts: list[int]) -> None:
    total = sum(counts)
    boxes = np.arange(4 * total, dtype=np.float32).reshape(-1, 4)
    ids = np.arange(3 * total, dtype=np.int32).reshape(-1, 3)
    keep = np.arange(total) % 2 == 0
    halves = np.arange(2 * total, dtype=np.float16).reshape(-1, 2)
    table = pa.table(
        {
            "boxes": list_column(boxes, counts, BOX),
            "ids": list_column(ids, counts, pa.list_(pa.int32())),
            "keep": list_column(keep, counts, pa.bool_()),
            "halves": list_column(halves, counts, pa.list_(pa.float16(), 2)),
        }
    )
    assert [len(each) for each in table["boxes"].to_pylist()] == counts
    for whole in (table, pa.concat_tables([table.slice(0, 1), table.slice(1)])):
        read = grouped_lists(whole, table.column_names)
        assert read.offsets.tolist() == [0, *np.cumsum(counts)]
        for name, values in (("boxes", boxes), ("ids", ids), ("keep", keep), ("halves", halves)):
            np.testing.assert_array_equal(read[name], values)
            assert read[name].dtype == values.dtype


@settings(max_examples=50, deadline=None)
@given(counts=counts_of_lists, data=st.data())
def test_rows_of_images_are_those_between_their_offsets(counts: list[int], data: st.DataObject) -> None:
    images = data.draw(st.lists(st.integers(0, len(counts) - 1), min_size=1, max_size=5))
    offsets = np.concatenate([[0], np.cumsum(counts)])
    grouped = Grouped(offsets, {"row": np.arange(offsets[-1])})
    rows, owner = grouped.rows(np.array(images))
    expected = [(row, place) for place, image in enumerate(images) for row in range(offsets[image], offsets[image + 1])]
    assert list(zip(rows.tolist(), owner.tolist(), strict=True)) == expected


@settings(max_examples=50, deadline=None)
@given(owners=st.lists(st.integers(0, 6), max_size=12), image_ids=st.permutations([5, 1, 3, 2]))
def test_flat_rows_are_grouped_by_image_in_their_order(owners: list[int], image_ids: list[int]) -> None:
    grouped = grouped_rows(np.array(owners, np.int64), np.array(image_ids), {"row": np.arange(len(owners))})
    for image, image_id in enumerate(image_ids):
        rows, _ = grouped.rows(np.array([image]))
        assert grouped["row"][rows].tolist() == [row for row, owner in enumerate(owners) if owner == image_id]


def test_no_images_have_no_rows() -> None:
    grouped = grouped_rows(np.array([4, 5]), np.empty(0, np.int64), {"row": np.arange(2)})
    assert (len(grouped), len(grouped["row"])) == (0, 0)


def test_an_empty_table_is_refused() -> None:
    with pytest.raises(ValueError, match="the table is empty"):
        grouped_lists(pa.table({"boxes": pa.array([], pa.list_(BOX))}), ["boxes"])
