"""Captions written in every form that can be read."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from regionclip.captions.files import find_files
from regionclip.captions.reading import read_captions
from regionclip.captions.rows import ReadingConfig

SUFFIXES = {"text": ".txt", "tsv": ".tsv", "jsonl": ".jsonl", "csv": ".csv", "coco": ".json", "webdataset": ".tar"}


def parquet(**columns: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, row_group_size=1000)
    return sink.getvalue()


def tar(members: Iterable[tuple[str, bytes]]) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return sink.getvalue()


def encode(form: str, captions: list[str]) -> bytes:
    """The bytes of an uncompressed file."""
    if form == "parquet":
        return parquet(caption=pa.array(captions, pa.string()))
    if form == "webdataset":
        return tar((f"{row:04d}.txt", caption.encode()) for row, caption in enumerate(captions))
    if form == "coco":
        annotations = [{"id": row, "image_id": row % 3, "caption": caption} for row, caption in enumerate(captions)]
        return json.dumps({"images": [{"id": image} for image in range(3)], "annotations": annotations}).encode()
    if form == "csv":
        sink = io.StringIO(newline="")
        csv.writer(sink).writerows([["url", "caption"], *(["u", caption] for caption in captions)])
        return sink.getvalue().encode()
    lines = {"text": "{}\n", "tsv": "{}\thttp://u\n"}
    dumped = (json.dumps({"caption": caption}) for caption in captions)
    return "".join(
        [line + "\n" for line in dumped] if form == "jsonl" else [lines[form].format(caption) for caption in captions]
    ).encode()


def compress(data: bytes, suffix: str) -> bytes:
    if suffix == ".zst":
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, "zstd") as stream:
            stream.write(data)
        return bytes(sink.getvalue().to_pybytes())
    return gzip.compress(data, mtime=0) if suffix == ".gz" else data


@pytest.fixture(scope="session")
def encoded() -> Callable[..., tuple[str, bytes]]:
    """encoded(form, captions, compression=""): a file's suffix and bytes."""

    def make(form: str, captions: list[str], compression: str = "") -> tuple[str, bytes]:
        return SUFFIXES.get(form, f".{form}") + compression, compress(encode(form, captions), compression)

    return make


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., list[tuple[Any, ...]]]:
    """read(name, data, form="auto", **config): the rows of a file of this name, as plain tuples."""

    def read(name: str, data: bytes, form: str = "auto", **config: Any) -> list[tuple[Any, ...]]:
        (tmp_path / name).write_bytes(data)
        (file,) = find_files([str(tmp_path / name)], None, form)
        return [tuple(row) for row in read_captions(file, ReadingConfig(**config))]

    return read


@pytest.fixture(scope="session")
def make_tar() -> Callable[..., bytes]:
    """make_tar([(name, content), ...])"""
    return tar


@pytest.fixture(scope="session")
def make_parquet() -> Callable[..., bytes]:
    """make_parquet(column=values, ...)"""
    return parquet


@pytest.fixture(scope="session")
def packed() -> Callable[[bytes, str], bytes]:
    """packed(data, suffix): the data compressed as the suffix says."""
    return compress
