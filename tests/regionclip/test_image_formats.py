"""Only formats of pictures are opened, whatever a file is called."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from regionclip.images import FORMATS, image_size, read_image

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "JPEG2000"])
def test_every_format_is_read(name: str) -> None:
    data = io.BytesIO()
    Image.new("RGB", (8, 6), (250, 10, 20)).save(data, name)
    assert image_size(data.getvalue()) == (8, 6)
    pixels = np.asarray(read_image(data.getvalue())).astype(int)
    assert pixels.shape == (6, 8, 3)
    assert np.abs(pixels - [250, 10, 20]).max() < 16


def test_a_program_for_a_printer_is_no_picture_and_starts_no_interpreter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interpret(*of: object, **more: object) -> None:
        raise AssertionError("a foreign file was run")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", interpret)
    (tmp_path / "photo.jpg").write_bytes(EPS)
    for source in (EPS, tmp_path / "photo.jpg"):
        with pytest.raises(ValueError, match="cannot be read as an image"):
            read_image(source)
