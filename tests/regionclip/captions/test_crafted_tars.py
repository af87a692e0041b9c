"""Tars that no program writes: they are damaged, and end no reading."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from typing import Any

import pytest

Read = Callable[..., list[tuple[Any, ...]]]


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """A header as no tar program writes it: of a negative size, or without what should follow it."""
    member = tarfile.TarInfo(name)
    member.type = kind
    block = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    block[124:136] = b"%011o\0" % size if size >= 0 else (2**96 + size).to_bytes(12, "big")
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


EXTENDED = header("x", 11, tarfile.XHDTYPE) + b"11 path=aa\n".ljust(512, b"\0")
NEGATIVE_SIZE = header("x", 14, tarfile.XHDTYPE) + b"14 size=-1536\n".ljust(512, b"\0")


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        (EXTENDED * 2000 + header("b.txt", 0), "too many headers of one member"),
        (header("b.txt", -512), "a member has a negative size"),
        (header("b.png", -512, b"S"), "a member has a negative size"),
        (NEGATIVE_SIZE + header("b.txt", 0), "a member has a negative size"),
    ],
)
def test_a_tar_made_to_break_its_reader_is_damaged(read: Read, start: bytes, reason: str) -> None:
    (*_, (place, said)) = read("a.tar", start + bytes(1024))
    assert place.startswith("a.tar")
    assert said.endswith(f"({reason})")
