"""The plots of a pool: their marks, the same bytes each time, and that they stand with nothing to show."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from PIL import Image

from regionclip.report import plots
from regionclip.report.concept_plots import LINE, MARK, long_tail, size_against_threshold

SIZES = [(1, 900), (2, 400), (5, 120), (10, 40), (20, 9)]
PLOTS: dict[str, Callable[[int | None, plots.Theme], bytes]] = {
    "size": lambda threshold, theme: size_against_threshold(SIZES, threshold, 40, theme),
    "tail": lambda threshold, theme: long_tail(range(5, 60), [(120, 5), (900, 1)], threshold, theme),
}
EMPTY = [
    partial(size_against_threshold, [], 10, 0),
    partial(long_tail, [0, 0], [], None),
    partial(long_tail, [], [], 3),
]


def pixels(png: bytes, colour: str) -> np.ndarray:
    """(row, column) of the pixels of exactly this colour."""
    image = Image.open(io.BytesIO(png))
    assert image.format == "PNG"
    assert set(image.info) <= {"dpi"}
    wanted = [int(colour[start : start + 2], 16) for start in (1, 3, 5)]
    return np.argwhere((np.asarray(image.convert("RGB")) == wanted).all(axis=-1))


@pytest.mark.parametrize("name", PLOTS)
def test_plot_is_the_same_bytes_twice_on_the_paper_of_its_theme(name: str) -> None:
    for theme in (plots.LIGHT, plots.DARK):
        png = PLOTS[name](10, theme)
        assert png == PLOTS[name](10, theme)
        assert [0, 0] in pixels(png, theme.paper).tolist()


@pytest.mark.parametrize("name", PLOTS)
def test_the_threshold_is_marked_only_where_there_is_one(name: str) -> None:
    assert len(pixels(PLOTS[name](10, plots.LIGHT), MARK)) > 100
    assert len(pixels(PLOTS[name](None, plots.LIGHT), MARK)) == 0
    assert len(pixels(PLOTS[name](None, plots.LIGHT), LINE)) > 100


def test_the_line_and_the_dot_of_the_threshold_stand_at_one_place() -> None:
    for threshold in (2, 5, 10):
        columns = pixels(PLOTS["size"](threshold, plots.LIGHT), MARK)[:, 1]
        assert columns.max() - columns.min() < 0.03 * plots.WIDTH * plots.DPI


def test_the_mark_moves_with_the_threshold() -> None:
    columns = [pixels(PLOTS["size"](threshold, plots.LIGHT), MARK)[:, 1].mean() for threshold in (2, 5, 10)]
    assert columns == sorted(columns)
    rows = [pixels(PLOTS["tail"](threshold, plots.LIGHT), MARK)[:, 0].mean() for threshold in (20, 10, 5)]
    assert rows == sorted(rows)


def test_listed_concepts_below_the_threshold_are_not_drawn() -> None:
    assert long_tail([30, 20, 2, 0], [], 10, plots.LIGHT) == long_tail([20, 30], [], 10, plots.LIGHT)


@pytest.mark.parametrize("draw", EMPTY)
def test_plots_stand_with_nothing_to_show(draw: Callable[[plots.Theme], bytes]) -> None:
    assert draw(plots.LIGHT)
