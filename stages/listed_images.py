"""Files of listed images, also those that are parts of other files."""

from __future__ import annotations

import functools
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from regionclip import schemas
from regionclip.image_sources.places import TableRow, TarMember, parse_place
from regionclip.place_errors import reading
from stages.contract import Artifact
from stages.parts import read_table
from stages.row_stream import RowStream, image_bytes, read_group
from stages.storage import Folder

if TYPE_CHECKING:
    from regionclip.loading import ImageRecord
    from regionclip.training.images import ImageFiles

OWN_STORE = "store:"


def image_files(images: Artifact, image_ids: NDArray[np.int64]) -> ImageFiles:
    """The files of these images, in their order, and their sizes; ValueError when one is not listed."""
    from regionclip.training.images import ImageFiles  # imports torch, which readers of rows do without

    columns = ["image_id", "file_name", "width", "height"]
    listed = read_table(images, "images", columns)
    rows = dict(zip(listed["image_id"].to_pylist(), range(len(listed)), strict=True))
    unknown = [image_id for image_id in image_ids.tolist() if image_id not in rows]
    if unknown:
        raise ValueError(
            f"{len(unknown)} of {len(image_ids)} images are not among the {len(rows)} listed ones, first is "
            f"{unknown[0]}; give the images that the other inputs were made from"
        )
    chosen = listed.take([rows[image_id] for image_id in image_ids.tolist()])
    _, names, widths, heights = (chosen[name].to_pylist() for name in columns)
    return ImageFiles(names, images_folder(images).read, list(zip(widths, heights, strict=True)))


def image_records(images: Artifact) -> list[ImageRecord]:
    """The listed images, in order."""
    from regionclip.loading import records_of

    return records_of(read_table(images, "images", schemas.IMAGES.names), "file_name")


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
            return image_bytes(rows[place.row].as_py() if place.row < len(rows) else None, str(place))
        return super().read(name)

    @contextmanager
    def gathered(self, names: Sequence[str]) -> Iterator[Callable[[str], bytes]]:
        """What reads these images in any order, inside the block.

        Rows of parquet files are first copied, in the order they stand there, to a temporary file: a row group is
        read once for all `names`, and once for several calls that go through it in order, a page of it at a time.
        """
        rows = [place for place in map(parse_place, names) if isinstance(place, TableRow)]
        if not rows:
            yield self.read
            return
        with tempfile.TemporaryFile(prefix="rgc-images-") as copy:
            spans = self._copied(rows, copy)

            def read(name: str) -> bytes:
                return os.pread(copy.fileno(), *spans[name]) if name in spans else self.read(name)

            yield read

    def _copied(self, rows: Sequence[TableRow], copy: BinaryIO) -> dict[str, tuple[int, int]]:
        """The size and place of each row's image in the copy; those that cannot be read are left to `read`."""
        spans = {}
        for row in sorted(rows, key=lambda row: (row.file, row.column, row.group, row.row)):
            try:
                image = _row_stream(self, row.file, row.column, row.group).take(row)
            except ValueError:
                continue
            spans[str(row)] = (len(image), copy.tell())
            copy.write(image)
        copy.flush()
        return spans

    def _range(self, member: TarMember) -> bytes:
        target = self.path(member.file)
        with reading(target):
            if self.is_local:
                with open(target, "rb") as file:
                    file.seek(member.offset)
                    data = file.read(member.size)
            else:
                data = self._remote().cat_file(target, start=member.offset, end=member.offset + member.size)
        if len(data) < member.size:
            raise ValueError(f"{member}: the file ends before it; it has changed since its images were listed")
        return bytes(data)


_ROW_GROUP_LOCK = threading.Lock()


@functools.lru_cache(maxsize=2)
def _row_group(folder: Folder, file: str, column: str, group: int) -> pa.ChunkedArray:
    return read_group(folder, file, column, group)


@functools.lru_cache(maxsize=1)
def _row_stream(folder: Folder, file: str, column: str, group: int) -> RowStream:
    return RowStream(folder, file, column, group)
