"""The concept pool: which of the counted phrases captions name often enough, and what is left out."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from regionclip.concepts.counting import LIST, NUM_EXAMPLES, most_frequent
from regionclip.concepts.folding import Family, families, fold, thresholds
from regionclip.concepts.merging import merge_groups, merge_phrases
from regionclip.concepts.naming import endings
from regionclip.schemas import CONCEPTS, DROPPED, THRESHOLDS

NUM_SURFACE_FORMS = 10
NUM_MOST_FREQUENT = 500
NUM_SAMPLED = 200
SAMPLE_SEED = 0


@dataclass(frozen=True)
class Pool:
    """The concepts (`schemas.CONCEPTS`) and what is said about the rest.

    thresholds: `schemas.THRESHOLDS`, 1, 2, 5, 10, ... up to the highest document frequency.
    dropped: `schemas.DROPPED`, of each reason the most frequent names and a sample of the further ones.
    totals: num_phrases that differ, and of the names left out num_rare, num_frame_words, num_beyond_max_size.
    """

    concepts: pa.Table
    thresholds: pa.Table = field(default_factory=THRESHOLDS.empty_table)
    dropped: pa.Table = field(default_factory=DROPPED.empty_table)
    totals: Mapping[str, int] = field(default_factory=dict)


def choose_concepts(
    buckets: Iterable[tuple[Iterable[pa.Table], Iterable[pa.Table]]],
    min_document_frequency: int,
    max_size: int | None = None,
    names: Sequence[str] = (),
) -> Pool:
    """The pool of a corpus from its counts: of each bucket all pieces of groups and all of phrases, in any order.

    Concepts stand by falling document frequency, then by name. A compound named in fewer than
    `min_document_frequency` captions counts as its shorter ending ('kitchen table' as 'table'); a frequent one is
    a concept of its own and does not count for its head. `names`, as parsers write them, are in the pool whatever
    their frequency, first of all within `max_size`, and never fold.
    Raises ValueError when no concept is frequent enough and none is named, and when `names` are more than `max_size`.
    """
    check_max_size(max_size, len(names))
    choice = _Choice(min_document_frequency, frozenset(names))
    for groups, phrases in buckets:
        choice.add(merge_groups(groups), merge_phrases(phrases))
    if not choice.rows and not names:
        number, most = choice.most_frequent
        raise ValueError(
            f"no concept is named in {min_document_frequency} captions or more, the most frequent is '{most}' with "
            f"{number}; lower min_document_frequency or give more captions"
        )
    return choice.pool(max_size)


def pool_of_names(names: Sequence[str]) -> Pool:
    """A pool of given names, in the given order, that no caption was counted for.

    Raises ValueError for an empty list, an empty name and a name that stands twice.
    """
    if not names:
        raise ValueError("names is empty; list at least one concept")
    check_names(names)
    return Pool(pa.Table.from_pylist([_described(name, 0, (), listed=True) for name in names], CONCEPTS))


def check_max_size(max_size: int | None, num_names: int) -> None:
    """Raise ValueError for a pool that cannot hold its listed names."""
    if max_size is not None and max_size < num_names:
        raise ValueError(f"max_size {max_size} is less than the {num_names} listed names; raise it")


def check_names(names: Sequence[str]) -> None:
    """Raise ValueError for an empty name and a name that stands twice."""
    seen: set[str] = set()
    for position, name in enumerate(names):
        if not name.strip():
            raise ValueError(f"name {position} is empty; give every concept a name")
        if name in seen:
            raise ValueError(f"'{name}' stands twice in names; list every concept once")
        seen.add(name)


def captions_naming(groups: Iterable[pa.Table], names: Iterable[str]) -> dict[str, int]:
    """Name -> captions with a phrase that is the name or ends in it, however rare; groups: those of all buckets."""
    counts = dict.fromkeys(names, 0)
    heads = {name: (name, endings(name)[-1]) for name in counts}
    wanted = pa.array(sorted({head for pair in heads.values() for head in pair}), pa.string())
    matches: dict[str, list[str]] = {}
    for piece in groups:
        rows = piece.filter(pc.is_in(piece["head"], wanted))
        columns = (rows[name].to_pylist() for name in ("head", "phrases", "document_frequency"))
        for head, phrases, number in zip(*columns, strict=True):
            for phrase in phrases:
                if phrase not in matches:
                    matches[phrase] = [name for name in endings(phrase) if name in counts]
            for name in {name for phrase in phrases for name in matches[phrase]}:
                if head in heads[name]:
                    counts[name] += number
    return counts


class _Choice:
    """Chooses among the families of bucket after bucket; keeps the concepts, and of the rest a bounded part."""

    def __init__(self, least: int, listed: frozenset[str]) -> None:
        self._least, self._listed = least, listed
        self.rows: list[dict[str, Any]] = []
        self.most_frequent = (0, "none")
        self._num_phrases = 0
        self._highest = 0
        self._sizes: Counter[int] = Counter()  # by threshold, without listed names
        self._rare = _Leftovers()
        self._no_concepts: defaultdict[str, _Leftovers] = defaultdict(_Leftovers)

    def add(self, groups: pa.Table, phrases: pa.Table) -> None:
        """Choose among the families of a bucket, from its merged groups and phrases."""
        all_phrases = phrases["phrase"].to_pylist()
        self._num_phrases += len(all_phrases)
        with_reasons = zip(all_phrases, phrases["reason"].to_pylist(), strict=True)
        no_concepts = {phrase: reason for phrase, reason in with_reasons if reason}
        names: dict[str, str] = {}
        frequency: dict[str, int] = {}
        reasons: dict[str, str] = {}
        for family in families(groups, no_concepts, self._listed):
            self._add_sizes(family)
            folded, numbers = fold(family, self._least, self._listed)
            names.update(folded)
            frequency.update(numbers)
            reasons.update(family.reasons)
        counts: Counter[str] = Counter()
        for phrase, count in zip(all_phrases, phrases["count"].to_pylist(), strict=True):
            counts[names[phrase]] += count
        kept = {name for name, number in frequency.items() if self._keeps(name, number, reasons)}
        self._describe(kept, frequency, names, phrases)
        for name, number in frequency.items():
            if name not in reasons:
                self.most_frequent = max(self.most_frequent, (number, name))
            if name not in kept:
                leftovers = self._no_concepts[reasons[name]] if name in reasons else self._rare
                leftovers.add(name, number, counts[name])

    def pool(self, max_size: int | None) -> Pool:
        """What was chosen from all buckets."""
        found = {row["concept"] for row in self.rows}
        unseen = [_described(name, 0, (), listed=True) for name in self._listed - found]
        rows = sorted((*self.rows, *unseen), key=lambda row: (-row["document_frequency"], row["concept"]))
        beyond = _Leftovers()
        if max_size is not None:
            others = [row for row in rows if row["concept"] not in self._listed]
            too_many = others[max_size - len(self._listed) :]
            for row in too_many:
                beyond.add(row["concept"], row["document_frequency"], row["count"])
            left_out = {row["concept"] for row in too_many}
            rows = [row for row in rows if row["concept"] not in left_out]
        curve = [
            {"min_document_frequency": least, "concepts": self._sizes[least] + len(self._listed)}
            for least in thresholds(self._highest)
        ]
        dropped = [row for reason, each in sorted(self._no_concepts.items()) for row in each.rows(reason)]
        dropped += self._rare.rows(f"in fewer than {self._least} captions")
        dropped += beyond.rows("beyond max_size")
        totals = {
            "num_phrases": self._num_phrases,
            "num_rare": self._rare.number,
            "num_frame_words": sum(each.number for each in self._no_concepts.values()),
            "num_beyond_max_size": beyond.number,
        }
        return Pool(
            pa.Table.from_pylist(rows, CONCEPTS),
            pa.Table.from_pylist(curve, THRESHOLDS),
            pa.Table.from_pylist(dropped, DROPPED),
            totals,
        )

    def _add_sizes(self, family: Family) -> None:
        for least in thresholds(family.num_captions):
            _, frequency = fold(family, least, self._listed)
            enough = [name for name, number in frequency.items() if number >= least and name not in family.reasons]
            self._sizes[least] += sum(name not in self._listed for name in enough)
            if enough:
                self._highest = max(self._highest, least)

    def _keeps(self, name: str, number: int, reasons: Mapping[str, str]) -> bool:
        return name in self._listed or (number >= self._least and name not in reasons)

    def _describe(
        self, kept: set[str], frequency: Mapping[str, int], names: Mapping[str, str], phrases: pa.Table
    ) -> None:
        members: dict[str, list[dict[str, Any]]] = {name: [] for name in sorted(kept)}
        rows = [row for row, phrase in enumerate(phrases["phrase"].to_pylist()) if names[phrase] in kept]
        for phrase in phrases.take(pa.array(rows, pa.int64())).to_pylist():
            members[names[phrase["phrase"]]].append(phrase)
        for name, own in members.items():
            self.rows.append(_described(name, frequency[name], own, name in self._listed))


class _Leftovers:
    """Names left out for one reason: the most frequent ones and a sample of the others, drawn by hash."""

    def __init__(self) -> None:
        self.number = 0
        self._most_frequent: list[tuple[int, str, int]] = []  # document frequency below zero, name, count
        self._sampled: list[tuple[bytes, tuple[int, str, int]]] = []

    def add(self, name: str, document_frequency: int, count: int) -> None:
        self.number += 1
        self._most_frequent.append((-document_frequency, name, count))
        if len(self._most_frequent) >= 2 * NUM_MOST_FREQUENT:
            self._trim()

    def rows(self, reason: str) -> Iterator[dict[str, Any]]:
        """Rows of `schemas.DROPPED`, the sampled ones last, both by falling document frequency, then by name."""
        self._trim()
        for sampled, group in ((False, self._most_frequent), (True, sorted(row for _, row in self._sampled))):
            for negative, name, count in group:
                yield {
                    "name": name,
                    "document_frequency": -negative,
                    "count": count,
                    "reason": reason,
                    "sampled": sampled,
                }

    def _trim(self) -> None:
        self._most_frequent.sort()
        for row in self._most_frequent[NUM_MOST_FREQUENT:]:
            self._sampled.append((hashlib.sha256(f"{row[1]}{SAMPLE_SEED}".encode()).digest(), row))
        del self._most_frequent[NUM_MOST_FREQUENT:]
        self._sampled.sort()
        del self._sampled[NUM_SAMPLED:]


def _described(
    name: str, document_frequency: int, phrases: Sequence[Mapping[str, Any]], listed: bool
) -> dict[str, Any]:
    """The row of a concept (`schemas.CONCEPTS`) that these phrases (rows of `schemas.PHRASES`) count as."""
    forms: Counter[str] = Counter()
    merged: Counter[str] = Counter()
    for phrase in phrases:
        forms.update({form["name"]: form["count"] for form in phrase["surface_forms"]})
        if phrase["phrase"] == name:
            merged.update({other["name"]: other["count"] for other in phrase["merged_from"]})
    examples = sorted((example["row"], example["caption"]) for phrase in phrases for example in phrase["examples"])
    captions = dict.fromkeys(caption for _, caption in examples)
    parsers = {parser for phrase in phrases for parser in phrase["parsers"]} | ({LIST} if listed else set())
    return {
        "concept": name,
        "document_frequency": document_frequency,
        "count": sum(phrase["count"] for phrase in phrases),
        "surface_forms": [form for form, _ in most_frequent(forms)[:NUM_SURFACE_FORMS]],
        "examples": list(captions)[:NUM_EXAMPLES],
        "merged_from": [other for other, _ in most_frequent(merged)],
        "parser": "+".join(sorted(parsers)),
    }
