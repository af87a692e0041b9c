"""The labelled regions of each image that are shown to others, out of region-label tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from regionclip.grouped import grouped_lists


@dataclass(frozen=True)
class Choice:
    """Which regions are shown: the kept ones or `everything`, of a first label of probability `min_score` or more."""

    everything: bool = False
    min_score: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.min_score <= 1:
            raise ValueError(f"min_score {self.min_score} is no probability; give a number from 0 to 1")

    def shown(self, keep: NDArray[np.bool_], scores: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which regions [R] are shown, by their `keep` and the probability of their first label."""
        return (keep | self.everything) & (scores >= self.min_score)


@dataclass(frozen=True)
class LabelledImage:
    """An image and n regions of it: boxes float32 [n, 4] xyxy pixels, their first concepts and their scores [n].

    uri: where it is, below the folder of its images. numbers: which region of the whole table each is, counted from 0.
    scores: probability among the candidates.
    """

    image_id: int
    uri: str
    width: int
    height: int
    numbers: NDArray[np.int64]
    boxes: NDArray[np.float32]
    concept_ids: NDArray[np.int64]
    scores: NDArray[np.float32]
    keep: NDArray[np.bool_]


def labelled_images(tables: Iterable[pa.Table], choice: Choice) -> Iterator[LabelledImage]:
    """All images of region-label tables (`schemas.REGION_LABELS`) in order, with the regions that are chosen."""
    before = 0
    for table in tables:
        regions = grouped_lists(table, ["boxes", "concept_ids", "log_probabilities", "keep"])
        scores, firsts = first_scores(regions["log_probabilities"]), first_concepts(regions["concept_ids"])
        shown = choice.shown(regions["keep"], scores)
        images = table.select(["image_id", "uri", "width", "height"]).to_pylist()
        for image, start, end in zip(images, regions.offsets[:-1], regions.offsets[1:], strict=True):
            rows = start + np.flatnonzero(shown[start:end])
            yield LabelledImage(
                **image,
                numbers=before + rows,
                boxes=regions["boxes"][rows],
                concept_ids=firsts[rows].astype(np.int64),
                scores=scores[rows],
                keep=regions["keep"][rows],
            )
        before += int(regions.offsets[-1])


def first_scores(log_probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """The probability of the first label of each region [R, k]."""
    return np.exp(log_probabilities[:, :1].reshape(-1))


def first_concepts(concept_ids: NDArray[np.int32]) -> NDArray[np.int32]:
    """The first concept of each region [R, k]."""
    return concept_ids[:, :1].reshape(-1)
