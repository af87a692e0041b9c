"""Images in rows of parquet files: their bytes, or where their files are."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from regionclip.captions.damage import DAMAGE, lost_rows
from regionclip.captions.rows import NotDownloaded, Rejected
from regionclip.captions.tables import column_values, status_column
from regionclip.image_sources.found import MAX_BYTES, Found, too_large
from regionclip.image_sources.places import TableRow
from regionclip.place_errors import PlaceError, reading

_BATCH = 32  # rows; their bytes are in memory at once
_BYTES = "bytes"  # the field of a struct that holds an image in tables of the `datasets` library

Open = Callable[[str], AbstractContextManager[BinaryIO]]


@dataclass(frozen=True)
class ColumnsConfig:
    """Names of columns; None for `image` takes the only one of bytes, unless `uri` is given, and for `key` one so
    called."""

    image: str | None = None
    uri: str | None = None
    id: str | None = None
    key: str | None = None


def read_table(
    stream: io.BufferedIOBase, name: str, columns: ColumnsConfig, open_image: Open, root: str
) -> Iterator[Found | Rejected | NotDownloaded]:
    """The image of each row, in order; rows that img2dataset marks as no success are only counted, without a number.

    A column of URIs names files below `root`, as `open_image` opens them: relative to it, or beginning with it, local
    ones also as file:/path or file:///path.
    Where the file is damaged, all rows after are rejected.
    Raises ValueError for columns that are missing or cannot be told, and pyarrow errors where nothing says how many
    rows there are.
    """
    with pq.ParquetFile(stream, pre_buffer=False, buffer_size=1 << 16, page_checksum_verification=True) as table:
        schema = table.schema_arrow
        image = _image_column(schema, columns, name)
        key = columns.key or ("key" if "key" in schema.names else None)
        status = status_column(schema.names)
        _require([columns.uri, columns.id, key], schema, name)
        wanted = [each for each in (image or columns.uri, columns.id, key, status) if each]
        row, number = 0, -1
        try:
            for group, first, batch in _batches(table, wanted):
                for values in _rows(batch, (image or columns.uri, columns.id, key, status)):
                    row += 1
                    if status and values[3] != b"success":
                        yield NotDownloaded(1)
                        continue
                    number += 1
                    if columns.id is not None and values[1] is None:
                        yield Rejected(f": row {row}", f"no image id in column '{columns.id}'")
                        continue
                    place = TableRow(name, image or "", group, row - 1 - first)
                    found = _bytes(values[0], place) if image else _file(values[0], open_image, root)
                    if isinstance(found, str):
                        yield Rejected(f": row {row}", found)
                    else:
                        yield Found(number, *found, key=_text(values[2]), image_id=values[1])
        except PlaceError:
            raise
        except DAMAGE as error:
            yield from lost_rows(row, table.metadata.num_rows, error)


def _batches(table: pq.ParquetFile, columns: Sequence[str]) -> Iterator[tuple[int, int, pa.RecordBatch]]:
    """The rows in order, each batch with its row group and the number of rows before that."""
    first = 0
    for group in range(table.num_row_groups):
        for batch in table.iter_batches(_BATCH, row_groups=[group], columns=columns, use_threads=False):
            yield group, first, batch
        first += table.metadata.row_group(group).num_rows


def _rows(batch: pa.RecordBatch, names: Sequence[str | None]) -> Iterator[tuple[Any, ...]]:
    nothing = [None] * batch.num_rows
    return zip(*(nothing if name is None else column_values(_leaf(batch, name)) for name in names), strict=True)


def _leaf(batch: pa.RecordBatch, name: str) -> pa.Array:
    if name in batch.schema.names:
        return batch[name]
    return batch[name.removesuffix(f".{_BYTES}")].field(_BYTES)


def _image_column(schema: pa.Schema, columns: ColumnsConfig, name: str) -> str | None:
    """The column of the bytes (`a.bytes` for a struct), or None when the images are behind URIs."""
    if columns.image is not None:
        _require([columns.image], schema, name)
        leaf = _bytes_leaf(schema.field(columns.image))
        if leaf is None:
            kind = schema.field(columns.image).type
            raise ValueError(f"{name}: column '{columns.image}' is of type {kind}, not bytes; set image_column to one")
        return leaf
    if columns.uri is not None:
        return None
    leaves = [leaf for leaf in map(_bytes_leaf, schema) if leaf is not None]
    if len(leaves) != 1:
        raise ValueError(
            f"{name}: {len(leaves)} columns hold bytes, of {', '.join(schema.names) or 'none'}; set image_column, or "
            "uri_column where the images are files of their own"
        )
    return leaves[0]


def _bytes_leaf(field: pa.Field) -> str | None:
    if pa.types.is_struct(field.type):
        index = field.type.get_field_index(_BYTES)
        is_bytes = index >= 0 and _is_bytes(field.type.field(index).type)
        return f"{field.name}.{_BYTES}" if is_bytes else None
    return str(field.name) if _is_bytes(field.type) else None


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _require(names: Sequence[str | None], schema: pa.Schema, file: str) -> None:
    missing = next((name for name in names if name is not None and name not in schema.names), None)
    if missing is not None:
        raise ValueError(f"{file}: no column '{missing}'; the columns are {', '.join(schema.names) or 'none'}")


def _bytes(data: bytes | None, place: TableRow) -> tuple[str, str, bytes] | str:
    if data is None:
        return "no image"
    return too_large(len(data)) or (str(place), str(place), data)


def _file(value: object, open_image: Open, root: str) -> tuple[str, str, bytes] | str:
    uri = _text(value)
    if not uri:
        return "no image"
    path = re.sub("^file:(//)?(?=/)", "", uri)
    name = path.removeprefix(f"{root.rstrip('/')}/")
    if name.startswith("/") or "://" in name:
        return f"{uri}: not below {root}; set root to a folder or URI that all images are below"
    try:
        with reading(uri), open_image(name) as file:
            data = file.read(MAX_BYTES + 1)
    except ValueError as error:
        return f"{uri}: {error}"
    return too_large(len(data)) or (name, uri, data)


def _text(value: object) -> str | None:
    if value is None:
        return None
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
