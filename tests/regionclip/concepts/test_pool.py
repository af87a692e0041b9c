"""Counting: by caption and by mention, with rare compounds as their heads, in a fixed order."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regionclip.concepts.pool import Mentions, build_pool, pool_of_names
from regionclip.schemas import CONCEPTS


def corpus(*captions: tuple[str, ...]) -> Callable[[], Iterable[Mentions]]:
    return lambda: [(" and ".join(phrases), phrases, [f"{phrase}s" for phrase in phrases]) for phrases in captions]


def counts(captions: Callable[[], Iterable[Mentions]], least: int) -> dict[str, tuple[int, int]]:
    rows = build_pool(captions, least, None).to_pylist()
    return {row["concept"]: (row["document_frequency"], row["count"]) for row in rows}


def test_a_concept_counts_once_a_caption_and_once_a_mention() -> None:
    assert counts(corpus(("dog", "dog"), ("dog", "cat")), 1) == {"dog": (2, 3), "cat": (1, 1)}


def test_a_frequent_compound_stands_alone_and_a_rare_one_is_its_head() -> None:
    captions = corpus(("traffic light",), ("traffic light",), ("kitchen table", "table"), ("light",), ("light",))
    assert counts(captions, 2) == {"light": (2, 2), "traffic light": (2, 2)}
    assert counts(captions, 1)["kitchen table"] == (1, 1)
    captions = corpus(("kitchen table", "table"), ("table",))
    assert counts(captions, 2) == {"table": (2, 3)}


def test_a_rare_long_compound_makes_its_ending_frequent() -> None:
    captions = corpus(("little league player",), ("league player",), ("player",), ("player",))
    assert counts(captions, 2) == {"league player": (2, 2), "player": (2, 2)}


def test_order_is_by_frequency_then_name_and_size_is_limited() -> None:
    captions = corpus(("b", "a", "c"), ("c",))
    assert build_pool(captions, 1, None)["concept"].to_pylist() == ["c", "a", "b"]
    assert build_pool(captions, 1, 2)["concept"].to_pylist() == ["c", "a"]


def test_surface_forms_are_most_frequent_first_and_examples_come_from_the_start() -> None:
    rows = [("one", ["dog"], ["dog"]), ("two", ["dog", "dog"], ["dogs", "dogs"])]
    rows += [(str(number), ["dog"], ["dog"]) for number in range(3, 9)]
    [dog] = build_pool(lambda: rows, 1, None).to_pylist()
    assert dog["surface_forms"] == ["dog", "dogs"]
    assert dog["examples"] == ["one", "two", "3"]


phrases = st.sampled_from(["a", "b", "x a", "x b", "y x a"])


@given(st.lists(st.lists(phrases, max_size=4).map(tuple), min_size=1, max_size=12), st.integers(1, 3))
@settings(max_examples=100, deadline=None)
def test_counts_agree_with_a_plain_recount(captions: list[tuple[str, ...]], least: int) -> None:
    try:
        pool = counts(corpus(*captions), least)
    except ValueError:
        pool = {}
    shuffled = counts(corpus(*reversed(captions)), least) if pool else {}
    assert pool == shuffled
    for name, (documents, mentions) in pool.items():
        assert least <= documents <= mentions
        assert documents >= sum(name in caption for caption in captions)
        assert mentions <= sum(phrase == name or phrase.endswith(f" {name}") for c in captions for phrase in c)


def test_a_pool_without_concepts_is_refused_with_the_best_candidate() -> None:
    with pytest.raises(ValueError, match="5 captions or more, the most frequent is 'dog' with 2; lower min_document"):
        build_pool(corpus(("dog",), ("dog",)), 5, None)


def test_given_names_keep_their_order() -> None:
    pool = pool_of_names(["zebra", "ant"])
    assert pool.schema.equals(CONCEPTS)
    assert pool["concept"].to_pylist() == ["zebra", "ant"]


@pytest.mark.parametrize(
    ("names", "message"), [([], "names is empty"), (["a", " "], "name 1 is empty"), (["a", "a"], "'a' stands twice")]
)
def test_faulty_names_are_refused(names: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pool_of_names(names)
