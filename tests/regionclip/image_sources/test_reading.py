"""Images of tars, tables and folders: every one with its size, place and number, or with why it is left out."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from regionclip.captions.files import find_files
from regionclip.captions.reading import Caption, read_captions
from regionclip.captions.rows import ReadingConfig, Rejected
from regionclip.image_sources import found, reading
from regionclip.image_sources.listing import PackedFile, PlainFile, find_packed
from regionclip.image_sources.places import TarMember, first_image_id, parse_place
from regionclip.image_sources.reading import image_pieces, packed_pieces, plain_pieces
from regionclip.image_sources.tables import ColumnsConfig, read_table

Picture = Callable[..., bytes]
Write = Callable[..., Path]
Pieces = Iterable[dict[str, Any]]


def opener(root: Path) -> Callable[[str], AbstractContextManager[BinaryIO]]:
    def open_image(name: str) -> BinaryIO:
        if name.startswith("/") or ".." in name:
            raise ValueError(f"'{name}' does not name a file inside")
        return (root / name).open("rb")

    return open_image


def rows_of(pieces: Pieces) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The images, and the reason of each rejected item."""
    images: list[dict[str, Any]] = []
    rejected: dict[str, str] = {}
    for piece in pieces:
        if "images" in piece:
            images += piece["images"].to_pylist()
        if "rejected" in piece:
            rejected |= {row["item"]: row["reason"] for row in piece["rejected"].to_pylist()}
    return images, rejected


def read(path: Path, number: int = 0, **columns: str) -> tuple[list[dict[str, Any]], dict[str, str]]:
    (packed,) = find_packed(str(path.parent), path.name, "webdataset" if path.suffix == ".tar" else "parquet")
    config = ColumnsConfig(**columns)
    packed = replace(packed, number=number)
    return rows_of(packed_pieces(packed, config, opener(path.parent), str(path.parent)))


def test_members_are_found_with_size_place_hash_and_key(write_tar: Write, picture: Picture) -> None:
    images = [picture(5, 4), picture(7, 6, "JPEG")]
    members = [("s/a.png", images[0]), ("s/a.txt", b"one"), ("s/b.json", b"{}"), ("s/b.JPG", images[1])]
    path = write_tar("0.tar", members)
    rows, rejected = read(path, number=3)
    assert not rejected
    assert [(row["width"], row["height"], row["key"], row["uri"]) for row in rows] == [
        (5, 4, "s/a", "0.tar::s/a.png"),
        (7, 6, "s/b", "0.tar::s/b.JPG"),
    ]
    assert [row["image_id"] for row in rows] == [3 * 2**32, 3 * 2**32 + 1]
    for row, image in zip(rows, images, strict=True):
        place = parse_place(row["file_name"])
        assert isinstance(place, TarMember)
        assert path.read_bytes()[place.offset : place.offset + place.size] == image
        assert row["sha256"] == hashlib.sha256(image).hexdigest()


def test_long_names_do_not_shift_the_places(write_tar: Write, picture: Picture) -> None:
    path = write_tar("0.tar", [(f"{'x' * 300}/{n}.png", picture(n + 1)) for n in range(3)])
    for row in read(path)[0]:
        place = parse_place(row["file_name"])
        assert isinstance(place, TarMember)
        assert path.read_bytes()[place.offset :].startswith(b"\x89PNG")


def test_what_is_no_image_is_left_out_with_the_reason_and_keeps_its_number(
    write_tar: Write, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(found, "MAX_BYTES", 5000)
    members = [
        ("a.jpg", b""),
        ("b.jpg", b"no image"),
        ("c.txt", b"no image"),
        ("d.png", picture()),
        ("e.png", picture()),
        ("e.jpg", picture()),
        ("f.png", bytes(5001)),
        ("../g.png", picture()),
        ("h.png", picture()),
    ]
    rows, rejected = read(write_tar("0.tar", members))
    assert [(row["key"], row["image_id"]) for row in rows] == [("d", 3), ("h", 6)]
    assert rejected == {
        "0.tar::a.jpg": "image of 0 bytes: cannot be read as an image: no known format begins like this",
        "0.tar::b.jpg": "image of 8 bytes: cannot be read as an image: no known format begins like this",
        "0.tar::c": "no image among its members: .txt",
        "0.tar::e": "2 images, .png, .jpg; set image_column",
        "0.tar::f.png": "5,001 bytes, more than 5,000",
        "0.tar: ../g.png": "a name that leaves the archive's folder",
    }


def test_an_extension_chooses_among_the_images_of_a_sample(write_tar: Write, picture: Picture) -> None:
    path = write_tar("0.tar", [("a.jpg", picture(5)), ("a.depth.png", picture(6)), ("b.jpg", picture(7))])
    assert [row["width"] for row in read(path)[0]] == [5, 7]
    rows, rejected = read(path, image="depth.png")
    assert [(row["width"], row["image_id"]) for row in rows] == [(6, 0)]
    assert list(rejected) == ["0.tar::b"]


@pytest.mark.parametrize("form", ["webdataset", "parquet"])
def test_captions_and_images_of_one_file_have_the_same_ids(
    form: str, write_tar: Write, write_parquet: Write, picture: Picture
) -> None:
    bad = b"no image"
    if form == "webdataset":
        members = [("a.png", picture()), ("a.txt", b"a"), ("b.png", bad), ("b.txt", b"b"), ("c.png", picture())]
        path = write_tar("0.tar", [*members, ("d.txt", b"d"), ("d.png", picture()), ("d.json", b'{"caption": "D"}')])
        expected = {"a": 0, "b": 1, "D": 3}
    else:
        texts = ["a", "lost", "b", "", "D"]
        status = ["success", "failed_to_download", "success", "success", "success"]
        images = [picture(), None, bad, picture(), picture()]
        columns = {"key": list("01234"), "status": status, "error_message": [None] * 5, "caption": texts}
        path = write_parquet("0.parquet", 2, jpg=pa.array(images, pa.binary()), **columns)
        expected = {"a": 0, "b": 1, "D": 3}
    (file,) = find_files([str(path)], None, "auto")
    file = replace(file, first_image_id=first_image_id(7))
    captions = [row for row in read_captions(file, ReadingConfig()) if isinstance(row, Caption)]
    assert {caption.text: caption.image_id for caption in captions} == {
        text: 7 * 2**32 + number for text, number in expected.items()
    }
    kept = {row["image_id"] - 7 * 2**32 for row in read(path, number=7)[0]}
    assert kept == {0, 2, 3}
    unnumbered = read_captions(replace(file, first_image_id=None), ReadingConfig())
    assert {row.image_id for row in unnumbered if isinstance(row, Caption)} == {None}


def test_a_broken_archive_keeps_the_images_before_and_says_where(write_tar: Write, picture: Picture) -> None:
    path = write_tar("0.tar", [("a.png", picture()), ("b.png", picture())])
    whole = path.read_bytes()
    path.write_bytes(whole[:1124])
    rows, rejected = read(path)
    assert [row["key"] for row in rows] == ["a"]
    assert rejected == {"0.tar::a.png": "the file is damaged after this row (the archive has no end: truncated header)"}
    path.write_bytes(whole[: 1536 + 20])
    rows, rejected = read(path)
    assert [row["key"] for row in rows] == ["a"]
    assert rejected == {"0.tar::a.png": "the file is damaged after this row (unexpected end of data)"}


def test_every_row_after_damage_of_a_table_is_rejected(write_parquet: Write) -> None:
    path = write_parquet("a.parquet", 10, image=[bytes([row]) * 500 for row in range(100)])
    data = bytearray(path.read_bytes())
    start = pq.read_metadata(path).row_group(2).column(0).data_page_offset
    data[start : start + 20] = bytes(20)
    path.write_bytes(data)
    rejected = read(path)[1]
    lost = [f"a.parquet: row {row}" for row in range(21, 101)]
    assert list(rejected)[20:] == lost
    assert {rejected[item].partition(" (")[0] for item in lost} == {"lost: the file is damaged after row 20"}


def test_bytes_in_a_column_or_in_a_struct_are_named_by_row_group_and_row(
    write_parquet: Write, picture: Picture
) -> None:
    data = [picture(n + 1) for n in range(3)]
    plain = write_parquet("a.parquet", 2, image=data, key=[10, 11, 12])
    struct = write_parquet("b.parquet", 2, image=[{"bytes": image, "path": "x.png"} for image in data])
    rows, _ = read(plain)
    assert [row["file_name"] for row in rows] == [f"a.parquet::image@{place}" for place in ("0/0", "0/1", "1/0")]
    assert [(row["width"], row["key"]) for row in rows] == [(1, "10"), (2, "11"), (3, "12")]
    rows, _ = read(struct)
    assert [row["file_name"] for row in rows][2] == "b.parquet::image.bytes@1/0"
    assert [row["width"] for row in rows] == [1, 2, 3]


def test_rows_without_an_image_are_left_out(write_parquet: Write, picture: Picture) -> None:
    path = write_parquet("a.parquet", 2, image=pa.array([picture(), None, b"junk", picture(9)], pa.binary()))
    rows, rejected = read(path)
    assert [(row["image_id"], row["width"]) for row in rows] == [(0, 4), (3, 9)]
    assert rejected["a.parquet: row 2"] == "no image"
    assert "no known format" in rejected["a.parquet::image@1/0"]


def test_uris_are_followed_below_the_root_alone(write_parquet: Write, picture: Picture, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "1.png").write_bytes(picture(8))
    inside = ["in/1.png", f"{tmp_path}/in/1.png", f"file://{tmp_path}/in/1.png", f"file:{tmp_path}/in/1.png"]
    outside = ["../secret.png", "/etc/hostname", "in/absent.png", None, "s3://bucket/1.png", "file://host/1.png"]
    rows, rejected = read(write_parquet("a.parquet", 9, url=inside + outside), uri="url")
    assert {row["file_name"] for row in rows} == {"in/1.png"}
    assert [row["uri"] for row in rows] == inside
    assert [row["image_id"] for row in rows] == [0, 1, 2, 3]
    assert list(rejected) == [f"a.parquet: row {row}" for row in (5, 6, 7, 8, 9, 10)]
    for row, uri in ((6, "/etc/hostname"), (9, "s3://bucket/1.png"), (10, "file://host/1.png")):
        assert rejected[f"a.parquet: row {row}"].startswith(f"{uri}: not below {tmp_path}; set root to a folder")


@pytest.mark.parametrize(
    ("root", "uris"), [("/", ["/in/1.png", "file:///in/2.png", "in/3.png"]), ("s3://bucket", ["s3://bucket/in/1.png"])]
)
def test_uris_are_opened_by_their_place_in_the_root(
    write_parquet: Write, picture: Picture, root: str, uris: list[str]
) -> None:
    def open_image(name: str) -> BinaryIO:
        assert name.startswith("in/")
        return io.BytesIO(picture())

    with write_parquet("a.parquet", 9, url=uris).open("rb") as stream:
        opened = list(read_table(stream, "a.parquet", ColumnsConfig(uri="url"), open_image, root))
    assert [each.name for each in opened if isinstance(each, found.Found)] == [
        f"in/{number + 1}.png" for number in range(len(uris))
    ]


def test_given_ids_are_whole_numbers_that_do_not_repeat(write_parquet: Write, picture: Picture) -> None:
    path = write_parquet("a.parquet", 9, image=[picture()] * 4, id=[5, 5, -1, 7])
    rows, rejected = read(path, id="id")
    assert [row["image_id"] for row in rows] == [5, 7]
    assert list(rejected.values()) == ["the image id 5 stands twice", "the image id -1 is no whole number of 63 bits"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"image": "jpg"}, "no column 'jpg'; the columns are a, b, url"),
        ({"image": "url"}, "column 'url' is of type string, not bytes"),
        ({}, "2 columns hold bytes, of a, b, url; set image_column, or uri_column"),
        ({"image": "a", "id": "id"}, "no column 'id'"),
        ({"uri": "uri"}, "no column 'uri'"),
    ],
)
def test_columns_that_cannot_be_told_stop(write_parquet: Write, columns: dict[str, str], message: str) -> None:
    path = write_parquet("a.parquet", 2, a=[b"1"], b=[b"2"], url=["x"])
    with pytest.raises(ValueError, match=message):
        read(path, **columns)


def test_plain_files_are_numbered_as_listed(tmp_path: Path, picture: Picture) -> None:
    (tmp_path / "a.png").write_bytes(picture(3, 2))
    files = [PlainFile(4, "absent.png"), PlainFile(5, "a.png")]
    rows, rejected = rows_of(plain_pieces(files, opener(tmp_path)))
    assert [(row["image_id"], row["file_name"], row["width"], row["height"]) for row in rows] == [(5, "a.png", 3, 2)]
    assert list(rejected) == ["absent.png"]


def test_pieces_are_of_fixed_size_and_a_file_without_images_is_one_empty_table(picture: Picture) -> None:
    def images(count: int) -> Sequence[found.Found]:
        return [found.Found(n, f"{n}.png", f"{n}.png", picture()) for n in range(count)]

    sizes = [piece["images"].num_rows for piece in image_pieces(images(5), 0, 2) if "images" in piece]
    assert sizes == [2, 2, 1]
    (piece,) = image_pieces([Rejected("x", "y")], 0, 2)
    assert piece["images"].num_rows == 0
    assert piece["images"].schema == reading.PACKED_IMAGES
    assert piece["rejected"].num_rows == 1


def test_a_missing_file_is_the_users_mistake(tmp_path: Path, write_tar: Write) -> None:
    path = write_tar("0.tar", [])
    (packed,) = find_packed(str(tmp_path), "0.tar", "webdataset")
    path.unlink()
    with pytest.raises(ValueError, match=r"0\.tar does not exist"):
        list(packed_pieces(PackedFile(0, "0.tar", packed.file), ColumnsConfig(), opener(tmp_path), str(tmp_path)))
