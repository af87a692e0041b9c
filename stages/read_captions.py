"""Source: captions of any file form, streamed, so that memory does not grow with the corpus."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import pyarrow as pa

from regionclip.captions.files import CaptionFile, Format, check_options, find_files
from regionclip.captions.reading import NOT_DOWNLOADED, caption_pieces
from regionclip.captions.rows import ReadingConfig
from regionclip.image_sources.places import first_image_id
from regionclip.source_files import files_sha256
from stages.contract import Artifact, Context, Result, Stage
from stages.damaged_files import say_damaged
from stages.parts import process_parts


@dataclass(frozen=True)
class CaptionsConfig:
    """Which captions: all of `files`, one file after the other.

    root: the data folder (a path or URI) that `files` are inside of; "" takes paths, URIs, folders and globs as they
    are given; None where a data set artifact is given.
    split: only captions of images in this split, which a COCO file must then state.
    format: 'auto' goes by the suffix. column: holds the captions of a form with columns.
    id_column: its values may not repeat within a file; None checks the annotation ids of COCO files alone.
    number_images: give captions of tars and parquet files the image ids that read_images counts out for the images in
    the same files, which must be named in the same order. image_id_column: gives them from a parquet column instead.
    max_words: a longer caption is rejected.
    max_rejected_fraction: how many rows, of all, may be left out.
    """

    root: str | None = None
    files: tuple[str, ...] = ("annotations/captions.json",)
    split: str | None = None
    format: Format = "auto"
    column: str = "caption"
    id_column: str | None = None
    number_images: bool = False
    image_id_column: str | None = None
    max_words: int = 1000
    max_rejected_fraction: float = 0.01

    def __post_init__(self) -> None:
        if self.max_words < 1:
            raise ValueError(f"max_words is {self.max_words}; it must be 1 or more")
        if self.number_images and self.image_id_column is not None:
            raise ValueError(
                f"number_images is set and image_id_column is '{self.image_id_column}'; image ids come from one of them"
            )


class CaptionReader:
    """Reads one file as `captions` and `rejected`, a row group at a time."""

    def __init__(self, config: ReadingConfig) -> None:
        self._config = config

    def __call__(self, files: Sequence[CaptionFile]) -> Iterator[Mapping[str, pa.Table | int]]:
        for file in files:
            yield from caption_pieces(file, self._config)


def read_captions(context: Context, config: CaptionsConfig, dataset: Artifact | None = None) -> Result:
    """Write `captions-*.parquet`, one part a file, and the rows left out as `rejected-*.parquet`.

    Raises ValueError for files that are missing or cannot be told, before anything is read, for too many rejected
    rows, and when there is no caption at all.
    """
    if (config.root is None) == (dataset is None):
        raise ValueError(
            f"data root {config.root!r} with data set {dataset and dataset.key}: give one of the two, a root (an empty "
            "one for files as given) or a data set"
        )
    files = _files(config, config.root or (dataset.folder.uri if dataset else None))
    arguments = {"config": _reading(config)}
    summary = process_parts(
        context, files, 1, CaptionReader, arguments, ("captions",), config.max_rejected_fraction, rejected_of="rows"
    )
    say_damaged(context)
    num_captions, not_downloaded = summary.num_rows["captions"], summary.counts.get(NOT_DOWNLOADED, 0)
    if not num_captions:
        raise ValueError(
            f"{', '.join(file.name for file in files[:3])}: no caption in {len(files)} files ({not_downloaded} rows "
            "without a downloaded image); give files that have captions"
        )
    return Result(metrics={"captions": num_captions, "rejected": summary.num_rejected, NOT_DOWNLOADED: not_downloaded})


def identity(config: CaptionsConfig) -> Mapping[str, Any]:
    """The content of the files and how they are read; names where they belong to a data set artifact."""
    reading = asdict(_reading(config))
    if config.image_id_column is None:
        del reading["image_id_column"]
    if config.number_images:
        reading["number_images"] = True
    if config.root is None:
        return {"files": config.files, "format": config.format, **reading}
    files = _files(config, config.root or None)
    hashes = files_sha256([file.uri for file in files])
    known = [[sha256, file.form, file.compression] for sha256, file in zip(hashes, files, strict=True)]
    return {"files": known, **reading}


def _files(config: CaptionsConfig, root: str | None) -> list[CaptionFile]:
    files = find_files(config.files, root, config.format)
    check_options(files, config.split, config.id_column)
    numbered = ("webdataset", "parquet") if config.number_images else ("parquet",)
    other = next((file for file in files if file.form not in numbered), None)
    if other is not None and (config.number_images or config.image_id_column is not None):
        option = "number_images: false" if config.number_images else "image_id_column: null"
        raise ValueError(f"{other.uri}: a {other.form} file gives captions no image ids in this way; set {option}")
    if not config.number_images:
        return files
    return [replace(file, first_image_id=first_image_id(number)) for number, file in enumerate(files)]


def _reading(config: CaptionsConfig) -> ReadingConfig:
    return ReadingConfig(config.split, config.column, config.id_column, config.max_words, config.image_id_column)


STAGE = Stage(
    name="read_captions",
    version=2,
    inputs={"dataset": ("dataset",)},
    output="captions",
    run=read_captions,
    optional=frozenset({"dataset"}),
    resumable=True,
    identity=identity,
)
