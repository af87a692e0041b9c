"""Captions by line: plain text, `caption<TAB>url`, JSON lines, and CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence

from regionclip.captions.rows import ReadingConfig, Rejected, Row

MAX_LINE = 1 << 24  # bytes; a longer line is left out unread
_BOM = b"\xef\xbb\xbf"
_NAMES_SHOWN = 10
_CHARACTERS_SHOWN = 50  # of each name


def read_text(file: io.BufferedIOBase, config: ReadingConfig) -> Iterator[Row | Rejected]:
    """A caption a line."""
    for number, line in numbered_lines(file):
        yield Rejected(f":{number}", _too_long()) if line is None else Row(f":{number}", line)


def read_tsv(file: io.BufferedIOBase, config: ReadingConfig) -> Iterator[Row | Rejected]:
    """`caption<TAB>url` lines, or the columns that a first line names when `config.column` is among them."""
    names: list[str] | None = None
    for number, line in numbered_lines(file):
        if line is None:
            yield Rejected(f":{number}", _too_long())
            continue
        fields = line.split(b"\t")
        if names is None:
            first = [field.decode("utf-8", "replace") for field in fields]
            names = first if len(first) > 1 and config.column in first else [config.column, "url"]
            if names is first:
                continue
        reason = _misfit(names, config, len(fields), "tab-separated fields")
        yield Rejected(f":{number}", reason) if reason else _row(f":{number}", names, fields, config)


def read_csv(file: io.BufferedIOBase, config: ReadingConfig) -> Iterator[Row | Rejected]:
    """CSV records below a first one with the names; a quoted field may hold line breaks. A record is named by its
    first line."""
    too_long: list[Rejected] = []
    taken = [0]  # lines that the csv module has been given or spared

    def lines() -> Iterator[str]:
        for number, line in numbered_lines(file, keep_ends=True):
            taken[0] = number
            if line is None:
                too_long.append(Rejected(f":{number}", _too_long()))
            else:
                yield line.decode("utf-8", "surrogateescape")

    records = csv.reader(lines(), strict=True)
    names: list[str] | None = None
    fields: list[str] | str | None = []
    while fields is not None:
        place = f":{taken[0] + 1}"
        try:
            fields = next(records, None)
        except csv.Error as error:
            fields = f"not CSV: {error}"
        yield from too_long
        too_long.clear()
        if isinstance(fields, str):
            yield Rejected(place, fields)
        elif names is None:
            names = fields
        elif fields is not None:
            reason = _misfit(names, config, len(fields), "fields")
            encoded = [field.encode("utf-8", "surrogateescape") for field in fields]
            yield Rejected(place, reason) if reason else _row(place, names, encoded, config)


def read_jsonl(file: io.BufferedIOBase, config: ReadingConfig) -> Iterator[Row | Rejected]:
    """A JSON object a line."""
    for number, line in numbered_lines(file):
        place = f":{number}"
        if line is None:
            yield Rejected(place, _too_long())
            continue
        record = parse_object(line)
        if isinstance(record, str):
            yield Rejected(place, record)
            continue
        reason = missing_column(list(record), config)
        identity = None if config.id_column is None else record.get(config.id_column)
        yield Rejected(place, reason) if reason else Row(place, record[config.column], identity=identity)


def parse_object(data: bytes) -> dict[str, object] | str:
    """The JSON object in these bytes, or why there is none."""
    try:
        value = json.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        return not_utf8(error)
    except (ValueError, RecursionError) as error:
        return f"not JSON: {error}"
    return value if isinstance(value, dict) else f"a JSON {type(value).__name__} instead of an object"


def missing_column(names: Sequence[str], config: ReadingConfig) -> str:
    """Why a record with these columns has no caption or id, or ''."""
    for name in (config.column, config.id_column, config.image_id_column):
        if name is not None and name not in names:
            shown = ", ".join(name[:_CHARACTERS_SHOWN] for name in names[:_NAMES_SHOWN]) + (
                ", ..." if len(names) > _NAMES_SHOWN else ""
            )
            return f"no column '{name}'; the columns are {shown or 'none'}"
    return ""


def not_utf8(error: UnicodeDecodeError) -> str:
    """What is wrong with bytes that are no text."""
    return f"not UTF-8: {error.reason} at byte {error.start}"


def numbered_lines(file: io.BufferedIOBase, keep_ends: bool = False) -> Iterator[tuple[int, bytes | None]]:
    """The lines with their numbers from 1, None for one above `MAX_LINE` bytes; without a byte order mark."""
    number = 0
    while line := file.readline(MAX_LINE):
        number += 1
        if number == 1:
            line = line.removeprefix(_BOM)
        if len(line) < MAX_LINE or line.endswith(b"\n"):
            yield number, line if keep_ends else line.removesuffix(b"\n").removesuffix(b"\r")
            continue
        while line and not line.endswith(b"\n"):
            line = file.readline(MAX_LINE)
        yield number, None


def _too_long() -> str:
    return f"a line of more than {MAX_LINE:,} bytes"


def _misfit(names: Sequence[str], config: ReadingConfig, num_fields: int, what: str) -> str:
    reason = missing_column(names, config)
    if not reason and num_fields != len(names):
        reason = f"{num_fields} {what} instead of {len(names)}"
    return reason


def _row(place: str, names: Sequence[str], fields: Sequence[bytes], config: ReadingConfig) -> Row:
    identity = None if config.id_column is None else fields[names.index(config.id_column)]
    return Row(place, fields[names.index(config.column)], identity=identity)
