"""Two sets of region labels side by side, part by part, though their parts and their images may differ."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Place = Callable[[NDArray[np.int64]], NDArray[np.int64]]
"""Where images stand in the list that both sets follow, by their ids; -1 for one that is not listed."""


def listed_places(image_ids: NDArray[np.int64]) -> Place:
    """The places of a list of different images."""
    order = np.argsort(image_ids, kind="stable")
    ranked = image_ids[order]

    def place(wanted: NDArray[np.int64]) -> NDArray[np.int64]:
        if not len(ranked):
            return np.full(len(wanted), -1, dtype=np.int64)
        rank = np.minimum(np.searchsorted(ranked, wanted), len(ranked) - 1)
        return np.where(ranked[rank] == wanted, order[rank], -1)

    return place


def paired(firsts: Iterable[pa.Table], others: Iterable[pa.Table], place: Place) -> Iterator[tuple[pa.Table, pa.Table]]:
    """The rows of the images that both have, as equally long tables, one pair for each of `firsts`.

    Both list images by rising `place`. No more of `others` is held than reaches to the end of the current table.
    """
    coming = iter(others)
    held: pa.Table | None = next(coming, None)
    for table in firsts:
        if held is None:
            return
        end = int(place(table["image_id"].to_numpy()).max(initial=-1))
        while int(place(held["image_id"].to_numpy()).max(initial=-1)) < end:
            further = next(coming, None)
            if further is None:
                break
            held = pa.concat_tables([held, further])
        row = pc.index_in(table["image_id"], value_set=held["image_id"].combine_chunks())
        both = row.is_valid()
        yield table.filter(both), held.take(row.filter(both))
        held = held.filter(pa.array(place(held["image_id"].to_numpy()) > end))
