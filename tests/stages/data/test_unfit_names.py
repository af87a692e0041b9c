"""Image files whose names no artifact can hold: left out with the reason, and nothing stops for them."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest
from PIL import Image

from stages import read_images
from stages.contract import Artifact
from stages.parts import read_table
from stages.read_images import ImagesConfig

Run = Callable[..., Artifact]


def picture(red: int = 0) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (3, 2), (red, 0, 0)).save(sink, "PNG")
    return sink.getvalue()


def write(folder: Path, name: bytes, data: bytes) -> None:
    """A file that is a minute old, so that its hash is remembered."""
    path = os.path.join(os.fsencode(folder), name)
    try:
        Path(os.fsdecode(path)).write_bytes(data)
    except OSError as error:
        pytest.skip(f"this file system takes no such name: {error}")
    then = os.stat(path).st_mtime - 60
    os.utime(path, (then, then))


def listed(images: Artifact) -> tuple[list[str], list[dict[str, str]]]:
    names: list[str] = read_table(images, "images")["file_name"].to_pylist()
    return names, read_table(images, "rejected").to_pylist()


def test_a_name_that_is_not_utf8_is_rejected_and_its_bytes_are_in_the_key(tmp_path: Path, run_stage: Run) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    write(folder, b"a.png", picture())
    write(folder, b"b\xff.png", picture())
    config = ImagesConfig(str(folder), ".", format="folder", max_rejected_fraction=0.5)
    names, rejected = listed(run_stage(read_images.STAGE, config))
    assert names == ["a.png"]
    assert rejected == [{"item": "b\\udcff.png", "reason": "its name is not UTF-8"}]
    key = read_images.STAGE.key(config, {})
    assert key == read_images.STAGE.key(config, {})
    write(folder, b"b\xff.png", picture(red=1))
    assert key != read_images.STAGE.key(config, {})


def test_a_key_with_an_empty_part_is_rejected_and_no_other_file_read_for_it(tmp_path: Path, run_stage: Run) -> None:
    root = f"memory://{tmp_path.name}"
    files = fsspec.filesystem("memory")
    for name in ("i/x.png", "i//x.png", "i//.hidden.png"):
        files.pipe_file(f"{root}/{name}", picture())
    config = ImagesConfig(root, ".", format="folder", max_rejected_fraction=0.5)
    names, rejected = listed(run_stage(read_images.STAGE, config))
    files.rm(f"/{tmp_path.name}", recursive=True)
    assert names == ["i/x.png"]
    assert rejected == [{"item": "i//x.png", "reason": "its name has an empty part, as in 'a//b'"}]
