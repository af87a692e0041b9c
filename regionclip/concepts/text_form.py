"""A concept list as text: one name a line, `name,document_frequency`; what follows the first comma is optional."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from regionclip.schemas import CONCEPTS

PARSER = "file"
_BYTE_ORDER_MARK = "\ufeff"
_WHOLE_NUMBER = re.compile(r"[0-9]{1,18}")


def read_text_form(path: Path) -> pa.Table:
    """The concepts of a file (`schemas.CONCEPTS`), in its order, which is that of embeddings made for it.

    A second field that is a whole number is the document frequency, and the count, as every caption mentions the
    concept at least once; else both are 0. Further fields are ignored.
    Raises ValueError for a blank line before the end, a name that stands twice, no name at all and an unreadable
    file: rows of embeddings belong to lines, so none is dropped.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").rstrip().split("\n")
    except OSError as error:
        raise ValueError(
            f"{path} cannot be read ({error.strerror}); give a text file with one concept a line"
        ) from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error}); save it as UTF-8, one concept a line") from error
    if lines == [""]:
        raise ValueError(f"{path} holds no concepts; write one name a line")
    first_line: dict[str, int] = {}
    rows = []
    for number, line in enumerate(lines, 1):
        name, document_frequency = _fields(line)
        if not name:
            raise ValueError(f"{path}:{number}: '{line.strip()}' names no concept; remove the line")
        if name in first_line:
            raise ValueError(f"{path}:{number}: '{name}' stands in line {first_line[name]} already; remove one of them")
        first_line[name] = number
        rows.append(_row(name, document_frequency))
    return pa.Table.from_pylist(rows, schema=CONCEPTS)


def write_text_form(names: Sequence[str], document_frequencies: Sequence[int] | None = None) -> str:
    """The text that `read_text_form` reads as these names, in this order.

    Raises ValueError for a name that would be read as another one: with a comma, a line break or outer spaces.
    """
    for name in names:
        if not name or _fields(name) != (name, 0) or {"\n", "\r", _BYTE_ORDER_MARK} & set(name):
            raise ValueError(
                f"the name '{name}' cannot stand in a text file of one 'name,document_frequency' a line; "
                "export as .parquet, .csv or .json"
            )
    if document_frequencies is None:
        return "".join(f"{name}\n" for name in names)
    return "".join(f"{name},{number}\n" for name, number in zip(names, document_frequencies, strict=True))


def _fields(line: str) -> tuple[str, int]:
    name, _, rest = line.partition(",")
    number = rest.partition(",")[0].strip()
    return name.strip(), int(number) if _WHOLE_NUMBER.fullmatch(number) else 0


def _row(name: str, document_frequency: int) -> dict[str, object]:
    return {
        "concept": name,
        "document_frequency": document_frequency,
        "count": document_frequency,
        "surface_forms": [],
        "examples": [],
        "merged_from": [],
        "parser": PARSER,
    }
