"""What is found of an image in a file, before anything is checked."""

from __future__ import annotations

from typing import NamedTuple

MAX_BYTES = 1 << 28  # of one encoded image; a larger one is left out unread


class Found(NamedTuple):
    """The bytes of an image and where they are.

    number: of the image in its file, from 0. name: by which it is read again. uri: where it is, for people.
    key: what its source calls it. image_id: what its source numbers it, if that is asked for.
    """

    number: int
    name: str
    uri: str
    data: bytes
    key: str | None = None
    image_id: object = None


def too_large(num_bytes: int) -> str:
    """Why an image of so many bytes is left out, or ''."""
    return f"{num_bytes:,} bytes, more than {MAX_BYTES:,}" if num_bytes > MAX_BYTES else ""
