"""Content hashes, by which data from outside is known whatever its path."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa

from regionclip.known_hashes import known_hashes, remember_hashes

_NUM_THREADS = 8


def file_sha256(path: str | Path) -> str:
    """The sha256 (hex) of a file; read again only when its size or time of change differs."""
    return files_sha256([path])[0]


def files_sha256(paths: Sequence[str | Path]) -> list[str]:
    """The sha256 (hex) of each file; those that have not changed since an earlier run are not read again."""
    files = [str(Path(path).resolve()) for path in paths]
    states = {file: _state(file) for file in files}
    known = known_hashes(states)
    with ThreadPoolExecutor(_NUM_THREADS) as threads:
        unread = [file for file in states if file not in known]
        read = dict(zip(unread, threads.map(lambda file: _file_sha256(file, states[file]), unread), strict=True))
    remember_hashes({file: (states[file], sha256) for file, sha256 in read.items()})
    return [known[file] if file in known else read[file] for file in files]


def content_sha256(table: pa.Table, others: Iterable[str] = ()) -> str:
    """The sha256 (hex) of a table's values and of further texts, in order."""
    digest = hashlib.sha256(json.dumps(table.to_pydict(), sort_keys=True).encode())
    for other in others:
        digest.update(b"\n" + other.encode())
    return digest.hexdigest()


def _state(file: str) -> tuple[int, int, int]:
    status = os.stat(file)
    return status.st_size, status.st_mtime_ns, status.st_ino


@functools.lru_cache(maxsize=1 << 20)
def _file_sha256(file: str, state: tuple[int, int, int]) -> str:
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
