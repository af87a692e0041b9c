"""Content hashes, by which data from outside is known whatever its path."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa


def file_sha256(path: Path) -> str:
    """The sha256 (hex) of a file; read again only when its size or time of change differs."""
    status = path.stat()
    return _file_sha256(str(path.resolve()), status.st_size, status.st_mtime_ns)


def content_sha256(table: pa.Table, others: Iterable[str] = ()) -> str:
    """The sha256 (hex) of a table's values and of further texts, in order."""
    digest = hashlib.sha256(json.dumps(table.to_pydict(), sort_keys=True).encode())
    for other in others:
        digest.update(b"\n" + other.encode())
    return digest.hexdigest()


@functools.lru_cache(maxsize=1 << 20)
def _file_sha256(path: str, size: int, changed_ns: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
