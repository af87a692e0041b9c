"""Which concepts cover which classes: every class in one state, gaps with their captions, novel names that are seen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regionclip.concepts.coverage import (
    STATES,
    Concept,
    PoolIndex,
    count_states,
    cover,
    coverage_document,
    leaked,
    num_covered,
    words_to_count,
)
from regionclip.concepts.naming import normalize
from regionclip.concepts.vocabularies import (
    COCO_BASE,
    COCO_NOVEL,
    OTHER_WORDS,
    ClassName,
    coco_groups,
    read_class_groups,
)

POOL = PoolIndex(
    [
        Concept("dog", 90, ("dog", "dogs")),
        Concept("hot dog", 40),
        Concept("sofa", 30),
        Concept("truck", 25, ("truck", "trucks", "pickup truck")),
        Concept("tv", 20, ("tv", "tvs", "television"), ("television",)),
        Concept("lorry", 15, ("lorry", "lorries"), ("hgv",)),
        Concept("soccer ball", 12),
        Concept("tennis ball", 14),
        Concept("bus", 11),
    ]
)
WORDS = st.sampled_from(["dog", "hot dog", "sofa", "couch", "ball", "tennis ball", "tv", "television", "plane", "ox"])


def state(name: str, *synonyms: str, pool: PoolIndex = POOL) -> tuple[str, str | None]:
    [row] = cover([ClassName(name, synonyms)], pool)
    return row.state, row.concept


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dog", ("same_name", "dog")),
        ("Hot Dogs", ("same_name", "hot dog")),
        ("hot_dog", ("same_name", "hot dog")),
        ("couch", ("other_word", "sofa")),
        ("television", ("other_word", "tv")),
        ("bus_(vehicle)", ("other_word", "bus")),
        ("hgv", ("surface_form", "lorry")),
        ("ball", ("compound", "tennis ball")),
        ("ball_(toy)", ("compound", "tennis ball")),
        ("pickup truck", ("lacking", None)),
        ("toaster", ("lacking", None)),
    ],
)
def test_a_class_is_covered_by_the_nearest_concept(name: str, expected: tuple[str, str | None]) -> None:
    assert state(name) == expected


def test_a_variant_in_the_pool_covers_the_usual_name_as_another_word() -> None:
    assert state("tv", pool=PoolIndex([Concept("television", 5)])) == ("other_word", "television")
    assert state("donut", pool=PoolIndex([Concept("doughnut", 5)])) == ("other_word", "doughnut")


def test_synonyms_of_a_class_file_are_other_words() -> None:
    assert state("autobus") == ("lacking", None)
    assert state("autobus", "bus_(vehicle)") == ("other_word", "bus")


def test_of_several_words_the_most_frequent_concept_covers() -> None:
    pool = PoolIndex([Concept("necktie", 3), Concept("bow tie", 80), Concept("cravat", 9)])
    [row] = cover([ClassName("tie", ("cravat",))], pool)
    assert (row.concept, row.document_frequency) == ("cravat", 9)


def test_only_whole_names_count_and_fixed_names_are_no_kind_of_their_head() -> None:
    assert state("dog", pool=PoolIndex([Concept("hot dog", 40), Concept("dogma", 9)])) == ("lacking", None)


def test_lacking_classes_carry_the_captions_of_their_most_used_word_and_the_wider_concept() -> None:
    rows = cover(
        [ClassName("pickup truck"), ClassName("airplane"), ClassName("dog")], POOL, {"plane": 7, "airplane": 3}
    )
    assert [row.captions for row in rows] == [0, 7, None]
    assert "wider 'truck'" in rows[0].why
    assert cover([ClassName("airplane")], POOL)[0].captions is None


@pytest.mark.parametrize("name", ["_", "()"])
def test_a_class_without_a_word_is_lacking_and_no_caption_names_it(name: str) -> None:
    [row] = cover([ClassName(name)], POOL, {"dog": 3})
    assert (row.state, row.captions, row.why) == ("lacking", 0, "")


def test_the_words_that_are_counted_are_all_words_of_the_classes() -> None:
    assert words_to_count([ClassName("airplane"), ClassName("Dogs")]) == ["airplane", "dog", "dogs", "plane"]


@settings(max_examples=60, deadline=None)
@given(st.lists(WORDS, unique=True), st.lists(WORDS, unique=True), st.randoms(use_true_random=False))
def test_every_class_is_in_one_state_whatever_the_order_of_the_pool(
    names: list[str], pool: list[str], order: Any
) -> None:
    concepts = [Concept(name, 5 + len(name) % 3) for name in pool]
    rows = cover(map(ClassName, names), PoolIndex(concepts))
    order.shuffle(concepts)
    assert rows == cover(map(ClassName, names), PoolIndex(concepts))
    assert [row.name for row in rows] == names
    assert sum(count_states(rows).values()) == len(names)
    assert list(count_states(rows)) == list(STATES)
    for row in rows:
        assert (row.state == "lacking") == (row.concept is None) == (row.document_frequency is None)
        assert row.concept is None or row.concept in pool
        assert row.state == "same_name" or row.name not in pool
    assert num_covered(rows) == sum(row.concept is not None for row in rows)


def test_novel_classes_in_the_pool_are_named_and_base_ones_are_not() -> None:
    groups = {
        "novel": [ClassName("dog"), ClassName("ox")],
        "base": [ClassName("bus")],
        "coco_novel": [ClassName("cow")],
    }
    covered = {group: cover(classes, POOL) for group, classes in groups.items()}
    assert {group: [row.name for row in rows] for group, rows in leaked(covered).items()} == {
        "novel": ["dog"],
        "coco_novel": [],
    }
    document = json.loads(json.dumps(coverage_document(covered)))
    assert document["novel_in_pool"] == {"novel": ["dog"], "coco_novel": []}
    assert document["groups"]["novel"]["covered"] == 1


def test_coco_classes_are_65_different_concept_names_already_normalised() -> None:
    assert (len(set(COCO_BASE)), len(set(COCO_NOVEL))) == (48, 17)
    assert not set(COCO_BASE) & set(COCO_NOVEL)
    names = [name for classes in coco_groups().values() for name in classes]
    assert [normalize(name.name) for name in names] == [name.name for name in names]


def test_no_other_word_is_itself_a_coco_class_and_every_one_has_a_reason() -> None:
    for name, words in OTHER_WORDS.items():
        assert words, name
        assert all(reason and word != name for word, reason in words.items())
        assert name not in (*COCO_BASE, *COCO_NOVEL) or not set(words) & {*COCO_BASE, *COCO_NOVEL}


def annotations(path: Path, categories: object) -> Path:
    path.write_text(
        json.dumps({"images": [], "annotations": [{"id": 1, "name": "no class"}], "categories": categories})
    )
    return path


def test_classes_of_a_file_are_grouped_by_frequency_or_split(tmp_path: Path) -> None:
    lvis = [{"name": "b", "frequency": "f"}, {"name": "a_(x)", "frequency": "r", "synonyms": ["a_(x)", "aa"]}]
    groups = read_class_groups(annotations(tmp_path / "lvis.json", lvis))
    assert list(groups.items()) == [("rare", (ClassName("a_(x)", ("aa",)),)), ("frequent", (ClassName("b"),))]
    coco = [{"name": "b", "split": "unseen"}, {"name": "a", "split": "seen"}]
    assert list(read_class_groups(annotations(tmp_path / "coco.json", coco))) == ["seen", "unseen"]
    plain = read_class_groups(annotations(tmp_path / "plain.json", [{"name": "b"}]))
    assert plain == {"classes": (ClassName("b"),)}


def test_what_follows_the_categories_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "cut.json"
    path.write_text('{"categories": [{"name": "dog"}], "annotations": [' + '{"id": 1},' * 100_000 + "broken")
    assert read_class_groups(path) == {"classes": (ClassName("dog"),)}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"categories": [{"name": "a"}', "not JSON"),
        ("\x00", "not JSON"),
        ("{}", "no list 'categories'"),
        ('{"categories": []}', "no list 'categories'"),
        ('{"categories": ["a"]}', "category 'a' has no 'name'"),
        ('{"categories": [{"name": " "}]}', "has no 'name'"),
        ('{"categories": [{"name": "a"}, {"name": "a"}]}', "'a' stands twice"),
        ('{"categories": [{"name": "a", "frequency": "x"}]}', "frequency 'x'; give r, c or f"),
        ('{"categories": [{"name": "a", "split": "x"}]}', "split 'x'; give seen or unseen"),
    ],
)
def test_a_file_without_sound_categories_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "classes.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=words) as error:
        read_class_groups(path)
    assert str(path) in str(error.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file"):
        read_class_groups(tmp_path / "none.json")


def test_a_bare_list_of_categories_is_read_like_a_whole_file(tmp_path: Path) -> None:
    categories = [{"id": 1, "name": "air_conditioner", "frequency": "f"}, {"id": 2, "name": "ox", "frequency": "r"}]
    for name, content in (("bare.json", categories), ("whole.json", {"images": [], "categories": categories})):
        (tmp_path / name).write_text(json.dumps(content))
    bare = read_class_groups(tmp_path / "bare.json")
    assert bare == read_class_groups(tmp_path / "whole.json")
    assert [(group, [each.name for each in classes]) for group, classes in bare.items()] == [
        ("rare", ["ox"]),
        ("frequent", ["air_conditioner"]),
    ]
