"""Labels against annotated boxes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regionclip.labels.truth import THRESHOLDS, ClassTruth, TruthCounter, TruthCurve

Table = Callable[..., pa.Table]
CONCEPTS = ("cat", "kitten", "cup", "water")
CLASS_OF = {"cat": "cat", "kitten": "cat", "cup": "cup", "plane": "airplane"}
Objects = Sequence[tuple[tuple[float, float, float, float], str]]


def curve(
    tables: Sequence[pa.Table], objects: Mapping[int, Objects], iou: float = 0.5, threshold: float | None = None
) -> TruthCurve:
    counter = TruthCounter(CONCEPTS, CLASS_OF, iou, threshold)
    truth = {
        image_id: (np.array([box for box, _ in found], np.float32), [name for _, name in found])
        for image_id, found in objects.items()
    }
    for table in tables:
        counter.add(table, truth)
    return counter.result()


def overlap(first: Sequence[float], second: Sequence[float]) -> float:
    width, height = (max(0.0, min(first[i + 2], second[i + 2]) - max(first[i], second[i])) for i in (0, 1))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    union = sum(areas) - width * height
    return width * height / union if union else 0.0


@st.composite
def objects_near(draw: st.DrawFn, images: Sequence[Sequence[Any]]) -> dict[int, Objects]:
    """Objects on the spots of regions, of whichever image, some images without any."""
    boxes = [region.box for row in images for region in row]
    if not boxes:
        return {}
    pair = st.tuples(st.sampled_from(boxes), st.sampled_from(("cat", "cup", "airplane", "zebra")))
    return draw(st.dictionaries(st.sampled_from(range(len(images))), st.lists(pair, max_size=4)))


class Loop:
    """The same counts, object by object and region by region, of the regions that `chosen` accepts."""

    def __init__(
        self, images: Sequence[Any], objects: Mapping[int, Objects], iou: float, chosen: Callable[[Any], bool]
    ) -> None:
        self.labels = self.right = self.found = self.objects = self.covered = self.unjudged = 0
        for image_id, row in enumerate(images):
            truth = [(box, name) for box, name in objects.get(image_id, ()) if name in ("cat", "cup")]
            regions = [(region.box, CLASS_OF.get(CONCEPTS[region.labels[0][0]])) for region in row if chosen(region)]
            self.labels += sum(name is not None for _, name in regions)
            self.unjudged += sum(name is None for _, name in regions)
            self.right += sum(
                any(name == true and overlap(box, where) >= iou for where, true in truth) for box, name in regions
            )
            self.found += sum(
                any(name == true and overlap(box, where) >= iou for box, name in regions) for where, true in truth
            )
            self.objects += len(truth)
            self.covered += sum(any(overlap(region.box, where) >= iou for region in row) for where, _ in truth)


def exceeds(threshold: float) -> Callable[[Any], bool]:
    return lambda region: bool(region.labels) and region.labels[0][1] > threshold


@settings(max_examples=100, deadline=None)
@given(data=st.data(), iou=st.sampled_from((0.25, 0.5, 1.0)))
def test_counts_are_those_of_a_slow_loop(
    data: st.DataObject, iou: float, make_table: Table, drawn_images: st.SearchStrategy[Any]
) -> None:
    images = data.draw(drawn_images)
    objects = data.draw(objects_near(images))
    found = curve([make_table(images)], objects, iou)
    for index in (0, 24, 26, 49, 51, 89, 91, 99):
        slow = Loop(images, objects, iou, exceeds(THRESHOLDS[index]))
        assert (found.labels[index], found.right[index], found.found[index]) == (slow.labels, slow.right, slow.found)
        assert found.precision(index) == (slow.right / slow.labels if slow.labels else None)
        assert found.recall(index) == (slow.found / slow.objects if slow.objects else None)
    everything = Loop(images, objects, iou, exceeds(0.0))
    assert (found.objects, found.covered) == (everything.objects, everything.covered)
    assert found.unjudged == everything.unjudged
    kept = Loop(images, objects, iou, lambda region: region.keep and bool(region.labels))
    assert tuple(map(sum, zip(*[row[1:] for row in found.by_class], strict=True))) == (
        *(kept.labels, kept.right),
        *(kept.objects, kept.found),
    )
    assert found.kept == (
        kept.right / kept.labels if kept.labels else None,
        kept.found / kept.objects if kept.objects else None,
    )


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_recall_never_rises_with_the_threshold(
    data: st.DataObject, make_table: Table, drawn_images: st.SearchStrategy[Any]
) -> None:
    images = data.draw(drawn_images)
    found = curve([make_table(images)], data.draw(objects_near(images)))
    for counts in (found.labels, found.right, found.found):
        assert all(lower >= higher for lower, higher in itertools.pairwise(counts))
    assert found.found[0] <= found.covered <= found.objects
    assert found.right[0] <= found.labels[0]


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_order_of_parts_does_not_matter(
    data: st.DataObject, make_table: Table, drawn_images: st.SearchStrategy[Any]
) -> None:
    images = data.draw(drawn_images)
    objects = data.draw(objects_near(images))
    whole = make_table(images)
    cut = data.draw(st.integers(0, len(images)))
    assert curve([whole.slice(cut), whole.slice(0, cut)], objects) == curve([whole], objects)


def test_a_perfect_set_finds_everything_and_is_always_right(make_table: Table, make_region: Any) -> None:
    objects: dict[int, Objects] = {0: [((0, 0, 8, 8), "cat"), ((20, 0, 28, 8), "cup")], 1: [((5, 5, 40, 40), "cat")]}
    rows = [
        [make_region(box, [(CONCEPTS.index(name), 1.0)], True) for box, name in objects[image_id]]
        for image_id in (0, 1)
    ]
    found = curve([make_table(rows)], objects)
    for index in range(len(THRESHOLDS)):
        assert (found.precision(index), found.recall(index), found.f1(index)) == (1.0, 1.0, 1.0)
    assert found.kept == (1.0, 1.0)
    assert found.suggested == 0.0
    assert found.covered == found.objects == 3
    assert found.by_class == (ClassTruth("cat", 2, 2, 2, 2), ClassTruth("cup", 1, 1, 1, 1))


def test_several_labels_may_be_right_about_one_object(make_table: Table, make_region: Any) -> None:
    row = [make_region((0, 0, 8, 8), [(0, 0.6)], True), make_region((0, 0, 8, 7), [(1, 0.4)], False)]
    found = curve([make_table([row])], {0: [((0, 0, 8, 8), "cat")]})
    assert (found.labels[0], found.right[0], found.found[0]) == (2, 2, 1)
    assert (found.labels[50], found.right[50], found.found[50]) == (1, 1, 1)
    assert (found.labels[70], found.right[70], found.found[70]) == (0, 0, 0)


def test_what_no_annotation_decides_is_not_judged(make_table: Table, make_region: Any) -> None:
    row = [make_region((0, 0, 8, 8), [(3, 0.9)], True), make_region((0, 0, 8, 8), [], False)]
    found = curve([make_table([row])], {0: [((0, 0, 8, 8), "zebra"), ((0, 0, 8, 8), "airplane")]})
    assert (found.labels[0], found.objects, found.covered, found.unjudged) == (0, 0, 0, 1)
    assert (found.precision(0), found.recall(0), found.f1(0)) == (None, None, None)
    assert found.kept == (None, None)
    assert found.suggested is None


def test_a_wrong_class_is_not_right_but_covers_the_object(make_table: Table, make_region: Any) -> None:
    found = curve([make_table([[make_region((0, 0, 8, 8), [(2, 0.9)], True)]])], {0: [((0, 0, 8, 8), "cat")]})
    assert (found.labels[0], found.right[0], found.found[0], found.covered) == (1, 0, 0, 1)
    assert (found.precision(0), found.recall(0), found.f1(0)) == (0.0, 0.0, 0.0)
    assert found.suggested is None
    assert found.by_class == (ClassTruth("cat", 0, 0, 1, 0), ClassTruth("cup", 1, 0, 0, 0))


def test_the_suggested_cut_is_the_lowest_of_the_highest_f1(make_table: Table, make_region: Any) -> None:
    row = [make_region((0, 0, 8, 8), [(0, 0.9)], True), make_region((30, 30, 38, 38), [(0, 0.4)], True)]
    found = curve([make_table([row])], {0: [((0, 0, 8, 8), "cat")]})
    assert found.suggested == pytest.approx(0.4, abs=0.011)
    assert found.suggested is not None
    index = found.thresholds.index(found.suggested)
    assert found.f1(index) == 1.0
    assert found.f1(index - 1) == pytest.approx(2 / 3)
    worse = replace(found, found=tuple(0 for _ in found.found))
    assert worse.suggested is None


def test_labels_of_another_pool_are_refused(make_table: Table, make_region: Any) -> None:
    with pytest.raises(ValueError, match="name concept 4, but the pool has 4"):
        curve([make_table([[make_region((0, 0, 1, 1), [(4, 1.0)], True)]])], {})


def test_what_something_else_than_the_threshold_drops_counts_at_none(make_table: Table, make_region: Any) -> None:
    boxes = [(0.0, 0.0, 8.0, 8.0), (20.0, 0.0, 28.0, 8.0), (40.0, 0.0, 48.0, 8.0)]
    kept, below, dropped = (
        make_region(box, [(0, share)], keep)
        for box, share, keep in zip(boxes, (0.9, 0.25, 0.9), (True, False, False), strict=True)
    )
    objects: dict[int, Objects] = {0: [(box, "cat") for box in boxes]}
    found = curve([make_table([[kept, below, dropped]])], objects, threshold=0.5)
    assert [found.labels[index] for index in (0, 24, 26, 50)] == [2, 2, 1, 1]
    assert (found.right[50], found.found[50], found.objects) == (1, 1, 3)
    assert found.kept == (found.precision(50), found.recall(50))
