"""The HTML of the page: escaping, absent values, the words it must carry."""

from __future__ import annotations

from dataclasses import replace

import pytest

from regionclip.report.comparison import Recipe
from regionclip.report.page import ArtifactLine, Page, lead, percent, points, render

PAGE = Page(
    title="Recipes <b>",
    recipes=[
        Recipe("start & co", "As it is.", False, {"AP50_novel": 0.25}),
        Recipe("guided", "By captions.", True, {"AP50_novel": 0.2, "AP50_base": 0.31251}),
    ],
    baseline=0,
    control=None,
    marks=(),
    pool_size=12,
    detection=[],
    labels=[],
    examples={},
    label_examples={},
    lineage=[ArtifactLine("captions", "0123456789abcdef", "read_captions v1")],
)


def test_names_are_escaped_and_values_are_percent() -> None:
    html = render(PAGE)
    assert "Recipes &lt;b&gt;" in html
    assert "start &amp; co" in html
    assert ">31.3</td>" in html
    assert "−5.0</td>" in html
    assert "0123456789abcdef" in html


def test_departure_is_named_in_the_table_and_in_the_notes() -> None:
    assert render(PAGE).count('<span class="tag departure">departure from the paper</span>') == 2


def test_banner_stands_only_with_marks() -> None:
    assert 'class="banner"' not in render(PAGE)
    assert "<strong>untrained</strong>" in render(replace(PAGE, marks=("untrained",)))


def test_lead_says_when_the_start_stays_ahead() -> None:
    assert lead(PAGE.recipes, 0, None) == "Best on novel classes: start & co, with an AP50 of 25.0."
    assert lead(PAGE.recipes, 0, 1).endswith("25.0: +5.0 against the control.")


@pytest.mark.parametrize(
    ("value", "shown", "signed"), [(0.1234, "12.3", "+12.3"), (-0.05, "-5.0", "−5.0"), (None, "–", "–")]
)
def test_fractions_are_shown_in_percent(value: float | None, shown: str, signed: str) -> None:
    assert (percent(value), points(value)) == (shown, signed)
