"""Names of images that are parts of files, by which they are read again without a search, and their ids."""

from __future__ import annotations

import re
from dataclasses import dataclass

_FILE_BITS = 32
_MEMBER = re.compile(r"(?P<file>.+?)::(?P<member>.*)@(?P<offset>\d+)\+(?P<size>\d+)", re.DOTALL)
_ROW = re.compile(r"(?P<file>.+?)::(?P<column>.*)@(?P<group>\d+)/(?P<row>\d+)", re.DOTALL)


@dataclass(frozen=True)
class TarMember:
    """`size` bytes from `offset` of an uncompressed tar; `file` is its path below the folder of the images."""

    file: str
    member: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.file}::{self.member}@{self.offset}+{self.size}"


@dataclass(frozen=True)
class TableRow:
    """Row `row` of row group `group` of a parquet file, whose bytes are in `column` (`a.b`: field b of a struct a)."""

    file: str
    column: str
    group: int
    row: int

    def __str__(self) -> str:
        return f"{self.file}::{self.column}@{self.group}/{self.row}"


def parse_place(name: str) -> TarMember | TableRow | None:
    """The part of a file that a name means; None for the name of a whole file."""
    if (found := _MEMBER.fullmatch(name)) is not None:
        return TarMember(found["file"], found["member"], int(found["offset"]), int(found["size"]))
    if (found := _ROW.fullmatch(name)) is not None:
        return TableRow(found["file"], found["column"], int(found["group"]), int(found["row"]))
    return None


def first_image_id(file_number: int) -> int:
    """The id of image 0 of the file at this place of the list of files, from 0; its image n has the id plus n.

    Ids thus rise in the order of the images, and a file's do not hang on how many images the others hold.
    """
    return file_number << _FILE_BITS
