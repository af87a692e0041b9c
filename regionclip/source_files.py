"""A file of the user's, wherever it lies: its bytes, decompressed, and what they hash to."""

from __future__ import annotations

import functools
import gzip
import hashlib
import io
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from regionclip import digests
from regionclip.place_errors import reading

_NUM_REQUESTS = 16  # of a server at once
_BUFFER = 1 << 14  # bytes decompressed at a time; what is after the last whole buffer of a half-written file is lost


@dataclass(frozen=True)
class SourceFile:
    """A file that data is read from: its path or URI, the form of its content, and how it is compressed."""

    uri: str
    form: str
    compression: str = ""

    @property
    def name(self) -> str:
        """The last part of its path, by which rejected rows name it."""
        return self.uri.rpartition("/")[2]

    @contextmanager
    def open(self) -> Iterator[io.BufferedIOBase]:
        """Its bytes, decompressed.

        A file that is not there to be read raises ValueError, a place that fails PlaceError; damage raises what the
        form's decompressor raises.
        """
        with closing(_source(self.uri)) as source:
            raw = io.BufferedReader(source, 1 << 16)
            if self.compression and not raw.peek(1):
                raise EOFError("the file is empty, which no compressed file is")
            if self.compression == "gzip":
                yield gzip.GzipFile(fileobj=raw)
            elif self.compression == "zstd":
                stream = pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd")
                yield io.BufferedReader(stream, _BUFFER)
            else:
                yield raw


def files_sha256(wheres: Sequence[str]) -> list[str]:
    """The sha256 (hex) of each path or URI's bytes as they are stored; read again only when a file has changed."""
    local = [where for where in wheres if "://" not in where]
    found = dict(zip(local, digests.files_sha256(local), strict=True))
    remote = [where for where in wheres if "://" in where]
    with ThreadPoolExecutor(_NUM_REQUESTS) as threads:
        found |= zip(remote, threads.map(_remote_sha256, remote), strict=True)
    return [found[where] for where in wheres]


def named_sha256(where: str, remedy: str) -> str:
    """What the file at a path or URI that a user named hashes to; ValueError with the remedy where there is none."""
    files, path = file_system(where)
    if not is_file(files, path, where):
        raise ValueError(f"{where}: no such file; {remedy}")
    return files_sha256([where if "://" in where else path])[0]


@contextmanager
def on_disk(where: str) -> Iterator[Path]:
    """A local path of the file at a path or URI; of a remote one a copy that goes with the block."""
    files, path = file_system(where)
    if "://" not in where:
        yield Path(path)
        return
    with tempfile.TemporaryDirectory(prefix="rgc-") as scratch:
        copy = Path(scratch) / PurePosixPath(path).name
        with reading(where):
            files.get_file(path, str(copy))
        yield copy


def stays_below(name: str) -> bool:
    """Whether a name is relative to a folder and does not leave it."""
    return not (name.startswith("/") or "://" in name or ".." in PurePosixPath(name).parts)


def file_system(where: str) -> tuple[Any, str]:
    """The fsspec file system of a path or URI, and its path there; ValueError when there is no driver for it."""
    import fsspec
    from fsspec.implementations.local import LocalFileSystem

    if "://" not in where:
        return LocalFileSystem(), str(Path(where).expanduser().absolute())
    try:
        files, path = fsspec.core.url_to_fs(where)
    except (ImportError, ValueError) as error:
        raise ValueError(f"{where}: {error}; install the fsspec driver of its scheme or use a path") from error
    return files, path


def is_file(files: Any, path: str, where: str) -> bool:
    """Whether a path on a file system is a file; `where` names it in errors.

    Raises the errors of `reading` where that cannot be told, which fsspec's own `isfile` takes for absence.
    """
    with reading(where):
        try:
            return bool(files.info(path)["type"] == "file")
        except (FileNotFoundError, NotADirectoryError):
            return False


def uri_of(files: Any, path: str) -> str:
    """The URI of a path on a file system; a local one's is the path itself."""
    uri: str = files.unstrip_protocol(path)
    return uri.removeprefix("file://")


def _remote_sha256(uri: str) -> str:
    files, path = file_system(uri)
    return _sha256_in_state(uri, files.ukey(path))


@functools.lru_cache(maxsize=1 << 16)
def _sha256_in_state(uri: str, state: str) -> str:
    with closing(_source(uri)) as source:
        return hashlib.file_digest(io.BufferedReader(source, 1 << 20), "sha256").hexdigest()


def _source(uri: str) -> _Source:
    files, path = file_system(uri)
    with reading(uri):
        return _Source(uri, files.open(path, "rb"))


class _Source(io.RawIOBase):
    """The stored bytes of a file."""

    def __init__(self, uri: str, file: Any) -> None:
        self._uri, self._file = uri, file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return bool(self._file.seekable())

    def readinto(self, buffer: Any, /) -> int:
        with reading(self._uri):
            data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()
