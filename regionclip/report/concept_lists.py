"""What the concepts page lists: the most frequent concepts, a sample, merged names, and what was dropped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from regionclip.concepts.naming import FRAME_WORD

MAX_SHOWN = 60
_MAX_EXAMPLE = 160  # characters
_ABOUT = {  # how a reason begins -> metric with its total, what it means
    FRAME_WORD: (
        "num_frame_words",
        "Words about the picture and amounts, around which no one can put a box.",
    ),
    "in fewer than": ("num_rare", "Named, but by too few captions."),
    "beyond": ("num_beyond_max_size", "Frequent enough, but the pool is limited in size."),
}


@dataclass(frozen=True)
class Entry:
    """One line of a list: a name, the captions that mention it, and more words."""

    name: str
    document_frequency: int
    note: str = ""


@dataclass(frozen=True)
class Listing:
    """A list with its heading, some words about it, and how many there are in all, shown or not."""

    heading: str
    about: str
    entries: Sequence[Entry]
    total: int


def most_frequent(rows: Sequence[Mapping[str, Any]], number: int) -> list[Entry]:
    """The first `number` concepts by document frequency; rows: of `schemas.CONCEPTS`."""
    ordered = sorted(rows, key=lambda row: (-row["document_frequency"], row["concept"]))
    return [Entry(row["concept"], row["document_frequency"]) for row in ordered[:number]]


def sample(rows: Sequence[Mapping[str, Any]], number: int, seed: int) -> list[Entry]:
    """`number` concepts that the seed draws, by name, each with a caption that mentions it."""
    ordered = sorted(rows, key=lambda row: str(row["concept"]))
    chosen = sorted(np.random.default_rng(seed).permutation(len(ordered))[:number].tolist())
    return [_with_example(ordered[index]) for index in chosen]


def _with_example(row: Mapping[str, Any]) -> Entry:
    example = row["examples"][0] if row["examples"] else ""
    cut = example if len(example) <= _MAX_EXAMPLE else f"{example[:_MAX_EXAMPLE].rstrip()}…"
    return Entry(row["concept"], row["document_frequency"], cut)


def merged_names(rows: Sequence[Mapping[str, Any]]) -> Listing:
    """Concepts into which other names were merged, the most frequent first."""
    merged = [row for row in rows if row.get("merged_from")]
    ordered = sorted(merged, key=lambda row: (-row["document_frequency"], row["concept"]))
    entries = [
        Entry(row["concept"], row["document_frequency"], ", ".join(row["merged_from"])) for row in ordered[:MAX_SHOWN]
    ]
    return Listing("Merged names", "Spelling variants and synonyms count for one concept.", entries, len(merged))


def dropped_names(rows: Sequence[Mapping[str, Any]], totals: Mapping[str, float]) -> list[Listing]:
    """What captions name and the pool lacks, one list a reason, of rare names also a sample of the rest.

    rows: of `schemas.DROPPED`; totals: metrics of the pool, in which a reason may have its total.
    """
    listings = []
    for reason, is_sample in dict.fromkeys((row["reason"], row["sampled"]) for row in rows):
        same = [row for row in rows if row["reason"] == reason and row["sampled"] == is_sample]
        ordered = sorted(same, key=lambda row: (-row["document_frequency"], row["name"]))
        entries = [Entry(row["name"], row["document_frequency"]) for row in ordered[:MAX_SHOWN]]
        metric, about = next((known for start, known in _ABOUT.items() if reason.startswith(start)), ("", ""))
        heading = f"{reason[:1].upper()}{reason[1:]}{': a sample' if is_sample else ''}"
        if is_sample:
            listings.append(Listing(heading, "Drawn by chance from the rarer of these.", entries, len(entries)))
        else:
            listings.append(Listing(heading, about, entries, int(totals.get(metric, len(same)))))
    return listings
