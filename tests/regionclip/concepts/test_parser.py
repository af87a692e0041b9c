"""The rules parser on sentences whose noun phrases are known, on the embedded captions and on real ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regionclip.concepts.parser import MAX_WORDS, ConceptParser, RulesParser, endings, normalize
from regionclip.concepts.words import singular
from regionclip.scenes.dataset import ScenesConfig, make_scene
from regionclip.scenes.pictograms import CLASS_NAMES, PICTOGRAMS

PARSER = RulesParser()


def names(caption: str) -> list[str]:
    return [phrase.name for phrase in PARSER.parse(caption)]


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("A man riding a wave on top of a surfboard.", ["man", "wave", "surfboard"]),
        ("A cat sits on a laptop keyboard", ["cat", "laptop keyboard"]),
        ("A bus drives down the street past a stop sign", ["bus", "street", "stop sign"]),
        ("People on skis go down a hill", ["person", "skis", "hill"]),
        ("a pair of scissors and three wine glasses", ["scissors", "wine glass"]),
        ("several teddy bears sitting on the parking meter", ["teddy bear", "parking meter"]),
        ("a traffic light over a busy street", ["traffic light", "street"]),
        ("a woman holding a tennis racquet on a tennis court", ["woman", "tennis racket", "tennis court"]),
        ("an orange and black cat eats an orange", ["cat", "orange"]),
        ("baseball bats, and a boy with a bat and a remote", ["baseball bat", "boy", "bat", "remote"]),
        ("a boy bats the ball while sheep graze", ["boy", "ball", "sheep"]),
        ("the man's hat", ["man", "hat"]),
        ("two chess knights beside a small red crescent moon", ["chess knight", "crescent moon"]),
        ("there are two frowning faces above music notes", ["frowning face", "music note"]),
        ("a nintendo wii game controller", ["wii game controller"]),
        ("", []),
        ("!!! ... 123", []),
    ],
)
def test_noun_phrases_of_a_sentence(caption: str, expected: list[str]) -> None:
    assert names(caption) == expected


@pytest.mark.parametrize(
    "caption",
    [
        "a photo of the background",
        "top view from the front",
        "a group in the middle",
        "the back side",
        "a couple of pictures",
    ],
)
def test_words_about_the_picture_are_no_concepts(caption: str) -> None:
    assert names(caption) == []


@pytest.mark.parametrize(
    ("plural", "expected"),
    [
        ("men", "man"),
        ("snowmen", "snowman"),
        ("people", "person"),
        ("mice", "mouse"),
        ("knives", "knife"),
        ("leaves", "leaf"),
        ("dominoes", "domino"),
        ("buses", "bus"),
        ("frisbees", "frisbee"),
        ("sheep", "sheep"),
        ("scissors", "scissors"),
        ("glasses", "glasses"),
        ("skis", "skis"),
        ("ski", "skis"),
        ("bus", "bus"),
        ("grass", "grass"),
        ("tennis", "tennis"),
    ],
)
def test_plurals_fold_as_people_mean_them(plural: str, expected: str) -> None:
    assert singular(plural) == expected
    assert singular(expected) == expected


def test_surface_forms_are_as_written() -> None:
    [phrase] = PARSER.parse("Two Teddy Bears")
    assert phrase == ("teddy bear", "teddy bears")


@given(st.text(max_size=80))
@settings(max_examples=50, deadline=None)
def test_any_text_gives_short_lower_case_phrases(caption: str) -> None:
    for phrase in PARSER.parse(caption):
        assert 1 <= len(phrase.name.split(" ")) <= MAX_WORDS
        assert phrase.name == phrase.name.lower().strip()
        assert all(word in caption.lower() for word in phrase.surface.split(" "))


def test_a_compound_outside_the_pool_counts_as_its_longest_ending() -> None:
    assert endings("fire hydrant cap") == ["fire hydrant cap", "hydrant cap", "cap"]
    parser = ConceptParser(["table", "street sign", "sign"])
    assert parser.concepts_of("a kitchen table by a city street sign, a stop sign and a lamp") == [
        "table",
        "street sign",
        "sign",
    ]


def test_concepts_are_found_under_the_names_of_the_pool() -> None:
    parser = ConceptParser(["Scissors", "Teddy_Bears", "couch"], {"couch": ["sofa"]})
    assert parser.concepts_of("sofas, scissors, a teddy bear and a sofa") == ["couch", "Scissors", "Teddy_Bears"]
    assert normalize("Teddy_Bears") == "teddy bear"


def test_every_pictogram_is_found_by_its_name_and_plural() -> None:
    parser = ConceptParser(CLASS_NAMES)
    for pictogram in PICTOGRAMS:
        assert parser.concepts_of(f"a photo of a small red {pictogram.name} on a striped wall") == [pictogram.name]
        assert parser.concepts_of(f"two {pictogram.plural} near a cogwheel") == [pictogram.name]


def test_the_classes_that_scene_captions_name_are_found() -> None:
    parser = ConceptParser(CLASS_NAMES, {pictogram.name: pictogram.synonym or () for pictogram in PICTOGRAMS})
    config = ScenesConfig()
    missed = found_absent = 0
    captions = [caption for index in range(60) for caption in make_scene(config, "train", index)[1]]
    for caption in captions:
        said = {*caption.named, *([caption.absent] if caption.absent else [])}
        found = set(parser.concepts_of(caption.text))
        missed += len(said - found)
        found_absent += len(found - said)
    assert (missed, found_absent) == (0, 0)


def test_most_ground_truth_classes_that_real_captions_name_are_found(shared: Path) -> None:
    captions = json.loads((shared / "data" / "captions" / "coco_captions_val2017.json").read_text())["annotations"][
        :3000
    ]
    parser = ConceptParser(["umbrella", "scissors", "traffic light", "knife", "sheep", "teddy bear", "skis"])
    for word, concept in (("umbrellas", "umbrella"), ("traffic light", "traffic light"), ("teddy bears", "teddy bear")):
        naming = [row["caption"] for row in captions if f" {word}" in row["caption"].lower()]
        found = sum(concept in parser.concepts_of(caption) for caption in naming)
        assert found >= 0.9 * len(naming) > 0
