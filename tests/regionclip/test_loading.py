from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image

from regionclip.images import ResizeConfig
from regionclip.loading import ImageRecord, load_batches

SIZES = [(40, 30), (20, 20), (40, 30), (30, 40), (40, 30), (20, 20)]
RECORDS = [ImageRecord(index, f"{index}.png", *size) for index, size in enumerate(SIZES)]
CONFIG = ResizeConfig("detection", 24, 48)


def read(name: str) -> bytes:
    index = int(name.partition(".")[0])
    if index == 4:
        return b"no image"
    size = (32, 30) if index == 2 else SIZES[index]
    data = io.BytesIO()
    Image.new("RGB", size, (index, 0, 0)).save(data, "PNG")
    return data.getvalue()


def test_each_readable_image_comes_once_in_batches_of_one_size() -> None:
    rejected: dict[str, str] = {}
    batches = list(load_batches(read, RECORDS, CONFIG, 2, rejected.__setitem__))
    assert sorted(position for batch in batches for position in batch.positions) == [0, 1, 3, 5]
    for batch in batches:
        assert len(batch.positions) <= 2
        for position, pixels in zip(batch.positions, batch.pixels, strict=True):
            assert int(pixels[0].float().mean()) == position
            width, height = SIZES[position]
            corner = torch.tensor([0.0, 0.0, width, height]) * batch.scale
            np.testing.assert_allclose(corner[2:], [batch.size[1], batch.size[0]], rtol=1e-6)
    assert rejected.keys() == {"2.png", "4.png"}
    assert rejected["2.png"] == "is 32 x 30 pixels, but its record says 40 x 30"
    assert "cannot be read as an image" in rejected["4.png"]


def test_no_records_give_no_batches() -> None:
    assert list(load_batches(read, [], CONFIG, 2, lambda item, reason: None)) == []
