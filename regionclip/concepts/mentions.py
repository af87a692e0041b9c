"""What every parser of captions gives: the concepts that a caption mentions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

MAX_WORDS = 3  # of a noun phrase; of a longer compound the last ones


class Mention(NamedTuple):
    """One mention of a concept in a caption.

    name: the concept: lower case, its head singular, variants and synonyms merged.
    surface: as the caption wrote it, in lower case.
    merged_from: the name before a variant or synonym was merged into `name`; empty when none was.
    reason: why it is no concept; empty when it is one.
    """

    name: str
    surface: str
    merged_from: str = ""
    reason: str = ""


class Parser(Protocol):
    """Finds the concepts that captions mention.

    name: how tables and reports call it. folds: whether a rare compound counts as its shorter ending.
    """

    @property
    def name(self) -> str: ...

    @property
    def folds(self) -> bool: ...

    def mentions(self, captions: Iterable[str]) -> Iterator[list[Mention]]:
        """The mentions of each caption in its order, repeated ones repeated."""
        ...
