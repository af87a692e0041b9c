"""Which concepts of a pool a caption names: by name, by further words, and by the endings of compounds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from regionclip.concepts.finding import ConceptParser
from regionclip.scenes.dataset import ScenesConfig, make_scene
from regionclip.scenes.pictograms import CLASS_NAMES, PICTOGRAMS


def test_a_compound_outside_the_pool_counts_as_its_longest_ending() -> None:
    parser = ConceptParser(["table", "street sign", "sign"])
    found = parser.concepts_of("a kitchen table by a city street sign, a stop sign and a lamp")
    assert found == ["table", "street sign", "sign"]


def test_a_fixed_name_outside_the_pool_counts_for_nothing() -> None:
    assert ConceptParser(["dog"], {"dog": ["dogs"]}).concepts_of("two hot dogs") == []


def test_concepts_are_found_under_the_names_of_the_pool() -> None:
    parser = ConceptParser(["Scissors", "Teddy_Bears", "couch"], {"couch": ["sofa"]})
    assert parser.concepts_of("sofas, scissors, a teddy bear and a sofa") == ["couch", "Scissors", "Teddy_Bears"]


def test_a_name_without_a_word_is_found_nowhere() -> None:
    assert ConceptParser(["_", "cat"]).concepts_of("a dog") == []


def test_further_words_are_found_as_captions_write_them_and_in_the_singular() -> None:
    parser = ConceptParser(["couch"], {"couch": ["Settees", "love seats"], "chair": ["stool"]})
    assert parser.concepts_of("a settee and a stool") == ["couch"]
    assert parser.concepts_of("two love seats") == ["couch"]


@pytest.mark.parametrize("names", [["television", "tv"], ["tv", "television"]])
def test_a_name_of_the_pool_is_never_taken_by_another_one(names: list[str]) -> None:
    parser = ConceptParser(names, {"television": ["tv"]})
    assert parser.concepts_of("a tv") == ["tv"]
    assert parser.concepts_of("two televisions") == ["television"]


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
    captions = json.loads((shared / "data" / "captions" / "coco_captions_val2017.json").read_text())["annotations"]
    texts = [row["caption"] for row in captions[:3000]]
    parser = ConceptParser(["umbrella", "scissors", "traffic light", "knife", "sheep", "teddy bear", "skis"])
    for word, concept in (("umbrellas", "umbrella"), ("traffic light", "traffic light"), ("teddy bears", "teddy bear")):
        naming = [text for text in texts if f" {word}" in text.lower()]
        found = sum(concept in parser.concepts_of(text) for text in naming)
        assert found >= 0.9 * len(naming) > 0
