"""Two sets of labels against each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regionclip.labels.agreement import NUM_DISAGREEMENTS, Agreement, AgreementCounter

Table = Callable[..., pa.Table]
CONCEPTS = ("cat", "cow", "cup", "dog")


def agreement(
    pairs: Sequence[tuple[pa.Table, pa.Table]],
    concepts: Sequence[str] = CONCEPTS,
    other_concepts: Sequence[str] = CONCEPTS,
    iou: float = 0.5,
) -> Agreement:
    counter = AgreementCounter(concepts, other_concepts, iou)
    for first, other in pairs:
        counter.add(first, other)
    return counter.result()


def overlap(first: Sequence[float], second: Sequence[float]) -> float:
    width, height = (max(0.0, min(first[i + 2], second[i + 2]) - max(first[i], second[i])) for i in (0, 1))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    union = sum(areas) - width * height
    return width * height / union if union else 0.0


def label(region: Any, concepts: Sequence[str] = CONCEPTS) -> str:
    return concepts[region.labels[0][0]] if region.labels else ""


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_a_set_agrees_with_itself_in_any_order_of_its_pool(
    data: st.DataObject, make_table: Table, drawn_images: st.SearchStrategy[Any]
) -> None:
    images = data.draw(drawn_images)
    order = data.draw(st.permutations(range(len(CONCEPTS))))
    renumbered = [
        [region._replace(labels=[(order.index(concept), share) for concept, share in region.labels]) for region in row]
        for row in images
    ]
    pool = [CONCEPTS[concept] for concept in order]
    found = agreement([(make_table(images), make_table(renumbered))], other_concepts=pool)
    assert found.same == found.matched == found.regions == sum(map(len, images))
    assert found.same_of_both_kept == found.both_kept == found.kept_first == found.kept_other
    assert found.disagreements == ()
    assert found.share == (1.0 if found.regions else None)
    assert found.share_of_both_kept == (1.0 if found.both_kept else None)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), iou=st.sampled_from((0.25, 0.5, 1.0)))
def test_counts_are_those_of_a_slow_loop(
    data: st.DataObject, iou: float, make_table: Table, drawn_images: st.SearchStrategy[Any]
) -> None:
    images = data.draw(drawn_images)
    regions = [region for row in images for region in row]
    others = [data.draw(st.lists(st.sampled_from([*row, *regions]), max_size=4)) if regions else [] for row in images]
    pairs, matched = [], 0
    for row, other_row in zip(images, others, strict=True):
        aligned = [region.box for region in row] == [region.box for region in other_row]
        for place, region in enumerate(row):
            overlaps = [overlap(region.box, other.box) for other in other_row]
            best = place if aligned else overlaps.index(max(overlaps)) if overlaps else None
            if best is not None and (aligned or overlaps[best] >= iou):
                matched += 1
                pairs.append((label(region), label(other_row[best]), region.keep and other_row[best].keep))
    found = agreement([(make_table(images), make_table(others))], iou=iou)
    kept = [pair[:2] for pair in pairs if pair[2]]
    assert (found.matched, found.same) == (matched, sum(first == other for first, other, _ in pairs))
    assert (found.both_kept, found.same_of_both_kept) == (len(kept), sum(first == other for first, other in kept))
    assert found.kept_first == sum(region.keep for region in regions)
    assert found.kept_other == sum(region.keep for row in others for region in row)
    assert {row[:2]: row[2] for row in found.disagreements} == {
        pair: kept.count(pair) for pair in kept if pair[0] != pair[1]
    }


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_order_of_parts_does_not_matter(
    data: st.DataObject, make_table: Table, drawn_images: st.SearchStrategy[Any]
) -> None:
    pairs = []
    for _ in range(3):
        images = data.draw(drawn_images)
        pairs.append((make_table(images), make_table([row[::-1] for row in images])))
    whole = tuple(pa.concat_tables(tables) for tables in zip(*pairs, strict=True))
    assert agreement(data.draw(st.permutations(pairs))) == agreement([(whole[0], whole[1])])


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_on_the_same_boxes_agreement_is_mutual(
    data: st.DataObject, make_table: Table, drawn_images: st.SearchStrategy[Any]
) -> None:
    images = data.draw(drawn_images)
    relabelled = [
        [region._replace(labels=[(data.draw(st.integers(0, 3)), 0.5)], keep=data.draw(st.booleans())) for region in row]
        for row in images
    ]
    forth = agreement([(make_table(images), make_table(relabelled))])
    back = agreement([(make_table(relabelled), make_table(images))])
    swapped = {**asdict(back), "kept_first": back.kept_other, "kept_other": back.kept_first}
    swapped["disagreements"] = tuple(
        sorted(((first, other, n) for other, first, n in back.disagreements), key=lambda row: (-row[2], row[:2]))
    )
    assert asdict(forth) == swapped


def test_other_boxes_are_compared_where_they_overlap_most(make_table: Table, make_region: Any) -> None:
    first = [make_region((0, 0, 10, 10), [(0, 0.9)], True), make_region((40, 40, 50, 50), [(1, 0.9)], True)]
    other = [
        make_region((0, 0, 10, 5), [(1, 0.9)], True),
        make_region((0, 0, 10, 9), [(0, 0.9)], False),
        make_region((40, 40, 50, 44), [(1, 0.9)], True),
    ]
    tables = make_table([first]), make_table([other])
    found = agreement([tables])
    assert (found.regions, found.matched, found.same, found.both_kept) == (2, 1, 1, 0)
    assert found.share_of_both_kept is None
    assert agreement([tables], iou=0.4).matched == 2
    assert agreement([tables], iou=0.91).matched == 0


def test_the_most_frequent_disagreements_are_listed(make_table: Table, make_region: Any) -> None:
    concepts = [f"concept {number:02d}" for number in range(20)]
    box = (0, 0, 8, 8)
    pairs = [(number, 0) for number in range(1, 20)] + [(3, 5)] * 2 + [(2, 4)] * 2
    first = make_table([[make_region(box, [(concept, 0.9)], True) for concept, _ in pairs]])
    other = make_table([[make_region(box, [(concept, 0.9)], True) for _, concept in pairs]])
    found = agreement([(first, other)], concepts, concepts)
    assert found.disagreements[:3] == (
        ("concept 02", "concept 04", 2),
        ("concept 03", "concept 05", 2),
        ("concept 01", "concept 00", 1),
    )
    assert len(found.disagreements) == NUM_DISAGREEMENTS


def test_labels_of_other_images_or_pools_are_refused(make_table: Table, make_region: Any) -> None:
    table, small = (make_table([[make_region((0, 0, 1, 1), [(row, 0.9)], True)]]) for row in (3, 0))
    with pytest.raises(ValueError, match="list other images or another order"):
        agreement([(table, make_table([[]], first_id=7))])
    with pytest.raises(ValueError, match="name concept 3, but the pool has 2"):
        agreement([(small, table)], other_concepts=CONCEPTS[:2])
    with pytest.raises(ValueError, match="name concept 3, but the pool has 1"):
        agreement([(table, small)], concepts=CONCEPTS[:1])
