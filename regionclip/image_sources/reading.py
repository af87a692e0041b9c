"""Files that hold images as tables of fixed size: ids, places, sizes in pixels and hashes, and what was left out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa

from regionclip.captions.damage import DAMAGE, damaged
from regionclip.captions.reading import NOT_DOWNLOADED
from regionclip.captions.rows import IdSet, NotDownloaded, Rejected
from regionclip.image_sources.found import MAX_BYTES, Found, too_large
from regionclip.image_sources.listing import PackedFile, PlainFile
from regionclip.image_sources.places import first_image_id
from regionclip.image_sources.tables import ColumnsConfig, Open, read_table
from regionclip.image_sources.tars import read_tar
from regionclip.images import image_size
from regionclip.place_errors import PlaceError, reading
from regionclip.schemas import PACKED_IMAGES, rejected_table
from regionclip.undecodable import is_utf8, printable

ROWS_PER_GROUP = 20_000

Item = Found | Rejected | NotDownloaded


def packed_pieces(
    packed: PackedFile, columns: ColumnsConfig, open_image: Open, root: str
) -> Iterator[dict[str, pa.Table | int]]:
    """The images of a tar or parquet file, as `image_pieces`; where it is damaged, those before are kept, and
    those after rejected: each row of a parquet file, one for what is left of a tar.

    Raises ValueError for a file that cannot be opened, and for columns that it lacks.
    """
    return image_pieces(_before_damage(packed, columns, open_image, root), first_image_id(packed.number))


def plain_pieces(files: Iterable[PlainFile], open_image: Open) -> Iterator[dict[str, pa.Table | int]]:
    """Files that are images themselves, as `image_pieces`, numbered as they are listed."""

    def found() -> Iterator[Item]:
        for file in files:
            if reason := _unfit(file.name):
                yield Rejected(file.name, reason)
                continue
            try:
                with reading(file.name), open_image(file.name) as stream:
                    data = stream.read(MAX_BYTES + 1)
            except ValueError as error:
                yield Rejected(file.name, str(error))
                continue
            reason = too_large(len(data))
            yield Rejected(file.name, reason) if reason else Found(file.number, file.name, file.name, data)

    return image_pieces(found(), 0)


def image_pieces(
    items: Iterable[Item], first_id: int, rows_per_group: int = ROWS_PER_GROUP
) -> Iterator[dict[str, pa.Table | int]]:
    """Tables of `rows_per_group` images (`schemas.PACKED_IMAGES`; the last may have fewer), and `rejected` as it comes.

    image_id: as the source has it, else `first_id` plus the number of the image, those of rejected ones left out.
    Without any image there is one empty table. Beside the last stand the rows that were not downloaded.
    """
    images: list[dict[str, object]] = []
    rejected: list[tuple[str, str]] = []
    not_downloaded = num_groups = 0
    seen = IdSet()
    for item in items:
        if isinstance(item, NotDownloaded):
            not_downloaded += item.num_rows
            continue
        row = _row(item, first_id, seen) if isinstance(item, Found) else item
        if isinstance(row, Rejected):
            rejected.append((printable(row.place), printable(row.reason)))
        else:
            images.append(row)
        if len(images) == rows_per_group:
            yield {"images": _table(images)}
            images.clear()
            num_groups += 1
        if len(rejected) == rows_per_group:
            yield {"rejected": rejected_table(rejected)}
            rejected.clear()
    last: dict[str, pa.Table | int] = {NOT_DOWNLOADED: not_downloaded, "rejected": rejected_table(rejected)}
    yield {**last, "images": _table(images)} if images or not num_groups else last


def _before_damage(packed: PackedFile, columns: ColumnsConfig, open_image: Open, root: str) -> Iterator[Item]:
    place = ""
    try:
        with packed.file.open() as stream:
            found: Iterator[Item]
            if packed.file.form == "webdataset":
                found = read_tar(stream, packed.name, columns.image)
            else:
                found = read_table(stream, packed.name, columns, open_image, root)
            for item in found:
                if isinstance(item, Rejected):
                    place = item.place
                    yield Rejected(f"{packed.name}{place}", item.reason)
                    continue
                if isinstance(item, Found):
                    place = item.uri.removeprefix(packed.name)
                yield item
    except PlaceError:
        raise
    except DAMAGE as error:
        broken = damaged(place, error)
        yield Rejected(f"{packed.name}{broken.place}", broken.reason)


def _row(found: Found, first_id: int, seen: IdSet) -> dict[str, object] | Rejected:
    try:
        width, height = image_size(found.data)
    except ValueError as error:
        return Rejected(found.uri, str(error))
    image_id = first_id + found.number if found.image_id is None else found.image_id
    if not isinstance(image_id, int) or not 0 <= image_id < 2**63:
        return Rejected(found.uri, f"the image id {image_id!r:.50} is no whole number of 63 bits")
    if not seen.add(image_id):
        return Rejected(found.uri, f"the image id {image_id} stands twice")
    return {
        "image_id": image_id,
        "file_name": printable(found.name),
        "width": width,
        "height": height,
        "uri": printable(found.uri),
        "sha256": hashlib.sha256(found.data).hexdigest(),
        "key": None if found.key is None else printable(found.key),
    }


def _unfit(name: str) -> str:
    """Why no image can be found again by this name, or ''."""
    if not is_utf8(name):
        return "its name is not UTF-8"
    return "its name has an empty part, as in 'a//b'" if "" in name.split("/") else ""


def _table(images: Sequence[dict[str, object]]) -> pa.Table:
    return pa.Table.from_pylist(list(images), schema=PACKED_IMAGES)
