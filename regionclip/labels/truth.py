"""Region labels against annotated boxes: how many labels are right and how many objects they find."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from regionclip.labels.first_labels import check_pool, first_labels
from regionclip.labels.overlaps import overlaps

THRESHOLDS = tuple(step / 100 for step in range(100))


class ClassTruth(NamedTuple):
    """The kept regions of one annotated class: labels of it, the right ones; its objects, those that they find."""

    name: str
    labels: int
    right: int
    objects: int
    found: int


@dataclass(frozen=True)
class TruthCurve:
    """First labels against objects, at each of T thresholds that a score must exceed.

    A label is judged where its concept means an annotated class. Any other is not: what it names may well be there,
    and nobody annotated it. Objects are those of classes that some concept means; crowds are left out.

    labels [T]: judged regions. right [T]: those that overlap an object of their class by the IoU at least; several may
    be right about one object. found [T]: objects that a right region overlaps so.
    objects: all of them. covered: those that any region overlaps so, whatever its label, the most that can be found.
    unjudged: regions with a score above 0 whose concept means no annotated class.
    by_class: of the kept regions, sorted by name.
    """

    thresholds: tuple[float, ...]
    labels: tuple[int, ...]
    right: tuple[int, ...]
    found: tuple[int, ...]
    objects: int
    covered: int
    unjudged: int
    by_class: tuple[ClassTruth, ...]

    def precision(self, index: int) -> float | None:
        """Share of right labels at a threshold, None without labels."""
        return _share(self.right[index], self.labels[index])

    def recall(self, index: int) -> float | None:
        """Share of found objects at a threshold, None without objects."""
        return _share(self.found[index], self.objects)

    def f1(self, index: int) -> float | None:
        """Harmonic mean of precision and recall at a threshold, None where one of them is."""
        return _harmonic(self.precision(index), self.recall(index))

    @property
    def suggested(self) -> float | None:
        """The threshold of the highest F1, the lowest of equals; None where no F1 is above 0."""
        values = [self.f1(index) or 0.0 for index in range(len(self.thresholds))]
        best = max(values, default=0.0)
        return self.thresholds[values.index(best)] if best > 0 else None

    @property
    def kept(self) -> tuple[float | None, float | None]:
        """Precision and recall of the kept regions as they are, None where undefined."""
        right, labels = (sum(getattr(row, name) for row in self.by_class) for name in ("right", "labels"))
        return _share(right, labels), _share(sum(row.found for row in self.by_class), self.objects)


class TruthCounter:
    """Counts labels against objects, table by table.

    class_of: the annotated class that a concept means; the other concepts mean none. iou: least overlap. threshold:
    that the kept regions exceed. Where a region exceeds it and is not kept, something else has dropped it (captions
    that name nothing, `pool_threshold`, a person), and no other threshold would keep it: the curve leaves it out.
    """

    def __init__(
        self,
        concepts: Sequence[str],
        class_of: Mapping[str, str],
        iou: float = 0.5,
        threshold: float | None = None,
    ) -> None:
        self._classes = sorted({class_of[concept] for concept in concepts if concept in class_of})
        self._place = {name: row for row, name in enumerate(self._classes)}
        of_concepts = [self._place[class_of[concept]] if concept in class_of else -1 for concept in concepts]
        self._class_of = np.array([*of_concepts, -1], dtype=np.int64)  # last, for id -1, the absent concept
        self._iou, self._threshold = iou, 1.0 if threshold is None else threshold
        self._curves = np.zeros((3, len(THRESHOLDS) + 1), dtype=np.int64)  # labels, right, found by thresholds passed
        self._by_class = np.zeros((4, len(self._classes)), dtype=np.int64)  # labels, right, objects, found
        self._covered = self._unjudged = 0

    def add(self, table: pa.Table, truth: Mapping[int, tuple[NDArray[np.float32], Sequence[str]]]) -> None:
        """Count a table (`schemas.REGION_LABELS`); truth: boxes [n, 4] xyxy pixels and their classes, by image id.

        An image that `truth` lacks has no object of these classes.
        """
        labels = first_labels(table)
        check_pool(labels, len(self._class_of) - 1)
        classes = self._class_of[labels.ids]
        scores = np.where(labels.keep | (labels.scores <= self._threshold), labels.scores, 0.0)
        right = np.zeros(len(classes), dtype=bool)
        starts = labels.offsets(table.num_rows)
        for image, image_id in enumerate(table["image_id"].to_pylist()):
            boxes, object_classes = self._objects(*truth.get(image_id, (np.empty((0, 4), np.float32), ())))
            if not len(boxes):
                continue
            rows = slice(starts[image], starts[image + 1])
            enough = overlaps(labels.boxes[rows], boxes) >= self._iou  # [regions, objects]
            hits = enough & (classes[rows, None] == object_classes)
            right[rows] = hits.any(axis=1)
            best = np.where(hits, scores[rows, None], 0.0).max(axis=0, initial=0.0)
            found_by_kept = (hits & labels.keep[rows, None]).any(axis=0)
            self._curves[2] += self._passed(best)
            self._covered += int(enough.any(axis=0).sum())
            self._by_class[2] += self._per_class(object_classes)
            self._by_class[3] += self._per_class(object_classes[found_by_kept])
        judged = classes >= 0
        self._curves[0] += self._passed(scores[judged])
        self._curves[1] += self._passed(scores[right])
        self._by_class[0] += self._per_class(classes[judged & labels.keep])
        self._by_class[1] += self._per_class(classes[right & labels.keep])
        self._unjudged += int((~judged & (scores > 0)).sum())

    def result(self) -> TruthCurve:
        """The curve of all tables so far."""
        above = self._curves[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:]  # counts whose score exceeds each threshold
        labels, right, found = (tuple(counts) for counts in above.tolist())
        rows = zip(self._classes, *self._by_class.tolist(), strict=True)
        return TruthCurve(
            thresholds=THRESHOLDS,
            labels=labels,
            right=right,
            found=found,
            objects=int(self._by_class[2].sum()),
            covered=self._covered,
            unjudged=self._unjudged,
            by_class=tuple(ClassTruth(*row) for row in rows),
        )

    def _objects(
        self, boxes: NDArray[np.float32], classes: Sequence[str]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The boxes whose class some concept means, and the row of that class."""
        rows = np.array([self._place.get(name, -1) for name in classes], dtype=np.int64)
        return np.asarray(boxes, dtype=np.float32).reshape(-1, 4)[rows >= 0], rows[rows >= 0]

    def _passed(self, scores: NDArray[np.float64]) -> NDArray[np.int64]:
        """How many scores exceed no threshold, one of them, and so on up to all of them."""
        return np.bincount(np.searchsorted(THRESHOLDS, scores), minlength=len(THRESHOLDS) + 1)

    def _per_class(self, classes: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.bincount(classes, minlength=len(self._classes))


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _harmonic(first: float | None, second: float | None) -> float | None:
    if first is None or second is None:
        return None
    return 2 * first * second / (first + second) if first + second else 0.0
