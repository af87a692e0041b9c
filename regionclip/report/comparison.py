"""Recipes side by side: what each scored and what its labels hold, as plain values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from regionclip.labels.statistics import count_labels

GROUPS = ("base", "novel", "all")
BOX_ACCURACY, AP50 = "box_accuracy", "AP50"
DEPARTURE = "departure from the paper"


@dataclass(frozen=True)
class LabelStatistics:
    """What the region labels of one recipe hold.

    concepts_used: distinct concepts that label a kept region.
    mean_kept_score: mean probability of the first label of the kept regions; None without any.
    top_concepts: (concept, kept regions), the most frequent first.
    kept_by_score, dropped_by_score: regions in `labels.statistics.NUM_BINS` equal bins of that probability in [0, 1].
    """

    images: int
    regions: int
    kept_regions: int
    concepts_used: int
    mean_kept_score: float | None
    top_concepts: tuple[tuple[str, int], ...]
    kept_by_score: tuple[int, ...]
    dropped_by_score: tuple[int, ...]


@dataclass(frozen=True)
class Recipe:
    """One row of the comparison; metrics are fractions, departure says that the recipe is not the paper's."""

    name: str
    note: str
    departure: bool
    metrics: Mapping[str, float]
    labels: LabelStatistics | None = None

    @property
    def title(self) -> str:
        """The name, with the words 'departure from the paper' where they are due."""
        return f"{self.name} ({DEPARTURE})" if self.departure and DEPARTURE not in self.name else self.name

    def value(self, metric: str) -> float | None:
        """A metric such as 'AP50_novel'; None where it could not be measured."""
        return self.metrics.get(metric)


def label_statistics(tables: Iterable[pa.Table], concepts: Sequence[str], num_top: int = 15) -> LabelStatistics:
    """Totals over region-label tables (`schemas.REGION_LABELS`) whose concept ids are rows of `concepts`.

    Raises ValueError for an id outside `concepts`.
    """
    audit = count_labels(tables, len(concepts))
    used = [(name, count) for name, count in zip(concepts, audit.kept_of, strict=True) if count]
    return LabelStatistics(
        images=audit.images,
        regions=audit.regions,
        kept_regions=audit.kept,
        concepts_used=audit.used,
        mean_kept_score=audit.mean_kept_score,
        top_concepts=tuple(sorted(used, key=lambda pair: -pair[1])[:num_top]),
        kept_by_score=audit.score.kept,
        dropped_by_score=audit.score.dropped,
    )


def best_recipe(recipes: Sequence[Recipe], excluding: int | None = None, metric: str = "AP50_novel") -> int | None:
    """The index of the recipe with the highest metric, the first of equals; None when none is above 0."""
    values = {
        index: value for index, recipe in enumerate(recipes) if index != excluding and (value := recipe.value(metric))
    }
    return max(values, key=lambda index: (values[index], -index)) if values else None


def difference(recipe: Recipe, other: Recipe, metric: str) -> float | None:
    """The metric of `recipe` minus that of `other`; None where one was not measured."""
    mine, theirs = recipe.value(metric), other.value(metric)
    return None if mine is None or theirs is None else mine - theirs


def comparison(recipes: Sequence[Recipe], baseline: int, control: int | None) -> dict[str, Any]:
    """The recipes and their differences to the baseline and the control, ready for JSON."""
    best = best_recipe(recipes)
    return {
        "baseline": recipes[baseline].name,
        "control": None if control is None else recipes[control].name,
        "best": None if best is None else recipes[best].name,
        "rows": [
            {
                **asdict(recipe),
                "title": recipe.title,
                "difference_to_baseline": _differences(recipe, recipes[baseline]),
                "difference_to_control": None if control is None else _differences(recipe, recipes[control]),
            }
            for recipe in recipes
        ],
    }


def _differences(recipe: Recipe, other: Recipe) -> dict[str, float | None]:
    shared = [name for name in recipe.metrics if name in other.metrics]
    return {name: difference(recipe, other, name) for name in shared}
