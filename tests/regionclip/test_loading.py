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
    assert rejected["2.png"] == "is 32 x 30 pixels, but its record says 40 x 30; correct the record"
    assert "cannot be read as an image" in rejected["4.png"]


def test_an_image_that_becomes_too_narrow_is_rejected_and_the_others_stay_as_they_are() -> None:
    narrow, others = ImageRecord(7, "7.png", 300, 200), [RECORDS[0], RECORDS[1]]
    config, rejected = ResizeConfig("detection", 24, 24), dict[str, str]()

    def read_all(name: str) -> bytes:
        data = io.BytesIO()
        Image.new("RGB", (300, 200)).save(data, "PNG")
        return data.getvalue() if name == "7.png" else read(name)

    found = list(load_batches(read_all, [*others, narrow], config, 2, rejected.__setitem__, least_side=17))
    assert rejected == {"7.png": "300 x 200 pixels become 24 x 16; each side needs 17"}
    alone = list(load_batches(read, others, config, 2, rejected.__setitem__))
    assert [batch.positions for batch in found] == [batch.positions for batch in alone]
    assert all(torch.equal(batch.pixels, one.pixels) for batch, one in zip(found, alone, strict=True))
    assert len(list(load_batches(read_all, [narrow], config, 2, rejected.__setitem__, least_side=16))) == 1


def test_an_image_whose_record_forgets_that_it_is_turned_is_rejected_with_a_remedy() -> None:
    turned, data = Image.Exif(), io.BytesIO()
    turned[0x0112] = 6
    Image.new("RGB", (40, 30)).save(data, "JPEG", exif=turned)
    rejected: dict[str, str] = {}
    records = [ImageRecord(0, "0.jpg", 40, 30)]
    assert not list(load_batches(lambda name: data.getvalue(), records, CONFIG, 1, rejected.__setitem__))
    assert rejected["0.jpg"].startswith("is 30 x 40 pixels, but its record says 40 x 30; state size and boxes")
    assert "EXIF orientation" in rejected["0.jpg"]


def test_no_records_give_no_batches() -> None:
    assert list(load_batches(read, [], CONFIG, 2, lambda item, reason: None)) == []
