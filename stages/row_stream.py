"""Images in a column of a parquet file, a few rows at a time or a whole row group."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq

from regionclip.image_sources.places import TableRow
from regionclip.place_errors import reading
from stages.storage import Folder

_BATCH = 32  # rows; their bytes are in memory at once
_BUFFER = 1 << 16  # bytes of a column that are read ahead


class RowStream:
    """The rows of one row group from its start on; a row before the last one taken begins anew."""

    def __init__(self, folder: Folder, file: str, column: str, group: int) -> None:
        self._folder, self._file, self._column, self._group = folder, file, column, group
        self._batches = self._read()
        self._start, self._rows = 0, pa.chunked_array([], pa.binary())

    def take(self, row: TableRow) -> bytes:
        """The bytes of a row's image; ValueError where the file or the row is not as it was listed."""
        if row.row < self._start:
            self._batches, self._start, self._rows = self._read(), 0, self._rows[:0]
        while row.row >= self._start + len(self._rows):
            self._start += len(self._rows)
            rows = next(self._batches, None)
            if rows is None:
                self._rows = self._rows[:0]
                break
            self._rows = rows
        place = row.row - self._start
        return image_bytes(self._rows[place].as_py() if place < len(self._rows) else None, str(row))

    def _read(self) -> Iterator[pa.ChunkedArray]:
        with _as_parquet(self._folder.path(self._file)), self._folder.open(self._file) as file:
            parquet = pq.ParquetFile(file, pre_buffer=False, buffer_size=_BUFFER)
            if self._group < parquet.num_row_groups:
                for batch in parquet.iter_batches(_BATCH, [self._group], [self._column], use_threads=False):
                    yield pa.chunked_array(batch.columns)


def read_group(folder: Folder, file: str, column: str, group: int) -> pa.ChunkedArray:
    """A column of a whole row group; ValueError where the file is not as it was listed."""
    with _as_parquet(folder.path(file)), folder.open(file) as opened:
        parquet = pq.ParquetFile(opened, pre_buffer=False)
        if group < parquet.num_row_groups:
            columns = parquet.read_row_group(group, columns=[column])
            if columns.num_columns == 1:
                return columns.column(0)
    raise ValueError(
        f"{file}: no row group {group} with a column '{column}'; it has changed since its images were listed"
    )


def image_bytes(value: object, place: str) -> bytes:
    """The bytes that a row holds, also in the struct of the `datasets` library; ValueError where there are none."""
    image = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(image, bytes):
        raise ValueError(f"{place}: no image there; the file has changed since its images were listed")
    return image


@contextmanager
def _as_parquet(path: str) -> Iterator[None]:
    """Tell damage, of which pyarrow speaks as an operating system's error without a number, from a place's failure."""
    try:
        with reading(path):
            try:
                yield
            except OSError as error:
                if error.errno is not None:
                    raise
                raise pa.ArrowInvalid(str(error)) from error
    except pa.ArrowException as error:
        raise ValueError(f"{path} cannot be read as parquet ({error})") from error
