"""Every form gives the same captions, and memory that does not grow with the file."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regionclip.captions.files import CaptionFile, find_files
from regionclip.captions.reading import Caption, caption_pieces, read_captions
from regionclip.captions.rows import ReadingConfig
from regionclip.schemas import CAPTIONS

FORMS = ["text", "tsv", "jsonl", "csv", "coco", "webdataset", "parquet"]
PACKED = [(form, suffix) for form in FORMS for suffix in ("", ".gz", ".zst") if not (form == "parquet" and suffix)]
Read = Callable[..., list[tuple[Any, ...]]]
Encoded = Callable[..., tuple[str, bytes]]

letters = st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufeff\U0010ffff")
sound = st.text(letters, min_size=1, max_size=20).filter(lambda text: text.strip() and text != "caption")


@pytest.mark.parametrize(("form", "suffix"), PACKED)
@given(captions=st.lists(sound, min_size=1, max_size=8))
@settings(max_examples=10, deadline=None)
def test_every_form_gives_the_captions_that_were_written(
    tmp_path_factory: pytest.TempPathFactory, encoded: Encoded, form: str, suffix: str, captions: list[str]
) -> None:
    ending, data = encoded(form, captions, suffix)
    path = tmp_path_factory.getbasetemp() / f"round{ending}"
    path.write_bytes(data)
    (file,) = find_files([str(path)], None, "auto")
    rows = list(read_captions(file, ReadingConfig()))
    assert [row.text for row in rows] == captions  # type: ignore[union-attr]
    assert [row.image_id for row in rows] == [  # type: ignore[union-attr]
        row % 3 if form == "coco" else None for row in range(len(captions))
    ]


def test_a_quoted_field_may_hold_line_breaks_and_commas(read: Read) -> None:
    data = b'id,caption\r\n1,"two\nlines, ""quoted"""\r\n2,plain\r\n'
    assert read("a.csv", data) == [(None, 'two\nlines, "quoted"'), (None, "plain")]


def test_a_first_line_with_the_names_is_a_header(read: Read) -> None:
    assert read("a.tsv", b"caption\turl\na dog\thttp://a\n") == [(None, "a dog")]
    assert read("b.tsv", b"url\ttitle\nhttp://a\ta dog\n", column="title") == [(None, "a dog")]
    assert read("c.tsv", b"a dog\thttp://a\r\n") == [(None, "a dog")]


def test_a_byte_order_mark_is_no_text(read: Read) -> None:
    assert read("a.txt", b"\xef\xbb\xbfa dog\n") == [(None, "a dog")]
    assert read("a.csv", b"\xef\xbb\xbfcaption\na dog\n") == [(None, "a dog")]


def test_a_sample_takes_its_caption_from_json_before_text(read: Read, make_tar: Callable[..., bytes]) -> None:
    members = [("0.jpg", b"..."), ("0.txt", b"text"), ("0.json", b'{"caption": "json", "alt": "other"}')]
    only_text = [("1.txt", b"text alone"), ("1.json", b'{"url": "u"}')]
    data = make_tar([*members, *only_text])
    assert read("a.tar", data) == [(None, "json"), (None, "text alone")]
    assert read("a.tar", data, column="alt") == [(None, "other"), (None, "text alone")]


def test_rows_without_a_downloaded_image_are_counted_and_left_out(
    tmp_path: Path, make_parquet: Callable[..., bytes]
) -> None:
    status = ["success", "failed_to_download", "success", "failed_to_resize"]
    table = make_parquet(key=list("0123"), status=status, error_message=[None] * 4, caption=list("abcd"))
    (tmp_path / "00000.parquet").write_bytes(table)
    (tmp_path / "00000.tar").write_bytes(b"the images, which nothing reads")
    (tmp_path / "00000_stats.json").write_text("{}")
    (file,) = find_files([str(tmp_path)], None, "auto")
    (piece,) = caption_pieces(file, ReadingConfig())
    assert piece["captions"]["caption"].to_pylist() == ["a", "c"]
    assert piece["not_downloaded"] == 2


def test_a_status_of_another_kind_leaves_nothing_out(read: Read, make_parquet: Callable[..., bytes]) -> None:
    assert len(read("a.parquet", make_parquet(status=["married", "single"], caption=["a", "b"]))) == 2


@pytest.mark.parametrize(("num_rows", "sizes"), [(0, [0]), (4, [4]), (10, [4, 4, 2]), (8, [4, 4])])
def test_pieces_hold_a_fixed_number_of_captions(
    tmp_path: Path, encoded: Encoded, num_rows: int, sizes: list[int]
) -> None:
    _, data = encoded("text", [f"caption {row}" for row in range(num_rows)])
    (tmp_path / "a.txt").write_bytes(data + b"\n\n")
    pieces = list(caption_pieces(CaptionFile(str(tmp_path / "a.txt"), "text"), ReadingConfig(), 4))
    tables = [piece["captions"] for piece in pieces if "captions" in piece]
    assert [table.num_rows for table in tables] == sizes
    assert all(table.schema.equals(CAPTIONS) for table in tables)
    rejected = pa.concat_tables([piece["rejected"] for piece in pieces if "rejected" in piece])
    assert rejected["item"].to_pylist() == [f"a.txt:{num_rows + 1}", f"a.txt:{num_rows + 2}"]


@pytest.mark.parametrize("form", FORMS)
def test_memory_does_not_grow_with_the_file(tmp_path: Path, encoded: Encoded, form: str) -> None:
    peaks, small = [], 100 if form == "webdataset" else 1000
    for num_rows in (small, small, 20 * small):  # the first reading loads what is loaded once
        _, data = encoded(form, [f"caption {row} of a dog on a mat" for row in range(num_rows)])
        (tmp_path / form).write_bytes(data)
        del data
        before, arrow = pa.total_allocated_bytes(), 0
        tracemalloc.start()
        for _ in caption_pieces(CaptionFile(str(tmp_path / form), form), ReadingConfig(), 50):
            arrow = max(arrow, pa.total_allocated_bytes() - before)
        peaks.append(tracemalloc.get_traced_memory()[1] + arrow)
        tracemalloc.stop()
    assert peaks[2] < 2 * peaks[1] + 300_000


@pytest.mark.parametrize(
    ("name", "num_captions"),
    [
        ("captions/cc3m_validation_8000.tsv", 8000),
        ("captions/coco_captions_val2017.json", 25_014),
        ("coco_mini/annotations/captions.json", 650),
    ],
)
def test_real_captions_are_read_whole(shared: Path, name: str, num_captions: int) -> None:
    (file,) = find_files([f"data/{name}"], str(shared), "auto")
    assert sum(isinstance(row, Caption) for row in read_captions(file, ReadingConfig())) == num_captions
