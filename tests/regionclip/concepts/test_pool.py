"""The pool: by caption and by mention, with rare compounds as their heads, in a fixed order; and what it lacks."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regionclip.concepts import merging
from regionclip.concepts.counting import NUM_BUCKETS, count_mentions
from regionclip.concepts.mentions import Mention
from regionclip.concepts.naming import endings
from regionclip.concepts.pool import (
    NUM_MOST_FREQUENT,
    NUM_SAMPLED,
    Pool,
    captions_naming,
    choose_concepts,
    pool_of_names,
)
from regionclip.schemas import CONCEPTS, DROPPED, THRESHOLDS

Part = list[dict[str, pa.Table]]


@dataclass(frozen=True)
class Fake:
    """Finds in a caption the names that it lists, parted by commas; '!' marks no concept, '<' what was merged."""

    name: str = "rules"
    folds: bool = True

    def mentions(self, captions: Iterable[str]) -> Iterator[list[Mention]]:
        for caption in captions:
            yield [self._mention(each) for each in caption.split(", ") if each]

    def _mention(self, text: str) -> Mention:
        name, _, merged = text.strip("!").partition("<")
        return Mention(name, f"{name}s", merged, "frame word" if text.startswith("!") else "")


def part(captions: Sequence[str], first_row: int = 0, **parser: Any) -> Part:
    return list(count_mentions(captions, [Fake(**parser)], first_row).tables())


def choose(parts: Sequence[Part], least: int, max_size: int | None = None, names: Sequence[str] = ()) -> Pool:
    buckets = (
        ((each[bucket]["groups"] for each in parts), (each[bucket]["phrases"] for each in parts))
        for bucket in range(NUM_BUCKETS)
    )
    return choose_concepts(buckets, least, max_size, names)


def counts(captions: Sequence[str], least: int, **parser: Any) -> dict[str, tuple[int, int]]:
    rows = choose([part(captions, **parser)], least).concepts.to_pylist()
    return {row["concept"]: (row["document_frequency"], row["count"]) for row in rows}


def test_a_concept_counts_once_a_caption_and_once_a_mention() -> None:
    assert counts(["dog, dog", "dog, cat"], 1) == {"dog": (2, 3), "cat": (1, 1)}


def test_a_frequent_compound_stands_alone_and_a_rare_one_is_its_head() -> None:
    captions = ["traffic light", "traffic light", "kitchen table, table", "light", "light"]
    assert counts(captions, 2) == {"light": (2, 2), "traffic light": (2, 2)}
    assert counts(captions, 1)["kitchen table"] == (1, 1)
    assert counts(["kitchen table, table", "table"], 2) == {"table": (2, 3)}


def test_a_rare_long_compound_makes_its_ending_frequent() -> None:
    captions = ["little league player", "league player", "player", "player"]
    assert counts(captions, 2) == {"league player": (2, 2), "player": (2, 2)}


def test_a_fixed_name_is_no_kind_of_its_last_word() -> None:
    captions = ["hot dog", "chili hot dog", "dog", "dog"]
    assert counts(captions, 2) == {"dog": (2, 2), "hot dog": (2, 2)}
    assert counts(["hot dog bun", "dog bun", "dog bun", "bun"], 2) == {"bun": (2, 2), "dog bun": (2, 2)}


def test_phrases_of_parsers_that_do_not_fold_stay_what_they_are() -> None:
    assert counts(["kitchen table", "table", "table"], 2, name="ngrams", folds=False) == {"table": (2, 2)}


def test_order_is_by_frequency_then_name_and_size_is_limited() -> None:
    parts = [part(["b, a, c", "c"])]
    assert choose(parts, 1).concepts["concept"].to_pylist() == ["c", "a", "b"]
    pool = choose(parts, 1, 2)
    assert pool.concepts["concept"].to_pylist() == ["c", "a"]
    assert [(row["name"], row["reason"]) for row in pool.dropped.to_pylist()] == [("b", "beyond max_size")]
    assert pool.totals["num_beyond_max_size"] == 1


def test_a_pool_that_cannot_hold_its_listed_names_is_refused() -> None:
    parts = [part(["a", "b"])]
    assert choose(parts, 1, 2, ("b", "z")).concepts["concept"].to_pylist() == ["b", "z"]
    with pytest.raises(ValueError, match="max_size 1 is less than the 2 listed names; raise it"):
        choose(parts, 1, 1, ("b", "z"))


def test_a_concept_is_described_by_all_phrases_that_count_as_it() -> None:
    parts = [part(["old kitchen table", "table<tabel"]), part(["kitchen table<kitchn table", "table", "table"], 2)]
    for order in (parts, parts[::-1]):
        [table] = choose(order, 3).concepts.to_pylist()
        assert table["surface_forms"] == ["tables", "kitchen tables", "old kitchen tables"]
        assert table["examples"] == ["old kitchen table", "table<tabel", "kitchen table<kitchn table"]
        assert table["merged_from"] == ["tabel"]
        assert table["parser"] == "rules"


phrases = st.sampled_from(["a", "b", "x a", "x b", "y x a", "z x a", "hot dog", "x hot dog", "dog", "!photo"])
corpora = st.lists(st.lists(phrases, max_size=4), min_size=1, max_size=14).map(
    lambda found: [", ".join(names) for names in found]
)


def folded_slowly(captions: Sequence[str], least: int) -> dict[str, int]:
    """Document frequencies when one caption after the other is named anew, the longest rare names cut first."""
    named = [{name for name in caption.split(", ") if name and name != "!photo"} for caption in captions]
    for num_words in (3, 2):
        frequency = Counter(name for names in named for name in names)
        rare = {name for name in frequency if frequency[name] < least and len(name.split()) == num_words}
        named = [{endings(name)[:2][-1] if name in rare else name for name in names} for names in named]
    return dict(Counter(name for names in named for name in names).items())


@given(corpora, st.integers(1, 3), st.integers(2, 6))
@settings(max_examples=20, deadline=None)
def test_frequencies_agree_with_a_plain_recount_however_captions_are_parted(
    captions: list[str], least: int, size: int
) -> None:
    expected = {name: number for name, number in folded_slowly(captions, least).items() if number >= least}
    parts = [part(captions[start : start + size], start) for start in range(0, len(captions), size)]
    if not expected:
        with pytest.raises(ValueError, match="no concept is named"):
            choose(parts, least)
        return
    pool = choose(parts, least)
    rows = pool.concepts.to_pylist()
    assert {row["concept"]: row["document_frequency"] for row in rows} == expected
    assert all(row["count"] >= row["document_frequency"] for row in rows)
    left = [row for row in pool.dropped.to_pylist() if row["reason"] != "frame word"]
    assert {row["name"]: row["document_frequency"] for row in left} == {
        name: number for name, number in folded_slowly(captions, least).items() if number < least
    }
    for other in (choose(parts[::-1], least), choose([part(captions)], least)):
        for table in ("concepts", "thresholds", "dropped", "totals"):
            assert getattr(other, table) == getattr(pool, table)


@given(corpora, st.lists(st.sampled_from(["a", "x a", "never seen"]), unique=True))
@settings(max_examples=15, deadline=None)
def test_the_curve_is_the_size_of_the_pool_at_each_threshold(captions: list[str], names: list[str]) -> None:
    parts = [part([*captions, *captions, *captions, "dog"])]
    curve = choose(parts, 1, names=names).thresholds
    assert curve.schema.equals(THRESHOLDS)
    steps = curve["min_document_frequency"].to_pylist()
    for least, size in zip(steps, curve["concepts"].to_pylist(), strict=True):
        assert choose(parts, least, names=names).concepts.num_rows == size
    following = next(least for least in (1, 2, 5, 10, 20, 50, 100) if least > steps[-1])
    rest = choose(parts, following, names=[*names, "one"]).concepts
    assert all(row["document_frequency"] < following for row in rest.to_pylist())


def test_listed_names_are_always_in_and_never_fold() -> None:
    parts = [part(["kitchen table", "old kitchen table", "table", "table", "table", "dog", "dog", "dog", "!photo"])]
    pool = choose(parts, 3, names=["kitchen table", "zebra", "photo"])
    rows = {row["concept"]: (row["document_frequency"], row["parser"]) for row in pool.concepts.to_pylist()}
    assert rows == {
        "dog": (3, "rules"),
        "table": (3, "rules"),
        "kitchen table": (2, "list+rules"),
        "photo": (1, "list+rules"),
        "zebra": (0, "list"),
    }
    assert pool.dropped.num_rows == 0
    names = ["kitchen table", "zebra", "photo"]
    assert choose(parts, 3, 4, names).concepts["concept"].to_pylist() == ["dog", "kitchen table", "photo", "zebra"]
    assert choose(parts, 3, 3, names).concepts["concept"].to_pylist() == ["kitchen table", "photo", "zebra"]
    assert choose([part([])], 3, names=["zebra"]).concepts["concept"].to_pylist() == ["zebra"]


@pytest.mark.parametrize("photo", ["!photo", "photo"])
def test_a_listed_name_is_a_concept_even_where_parsers_say_it_is_none(photo: str) -> None:
    parts = [part([photo, "!wedding photo", "!stock photo", "!view"])]
    pool = choose(parts, 1, names=["photo", "stock photo"])
    assert [(row["concept"], row["document_frequency"]) for row in pool.concepts.to_pylist()] == [
        ("photo", 2),
        ("stock photo", 1),
    ]
    assert pool.dropped["name"].to_pylist() == ["view"]


def test_what_is_no_concept_is_dropped_under_its_head() -> None:
    pool = choose([part(["!wedding photo, !photo", "!top view", "dog", "dog, cat"])], 2)
    assert pool.dropped.schema.equals(DROPPED)
    assert [tuple(row.values()) for row in pool.dropped.to_pylist()] == [
        ("photo", 1, 2, "frame word", False),
        ("view", 1, 1, "frame word", False),
        ("cat", 1, 1, "in fewer than 2 captions", False),
    ]
    assert pool.totals == {"num_phrases": 5, "num_rare": 1, "num_frame_words": 2, "num_beyond_max_size": 0}


def test_of_many_rare_names_the_most_frequent_and_a_fixed_sample_are_listed() -> None:
    captions = [f"thing{number}" for number in range(1500)]
    captions += [caption for caption in captions[:700] for _ in range(2)] + ["dog"] * 5
    parts = [part(captions[start : start + 300], start) for start in range(0, len(captions), 300)]
    pool = choose(parts, 5)
    assert pool.dropped.equals(choose(parts[::-1], 5).dropped)
    rows = pool.dropped.to_pylist()
    first, sampled = rows[:NUM_MOST_FREQUENT], rows[NUM_MOST_FREQUENT:]
    in_order = sorted(captions[:700])
    assert [row["name"] for row in first] == in_order[:NUM_MOST_FREQUENT]
    assert not any(row["sampled"] for row in first)
    assert len({row["name"] for row in sampled} - {row["name"] for row in first}) == NUM_SAMPLED
    assert all(row["sampled"] for row in sampled)
    assert {row["document_frequency"] for row in sampled} == {1, 3}
    assert pool.totals["num_rare"] == 1500


def test_memory_does_not_grow_with_the_number_of_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merging, "_MERGE_AT", 16)
    same = part([f"big {name}, {name}" for name in ("dog", "cat", "cow") for _ in range(2)] + ["x dog"] * 2)
    same = [{name: pa.concat_tables([table] * 5) for name, table in piece.items()} for piece in same]
    few, many = peak_bytes([same] * 4), peak_bytes([same] * 60)
    assert many < 1.5 * few


def peak_bytes(parts: Sequence[Part]) -> int:
    arrow, before = pa.proxy_memory_pool(pa.default_memory_pool()), pa.default_memory_pool()
    pa.set_memory_pool(arrow)
    tracemalloc.start()
    try:
        choose(parts, 2)
        return int(arrow.max_memory()) + tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        pa.set_memory_pool(before)


@pytest.mark.parametrize("parser", [{}, {"name": "ngrams", "folds": False}])
def test_captions_naming_counts_captions_with_the_name_at_the_end_of_a_phrase(parser: Mapping[str, Any]) -> None:
    captions = ["traffic light, light", "old traffic light", "lamp, light", "hot dog", "dog", "big dog, dog"]
    if parser:
        captions = ["traffic light, light, traffic", "old traffic, traffic light, light", "lamp, light", "hot dog, dog"]
    groups = [piece["groups"] for piece in part(captions, **parser)]
    found = captions_naming(groups, ["light", "traffic light", "dog", "hot dog", "zebra"])
    assert found == {"light": 3, "traffic light": 2, "dog": 1 if parser else 2, "hot dog": 1, "zebra": 0}


def test_a_pool_without_concepts_is_refused_with_the_best_candidate() -> None:
    with pytest.raises(ValueError, match="5 captions or more, the most frequent is 'dog' with 2; lower min_document"):
        choose([part(["dog", "dog, !photo", "!photo", "!photo"])], 5)
    with pytest.raises(ValueError, match="the most frequent is 'none' with 0"):
        choose([part(["", ""])], 1)


def test_given_names_keep_their_order() -> None:
    pool = pool_of_names(["zebra", "ant"]).concepts
    assert pool.schema.equals(CONCEPTS)
    assert pool["concept"].to_pylist() == ["zebra", "ant"]
    assert pool["parser"].to_pylist() == ["list", "list"]


@pytest.mark.parametrize(
    ("names", "message"), [([], "names is empty"), (["a", " "], "name 1 is empty"), (["a", "a"], "'a' stands twice")]
)
def test_faulty_names_are_refused(names: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pool_of_names(names)
