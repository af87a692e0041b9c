"""Rows by reference: ranges that slice like lists, travel as few bytes, and are read without the rest of their file."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stages.contract import Artifact
from stages.parts import write_table
from stages.rows import (
    RowRange,
    RowReader,
    RowRef,
    TableRows,
    column_values,
    list_lengths,
    row_refs,
    table_rows,
    table_schema,
)
from stages.storage import Folder

SIZES = (3, 0, 4, 1)


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The numbers from 0 on in files of SIZES rows, in row groups of 2, each beside a list of that length."""
    folder = tmp_path_factory.mktemp("numbers")
    start = 0
    for part, size in enumerate(SIZES):
        values = list(range(start, start + size))
        rows = pa.table({"number": pa.array(values, pa.int64()), "list": [[0] * value for value in values]})
        rows = rows.cast(pa.schema([("number", pa.int64()), ("list", pa.list_(pa.int8()))]))
        pq.write_table(rows, folder / f"numbers-{part:05d}.parquet", row_group_size=2)
        start += size
    return Artifact("numbers", "n", Folder(str(folder)))


def test_references_stand_for_all_rows_in_order(numbers: Artifact) -> None:
    rows = table_rows(numbers, "numbers")
    expected = [RowRef(f"numbers-{part:05d}", row) for part, size in enumerate(SIZES) for row in range(size)]
    assert list(rows) == [rows[index] for index in range(len(rows))] == expected
    assert row_refs(numbers, "numbers", ["number"])[0] == expected
    with pytest.raises(IndexError):
        rows[len(rows)]
    assert column_values(numbers, "numbers", "number").tolist() == list(range(8))
    assert list_lengths(numbers, "numbers", "list").tolist() == list(range(8))


@settings(max_examples=100, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 5), max_size=6),
    bounds=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=3),
)
def test_slices_of_slices_are_those_of_a_list(sizes: list[int], bounds: list[tuple[int, int]]) -> None:
    rows = TableRows(tuple(RowRange(f"t-{part:05d}", 7, 7 + size) for part, size in enumerate(sizes)))
    refs = list(rows)
    for start, stop in bounds:
        rows, refs = rows[start:stop], refs[start:stop]
        assert (list(rows), len(rows)) == (refs, len(refs))


def test_a_part_of_a_million_rows_travels_as_few_bytes() -> None:
    rows = TableRows(tuple(RowRange(f"regions-{part:05d}", 0, 256) for part in range(4000)))
    parts = [rows[start : start + 256] for start in range(100, len(rows), 256)]
    assert sum(map(len, parts)) == len(rows) - 100
    assert max(len(pickle.dumps(part)) for part in parts) < 250


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chosen=st.lists(st.integers(0, 7), min_size=1, max_size=12))
def test_any_rows_are_read_in_the_order_asked_for(numbers: Artifact, chosen: list[int]) -> None:
    refs = list(table_rows(numbers, "numbers"))
    taken = RowReader(numbers.folder).take([refs[number] for number in chosen])
    assert taken["number"].to_pylist() == chosen
    assert [len(each) for each in taken["list"].to_pylist()] == chosen
    assert RowReader(numbers.folder, ["list"]).take(refs[:1]).column_names == ["list"]


@pytest.fixture
def allocated() -> Iterator[pa.MemoryPool]:
    """Counts what Arrow allocates."""
    before = pa.default_memory_pool()
    pool = pa.proxy_memory_pool(before)
    pa.set_memory_pool(pool)
    yield pool
    pa.set_memory_pool(before)


@pytest.fixture
def large(tmp_path: Path) -> Folder:
    """A million rows of 16 bytes in one row group."""
    number = np.arange(1_000_000)
    write_table(Folder(str(tmp_path)), "images", pa.table({"number": number, "hundreds": number // 100}))
    return Folder(str(tmp_path))


def test_a_few_rows_of_a_large_file_take_little_memory(large: Folder, allocated: pa.MemoryPool) -> None:
    rows = TableRows((RowRange("images", 0, 1_000_000),))[700_000:700_256]
    taken = RowReader(large, ["number", "hundreds"]).take(rows)
    assert taken["number"].to_pylist() == list(range(700_000, 700_256))
    assert allocated.max_memory() < 6e6


def test_a_column_that_an_older_version_did_not_write_is_named(numbers: Artifact) -> None:
    assert table_schema(numbers, "numbers", ["list"]).names == ["number", "list"]
    with pytest.raises(
        ValueError, match=r"numbers n have no column uri, sha256: an older version made them; make them"
    ):
        table_schema(numbers, "numbers", ["uri", "number", "sha256"])
