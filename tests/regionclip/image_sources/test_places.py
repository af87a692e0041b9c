from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regionclip.image_sources.places import TableRow, TarMember, first_image_id, parse_place

FILES = st.text(min_size=1, max_size=20).filter(lambda name: "::" not in f"{name}:" and name[-1] != ":")
NUMBERS = st.integers(0, 2**50)


@settings(max_examples=200, deadline=None)
@given(file=FILES, inner=st.text(max_size=20), first=NUMBERS, second=NUMBERS)
def test_the_name_of_a_place_leads_back_to_it(file: str, inner: str, first: int, second: int) -> None:
    for place in (TarMember(file, inner, first, second), TableRow(file, inner, first, second)):
        assert parse_place(str(place)) == place


@pytest.mark.parametrize("name", ["1.jpg", "a/b::c.jpg", "x@1+2", "a.tar::b@1+", "a.parquet::c@-1/2"])
def test_any_other_name_is_of_a_whole_file(name: str) -> None:
    assert parse_place(name) is None


def test_ids_rise_with_the_files_and_those_of_the_first_are_the_count() -> None:
    assert first_image_id(0) == 0
    assert first_image_id(2) - first_image_id(1) == first_image_id(1) == 2**32
    assert first_image_id(2**20) < 2**53  # exact as a float, which JSON readers make of numbers
