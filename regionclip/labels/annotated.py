"""Annotated boxes as labels are judged by them: found by image, and which concept means which of their classes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from regionclip.concepts.coverage import Concept, PoolIndex
from regionclip.concepts.vocabularies import ClassName
from regionclip.labels.truth import TruthCounter, TruthCurve

Find = Callable[[Iterable[str]], tuple[str, Concept] | None]


class AnnotatedBoxes:
    """The boxes of a table (`schemas.BOXES`) without crowds, held as arrays in the order of image ids."""

    def __init__(self, table: pa.Table) -> None:
        rows = table.filter(np.logical_not(table["is_crowd"].to_numpy()))
        order = np.argsort(rows["image_id"].to_numpy(), kind="stable")
        self._owners = rows["image_id"].to_numpy()[order]
        self._boxes = rows["box"].combine_chunks().flatten().to_numpy().reshape(-1, 4)[order]
        categories = rows["category"].combine_chunks().dictionary_encode()
        self._names: list[str] = categories.dictionary.to_pylist()
        self._categories = categories.indices.to_numpy()[order]

    def of(self, image_ids: NDArray[np.int64]) -> dict[int, tuple[NDArray[np.float32], list[str]]]:
        """Boxes [n, 4] xyxy pixels and their classes, of those of the images that have any."""
        starts = np.searchsorted(self._owners, image_ids, "left")
        ends = np.searchsorted(self._owners, image_ids, "right")
        return {
            image_id: (self._boxes[start:end], [self._names[row] for row in self._categories[start:end].tolist()])
            for image_id, start, end in zip(image_ids.tolist(), starts.tolist(), ends.tolist(), strict=True)
            if end > start
        }


def meant_classes(classes: Sequence[str], concepts: Iterable[Concept]) -> dict[str, str]:
    """Concept -> the class that it means, by its name, by another word for it, or by a form that captions write.

    Several concepts may mean one class ('plane' and 'airplane'); of several classes that a concept could mean, it is
    the one of the closest name. A concept whose name merely ends in the class is narrower and means none.
    """
    pool, meant = PoolIndex(concepts), dict[str, str]()
    ways: tuple[tuple[Find, Callable[[ClassName], Iterable[str]]], ...] = (
        (pool.named, lambda name: name.names),
        (pool.named, lambda name: name.other_words),
        (pool.variant, lambda name: name.names),
        (pool.written, lambda name: (*name.names, *name.other_words)),
    )
    for find, words_of in ways:
        for name in map(ClassName, classes):
            for word in words_of(name):
                if found := find([word]):
                    meant.setdefault(found[1].name, name.name)
    return meant


class Judge:
    """Counts labels against annotated boxes, in the images that have any: of another none may have been annotated.

    concepts: of the labels, in their order. iou: least overlap of a region with an object. threshold: of the labels.
    """

    def __init__(
        self,
        boxes: AnnotatedBoxes,
        classes: Sequence[str],
        concepts: Sequence[Concept],
        iou: float = 0.5,
        threshold: float | None = None,
    ) -> None:
        self.images = self.regions = 0
        self.meant = meant_classes(classes, concepts)
        self._boxes, self._classes = boxes, classes
        self._counter = TruthCounter([concept.name for concept in concepts], self.meant, iou, threshold)

    @property
    def unmeant(self) -> list[str]:
        """The classes that no concept means."""
        return [name for name in self._classes if name not in self.meant.values()]

    def add(self, table: pa.Table) -> None:
        """Count a table (`schemas.REGION_LABELS`)."""
        image_ids = table["image_id"].to_numpy()
        truth = self._boxes.of(image_ids)
        judged = table.filter(pa.array(np.isin(image_ids, list(truth))))
        if judged.num_rows:
            self.images += judged.num_rows
            self.regions += pc.sum(pc.list_value_length(judged["keep"])).as_py()
            self._counter.add(judged, truth)

    def result(self) -> TruthCurve:
        """The curve of all tables so far."""
        return self._counter.result()
