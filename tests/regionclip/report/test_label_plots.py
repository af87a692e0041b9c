"""The plots of a labels page."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial

import pytest
from PIL import Image

from regionclip.labels.statistics import Histogram
from regionclip.labels.truth import THRESHOLDS, TruthCurve
from regionclip.report import label_plots
from regionclip.report.plots import DARK, LIGHT, Theme

EDGES = (0.0, 0.25, 0.5, 0.75, 1.0)
FULL, EMPTY = Histogram(EDGES, (0, 1, 5, 90), (7, 3, 0, 0)), Histogram(EDGES, (0,) * 4, (0,) * 4)
NUM = len(THRESHOLDS)
CURVE = TruthCurve(
    THRESHOLDS,
    tuple(range(NUM, 0, -1)),
    tuple(value // 2 for value in range(NUM, 0, -1)),
    tuple(range(NUM, 0, -1)),
    120,
    110,
    3,
    (),
)
NOTHING = TruthCurve(THRESHOLDS, (0,) * NUM, (0,) * NUM, (0,) * NUM, 0, 0, 0, ())

DRAWINGS = {
    "histogram": partial(label_plots.histogram, FULL, "score", 0.4),
    "empty histogram": partial(label_plots.histogram, EMPTY, "score", None),
    "tail": partial(label_plots.long_tail, [100, 3, 0, 1], [110, 9, 2, 1]),
    "tail of one": partial(label_plots.long_tail, [4], [4]),
    "empty tail": partial(label_plots.long_tail, [0, 0], [0, 0]),
    "curve": partial(label_plots.precision_and_recall, CURVE, 0.7),
    "empty curve": partial(label_plots.precision_and_recall, NOTHING, None),
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_same_numbers_give_same_bytes_in_the_colours_of_the_theme(name: str) -> None:
    draw: Callable[[Theme], bytes] = DRAWINGS[name]
    light = draw(LIGHT)
    assert light == draw(LIGHT)
    for theme, data in ((LIGHT, light), (DARK, draw(DARK))):
        image = Image.open(io.BytesIO(data)).convert("RGB")
        paper = tuple(int(theme.paper[start : start + 2], 16) for start in (1, 3, 5))
        assert image.getpixel((1, 1)) == paper


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (partial(label_plots.histogram, FULL, "score", 0.4), partial(label_plots.histogram, FULL, "score", 0.6)),
        (partial(label_plots.long_tail, [9, 9], [9, 9]), partial(label_plots.long_tail, [9, 9, 0], [9, 9, 0])),
        (
            partial(label_plots.precision_and_recall, CURVE, None),
            partial(label_plots.precision_and_recall, CURVE, 0.7),
        ),
    ],
)
def test_thresholds_and_concepts_without_a_label_show(
    before: Callable[[Theme], bytes], after: Callable[[Theme], bytes]
) -> None:
    assert before(LIGHT) != after(LIGHT)
