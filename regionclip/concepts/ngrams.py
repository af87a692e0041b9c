"""All short runs of words as concepts, with no grammar."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import spacy
from spacy.lang.en.stop_words import STOP_WORDS

from regionclip.concepts import lexicon
from regionclip.concepts.mentions import MAX_WORDS, Mention
from regionclip.concepts.naming import Naming

_STOP_WORDS = frozenset(STOP_WORDS).union(
    lexicon.DETERMINERS, lexicon.PREPOSITIONS, lexicon.PRONOUNS, lexicon.SUBJECTS, lexicon.AUXILIARIES, lexicon.MODALS
)


class NgramsParser:
    """Finds every run of 1 to `max_words` neighbouring words that neither begins nor ends in a stop word.

    After the word n-grams of OWL-ST (arXiv 2306.09683), whose label space is made of the text of each image and takes
    runs of up to 10 words with little filtered. Here runs are shorter; none crosses a punctuation mark, or begins or
    ends in a stop word, a number or a single letter; and a run is named as a noun phrase is, its last word in the
    singular and spelling variants merged, so that it counts together with what other parsers find. A run whose last
    word is a frame word gets that reason. Every run counts for itself: none counts as its shorter ending.
    """

    name = "ngrams"
    folds = False

    def __init__(self, naming: Naming | None = None, max_words: int = MAX_WORDS) -> None:
        self._tokenizer = spacy.blank("en").tokenizer
        self._naming = naming or Naming()
        self._max_words = max_words

    def mentions(self, captions: Iterable[str]) -> Iterator[list[Mention]]:
        """The runs of each caption by their first word, the shortest first, repeated ones repeated."""
        for caption in captions:
            words = [token.text for token in self._tokenizer(caption.lower())]
            yield [self._naming.mention(run, max_words=self._max_words) for run in self._runs(words)]

    def _runs(self, words: Sequence[str]) -> Iterator[Sequence[str]]:
        for clause in _clauses(words):
            limits = [len(word) > 1 and word.isalpha() and word not in _STOP_WORDS for word in clause]
            starts = (start for start, limit in enumerate(limits) if limit)
            for start in starts:
                for end in range(start, min(start + self._max_words, len(clause))):
                    if limits[end]:
                        yield clause[start : end + 1]


def _clauses(words: Sequence[str]) -> Iterator[list[str]]:
    """Runs of neighbouring words and numbers, parted by all that is neither."""
    clause: list[str] = []
    for word in words:
        if word.isalpha() or word.isdecimal():
            clause.append(word)
        elif clause:
            yield clause
            clause = []
    if clause:
        yield clause
