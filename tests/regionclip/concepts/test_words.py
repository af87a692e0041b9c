"""Singulars as people mean them, and what a word by itself can be."""

from __future__ import annotations

import pytest

from regionclip.concepts import lexicon, words
from regionclip.concepts.words import singular, word_class


@pytest.mark.parametrize(
    ("plural", "expected"),
    [
        ("men", "man"),
        ("snowmen", "snowman"),
        ("people", "person"),
        ("children", "child"),
        ("oxen", "ox"),
        ("mice", "mouse"),
        ("geese", "goose"),
        ("teeth", "tooth"),
        ("feet", "foot"),
        ("knives", "knife"),
        ("wolves", "wolf"),
        ("loaves", "loaf"),
        ("leaves", "leaf"),
        ("shelves", "shelf"),
        ("scarves", "scarf"),
        ("roofs", "roof"),
        ("berries", "berry"),
        ("cookies", "cookie"),
        ("selfies", "selfie"),
        ("ties", "tie"),
        ("donkeys", "donkey"),
        ("dominoes", "domino"),
        ("tomatoes", "tomato"),
        ("photos", "photo"),
        ("shoes", "shoe"),
        ("buses", "bus"),
        ("boxes", "box"),
        ("vases", "vase"),
        ("axes", "axe"),
        ("cacti", "cactus"),
        ("frisbees", "frisbee"),
        ("suvs", "suv"),
        ("ski", "skis"),
    ],
)
def test_plurals_fold_as_people_mean_them(plural: str, expected: str) -> None:
    assert singular(plural) == expected
    assert singular(expected) == expected


@pytest.mark.parametrize(
    "word", ["sheep", "deer", "scissors", "glasses", "skis", "pants", "pajamas", "bus", "grass", "tennis", "species"]
)
def test_things_that_have_no_other_singular_keep_their_name(word: str) -> None:
    assert singular(word) == word


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("the", words.DETERMINER),
        ("42", words.DETERMINER),
        ("under", words.PREPOSITION),
        ("dog", words.NOUN_OR_VERB),
        ("elephant", words.NOUN),
        ("elephants", words.PLURAL),
        ("woman", words.PERSON),
        ("comes", words.RARELY_NOUN),
        ("walk", words.VERB_OR_NOUN),
        ("walks", words.VERB_OR_PLURAL),
        ("lights", words.PLURAL_OR_VERB),
        ("riding", words.PARTICIPLE),
        ("ceiling", words.NOUN),
        ("parked", words.VERB),
        ("wooden", words.ADJECTIVE),
        ("next", words.MODIFIER),
        ("red", words.COLOUR),
        ("animal", words.NOUN),
        ("musical", words.ADJECTIVE),
        ("quickly", words.ADVERB),
        ("frisbeelike", words.ADJECTIVE),
        ("zzyzx", words.NOUN),
        ("x", words.BREAK),
    ],
)
def test_a_word_by_itself_has_a_class(word: str, expected: str) -> None:
    assert word_class(word) == expected


@pytest.mark.parametrize("word", sorted(lexicon.PERSONS | lexicon.SAME_PLURAL | lexicon.PLURAL_ONLY))
def test_what_is_listed_as_a_noun_is_one(word: str) -> None:
    assert word_class(word) in (words.PERSON, words.PLURAL, words.NOUN)


def test_what_is_no_concept_is_listed_in_the_singular() -> None:
    assert {name: singular(name) for name in lexicon.DROPPED if " " not in name} == {
        name: name for name in lexicon.DROPPED if " " not in name
    }


def test_every_variant_is_merged_into_another_name() -> None:
    assert not [name for name, kept in lexicon.VARIANTS.items() if name == kept or kept in lexicon.VARIANTS]
