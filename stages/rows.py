"""Rows of an artifact's table by reference, so that workers read large columns themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

import pyarrow as pa

from stages.contract import Artifact
from stages.parts import iter_tables
from stages.storage import Folder


@dataclass(frozen=True)
class RowRef:
    """Row `row` of the table file `part` (without its ending)."""

    part: str
    row: int


def row_refs(source: Artifact, table: str, columns: Sequence[str]) -> tuple[list[RowRef], pa.Table]:
    """References to all rows of a table in order, beside the named columns of it."""
    parts = [name.removesuffix(".parquet") for name in source.folder.names() if _is_part(name, table)]
    tables = list(iter_tables(source, table, columns))
    refs = [RowRef(part, row) for part, rows in zip(parts, tables, strict=True) for row in range(len(rows))]
    return refs, pa.concat_tables(tables)


@dataclass
class RowReader:
    """Reads referenced rows of a folder, keeping the file that was read last."""

    folder: Folder
    columns: Sequence[str] | None = None
    _last: tuple[str, pa.Table] | None = field(default=None, init=False)

    def take(self, refs: Sequence[RowRef]) -> pa.Table:
        """The referenced rows in their order."""
        pieces = []
        for part, group in groupby(refs, key=lambda ref: ref.part):
            if self._last is None or self._last[0] != part:
                self._last = part, next(iter_tables(self.folder, part, self.columns))
            pieces.append(self._last[1].take([ref.row for ref in group]))
        return pa.concat_tables(pieces).combine_chunks()


def _is_part(name: str, table: str) -> bool:
    stem, dash, number = name.removesuffix(".parquet").rpartition("-")
    return name == f"{table}.parquet" or (stem == table and bool(dash) and number.isdigit())
