"""Hashes of local files that earlier runs have read, so that a corpus is not read through at each start."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing, suppress

from regionclip.cache_folder import cache_folder
from regionclip.undecodable import is_utf8

_SETTLED_NS = 2_000_000_000  # a file that changed so lately may change again within the clock's tick

State = tuple[int, int, int]
"""Size in bytes, time of change in nanoseconds and inode: a file with another state has changed."""


def known_hashes(states: Mapping[str, State]) -> dict[str, str]:
    """The remembered sha256 (hex) of those files that are still in these states."""
    ask = "SELECT sha256 FROM hashes WHERE file = ? AND state = ?"
    with suppress(sqlite3.Error, OSError), closing(_opened()) as cache:
        asked = [(file, str(state)) for file, state in states.items() if is_utf8(file)]
        rows = ((each[0], cache.execute(ask, each).fetchone()) for each in asked)
        return {file: row[0] for file, row in rows if row}
    return {}


def remember_hashes(hashes: Mapping[str, tuple[State, str]]) -> None:
    """Remember the sha256 (hex) of files in these states; without a word where the cache cannot be written."""
    settled = time.time_ns() - _SETTLED_NS
    rows = [
        (file, str(state), sha256) for file, (state, sha256) in hashes.items() if state[1] < settled and is_utf8(file)
    ]
    if rows:
        with suppress(sqlite3.Error, OSError), closing(_opened()) as cache, cache:
            cache.executemany("INSERT OR REPLACE INTO hashes VALUES (?, ?, ?)", rows)


def _opened() -> sqlite3.Connection:
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    cache = sqlite3.connect(folder / "hashes.sqlite")
    cache.execute("CREATE TABLE IF NOT EXISTS hashes (file TEXT PRIMARY KEY, state TEXT, sha256 TEXT)")
    return cache
