"""Rows grouped by image, as flat columns with offsets: boxes, labels and captions of many images without objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray


@dataclass(frozen=True)
class Grouped:
    """Columns of R rows; the rows of image i are `offsets[i]` to `offsets[i + 1]`, offsets int64 [I + 1]."""

    offsets: NDArray[np.int64]
    columns: Mapping[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, column: str) -> NDArray[Any]:
        return self.columns[column]

    def counts(self, images: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows of each image of `images` [B]."""
        return self.offsets[images + 1] - self.offsets[images]

    def rows(self, images: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The rows of `images` [B] in order, int64 [R], and which of the B each belongs to, int64 [R]."""
        counts = self.counts(images)
        owner = np.repeat(np.arange(len(images), dtype=np.int64), counts)
        before = np.cumsum(counts) - counts
        return np.arange(len(owner), dtype=np.int64) + (self.offsets[images] - before)[owner], owner


def grouped_lists(table: pa.Table, columns: Sequence[str]) -> Grouped:
    """The list columns of a table with one row an image; inner lists, all of one length, become a second axis."""
    if not columns or not len(table):
        raise ValueError(f"no rows to read {', '.join(columns)} from; the table is empty")
    lengths = pc.list_value_length(table[columns[0]]).to_numpy()
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    return Grouped(offsets, {name: _flat(table[name], int(offsets[-1])) for name in columns})


def grouped_rows(
    owners: NDArray[np.int64], image_ids: NDArray[np.int64], columns: Mapping[str, NDArray[Any]]
) -> Grouped:
    """Flat rows, row r of the image `owners[r]`, grouped in the order of `image_ids`; rows of others are left out."""
    if not len(image_ids):
        return Grouped(np.zeros(1, np.int64), {name: values[:0] for name, values in columns.items()})
    by_id = np.argsort(image_ids, kind="stable")
    place = np.searchsorted(image_ids, owners, sorter=by_id)
    position = by_id[np.minimum(place, len(image_ids) - 1)]
    known = np.flatnonzero(image_ids[position] == owners)
    order = known[np.argsort(position[known], kind="stable")]
    counts = np.bincount(position[known], minlength=len(image_ids))
    offsets = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    return Grouped(offsets, {name: values[order] for name, values in columns.items()})


def list_column(values: NDArray[Any], counts: Sequence[int] | NDArray[np.int64], inner: pa.DataType) -> pa.ListArray:
    """Rows [R] or [R, C] as a list column, the first `counts[0]` rows in the first list; `inner`: type of one row."""
    flat = np.ascontiguousarray(values).reshape(-1)
    rows = pa.array(flat, inner if values.ndim == 1 else inner.value_type)
    if pa.types.is_fixed_size_list(inner):
        rows = pa.FixedSizeListArray.from_arrays(rows, type=inner)
    elif values.ndim == 2:
        rows = pa.ListArray.from_arrays(np.arange(len(values) + 1, dtype=np.int32) * values.shape[1], rows)
    return pa.ListArray.from_arrays(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32), rows)


def _flat(column: pa.ChunkedArray, num_rows: int) -> NDArray[Any]:
    values = column.combine_chunks()
    if isinstance(values, pa.ChunkedArray):
        values = pa.concat_arrays(values.chunks)
    values = values.flatten()
    if not pa.types.is_nested(values.type):
        return np.array(values.to_numpy(zero_copy_only=False))
    inner = np.array(values.flatten().to_numpy(zero_copy_only=False))
    return inner.reshape(num_rows, -1) if num_rows else inner.reshape(0, getattr(values.type, "list_size", 0))
