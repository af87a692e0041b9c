"""Captions in a column of a parquet file, such as those that an image downloader leaves beside its tars."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from regionclip.captions.damage import DAMAGE, lost_rows
from regionclip.captions.lines import missing_column
from regionclip.captions.rows import NotDownloaded, ReadingConfig, Rejected, Row
from regionclip.place_errors import PlaceError

_BATCH = 1000
_STATUS = "status"
_DOWNLOADER = {"key", _STATUS, "error_message"}  # columns by which img2dataset's files are known


def read_parquet(file: io.BufferedIOBase, config: ReadingConfig) -> Iterator[Row | Rejected | NotDownloaded]:
    """The captions in `config.column`, a batch at a time; rows that img2dataset marks as no success are only counted.

    Where the file is damaged, all rows after are rejected. Raises pyarrow errors where nothing says how many there are.
    """
    with pq.ParquetFile(file, pre_buffer=False, buffer_size=1 << 16, page_checksum_verification=True) as table:
        names = table.schema_arrow.names
        reason = missing_column(names, config)
        if reason:
            yield from (Rejected(f": row {row}", reason) for row in range(1, table.metadata.num_rows + 1))
            return
        status = status_column(names)
        wanted = [name for name in (config.column, config.id_column, config.image_id_column, status) if name]
        row, number = 0, -1
        try:
            for batch in table.iter_batches(batch_size=_BATCH, columns=wanted, use_threads=False):
                captions = column_values(batch[config.column])
                nothing = [None] * len(captions)
                identities = nothing if config.id_column is None else column_values(batch[config.id_column])
                image_ids = nothing if config.image_id_column is None else column_values(batch[config.image_id_column])
                states = [b"success"] * len(captions) if status is None else column_values(batch[status])
                for caption, identity, image_id, state in zip(captions, identities, image_ids, states, strict=True):
                    row += 1
                    if state != b"success":
                        yield NotDownloaded(1)
                        continue
                    number += 1
                    yield Row(f": row {row}", caption, image_id, identity, number)
        except PlaceError:
            raise
        except DAMAGE as error:
            yield from lost_rows(row, table.metadata.num_rows, error)


def status_column(names: Sequence[str]) -> str | None:
    """The column that says of each row whether its image was downloaded, in a file of img2dataset."""
    return _STATUS if set(names) >= _DOWNLOADER else None


def column_values(column: pa.Array) -> list[Any]:
    """The values of a column, text as its bytes, which need not be UTF-8."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = column.cast(pa.large_binary())
    values: list[Any] = column.to_pylist()
    return values
