"""A concept pool as one self-contained HTML page: no script and no outside resource."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from regionclip.concepts.coverage import STATES, ClassCoverage, State, count_states, leaked
from regionclip.report.concept_lists import Entry, Listing
from regionclip.report.page import ArtifactLine, Plot, environment

_TITLES = {"coco_base": "COCO base", "coco_novel": "COCO novel"}
_STATES: Mapping[State, str] = {
    "same_name": "same name",
    "other_word": "another word",
    "surface_form": "another form",
    "compound": "in compounds",
    "lacking": "lacking",
}
assert tuple(_STATES) == STATES


@dataclass(frozen=True)
class ConceptsPage:
    """Everything the page shows.

    facts: (number, what it counts), the headline; settings: (term, words) on how the pool was made.
    plots: each with a paragraph that reads it.
    merged, dropped: lists; dropped is empty where nothing was counted.
    coverage: group -> its classes; counted: whether captions that name a lacking class were counted.
    """

    title: str
    marks: Sequence[str]
    facts: Sequence[tuple[str, str]]
    settings: Sequence[tuple[str, str]]
    plots: Sequence[tuple[Plot, str]]
    top: Sequence[Entry]
    sample: Sequence[Entry]
    merged: Listing
    dropped: Sequence[Listing]
    coverage: Mapping[str, Sequence[ClassCoverage]]
    counted: bool
    lineage: Sequence[ArtifactLine]


def render(page: ConceptsPage) -> str:
    """The HTML text of the page."""
    groups = [(group_title(group), rows, count_states(rows), by_state(rows)) for group, rows in page.coverage.items()]
    novel = [(group_title(group), len(page.coverage[group]), rows) for group, rows in leaked(page.coverage).items()]
    template = environment().get_template("concepts_page.html.j2")
    return template.render(page=page, states=_STATES, groups=groups, novel=novel)


def group_title(group: str) -> str:
    """The words for a group of classes."""
    return _TITLES.get(group, group)


def by_state(rows: Sequence[ClassCoverage]) -> dict[State, list[ClassCoverage]]:
    """The classes in each state that holds any: the most frequent first, of lacking ones the most named."""
    ordered = sorted(rows, key=lambda row: (-(row.document_frequency or row.captions or 0), row.name))
    states = {state: [row for row in ordered if row.state == state] for state in STATES}
    return {state: same for state, same in states.items() if same}


def read_sizes(sizes: Sequence[tuple[int, int]], threshold: int | None, num_concepts: int) -> str:
    """What the curve of pool sizes says; sizes: (captions needed, concepts), by rising threshold."""
    text = "Read from left to right: the more captions must name a concept, the smaller the pool."
    if threshold is None:
        return f"{text} This pool was not made with a threshold."
    text += f" The mark is the chosen threshold, {threshold:,}: it leaves {_some(num_concepts, 'concept')}."
    lower = max((pair for pair in sizes if pair[0] < threshold), default=None)
    higher = min((pair for pair in sizes if pair[0] > threshold), default=None)
    others = [f"{size:,} at {least:,}" for least, size in filter(None, (lower, higher))]
    text += f" It would be {' and '.join(others)}." if others else ""
    return f"{text} A lower one brings rarer things into the pool, and more slips of the parser with them."


def read_tail(frequencies: Sequence[int], tail: Sequence[tuple[int, int]], threshold: int | None) -> str:
    """What the plot of ranks says; frequencies: captions of each concept; tail: (rank, frequency) of rarer names."""
    ranked = sorted((number for number in frequencies if number >= (threshold or 1)), reverse=True)
    total, running, half = sum(ranked), 0, 0
    while 2 * running < total:
        running += ranked[half]
        half += 1
    text = (
        "Each concept by its rank; everyday words fall roughly on a straight line on these scales, with a long tail. "
        f"Of {_some(len(ranked), 'concept')} the most frequent {half:,} make up half of all times that a caption "
        "names one; the others share the rest."
    )
    others = len(frequencies) - len(ranked)
    text += f" Not drawn: {_some(others, 'listed name')} that fewer captions mention." if others else ""
    if tail and threshold is not None:
        rarer = max(tail)[0] - len(ranked)
        text += f" Dotted: about {rarer:,} rarer names that would come with a lower threshold."
    return text


def _some(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
