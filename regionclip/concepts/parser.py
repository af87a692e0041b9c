"""A parser of noun phrases that needs no trained model: word classes, a few rules of context, runs of nouns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import spacy

from regionclip.concepts import lexicon
from regionclip.concepts.words import (
    ADJECTIVE,
    ADJECTIVE_OR_NOUN,
    CONNECTIVE,
    DETERMINER,
    NOUN,
    NOUN_OR_VERB,
    PREPOSITION,
    PRESENT_PARTICIPLE,
    PRONOUN,
    TO,
    VERB,
    VERB_OR_NOUN,
    singular,
    word_class,
)

MAX_WORDS = 3
_NOUN_LIKE = frozenset((NOUN, NOUN_OR_VERB, VERB_OR_NOUN, ADJECTIVE_OR_NOUN))
_OPENS_OBJECT = frozenset((DETERMINER, PRONOUN))
_ENDING = lexicon.PERSONS | lexicon.PLURAL_ONLY | lexicon.SAME_PLURAL
_AMBIGUOUS = frozenset((NOUN_OR_VERB, VERB_OR_NOUN, ADJECTIVE_OR_NOUN, PRESENT_PARTICIPLE))


class Phrase(NamedTuple):
    """A head noun with its compound, as a name (lower case, singular) and as the caption wrote it (lower case)."""

    name: str
    surface: str


class RulesParser:
    """Finds the noun phrases of English captions; lasting state is only the tokenizer."""

    def __init__(self) -> None:
        self._tokenizer = spacy.blank("en").tokenizer

    def parse(self, caption: str) -> list[Phrase]:
        """The noun phrases of a caption in order, repeated ones repeated; of long compounds the last three words."""
        words = [token.text for token in self._tokenizer(caption.lower()) if not token.is_space]
        return [
            phrase for run in _noun_runs(words, _resolve(words)) if (phrase := _phrase(run)).name not in lexicon.DROPPED
        ]


class ConceptParser:
    """Finds which concepts of a pool a caption names.

    names: the pool; surface_forms: further ways to write a concept. A compound that is not in the pool counts
    as the longest of its endings that is: a 'kitchen table' is a 'table' where the pool has no kitchen tables.
    """

    def __init__(self, names: Iterable[str], surface_forms: Mapping[str, Sequence[str]] | None = None) -> None:
        self._parser = RulesParser()
        self._concepts: dict[str, str] = {}
        for name in names:
            for form in (name, normalize(name), *(surface_forms or {}).get(name, ())):
                self._concepts.setdefault(form, name)

    def concepts_of(self, caption: str) -> list[str]:
        """The concepts of the pool that a caption names, in order of first mention, each once."""
        found = (self._concept(phrase) for phrase in self._parser.parse(caption))
        return list(dict.fromkeys(concept for concept in found if concept is not None))

    def _concept(self, phrase: Phrase) -> str | None:
        names = (*endings(phrase.name), *endings(phrase.surface))
        return next((self._concepts[name] for name in names if name in self._concepts), None)


def normalize(name: str) -> str:
    """A name as the parser writes it: lower case, words parted by single blanks, the last one singular."""
    words = name.lower().replace("_", " ").split()
    return _name(words) if words else ""


def endings(name: str) -> list[str]:
    """The name and its shorter endings: 'fire hydrant cap', 'hydrant cap', 'cap'."""
    words = name.split(" ")
    return [" ".join(words[start:]) for start in range(len(words))]


def _resolve(words: Sequence[str]) -> list[str]:
    """The class letter of each word in its context."""
    raw = [*(word_class(word) for word in words), "", ""]
    resolved: list[str] = []
    for position, word in enumerate(words):
        if position and f"{words[position - 1]} {singular(word)}" in lexicon.PHRASES:
            resolved[-1] = NOUN
            resolved.append(NOUN)
        elif raw[position] in _AMBIGUOUS:
            resolved.append(_in_context(words, raw, position, resolved[-1] if resolved else ""))
        else:
            resolved.append(raw[position])
    return resolved


def _in_context(words: Sequence[str], raw: Sequence[str], position: int, previous: str) -> str:
    word, letter, following = words[position], raw[position], raw[position + 1]
    if letter == ADJECTIVE_OR_NOUN:
        one_of_two = following == CONNECTIVE and raw[position + 2] == ADJECTIVE  # "an orange and black cat"
        return ADJECTIVE if one_of_two or (following in _NOUN_LIKE and previous != NOUN) else NOUN
    if letter == PRESENT_PARTICIPLE:
        named = previous == DETERMINER and following not in _NOUN_LIKE and following != ADJECTIVE
        return NOUN if named else VERB
    base_form = not word.endswith("s")
    if previous == NOUN and base_form:
        after_single = not _ends_phrase(words[position - 1])  # "baseball bat", but "birds fly" and "a man fly"
        return NOUN if after_single or letter == NOUN_OR_VERB else VERB
    if letter == VERB_OR_NOUN:
        return NOUN if previous in (DETERMINER, ADJECTIVE, PREPOSITION) else VERB
    if previous == PRONOUN or (previous == TO and base_form):
        return VERB
    return VERB if previous == NOUN and following in _OPENS_OBJECT else NOUN


def _ends_phrase(noun: str) -> bool:
    """Whether no compound goes on after a noun: it is a person or a plural."""
    one = singular(noun)
    return one in _ENDING or (one != noun and noun != "sports")


def _noun_runs(words: Sequence[str], letters: Sequence[str]) -> Iterator[list[str]]:
    """Neighbouring nouns that make one phrase."""
    run: list[str] = []
    for word, letter in zip(words, letters, strict=True):
        if letter == NOUN:
            run.append(word)
        if run and (letter != NOUN or _ends_phrase(word)):
            yield run
            run = []
    if run:
        yield run


def _phrase(run: Sequence[str]) -> Phrase:
    words = run[-MAX_WORDS:]
    return Phrase(_name(words), " ".join(words))


def _name(words: Sequence[str]) -> str:
    head = singular(words[-1])
    if head == "glasses" and len(words) > 1 and words[-2] in lexicon.GLASSWARE:
        head = "glass"
    name = " ".join((*words[:-1], head))
    return lexicon.VARIANTS.get(name) or " ".join((*words[:-1], lexicon.VARIANTS.get(head, head)))
