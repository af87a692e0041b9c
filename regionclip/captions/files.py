"""Which files hold the captions, and in which form."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal, get_args

from regionclip.source_files import SourceFile, file_system, is_file, stays_below, uri_of

Format = Literal["auto", "coco", "tsv", "img2dataset", "webdataset", "parquet", "jsonl", "csv", "text"]

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


@dataclass(frozen=True)
class CaptionFile(SourceFile):
    """A file of captions, its form resolved from `auto` and `img2dataset`.

    first_image_id: the id of image 0 where the images that the file holds too are numbered.
    """

    first_image_id: int | None = None


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
    found = [file for name in names for file in _find(name, root, form)]
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
    if not name or not stays_below(name):
        raise ValueError(f"'{name}' does not name a file inside {root}; give a relative name without '..'")
    return "/".join([root.rstrip("/"), *PurePosixPath(name).parts])


def _find(name: str, root: str | None, form: str) -> list[CaptionFile]:
    where = name if root is None else _inside(root, name)
    files, path = file_system(where)
    if is_file(files, path, where):
        return [_captions_file(uri_of(files, path), form)]
    if files.isdir(path):
        inside = (each["name"] for each in files.ls(path, detail=True) if each["type"] == "file")
        return _of_folder(where, [uri_of(files, each) for each in inside], form)
    if not any(sign in name for sign in "*?["):
        raise ValueError(f"{where}: no such file; check root and the file name")
    above = "" if root is None else file_system(root)[1].rstrip("/")  # signs in it stand for themselves
    pattern = glob.escape(above) + path[len(above) :]
    paths = sorted(each for each, state in files.glob(pattern, detail=True).items() if state["type"] == "file")
    if not paths:
        raise ValueError(f"{where}: no file fits; check the pattern")
    return [_captions_file(uri_of(files, each), form) for each in paths]


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
        wanted_form = "of one form" if form == "auto" else f"of the form '{form}'"
        present = ", ".join(sorted(by_form)) or "none of a known form"
        raise ValueError(f"{where}: no files {wanted_form} ({present} there); set format, or name the files")
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
