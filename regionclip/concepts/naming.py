"""From the words of a noun phrase to the name of its concept."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

from regionclip.concepts import lexicon
from regionclip.concepts.mentions import MAX_WORDS, Mention
from regionclip.concepts.words import singular

FRAME_WORD = "frame word"
_LONGEST_FIXED = 1 + max(name.count(" ") for name in lexicon.FIXED_NAMES)
_REMEMBERED = 1 << 16  # phrases whose mention is kept; captions repeat few phrases often


class Naming:
    """Names noun phrases, with spelling variants and a user's synonyms merged.

    synonyms: concept -> other words for it. They replace a whole name, or else its longest ending: with 'plane' for
    'airplane' a 'passenger plane' is a 'passenger airplane'. An ending that the concept itself ends in stays: with
    'phone' for 'cell phone' a 'pay phone' stays one. A concept that is a spelling variant names all its spellings:
    'television' as a concept of synonyms takes what is else named 'tv'. No concept of the synonyms is a frame word.
    Raises ValueError for a word of two concepts, for synonyms in a circle and for an empty one.
    """

    def __init__(self, synonyms: Mapping[str, Sequence[str]] | None = None) -> None:
        self._spelling = {word: name for word, name in lexicon.VARIANTS.items() if " " not in word}
        self._merged, self._given = self._with_synonyms(synonyms or {})
        self._known = functools.lru_cache(_REMEMBERED)(self._mention)

    def mention(self, words: Sequence[str], attribute: str = "", max_words: int = MAX_WORDS) -> Mention:
        """The mention that a compound and its head (lower case, head last) make; of long ones the last words.

        attribute: an adjective before the compound, which becomes the first word of the name; 'red' and 'double
        decker bus' make 'red double decker bus', whose endings are the compound and the head. As frequent compounds
        do, a frequent attributed name stands alone, and its captions do not count for the plain one.
        """
        if attribute and len(words) <= max_words:
            return self._known((attribute, *words))
        return self._known(tuple(words[-max_words:]))

    def name(self, words: Sequence[str]) -> str:
        """The name of the concept that all these words (lower case, head last) make."""
        return self._merge(self._plain(words))

    def other_words(self, name: str) -> list[str]:
        """The names that are merged into a name, sorted."""
        return sorted(word for word, merged in self._merged.items() if merged == name)

    def _mention(self, words: tuple[str, ...]) -> Mention:
        plain, name = singular_name(words), self.name(words)
        reason = "" if self._is_concept(name) else FRAME_WORD
        return Mention(name, " ".join(words), plain if name != plain else "", reason)

    def _plain(self, words: Sequence[str]) -> str:
        """The singular with every word but the last in its usual spelling."""
        *compound, head = singular_name(words).split(" ")
        return " ".join((*(self._spelling.get(word, word) for word in compound), head))

    def _merge(self, name: str) -> str:
        """The name with its longest merged ending replaced, until none is left."""
        while ending := _merged_ending(name, self._merged):
            name = name.removesuffix(ending) + self._merged[ending]
        return name

    def _is_concept(self, name: str) -> bool:
        shorter = endings(name)
        return shorter[-1] not in lexicon.DROPPED or not self._given.isdisjoint(shorter)

    def _with_synonyms(self, synonyms: Mapping[str, Sequence[str]]) -> tuple[dict[str, str], frozenset[str]]:
        """Every merged name -> what it is merged into in the end, and the concepts of the synonyms."""
        given: dict[str, str] = {}
        concepts = {concept: self._plain(_words(concept, "concept of synonyms")) for concept in synonyms}
        for concept, others in synonyms.items():
            for other in others:
                word = self._plain(_words(other, f"synonym of '{concept}'"))
                if given.setdefault(word, concepts[concept]) != concepts[concept]:
                    raise ValueError(
                        f"synonyms: '{other}' stands for '{given[word]}' and for '{concept}'; list it under one of them"
                    )
        merged = {self._plain(word.split(" ")): name for word, name in lexicon.VARIANTS.items()} | lexicon.VARIANTS
        spellings = set(lexicon.VARIANTS)
        for concept in concepts.values():
            usual = merged.pop(concept, None)
            if usual is not None:
                merged.setdefault(usual, concept)
                spellings.add(usual)
        merged |= {word: concept for word, concept in given.items() if word != concept}
        final = {word: _followed(word, merged) for word in merged}
        self._spelling = {word: final[word] for word in spellings & final.keys() if " " not in word}
        return final, frozenset(concepts.values())


def normalize(name: str) -> str:
    """A name as parsers write it: lower case, words parted by single blanks, the last one singular; '' for none."""
    words = _split(name)
    return _usual().name(words) if words else ""


def endings(name: str) -> list[str]:
    """The name and its shorter endings, the longest first: 'fire hydrant cap', 'hydrant cap', 'cap'.

    A fixed name that is not a kind of its head stays whole: 'hot dog' has no ending 'dog', 'hot dog bun' has 'bun'.
    """
    words = name.split(" ")
    return [" ".join(words[start:]) for start in range(len(words)) if not cuts_fixed_name(words, start)]


def cuts_fixed_name(words: Sequence[str], start: int) -> bool:
    """Whether a fixed name goes on at `start` from before: at 'dog' of 'hot dog', at 'lot' of 'parking lot'."""
    return any(
        start < first + length <= len(words) and singular_name(words[first : first + length]) in lexicon.FIXED_NAMES
        for first in range(max(0, start - _LONGEST_FIXED + 1), start)
        for length in _fixed_lengths().get(words[first], ())
    )


@functools.cache
def _fixed_lengths() -> dict[str, set[int]]:
    """First word of fixed names -> how many words these have."""
    lengths: dict[str, set[int]] = {}
    for name in lexicon.FIXED_NAMES:
        lengths.setdefault(name.partition(" ")[0], set()).add(name.count(" ") + 1)
    return lengths


def singular_name(words: Sequence[str]) -> str:
    """Words as one name, the last of them in the singular."""
    head = _one(words[-1])
    if head == "glasses" and len(words) > 1 and words[-2] in lexicon.GLASSWARE:
        head = "glass"
    return " ".join((*words[:-1], head))


def _split(name: str) -> list[str]:
    return name.lower().replace("_", " ").split()


def _words(name: str, what: str) -> list[str]:
    words = _split(name)
    if not words:
        raise ValueError(f"synonyms: a {what} is empty; write a word or leave it out")
    return words


@functools.cache
def _usual() -> Naming:
    return Naming()


@functools.lru_cache(_REMEMBERED)
def _one(word: str) -> str:
    """The singular that is its own singular; 'peoples' goes by 'people' to 'person'."""
    seen = {word}
    while (one := singular(word)) not in seen:
        seen.add(one)
        word = one
    return word


def _merged_ending(name: str, merged: Mapping[str, str]) -> str:
    for ending in endings(name):
        if ending in merged and (ending == name or not merged[ending].endswith(f" {ending}")):
            return ending
    return ""


def _followed(word: str, merged: Mapping[str, str]) -> str:
    """What a word becomes when merged names are merged on."""
    path = [word]
    while ending := _merged_ending(path[-1], merged):
        path.append(path[-1].removesuffix(ending) + merged[ending])
        if len(path) > len(merged) + 1 or path[-1] in path[:-1]:
            around = " -> ".join(path[:6])
            raise ValueError(f"synonyms go in a circle: {around}; let one word stand for the others")
    return path[-1]
