"""Folders of files, on a local disk or behind any fsspec URI, with writes that are whole or absent."""

from __future__ import annotations

import hashlib
import io
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO, cast

from regionclip.cache_folder import cache_folder
from regionclip.place_errors import reading, writing

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Folder:
    """A folder named by a local path or an fsspec URI (`memory://`, `s3://`, ...); it need not exist yet.

    Names are relative, with `/`. A write appears under its final name only when it is whole. Hidden names
    (a leading dot) are for temporaries and are never listed. Raises ValueError for a name that would leave
    the folder and for a file that is missing or forbidden, PlaceError where a disk or server fails. Servers that
    speak S3 are found by AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, which Ray workers elsewhere
    need too.
    """

    uri: str

    def __post_init__(self) -> None:
        uri = str(self.uri)
        if uri.startswith("file://"):
            uri = uri.removeprefix("file://")
        if "://" in uri:
            scheme, _, rest = uri.partition("://")
            uri = f"{scheme}://{rest.rstrip('/')}"
        else:
            uri = os.path.abspath(os.path.expanduser(uri))
        object.__setattr__(self, "uri", uri)

    @property
    def is_local(self) -> bool:
        """Whether the folder lies on a file system of this machine."""
        return "://" not in self.uri

    @property
    def is_shared(self) -> bool:
        """Whether another process that is given the URI sees the same files."""
        return not self.uri.startswith("memory://")

    @property
    def parent(self) -> Folder:
        """The folder that holds this one."""
        return Folder(self.uri.rpartition("/")[0] or "/")

    def child(self, name: str) -> Folder:
        """The folder `name` inside this one."""
        return Folder(self.path(name))

    def path(self, name: str) -> str:
        """The full local path or URI of a name."""
        parts = PurePosixPath(name).parts
        if not parts or name.startswith("/") or ".." in parts or "://" in name:
            raise ValueError(f"'{name}' does not name a file inside {self.uri}; give a relative name without '..'")
        return f"{self.uri}/{'/'.join(parts)}"

    def write(self, name: str, data: bytes, durable: bool = True) -> None:
        """Write a file at once, in place of any older one.

        durable: survive a power cut as well; False is for many small files that are cheap to make again.
        """
        if self.is_local:
            with self.stream(name, durable) as file:
                file.write(data)
        else:
            target = self.path(name)
            with writing(target):
                self._remote().pipe_file(target, data)

    def create(self, name: str, data: bytes) -> bool:
        """Write a file unless one of its name is there; whether it was written.

        Of several at once one writes, where the place can tell: on local disks and servers with conditional writes.
        """
        target = self.path(name)
        with writing(target):
            if self.is_local:
                Path(target).parent.mkdir(parents=True, exist_ok=True)
            try:
                if self.is_local:
                    with open(target, "xb") as file:
                        file.write(data)
                else:
                    self._remote().pipe_file(target, data, mode="create")
            except FileExistsError:
                return False
        return True

    @contextmanager
    def stream(self, name: str, durable: bool = True) -> Iterator[BinaryIO]:
        """A file to write piece by piece, shown under its name when the block ends, and never after an error.

        A remote driver that shows files while they are uploaded does so here as well.
        """
        target = self.path(name)
        with writing(target):
            file = _Replacement(Path(target), durable) if self.is_local else _Upload(self._remote(), target)
        try:
            yield cast(BinaryIO, _Sink(target, file.file))
            with writing(target):
                file.commit()
        except BaseException:
            file.discard()
            raise

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """A file to read from any place in it."""
        with self._opened(self.path(name)) as file:
            yield file

    def read(self, name: str) -> bytes:
        """The bytes of a file."""
        target = self.path(name)
        with reading(target):
            if self.is_local:
                return Path(target).read_bytes()
            data: bytes = self._remote().cat_file(target)
            return data

    def exists(self, name: str) -> bool:
        """Whether a file or folder of this name exists."""
        target = self.path(name)
        return os.path.exists(target) if self.is_local else bool(self._remote().exists(target))

    def names(self) -> list[str]:
        """The names of all files, also of inner folders, sorted; hidden ones left out."""
        if self.is_local:
            root = Path(self.uri)
            found = [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]
        else:
            files = self._remote()
            files.invalidate_cache()
            root_path = files._strip_protocol(self.uri).rstrip("/")
            found = [path[len(root_path) :].lstrip("/") for path in files.find(self.uri)]
        return sorted(name for name in found if name and not any(part[:1] == "." for part in name.split("/")))

    def folders(self) -> list[str]:
        """The names of the folders directly inside this one, sorted; hidden ones left out."""
        if self.is_local:
            root = Path(self.uri)
            found = [path.name for path in root.iterdir() if path.is_dir()] if root.is_dir() else []
        else:
            files = self._remote()
            files.invalidate_cache()
            entries: list[dict[str, Any]] = files.ls(self.uri, detail=True) if files.isdir(self.uri) else []
            found = [entry["name"].rstrip("/").rpartition("/")[2] for entry in entries if entry["type"] == "directory"]
        return sorted(name for name in found if not name.startswith("."))

    def checksum(self, name: str) -> tuple[str, int]:
        """The sha256 (hex) and size in bytes of a file."""
        digest, size = hashlib.sha256(), 0
        with self._opened(self.path(name)) as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                size += len(chunk)
        return digest.hexdigest(), size

    def delete(self, name: str) -> None:
        """Remove a file if it is there."""
        target = self.path(name)
        if self.is_local:
            Path(target).unlink(missing_ok=True)
        elif self._remote().exists(target):
            self._remote().rm_file(target)

    def clear(self) -> None:
        """Remove the folder and everything in it, if it is there."""
        if self.is_local:
            shutil.rmtree(self.uri, ignore_errors=not os.path.isdir(self.uri))
        elif self._remote().exists(self.uri):
            self._remote().rm(self.uri, recursive=True)

    def local(self) -> Path:
        """A local path with the folder's files, for reading: the folder itself, or a cached copy of a remote one.

        The copy lies under RGC_CACHE (default ~/.cache/rgc) and is renewed where a file has changed.
        """
        if self.is_local:
            return Path(self.uri)
        copy = Folder(str(cache_folder() / hashlib.sha256(self.uri.encode()).hexdigest()[:16]))
        files = self._remote()
        for name in self.names():
            state, noted = files.ukey(self.path(name)).encode(), f".states/{name}"
            if not (copy.exists(name) and copy.exists(noted) and copy.read(noted) == state):
                copy.write(name, self.read(name), durable=False)
                copy.write(noted, state, durable=False)
        return Path(copy.uri)

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """A local scratch folder whose files are written into this one when the block ends without an error."""
        with tempfile.TemporaryDirectory(prefix="rgc-") as scratch:
            yield Path(scratch)
            for path in sorted(Path(scratch).rglob("*")):
                if path.is_file():
                    self.write(path.relative_to(scratch).as_posix(), path.read_bytes())

    def _opened(self, target: str) -> BinaryIO:
        with reading(target):
            return open(target, "rb") if self.is_local else cast(BinaryIO, self._remote().open(target, "rb"))

    def _remote(self) -> Any:
        import fsspec

        scheme = self.uri.partition("://")[0]
        try:
            return fsspec.filesystem(scheme, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            raise ValueError(f"{self.uri}: {error}; install the fsspec driver of '{scheme}' or use a path") from error


class _Sink(io.RawIOBase):
    """Passes bytes on to a file of this target."""

    def __init__(self, target: str, file: IO[bytes]) -> None:
        self._target, self._file = target, file

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        with writing(self._target):
            return self._file.write(data)


class _Replacement:
    """A local file under a hidden name, moved to its own when it is whole."""

    def __init__(self, target: Path, durable: bool) -> None:
        self._target, self._durable = target, durable
        target.parent.mkdir(parents=True, exist_ok=True)
        self._partial = target.parent / f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.partial"
        self.file: IO[bytes] = self._partial.open("wb")

    def commit(self) -> None:
        if self._durable:
            self.file.flush()
            os.fsync(self.file.fileno())
        self.file.close()
        os.replace(self._partial, self._target)
        if self._durable:
            folder = os.open(self._target.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def discard(self) -> None:
        with suppress(OSError):
            self.file.close()
        self._partial.unlink(missing_ok=True)


class _Upload:
    """A remote file, which its driver shows when it is closed."""

    def __init__(self, files: Any, target: str) -> None:
        self._files, self._target = files, target
        self.file: IO[bytes] = files.open(target, "wb")

    def commit(self) -> None:
        self.file.close()

    def discard(self) -> None:
        from fsspec.spec import AbstractBufferedFile

        with suppress(Exception):  # the error that led here is the one to tell
            if isinstance(self.file, AbstractBufferedFile):
                self.file.closed = True  # else what there is of it is uploaded when it is collected
                self.file.discard()
            else:  # it has been shown since it was opened
                self.file.close()
                self._files.rm_file(self._target)


def folder_and_name(path: str) -> tuple[Folder, str]:
    """The folder and the name of a file that is given by its whole path or URI."""
    parent, slash, name = path.rpartition("/")
    return Folder(parent if parent else slash or "."), name
