"""Which files hold the images, or are images, and in which form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Literal, get_args

from regionclip.captions.files import find_files
from regionclip.image_sources.tables import ColumnsConfig
from regionclip.image_sources.tars import EXTENSIONS
from regionclip.source_files import SourceFile, file_system, stays_below
from regionclip.undecodable import is_utf8

Format = Literal["auto", "coco", "webdataset", "parquet", "folder"]

_SUFFIXES = {".tar": "webdataset", ".parquet": "parquet"}
_OPTIONS: Mapping[str, tuple[str, ...]] = {"parquet": ("image", "uri", "id", "key"), "webdataset": ("image",)}


@dataclass(frozen=True)
class PackedFile:
    """A tar or parquet file: its number in the list of files, its path below the folder of the images, its bytes."""

    number: int
    name: str
    file: SourceFile


@dataclass(frozen=True)
class PlainFile:
    """A file that is an image: its number in the list of files and its path below the folder of the images."""

    number: int
    name: str


def resolve_form(form: str, root: str | None, images: str, instances: str) -> str:
    """The form that 'auto' stands for: tars or parquet files where `images` names them or, without a file `instances`,
    holds them; else COCO. Raises ValueError for an unknown form and when nothing tells it."""
    if form not in get_args(Format):
        raise ValueError(f"format is '{form}'; choose one of {', '.join(get_args(Format))}")
    if form != "auto" or root is None:
        if root is None and form not in ("auto", "coco"):
            raise ValueError(f"images of the form '{form}' need root, the folder that they are in; set it")
        return "coco" if form == "auto" else form
    if (suffix := PurePosixPath(images).suffix.lower()) in _SUFFIXES:
        return _SUFFIXES[suffix]
    inside = below(root, images)
    try:
        held = _suffixes(root, inside, instances)
    except Exception as error:  # drivers of remote places raise many types of their own
        raise ValueError(
            f"{root}: nothing tells the format there ({error}); check the place and your rights, or set format: coco, "
            "webdataset, parquet or folder"
        ) from error
    if held is None:
        return "coco"
    for suffix, packed in _SUFFIXES.items():
        if suffix in held:
            return packed
    raise ValueError(
        f"{root}/{instances}: no such file; check root and instances, or set format: folder to take the images in "
        f"'{images}' without annotations"
    )


def _suffixes(root: str, inside: str, instances: str) -> set[str] | None:
    """The endings of the files in the folder `inside`; None where the root has the annotations of COCO, or is none."""
    files, path = file_system(root)
    if not files.isdir(path) or files.exists(f"{path}/{instances}"):
        return None
    files, path = file_system(inside)
    return {PurePosixPath(each).suffix.lower() for each in files.find(path, maxdepth=1)}


def check_columns(form: str, columns: ColumnsConfig, split: str | None) -> None:
    """Raise ValueError for an option that the form has no use for."""
    for name, value in asdict(columns).items():
        if value is not None and name not in _OPTIONS.get(form, ()):
            raise ValueError(
                f"{name}_column is '{value}', which images of the form '{form}' do not have; set it to null"
            )
    if split is not None and form != "coco":
        raise ValueError(f"split '{split}' is asked but images of the form '{form}' have no splits; set split: null")


def find_packed(root: str, images: str, form: str) -> list[PackedFile]:
    """The tars or parquet files that `images` means, a file, folder or glob inside the folder `root`, sorted.

    Raises ValueError when there are none and for one that cannot be read from any place in it.
    """
    found = find_files([images or "."], root, form)
    other = next((file.uri for file in found if file.compression), None)
    if other is not None:
        raise ValueError(
            f"{other}: images are read from any place in a file, which a compressed one has not; unpack it"
        )
    start = len(file_system(root)[1].rstrip("/")) + 1
    packed = [PackedFile(number, file_system(file.uri)[1][start:], file) for number, file in enumerate(found)]
    odd = next((each.file.uri for each in packed if not is_utf8(each.name)), None)
    if odd is not None:
        raise ValueError(f"{odd!a}: its name is not UTF-8, so no table can hold it; rename the file")
    odd = next((each.file.uri for each in packed if "::" in each.name), None)
    if odd is not None:
        raise ValueError(f"{odd}: '::' parts the name of a file from that of an image in it; rename the file")
    return packed


def find_plain(root: str, images: str) -> list[PlainFile]:
    """The image files in the folder `images` of `root` and all folders in it, by suffix, sorted by path; hidden ones
    left out. Raises ValueError when there are none."""
    files, path = file_system(below(root, images))
    start = len(file_system(root)[1].rstrip("/")) + 1
    found = sorted(each[start:] for each in files.find(path))
    names = [name for name in found if _suffix(name) in EXTENSIONS and "/." not in f"/{name}"]
    if not names:
        raise ValueError(f"{root}/{images}: no image files there; set root and images to the folder that holds them")
    return [PlainFile(number, name) for number, name in enumerate(names)]


def below(root: str, images: str) -> str:
    """The path or URI of `images` inside the folder `root`."""
    if not stays_below(images):
        raise ValueError(f"'{images}' does not name images inside {root}; give a relative name without '..'")
    return "/".join([root.rstrip("/"), *PurePosixPath(images).parts])


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower().removeprefix(".")
