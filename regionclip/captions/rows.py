"""What a reader gives of a captions file, and what it is told."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import NamedTuple

_BLOCK = 11  # ids whose other bits agree share one integer of up to 2048 bits
_MASK = (1 << _BLOCK) - 1


class Row(NamedTuple):
    """One caption as the file has it, not checked yet; bytes are still to be decoded.

    place: where it stands, as said after the file's name (`:12`, `: row 12`). identity: a value no other row may have.
    number: of the image in a file that may hold images too, from 0.
    """

    place: str
    caption: object
    image_id: int | None = None
    identity: object = None
    number: int | None = None


class Rejected(NamedTuple):
    """A row that is left out, where it stands and why."""

    place: str
    reason: str


class NotDownloaded(NamedTuple):
    """Rows that state that their image could not be had; neither read nor rejected."""

    num_rows: int


@dataclass(frozen=True)
class ReadingConfig:
    """What of a file is read and what is sound; see `CaptionsConfig` of the stage read_captions."""

    split: str | None = None
    column: str = "caption"
    id_column: str | None = None
    max_words: int = 1000
    image_id_column: str | None = None


class IdSet:
    """A set of ids that costs a bit for each whole number up to the largest, some hundred bytes where one stands alone.

    Other values are kept as 8-byte digests, some 70 bytes each.
    """

    def __init__(self) -> None:
        self._bits: dict[int, int] = {}
        self._digests: set[bytes] = set()

    def add(self, value: object) -> bool:
        """Add an id; False when it was there. A whole number and its decimal digits are one id."""
        number = _whole_number(value)
        if number is None:
            digest = hashlib.blake2b(repr(value).encode("utf-8", "surrogatepass"), digest_size=8).digest()
            is_new = digest not in self._digests
            self._digests.add(digest)
            return is_new
        block, bit = number >> _BLOCK, 1 << (number & _MASK)
        bits = self._bits.get(block, 0)
        self._bits[block] = bits | bit
        return not bits & bit

    def __contains__(self, number: int) -> bool:
        return bool(self._bits.get(number >> _BLOCK, 0) & 1 << (number & _MASK))


def _whole_number(value: object) -> int | None:
    if isinstance(value, int):
        return value
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20 and str(int(value)) == value:
        return int(value)
    return None
