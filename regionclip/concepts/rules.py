"""A parser of noun phrases that needs no trained model: word classes, rules of context, patterns of classes."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import spacy
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
    COLOUR,
    COMPOUND_PARTICIPLE,
    CONJUNCTION,
    DETERMINER,
    MODAL,
    MODIFIER,
    NOUN,
    NOUN_OR_VERB,
    PARTICIPLE,
    PARTICIPLE_OR_NOUN,
    PERSON,
    PLURAL,
    PLURAL_DETERMINER,
    PLURAL_OR_VERB,
    PREPOSITION,
    PRONOUN,
    RARELY_NOUN,
    RELATIVE,
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
ATTRIBUTE = {"TAG": ADJECTIVE, "OP": "?"}  # before each pattern where attributes are wanted

_BASE = frozenset((NOUN_OR_VERB, VERB_OR_NOUN))
_S_FORM = frozenset((PLURAL_OR_VERB, VERB_OR_PLURAL))
_MAYBE_ADJECTIVE = frozenset((ADJECTIVE_OR_NOUN, COLOUR))
_LINKING = frozenset((COMPOUND_PARTICIPLE, COLOUR))
_MAYBE_NOUN = frozenset((NOUN, PERSON, PLURAL)) | _MAYBE_ADJECTIVE | _BASE | _S_FORM | {PARTICIPLE_OR_NOUN}
_DETERMINER = frozenset((DETERMINER, SINGULAR_DETERMINER, PLURAL_DETERMINER))
_OF_A_NOUN = _DETERMINER | {ADJECTIVE, MODIFIER}  # a noun follows
_OBJECT = _DETERMINER | {PRONOUN, SUBJECT}  # what follows a verb and no noun
_AFTER_A_VERB = _OBJECT | {PREPOSITION, ADVERB, PARTICIPLE, TO}
_ANY = None
_LINKED = "linked"  # outcome: an adjective that takes the compound before it along


class Rule(NamedTuple):
    """A word of one of the classes `word` after one of `after` and before one of `before` is of the class `then`."""

    word: frozenset[str]
    after: frozenset[str] | None
    before: frozenset[str] | None
    then: str


def _set(*classes: str) -> frozenset[str]:
    return frozenset(classes)


# The first rule that fits decides. NOUN as outcome stands for the kind of noun that the form is.
RULES = (
    # "to": "next to water", "to park", "to the park"
    Rule(_set(TO), _set(MODIFIER, PREPOSITION, ADVERB), _set(NOUN_OR_VERB), PREPOSITION),
    Rule(_set(TO), _ANY, _BASE | {RARELY_NOUN, VERB, AUXILIARY}, MODAL),
    Rule(_set(TO), _ANY, _ANY, PREPOSITION),
    # -ing: "the frosting on it", but "the smiling man", "a man smiling"
    Rule(_set(PARTICIPLE), _set(DETERMINER), _set(PREPOSITION, AUXILIARY, BREAK), NOUN),
    Rule(_set(PARTICIPLE), _ANY, _ANY, VERB),
    Rule(_set(PARTICIPLE_OR_NOUN), _ANY, _OBJECT, VERB),
    Rule(_set(PARTICIPLE_OR_NOUN), _set(AUXILIARY, PERSON, PLURAL), _ANY, VERB),
    Rule(_set(PARTICIPLE_OR_NOUN), _ANY, _ANY, NOUN),
    # "a snow covered slope", "a lime green shirt", but "a slope covered in snow"
    Rule(_LINKING, _set(NOUN), _MAYBE_NOUN | {ADJECTIVE, MODIFIER}, _LINKED),
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
    Rule(_BASE, _set(MODAL, SUBJECT, RELATIVE), _ANY, VERB),
    Rule(_BASE, _set(PLURAL_DETERMINER), _MAYBE_NOUN, NOUN),
    Rule(_BASE, _set(PLURAL_DETERMINER), _ANY, VERB),
    Rule(_BASE, _OF_A_NOUN, _ANY, NOUN),
    Rule(_BASE, _set(NOUN, BREAK, CONJUNCTION, ADVERB, AUXILIARY, VERB), _OBJECT, VERB),
    Rule(_set(NOUN_OR_VERB), _set(PLURAL, PERSON), _AFTER_A_VERB, VERB),
    Rule(_set(NOUN_OR_VERB), _ANY, _ANY, NOUN),
    Rule(_set(VERB_OR_NOUN), _set(BREAK), _set(BREAK), NOUN),  # "a cup, drink, plate"
    Rule(_set(VERB_OR_NOUN), _set(PREPOSITION, NOUN, VERB, AUXILIARY), _ANY, NOUN),
    Rule(_set(VERB_OR_NOUN), _ANY, _ANY, VERB),
    # -s forms: "he parks", "another rides", "the parks", "a dog eyes the ball", "waves crash", "a dog plays on it"
    Rule(_S_FORM, _set(SUBJECT, RELATIVE, SINGULAR_DETERMINER, PERSON), _ANY, VERB),
    Rule(_S_FORM, _OF_A_NOUN | {PREPOSITION, VERB, AUXILIARY}, _ANY, NOUN),
    Rule(_S_FORM, _set(NOUN, CONJUNCTION, ADVERB), _OBJECT, VERB),
    Rule(_set(VERB_OR_PLURAL), _set(CONJUNCTION, BREAK), _BASE | {AUXILIARY}, NOUN),
    Rule(_set(VERB_OR_PLURAL), _ANY, _ANY, VERB),
    Rule(_set(PLURAL_OR_VERB), _ANY, _ANY, NOUN),
)
_REMEMBERED = 1 << 16  # stretches of text, and runs of classes, that are kept as parsed; captions repeat few often
_PHRASE_STARTS = frozenset(phrase.partition(" ")[0] for phrase in lexicon.PHRASES)
_SETTLED_BY_RULES = frozenset().union(*(rule.word for rule in RULES))

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
        self._vocab, self._tokenizer = nlp.vocab, nlp.tokenizer
        patterns = [[ATTRIBUTE, *pattern] for pattern in PATTERNS] if attributes else list(PATTERNS)
        self._in_phrases = frozenset(token["TAG"] for pattern in patterns for token in pattern)
        self._matcher = Matcher(self._vocab)
        self._matcher.add("noun phrase", patterns, greedy="LONGEST")
        self._words = functools.lru_cache(_REMEMBERED)(self._split)
        self._phrases = functools.lru_cache(_REMEMBERED)(self._match)
        self._naming = naming or Naming()

    def mentions(self, captions: Iterable[str]) -> Iterator[list[Mention]]:
        """The noun phrases of each caption in order, repeated ones repeated."""
        for caption in captions:
            text = caption.lower()
            yield list(self._mentions(_HYPHEN.sub(" ", " ".join(text.split())) if "-" in text else text))

    def _mentions(self, text: str) -> Iterator[Mention]:
        words = [word for stretch in text.split() for word in self._words(stretch)]
        start = 0
        for is_phrase, run in itertools.groupby(settle(words), self._in_phrases.__contains__):
            classes = tuple(run)
            for first, end in self._phrases(classes) if is_phrase else ():
                yield self._mention(words[start + first : start + end], classes[first])
            start += len(classes)

    def _split(self, stretch: str) -> list[str]:
        """The words, numbers and marks of text without a blank."""
        return [token.text for token in self._tokenizer(stretch)]

    def _match(self, classes: tuple[str, ...]) -> list[tuple[int, int]]:
        """Start and end of the phrases in neighbouring words of these classes, all of which phrases are made of."""
        doc = Doc(self._vocab, words=list(classes), tags=list(classes))
        return sorted((start, end) for _, start, end in self._matcher(doc))

    def _mention(self, words: list[str], first: str) -> Mention:
        if first == ADJECTIVE:
            return self._naming.mention(words[1:], attribute=words[0])
        return self._naming.mention(words)


def settle(words: Sequence[str]) -> list[str]:
    """The class of each word in its context."""
    raw = [*_classes(words), BREAK, BREAK]
    settled: list[str] = []
    previous = BREAK
    for position in range(len(words)):
        name, following = raw[position], raw[position + 1]
        if name in _SETTLED_BY_RULES:
            if name in _MAYBE_ADJECTIVE:
                following = _seen_by_adjective(following, raw[position + 2])
            name = _in_context(name, previous, following)
        if name == _LINKED:
            _unname_last(settled)
            name = ADJECTIVE if raw[position] == COLOUR else VERB
        settled.append(name)
        if name != ADVERB or previous not in (SUBJECT, MODAL):  # "can only hope"
            previous = name
    return settled


def _classes(words: Sequence[str]) -> list[str]:
    """The classes of the words by themselves, those of fixed phrases as nouns."""
    classes = [word_class(word) for word in words]
    for first, (word, last) in enumerate(itertools.pairwise(words)):
        if word in _PHRASE_STARTS and f"{word} {singular(last)}" in lexicon.PHRASES:
            classes[first] = NOUN
            classes[first + 1] = NOUN if singular(last) == last else PLURAL
    return classes


def _seen_by_adjective(following: str, second: str) -> str:
    """What follows an adjective as far as its noun goes: "an orange and black cat", "an orange painted chair"."""
    joined = following in (CONJUNCTION, BREAK) and (second == ADJECTIVE or second in _MAYBE_ADJECTIVE)
    return second if joined or following == VERB else following


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
