"""Any captions file as one stream of checked captions, and as tables of fixed size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import pyarrow as pa

from regionclip.captions.coco import read_coco
from regionclip.captions.damage import DAMAGE, damaged
from regionclip.captions.files import CaptionFile
from regionclip.captions.lines import not_utf8, read_csv, read_jsonl, read_text, read_tsv
from regionclip.captions.rows import IdSet, NotDownloaded, ReadingConfig, Rejected, Row
from regionclip.captions.tables import read_parquet
from regionclip.captions.tars import read_webdataset
from regionclip.place_errors import PlaceError
from regionclip.schemas import CAPTIONS, rejected_table
from regionclip.undecodable import printable

ROWS_PER_GROUP = 20_000
NOT_DOWNLOADED = "not_downloaded"
_CHARACTERS_PER_WORD = 20  # a text of few but huge words is overlong too
_READERS: Mapping[str, Callable[..., Iterator[Row | Rejected | NotDownloaded]]] = {
    "tsv": read_tsv,
    "csv": read_csv,
    "jsonl": read_jsonl,
    "text": read_text,
    "webdataset": read_webdataset,
    "parquet": read_parquet,
}


class Caption(NamedTuple):
    """A sound caption; image_id is None where the file does not tell it."""

    image_id: int | None
    text: str


def read_captions(file: CaptionFile, config: ReadingConfig) -> Iterator[Caption | Rejected | NotDownloaded]:
    """Every row of a file in order: a sound caption, a rejected row (place with the file's name), or a count.

    Where a file is damaged, the rows before are kept. Those after are each rejected where the file says how many they
    are (parquet); else one rejected row names the last that was read.
    Raises ValueError for a file that cannot be opened or is of another kind, PlaceError where its place fails.
    """
    seen = IdSet()
    for row in _rows_before_damage(file, config):
        if isinstance(row, Rejected):
            yield Rejected(f"{file.name}{row.place}", row.reason)
        elif isinstance(row, NotDownloaded):
            yield row
        else:
            caption = _checked(row, _image_id(row, file), config, seen)
            yield caption if isinstance(caption, Caption) else Rejected(f"{file.name}{row.place}", caption)


def caption_pieces(
    file: CaptionFile, config: ReadingConfig, rows_per_group: int = ROWS_PER_GROUP
) -> Iterator[dict[str, pa.Table | int]]:
    """A file as tables of `rows_per_group` rows (the last may have fewer): `captions` (`schemas.CAPTIONS`), and
    `rejected` as it comes; beside them the rows that were not downloaded. A file without rows is one empty table."""
    captions: list[Caption] = []
    rejected: list[tuple[str, str]] = []
    not_downloaded = num_groups = 0
    for row in read_captions(file, config):
        if isinstance(row, Caption):
            captions.append(row)
        elif isinstance(row, Rejected):
            rejected.append((printable(row.place), printable(row.reason)))
        else:
            not_downloaded += row.num_rows
        if len(captions) == rows_per_group:
            yield {"captions": _table(captions)}
            captions.clear()
            num_groups += 1
        if len(rejected) == rows_per_group:
            yield {"rejected": rejected_table(rejected)}
            rejected.clear()
    last: dict[str, pa.Table | int] = {NOT_DOWNLOADED: not_downloaded, "rejected": rejected_table(rejected)}
    yield {**last, "captions": _table(captions)} if captions or not num_groups else last


def _rows_before_damage(file: CaptionFile, config: ReadingConfig) -> Iterator[Row | Rejected | NotDownloaded]:
    place = ""
    try:
        for row in _rows(file, config):
            if not isinstance(row, NotDownloaded):
                place = row.place
            yield row
    except PlaceError:
        raise
    except DAMAGE as error:
        yield damaged(place, error)


def _rows(file: CaptionFile, config: ReadingConfig) -> Iterator[Row | Rejected | NotDownloaded]:
    if file.form == "coco":
        yield from read_coco(file, config)
        return
    with file.open() as stream:
        yield from _READERS[file.form](stream, config)


def _image_id(row: Row, file: CaptionFile) -> int | None:
    if file.first_image_id is None or row.number is None:
        return row.image_id
    return file.first_image_id + row.number


def _checked(row: Row, image_id: int | None, config: ReadingConfig, seen: IdSet) -> Caption | str:
    """The row's caption, or why it is left out."""
    text = row.caption
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        elif isinstance(text, str):
            text.encode("utf-8")
    except UnicodeDecodeError as error:
        return not_utf8(error)
    except UnicodeEncodeError:
        return "not UTF-8: it has half of a surrogate pair"
    if text is not None and not isinstance(text, str):
        return f"the caption is of type {type(text).__name__}, not text"
    if text is None or not text.strip():
        return "empty caption"
    if len(text) >= 2 * config.max_words:
        num_words = len(text.split())
        if num_words > config.max_words:
            return f"{num_words:,} words, more than max_words={config.max_words}"
        if len(text) > _CHARACTERS_PER_WORD * config.max_words:
            return f"{len(text):,} characters, more than {_CHARACTERS_PER_WORD} a word for max_words={config.max_words}"
    if image_id is not None and not (isinstance(image_id, int) and 0 <= image_id < 2**63):
        return f"the image id {_shown(image_id)} is no whole number of 63 bits"
    if row.identity is None:
        return "no id" if config.id_column is not None else Caption(image_id, text)
    return Caption(image_id, text) if seen.add(row.identity) else f"the id {_shown(row.identity)} stands twice"


def _shown(identity: Any) -> str:
    return f"{identity.decode('utf-8', 'surrogateescape') if isinstance(identity, bytes) else identity!s:.50}"


def _table(captions: list[Caption]) -> pa.Table:
    image_ids, texts = zip(*captions, strict=True) if captions else ((), ())
    return pa.table({"image_id": image_ids, "caption": texts}, schema=CAPTIONS)
