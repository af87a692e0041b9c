"""A parser of noun phrases that needs no trained model: word classes, a few rules of context, runs of nouns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import spacy

from regionclip.concepts import lexicon
from regionclip.concepts.words import (
    ADJECTIVE,
    ADJECTIVE_OR_NOUN,
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
    raw = [word_class(word) for word in words]
    raw.append("")
    resolved: list[str] = []
    previous = ""
    for position, word in enumerate(words):
        if position and f"{words[position - 1]} {singular(word)}" in lexicon.PHRASES:
            resolved[-1] = letter = NOUN
        else:
            letter = _in_context(word, raw[position], previous, raw[position + 1])
        resolved.append(letter)
        previous = letter
    return resolved


def _in_context(word: str, letter: str, previous: str, following: str) -> str:
    if letter == ADJECTIVE_OR_NOUN:
        return ADJECTIVE if following in _NOUN_LIKE and previous != NOUN else NOUN
    if letter == PRESENT_PARTICIPLE:
        named = previous == DETERMINER and following not in _NOUN_LIKE and following != ADJECTIVE
        return NOUN if named else VERB
    if letter == VERB_OR_NOUN:
        return NOUN if previous in (DETERMINER, ADJECTIVE, PREPOSITION) else VERB
    if letter == NOUN_OR_VERB:
        if previous in (PRONOUN, TO) and not word.endswith("s"):
            return VERB
        is_verb = previous == NOUN and word.endswith("s") and following in _OPENS_OBJECT
        return VERB if is_verb or previous == PRONOUN else NOUN
    return letter


def _noun_runs(words: Sequence[str], letters: Sequence[str]) -> Iterable[list[str]]:
    """Neighbouring nouns that make one phrase; a plural or a person ends it."""
    run: list[str] = []
    for word, letter in zip(words, letters, strict=True):
        if letter == NOUN:
            run.append(word)
            if singular(word) in lexicon.PERSONS or (singular(word) != word and word != "sports"):
                yield run
                run = []
        elif run:
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
