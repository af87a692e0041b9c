"""What a single word can be, and its singular, from lemminflect's lexicon and the stated lists."""

from __future__ import annotations

import functools
import re

from lemminflect import getAllLemmas, getAllLemmasOOV

from regionclip.concepts import lexicon

# One letter a word class; the grammar of `regionclip.concepts.parser` is written in them.
DETERMINER, PREPOSITION, CONNECTIVE, PRONOUN, TO, BOUNDARY = "DPCRTO"
ADJECTIVE, NOUN, VERB = "ANV"
# Classes that the context has to settle.
ADJECTIVE_OR_NOUN, NOUN_OR_VERB, VERB_OR_NOUN, PRESENT_PARTICIPLE = "JBWG"

_WORD = re.compile(r"[^\W\d_]{2,}")
_UNKNOWN_ADJECTIVE = re.compile(r".+(less|ful|ous|ish|like|ed)")
_CLOSED = (
    (lexicon.DETERMINERS, DETERMINER),
    (lexicon.CONNECTIVES, CONNECTIVE),
    (lexicon.PRONOUNS, PRONOUN),
    (lexicon.AUXILIARIES, VERB),
    (lexicon.DROPPED, ADJECTIVE),
    (lexicon.PREPOSITIONS, PREPOSITION),
    (lexicon.MODIFIERS, ADJECTIVE),
    (lexicon.THINGS_ING | lexicon.PLURAL_ONLY | lexicon.IRREGULAR.keys() - {"ski"}, NOUN),
)


@functools.lru_cache(maxsize=1 << 18)
def word_class(word: str) -> str:
    """The class letter of a lower-case token, before its context is known."""
    if word == "to":
        return TO
    if word.isdecimal():
        return DETERMINER
    for words, letter in _CLOSED:
        if word in words:
            return letter
    if not _WORD.fullmatch(word):
        return BOUNDARY
    if singular(word) in lexicon.DROPPED:
        return ADJECTIVE
    return _open_class(word)


@functools.lru_cache(maxsize=1 << 18)
def singular(word: str) -> str:
    """The singular of a lower-case noun; things named in the plural (scissors) keep it."""
    if word in lexicon.PLURAL_ONLY:
        return word
    if word in lexicon.IRREGULAR:
        return lexicon.IRREGULAR[word]
    lemmas = getAllLemmas(word, "NOUN").get("NOUN")
    if lemmas is None and not getAllLemmas(word) and word.endswith("s"):
        lemmas = getAllLemmasOOV(word, "NOUN").get("NOUN")
    return lemmas[0] if lemmas else word


def _open_class(word: str) -> str:
    lemmas = getAllLemmas(word)
    if not lemmas:
        return ADJECTIVE if _UNKNOWN_ADJECTIVE.fullmatch(word) else NOUN
    if word in lexicon.ADJECTIVES_TOO:
        return ADJECTIVE_OR_NOUN
    verb = lemmas.get("VERB", (word,))[0]
    if word.endswith("ing") and verb != word:
        return PRESENT_PARTICIPLE
    if "NOUN" not in lemmas:
        return VERB if "VERB" in lemmas else ADJECTIVE
    if word.endswith(("ed", "en")) and verb != word and "VERB" in lemmas:
        return VERB
    if verb in lexicon.VERBS and "VERB" in lemmas:
        return VERB_OR_NOUN
    if "ADJ" in lemmas or word in lexicon.MATERIALS:
        return ADJECTIVE_OR_NOUN
    return NOUN_OR_VERB if "VERB" in lemmas else NOUN
