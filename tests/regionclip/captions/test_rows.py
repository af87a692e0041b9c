"""Ids: exact for whole numbers, and small where they are close together."""

from __future__ import annotations

import tracemalloc

from hypothesis import given, settings
from hypothesis import strategies as st

from regionclip.captions.rows import IdSet


@given(st.lists(st.one_of(st.integers(0, 700), st.integers(0, 2**63 - 1), st.text(max_size=3))))
@settings(max_examples=100, deadline=None)
def test_an_id_is_new_once(values: list[int | str]) -> None:
    ids, seen = IdSet(), set[str]()
    for value in values:
        assert ids.add(value) == (str(value) not in seen)
        seen.add(str(value))
    assert all(value in ids for value in values if isinstance(value, int))


def test_digits_are_the_number_they_write_and_nothing_else_is() -> None:
    ids = IdSet()
    assert [ids.add(value) for value in (7, "7", b"7", "07", "7 ", 7.5, "²")] == [True, False, False, *[True] * 4]
    assert 8 not in ids


def test_close_set_numbers_cost_less_than_a_byte_each() -> None:
    tracemalloc.start()
    ids = IdSet()
    for number in range(100_000):
        ids.add(number)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size < 100_000
