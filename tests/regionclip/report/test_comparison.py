"""Label totals and differences between recipes."""

from __future__ import annotations

import math

import pyarrow as pa
import pytest

from regionclip.report.comparison import LabelStatistics, Recipe, best_recipe, comparison, label_statistics
from regionclip.schemas import REGION_LABELS

CONCEPTS = ("cat", "cow", "cup")


def image(image_id: int, *regions: tuple[list[int], list[float], bool]) -> pa.Table:
    row = {
        "image_id": image_id,
        "uri": f"{image_id}.jpg",
        "sha256": "0" * 64,
        "width": 8,
        "height": 8,
        "boxes": [[0.0, 0.0, 4.0, 4.0] for _ in regions],
        "objectness": [0.0 for _ in regions],
        "concept_ids": [ids for ids, _, _ in regions],
        "log_probabilities": [[math.log(p) if p else -math.inf for p in scores] for _, scores, _ in regions],
        "keep": [keep for _, _, keep in regions],
    }
    return pa.Table.from_pylist([row], schema=REGION_LABELS)


def test_totals_count_first_labels_of_kept_regions_over_all_parts() -> None:
    parts = [
        image(1, ([2, 0], [0.9, 0.1], True), ([1, 2], [0.42, 0.3], False)),
        image(2),
        image(3, ([2, 1], [0.7, 0.2], True), ([0, 1], [0.52, 0.1], True), ([], [], False), ([1], [0.0], False)),
    ]
    found = label_statistics(parts, CONCEPTS)
    assert (found.images, found.regions, found.kept_regions, found.concepts_used) == (3, 6, 3, 2)
    assert found.top_concepts == (("cup", 2), ("cat", 1))
    assert found.mean_kept_score == pytest.approx((0.9 + 0.7 + 0.52) / 3)
    assert (sum(found.kept_by_score), sum(found.dropped_by_score)) == (3, 3)
    assert (found.kept_by_score[10], found.dropped_by_score[8], found.dropped_by_score[0]) == (1, 1, 2)


def test_totals_do_not_depend_on_how_rows_are_split() -> None:
    parts = [image(1, ([2], [0.9], True)), image(2, ([1], [0.4], False), ([0], [0.8], True))]
    assert label_statistics(parts, CONCEPTS) == label_statistics([pa.concat_tables(parts)], CONCEPTS)


def test_sliced_tables_count_only_their_rows() -> None:
    table = pa.concat_tables([image(1, ([2], [0.9], True)), image(2, ([1], [0.4], True))]).combine_chunks()
    assert label_statistics([table.slice(1)], CONCEPTS).top_concepts == (("cow", 1),)


def test_labels_of_another_pool_are_refused() -> None:
    with pytest.raises(ValueError, match="name concept 2, but the pool has 2"):
        label_statistics([image(1, ([2], [0.9], True))], CONCEPTS[:2])


def test_nothing_kept_has_no_mean() -> None:
    assert label_statistics([image(1, ([2], [0.9], False))], CONCEPTS).mean_kept_score is None


def test_best_is_the_first_of_the_highest_and_may_leave_one_out() -> None:
    recipes = [Recipe(str(value), "", False, {"AP50_novel": value}) for value in (0.5, 0.4, 0.4)]
    recipes.append(Recipe("unmeasured", "", False, {}))
    assert best_recipe(recipes) == 0
    assert best_recipe(recipes, excluding=0) == 1
    assert best_recipe(recipes[3:]) is None
    assert best_recipe([Recipe("nothing found", "", False, {"AP50_novel": 0.0})]) is None


def test_comparison_subtracts_the_baseline_and_keeps_unmeasured_metrics_out() -> None:
    recipes = [
        Recipe("start", "", False, {"AP50_novel": 0.5}),
        Recipe("other", "", True, {"AP50_novel": 0.25, "AP_all": 0.1}),
    ]
    rows = comparison(recipes, 0, None)["rows"]
    assert rows[1]["difference_to_baseline"] == {"AP50_novel": -0.25}
    assert rows[1]["difference_to_control"] is None
    assert rows[1]["title"] == "other (departure from the paper)"


def test_title_says_departure_once() -> None:
    assert Recipe("x, a departure from the paper", "", True, {}).title == "x, a departure from the paper"
    assert isinstance(label_statistics([], CONCEPTS), LabelStatistics)
