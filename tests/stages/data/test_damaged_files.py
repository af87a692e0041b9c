"""Files that are damaged so that nobody knows how much of them is lost: each is named, though it counts little."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from PIL import Image

from stages.local_context import LocalContext
from stages.read_captions import CaptionsConfig, read_captions
from stages.read_images import ImagesConfig, read_images
from stages.storage import Folder


def tar_without_end() -> bytes:
    """A whole image with its caption, and a part of the next."""
    sink, image = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (4, 3)).save(image, "PNG")
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for name, content in (("0.png", image.getvalue()), ("0.txt", b"one"), ("1.png", image.getvalue())):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return sink.getvalue()[: 5 * 512 + 20]


def test_tars_that_break_off_are_named_by_what_reads_them(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"{number}.tar").write_bytes(tar_without_end())
    images = LocalContext(Folder(str(tmp_path / "images")))
    read_images(images, ImagesConfig(str(tmp_path), "*.tar", max_rejected_fraction=0.5))
    captions = LocalContext(Folder(str(tmp_path / "captions")))
    read_captions(captions, CaptionsConfig(str(tmp_path), ("*.tar",), max_rejected_fraction=0.5))
    for context, place in ((images, "0.tar::0.png"), (captions, "0.tar: 0")):
        first, *_, last = context.said
        assert first.startswith(f"{place}: the file is damaged after this row (")
        assert first.endswith("; what follows in it is lost and counts as one rejected row: repair the file")
        assert last == "2 more files are damaged like that, see rejected-*.parquet"
