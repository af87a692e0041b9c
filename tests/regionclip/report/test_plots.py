"""The plots: real PNG files, the same bytes each time, no trace of the moment or the machine."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from PIL import Image

from regionclip.report import plots

CLASSES = [plots.ClassResult("cat", "base", 0.2, 0.4), plots.ClassResult("cow", "novel", None, None)]
BARS = {"base": [0.3, None], "novel": [0.2, 0.25]}
PLOTS: dict[str, Callable[[plots.Theme], bytes]] = {
    "group_bars": partial(plots.group_bars, ["start", "other"], BARS, "AP50"),
    "class_dots": partial(plots.class_dots, CLASSES, "start", "other", "AP50"),
    "concept_bars": partial(plots.concept_bars, {"one": {"cat": 3}, "two": {"cow": 2}}),
    "score_histograms": partial(plots.score_histograms, {"one": ([0, 3], [2, 0])}),
}


@pytest.mark.parametrize("name", PLOTS)
def test_plot_is_the_same_bytes_twice_in_the_colours_of_its_theme(name: str) -> None:
    light, dark = PLOTS[name](plots.LIGHT), PLOTS[name](plots.DARK)
    assert light == PLOTS[name](plots.LIGHT)
    for data, theme in ((light, plots.LIGHT), (dark, plots.DARK)):
        image = Image.open(io.BytesIO(data))
        assert image.format == "PNG"
        assert set(image.info) <= {"dpi"}
        corner = np.asarray(image.convert("RGB"))[0, 0]
        assert "#" + "".join(f"{value:02x}" for value in corner) == theme.paper


def test_plots_stand_with_nothing_to_show() -> None:
    assert plots.concept_bars({"one": {}}, plots.LIGHT)
    assert plots.class_dots([], "start", "other", "AP50", plots.LIGHT)
    assert plots.group_bars(["start"], {"base": [None], "novel": [None]}, "AP50", plots.LIGHT)
