"""Boxes drawn on images, and which detections count as right."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from regionclip.report.drawing import NamedBox, correct_detections, draw_boxes
from regionclip.report.examples import sample_ids


def red_at(picture: Image.Image, x: int, y: int) -> bool:
    return bool(np.array_equal(np.asarray(picture)[y, x], (255, 0, 0)))


@pytest.mark.parametrize("size", [(96, 96), (96, 48), (640, 480)])
def test_longer_side_becomes_the_asked_one_and_the_shape_stays(size: tuple[int, int]) -> None:
    picture = draw_boxes(Image.new("RGB", size), [], side=240)
    assert max(picture.size) == 240
    assert picture.width / picture.height == pytest.approx(size[0] / size[1], rel=0.01)


def test_box_is_drawn_where_it_lies_in_the_enlarged_image() -> None:
    picture = draw_boxes(Image.new("RGB", (100, 100)), [NamedBox([20, 40, 80, 90], "", "#ff0000")], side=400)
    assert red_at(picture, 80, 300)
    assert red_at(picture, 200, 359)
    assert not red_at(picture, 200, 250)
    assert not red_at(picture, 40, 300)


def test_dashed_outline_has_gaps() -> None:
    picture = draw_boxes(
        Image.new("RGB", (100, 100)), [NamedBox([20, 40, 80, 90], "", "#ff0000", solid=False)], side=400
    )
    edge = [red_at(picture, x, 360) for x in range(80, 320)]
    assert 0.3 < np.mean(edge) < 0.8


def test_drawing_leaves_the_given_image_as_it_was() -> None:
    image = Image.new("RGB", (480, 480))
    draw_boxes(image, [NamedBox([20, 40, 80, 90], "cat", "#ff0000")], side=480)
    assert image.getbbox() is None


def test_an_object_is_found_once_by_its_own_class_only() -> None:
    truth = [[0.0, 0, 10, 10], [20.0, 0, 30, 10]]
    found = [[0.0, 0, 10, 9], [0.0, 0, 10, 10], [20.0, 0, 30, 10], [20.0, 0, 26, 5]]
    assert correct_detections(found, ["cat", "cat", "cat", "cow"], truth, ["cat", "cow"]) == [True, False, False, False]
    assert correct_detections(found[2:3], ["cow"], truth, ["cat", "cow"]) == [True]
    assert correct_detections([], [], truth, ["cat", "cow"]) == []
    assert correct_detections(found[:1], ["cat"], [], []) == [False]


def test_sample_depends_on_the_set_of_ids_and_the_seed_alone() -> None:
    assert sample_ids([5, 3, 9, 3], seed=1) == sample_ids([9, 5, 3], seed=1)
    assert sorted(sample_ids(range(50), seed=1)) == list(range(50))
    assert sample_ids(range(50), seed=1) != sample_ids(range(50), seed=2)
