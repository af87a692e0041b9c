"""Hashes of files: right after every change, and from memory where nothing changed."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from regionclip import digests
from regionclip.digests import file_sha256, files_sha256


@pytest.fixture
def reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are read to be hashed, as by a new process; the cache is a folder of its own."""
    monkeypatch.setenv("RGC_CACHE", str(tmp_path / "cache"))
    found: list[str] = []

    def read(file: str, state: object) -> str:
        found.append(Path(file).name)
        return hashlib.sha256(Path(file).read_bytes()).hexdigest()

    monkeypatch.setattr(digests, "_file_sha256", read)
    return found


def settled(path: Path, content: bytes, seconds_ago: float = 60) -> Path:
    path.write_bytes(content)
    then = time.time() - seconds_ago
    os.utime(path, (then, then))
    return path


def test_hashes_come_in_the_order_asked_and_a_file_is_read_once(tmp_path: Path, reads: list[str]) -> None:
    one, two = settled(tmp_path / "one", b"1"), settled(tmp_path / "two", b"2")
    expected = [hashlib.sha256(content).hexdigest() for content in (b"2", b"1", b"2")]
    assert files_sha256([two, one, two]) == files_sha256([two, one, two]) == expected
    assert sorted(reads) == ["one", "two"]


@pytest.mark.parametrize("change", ["size", "time", "file"])
def test_a_file_that_changed_is_read_again(change: str, tmp_path: Path, reads: list[str]) -> None:
    path = settled(tmp_path / "a", b"old")
    file_sha256(path)
    times = (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    if change == "file":
        (tmp_path / "other").write_bytes(b"new")
        os.replace(tmp_path / "other", path)
    else:
        path.write_bytes(b"newer" if change == "size" else b"new")
    if change != "time":
        os.utime(path, ns=times)
    assert file_sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert reads == ["a", "a"]


def test_a_file_that_changed_just_now_is_not_relied_on(tmp_path: Path, reads: list[str]) -> None:
    path = settled(tmp_path / "a", b"old", seconds_ago=0)
    file_sha256(path)
    file_sha256(path)
    assert reads == ["a", "a"]


def test_a_cache_that_cannot_be_used_costs_time_alone(tmp_path: Path, reads: list[str]) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "hashes.sqlite").write_bytes(b"no data base" * 100)
    path = settled(tmp_path / "a", b"1")
    assert file_sha256(path) == file_sha256(path) == hashlib.sha256(b"1").hexdigest()
    assert reads == ["a", "a"]
