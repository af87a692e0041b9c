from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from regionclip.grouped import Grouped
from regionclip.images import ResizeConfig, image_tensor, normalize, pad_batch, read_image, resize
from regionclip.place_errors import PlaceError
from regionclip.training.images import ImageFiles, TrainingImages

BOXES = {"wide": [10, 4, 30, 20], "tall": [4, 30, 14, 62], "square": [20, 20, 40, 28]}
SIZES = {"wide": (80, 40), "tall": (40, 80), "square": (48, 48)}
CONFIG = ResizeConfig("pretraining", 48, 96)
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
ALL = np.arange(3)


def read(name: str) -> bytes:
    """A black image with one white box."""
    image = Image.new("RGB", SIZES[name])
    x1, y1, x2, y2 = BOXES[name]
    ImageDraw.Draw(image).rectangle([x1, y1, x2 - 1, y2 - 1], fill="white")
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()


def images(**settings: int) -> TrainingImages:
    return TrainingImages(ImageFiles(list(BOXES), read), CONFIG, **settings)


def test_a_batch_is_what_single_images_give_after_padding() -> None:
    batch = images().batch(ALL, np.zeros(3, bool))
    single = [normalize(image_tensor(resize(read_image(read(name)), CONFIG)), MEAN, STD) for name in BOXES]
    torch.testing.assert_close(batch.normalized(MEAN, STD, torch.device("cpu")), pad_batch(single))
    assert [tuple(size) for size in batch.sizes.tolist()] == [each.shape[1:] for each in single]


@pytest.mark.parametrize("flipped", [[False] * 3, [True] * 3, [True, False, True]])
def test_boxes_stay_on_their_objects_through_resize_and_flip(flipped: list[bool]) -> None:
    batch = images().batch(ALL, np.array(flipped))
    truth = Grouped(np.arange(4), {"boxes": np.array(list(BOXES.values()), np.float32)})
    for pixels, boxes in zip(batch.pixels, batch.boxes(truth, ALL), strict=True):
        rows, columns = torch.nonzero(pixels[0] > 127, as_tuple=True)
        found = torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        assert (boxes[0] - found).abs().max() <= 1


@pytest.mark.parametrize("cache_bytes", [0, 7000, 1_000_000])
def test_the_cache_changes_nothing_but_the_number_of_reads(cache_bytes: int) -> None:
    reads: list[str] = []

    def counting(name: str) -> bytes:
        reads.append(name)
        return read(name)

    source = TrainingImages(ImageFiles(list(BOXES), counting), CONFIG, cache_bytes)
    batches = [source.batch(np.array([0, 1, 2, 0]), np.zeros(4, bool)).pixels for _ in range(3)]
    assert all(torch.equal(batch, batches[0]) for batch in batches)
    assert len(reads) == {0: 9, 7000: 9 - 2, 1_000_000: 3}[cache_bytes]


def test_an_unreadable_image_is_named() -> None:
    source = TrainingImages(ImageFiles(["x.jpg"], lambda name: b"no image"), CONFIG)
    with pytest.raises(ValueError, match=r"x\.jpg: .*mend or remove"):
        source.batch(np.array([0]), np.zeros(1, bool))


def test_an_image_of_another_size_than_its_boxes_go_by_is_refused_and_a_disk_that_fails_is_not_its_fault() -> None:
    turned = [SIZES[name][::-1] for name in BOXES]
    source = TrainingImages(ImageFiles(list(BOXES), read, turned), CONFIG)
    with pytest.raises(ValueError, match="wide is 80 x 40 pixels, but its record says 40 x 80; state size and"):
        source.batch(np.array([0]), np.zeros(1, bool))

    def fail(name: str) -> bytes:
        raise PlaceError(f"{name} cannot be read (timed out)")

    with pytest.raises(PlaceError, match=r"^wide cannot be read \(timed out\)$"):
        TrainingImages(ImageFiles(list(BOXES), fail), CONFIG).batch(np.array([0]), np.zeros(1, bool))
