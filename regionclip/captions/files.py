"""Which files hold the captions, in which form, and how their bytes are read from wherever they lie."""

from __future__ import annotations

import functools
import gzip
import hashlib
import io
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args

import ijson
import pyarrow as pa

from regionclip.digests import file_sha256

Format = Literal["auto", "coco", "tsv", "img2dataset", "webdataset", "parquet", "jsonl", "csv", "text"]

DAMAGE = (EOFError, OSError, zlib.error, tarfile.TarError, ijson.JSONError, pa.ArrowException)  # of a file's content
_SUFFIXES = {
    ".json": "coco",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".txt": "text",
    ".parquet": "parquet",
    ".tar": "webdataset",
}
_COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
_WITHOUT_COLUMNS = ("coco", "text")
_FOLDER_ORDER = ("parquet", "webdataset")  # what a downloader leaves: tables of the captions beside tars of the images
_BUFFER = 1 << 14  # bytes decompressed at a time; what is after the last whole buffer of a half-written file is lost


@dataclass(frozen=True)
class CaptionFile:
    """A file of captions: its path or URI, its form (`auto` and `img2dataset` resolved), and how it is compressed.

    first_image_id: the id of image 0 where the images that the file holds too are numbered.
    """

    uri: str
    form: str
    compression: str = ""
    first_image_id: int | None = None

    @property
    def name(self) -> str:
        """The last part of its path, by which rejected rows name it."""
        return self.uri.rpartition("/")[2]

    def sha256(self) -> str:
        """The sha256 (hex) of its bytes as they are stored; read again only when the file has changed."""
        if "://" not in self.uri:
            return file_sha256(Path(self.uri))
        files, path = file_system(self.uri)
        return _remote_sha256(self.uri, files.ukey(path))

    @contextmanager
    def open(self) -> Iterator[io.BufferedIOBase]:
        """Its bytes, decompressed.

        A place that cannot be read raises ValueError; damage raises what the form's decompressor raises.
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


def find_files(names: Sequence[str], root: str | None, form: str) -> list[CaptionFile]:
    """The files behind names, in their order; a glob or folder gives its files sorted.

    names: paths, `~`, globs, folders or fsspec URIs; with a `root` (a path or URI), relative to it and inside it.
    Raises ValueError for a name without a file, one that leaves the root, a file given twice, and a form that is
    unknown or cannot be told.
    """
    if form not in get_args(Format):
        raise ValueError(f"format is '{form}'; choose one of {', '.join(get_args(Format))}")
    if not names:
        raise ValueError("files is empty; name at least one captions file, folder or glob")
    found = [file for name in names for file in _find(name if root is None else _inside(root, name), form)]
    uris = [file.uri for file in found]
    twice = next((uri for uri in uris if uris.count(uri) > 1), None) if len(set(uris)) < len(uris) else None
    if twice is not None:
        raise ValueError(f"{twice} is named twice in files; name it once")
    return found


def check_options(files: Sequence[CaptionFile], split: str | None, id_column: str | None) -> None:
    """Raise ValueError for an option that the form of a file has no use for."""
    for file in files:
        if split is not None and file.form != "coco":
            raise ValueError(
                f"{file.uri}: split '{split}' is asked but a {file.form} file has no splits; set split: null"
            )
        if id_column is not None and file.form in _WITHOUT_COLUMNS:
            raise ValueError(f"{file.uri}: a {file.form} file has no column '{id_column}'; set id_column: null")


def _inside(root: str, name: str) -> str:
    if not name or name.startswith("/") or "://" in name or ".." in PurePosixPath(name).parts:
        raise ValueError(f"'{name}' does not name a file inside {root}; give a relative name without '..'")
    return f"{root.rstrip('/')}/{name}"


def _find(where: str, form: str) -> list[CaptionFile]:
    files, path = file_system(where)
    if files.isfile(path):
        return [_captions_file(_uri(files, path), form)]
    if files.isdir(path):
        inside = (each["name"] for each in files.ls(path, detail=True) if each["type"] == "file")
        return _of_folder(where, [_uri(files, each) for each in inside], form)
    if not any(sign in where for sign in "*?["):
        raise ValueError(f"{where}: no such file; check root and the file name")
    paths = sorted(each for each, state in files.glob(path, detail=True).items() if state["type"] == "file")
    if not paths:
        raise ValueError(f"{where}: no file fits; check the pattern")
    return [_captions_file(_uri(files, each), form) for each in paths]


def _of_folder(where: str, uris: Sequence[str], form: str) -> list[CaptionFile]:
    """The captions files of a folder that are of one form, tables and tars before others."""
    by_form: dict[str, list[CaptionFile]] = {}
    for uri in sorted(uris):
        kind, compression = _kind(uri)
        if kind and not uri.rpartition("/")[2].startswith((".", "_")):
            by_form.setdefault(kind, []).append(CaptionFile(uri, kind, compression))
    wanted = _FOLDER_ORDER if form in ("auto", "img2dataset") else (form,)
    first = next((kind for kind in wanted if kind in by_form), None)
    if first is None and form == "auto" and len(by_form) == 1:
        (first,) = by_form
    if first is None:
        present = ", ".join(sorted(by_form)) or "none"
        raise ValueError(f"{where}: no captions files of one form ({present} there); set format, or name the files")
    return by_form[first]


def _captions_file(uri: str, form: str) -> CaptionFile:
    kind, compression = _kind(uri)
    if form in ("auto", "img2dataset"):
        form = kind if form == "auto" or kind in _FOLDER_ORDER else ""
    if not form:
        raise ValueError(
            f"{uri}: unknown kind of captions file '{''.join(PurePosixPath(uri).suffixes[-2:])}'; give one of "
            f"{', '.join(_SUFFIXES)}, with .gz or .zst if need be, or set format"
        )
    if form == "parquet" and compression:
        raise ValueError(f"{uri}: parquet is compressed inside, not as {compression}; unpack the file")
    return CaptionFile(uri, form, compression)


def _kind(uri: str) -> tuple[str, str]:
    """The form ('' when unknown) and compression that a name tells."""
    name = uri.lower()
    if name.endswith(".tgz"):
        name = name.removesuffix(".tgz") + ".tar.gz"
    compression = _COMPRESSIONS.get(PurePosixPath(name).suffix, "")
    if compression:
        name = name.rpartition(".")[0]
    return _SUFFIXES.get(PurePosixPath(name).suffix, ""), compression


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


def _uri(files: Any, path: str) -> str:
    uri: str = files.unstrip_protocol(path)
    return uri.removeprefix("file://")


@functools.lru_cache(maxsize=1 << 16)
def _remote_sha256(uri: str, state: str) -> str:
    with closing(_source(uri)) as source:
        return hashlib.file_digest(io.BufferedReader(source, 1 << 20), "sha256").hexdigest()


def _source(uri: str) -> _Source:
    files, path = file_system(uri)
    with _reading(uri):
        return _Source(uri, files.open(path, "rb"))


@contextmanager
def _reading(uri: str) -> Iterator[None]:
    """Say of an operating system's error what could not be read; a ValueError is not taken for damage."""
    try:
        yield
    except OSError as error:
        raise ValueError(f"{uri} cannot be read ({error}); check that it is there and may be read") from error


class _Source(io.RawIOBase):
    """The stored bytes of a file."""

    def __init__(self, uri: str, file: Any) -> None:
        self._uri, self._file = uri, file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return bool(self._file.seekable())

    def readinto(self, buffer: Any, /) -> int:
        with _reading(self._uri):
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
