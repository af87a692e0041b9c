"""What a set of region labels holds: how sure, how large and how varied its kept regions are."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from regionclip.labels.first_labels import FirstLabels, check_pool, first_labels

NUM_BINS = 20
_FIXED_POINT = 1 << 40  # scores are summed as integers, so that no order of parts changes the mean


@dataclass(frozen=True)
class Histogram:
    """Kept and dropped regions in bins of equal width between n + 1 edges; the last bin holds its upper edge."""

    edges: tuple[float, ...]
    kept: tuple[int, ...]
    dropped: tuple[int, ...]


@dataclass(frozen=True)
class LabelAudit:
    """Totals over the images and regions of a set of labels; a region is of its first concept.

    images_without_kept: images of which no region is kept, those without regions included.
    score: histogram of the probability among the candidates, 0 to 1.
    entropy: of the whole pool, 0 to ln(concepts), of the regions where it is known; unit: nat.
    size: of sqrt(box area / image area), 0 to 1, empty where boxes are not given.
    labelled, kept_of: for concept i, all regions and the kept regions of it.
    mean_kept_score: None where nothing is kept.
    """

    images: int
    images_without_kept: int
    regions: int
    kept: int
    score: Histogram
    entropy: Histogram
    size: Histogram
    labelled: tuple[int, ...]
    kept_of: tuple[int, ...]
    mean_kept_score: float | None

    @property
    def used(self) -> int:
        """Concepts of at least one kept region."""
        return sum(count > 0 for count in self.kept_of)

    @property
    def half(self) -> int:
        """The least number of concepts that together have half of the kept regions; 0 where nothing is kept."""
        totals = np.cumsum([0, *sorted(self.kept_of, reverse=True)])
        return int(np.searchsorted(2 * totals, totals[-1]))


class NeverKept(NamedTuple):
    """A concept of no kept region: captions that name it, and dropped regions whose first label it is."""

    concept: str
    captions: int
    labelled: int


def count_labels(tables: Iterable[pa.Table], num_concepts: int) -> LabelAudit:
    """Totals over tables (`schemas.REGION_LABELS`) whose concept ids are rows of a pool of `num_concepts`.

    Columns: concept_ids, log_probabilities, keep; boxes, width and height for sizes; entropy where known. Raises
    ValueError for an id outside the pool.
    """
    images = without_kept = regions = kept = score_sum = 0
    labelled, kept_of = np.zeros(num_concepts, dtype=np.int64), np.zeros(num_concepts, dtype=np.int64)
    score, size = _Bins(1.0), _Bins(1.0)
    entropy = _Bins(math.log(max(num_concepts, 2)))
    for table in tables:
        labels = first_labels(table)
        check_pool(labels, num_concepts)
        keep = labels.keep
        images += table.num_rows
        without_kept += table.num_rows - len(np.unique(labels.image[keep]))
        regions += len(keep)
        kept += int(keep.sum())
        score_sum += int(np.rint(labels.scores[keep] * _FIXED_POINT).astype(np.int64).sum())
        labelled += np.bincount(labels.ids[labels.ids >= 0], minlength=num_concepts)
        kept_of += np.bincount(labels.ids[keep & (labels.ids >= 0)], minlength=num_concepts)
        score.add(labels.scores, keep)
        entropy.add(labels.entropy, keep)
        size.add(_sizes(table, labels), keep)
    return LabelAudit(
        images=images,
        images_without_kept=without_kept,
        regions=regions,
        kept=kept,
        score=score.histogram(),
        entropy=entropy.histogram(),
        size=size.histogram(),
        labelled=tuple(labelled.tolist()),
        kept_of=tuple(kept_of.tolist()),
        mean_kept_score=score_sum / _FIXED_POINT / kept if kept else None,
    )


def never_kept(statistics: LabelAudit, concepts: Sequence[str], mentions: Mapping[str, int]) -> list[NeverKept]:
    """The concepts that captions mention and no kept region is of, the most mentioned first, then by name.

    mentions: captions that name a concept, its document frequency; a concept may be absent.
    """
    assert len(concepts) == len(statistics.kept_of)
    found = [
        NeverKept(concept, mentions.get(concept, 0), labelled)
        for concept, labelled, kept in zip(concepts, statistics.labelled, statistics.kept_of, strict=True)
        if not kept and mentions.get(concept, 0) > 0
    ]
    return sorted(found, key=lambda row: (-row.captions, row.concept))


class _Bins:
    """A histogram that is being counted, from 0 to `upper`; what lies beyond is in the outer bins."""

    def __init__(self, upper: float) -> None:
        self._edges = upper * (np.arange(NUM_BINS + 1) / NUM_BINS)
        self._counts = np.zeros((2, NUM_BINS), dtype=np.int64)

    def add(self, values: NDArray[Any], keep: NDArray[np.bool_]) -> None:
        """Count values [R] by `keep` [R]; NaN is not counted."""
        known = ~np.isnan(values)
        clipped = np.clip(values.astype(np.float64), 0.0, self._edges[-1])
        for row, chosen in enumerate((known & keep, known & ~keep)):
            self._counts[row] += np.histogram(clipped[chosen], bins=self._edges)[0]

    def histogram(self) -> Histogram:
        kept, dropped = self._counts.tolist()
        return Histogram(tuple(self._edges.tolist()), tuple(kept), tuple(dropped))


def _sizes(table: pa.Table, labels: FirstLabels) -> NDArray[np.float64]:
    """sqrt(box area / image area) [R]; NaN without boxes or the sizes of images."""
    if not {"width", "height"} <= set(table.column_names):
        return np.full(len(labels.ids), np.nan)
    image_areas = table["width"].to_numpy().astype(np.float64) * table["height"].to_numpy()
    boxes = labels.boxes.astype(np.float64)
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0.0)
    sizes: NDArray[np.float64] = np.sqrt(sides.prod(axis=1) / image_areas[labels.image])
    return sizes
