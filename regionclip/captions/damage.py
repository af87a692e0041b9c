"""Damage of a file's content: what is before it is kept, and what is said of the rest."""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Iterator

import ijson
import pyarrow as pa

from regionclip.captions.rows import Rejected

DAMAGE = (EOFError, OSError, zlib.error, tarfile.TarError, ijson.JSONError, pa.ArrowException)
"""What reading a damaged file raises; but a PlaceError, which is an OSError too, tells of a place and not of a file."""

UNCOUNTED = "the file is damaged"
"""How the reason of a rejected row begins that stands for all that is lost, however much it is."""


def damaged(place: str, error: Exception) -> Rejected:
    """What is said where the reading of a file ends with one of `DAMAGE`; `place` is of the last row, or ''."""
    where = "after this row" if place else "before its first row"
    return Rejected(place, f"{UNCOUNTED} {where} ({_told(error)})")


def lost_rows(num_read: int, num_rows: int, error: Exception) -> Iterator[Rejected]:
    """Every row that is lost of a table of `num_rows`, the reading of which ends after `num_read` with `DAMAGE`."""
    reason = f"lost: the file is damaged after row {num_read} ({_told(error)})"
    yield from (Rejected(f": row {row}", reason) for row in range(num_read + 1, num_rows + 1))


def _told(error: Exception) -> str:
    message = error.args[0] if error.args else error
    told = message.decode("utf-8", "replace") if isinstance(message, bytes) else str(message)
    return told.strip().partition("\n")[0] or type(error).__name__
