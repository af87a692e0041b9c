"""Small images and the files that hold them."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def picture() -> Callable[..., bytes]:
    """picture(width, height, form="PNG"): the bytes of an image of this size."""

    def make(width: int = 4, height: int = 3, form: str = "PNG") -> bytes:
        sink = io.BytesIO()
        Image.new("RGB", (width, height), (width, height, 0)).save(sink, form)
        return sink.getvalue()

    return make


@pytest.fixture
def write_tar(tmp_path: Path) -> Callable[[str, Sequence[tuple[str, bytes]]], Path]:
    """write_tar("a.tar", [(member, content), ...]): its path."""

    def write(name: str, members: Sequence[tuple[str, bytes]]) -> Path:
        with tarfile.open(tmp_path / name, "w") as archive:
            for member_name, content in members:
                member = tarfile.TarInfo(member_name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        return tmp_path / name

    return write


@pytest.fixture
def write_parquet(tmp_path: Path) -> Callable[..., Path]:
    """write_parquet("a.parquet", rows_per_group, column=values, ...): its path."""

    def write(name: str, rows_per_group: int = 2, **columns: Any) -> Path:
        pq.write_table(pa.table(columns), tmp_path / name, row_group_size=rows_per_group)
        return tmp_path / name

    return write
