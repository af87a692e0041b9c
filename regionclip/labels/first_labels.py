"""The first label of every region of a table of region labels, as flat arrays."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray


class FirstLabels(NamedTuple):
    """Flat over the R regions of a table, those of its first row first; NaN for a column that the table lacks.

    image: int64 [R], row of the table. region: int64 [R], index within its image. boxes: float32 [R, 4] xyxy pixels.
    ids: int64 [R], likeliest concept, -1 without any. scores: float64 [R], its probability among the candidates of
    the image, 0 without any. keep: bool [R]. entropy: float32 [R], of the whole pool, NaN where unknown; unit: nat.
    """

    image: NDArray[np.int64]
    region: NDArray[np.int64]
    boxes: NDArray[np.float32]
    ids: NDArray[np.int64]
    scores: NDArray[np.float64]
    keep: NDArray[np.bool_]
    entropy: NDArray[np.float32]

    def offsets(self, num_images: int) -> NDArray[np.int64]:
        """The regions of row i of the table are `offsets[i]` to `offsets[i + 1]`, int64 [num_images + 1]."""
        return np.searchsorted(self.image, np.arange(num_images + 1)).astype(np.int64)


def first_labels(table: pa.Table) -> FirstLabels:
    """The first labels of a table (`schemas.REGION_LABELS`) that has at least concepts, log-probabilities and keep."""
    counts = _lengths(table["keep"])
    starts = np.cumsum(counts) - counts
    image = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
    ids_of, logs_of = pc.list_flatten(table["concept_ids"]), pc.list_flatten(table["log_probabilities"])
    labels_of = _lengths(ids_of)  # [R]
    labelled = labels_of > 0
    first = (np.cumsum(labels_of) - labels_of)[labelled]  # where the first label of each region is in the flat lists
    ids, scores = np.full(len(image), -1, dtype=np.int64), np.zeros(len(image))
    ids[labelled] = _values(pc.list_flatten(ids_of))[first]
    scores[labelled] = np.exp(_values(pc.list_flatten(logs_of))[first].astype(np.float64))
    return FirstLabels(
        image=image,
        region=np.arange(len(image), dtype=np.int64) - starts[image],
        boxes=_boxes(table, len(image)),
        ids=ids,
        scores=scores,
        keep=_values(pc.list_flatten(table["keep"])).astype(bool),
        entropy=_entropy(table, counts),
    )


def check_pool(labels: FirstLabels, num_concepts: int) -> None:
    """Raise ValueError for a label outside a pool of `num_concepts`."""
    if labels.ids.size and labels.ids.max() >= num_concepts:
        raise ValueError(
            f"region labels name concept {labels.ids.max()}, but the pool has {num_concepts}; give the pool they were "
            "made with"
        )


def _boxes(table: pa.Table, num_regions: int) -> NDArray[np.float32]:
    if "boxes" not in table.column_names:
        return np.full((num_regions, 4), np.nan, dtype=np.float32)
    return _values(pc.list_flatten(pc.list_flatten(table["boxes"]))).astype(np.float32).reshape(num_regions, 4)


def _entropy(table: pa.Table, counts: NDArray[np.int64]) -> NDArray[np.float32]:
    entropy = np.full(counts.sum(), np.nan, dtype=np.float32)
    if "entropy" in table.column_names:
        known = _values(table["entropy"].is_valid()).astype(bool)
        entropy[np.repeat(known, counts)] = _values(pc.list_flatten(table["entropy"]))
    return entropy


def _lengths(lists: pa.ChunkedArray) -> NDArray[np.int64]:
    return _values(pc.list_value_length(lists)).astype(np.int64)


def _values(column: pa.ChunkedArray) -> NDArray[Any]:
    values: NDArray[Any] = column.to_numpy()
    return values
