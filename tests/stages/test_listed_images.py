"""Images that are rows of parquet files: read in any order at the cost of one pass, and never a whole file at once."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from regionclip.image_sources.places import TableRow
from regionclip.place_errors import PlaceError
from stages import row_stream
from stages.listed_images import ImageFolder

ROWS, GROUP = 200, 90


@pytest.fixture
def images(tmp_path: Path) -> dict[str, bytes]:
    """Two files of three row groups each; the images by their place."""
    found = {}
    for file in ("a.parquet", "b.parquet"):
        content = [f"{file} {row} ".encode() * (row % 7 + 1) for row in range(ROWS)]
        structs = pa.array([{"bytes": each, "path": None} for each in content])
        pq.write_table(pa.table({"image": structs, "text": ["-"] * ROWS}), tmp_path / file, row_group_size=GROUP)
        found |= {str(TableRow(file, "image.bytes", *divmod(row, GROUP))): each for row, each in enumerate(content)}
    (tmp_path / "plain.png").write_bytes(b"plain")
    return {**found, "plain.png": b"plain"}


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[int, ...]]]:
    """Which row groups of which file were begun to read."""
    begun = []

    class Counted(pq.ParquetFile):  # type: ignore[misc]
        def __init__(self, file: Any, **options: Any) -> None:
            super().__init__(file, **options)
            self.name = Path(file.name).name

        def iter_batches(self, size: int, groups: Any, *more: Any, **options: Any) -> Any:
            begun.append((self.name, tuple(groups)))
            return super().iter_batches(size, groups, *more, **options)

    monkeypatch.setattr(row_stream.pq, "ParquetFile", Counted)
    return begun


def test_images_come_in_any_order_and_each_row_group_is_read_once(
    tmp_path: Path, images: dict[str, bytes], passes: list[tuple[str, tuple[int, ...]]]
) -> None:
    folder, names = ImageFolder(str(tmp_path)), list(images)
    for start in range(0, len(names), 64):  # parts, one after the other
        part = names[start : start + 64]
        with folder.gathered(part) as read:
            wanted = random.Random(start).sample(part, len(part))
            assert [read(name) for name in wanted] == [images[name] for name in wanted]
    assert passes == [(file, (group,)) for file in ("a.parquet", "b.parquet") for group in range(3)]


def test_rows_that_cannot_be_read_say_so_when_they_are_asked_for(tmp_path: Path, images: dict[str, bytes]) -> None:
    folder, sound = ImageFolder(str(tmp_path)), str(TableRow("a.parquet", "image.bytes", 0, 3))
    beyond, gone = (str(TableRow(file, "image.bytes", 0, row)) for file, row in (("a.parquet", 95), ("c.parquet", 0)))
    with folder.gathered([beyond, sound, gone]) as read:
        assert read(sound) == images[sound]
        with pytest.raises(ValueError, match="no image there; the file has changed"):
            read(beyond)
        with pytest.raises(ValueError, match=r"c\.parquet does not exist"):
            read(gone)


def test_a_huge_row_group_is_never_whole_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size, rows = 100_000, 600
    noise = random.Random(0)
    content = [noise.randbytes(size) for _ in range(rows)]
    pq.write_table(pa.table({"image": content}), tmp_path / "a.parquet", compression="none", write_batch_size=16)
    del content
    held = []
    image_bytes = row_stream.image_bytes
    monkeypatch.setattr(
        row_stream, "image_bytes", lambda *of: held.append(pa.total_allocated_bytes()) or image_bytes(*of)
    )
    before = pa.total_allocated_bytes()
    names = [str(TableRow("a.parquet", "image", 0, row)) for row in range(rows)]
    with ImageFolder(str(tmp_path)).gathered(names) as read:
        assert len(read(names[-1])) == size
    assert len(held) == rows
    assert max(held) - before < rows * size / 4


def test_a_disk_that_fails_is_not_taken_for_a_damaged_file(
    tmp_path: Path, images: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(io.FileIO):
        def readinto(self, buffer: Any) -> int:
            raise OSError(5, "Input/output error")

        def read(self, size: int = -1) -> bytes:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(ImageFolder, "_opened", lambda self, target: Failing(target))
    folder = ImageFolder(str(tmp_path))
    with (
        pytest.raises(PlaceError, match=r"a\.parquet cannot be read \(\[Errno 5\] Input/output error\)"),
        folder.gathered([next(iter(images))]),
    ):
        raise AssertionError("the block is not begun")
