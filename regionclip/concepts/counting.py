"""How often captions mention phrases: counts of a part of a corpus, as tables that add up to those of the whole.

A family is all phrases that may count as one another: those with the same shortest ending, its head. Families are
spread over `NUM_BUCKETS` buckets, so that a bucket can be reduced without the others.
"""

from __future__ import annotations

import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import pyarrow as pa

from regionclip.concepts.mentions import Mention, Parser
from regionclip.concepts.naming import endings
from regionclip.schemas import PHRASE_GROUPS, PHRASES

LIST = "list"  # name of the parser that looks for listed names; those never fold
NUM_BUCKETS = 32
NUM_EXAMPLES = 3
_TALLY_AT = 1 << 16  # mentions that wait to be counted in one go


def count_mentions(captions: Sequence[str], parsers: Sequence[Parser], first_row: int = 0) -> Counts:
    """What the parsers find in captions, the first of which is row `first_row` of the corpus.

    A name that several parsers find in a caption counts for one of them, the one that finds it most often.
    """
    seen: dict[str, set[str]] = {parser.name: set() for parser in parsers}
    alone = len(parsers) == 1
    counts = Counts(may_fold(parsers), dict.fromkeys(seen) if alone else seen)
    found = parsers[0].mentions(captions) if alone else _together(captions, parsers, seen)
    for row, (caption, mentions) in enumerate(zip(captions, found, strict=True), first_row):
        if mentions:
            counts.add(row, caption, mentions)
    counts.tally()
    return counts


def may_fold(parsers: Sequence[Parser]) -> bool:
    """Whether rare compounds count as their shorter endings: all parsers but that of listed names find noun phrases."""
    folds = [parser.folds for parser in parsers if parser.name != LIST]
    return bool(folds) and all(folds)


def bucket_of(head: str) -> int:
    """The bucket of a family."""
    return zlib.crc32(head.encode()) % NUM_BUCKETS


class Counts:
    """Counts of one part of a corpus.

    folds: whether phrases with one shortest ending are a family; else each is its own.
    parsers: name of each parser -> the names that it finds; None for all.
    """

    def __init__(self, folds: bool, parsers: Mapping[str, AbstractSet[str] | None]) -> None:
        self._heads = _Heads(folds)
        self._parsers = parsers
        self._mentions: Counter[Mention] = Counter()
        self._alone: Counter[str] = Counter()  # captions that mention this one of its family only
        self._groups: Counter[tuple[str, ...]] = Counter()
        self._examples: dict[str, list[tuple[int, str]]] = {}
        self._exemplified: set[str] = set()
        self._waiting: list[Mention] = []
        self._waiting_alone: list[str] = []

    @property
    def num_mentions(self) -> int:
        """Mentions of concepts, those with a reason against them left out."""
        return sum(number for mention, number in self._mentions.items() if not mention.reason)

    def add(self, row: int, caption: str, mentions: Sequence[Mention]) -> None:
        """Count the mentions of one caption; `tally` when all are added."""
        self._waiting += mentions
        names = {mention[0] for mention in mentions}
        if len(names) == 1 or len({self._heads[name] for name in names}) == len(names):
            self._waiting_alone += names
        else:
            families = defaultdict(list)
            for name in names:
                families[self._heads[name]].append(name)
            for family in families.values():
                if len(family) == 1:
                    self._waiting_alone += family
                else:
                    self._groups[tuple(sorted(family))] += 1
        for name in names - self._exemplified:
            self._exemplify(name, row, caption)
        if len(self._waiting) > _TALLY_AT:
            self.tally()

    def tally(self) -> None:
        """Bring the counts up to date."""
        self._mentions.update(self._waiting)
        self._alone.update(self._waiting_alone)
        self._waiting, self._waiting_alone = [], []

    def tables(self) -> Iterator[dict[str, pa.Table]]:
        """Bucket after bucket: 'groups' (`schemas.PHRASE_GROUPS`) and 'phrases' (`schemas.PHRASES`), sorted."""
        groups: list[list[tuple[str, Sequence[str], int]]] = [[] for _ in range(NUM_BUCKETS)]
        phrases: list[list[tuple[Any, ...]]] = [[] for _ in range(NUM_BUCKETS)]
        for family, number in (*(((name,), number) for name, number in self._alone.items()), *self._groups.items()):
            head = self._heads[family[0]]
            groups[bucket_of(head)].append((head, family, number))
        for row in self._phrase_rows():
            phrases[bucket_of(row[0])].append(row)
        for bucket in range(NUM_BUCKETS):
            yield {
                "groups": _table(sorted(groups[bucket]), PHRASE_GROUPS),
                "phrases": _table(sorted(phrases[bucket]), PHRASES),
            }

    def _exemplify(self, name: str, row: int, caption: str) -> None:
        examples = self._examples.setdefault(name, [])
        if all(caption != text for _, text in examples):
            examples.append((row, caption))
            if len(examples) == NUM_EXAMPLES:
                self._exemplified.add(name)

    def _phrase_rows(self) -> Iterator[tuple[Any, ...]]:
        by_name: defaultdict[str, list[tuple[Mention, int]]] = defaultdict(list)
        for mention, number in self._mentions.items():
            by_name[mention.name].append((mention, number))
        for name, counted in by_name.items():
            forms: dict[str, int] = {}
            merged: dict[str, int] = {}
            for mention, number in counted:
                forms[mention.surface] = forms.get(mention.surface, 0) + number
                if mention.merged_from:
                    merged[mention.merged_from] = merged.get(mention.merged_from, 0) + number
            yield (
                self._heads[name],
                name,
                sum(forms.values()),
                most_frequent(forms),
                most_frequent(merged),
                sorted(parser for parser, found in self._parsers.items() if found is None or name in found),
                self._examples[name],
                min(mention.reason for mention, _ in counted),
            )


def most_frequent(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """Names with their counts, by falling count, then by name."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


class _Heads(dict[str, str]):
    """Name -> head of its family, found at first use."""

    def __init__(self, folds: bool) -> None:
        self._folds = folds

    def __missing__(self, name: str) -> str:
        head = endings(name)[-1] if self._folds else name
        self[name] = head
        return head


def _together(
    captions: Sequence[str], parsers: Sequence[Parser], seen: Mapping[str, set[str]]
) -> Iterator[list[Mention]]:
    """The mentions that any parser finds in each caption; `seen` takes the names that each found."""
    names_seen = [seen[parser.name] for parser in parsers]
    for found in zip(*(parser.mentions(captions) for parser in parsers), strict=True):
        best: dict[str, list[Mention]] = {}
        for mentions, names in zip(found, names_seen, strict=True):
            own: defaultdict[str, list[Mention]] = defaultdict(list)
            for mention in mentions:
                own[mention[0]].append(mention)
            names.update(own)
            for name, same in own.items():
                if name not in best or _weight(same) > _weight(best[name]):
                    best[name] = same
        yield [mention for same in best.values() for mention in same]


def _weight(same: Sequence[Mention]) -> tuple[bool, int]:
    return not same[0].reason, len(same)


def _table(rows: Sequence[tuple[Any, ...]], schema: pa.Schema) -> pa.Table:
    if not rows:
        return schema.empty_table()
    arrays = [pa.array(column, field.type) for column, field in zip(zip(*rows, strict=True), schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)
