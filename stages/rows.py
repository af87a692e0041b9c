"""Rows and row groups of an artifact's table by reference, so that workers read them; files of listed images."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from regionclip import schemas
from regionclip.image_sources.places import TableRow, TarMember, parse_place
from stages.contract import Artifact
from stages.parts import iter_tables, read_table, table_files
from stages.storage import Folder

if TYPE_CHECKING:
    from regionclip.loading import ImageRecord
    from regionclip.training.images import ImageFiles

OWN_STORE = "store:"


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
        with _parquet(folder, name) as file:
            groups = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        refs += [RowGroupRef(name.removesuffix(".parquet"), group, num_rows) for group, num_rows in enumerate(groups)]
    return refs


def read_row_group(source: Artifact | Folder, ref: RowGroupRef, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of a referenced row group; nothing else of its file is read."""
    with _parquet(_folder(source), f"{ref.part}.parquet") as file:
        return file.read_row_group(ref.group, columns=None if columns is None else list(columns))


def iter_row_groups(source: Artifact | Folder, name: str, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """The row groups of a table in order, one at a time in memory."""
    for ref in row_group_refs(source, name):
        yield read_row_group(source, ref, columns)


def image_files(images: Artifact, image_ids: NDArray[np.int64]) -> ImageFiles:
    """The files of these images, in their order; ValueError when one is not listed."""
    from regionclip.training.images import ImageFiles  # imports torch, which readers of rows do without

    listed = read_table(images, "images", ["image_id", "file_name"])
    names = dict(zip(listed["image_id"].to_pylist(), listed["file_name"].to_pylist(), strict=True))
    unknown = [image_id for image_id in image_ids.tolist() if image_id not in names]
    if unknown:
        raise ValueError(
            f"{len(unknown)} of {len(image_ids)} images are not among the {len(names)} listed ones, first is "
            f"{unknown[0]}; give the images that the other inputs were made from"
        )
    return ImageFiles([names[image_id] for image_id in image_ids.tolist()], images_folder(images).read)


def image_records(images: Artifact) -> list[ImageRecord]:
    """The listed images, in order."""
    from regionclip.loading import ImageRecord

    return [ImageRecord(**row) for row in read_table(images, "images", schemas.IMAGES.names).to_pylist()]


def images_folder(images: Artifact) -> ImageFolder:
    """The folder of the image files, which an images artifact only points to; `store:` names one of its own store."""
    where: str = images.manifest["external"]["images"]
    if where.startswith(OWN_STORE):
        return ImageFolder(images.folder.parent.parent.child(where.removeprefix(OWN_STORE)).uri)
    return ImageFolder(where)


class ImageFolder(Folder):
    """A folder in which images that are parts of files (`parse_place`) are read like files of their own."""

    def read(self, name: str) -> bytes:
        """The bytes of an image; of a row's, the last two row groups that were read are kept in memory."""
        place = parse_place(name)
        if isinstance(place, TarMember):
            return self._range(place)
        if isinstance(place, TableRow):
            with _ROW_GROUP_LOCK:  # so that threads wait for a row group instead of reading it twice
                rows = _row_group(self, place.file, place.column, place.group)
            value = rows[place.row].as_py() if place.row < len(rows) else None
            image = value.get("bytes") if isinstance(value, dict) else value
            if not isinstance(image, bytes):
                raise ValueError(f"{place}: no image there; the file has changed since its images were listed")
            return image
        return super().read(name)

    def _range(self, member: TarMember) -> bytes:
        target = self.path(member.file)
        try:
            if self.is_local:
                with open(target, "rb") as file:
                    file.seek(member.offset)
                    data = file.read(member.size)
            else:
                data = self._remote().cat_file(target, start=member.offset, end=member.offset + member.size)
        except FileNotFoundError as error:
            raise ValueError(f"{target} does not exist") from error
        except OSError as error:
            raise ValueError(f"{target} cannot be read ({error})") from error
        if len(data) < member.size:
            raise ValueError(f"{member}: the file ends before it; it has changed since its images were listed")
        return data


_ROW_GROUP_LOCK = threading.Lock()


@functools.lru_cache(maxsize=2)
def _row_group(folder: Folder, file: str, column: str, group: int) -> pa.ChunkedArray:
    try:
        with _parquet(folder, file) as parquet:
            if group < parquet.num_row_groups:
                columns = parquet.read_row_group(group, columns=[column])
                if columns.num_columns == 1:
                    return columns.column(0)
    except pa.ArrowException as error:
        raise ValueError(f"{folder.path(file)} cannot be read as parquet ({error})") from error
    raise ValueError(
        f"{file}: no row group {group} with a column '{column}'; it has changed since its images were listed"
    )


def count_in_lists(folder: Folder, table: str, column: str) -> int:
    """The elements of a list column over all rows of a table."""
    return sum(pc.sum(pc.list_value_length(part[column])).as_py() or 0 for part in iter_tables(folder, table, [column]))


def _is_part(name: str, table: str) -> bool:
    stem, dash, number = name.removesuffix(".parquet").rpartition("-")
    return name == f"{table}.parquet" or (stem == table and bool(dash) and number.isdigit())


def _folder(source: Artifact | Folder) -> Folder:
    return source.folder if isinstance(source, Artifact) else source


@contextmanager
def _parquet(folder: Folder, name: str) -> Iterator[pq.ParquetFile]:
    with folder.open(name) as file, pq.ParquetFile(file, pre_buffer=False) as parquet:
        yield parquet
