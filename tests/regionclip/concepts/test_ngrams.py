"""Word n-grams: all runs of words within a clause, between words that say something."""

from __future__ import annotations

import functools

from hypothesis import given, settings
from hypothesis import strategies as st

from regionclip.concepts.mentions import Mention
from regionclip.concepts.naming import FRAME_WORD
from regionclip.concepts.ngrams import NgramsParser

WORDS = ("cats", "red", "umbrella", "chases", "tables")
words = st.lists(st.sampled_from(WORDS), max_size=9)


@functools.cache
def parser(max_words: int) -> NgramsParser:
    return NgramsParser(max_words=max_words)


def surfaces(caption: str, max_words: int = 3) -> list[str]:
    [mentions] = parser(max_words).mentions([caption])
    return [mention.surface for mention in mentions]


def test_runs_neither_begin_nor_end_in_a_stop_word() -> None:
    assert surfaces("A bowl of the soup is on it") == ["bowl", "soup"]
    assert surfaces("A bowl of soup") == ["bowl", "bowl of soup", "soup"]
    assert surfaces("2 dogs and bus 7 b there") == ["dogs", "dogs and bus", "bus"]


def test_no_run_crosses_a_punctuation_mark() -> None:
    assert surfaces("cat, dog. bird; man's hat") == ["cat", "dog", "bird", "man", "hat"]


@given(words, st.integers(1, 5))
@settings(max_examples=50, deadline=None)
def test_every_run_up_to_the_length_is_found_once_for_each_place(caption: list[str], longest: int) -> None:
    starts = range(len(caption))
    ends = [(start, end) for start in starts for end in range(start + 1, min(start + longest, len(caption)) + 1)]
    assert surfaces(" ".join(caption), longest) == [" ".join(caption[start:end]) for start, end in ends]


def test_runs_are_named_as_noun_phrases_are() -> None:
    [mentions] = parser(3).mentions(["Colour Televisions"])
    assert mentions == [
        Mention("color", "colour", "colour", FRAME_WORD),
        Mention("color tv", "colour televisions", "colour television"),
        Mention("tv", "televisions", "television"),
    ]


def test_a_run_that_ends_in_a_frame_word_says_so() -> None:
    [mentions] = parser(3).mentions(["old cat photos"])
    reasons = {mention.name: mention.reason for mention in mentions}
    assert reasons["photo"] == reasons["cat photo"] == reasons["old cat photo"] == FRAME_WORD
    assert reasons["cat"] == reasons["old cat"] == ""


def test_each_caption_has_its_own_list() -> None:
    assert [len(mentions) for mentions in parser(3).mentions(["cat", "", "...", "cat cat"])] == [1, 0, 0, 3]
