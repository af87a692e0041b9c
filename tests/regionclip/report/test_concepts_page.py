"""The HTML of the concepts page: escaping, what it names, and what its paragraphs read from the numbers."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from regionclip.concepts.coverage import Concept, PoolIndex, cover
from regionclip.concepts.naming import FRAME_WORD
from regionclip.concepts.vocabularies import ClassName
from regionclip.report import concept_lists
from regionclip.report.concept_lists import MAX_SHOWN, Entry, Listing
from regionclip.report.concepts_page import ConceptsPage, by_state, read_sizes, read_tail, render
from regionclip.report.page import ArtifactLine, Plot

EVIL = "<img src=http://x onerror=alert(1)> & \"'"
POOL = PoolIndex([Concept("dog", 1200), Concept("sofa", 30), Concept("tennis ball", 8)])
ROWS = cover([ClassName(name) for name in ("dog", "couch", "ball", "gnu", "ibex")], POOL, {"gnu": 2, "ibex": 7})
PAGE = ConceptsPage(
    title="Pool",
    marks=(),
    facts=[("1,234", "captions")],
    settings=[("Parser", "rules")],
    plots=[(Plot(b"light", b"dark", "a plot"), "What it says.")],
    top=[Entry("dog", 1200), Entry("sofa", 30)],
    sample=[Entry("sofa", 30, "A sofa.")],
    merged=Listing("Merged names", "About.", [Entry("tv", 9, "television")], 1),
    dropped=[Listing("Frame word", "About.", [Entry("photo", 77)], 500)],
    coverage={"novel": ROWS},
    counted=True,
    lineage=[ArtifactLine("concepts", "0123456789abcdef", "extract_concepts v2", [("phrases", "phrases", "ffff0000")])],
)


def test_names_captions_and_reasons_are_escaped_wherever_they_stand() -> None:
    entries = [Entry(EVIL, 3, EVIL)]
    listing = Listing(EVIL, EVIL, entries, 1)
    evil = cover([ClassName(EVIL), ClassName("ball", (EVIL,))], PoolIndex([Concept(f"{EVIL} ball", 3)]), {})
    page = replace(
        PAGE,
        title=EVIL,
        marks=(EVIL,),
        facts=[(EVIL, EVIL)],
        settings=[(EVIL, EVIL)],
        plots=[(Plot(b"", b"", EVIL), EVIL)],
        top=entries,
        sample=entries,
        merged=listing,
        dropped=[listing],
        coverage={EVIL: evil, "novel": evil},
        lineage=[ArtifactLine(EVIL, EVIL, EVIL, [(EVIL, EVIL, EVIL)], [EVIL])],
    )
    html = render(page)
    assert "<img src=http" not in html
    assert html.count("&lt;img src=http://x onerror=alert(1)&gt; &amp; &#34;&#39;") > 20
    shape = re.compile("<[^>]*>")
    assert {tag for tag in shape.findall(html) if "onerror" in tag} <= {
        tag for tag in shape.findall(html) if "alt=" in tag
    }


def test_page_asks_for_nothing_from_outside_and_follows_the_colour_scheme() -> None:
    html = render(PAGE)
    sources = re.findall(r'(?:src|srcset|href|url)\s*[=(]\s*"?([^">\s)]+)', html)
    assert len(sources) == 2
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert "<script" not in html
    assert "@import" not in html
    assert "prefers-color-scheme: dark" in html


def test_page_says_everything_it_is_given() -> None:
    html = render(PAGE)
    for words in ("1,234", "What it says.", "A sofa.", "television", "photo", "0123456789abcdef", "Frame word"):
        assert words in html, words
    assert re.search(r"Frame word <span class=\"quiet\">500</span>", html)
    assert "3 of 5 in the pool" in html
    assert 'class="banner"' not in html
    assert "<strong>untrained</strong>" in render(replace(PAGE, marks=("untrained",)))


def test_lacking_classes_stand_by_the_captions_that_name_them() -> None:
    html = render(PAGE)
    assert html.index("ibex") < html.index("gnu")
    assert [row.name for row in by_state(ROWS)["lacking"]] == ["ibex", "gnu"]
    unknown = render(replace(PAGE, counted=False, coverage={"novel": cover([ClassName("gnu")], POOL)}))
    assert "is not known without the phrases" in unknown
    assert "None" not in unknown


def test_every_class_stands_once_in_the_lists_of_its_group() -> None:
    html = render(replace(PAGE, coverage={"base": ROWS}))
    lists = html[html.index("<h3>") : html.index("How large the pool is")]
    for row in ROWS:
        assert len(re.findall(rf"<li><span><b>{row.name}</b>", lists)) == 1, row


def test_page_stands_without_plots_drops_or_classes() -> None:
    html = render(replace(PAGE, plots=[], dropped=[], coverage={}, sample=[], merged=Listing("", "", [], 0)))
    for heading in ("Classes that", "How large", "What was left out", "A sample", "Novel classes"):
        assert heading not in html, heading


def test_sizes_are_read_at_the_threshold_and_its_neighbours() -> None:
    text = read_sizes([(1, 9000), (50, 120), (100, 40), (200, 9)], 100, 38)
    assert "chosen threshold, 100: it leaves 38 concepts. It would be 120 at 50 and 9 at 200." in text
    assert "not made with a threshold" in read_sizes([], None, 3)


@pytest.mark.parametrize(
    ("frequencies", "threshold", "words"),
    [
        ([10, 4, 3, 2, 1], None, "Of 5 concepts the most frequent 1 make up half"),
        ([4, 4, 4, 4], None, "Of 4 concepts the most frequent 2 make up half"),
        ([10, 4, 3, 0], 3, "Not drawn: 1 listed name that"),
    ],
)
def test_the_tail_is_read_as_the_share_of_the_most_frequent(
    frequencies: list[int], threshold: int | None, words: str
) -> None:
    assert words in read_tail(frequencies, [], threshold)
    assert "about 7 rarer names" in read_tail([5, 5, 5], [(6, 2), (10, 1)], 5)


def concept(name: str, number: int, *examples: str) -> dict[str, object]:
    return {"concept": name, "document_frequency": number, "examples": list(examples), "merged_from": []}


def test_the_sample_is_the_seeds_and_not_the_orders() -> None:
    rows = [concept(f"c{index}", index, f"caption {index}") for index in range(50)]
    drawn = concept_lists.sample(rows, 10, seed=3)
    assert drawn == concept_lists.sample(rows[::-1], 10, seed=3)
    assert drawn != concept_lists.sample(rows, 10, seed=4)
    assert len({entry.name for entry in drawn}) == 10
    assert all(entry.note == f"caption {entry.document_frequency}" for entry in drawn)
    assert len(concept_lists.sample(rows, 99, seed=3)) == 50


def test_a_long_example_is_cut() -> None:
    [entry] = concept_lists.sample([concept("a", 1, "word " * 400)], 1, seed=0)
    assert len(entry.note) < 200
    assert entry.note.endswith("…")


def test_dropped_names_are_listed_by_reason_with_their_totals() -> None:
    rows = [
        {"name": f"n{index}", "document_frequency": 99 - index, "count": 1, "reason": reason, "sampled": sampled}
        for index in range(MAX_SHOWN + 5)
        for reason, sampled in ((FRAME_WORD, False), ("in fewer than 100 captions", False), ("other", False))
    ]
    rows.append({**rows[1], "name": "deep", "sampled": True})
    frame, rare, other, sampled = concept_lists.dropped_names(rows, {"num_frame_words": 900, "num_rare": 5000})
    assert (frame.total, rare.total, other.total, sampled.total) == (900, 5000, MAX_SHOWN + 5, 1)
    assert [entry.document_frequency for entry in rare.entries] == list(range(99, 99 - MAX_SHOWN, -1))
    assert (rare.heading, sampled.heading) == ("In fewer than 100 captions", "In fewer than 100 captions: a sample")
    assert [entry.name for entry in sampled.entries] == ["deep"]
