"""Recipes side by side: what each scored and what its labels hold, as plain values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

GROUPS = ("base", "novel", "all")
BOX_ACCURACY, AP50 = "box_accuracy", "AP50"
DEPARTURE = "departure from the paper"
NUM_SCORE_BINS = 20


@dataclass(frozen=True)
class LabelStatistics:
    """What the region labels of one recipe hold.

    concepts_used: distinct concepts that label a kept region.
    mean_kept_score: mean probability of the first label of the kept regions; None without any.
    top_concepts: (concept, kept regions), the most frequent first.
    kept_by_score, dropped_by_score: regions in `NUM_SCORE_BINS` equal bins of that probability in [0, 1].
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
    images = regions = kept_regions = 0
    score_sum = 0.0
    uses = np.zeros(len(concepts), dtype=np.int64)
    kept_by_score = np.zeros(NUM_SCORE_BINS, dtype=np.int64)
    dropped_by_score = np.zeros(NUM_SCORE_BINS, dtype=np.int64)
    for table in tables:
        ids, scores, keep = _first_labels(table)
        if ids.size and ids.max() >= len(concepts):
            raise ValueError(
                f"region labels name concept {ids.max()}, but the pool has {len(concepts)}; give the pool they were "
                "made with"
            )
        images += table.num_rows
        regions += len(keep)
        kept_regions += int(keep.sum())
        score_sum += float(scores[keep].sum())
        uses += np.bincount(ids[keep & (ids >= 0)], minlength=len(concepts))
        kept_by_score += _histogram(scores[keep])
        dropped_by_score += _histogram(scores[~keep])
    top = [index for index in np.argsort(-uses, kind="stable")[:num_top].tolist() if uses[index]]
    return LabelStatistics(
        images=images,
        regions=regions,
        kept_regions=kept_regions,
        concepts_used=int((uses > 0).sum()),
        mean_kept_score=score_sum / kept_regions if kept_regions else None,
        top_concepts=tuple((concepts[index], int(uses[index])) for index in top),
        kept_by_score=tuple(kept_by_score.tolist()),
        dropped_by_score=tuple(dropped_by_score.tolist()),
    )


def _first_labels(table: pa.Table) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Likeliest concept id (-1 without any), its probability, and keep, of each region: three arrays [R]."""
    keep = pc.list_flatten(table["keep"].combine_chunks()).to_numpy(zero_copy_only=False).astype(bool)
    ids_of = pc.list_flatten(table["concept_ids"].combine_chunks())  # one list a region
    labelled = np.greater(pc.list_value_length(ids_of).to_numpy(zero_copy_only=False), 0)
    ids, scores = np.full(len(keep), -1, dtype=np.int64), np.zeros(len(keep))
    if labelled.any():
        mask = pa.array(labelled)
        logs_of = pc.list_flatten(table["log_probabilities"].combine_chunks())
        ids[labelled] = pc.list_element(ids_of.filter(mask), 0).to_numpy(zero_copy_only=False)
        scores[labelled] = np.exp(pc.list_element(logs_of.filter(mask), 0).to_numpy(zero_copy_only=False))
    return ids, scores, keep


def _histogram(scores: np.ndarray) -> np.ndarray:
    return np.histogram(np.clip(scores, 0.0, 1.0), bins=NUM_SCORE_BINS, range=(0.0, 1.0))[0]


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
