"""How far two sets of region labels of the same images agree, where they share no pool or proposals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from regionclip.labels.first_labels import FirstLabels, check_pool, first_labels
from regionclip.labels.overlaps import overlaps

NUM_DISAGREEMENTS = 15
NO_CONCEPT = ""
"""Name of the label of a region without any."""


@dataclass(frozen=True)
class Agreement:
    """Regions of a first set against another one's; labels are the same where their first concepts have one name.

    regions: of the first set. matched: those with a region of the other set on the same spot. same: matched ones with
    the same label. both_kept: matched ones that both sets keep. same_of_both_kept: those with the same label.
    kept_first, kept_other: kept regions of each set, matched or not.
    disagreements: (label in the first, label in the other, regions), the most frequent of regions that both keep.
    """

    regions: int
    matched: int
    same: int
    both_kept: int
    same_of_both_kept: int
    kept_first: int
    kept_other: int
    disagreements: tuple[tuple[str, str, int], ...]

    @property
    def share(self) -> float | None:
        """Share of the matched regions with the same label; None without any."""
        return self.same / self.matched if self.matched else None

    @property
    def share_of_both_kept(self) -> float | None:
        """Share of the regions that both sets keep with the same label; None without any."""
        return self.same_of_both_kept / self.both_kept if self.both_kept else None


class AgreementCounter:
    """Counts the agreement of two sets, table by table; holds one number for each pair of names that differ.

    Where an image has equal boxes in both sets, region i is compared with region i; else each region of the first set
    with the region of the other that it overlaps most, the first of equals, by an IoU of at least `iou`. Several
    regions may then be compared with the same one.
    """

    def __init__(self, concepts: Sequence[str], other_concepts: Sequence[str], iou: float = 0.5) -> None:
        self._names = list(dict.fromkeys([*concepts, *other_concepts, NO_CONCEPT]))
        self._name_of = self._rows(concepts)
        self._other_name_of = self._rows(other_concepts)
        self._iou = iou
        self._counts: Counter[str] = Counter()
        self._disagreements: Counter[int] = Counter()

    def add(self, first: pa.Table, other: pa.Table) -> None:
        """Compare two tables (`schemas.REGION_LABELS`) of the same images in the same order, else ValueError."""
        if not first["image_id"].equals(other["image_id"]):
            raise ValueError("two sets of labels list other images or another order; give labels of the same images")
        labels, others = first_labels(first), first_labels(other)
        check_pool(labels, len(self._name_of) - 1)
        check_pool(others, len(self._other_name_of) - 1)
        partner = _partners(labels, others, first.num_rows, self._iou)
        matched = partner >= 0
        partner = partner[matched]
        name, other_name = self._name_of[labels.ids[matched]], self._other_name_of[others.ids[partner]]
        both_kept, same = labels.keep[matched] & others.keep[partner], name == other_name
        self._counts.update(
            regions=len(matched),
            matched=int(matched.sum()),
            same=int(same.sum()),
            both_kept=int(both_kept.sum()),
            same_of_both_kept=int((same & both_kept).sum()),
            kept_first=int(labels.keep.sum()),
            kept_other=int(others.keep.sum()),
        )
        differ = both_kept & ~same
        pairs, counts = np.unique(name[differ] * len(self._names) + other_name[differ], return_counts=True)
        self._disagreements.update(dict(zip(pairs.tolist(), counts.tolist(), strict=True)))

    def result(self) -> Agreement:
        """The agreement of all tables so far."""
        size = len(self._names)
        named = [
            (self._names[pair // size], self._names[pair % size], count) for pair, count in self._disagreements.items()
        ]
        most = sorted(named, key=lambda row: (-row[2], row[:2]))[:NUM_DISAGREEMENTS]
        return Agreement(
            regions=self._counts["regions"],
            matched=self._counts["matched"],
            same=self._counts["same"],
            both_kept=self._counts["both_kept"],
            same_of_both_kept=self._counts["same_of_both_kept"],
            kept_first=self._counts["kept_first"],
            kept_other=self._counts["kept_other"],
            disagreements=tuple(most),
        )

    def _rows(self, concepts: Sequence[str]) -> NDArray[np.int64]:
        """Where each concept is in the names of both sets, and last, for id -1, where the absent one is."""
        place = {name: row for row, name in enumerate(self._names)}
        return np.array([place[name] for name in (*concepts, NO_CONCEPT)], dtype=np.int64)


def _partners(first: FirstLabels, other: FirstLabels, num_images: int, iou: float) -> NDArray[np.int64]:
    """The region of the other set on the same spot as each of the first, int64 [R]; -1 where there is none."""
    partner = np.full(len(first.ids), -1, dtype=np.int64)
    starts, other_starts = first.offsets(num_images), other.offsets(num_images)
    for image in range(num_images):
        rows = slice(starts[image], starts[image + 1])
        boxes = first.boxes[rows]
        other_boxes = other.boxes[other_starts[image] : other_starts[image + 1]]
        if np.array_equal(boxes, other_boxes):
            partner[rows] = other_starts[image] + np.arange(len(boxes))
        elif len(boxes) and len(other_boxes):
            shared = overlaps(boxes, other_boxes)
            best = shared.argmax(axis=1)
            enough = shared[np.arange(len(boxes)), best] >= iou
            partner[rows] = np.where(enough, other_starts[image] + best, -1)
    return partner
