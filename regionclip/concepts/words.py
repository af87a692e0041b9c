"""What a single word can be, and its singular, from lemminflect's lexicon and the stated lists."""

from __future__ import annotations

import functools
import re

from lemminflect import getAllLemmas, getAllLemmasOOV

from regionclip.concepts import lexicon

# Word classes. Nouns are of three: those after which a compound may go on, persons and plurals, after which none does.
NOUN, PERSON, PLURAL = "noun", "person", "plural"
ADJECTIVE, MODIFIER, VERB, ADVERB = "adjective", "modifier", "verb", "adverb"
DETERMINER, SINGULAR_DETERMINER, PLURAL_DETERMINER = "determiner", "singular determiner", "plural determiner"
PREPOSITION, CONJUNCTION = "preposition", "conjunction"
SUBJECT, RELATIVE, PRONOUN = "subject", "relative", "pronoun"
AUXILIARY, MODAL, BREAK = "auxiliary", "modal", "break"
# Classes that the context settles; of two the likelier first, -s forms (plural or third person) apart.
NOUN_OR_VERB, VERB_OR_NOUN = "noun or verb", "verb or noun"
PLURAL_OR_VERB, VERB_OR_PLURAL = "plural or verb", "verb or plural"
ADJECTIVE_OR_NOUN, COLOUR, RARELY_NOUN = "adjective or noun", "colour", "rarely noun"
PARTICIPLE, PARTICIPLE_OR_NOUN, COMPOUND_PARTICIPLE = "participle", "participle or noun", "compound participle"
TO = "to"

_WORD = re.compile(r"[^\W\d_]{2,}\.?")
_UNKNOWN_ADJECTIVE = re.compile(r".+(less|ful|ous|ish|like|ed|est|able|ible)")
_ADJECTIVE_ENDING = re.compile(r".{2,}(al|ic|ous|ive|ary|ory|ant|ent|ese|less|ful|ish|able|ible|ian|ile|some|ern|ar)")


def _listed() -> dict[str, str]:
    """Word -> class for the stated lists; of several the last one counts."""
    lists = (
        (lexicon.PREPOSITIONS, PREPOSITION),
        (lexicon.ADJECTIVES, ADJECTIVE),
        (lexicon.ADJECTIVES_TOO, ADJECTIVE_OR_NOUN),
        (lexicon.COLOURS, COLOUR),
        (lexicon.MODIFIERS, MODIFIER),
        (lexicon.ADVERBS, ADVERB),
        (lexicon.PAST_FORMS, VERB),
        (lexicon.RARELY_NOUNS, RARELY_NOUN),
        (lexicon.COMPOUND_PARTICIPLES, COMPOUND_PARTICIPLE),
        (lexicon.THINGS_ING_TOO, PARTICIPLE_OR_NOUN),
        (lexicon.PERSONS, PERSON),
        (lexicon.SAME_PLURAL | lexicon.PLURAL_ONLY, PLURAL),
        (lexicon.NOUNS | lexicon.THINGS_ING | lexicon.PLURAL_MODIFIERS, NOUN),
        (lexicon.DETERMINERS, DETERMINER),
        (lexicon.SINGULAR_DETERMINERS, SINGULAR_DETERMINER),
        (lexicon.PLURAL_DETERMINERS, PLURAL_DETERMINER),
        (lexicon.CONJUNCTIONS, CONJUNCTION),
        (lexicon.PRONOUNS, PRONOUN),
        (lexicon.SUBJECTS, SUBJECT),
        (lexicon.RELATIVES, RELATIVE),
        (lexicon.AUXILIARIES, AUXILIARY),
        (lexicon.MODALS, MODAL),
        (lexicon.BREAKS, BREAK),
        (("to",), TO),
    )
    return {word: name for words, name in lists for word in words}


_LISTED = _listed()


@functools.lru_cache(maxsize=1 << 18)
def word_class(word: str) -> str:
    """The class of a lower-case token, before its context is known."""
    if word in _LISTED:
        return _LISTED[word]
    if word[0].isdecimal():
        return DETERMINER
    if not _WORD.fullmatch(word):
        return BREAK
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
    noun = NOUN if singular(word) == word or singular(word) in lexicon.PLURAL_ONLY else PLURAL  # "ski" is singular
    if not lemmas:
        return ADJECTIVE if _UNKNOWN_ADJECTIVE.fullmatch(word) else noun
    verb = lemmas.get("VERB", (word,))[0]
    if word.endswith("ing") and verb != word:
        return PARTICIPLE
    if "NOUN" not in lemmas:
        return VERB if "VERB" in lemmas else ADVERB if "ADV" in lemmas and "ADJ" not in lemmas else ADJECTIVE
    if word.endswith(("ed", "en")) and verb != word and "VERB" in lemmas:
        return VERB
    if "ADJ" in lemmas and _ADJECTIVE_ENDING.fullmatch(word):
        return ADJECTIVE_OR_NOUN
    if "VERB" not in lemmas:
        return noun
    if verb in lexicon.RARELY_NOUNS:
        return RARELY_NOUN
    if noun == PLURAL or (word.endswith("s") and verb != word):
        return VERB_OR_PLURAL if verb in lexicon.VERBS else PLURAL_OR_VERB
    return VERB_OR_NOUN if verb in lexicon.VERBS else NOUN_OR_VERB
