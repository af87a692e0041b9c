"""Given names, found in captions by their words."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regionclip.concepts.listed import ListParser
from regionclip.concepts.mentions import Mention
from regionclip.concepts.naming import Naming

NAMES = ("cat", "traffic light", "light", "stop sign pole", "sign", "T-shirt", "wine glass", "Skis", "dog")
PARSER = ListParser(NAMES)


def found(parser: ListParser, caption: str) -> list[str]:
    [mentions] = parser.mentions([caption])
    return [mention.name for mention in mentions]


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("A CAT and two cats", ["cat", "cat"]),
        ("traffic lights, light and a light traffic", ["traffic light", "light", "light"]),
        ("a stop sign on a pole", ["sign"]),
        ("stop sign poles", ["stop sign pole"]),
        ("a red t-shirt", ["T-shirt"]),
        ("wine glasses and glasses", ["wine glass"]),
        ("one ski, many skis", ["Skis", "Skis"]),
        ("a catfish in concatenation", []),
        ("a hot dog for a dog", ["dog"]),
        ("", []),
    ],
)
def test_names_are_found_in_singular_and_plural_the_longest_first(caption: str, expected: list[str]) -> None:
    assert found(PARSER, caption) == expected


def test_a_mention_has_the_given_name_and_the_caption_s_words() -> None:
    [mentions] = ListParser(["T-shirt", "Skis"]).mentions(["Two   T-Shirts and a ski"])
    assert mentions == [Mention("T-shirt", "t-shirts"), Mention("Skis", "ski")]


def test_spellings_and_synonyms_of_a_name_are_found_and_told() -> None:
    parser = ListParser(["Television", "couch"], Naming({"couch": ("sofa", "love seat")}))
    [mentions] = parser.mentions(["tvs, a television set, sofas, love seats and couches"])
    assert [(mention.name, mention.merged_from) for mention in mentions] == [
        ("Television", "tv"),
        ("Television", "television set"),
        ("couch", "sofa"),
        ("couch", "love seat"),
        ("couch", ""),
    ]


def test_of_two_spellings_in_the_list_each_keeps_its_own() -> None:
    parser = ListParser(["television", "tv", "television set"])
    assert found(parser, "a tv, a television and a television set") == ["tv", "television", "television set"]
    assert found(ListParser(["cats", "cat"]), "a cat and two cats") == ["cat", "cats"]


def test_a_given_name_is_a_concept_even_if_it_is_a_frame_word() -> None:
    [mentions] = ListParser(["background"]).mentions(["in the background"])
    assert mentions == [Mention("background", "background")]


@given(st.lists(st.sampled_from(["cat", "traffic light", "sign", "near", "the", ",", "light"]), max_size=8))
@settings(max_examples=60, deadline=None)
def test_words_of_names_are_found_and_nothing_else(pieces: list[str]) -> None:
    assert found(PARSER, " ".join(pieces)) == [piece for piece in pieces if piece in NAMES]
