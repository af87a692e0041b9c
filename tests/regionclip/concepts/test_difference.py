"""Two pools compared: every concept is added, removed or common, and few moves explain the order."""

from __future__ import annotations

from itertools import combinations

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from regionclip.concepts.difference import Change, Entry, difference

pools = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 5), max_size=7)


def table(pool: dict[str, int]) -> pa.Table:
    return pa.table({"concept": list(pool), "document_frequency": list(pool.values())})


def test_a_difference_by_hand() -> None:
    before = {"dog": 9, "cat": 7, "bus": 5, "tie": 2}
    after = {"cat": 12, "dog": 9, "zebra": 6, "ant": 6, "tie": 1}
    found = difference(table(before), table(after))
    assert (found.concepts_before, found.concepts_after) == (4, 5)
    assert found.added == (Entry("ant", 6), Entry("zebra", 6))
    assert found.removed == (Entry("bus", 5),)
    assert found.changed == (Change("cat", 7, 12), Change("tie", 2, 1))
    assert found.moved in ((Change("cat", 2, 1),), (Change("dog", 1, 2),))


@settings(max_examples=200, deadline=None)
@given(before=pools, after=pools)
def test_a_difference_leads_from_one_pool_to_the_other(before: dict[str, int], after: dict[str, int]) -> None:
    found = difference(table(before), table(after))
    added, removed = {entry.concept for entry in found.added}, {entry.concept for entry in found.removed}
    assert (set(before) - removed) | added == set(after)
    assert added.isdisjoint(before)
    assert removed.isdisjoint(after)
    if found.changed is None:
        assert any(before.values()) != any(after.values())
    else:
        common = before.keys() & after.keys()
        assert {change.concept for change in found.changed} == {name for name in common if before[name] != after[name]}
        sizes = [abs(change.after - change.before) for change in found.changed]
        assert sizes == sorted(sizes, reverse=True)


@settings(max_examples=100, deadline=None)
@given(before=st.permutations(list("abcdef")), after=st.permutations(list("abcdef")))
def test_without_the_moved_ones_the_order_is_the_same_and_no_fewer_would_do(
    before: list[str], after: list[str]
) -> None:
    moved = difference(table(dict.fromkeys(before, 1)), table(dict.fromkeys(after, 1))).moved
    for change in moved:
        assert (before.index(change.concept) + 1, after.index(change.concept) + 1) == (change.before, change.after)
    staying = set(before) - {change.concept for change in moved}
    assert in_same_order(staying, before, after)
    assert not any(in_same_order(set(more), before, after) for more in combinations(before, len(staying) + 1))


def in_same_order(names: set[str], before: list[str], after: list[str]) -> bool:
    return [name for name in before if name in names] == [name for name in after if name in names]


def test_a_pool_does_not_differ_from_itself() -> None:
    pool = table({"dog": 3, "cat": 0})
    assert difference(pool, pool).is_empty
    assert not difference(pool, table({"cat": 0, "dog": 3})).is_empty


def test_frequencies_are_not_compared_with_a_list_that_states_none() -> None:
    assert difference(table({"dog": 0, "cat": 0}), table({"dog": 5, "cat": 3})).changed is None
