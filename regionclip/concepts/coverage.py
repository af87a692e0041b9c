"""How a concept pool covers the classes that someone wants to detect, and what it lacks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from regionclip.concepts.naming import endings, normalize
from regionclip.concepts.vocabularies import NOVEL_GROUPS, ClassName

State = Literal["same_name", "other_word", "surface_form", "compound", "lacking"]
STATES: tuple[State, ...] = get_args(State)
_NUM_COMPOUNDS = 4


@dataclass(frozen=True)
class Concept:
    """A row of the pool; forms: the ways captions write it; merged: names that were merged into it."""

    name: str
    document_frequency: int
    forms: Sequence[str] = ()
    merged: Sequence[str] = ()


@dataclass(frozen=True)
class ClassCoverage:
    """How a pool covers one class.

    state: 'same_name'; 'other_word' for the same thing; 'surface_form' of a concept with another name; 'compound':
    the class is only the ending of concepts ('ball' of 'tennis ball'); or 'lacking'.
    concept, document_frequency: what covers it, the most frequent where several do; None when lacking.
    why: the reason in words; empty for the same name.
    captions: of a lacking class the captions that name it, by its most used word; None when not counted.
    """

    name: str
    state: State
    concept: str | None = None
    document_frequency: int | None = None
    why: str = ""
    captions: int | None = None


class PoolIndex:
    """The concepts of a pool, found by name, by another form and by ending; of equals the most frequent first."""

    def __init__(self, concepts: Iterable[Concept]) -> None:
        ordered = sorted(concepts, key=lambda concept: (-concept.document_frequency, concept.name))
        self._named = {concept.name.lower(): concept for concept in reversed(ordered)}
        self._variants = {normalize(concept.name): concept for concept in reversed(ordered)}
        self._forms: dict[str, Concept] = {}
        self._compounds: dict[str, list[Concept]] = {}
        for concept in ordered:
            for form in _own_forms(concept):
                self._forms.setdefault(form, concept)
            for ending in endings(normalize(concept.name))[1:]:
                self._compounds.setdefault(ending, []).append(concept)

    def named(self, words: Iterable[str]) -> tuple[str, Concept] | None:
        """The most frequent concept with one of these names, beside that name."""
        return _most_frequent(words, self._named)

    def variant(self, words: Iterable[str]) -> tuple[str, Concept] | None:
        """The most frequent concept whose name is one of these once it is normalised, beside that name."""
        return _most_frequent(words, self._variants)

    def written(self, words: Iterable[str]) -> tuple[str, Concept] | None:
        """The most frequent concept that captions write in one of these ways, beside that way."""
        return _most_frequent(words, self._forms)

    def compounds(self, words: Iterable[str]) -> list[Concept]:
        """The concepts that end in one of these names, the most frequent first, each once."""
        found = {concept.name: concept for word in words for concept in self._compounds.get(word, ())}
        return sorted(found.values(), key=lambda concept: (-concept.document_frequency, concept.name))


def _own_forms(concept: Concept) -> list[str]:
    """Its forms, without those of compounds that were too rare and count for it: they name a narrower thing."""
    num_words = len(concept.name.split())
    return [*concept.merged, *(form for form in concept.forms if len(form.split()) <= num_words)]


def _most_frequent(words: Iterable[str], concepts: Mapping[str, Concept]) -> tuple[str, Concept] | None:
    found = ((word, concepts[word]) for word in words if word in concepts)
    return max(found, key=lambda pair: pair[1].document_frequency, default=None)


def cover(
    classes: Iterable[ClassName], pool: PoolIndex, captions_naming: Mapping[str, int] | None = None
) -> list[ClassCoverage]:
    """Each class in exactly one state, in the given order; captions_naming: name -> captions that name it."""
    return [_cover(name, pool, captions_naming) for name in classes]


def words_to_count(classes: Iterable[ClassName]) -> list[str]:
    """The names that `captions_naming` is asked for, sorted."""
    return sorted({word for name in classes for word in (*name.names, *name.other_words)})


def _cover(wanted: ClassName, pool: PoolIndex, captions_naming: Mapping[str, int] | None) -> ClassCoverage:
    names, others = wanted.names, wanted.other_words
    if found := pool.named(names):
        return _covered(wanted, "same_name", found[1], "")
    if found := pool.named(others):
        return _covered(wanted, "other_word", found[1], others[found[0]])
    if found := pool.variant(names):
        return _covered(wanted, "other_word", found[1], "a form that naming merges with the class name")
    if found := pool.written((*names, *others)):
        return _covered(wanted, "surface_form", found[1], f"captions write '{found[0]}' for it")
    if compounds := pool.compounds((*names, *wanted.other_forms)):
        shown = ", ".join(concept.name for concept in compounds[:_NUM_COMPOUNDS])
        more = f" and {len(compounds) - _NUM_COMPOUNDS} more" if len(compounds) > _NUM_COMPOUNDS else ""
        return _covered(wanted, "compound", compounds[0], f"the ending of {shown}{more}")
    wider = pool.named(endings(names[0])[1:]) if names else None  # '_' and '()' have no words
    captions = None
    if captions_naming is not None:
        captions = max((captions_naming.get(word, 0) for word in (*names, *others)), default=0)
    return ClassCoverage(
        wanted.name, "lacking", why=f"the pool has the wider '{wider[1].name}'" if wider else "", captions=captions
    )


def _covered(wanted: ClassName, state: State, concept: Concept, why: str) -> ClassCoverage:
    return ClassCoverage(wanted.name, state, concept.name, concept.document_frequency, why)


def count_states(rows: Iterable[ClassCoverage]) -> dict[State, int]:
    """Classes in each state, all states named."""
    counts = Counter(row.state for row in rows)
    return {state: counts[state] for state in STATES}


def num_covered(rows: Sequence[ClassCoverage]) -> int:
    """Classes that some concept covers."""
    return len(rows) - count_states(rows)["lacking"]


def leaked(groups: Mapping[str, Sequence[ClassCoverage]]) -> dict[str, list[ClassCoverage]]:
    """Of each novel group the classes that are covered: their names were seen in captions, if never with a box."""
    return {
        group: [row for row in rows if row.state != "lacking"]
        for group, rows in groups.items()
        if group in NOVEL_GROUPS
    }


def coverage_document(groups: Mapping[str, Sequence[ClassCoverage]]) -> dict[str, Any]:
    """The coverage of all groups, ready for JSON."""
    return {
        "groups": {
            group: {
                "classes": len(rows),
                "covered": num_covered(rows),
                "states": count_states(rows),
                "rows": [asdict(row) for row in rows],
            }
            for group, rows in groups.items()
        },
        "novel_in_pool": {group: [row.name for row in rows] for group, rows in leaked(groups).items()},
    }
