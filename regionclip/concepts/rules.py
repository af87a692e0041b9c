"""A parser of noun phrases that needs no trained model: word classes, rules of context, patterns of classes."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import spacy
from spacy.attrs import TAG
from spacy.matcher import Matcher
from spacy.tokens import Doc

from regionclip.concepts import lexicon
from regionclip.concepts.mentions import Mention
from regionclip.concepts.naming import Naming
from regionclip.concepts.words import (
    ADJECTIVE,
    ADJECTIVE_OR_NOUN,
    ADVERB,
    AUXILIARY,
    BREAK,
    CLASSES,
    COLOUR,
    COMPOUND_PARTICIPLE,
    CONJUNCTION,
    DETERMINER,
    LINKED,
    MODAL,
    MODIFIER,
    NOUN,
    NOUN_OR_VERB,
    PARTICIPLE,
    PERSON,
    PLURAL,
    PLURAL_DETERMINER,
    PLURAL_OR_VERB,
    PREPOSITION,
    PRONOUN,
    RARELY_NOUN,
    SINGULAR_DETERMINER,
    SUBJECT,
    TO,
    VERB,
    VERB_OR_NOUN,
    VERB_OR_PLURAL,
    singular,
    word_class,
)

# A noun phrase is a run of nouns; a person or a plural ends it.
PATTERNS = (
    [{"TAG": NOUN, "OP": "+"}],
    [{"TAG": NOUN, "OP": "*"}, {"TAG": PERSON}],
    [{"TAG": NOUN, "OP": "*"}, {"TAG": PLURAL}],
)

_BASE = frozenset((NOUN_OR_VERB, VERB_OR_NOUN))
_S_FORM = frozenset((PLURAL_OR_VERB, VERB_OR_PLURAL))
_MAYBE_ADJECTIVE = frozenset((ADJECTIVE_OR_NOUN, COLOUR))
_LINKING = frozenset((COMPOUND_PARTICIPLE, COLOUR))
_MAYBE_NOUN = frozenset((NOUN, PERSON, PLURAL)) | _MAYBE_ADJECTIVE | _BASE | _S_FORM
_DETERMINER = frozenset((DETERMINER, SINGULAR_DETERMINER, PLURAL_DETERMINER))
_OF_A_NOUN = _DETERMINER | {ADJECTIVE, MODIFIER}  # a noun follows
_OBJECT = _DETERMINER | {PRONOUN, SUBJECT}  # what follows a verb and no noun
_AFTER_A_VERB = _OBJECT | {PREPOSITION, ADVERB, PARTICIPLE, TO}
_ANY = None


class Rule(NamedTuple):
    """A word of the classes `word`, after a word of one of `after`, before one of `before`, is an `then`."""

    word: frozenset[str]
    after: frozenset[str] | None
    before: frozenset[str] | None
    then: str


def _set(*classes: str) -> frozenset[str]:
    return frozenset(classes)


# The first rule that fits decides. NOUN as outcome stands for the kind of noun that the form is.
RULES = (
    # "to": infinitive where a verb may follow
    Rule(_set(TO), _ANY, _BASE | {VERB, AUXILIARY}, MODAL),
    Rule(_set(TO), _ANY, _ANY, PREPOSITION),
    # -ing: "the frosting on it", but "the smiling man", "a man smiling"
    Rule(_set(PARTICIPLE), _set(DETERMINER), _set(PREPOSITION, AUXILIARY, BREAK), NOUN),
    Rule(_set(PARTICIPLE), _ANY, _ANY, VERB),
    # "a snow covered slope", "a lime green shirt", but "a slope covered in snow"
    Rule(_LINKING, _set(NOUN), _MAYBE_NOUN | {ADJECTIVE, MODIFIER}, LINKED),
    Rule(_set(COMPOUND_PARTICIPLE), _ANY, _ANY, VERB),
    # "an orange cat", "an orange", "a fire light"
    Rule(_set(ADJECTIVE_OR_NOUN), _set(NOUN), _ANY, NOUN),
    Rule(_MAYBE_ADJECTIVE, _ANY, _MAYBE_NOUN | {ADJECTIVE, MODIFIER}, ADJECTIVE),
    Rule(_MAYBE_ADJECTIVE, _ANY, _ANY, NOUN),
    # "on its back", "the back seat", "looks back"
    Rule(_set(RARELY_NOUN), _OF_A_NOUN | {PREPOSITION}, _set(NOUN, NOUN_OR_VERB, PLURAL_OR_VERB, PLURAL), ADJECTIVE),
    Rule(_set(RARELY_NOUN), _OF_A_NOUN | {PREPOSITION}, _ANY, NOUN),
    Rule(_set(RARELY_NOUN), _ANY, _ANY, VERB),
    # base forms: "to park", "people ski", "dogs chase a ball", "help the"
    Rule(_BASE, _set(MODAL, SUBJECT), _ANY, VERB),
    Rule(_BASE, _set(PLURAL_DETERMINER), _MAYBE_NOUN, NOUN),
    Rule(_BASE, _set(PLURAL_DETERMINER), _ANY, VERB),
    Rule(_BASE, _OF_A_NOUN, _ANY, NOUN),
    Rule(_BASE, _set(NOUN, BREAK, CONJUNCTION, ADVERB, AUXILIARY, VERB), _OBJECT, VERB),
    Rule(_set(NOUN_OR_VERB), _set(PLURAL, PERSON), _AFTER_A_VERB, VERB),
    Rule(_set(NOUN_OR_VERB), _ANY, _ANY, NOUN),
    Rule(_set(VERB_OR_NOUN), _set(PREPOSITION, NOUN, VERB, AUXILIARY), _ANY, NOUN),
    Rule(_set(VERB_OR_NOUN), _ANY, _ANY, VERB),
    # -s forms: "he parks", "another rides", "a boy bats the ball", "and paints the wall", "a dog plays on it"
    Rule(_S_FORM, _set(SUBJECT, SINGULAR_DETERMINER), _ANY, VERB),
    Rule(_S_FORM, _OF_A_NOUN | {PREPOSITION, VERB, AUXILIARY}, _ANY, NOUN),
    Rule(_S_FORM, _set(NOUN, PERSON, CONJUNCTION, ADVERB), _OBJECT, VERB),
    Rule(_set(VERB_OR_PLURAL), _set(CONJUNCTION, BREAK), _MAYBE_NOUN | {AUXILIARY, BREAK}, NOUN),
    Rule(_set(VERB_OR_PLURAL), _ANY, _ANY, VERB),
    Rule(_set(PLURAL_OR_VERB), _set(PERSON), _AFTER_A_VERB, VERB),
    Rule(_set(PLURAL_OR_VERB), _ANY, _ANY, NOUN),
)
_SETTLED_BY_RULES = frozenset().union(*(rule.word for rule in RULES))


_FIXED = lexicon.PHRASES | lexicon.VARIANTS.keys()
# "double-decker bus", "t - shirt", "snow - covered"; other hyphens between blanks are dashes
_HYPHEN = re.compile(
    rf"(?<=[^\W\d_])(?:-| - (?=(?:up|{'|'.join(sorted(lexicon.COMPOUND_PARTICIPLES))})\b)|(?<=\bt) - )(?=[^\W\d_])"
)


class RulesParser:
    """Finds the noun phrases of English captions by stated rules; its name in tables is 'rules'.

    attributes: whether a mention starts with the adjective directly before the compound, "red bus".
    """

    name = "rules"
    folds = True

    def __init__(self, naming: Naming | None = None, attributes: bool = False) -> None:
        nlp = spacy.blank("en")
        self._tokenizer = nlp.tokenizer
        self._attributes = attributes
        self._ids = {name: nlp.vocab.strings.add(name) for name in CLASSES}
        self._matcher = Matcher(nlp.vocab)
        self._matcher.add("noun phrase", list(PATTERNS), greedy="LONGEST")
        self._mention = functools.lru_cache(maxsize=1 << 16)((naming or Naming()).mention)

    def mentions(self, captions: Iterable[str]) -> Iterator[list[Mention]]:
        """The noun phrases of each caption in order, repeated ones repeated."""
        for caption in captions:
            yield self._mentions(_HYPHEN.sub(" ", " ".join(caption.lower().split())))

    def _mentions(self, text: str) -> list[Mention]:
        doc = self._tokenizer(text)
        words = [token.text for token in doc]
        classes = settle(words)
        doc.from_array(TAG, np.array([self._ids[name] for name in classes], dtype=np.uint64))
        spans = sorted(self._matcher(doc), key=lambda match: match[1])
        return [self._mention(tuple(words[start:end])) for _, start, end in spans]


def settle(words: Sequence[str]) -> list[str]:
    """The class of each word in its context."""
    raw = [*_classes(words), BREAK, BREAK]
    settled: list[str] = []
    previous = BREAK
    for position in range(len(words)):
        name, following = raw[position], raw[position + 1]
        if name in _SETTLED_BY_RULES:
            if name in _MAYBE_ADJECTIVE and following in (CONJUNCTION, VERB):
                following = raw[position + 2]  # "an orange and black cat", "an orange painted chair"
            name = _in_context(name, previous, following)
        if name == LINKED:
            _unname_last(settled)
        settled.append(name)
        if name != ADVERB or previous not in (SUBJECT, MODAL):  # "can only hope"
            previous = name
    return settled


def _classes(words: Sequence[str]) -> list[str]:
    """The classes of the words by themselves, those of fixed phrases as nouns."""
    classes = [word_class(word) for word in words]
    for position in range(1, len(words)):
        if f"{words[position - 1]} {singular(words[position])}" in _FIXED:
            classes[position - 1] = NOUN
            classes[position] = NOUN if singular(words[position]) == words[position] else PLURAL
    return classes


def _unname_last(settled: list[str]) -> None:
    """Make the compound at the end an adjective."""
    for position in range(len(settled) - 1, -1, -1):
        if settled[position] != NOUN:
            return
        settled[position] = ADJECTIVE


@functools.cache
def _in_context(word: str, previous: str, following: str) -> str:
    [rule, *_] = [
        rule
        for rule in RULES
        if word in rule.word
        and (rule.after is None or previous in rule.after)
        and (rule.before is None or following in rule.before)
    ]
    return PLURAL if rule.then == NOUN and word in _S_FORM else rule.then
