"""The concept pool: which phrases captions name often enough, and how often."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

import pyarrow as pa

from regionclip.concepts.parser import MAX_WORDS
from regionclip.schemas import CONCEPTS

NUM_SURFACE_FORMS = 10
NUM_EXAMPLES = 3

Mentions: TypeAlias = tuple[str, Sequence[str], Sequence[str]]  # caption, names of its phrases, as it wrote them


def build_pool(
    captions: Callable[[], Iterable[Mentions]], min_document_frequency: int, max_size: int | None
) -> pa.Table:
    """The pool of a corpus (`schemas.CONCEPTS`), by falling document frequency, then by name.

    A compound named in fewer than `min_document_frequency` captions counts as its shorter ending ('kitchen
    table' as 'table'); a frequent one is a concept of its own and does not count for its head. `captions` is
    called once a pass and must give the same captions each time.
    Raises ValueError when no concept is frequent enough.
    """
    heads = _rare_compounds(captions, min_document_frequency)
    frequency: Counter[str] = Counter()
    for _, phrases, _ in captions():
        frequency.update({_concept(phrase, heads) for phrase in phrases})
    kept = sorted((-number, name) for name, number in frequency.items() if number >= min_document_frequency)
    if not kept:
        most, number = max(frequency.items(), key=lambda item: (item[1], item[0]), default=("none", 0))
        raise ValueError(
            f"no concept is named in {min_document_frequency} captions or more, the most frequent is '{most}' with "
            f"{number}; lower min_document_frequency or give more captions"
        )
    return _describe([(name, -negative) for negative, name in kept[:max_size]], captions, heads)


def pool_of_names(names: Sequence[str]) -> pa.Table:
    """A pool of given names (`schemas.CONCEPTS`, in the given order) that no caption was counted for.

    Raises ValueError for an empty list, an empty name and a name that stands twice.
    """
    if not names:
        raise ValueError("names is empty; list at least one concept")
    seen: set[str] = set()
    for position, name in enumerate(names):
        if not name.strip():
            raise ValueError(f"name {position} is empty; give every concept a name")
        if name in seen:
            raise ValueError(f"'{name}' stands twice in names; list every concept once")
        seen.add(name)
    rows = [_row(name, 0, 0, (), ()) for name in names]
    return pa.Table.from_pylist(rows, schema=CONCEPTS)


def _rare_compounds(captions: Callable[[], Iterable[Mentions]], least: int) -> dict[str, str]:
    """Compound -> shorter ending, for each compound named in fewer than `least` captions; the longest first."""
    heads: dict[str, str] = {}
    for num_words in range(MAX_WORDS, 1, -1):
        frequency: Counter[str] = Counter()
        for _, phrases, _ in captions():
            named = {heads.get(phrase, phrase) for phrase in phrases}
            frequency.update(name for name in named if name.count(" ") == num_words - 1)
        for name, number in frequency.items():
            if number < least:
                heads[name] = name.partition(" ")[2]
    return heads


def _concept(phrase: str, heads: dict[str, str]) -> str:
    while phrase in heads:
        phrase = heads[phrase]
    return phrase


def _describe(
    kept: list[tuple[str, int]], captions: Callable[[], Iterable[Mentions]], heads: dict[str, str]
) -> pa.Table:
    names = {name for name, _ in kept}
    forms: defaultdict[str, Counter[str]] = defaultdict(Counter)
    examples: defaultdict[str, list[str]] = defaultdict(list)
    for caption, phrases, surface_forms in captions():
        for phrase, surface in zip(phrases, surface_forms, strict=True):
            name = _concept(phrase, heads)
            if name not in names:
                continue
            forms[name][surface] += 1
            if len(examples[name]) < NUM_EXAMPLES and caption not in examples[name]:
                examples[name].append(caption)
    rows = []
    for name, number in kept:
        by_count = sorted(forms[name].items(), key=lambda item: (-item[1], item[0]))
        written = [surface for surface, _ in by_count[:NUM_SURFACE_FORMS]]
        rows.append(_row(name, number, forms[name].total(), written, examples[name]))
    return pa.Table.from_pylist(rows, schema=CONCEPTS)


def _row(
    name: str, document_frequency: int, count: int, surface_forms: Sequence[str], examples: Sequence[str]
) -> dict[str, object]:
    return {
        "concept": name,
        "document_frequency": document_frequency,
        "count": count,
        "surface_forms": list(surface_forms),
        "examples": list(examples),
    }
