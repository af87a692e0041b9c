"""Totals and histograms of a set of labels."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regionclip.labels.statistics import NUM_BINS, LabelAudit, NeverKept, count_labels, never_kept

Table = Callable[..., pa.Table]
NUM_CONCEPTS = 4


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_totals_and_histograms_count_every_region_once(
    data: st.DataObject, make_table: Table, drawn_images: st.SearchStrategy[Any]
) -> None:
    images = data.draw(drawn_images)
    regions = [region for row in images for region in row]
    found = count_labels([make_table(images)], NUM_CONCEPTS)
    kept = [region for region in regions if region.keep]
    assert (found.images, found.regions, found.kept) == (len(images), len(regions), len(kept))
    assert found.images_without_kept == sum(not any(region.keep for region in row) for row in images)
    for histogram in (found.score, found.entropy, found.size):
        assert len(histogram.edges) == NUM_BINS + 1
        assert sum(histogram.kept) == len(kept)
        assert sum(histogram.kept) + sum(histogram.dropped) == len(regions)
    for counted, of in ((found.labelled, regions), (found.kept_of, kept)):
        firsts = [region.labels[0][0] for region in of if region.labels]
        assert counted == tuple(firsts.count(concept) for concept in range(NUM_CONCEPTS))
    scores = [region.labels[0][1] if region.labels else 0.0 for region in kept]
    assert found.mean_kept_score == (pytest.approx(sum(scores) / len(scores)) if scores else None)


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_neither_the_order_nor_the_size_of_parts_matters(
    data: st.DataObject, make_table: Table, drawn_images: st.SearchStrategy[Any]
) -> None:
    parts = [make_table(data.draw(drawn_images)) for _ in range(3)]
    whole = count_labels([pa.concat_tables(parts)], NUM_CONCEPTS)
    assert count_labels(data.draw(st.permutations(parts)), NUM_CONCEPTS) == whole


@settings(max_examples=30, deadline=None)
@given(data=st.data(), factor=st.sampled_from((2, 8, 64)))
def test_a_larger_picture_has_the_same_sizes(
    data: st.DataObject, factor: int, make_table: Table, drawn_images: st.SearchStrategy[Any]
) -> None:
    images = data.draw(drawn_images)
    larger = [
        [region._replace(box=tuple(factor * corner for corner in region.box)) for region in row] for row in images
    ]
    found = count_labels([make_table(larger, side=64 * factor)], NUM_CONCEPTS)
    assert found == count_labels([make_table(images)], NUM_CONCEPTS)


def bins(counts: tuple[int, ...]) -> list[int]:
    return [place for place, count in enumerate(counts) for _ in range(count)]


def test_values_are_in_the_bin_that_begins_at_or_below_them(make_table: Table, make_region: Any) -> None:
    row = [
        make_region((0, 0, 32, 32), [(0, 0.72)], True, math.log(4) / 2 + 1e-6),
        make_region((0, 0, 64, 64), [(1, 1.0)], True, math.log(4)),
        make_region((9, 9, 9, 60), [(1, 0.0)], False, 0.0),
    ]
    found = count_labels([make_table([row])], NUM_CONCEPTS)
    assert (bins(found.score.kept), bins(found.score.dropped)) == ([14, 19], [0])
    assert (bins(found.entropy.kept), bins(found.entropy.dropped)) == ([10, 19], [0])
    assert (bins(found.size.kept), bins(found.size.dropped)) == ([10, 19], [0])
    assert found.score.edges[14] == 0.7
    assert found.entropy.edges[-1] == math.log(4)


def test_histograms_of_what_is_not_given_are_empty(make_table: Table, make_region: Any) -> None:
    table = make_table([[make_region((0, 0, 32, 32), [(0, 0.5)], True)]])
    found = count_labels([table.select(["concept_ids", "log_probabilities", "keep"])], NUM_CONCEPTS)
    assert found.kept == sum(found.score.kept) == 1
    for histogram in (found.entropy, found.size):
        assert histogram.kept == histogram.dropped == (0,) * NUM_BINS


def test_a_pool_of_one_concept_has_histograms(make_table: Table, make_region: Any) -> None:
    found = count_labels([make_table([[make_region((0, 0, 1, 1), [(0, 1.0)], True, 0.0)]])], 1)
    assert bins(found.entropy.kept) == [0]
    assert found.entropy.edges[-1] > 0


def test_labels_of_another_pool_are_refused(make_table: Table, make_region: Any) -> None:
    with pytest.raises(ValueError, match="name concept 3, but the pool has 2"):
        count_labels([make_table([[make_region((0, 0, 1, 1), [(3, 1.0)], True)]])], 2)


def audit(labelled: tuple[int, ...], kept_of: tuple[int, ...]) -> LabelAudit:
    return replace(count_labels([], len(kept_of)), labelled=labelled, kept_of=kept_of)


@pytest.mark.parametrize(
    ("kept_of", "used", "half"),
    [((1, 5, 2, 0), 3, 1), ((2, 2, 2, 2), 4, 2), ((3, 2, 2), 3, 2), ((1,), 1, 1), ((0, 0), 0, 0), ((), 0, 0)],
)
def test_half_is_the_fewest_concepts_that_have_half_of_the_kept_regions(
    kept_of: tuple[int, ...], used: int, half: int
) -> None:
    found = audit(kept_of, kept_of)
    assert (found.used, found.half) == (used, half)


def test_never_kept_concepts_are_the_mentioned_ones_the_most_mentioned_first() -> None:
    concepts = ("cat", "cow", "cup", "dog", "kite", "sun")
    found = never_kept(
        audit((9, 8, 7, 0, 5, 4), (1, 0, 0, 0, 0, 0)), concepts, {"cat": 50, "cow": 2, "cup": 7, "dog": 7, "kite": 0}
    )
    assert found == [NeverKept("cup", 7, 7), NeverKept("dog", 7, 0), NeverKept("cow", 2, 8)]
