"""Concept lists as text: lines and names stay one to one, in both directions."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regionclip.concepts.text_form import read_text_form, write_text_form
from regionclip.schemas import CONCEPTS

names = st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=6, unique=True)


def read(tmp_path: Path, content: str | bytes) -> list[tuple[str, int]]:
    path = tmp_path / "nouns.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    table = read_text_form(path)
    return list(zip(table["concept"].to_pylist(), table["document_frequency"].to_pylist(), strict=True))


@settings(max_examples=200, deadline=None)
@given(names=names, number=st.integers(0, 10**12), with_numbers=st.booleans())
def test_what_is_written_is_read_again_or_refused(
    names: list[str], number: int, with_numbers: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    numbers = [number + row if with_numbers else 0 for row in range(len(names))]
    if any(name != name.strip() or set(",\n\r\ufeff") & set(name) for name in names):
        with pytest.raises(ValueError, match="cannot stand in a text file"):
            write_text_form(names, numbers)
    else:
        text = write_text_form(names, numbers if with_numbers else None)
        assert read(tmp_path_factory.mktemp("text"), text) == list(zip(names, numbers, strict=True))


@pytest.mark.parametrize(
    ("line", "concept"),
    [
        ("traffic light", ("traffic light", 0)),
        ("traffic light,120", ("traffic light", 120)),
        (" Dog , 7 ,further, fields", ("Dog", 7)),
        ("dog,many", ("dog", 0)),
        ("dog,-3", ("dog", 0)),
        ("dog,1.5", ("dog", 0)),
        ("dog,9999999999999999999", ("dog", 0)),
        ("ski+pole,", ("ski+pole", 0)),
    ],
)
def test_a_line_is_a_name_and_perhaps_a_whole_number(tmp_path: Path, line: str, concept: tuple[str, int]) -> None:
    assert read(tmp_path, line) == [concept]


def test_line_ends_a_byte_order_mark_and_blank_lines_at_the_end_do_not_matter(tmp_path: Path) -> None:
    assert read(tmp_path, "\ufeffdog,2\r\ncat\r\n\r\n \n") == [("dog", 2), ("cat", 0)]


def test_the_table_has_the_columns_of_a_pool(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("dog,2\n")
    table = read_text_form(tmp_path / "a.txt")
    assert table.schema.equals(CONCEPTS)
    assert table["count"].to_pylist() == [2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"dog\n\ncat\n", r"nouns\.txt:2: '' names no concept; remove the line"),
        (b"dog\n,5\n", r"nouns\.txt:2: ',5' names no concept"),
        (b"dog\ncat\ndog,4\n", r"nouns\.txt:3: 'dog' stands in line 1 already"),
        (b" \n", r"nouns\.txt holds no concepts"),
        (b"dog\xff", r"nouns\.txt is not UTF-8"),
    ],
)
def test_lines_that_would_shift_rows_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(tmp_path, content)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.txt cannot be read \(No such file"):
        read_text_form(tmp_path / "none.txt")


@pytest.mark.parametrize("name", ["fire hydrant, red", " dog", "a\nb", "a\rb", ""])
def test_a_name_that_would_be_read_as_another_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"cannot stand in a text file .* export as \.parquet"):
        write_text_form([name], [1])
