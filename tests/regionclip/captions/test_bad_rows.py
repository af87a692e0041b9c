"""Bad input: each fault costs its own row, is said with its place and reason, and the reading goes on."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regionclip.captions import lines, tars
from regionclip.captions.files import CaptionFile
from regionclip.captions.reading import caption_pieces, read_captions
from regionclip.captions.rows import ReadingConfig, Rejected

Rows = list[tuple[Any, ...]]
Read = Callable[..., Rows]
UNCUT = b"".join(b"caption %d\n" % row for row in range(5))


def caption(text: str, image_id: int | None = None) -> tuple[int | None, str]:
    return (image_id, text)


@pytest.mark.parametrize(
    ("name", "data", "config", "rows"),
    [
        (
            "a.txt",
            b"one\n\n  \nbad \xff\nlast",
            {},
            [
                caption("one"),
                ("a.txt:2", "empty caption"),
                ("a.txt:3", "empty caption"),
                ("a.txt:4", "not UTF-8: invalid start byte at byte 4"),
                caption("last"),
            ],
        ),
        (
            "a.txt",
            b"w " * 10_000 + b"\nshort\n" + b"w" * 20_001,
            {},
            [
                ("a.txt:1", "10,000 words, more than max_words=1000"),
                caption("short"),
                ("a.txt:3", "20,001 characters, more than 20 a word for max_words=1000"),
            ],
        ),
        ("a.txt", b"a b\na b c\n", {"max_words": 2}, [caption("a b"), ("a.txt:2", "3 words, more than max_words=2")]),
        (
            "a.tsv",
            b"a\thttp://a\nb\thttp://b\textra\nno url\n\xffc\thttp://c\n",
            {},
            [
                caption("a"),
                ("a.tsv:2", "3 tab-separated fields instead of 2"),
                ("a.tsv:3", "1 tab-separated fields instead of 2"),
                ("a.tsv:4", "not UTF-8: invalid start byte at byte 0"),
            ],
        ),
        (
            "a.tsv",
            b"a\thttp://a\n",
            {"id_column": "key"},
            [("a.tsv:1", "no column 'key'; the columns are caption, url")],
        ),
        (
            "a.csv",
            b'key,caption\n1,"a\nb"\n1,twice\n3\n4,"c"d\n5,\xff\n6,"never closed\n',
            {"id_column": "key"},
            [
                caption("a\nb"),
                ("a.csv:4", "the id 1 stands twice"),
                ("a.csv:5", "1 fields instead of 2"),
                ("a.csv:6", "not CSV: ',' expected after '\"'"),
                ("a.csv:7", "not UTF-8: invalid start byte at byte 0"),
                ("a.csv:8", "not CSV: unexpected end of data"),
            ],
        ),
        (
            "a.csv",
            b"key,text\n1,a\n2,b\n",
            {},
            [(f"a.csv:{line}", "no column 'caption'; the columns are key, text") for line in (2, 3)],
        ),
        (
            "a.jsonl",
            b'{"caption": "a"}\n{"text": "b"}\n{"caption": 3}\n{"caption": null}\nnone\n[1]\n{"caption": "\xff"}\n'
            b'{"caption": "\\ud800"}\n',
            {},
            [
                caption("a"),
                ("a.jsonl:2", "no column 'caption'; the columns are text"),
                ("a.jsonl:3", "the caption is of type int, not text"),
                ("a.jsonl:4", "empty caption"),
                ("a.jsonl:5", "not JSON: Expecting value: line 1 column 1 (char 0)"),
                ("a.jsonl:6", "a JSON list instead of an object"),
                ("a.jsonl:7", "not UTF-8: invalid start byte at byte 13"),
                ("a.jsonl:8", "not UTF-8: it has half of a surrogate pair"),
            ],
        ),
        (
            "a.jsonl",
            b'{"caption": "a", "id": 7}\n{"caption": "b", "id": "7"}\n{"caption": "c"}\n{"caption": "d", "id": null}\n',
            {"id_column": "id"},
            [
                caption("a"),
                ("a.jsonl:2", "the id 7 stands twice"),
                ("a.jsonl:3", "no column 'id'; the columns are caption"),
                ("a.jsonl:4", "no id"),
            ],
        ),
    ],
)
def test_a_bad_line_is_named_with_its_reason(
    read: Read, name: str, data: bytes, config: dict[str, Any], rows: Rows
) -> None:
    assert read(name, data, **config) == rows


def test_a_line_without_end_is_left_out_unread(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MAX_LINE", 10)
    reason = "a line of more than 10 bytes"
    rows = read("a.txt", b"a\n" + b"x" * 35 + b"\nnine char\n")
    assert rows == [caption("a"), ("a.txt:2", reason), caption("nine char")]
    assert read("a.csv", b"caption\n" + b"x" * 35 + b"\na\n") == [("a.csv:2", reason), caption("a")]


def coco(**changes: Any) -> bytes:
    images = [{"id": 7, "split": "train"}, {"id": 3, "split": "val"}]
    annotations = [
        {"id": 1, "image_id": 7, "caption": "a dog"},
        {"id": 2, "image_id": 3, "caption": "a cat"},
        {"id": 1, "image_id": 7, "caption": "a dog again"},
        {"id": 4, "image_id": 8, "caption": "of no image"},
        {"id": 5, "image_id": 3, "caption": " "},
        {"id": 6, "image_id": 3},
        {"id": "7", "image_id": 3, "caption": "x"},
        {"id": 8, "image_id": 3, "caption": "a BYTE"},
        {"id": 9, "image_id": 3, "caption": "last"},
    ]
    return json.dumps({"images": images, "annotations": annotations, **changes}).encode().replace(b"BYTE", b"\xff\xfe")


def test_a_bad_annotation_is_named_by_its_id(read: Read) -> None:
    of_split = [
        ("a.json: annotation 4", "image_id 8, which 'images' does not list"),
        ("a.json: annotation 5", "empty caption"),
        ("a.json: annotation 6", "no 'caption'"),
        ("a.json: annotation record 7", "no whole-number 'id'"),
        ("a.json: annotation 8", "not UTF-8: it has bytes that are no text"),
        caption("last", 3),
    ]
    twice = ("a.json: annotation 1", "the id 1 stands twice")
    assert read("a.json", coco()) == [caption("a dog", 7), caption("a cat", 3), twice, *of_split]
    assert read("a.json", coco(), split="val") == [caption("a cat", 3), *of_split]


@pytest.mark.parametrize(
    ("data", "split", "message"),
    [
        (b"[]", None, "not COCO, its list 'images' is missing or empty"),
        (coco(images=[]), None, "not COCO, its list 'images' is missing or empty"),
        (coco(annotations=[]), None, "empty dataset, its list 'annotations' has no records"),
        (coco(annotations=[{"id": 1, "image_id": 7}]), None, "no annotation has a 'caption'; give a captions file"),
        (coco(), "test", "no image has the split 'test'; choose one of train, val"),
        (coco(images=[{"id": 7}]), "val", "split 'val' is asked but image 7 has no 'split'"),
        (coco(annotations=[{"id": 1, "image_id": 7, "caption": "a"}]), "val", "split 'val' has no captions"),
    ],
)
def test_a_json_file_of_another_kind_is_refused(read: Read, data: bytes, split: str | None, message: str) -> None:
    with pytest.raises(ValueError, match=rf"/a\.json: {message}") as error:
        read("a.json", data, split=split)
    assert "\n" not in str(error.value)


def test_a_bad_sample_is_named_by_its_key(
    read: Read, make_tar: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tars, "MAX_MEMBER", 100)
    members = [
        ("0.txt", b"sound"),
        ("../1.txt", b"x"),
        ("/2.txt", b"x"),
        ("a/3.jpg", b"x"),
        ("a/3.cls", b"x"),
        ("4.txt", b"\xff"),
        ("5.txt", b"x" * 101),
        ("6.json", b"{"),
        ("7.txt", b"x"),
        ("7.txt", b"y"),
        ("8.json", b'{"title": "x"}'),
        ("9.jpg", b"x" * 101),
        ("9.txt", b"last"),
    ]
    leaves = "a name that leaves the archive's folder"
    assert read("a.tar", make_tar(members)) == [
        ("a.tar: ../1.txt", leaves),
        ("a.tar: /2.txt", leaves),
        caption("sound"),
        ("a.tar: a/3", "no caption among its members: .cls, .jpg"),
        ("a.tar: 4", "not UTF-8: invalid start byte at byte 0"),
        ("a.tar: 5", ".txt has 101 bytes, more than 100"),
        ("a.tar: 6", "not JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        ("a.tar: 7", ".txt stands twice"),
        ("a.tar: 8", "no column 'caption'; the columns are title"),
        caption("last"),
    ]


def test_a_bad_table_row_is_named_by_its_number(read: Read, make_parquet: Callable[..., bytes]) -> None:
    table = make_parquet(caption=["a", None, "", "b"], key=[1, 2, 3, 1])
    empty = [("a.parquet: row 2", "empty caption"), ("a.parquet: row 3", "empty caption")]
    assert read("a.parquet", table) == [caption("a"), *empty, caption("b")]
    twice = ("a.parquet: row 4", "the id 1 stands twice")
    assert read("a.parquet", table, id_column="key") == [caption("a"), *empty, twice]
    other = "no column 'title'; the columns are caption, key"
    assert read("a.parquet", table, column="title") == [(f"a.parquet: row {row}", other) for row in (1, 2, 3, 4)]
    assert read("a.parquet", make_parquet(caption=[3])) == [
        ("a.parquet: row 1", "the caption is of type int, not text")
    ]
    undecodable = ("a.parquet: row 2", "not UTF-8: invalid start byte at byte 0")
    assert read("a.parquet", make_parquet(caption=[b"a", b"\xff"])) == [caption("a"), undecodable]


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@given(share=st.floats(0, 1, exclude_max=True))
@settings(max_examples=15, deadline=None)
def test_a_half_written_file_keeps_its_whole_lines_and_one_rejected_row(
    tmp_path_factory: pytest.TempPathFactory, packed: Callable[[bytes, str], bytes], suffix: str, share: float
) -> None:
    data = packed(b"".join(b"%d %d\n" % (row, row**9) for row in range(4000)), suffix)
    path = tmp_path_factory.getbasetemp() / f"half.txt{suffix}"
    path.write_bytes(data[: int(share * len(data))])
    *kept, last = read_captions(
        CaptionFile(str(path), "text", {".gz": "gzip", ".zst": "zstd"}[suffix]), ReadingConfig()
    )
    assert [row.text for row in kept] == [f"{row} {row**9}" for row in range(len(kept))]  # type: ignore[union-attr]
    assert isinstance(last, Rejected)
    assert last.place == f"half.txt{suffix}" + (f":{len(kept)}" if kept else "")
    assert last.reason.startswith(f"the file is damaged {'after this row' if kept else 'before its first row'} (")


def test_whatever_is_half_written_says_so_at_the_last_row(
    read: Read, make_tar: Callable[..., bytes], make_parquet: Callable[..., bytes]
) -> None:
    whole = make_tar([("0.txt", b"zero"), ("1.txt", b"one")])
    for end, reason in {
        1024 + 512 + 2: "unexpected end of data",
        1024 + 100: "the archive has no end: truncated header",
        2048: "the archive has no end: empty header",
    }.items():
        *_, last = read("a.tar", whole[:end])
        assert last in [(place, f"the file is damaged after this row ({reason})") for place in ("a.tar: 0", "a.tar: 1")]
    before = "the file is damaged before its first row"
    table = make_parquet(caption=["a"] * 100)
    ((place, reason),) = read("a.parquet", table[: len(table) // 2])
    assert (place, reason.startswith(f"{before} (Parquet magic bytes not found")) == ("a.parquet", True)
    assert read("a.json", coco()[:-110])[-1][1] == "the file is damaged after this row (parse error: premature EOF)"
    assert read("a.json", b"no json") == [("a.json", f"{before} (lexical error: invalid string in json text.)")]
    assert read("a.json.gz", gzip.compress(coco())[:-8])[-2] == caption("last", 3)
    assert read("a.txt.gz", b"") == [("a.txt.gz", f"{before} (the file is empty, which no compressed file is)")]
    assert read("a.txt.gz", UNCUT) == [("a.txt.gz", f"{before} (Not a gzipped file (b'ca'))")]
    assert len(read("a.txt.gz", gzip.compress(UNCUT)[:-4])) == 6


def test_every_row_after_damage_of_a_table_is_rejected(read: Read, make_parquet: Callable[..., bytes]) -> None:
    table = bytearray(make_parquet(caption=[f"caption {row}" for row in range(3000)]))
    start = pq.read_metadata(io.BytesIO(table)).row_group(1).column(0).dictionary_page_offset
    table[start : start + 20] = bytes(20)
    rows = read("a.parquet", bytes(table))
    assert rows[:1000] == [caption(f"caption {row}") for row in range(1000)]
    assert [place for place, _ in rows[1000:]] == [f"a.parquet: row {row}" for row in range(1001, 3001)]
    assert rows[-1][1].startswith("lost: the file is damaged after row 1000 (")


def test_rejected_rows_can_be_stored_whatever_their_bytes(tmp_path: Path, make_tar: Callable[..., bytes]) -> None:
    (tmp_path / "a.tar").write_bytes(make_tar([("\udcff.jpg", b""), ("b.\udcfe", b"")]))
    (piece,) = caption_pieces(CaptionFile(str(tmp_path / "a.tar"), "webdataset"), ReadingConfig())
    assert piece["rejected"].to_pylist() == [
        {"item": "a.tar: \\udcff", "reason": "no caption among its members: .jpg"},
        {"item": "a.tar: b", "reason": "no caption among its members: .\\udcfe"},
    ]
