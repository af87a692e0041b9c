from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from regionclip.image_sources.listing import check_columns, find_packed, find_plain, resolve_form
from regionclip.image_sources.tables import ColumnsConfig


def touch(root: Path, *names: str) -> str:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return str(root)


def test_plain_images_are_sorted_by_path_whatever_else_lies_there(tmp_path: Path) -> None:
    root = touch(tmp_path, "i/b.JPG", "i/a/c.png", "i/notes.txt", "i/.a.jpg", "i/.thumbs/x.jpg", "else.jpg")
    assert [(file.number, file.name) for file in find_plain(root, "i")] == [(0, "i/a/c.png"), (1, "i/b.JPG")]
    assert [file.name for file in find_plain(root, ".")] == ["else.jpg", "i/a/c.png", "i/b.JPG"]


def test_packed_files_are_sorted_and_named_below_the_root(tmp_path: Path) -> None:
    root = touch(tmp_path / "se[1]", "s/1.tar", "s/0.tar", "s/0.parquet", "s/0_stats.json", "t/9.tar")
    for images in ("s", "s/*.tar"):
        found = find_packed(root, images, "webdataset")
        assert [(file.number, file.name) for file in found] == [(0, "s/0.tar"), (1, "s/1.tar")]
    assert [file.name for file in find_packed(root, "s", "parquet")] == ["s/0.parquet"]


def test_files_behind_a_uri_are_listed_alike() -> None:
    files = fsspec.filesystem("memory")
    for name in ("s/1.tar", "s/0.tar", "i/a.jpg"):
        files.pipe_file(f"memory://listing/{name}", b"")
    assert [file.name for file in find_packed("memory://listing", "s", "webdataset")] == ["s/0.tar", "s/1.tar"]
    assert [file.name for file in find_plain("memory://listing", "i")] == ["i/a.jpg"]
    assert resolve_form("auto", "memory://listing", "s", "instances.json") == "webdataset"


@pytest.mark.parametrize(
    ("images", "form"), [("s/0.tar", "webdataset"), ("p/*.parquet", "parquet"), ("s", "webdataset"), ("p", "parquet")]
)
def test_the_form_is_told_by_names_or_by_what_the_folder_holds(tmp_path: Path, images: str, form: str) -> None:
    root = touch(tmp_path, "s/0.tar", "s/0.parquet", "p/0.parquet", "i/0.jpg")
    assert resolve_form("auto", root, images, "instances.json") == form
    with pytest.raises(ValueError, match=r"instances\.json: no such file; .* set format: folder"):
        resolve_form("auto", root, "i", "instances.json")
    touch(tmp_path, "instances.json")
    assert resolve_form("auto", root, "i", "instances.json") == "coco"
    assert resolve_form("folder", root, "i", "instances.json") == "folder"


def test_a_place_that_cannot_be_looked_into_is_named_as_it_was_given() -> None:
    with pytest.raises(ValueError, match=r"^nosuch://place: nothing tells the format there .* set format: coco, "):
        resolve_form("auto", "nosuch://place", "images", "instances.json")


@pytest.mark.parametrize("images", ["../other", "/etc", "s3://bucket", "a/../../b"])
def test_names_that_leave_the_root_are_refused(tmp_path: Path, images: str) -> None:
    for find in (find_plain, lambda root, name: find_packed(root, name, "webdataset")):
        with pytest.raises(ValueError, match="give a relative name without"):
            find(str(tmp_path), images)


def test_a_folder_without_packed_files_is_said_in_words_that_fit_images(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"/i: no files of the form 'webdataset' \(none of a known form there\); set"):
        find_packed(touch(tmp_path, "i/a.jpg"), "i", "webdataset")


@pytest.mark.parametrize(("name", "message"), [("0.tar.gz", "unpack it"), ("a::b.tar", "rename the file")])
def test_files_without_places_are_refused(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_packed(touch(tmp_path, name), name, "webdataset")


def test_a_packed_file_whose_name_is_not_utf8_is_refused(tmp_path: Path) -> None:
    try:
        root = touch(tmp_path, "a\udcff.tar")
    except OSError as error:
        pytest.skip(f"this file system takes no such name: {error}")
    with pytest.raises(ValueError, match=r"a\\udcff\.tar': its name is not UTF-8, .*rename the file"):
        find_packed(root, ".", "webdataset")


def test_options_that_a_form_has_no_use_for_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="id_column is 'id', which images of the form 'webdataset' do not have"):
        check_columns("webdataset", ColumnsConfig(id="id"), None)
    with pytest.raises(ValueError, match="image_column is 'jpg', which images of the form 'coco'"):
        check_columns("coco", ColumnsConfig(image="jpg"), None)
    with pytest.raises(ValueError, match="split 'val' is asked"):
        check_columns("folder", ColumnsConfig(), "val")
    with pytest.raises(ValueError, match="choose one of auto, coco"):
        resolve_form("zip", str(tmp_path), "i", "x")
    with pytest.raises(ValueError, match="no image files there"):
        find_plain(str(tmp_path), "i")
    with pytest.raises(ValueError, match="need root"):
        resolve_form("folder", None, "i", "x")
    check_columns("coco", ColumnsConfig(), "val")
