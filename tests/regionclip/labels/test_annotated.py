"""Annotated boxes: found by image, meant by concepts, and which images are judged by them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from regionclip.concepts.coverage import Concept
from regionclip.labels.annotated import AnnotatedBoxes, Judge, meant_classes
from regionclip.schemas import BOXES

BOX = (0.0, 0.0, 16.0, 16.0)


def boxes(*rows: tuple[int, str, Sequence[float]], crowd: bool = False) -> AnnotatedBoxes:
    listed = [{"image_id": image, "category": name, "box": box, "is_crowd": crowd} for image, name, box in rows]
    return AnnotatedBoxes(pa.Table.from_pylist(listed, schema=BOXES))


def test_boxes_are_found_by_image_in_whatever_order_they_are_listed() -> None:
    rows = [(7, "cat", [0, 0, 1, 1]), (2, "cup", [0, 0, 2, 2]), (7, "cup", [0, 0, 3, 3])]
    for order in (rows, rows[::-1]):
        found = boxes(*order).of(np.array([2, 3, 7]))
        assert sorted(found) == [2, 7]
        assert found[2][1] == ["cup"]
        assert {(name, box[2]) for box, name in zip(*found[7], strict=True)} == {("cat", 1), ("cup", 3)}


def test_crowds_are_no_objects() -> None:
    assert boxes((1, "cat", BOX), crowd=True).of(np.array([1])) == {}


@pytest.mark.parametrize(
    ("classes", "concepts", "meant"),
    [
        (["dog"], [Concept("dog", 5)], {"dog": "dog"}),
        (["couch"], [Concept("sofa", 5)], {"sofa": "couch"}),
        (["airplane"], [Concept("plane", 5), Concept("airplane", 2)], {"airplane": "airplane", "plane": "airplane"}),
        (["tv"], [Concept("screen", 5, ("tv",))], {"screen": "tv"}),
        (["doughnut"], [Concept("donut", 5)], {"donut": "doughnut"}),
        (["ball"], [Concept("tennis ball", 5)], {}),
        (["sofa", "couch"], [Concept("couch", 5)], {"couch": "couch"}),
        (["gnu"], [Concept("dog", 5)], {}),
    ],
)
def test_concepts_mean_a_class_by_name_by_another_word_or_by_a_form(
    classes: list[str], concepts: list[Concept], meant: dict[str, str]
) -> None:
    assert meant_classes(classes, concepts) == meant


def test_images_that_nobody_annotated_are_not_judged(
    make_table: Callable[..., pa.Table], make_region: Callable[..., Any]
) -> None:
    region = make_region(BOX, [(0, 0.9)], True)
    judge = Judge(boxes((0, "cat", BOX)), ["cat", "gnu"], [Concept("cat", 3)])
    judge.add(make_table([[region], [region, region]]))
    judge.add(make_table([[region]], first_id=2))
    curve = judge.result()
    assert (judge.images, judge.regions) == (1, 1)
    assert (curve.labels[0], curve.right[0], curve.objects) == (1, 1, 1)
    assert judge.unmeant == ["gnu"]
