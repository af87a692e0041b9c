"""Which phrases of a family stand alone as concepts, and which count as a shorter ending of theirs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import groupby
from typing import TypeAlias

import pyarrow as pa

from regionclip.concepts.naming import endings

Groups: TypeAlias = Sequence[tuple[Sequence[str], int]]


@dataclass(frozen=True)
class Family:
    """The phrases that may count as `head`.

    groups: the phrases of the family that a caption mentions together, and how many captions do.
    start: phrase -> the name that it counts as before anything folds: its own, or the head if it is no concept.
    reasons: name -> why it is no concept, for those that are none.
    """

    head: str
    groups: Groups
    start: Mapping[str, str]
    reasons: Mapping[str, str]

    @property
    def num_captions(self) -> int:
        """Captions that mention any of its phrases; no name of it has a higher document frequency."""
        return sum(number for _, number in self.groups)


def families(groups: pa.Table, reasons: Mapping[str, str], listed: AbstractSet[str]) -> Iterator[Family]:
    """The families of a table of groups (`schemas.PHRASE_GROUPS`, sorted).

    reasons: phrase -> why it is no concept; `listed` names are concepts all the same.
    """
    columns = (groups[name].to_pylist() for name in ("head", "phrases", "document_frequency"))
    for head, rows in groupby(zip(*columns, strict=True), key=lambda row: row[0]):
        members = [(phrases, number) for _, phrases, number in rows]
        start = {phrase: phrase for phrases, _ in members for phrase in phrases}
        dropped: dict[str, str] = {}
        for phrase in start.keys() & reasons.keys():
            name = head if head in listed or head in reasons or head not in start else phrase
            start[phrase] = phrase if phrase in listed else name
            if start[phrase] not in listed:
                dropped[name] = min(reasons[phrase], dropped.get(name, reasons[phrase]))
        yield Family(head, members, start, dropped)


def fold(family: Family, least: int, listed: AbstractSet[str]) -> tuple[dict[str, str], Counter[str]]:
    """Phrase -> the name it counts as, and name -> document frequency, when names in fewer than `least` captions fold.

    The longest fold first, each into its next shorter ending, which may so become frequent enough; a frequent
    compound stands alone and does not count for its head. Neither `listed` names nor those with a reason fold.
    """
    names = dict(family.start)
    frequency = _document_frequency(family.groups, names)
    for num_words in range(max(map(_num_words, frequency)), 1, -1):
        rare = [name for name, number in frequency.items() if number < least and _num_words(name) == num_words]
        shorter = {
            name: endings(name)[1]
            for name in rare
            if name != family.head and name not in listed and name not in family.reasons
        }
        if shorter:
            names = {phrase: shorter.get(name, name) for phrase, name in names.items()}
            frequency = _document_frequency(family.groups, names)
    return names, frequency


def thresholds(highest: int) -> Iterator[int]:
    """1, 2, 5, 10, 20, 50, ... as far as `highest`."""
    power = 1
    while power <= highest:
        yield from (each for each in (power, 2 * power, 5 * power) if each <= highest)
        power *= 10


def _document_frequency(groups: Groups, names: Mapping[str, str]) -> Counter[str]:
    frequency: Counter[str] = Counter()
    for phrases, number in groups:
        for name in {names[phrase] for phrase in phrases}:
            frequency[name] += number
    return frequency


def _num_words(name: str) -> int:
    return name.count(" ") + 1
