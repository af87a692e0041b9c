"""The HTML of the labels page: escaping, what it names, what it leaves out, and what its paragraphs read."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from regionclip.labels.agreement import Agreement
from regionclip.labels.statistics import Histogram, LabelAudit, NeverKept
from regionclip.labels.truth import THRESHOLDS, ClassTruth, TruthCurve
from regionclip.report.gallery import Crop, LabelledPicture
from regionclip.report.labels_page import (
    CURVE,
    GalleryRow,
    Judged,
    LabelSet,
    LabelsPage,
    best_cut,
    read_curve,
    read_entropy,
    read_scores,
    read_sizes,
    read_tail,
    render,
    weakest_classes,
)
from regionclip.report.page import ArtifactLine, Plot

EVIL = "<img src=http://x onerror=alert(1)> & \"'"
NUM = len(THRESHOLDS)
BINS = Histogram(
    tuple(step / 10 for step in range(11)), (0, 0, 0, 0, 0, 0, 0, 10, 20, 30), (9, 8, 7, 6, 5, 4, 3, 0, 0, 0)
)
NONE = Histogram(BINS.edges, (0,) * 10, (0,) * 10)
AUDIT = LabelAudit(50, 4, 102, 60, BINS, NONE, BINS, (70, 30, 2, 0), (50, 10, 0, 0), 0.876)
NO_LABELS = LabelAudit(2, 2, 0, 0, NONE, NONE, NONE, (0, 0, 0, 0), (0, 0, 0, 0), None)


def truth(best: int) -> TruthCurve:
    """A curve with the highest F1 at this threshold (in hundredths): 80 of 90 right labels, 90 of 100 objects."""
    low, high = (best, NUM - best)
    return TruthCurve(
        THRESHOLDS,
        (200,) * low + (90,) * high,
        (80,) * NUM,
        (90,) * (best + 1) + (70,) * (high - 1),
        100,
        95,
        12,
        (ClassTruth("cat", 50, 40, 60, 45), ClassTruth("cup", 10, 1, 30, 2), ClassTruth("gnu", 0, 0, 10, 0)),
    )


FIRST = LabelSet("0123456789abcdef", "captions", 0.7, False, "RN50, 4 concepts", 4, AUDIT, None, truth(30))
OTHER = LabelSet(
    "fedcba9876543210",
    "pool",
    0.7,
    True,
    "ViT, 9 concepts",
    9,
    AUDIT,
    Agreement(102, 100, 61, 40, 30, 60, 55, (("cat", "kitten", 8),)),
    truth(50),
)
PLOT = (Plot(b"light", b"dark", "a plot"), "What it says.")
PAGE = LabelsPage(
    title="Labels",
    marks=(),
    facts=[("1,234", "regions")],
    settings=[("Temperature", "0.01")],
    sets=[FIRST, OTHER],
    pictures=[LabelledPicture(b"jpg", 17, (("cat", 0.98),), 3), LabelledPicture(b"jpg", 18, (), 0)],
    gallery=[GalleryRow("cat", 50, [Crop(b"jpg", 17, 0.71)])],
    unreadable={},
    groups={"cat": "base", "cup": "novel"},
    plots={"scores": PLOT, CURVE: PLOT},
    never=[NeverKept("water", 77, 5)],
    judged=Judged(weakest_classes(truth(30)), 3, ["ibex"], 48, 99, 0.5),
    lineage=[ArtifactLine("region_labels", "0123456789abcdef", "label_regions v2")],
)


def test_names_are_escaped_wherever_they_stand() -> None:
    agreement = replace(OTHER.agreement or Agreement(0, 0, 0, 0, 0, 0, 0, ()), disagreements=((EVIL, EVIL, 3),))
    curve = replace(truth(30), by_class=(ClassTruth(EVIL, 1, 1, 1, 1),))
    page = replace(
        PAGE,
        title=EVIL,
        marks=(EVIL,),
        facts=[(EVIL, EVIL)],
        settings=[(EVIL, EVIL)],
        sets=[replace(FIRST, truth=curve, key=EVIL), replace(OTHER, about=EVIL, agreement=agreement)],
        pictures=[LabelledPicture(b"", 1, ((EVIL, 0.5),), 0)],
        gallery=[GalleryRow(EVIL, 1, [Crop(b"", 1, 0.5)])],
        unreadable={3: EVIL},
        groups={EVIL: EVIL},
        plots={EVIL: (Plot(b"", b"", EVIL), EVIL)},
        never=[NeverKept(EVIL, 1, 1)],
        judged=Judged(weakest_classes(curve), 2, [EVIL], 1, 1, 0.5),
        lineage=[ArtifactLine(EVIL, EVIL, EVIL, [(EVIL, EVIL, EVIL)], [EVIL])],
    )
    html = render(page)
    assert "<img src=http" not in html
    assert html.count("&lt;img src=http://x onerror=alert(1)&gt; &amp; &#34;&#39;") > 20
    tags = {tag for tag in re.findall("<[^>]*>", html) if "onerror" in tag}
    assert all("alt=" in tag or "class=" in tag for tag in tags)


def test_page_asks_for_nothing_from_outside_and_follows_the_colour_scheme() -> None:
    html = render(PAGE)
    sources = re.findall(r'(?:src|srcset|href|url)\s*[=(]\s*"?([^">\s)]+)', html)
    assert len(sources) == 7
    assert all(source.startswith(("data:image/png;base64,", "data:image/jpeg;base64,")) for source in sources)
    assert "<script" not in html
    assert "@import" not in html
    assert "prefers-color-scheme: dark" in html


def test_page_says_everything_it_is_given() -> None:
    html = render(PAGE)
    for words in ("1,234", "Temperature", "What it says.", "water", "77", "kitten", "ibex", "ViT, 9 concepts"):
        assert words in html, words
    assert "and 3 more" in html
    assert "no kept region" in html
    assert html.count("departure from the paper") == html.count("caption-guided <code>01234567</code> <span")
    assert "corrected by hand" in html
    assert "<strong>untrained</strong>" in render(replace(PAGE, marks=("untrained",)))
    assert 'class="banner"' not in html
    assert "image 5: gone" in render(replace(PAGE, unreadable={5: "gone"}))


def test_numbers_of_the_sets_stand_side_by_side() -> None:
    html = render(PAGE)
    row = html[html.index("whole pool <code>fedcba98") :]
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", row)[:10]
    assert cells == ["60", "58.8", "2", "0.88", "61.0", "75.0", "68.3", "47.0", "89.4", "0.50"]


def test_parts_without_material_are_left_out_and_say_so() -> None:
    alone = replace(FIRST, truth=None)
    html = render(replace(PAGE, sets=[alone], never=None, judged=None, plots={"scores": PLOT}))
    assert "Sets of labels compared" not in html
    assert "--truth FILE" in html
    assert "no count of captions belongs" in html
    empty = replace(alone, audit=NO_LABELS, threshold=None, candidates="")
    bare = render(replace(PAGE, sets=[empty], pictures=[], gallery=[], never=[], judged=None, plots={}, facts=[]))
    assert "There is no picture to show." in bare
    assert "No region is kept" in bare
    assert "Every concept that captions mention labels a kept region." in bare
    assert "None" not in bare


def test_weakest_classes_come_first_and_those_with_nothing_at_all_never() -> None:
    curve = replace(truth(30), by_class=(*truth(30).by_class, ClassTruth("yak", 0, 0, 0, 0)))
    assert [row.name for row in weakest_classes(curve)] == ["gnu", "cup", "cat"]
    assert [row.name for row in weakest_classes(curve, 1)] == ["gnu"]


def test_the_curve_is_read_at_its_best_cut_and_as_it_is() -> None:
    text = read_curve(FIRST)
    assert best_cut(FIRST.truth) == (0.3, pytest.approx(2 * 8 / 9 * 0.9 / (8 / 9 + 0.9)))
    assert "(F1 89.4 %) is at a threshold of 0.3: 88.9 % of the labels above it are right, and they find 90.0 %" in text
    assert "What is kept now, at 0.7, has 68.3 % and 47.0 % (F1 55.7 %)." in text
    assert "'rgc run label --set labels.threshold=0.3 --set labels.candidates=captions'" in text
    assert "more than 95.0 % of the objects" in text
    assert "rgc run label" not in read_curve(replace(FIRST, corrected=True))


def test_a_cut_that_gains_little_is_not_recommended() -> None:
    kept = (ClassTruth("cat", 90, 80, 100, 90),)
    text = read_curve(replace(FIRST, truth=replace(truth(30), by_class=kept)))
    assert "Another threshold would gain little." in text
    assert "rgc run label" not in text


def test_a_curve_without_objects_or_right_labels_is_said_to_be_so() -> None:
    nothing = TruthCurve(THRESHOLDS, (0,) * NUM, (0,) * NUM, (0,) * NUM, 0, 0, 0, ())
    assert "recall is not known" in read_curve(replace(FIRST, truth=nothing))
    wrong = replace(nothing, labels=(5,) * NUM, objects=4, covered=1)
    assert "No label is right" in read_curve(replace(FIRST, truth=wrong))
    assert "more than 25.0 %" in read_curve(replace(FIRST, truth=wrong))


def test_histograms_are_read_by_shares_and_medians() -> None:
    scores = read_scores(AUDIT, 0.7)
    assert "58.8 % of all regions are kept, 29.4 % score 0.9 or more" in scores
    assert "by 0.1 would add about 3 regions" in scores
    assert "by 0.1" not in read_scores(AUDIT, None)
    assert "median is about 0.90 of the kept and 0.26 of the dropped" in read_sizes(AUDIT)
    assert "0.0 % are kept" in read_sizes(AUDIT)
    assert "Not known" in read_entropy(AUDIT)
    assert "0 is sure" in read_entropy(replace(AUDIT, entropy=BINS))
    assert "Not known of 1 region." in read_entropy(replace(AUDIT, regions=103, entropy=BINS))


def test_the_tail_is_read_as_the_share_of_the_most_used() -> None:
    text = read_tail(AUDIT, 4)
    assert "label a kept region: 2 of 4." in text
    assert "half of all kept regions: 1." in text
    assert "not even the first label of a dropped region: 1." in text


def test_labels_without_a_region_are_read_without_an_error() -> None:
    assert read_scores(NO_LABELS, 0.5) == "There is no region."
    assert "No region is kept" in read_tail(NO_LABELS, 4)
    assert "no region" in read_sizes(NO_LABELS)
