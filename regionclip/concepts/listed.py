"""A user's own names, looked for in captions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import spacy
from spacy.tokens import Token

from regionclip.concepts.mentions import Mention
from regionclip.concepts.naming import Naming, cuts_fixed_name, singular_name


class ListParser:
    """Finds given names, word by word: in the singular and the plural, by their spelling variants and their synonyms.

    A mention has the name as it was given. Where several names begin at a word the longest is taken, and its words
    belong to no other. Words are matched, not senses: 'fly' is found in 'birds fly'; only a fixed name hides its head,
    so that 'dog' is not found in 'hot dog'. Of names that are written alike the first takes what they share.
    """

    name = "list"
    folds = False

    def __init__(self, names: Sequence[str], naming: Naming | None = None) -> None:
        self._tokenizer = spacy.blank("en").tokenizer
        self._found_as: dict[tuple[str, ...], tuple[str, str]] = {}
        self._add_forms(names, naming or Naming())
        self._lengths: defaultdict[str, set[int]] = defaultdict(set)
        for form in self._found_as:
            self._lengths[form[0]].add(len(form))

    def mentions(self, captions: Iterable[str]) -> Iterator[list[Mention]]:
        """The given names in each caption in order, repeated ones repeated."""
        for caption in captions:
            yield list(self._mentions(self._tokens(caption.lower())))

    def _mentions(self, tokens: Sequence[Token]) -> Iterator[Mention]:
        words = [token.text for token in tokens]
        start = 0
        while start < len(words):
            end, found = self._longest(words, start)
            if found:
                yield Mention(found[0], "".join(token.text_with_ws for token in tokens[start:end]).strip(), found[1])
            start = end

    def _longest(self, words: Sequence[str], start: int) -> tuple[int, tuple[str, str] | None]:
        """The end of the longest form that begins at `start`, and the name and merged name it stands for."""
        first = words[start]
        lengths = self._lengths.get(first, set()) | self._lengths.get(singular_name([first]), set())
        for length in sorted(lengths, reverse=True) if lengths and not cuts_fixed_name(words, start) else ():
            form = words[start : start + length]
            found = self._found_as.get(tuple(form)) or self._found_as.get(tuple(singular_name(form).split(" ")))
            if found:
                return start + length, found
        return start + 1, None

    def _add_forms(self, names: Sequence[str], naming: Naming) -> None:
        written = {name: self._words(name.lower().replace("_", " ")) for name in names}
        usual = {name: naming.name(words) for name, words in written.items()}
        for name, words in written.items():
            self._found_as.setdefault(tuple(words), (name, ""))
        for name, words in written.items():
            self._found_as.setdefault(tuple(singular_name(words).split(" ")), (name, ""))
        for name in names:
            for other in (usual[name], *naming.other_words(usual[name])):
                self._found_as.setdefault(tuple(self._words(other)), (name, other))

    def _words(self, text: str) -> list[str]:
        return [token.text for token in self._tokens(text)]

    def _tokens(self, text: str) -> list[Token]:
        return [token for token in self._tokenizer(text) if not token.is_space]
