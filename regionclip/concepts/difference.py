"""What changed between two concept pools: names, how often captions mention them, their order."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa


@dataclass(frozen=True)
class Entry:
    """A concept that one pool alone has, with its document frequency there."""

    concept: str
    document_frequency: int


@dataclass(frozen=True)
class Change:
    """A concept of both pools with a number of each: a document frequency, or a place counted from 1."""

    concept: str
    before: int
    after: int


@dataclass(frozen=True)
class Difference:
    """From one pool to another.

    added, removed: by falling document frequency. changed: document frequencies, the largest change first; None
    where one of the pools states none. moved: the fewest concepts whose moving gives the common ones the same
    order, by their place after.
    """

    concepts_before: int
    concepts_after: int
    added: tuple[Entry, ...]
    removed: tuple[Entry, ...]
    changed: tuple[Change, ...] | None
    moved: tuple[Change, ...]

    @property
    def is_empty(self) -> bool:
        """Whether both pools hold the same concepts in the same order, as often as they say."""
        return not (self.added or self.removed or self.changed or self.moved)


def difference(before: pa.Table, after: pa.Table) -> Difference:
    """Compare two tables with the columns concept and document_frequency, every concept once."""
    old, new = _frequencies(before), _frequencies(after)
    common = [name for name in old if name in new]
    changed = None
    if any(old.values()) == any(new.values()):
        changes = [Change(name, old[name], new[name]) for name in common if old[name] != new[name]]
        changed = tuple(sorted(changes, key=lambda change: (-abs(change.after - change.before), change.concept)))
    return Difference(
        len(old), len(new), _only_in(new, old), _only_in(old, new), changed, _moved(list(old), list(new), common)
    )


def _frequencies(pool: pa.Table) -> dict[str, int]:
    return dict(zip(pool["concept"].to_pylist(), pool["document_frequency"].to_pylist(), strict=True))


def _only_in(pool: dict[str, int], other: dict[str, int]) -> tuple[Entry, ...]:
    entries = [Entry(name, frequency) for name, frequency in pool.items() if name not in other]
    return tuple(sorted(entries, key=lambda entry: (-entry.document_frequency, entry.concept)))


def _moved(old: Sequence[str], new: Sequence[str], common: Sequence[str]) -> tuple[Change, ...]:
    old_place = {name: place for place, name in enumerate(old, 1)}
    new_place = {name: place for place, name in enumerate(new, 1)}
    staying = _longest_rising([new_place[name] for name in common])
    moved = [Change(name, old_place[name], new_place[name]) for name in common if new_place[name] not in staying]
    return tuple(sorted(moved, key=lambda change: change.after))


def _longest_rising(places: Sequence[int]) -> set[int]:
    """The numbers of one longest rising subsequence of different numbers."""
    ends: list[int] = []  # the smallest last number of a rising subsequence of each length
    previous: dict[int, int | None] = {}
    for place in places:
        length = bisect_left(ends, place)
        previous[place] = ends[length - 1] if length else None
        ends[length : length + 1] = [place]
    rising = set()
    last = ends[-1] if ends else None
    while last is not None:
        rising.add(last)
        last = previous[last]
    return rising
