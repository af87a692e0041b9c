"""Made-up region labels: tables of a few images, and a way to draw them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pytest
from hypothesis import strategies as st

from regionclip.schemas import REGION_LABELS

SHARES = (0.0, 0.25, 0.5, 0.9, 1.0)


class Region(NamedTuple):
    """A box in pixels, (concept, probability) with the likeliest first, and the rest of a row of labels."""

    box: tuple[float, float, float, float]
    labels: Sequence[tuple[int, float]]
    keep: bool
    entropy: float = 0.5


Images = Sequence[Sequence[Region]]


def table_of(images: Images, first_id: int = 0, side: int = 64) -> pa.Table:
    rows: list[dict[str, Any]] = [
        {
            "image_id": first_id + position,
            "width": side,
            "height": side,
            "boxes": [region.box for region in regions],
            "objectness": [0.0 for _ in regions],
            "concept_ids": [[concept for concept, _ in region.labels] for region in regions],
            "log_probabilities": [
                [math.log(share) if share else -math.inf for _, share in region.labels] for region in regions
            ],
            "keep": [region.keep for region in regions],
            "entropy": [region.entropy for region in regions],
        }
        for position, regions in enumerate(images)
    ]
    return pa.Table.from_pylist(rows, schema=REGION_LABELS)


@st.composite
def _region(draw: st.DrawFn) -> Region:
    x, y, width, height = (draw(st.sampled_from((0, 1, 4, 8, 16))) for _ in range(4))
    concepts = draw(st.permutations(range(4)))[: draw(st.integers(0, 2))]
    labels = [(concept, draw(st.sampled_from(SHARES))) for concept in concepts]
    return Region((x, y, x + width, y + height), labels, draw(st.booleans()), draw(st.sampled_from((0.0, 0.3, 1.2))))


@pytest.fixture(scope="session")
def make_region() -> type[Region]:
    return Region


@pytest.fixture(scope="session")
def make_table() -> Callable[..., pa.Table]:
    """Images, each a sequence of regions, as a table; ids count from `first_id`, images are squares of `side`."""
    return table_of


@pytest.fixture(scope="session")
def drawn_images() -> st.SearchStrategy[list[list[Region]]]:
    """Some images of a few regions, of a pool of four concepts."""
    return st.lists(st.lists(_region(), max_size=4), max_size=4)
