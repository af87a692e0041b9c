"""Counts of phrases: equal to a plain recount, however the captions are parted and the parts added up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regionclip.concepts import merging
from regionclip.concepts.counting import NUM_BUCKETS, bucket_of, count_mentions, may_fold
from regionclip.concepts.mentions import Mention
from regionclip.concepts.merging import merge_groups, merge_phrases
from regionclip.concepts.naming import endings
from regionclip.schemas import PHRASE_GROUPS, PHRASES

Tables = Mapping[str, pa.Table]


@dataclass(frozen=True)
class Fake:
    """Finds in a caption what it was told to."""

    found: Mapping[str, Sequence[Mention]]
    name: str = "rules"
    folds: bool = True

    def mentions(self, captions: Iterable[str]) -> Iterator[list[Mention]]:
        for caption in captions:
            yield list(self.found.get(caption, ()))


def plain(*names: str) -> list[Mention]:
    return [Mention(name, name) for name in names]


def summed(parts: Iterable[list[Tables]]) -> tuple[pa.Table, pa.Table]:
    """The groups and phrases of all parts, bucket after bucket."""
    buckets = list(zip(*parts, strict=True))
    groups = [merge_groups(piece["groups"] for piece in pieces) for pieces in buckets]
    phrases = [merge_phrases(piece["phrases"] for piece in pieces) for pieces in buckets]
    return pa.concat_tables(groups), pa.concat_tables(phrases)


def rows_of(table: pa.Table, key: str) -> dict[str, dict[str, object]]:
    return {row[key]: row for row in table.to_pylist()}


NAMES = ["dog", "hot dog", "big hot dog", "light", "traffic light", "city traffic light", "tv", "photo"]


def _mention(name: str, plural: bool, merged: bool) -> Mention:
    surface = name + "s" * plural
    return Mention(name, surface, f"old {name}" if merged else "", "frame word" if name == "photo" else "")


mentions = st.builds(_mention, st.sampled_from(NAMES), st.booleans(), st.booleans())
corpora = st.lists(st.lists(mentions, max_size=4), min_size=1, max_size=5).flatmap(
    lambda found: st.tuples(st.just(found), st.lists(st.integers(0, len(found) - 1), min_size=1, max_size=12))
)


@given(corpora, st.integers(1, 5), st.randoms(use_true_random=False), st.sampled_from([1, 1 << 15]))
@settings(max_examples=40, deadline=None)
def test_counts_of_parts_in_any_order_add_up_to_a_plain_recount(
    corpus: tuple[list[list[Mention]], list[int]], part_size: int, random: object, merge_at: int
) -> None:
    found = {f"caption {number}": mentions for number, mentions in enumerate(corpus[0])}
    captions = [f"caption {number}" for number in corpus[1]]
    parser = Fake(found)
    parts = [
        list(count_mentions(captions[start : start + part_size], [parser], start).tables())
        for start in range(0, len(captions), part_size)
    ]
    random.shuffle(parts)  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(merging, "_MERGE_AT", merge_at)
        groups, phrases = summed(parts)
    whole = list(count_mentions(captions, [parser]).tables())
    assert groups.equals(pa.concat_tables(piece["groups"] for piece in whole))
    assert phrases.equals(pa.concat_tables(piece["phrases"] for piece in whole))

    families: Counter[tuple[str, tuple[str, ...]]] = Counter()
    for caption in captions:
        names = {mention.name for mention in found[caption]}
        for head in {endings(name)[-1] for name in names}:
            families[head, tuple(sorted(name for name in names if endings(name)[-1] == head))] += 1
    assert {(row["head"], tuple(row["phrases"])): row["document_frequency"] for row in groups.to_pylist()} == families
    every = [(row, caption, mention) for row, caption in enumerate(captions) for mention in found[caption]]
    counted = rows_of(phrases, "phrase")
    assert counted.keys() == {mention.name for _, _, mention in every}
    for name, row in counted.items():
        own = [each for each in every if each[2].name == name]
        first: dict[str, int] = {}
        for number, caption, _ in own:
            first.setdefault(caption, number)
        assert row["count"] == len(own)
        assert counts(row["surface_forms"]) == Counter(mention.surface for _, _, mention in own)
        assert counts(row["merged_from"]) == Counter(each[2].merged_from for each in own if each[2].merged_from)
        assert (
            [(each["row"], each["caption"]) for each in row["examples"]]
            == [  # type: ignore[attr-defined]
                (number, caption) for caption, number in list(first.items())[:3]
            ]
        )
        assert row["reason"] == own[0][2].reason
        assert row["parsers"] == ["rules"]


def counts(pairs: object) -> dict[str, int]:
    assert isinstance(pairs, list)
    assert pairs == sorted(pairs, key=lambda pair: (-pair["count"], pair["name"]))
    return {pair["name"]: pair["count"] for pair in pairs}


def test_every_part_has_all_buckets_and_a_family_lies_in_one() -> None:
    captions = {f"c{number}": plain(f"big thing{number}", f"thing{number}") for number in range(200)}
    pieces = list(count_mentions(list(captions), [Fake(captions)]).tables())
    assert len(pieces) == NUM_BUCKETS == len(list(count_mentions([], [Fake({})]).tables()))
    for bucket, piece in enumerate(pieces):
        assert piece["groups"].schema.equals(PHRASE_GROUPS)
        assert piece["phrases"].schema.equals(PHRASES)
        for table in piece.values():
            assert {bucket_of(head) for head in table["head"].to_pylist()} <= {bucket}
    assert sum(piece["phrases"].num_rows for piece in pieces) == 400
    assert bucket_of("light") == 23  # of the CRC-32 of its bytes, in whatever process


def test_a_name_of_two_parsers_counts_for_the_one_that_finds_it_most_often() -> None:
    rules = Fake({"a": plain("dog", "cat"), "b": plain("dog")})
    spacy = Fake({"a": [Mention("dog", "dogs")] * 2, "c": plain("cow")}, "spacy")
    groups, phrases = summed([list(count_mentions(["a", "b", "c"], [rules, spacy]).tables())])
    documents = {row["phrases"][0]: row["document_frequency"] for row in groups.to_pylist()}
    assert documents == {"dog": 2, "cat": 1, "cow": 1}
    dog = rows_of(phrases, "phrase")["dog"]
    assert dog["count"] == 3
    assert counts(dog["surface_forms"]) == {"dogs": 2, "dog": 1}
    parsers = {name: row["parsers"] for name, row in rows_of(phrases, "phrase").items()}
    assert parsers == {"dog": ["rules", "spacy"], "cat": ["rules"], "cow": ["spacy"]}


def test_a_name_that_one_parser_keeps_is_a_concept() -> None:
    rules = Fake({"a": [Mention("photo", "photo", "", "frame word")] * 2})
    listed = Fake({"a": plain("photo")}, "list", folds=False)
    for parsers in ([rules, listed], [listed, rules]):
        _, phrases = summed([list(count_mentions(["a"], parsers).tables())])
        assert [(row["reason"], row["count"]) for row in phrases.to_pylist()] == [("", 1)]


def test_phrases_are_families_only_where_all_parsers_of_captions_fold() -> None:
    found = {"a": plain("traffic light", "light", "hot dog", "dog")}
    nouns, listed, ngrams = Fake(found), Fake(found, "list", folds=False), Fake(found, "ngrams", folds=False)
    assert [may_fold(parsers) for parsers in ([nouns], [nouns, listed], [nouns, ngrams], [listed])] == [
        True,
        True,
        False,
        False,
    ]
    groups, _ = summed([list(count_mentions(["a"], [nouns]).tables())])
    families = sorted((row["head"], row["phrases"]) for row in groups.to_pylist())
    assert families == [("dog", ["dog"]), ("hot dog", ["hot dog"]), ("light", ["light", "traffic light"])]
    groups, _ = summed([list(count_mentions(["a"], [nouns, ngrams]).tables())])
    assert all(row["phrases"] == [row["head"]] for row in groups.to_pylist())
    assert groups.num_rows == 4
