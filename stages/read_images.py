"""Source: the images of a COCO-layout data set, of tars, parquet files or a plain folder, listed with their sizes.

The files stay where they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from regionclip.captions.reading import NOT_DOWNLOADED
from regionclip.coco import check_image_files, dataset_folder, read_coco_images
from regionclip.digests import content_sha256
from regionclip.image_sources.listing import (
    Format,
    PackedFile,
    PlainFile,
    below,
    check_columns,
    find_packed,
    find_plain,
    resolve_form,
)
from regionclip.image_sources.reading import packed_pieces, plain_pieces
from regionclip.image_sources.tables import ColumnsConfig
from regionclip.source_files import files_sha256
from stages.contract import Artifact, Context, Result, Stage
from stages.damaged_files import say_damaged
from stages.listed_images import OWN_STORE
from stages.parts import iter_tables, process_parts, write_table
from stages.storage import Folder

_PLAIN_FILES_OF_A_PART = 4096


@dataclass(frozen=True)
class ImagesConfig:
    """Which images: those that `instances` (any COCO annotation file that lists images) has in `split`, or all of the
    files that `images` names, whose ids are then counted out: files sorted, images as they stand in each. Image n of
    file k has the id k * 2**32 + n, plain files count as the images of one; one that is left out keeps its number.

    root: the data folder (a path or URI) that the other names are relative to; None where a data set artifact is
    given.
    images: the folder of the files; for tars and parquet also one file or a glob.
    format: 'auto' takes tars or parquet files where `images` names or, without `instances`, holds them, else COCO;
    'folder' takes every image file in the folder and the folders in it.
    image_column: the parquet column of the bytes, or the extension of the images in tars; None takes the only one.
    uri_column: a parquet column of paths or URIs below `root`, in place of bytes. id_column: a parquet column of image
    ids, in place of the count. key_column: a parquet column of names; None takes 'key' if there.
    max_rejected_fraction: how many images, of all, may be left out; COCO leaves none out here.
    """

    root: str | None = None
    images: str = "images"
    instances: str = "annotations/instances.json"
    split: str | None = None
    format: Format = "auto"
    image_column: str | None = None
    uri_column: str | None = None
    id_column: str | None = None
    key_column: str | None = None
    max_rejected_fraction: float = 0.01

    def __post_init__(self) -> None:
        if self.image_column is not None and self.uri_column is not None:
            raise ValueError(
                f"image_column '{self.image_column}' and uri_column '{self.uri_column}'; an image is in one of the two"
            )

    @property
    def columns(self) -> ColumnsConfig:
        """What names columns."""
        return ColumnsConfig(self.image_column, self.uri_column, self.id_column, self.key_column)


class ImageLister:
    """Lists the images of the files of one part, a row group at a time: rows of `schemas.PACKED_IMAGES`."""

    def __init__(self, folder: Folder, columns: ColumnsConfig) -> None:
        self._folder, self._columns = folder, columns

    def __call__(self, files: Sequence[PackedFile] | Sequence[PlainFile]) -> Iterator[Mapping[str, pa.Table | int]]:
        plain = [file for file in files if isinstance(file, PlainFile)]
        if plain:
            yield from plain_pieces(plain, self._folder.open)
        for file in files:
            if isinstance(file, PackedFile):
                yield from packed_pieces(file, self._columns, self._folder.open, self._folder.uri)


def read_images(context: Context, config: ImagesConfig, dataset: Artifact | None = None) -> Result:
    """Write the table 'images'; the manifest's external 'images' is the folder that its file names are below.

    COCO is one `images.parquet`. Other forms are `images-*.parquet`, one part a file or 4096 plain ones, and what was
    left out as `rejected-*.parquet`.
    """
    form = form_of(config)
    if form != "coco" and config.root is not None and dataset is None:
        return _read_packed(context, config, config.root, form)
    images, folder = _coco(config, None if dataset is None else str(dataset.folder.local()))
    write_table(context.folder, "images", images)
    where = folder if dataset is None else f"{OWN_STORE}dataset/{dataset.key}/{config.images}"
    return Result(metrics={"images": images.num_rows}, external={"images": where})


def identity(config: ImagesConfig) -> Mapping[str, Any]:
    """The content of the records and files, and how they are read; names alone where they belong to a data set
    artifact. Images behind URIs are known by these and by `root`, which they are below."""
    form = form_of(config)
    if config.root is None:
        return {name: getattr(config, name) for name in ("root", "images", "instances", "split")}
    if form == "coco":
        images, folder = _coco(config, None)
        hashes = files_sha256([f"{folder}/{name}" for name in images["file_name"].to_pylist()])
        return {"content_sha256": content_sha256(images, hashes)}
    uri = Folder(config.root).uri
    if form == "folder":
        names = [each.name for each in find_plain(uri, config.images)]
        hashes = files_sha256([f"{uri}/{name}" for name in names])
        return {"format": form, "files": list(map(list, zip(names, hashes, strict=True)))}
    packed = find_packed(uri, config.images, form)
    hashes = files_sha256([each.file.uri for each in packed])
    named = [[each.name, sha256] for each, sha256 in zip(packed, hashes, strict=True)]
    place = {} if config.uri_column is None else {"root": uri}
    return {"format": form, "files": named, **place, **asdict(config.columns)}


def _coco(config: ImagesConfig, dataset: str | None) -> tuple[pa.Table, str]:
    """The images of a COCO file, all of which are there, and the path or URI of their folder."""
    root = dataset_folder(config.root, dataset)
    images, folder = read_coco_images(f"{root}/{config.instances}", config.split), below(root, config.images)
    check_image_files(images, folder)
    return images, folder


def _read_packed(context: Context, config: ImagesConfig, root: str, form: str) -> Result:
    folder = Folder(root)
    files: Sequence[PackedFile] | Sequence[PlainFile]
    if form == "folder":
        files, part_size = find_plain(folder.uri, config.images), _PLAIN_FILES_OF_A_PART
    else:
        files, part_size = find_packed(folder.uri, config.images, form), 1
    arguments = {"folder": folder, "columns": config.columns}
    fraction = config.max_rejected_fraction
    summary = process_parts(context, files, part_size, ImageLister, arguments, ("images",), fraction, "rows")
    say_damaged(context)
    num_images, not_downloaded = summary.num_rows["images"], summary.counts.get(NOT_DOWNLOADED, 0)
    if not num_images:
        raise ValueError(f"{folder.uri}: no image in the {len(files)} files of '{config.images}'; name others")
    if config.id_column is not None:
        _check_ids(context.folder, config.id_column)
    metrics = {"images": num_images, "rejected": summary.num_rejected, NOT_DOWNLOADED: not_downloaded}
    return Result(metrics=metrics, external={"images": folder.uri})


def form_of(config: ImagesConfig) -> str:
    """The form that the images are in; ValueError when nothing tells it, and for options that it has no use for."""
    root = None if config.root is None else Folder(config.root).uri
    form = resolve_form(config.format, root, config.images, config.instances)
    check_columns(form, config.columns, config.split)
    return form


def _check_ids(folder: Folder, column: str) -> None:
    ids = np.concatenate([part["image_id"].to_numpy() for part in iter_tables(folder, "images", ["image_id"])])
    values, counts = np.unique(ids, return_counts=True)
    if len(values) < len(ids):
        twice = int(values[counts > 1][0])
        raise ValueError(f"image id {twice} of column '{column}' stands in several files; make ids unique")


STAGE = Stage(
    name="read_images",
    version=1,
    inputs={"dataset": ("dataset",)},
    output="images",
    run=read_images,
    optional=frozenset({"dataset"}),
    resumable=True,
    identity=identity,
)
