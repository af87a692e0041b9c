"""Rows and row groups of an artifact's table by reference, so that workers read them."""

from __future__ import annotations

import functools
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, groupby
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from stages.contract import Artifact
from stages.parts import iter_tables, read_table, table_files
from stages.storage import Folder

_ROWS_AT_A_TIME = 16_384


@dataclass(frozen=True)
class RowRef:
    """Row `row` of the table file `part` (without its ending)."""

    part: str
    row: int


@dataclass(frozen=True)
class RowRange:
    """Rows `start` to `stop` of the table file `part` (without its ending)."""

    part: str
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class TableRows(Sequence[RowRef]):
    """References to rows of a table, held as ranges, so that a slice of them is small however many rows it has."""

    ranges: tuple[RowRange, ...]

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[RowRef]:
        return (RowRef(each.part, row) for each in self.ranges for row in range(each.start, each.stop))

    @overload
    def __getitem__(self, index: int) -> RowRef: ...

    @overload
    def __getitem__(self, index: slice) -> TableRows: ...

    def __getitem__(self, index: int | slice) -> RowRef | TableRows:
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            assert step == 1, "rows are taken in their order"
            return TableRows(tuple(self._between(start, stop)))
        if not 0 <= index < len(self):
            raise IndexError(index)
        (found,) = self._between(index, index + 1)
        return RowRef(found.part, found.start)

    @functools.cached_property
    def _ends(self) -> list[int]:
        return list(accumulate(len(each) for each in self.ranges))

    def _between(self, start: int, stop: int) -> Iterator[RowRange]:
        for number in range(bisect_right(self._ends, start), len(self.ranges)):
            if start >= stop:
                return
            each, end = self.ranges[number], min(stop, self._ends[number])
            first = each.stop - (self._ends[number] - start)
            yield RowRange(each.part, first, first + end - start)
            start = end


def table_rows(source: Artifact, table: str) -> TableRows:
    """References to all rows of a table in order; only the files' ends are read."""
    ranges = []
    for name in table_files(source.folder, table):
        with open_parquet(source.folder, name) as file:
            ranges.append(RowRange(name.removesuffix(".parquet"), 0, file.metadata.num_rows))
    return TableRows(tuple(each for each in ranges if len(each)))


def table_schema(source: Artifact, table: str, needed: Sequence[str]) -> pa.Schema:
    """The schema of a table; ValueError where a `needed` column is not there, as in tables of an older version."""
    with open_parquet(source.folder, table_files(source.folder, table)[0]) as file:
        schema = file.schema_arrow
    missing = [name for name in needed if name not in schema.names]
    if missing:
        raise ValueError(
            f"{source.kind} {source.key} have no column {', '.join(missing)}: an older version made them; make them "
            "again with 'rgc run'"
        )
    return schema


def column_values(source: Artifact | Folder, table: str, column: str) -> NDArray[Any]:
    """A column of numbers, over all parts of a table in order."""
    return np.concatenate([part[column].to_numpy() for part in iter_tables(source, table, [column])])


def list_lengths(source: Artifact | Folder, table: str, column: str) -> NDArray[np.int64]:
    """How many elements a list column has in each row, over all parts of a table in order, int64 [rows]."""
    parts = iter_tables(source, table, [column])
    return np.concatenate([pc.list_value_length(part[column]).to_numpy() for part in parts]).astype(np.int64)


def row_refs(source: Artifact, table: str, columns: Sequence[str]) -> tuple[list[RowRef], pa.Table]:
    """References to all rows of a table in order, beside the named columns of it."""
    return list(table_rows(source, table)), read_table(source, table, columns)


@dataclass(frozen=True)
class RowReader:
    """Reads referenced rows of a folder's tables; of a large file no more than a piece at a time is in memory."""

    folder: Folder
    columns: Sequence[str] | None = None

    def take(self, rows: Sequence[RowRef]) -> pa.Table:
        """The referenced rows in their order."""
        return pa.concat_tables([self._read(each) for each in _ranges(rows)]).combine_chunks()

    def _read(self, wanted: RowRange) -> pa.Table:
        (name,) = table_files(self.folder, wanted.part)
        with open_parquet(self.folder, name) as file:
            sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
            first, last = np.searchsorted(np.cumsum(sizes), [wanted.start, wanted.stop - 1], side="right")
            at, pieces = sum(sizes[:first]), []
            for batch in file.iter_batches(_ROWS_AT_A_TIME, range(first, last + 1), self.columns):
                start, stop = max(wanted.start, at) - at, min(wanted.stop - at, len(batch))
                at += len(batch)
                if start < stop:
                    pieces.append(batch.slice(start, stop - start))
                if at >= wanted.stop:
                    break
        return pa.Table.from_batches(pieces)


def _ranges(rows: Sequence[RowRef]) -> Iterator[RowRange]:
    """The rows as the longest ranges, in their order."""
    runs = groupby(enumerate(rows), key=lambda each: (each[1].part, each[1].row - each[0]))
    for (part, _), run in runs:
        refs = [ref for _, ref in run]
        yield RowRange(part, refs[0].row, refs[-1].row + 1)


@dataclass(frozen=True)
class RowGroupRef:
    """Row group `group` of the table file `part` (without its ending), which holds `num_rows` rows."""

    part: str
    group: int
    num_rows: int


def row_group_refs(source: Artifact | Folder, table: str) -> list[RowGroupRef]:
    """References to all row groups of a table in order, empty ones included; only the files' ends are read."""
    folder = _folder(source)
    refs = []
    for name in table_files(folder, table):
        with open_parquet(folder, name) as file:
            groups = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        refs += [RowGroupRef(name.removesuffix(".parquet"), group, num_rows) for group, num_rows in enumerate(groups)]
    return refs


def read_row_group(source: Artifact | Folder, ref: RowGroupRef, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of a referenced row group; nothing else of its file is read."""
    with open_parquet(_folder(source), f"{ref.part}.parquet") as file:
        return file.read_row_group(ref.group, columns=None if columns is None else list(columns))


def count_in_lists(folder: Folder, table: str, column: str) -> int:
    """The elements of a list column over all rows of a table."""
    return int(list_lengths(folder, table, column).sum())


def _folder(source: Artifact | Folder) -> Folder:
    return source.folder if isinstance(source, Artifact) else source


@contextmanager
def open_parquet(folder: Folder, name: str) -> Iterator[pq.ParquetFile]:
    """A parquet file of a folder, of which no more is read than what is asked for."""
    with folder.open(name) as file, pq.ParquetFile(file, pre_buffer=False) as parquet:
        yield parquet
