"""Finding captions files: by path, folder, glob or URI, refused by name before anything is read."""

from __future__ import annotations

import io
import uuid
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from regionclip.captions.files import CaptionFile, check_options, find_files
from regionclip.captions.reading import read_captions
from regionclip.captions.rows import ReadingConfig
from regionclip.place_errors import PlaceError
from regionclip.source_files import files_sha256, named_sha256


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())


def names(files: list[CaptionFile]) -> list[str]:
    return [file.name for file in files]


@pytest.mark.parametrize(
    ("name", "form", "found"),
    [
        ("a.json", "auto", ("coco", "")),
        ("a.tsv.gz", "auto", ("tsv", "gzip")),
        ("a.ndjson.zst", "auto", ("jsonl", "zstd")),
        ("a.tgz", "auto", ("webdataset", "gzip")),
        ("A.CSV", "auto", ("csv", "")),
        ("a.data", "jsonl", ("jsonl", "")),
        ("a.json.gz", "jsonl", ("jsonl", "gzip")),
        ("0.tar", "img2dataset", ("webdataset", "")),
        ("0.parquet", "img2dataset", ("parquet", "")),
    ],
)
def test_the_form_goes_by_the_suffix_unless_it_is_named(
    tmp_path: Path, name: str, form: str, found: tuple[str, str]
) -> None:
    touch(tmp_path, name)
    (file,) = find_files([str(tmp_path / name)], None, form)
    assert (file.form, file.compression) == found


def test_globs_and_folders_are_taken_in_order_of_their_names(tmp_path: Path) -> None:
    touch(tmp_path, "in/b.jsonl", "in/a.jsonl.gz", "in/_SUCCESS.txt", "in/.hidden.csv", "in/deep/c.jsonl", "first.txt")
    assert names(find_files(["in"], str(tmp_path), "auto")) == ["a.jsonl.gz", "b.jsonl"]
    assert names(find_files(["first.txt", "in/*.jsonl"], str(tmp_path), "auto")) == ["first.txt", "b.jsonl"]
    assert names(find_files(["in/**/*.jsonl"], str(tmp_path), "auto")) == ["b.jsonl", "c.jsonl"]


def test_a_downloaded_folder_is_read_from_its_tables_else_its_tars(tmp_path: Path) -> None:
    touch(tmp_path, *(f"0000{shard}{end}" for shard in (1, 0) for end in (".tar", ".parquet", "_stats.json")))
    for form in ("auto", "img2dataset"):
        assert names(find_files([str(tmp_path)], None, form)) == ["00000.parquet", "00001.parquet"]
    assert names(find_files([str(tmp_path)], None, "webdataset")) == ["00000.tar", "00001.tar"]
    for shard in (0, 1):
        (tmp_path / f"0000{shard}.parquet").unlink()
    assert names(find_files([str(tmp_path)], None, "auto")) == ["00000.tar", "00001.tar"]


def test_a_home_folder_and_names_with_signs_of_a_glob_are_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    touch(tmp_path, "a[1].txt")
    assert find_files(["~/a[1].txt"], None, "auto") == [CaptionFile(str(tmp_path / "a[1].txt"), "text")]


def test_signs_of_a_glob_in_the_root_are_taken_as_they_are(tmp_path: Path) -> None:
    touch(tmp_path, "se[1]*/a.txt", "se[1]*/b.txt", "se1/c.txt")
    assert names(find_files(["*.txt"], str(tmp_path / "se[1]*"), "auto")) == ["a.txt", "b.txt"]


def test_a_uri_is_read_where_it_lies() -> None:
    folder = f"memory://{uuid.uuid4().hex}"
    for name in ("b.txt", "a.txt"):
        with fsspec.open(f"{folder}/{name}", "wb") as file:
            file.write(b"a dog\n")
    found = find_files([f"{folder}/*.txt"], None, "auto")
    assert [file.uri for file in found] == [f"memory:///{folder[9:]}/a.txt", f"memory:///{folder[9:]}/b.txt"]
    assert names(find_files(["a.txt"], folder, "auto")) == ["a.txt"]
    with found[0].open() as stream:
        assert stream.read() == b"a dog\n"


def test_a_file_is_known_by_its_bytes_wherever_it_lies(tmp_path: Path) -> None:
    uri = f"memory://{uuid.uuid4().hex}/a.txt"
    with fsspec.open(uri, "wb") as file:
        file.write(b"a.txt")
    touch(tmp_path, "a.txt")
    local, remote = CaptionFile(str(tmp_path / "a.txt"), "text"), CaptionFile(uri, "text")
    assert files_sha256([local.uri]) == files_sha256([remote.uri])
    with fsspec.open(uri, "wb") as file:
        file.write(b"other bytes")
    assert files_sha256([remote.uri]) != files_sha256([local.uri])


@pytest.mark.parametrize(
    ("files", "form", "message"),
    [
        ([], "auto", "files is empty"),
        (["none.txt"], "auto", r"/none\.txt: no such file"),
        (["*.csv"], "auto", r"/\*\.csv: no file fits"),
        (["a.docx"], "auto", r"/a\.docx: unknown kind of captions file '\.docx'; give one of \.json, \.tsv"),
        (["a.txt"], "word", "format is 'word'; choose one of auto, coco"),
        (["a.txt"], "img2dataset", r"/a\.txt: unknown kind"),
        (["a.parquet.gz"], "auto", "parquet is compressed inside"),
        (["a.txt", "./*.txt"], "auto", r"/a\.txt is named twice"),
        ([""], "auto", "does not name a file inside"),
        (["../a.txt"], "auto", "'../a.txt' does not name a file inside"),
        (["/etc/hosts"], "auto", "'/etc/hosts' does not name a file inside"),
        (["memory://x/a.txt"], "auto", "does not name a file inside"),
        (["mixed"], "auto", r"/mixed: no files of one form \(csv, text there\)"),
        (["mixed"], "coco", r"no files of the form 'coco' \(csv, text there\)"),
        (["empty"], "auto", r"no files of one form \(none of a known form there\)"),
    ],
)
def test_what_cannot_be_found_is_refused_by_name(tmp_path: Path, files: list[str], form: str, message: str) -> None:
    touch(tmp_path, "a.txt", "a.docx", "a.parquet.gz", "mixed/a.csv", "mixed/b.txt", "empty/picture.jpg")
    with pytest.raises(ValueError, match=message) as error:
        find_files(files, str(tmp_path), form)
    assert "\n" not in str(error.value)


def test_an_unknown_scheme_is_named() -> None:
    with pytest.raises(ValueError, match=r"nosuch://x/a\.txt: .*use a path"):
        find_files(["nosuch://x/a.txt"], None, "auto")


def test_options_that_a_form_has_no_use_for_are_refused() -> None:
    with pytest.raises(ValueError, match=r"a\.tsv: split 'val' is asked but a tsv file has no splits"):
        check_options([CaptionFile("/a.tsv", "tsv")], "val", None)
    with pytest.raises(ValueError, match="a text file has no column 'key'"):
        check_options([CaptionFile("/a.txt", "text")], None, "key")
    check_options([CaptionFile("/a.json", "coco")], "val", None)


class LostFile(io.BytesIO):
    """A file whose connection breaks."""

    def read(self, size: int | None = -1) -> bytes:
        raise OSError("connection lost")


class LostFileSystem(MemoryFileSystem):
    protocol = "lost"

    def info(self, path: str, **named: Any) -> Any:
        raise PermissionError("wrong key") if "mine" in path else OSError("connection lost")

    def _open(self, path: str, *arguments: Any, **named: Any) -> LostFile:
        return LostFile(bytes(100))


@pytest.mark.parametrize("form", ["text", "coco", "webdataset", "parquet"])
@pytest.mark.parametrize("compression", ["", "gzip", "zstd"])
def test_a_file_that_cannot_be_read_is_not_taken_for_a_damaged_one(form: str, compression: str) -> None:
    fsspec.register_implementation("lost", LostFileSystem, clobber=True)
    with pytest.raises(PlaceError, match=r"lost://a cannot be read \(connection lost\)"):
        list(read_captions(CaptionFile("lost://a", form, compression), ReadingConfig()))


def test_a_place_that_cannot_tell_whether_a_file_is_there_is_not_taken_for_an_empty_one() -> None:
    fsspec.register_implementation("lost", LostFileSystem, clobber=True)
    for find in (lambda uri: find_files([uri], None, "auto"), lambda uri: named_sha256(uri, "name one")):
        with pytest.raises(PlaceError, match=r"lost://a\.txt cannot be read \(connection lost\)"):
            find("lost://a.txt")
        with pytest.raises(ValueError, match=r"lost://mine\.txt cannot be read \(wrong key\)"):
            find("lost://mine.txt")
