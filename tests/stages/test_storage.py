from __future__ import annotations

import errno
import gc
import os
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFile, MemoryFileSystem
from fsspec.spec import AbstractBufferedFile
from hypothesis import given
from hypothesis import strategies as st

from regionclip.place_errors import PlaceError
from stages.storage import Folder


@pytest.fixture(params=["local", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    return Folder(str(tmp_path / "f")) if request.param == "local" else Folder(f"memory://{uuid.uuid4().hex}")


def test_what_is_written_is_read_and_listed_in_order(folder: Folder) -> None:
    folder.write("b.bin", b"old")
    folder.write("b.bin", b"two", durable=False)
    folder.write("a/deep/c.bin", b"one")
    assert folder.names() == ["a/deep/c.bin", "b.bin"]
    assert folder.folders() == ["a"]
    assert folder.child("a").child("deep").read("c.bin") == b"one"
    assert folder.read("b.bin") == b"two"
    assert folder.checksum("b.bin") == ("3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3", 3)


def test_a_folder_that_was_never_written_is_empty(folder: Folder) -> None:
    assert (folder.names(), folder.folders(), folder.exists("a")) == ([], [], False)
    folder.clear()
    folder.delete("a")


def test_delete_and_clear_remove_just_what_they_name(folder: Folder) -> None:
    for name in ("keep", "go", "in/side"):
        folder.write(name, b"")
    folder.delete("go")
    folder.child("in").clear()
    assert folder.names() == ["keep"]


def test_hidden_names_can_be_read_but_are_not_listed(folder: Folder) -> None:
    folder.write(".notes/x", b"1")
    assert folder.read(".notes/x") == b"1"
    assert folder.names() == folder.folders() == []


def test_a_missing_file_is_named(folder: Folder) -> None:
    with pytest.raises(ValueError, match=r"/gone\.bin does not exist"):
        folder.read("gone.bin")


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x", "", "s3://bucket/x"])
def test_names_that_leave_the_folder_are_refused(folder: Folder, name: str) -> None:
    with pytest.raises(ValueError, match="does not name a file inside"):
        folder.write(name, b"")


@given(st.lists(st.text("ab./-", min_size=1, max_size=4), min_size=1, max_size=4).map("/".join))
def test_every_name_is_refused_or_stays_inside(name: str) -> None:
    try:
        path = Folder("/store/x").path(name)
    except ValueError:
        return
    assert os.path.normpath(path).startswith("/store/x/")


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Folder(str(tmp_path))
    folder.write("a", b"old")

    def fail(source: object, target: object) -> None:
        raise OSError("disk is gone")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(PlaceError, match=r"/a cannot be written \(disk is gone\)"):
        folder.write("a", b"new")
    assert folder.read("a") == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_a_stream_appears_whole_when_it_ends_and_never_after_an_error(folder: Folder) -> None:
    def write(name: str, fails: bool) -> None:
        with folder.stream(name) as file:
            file.write(b"one")
            file.write(b" two")
            if folder.is_local:
                assert folder.names() == ["old"]
            if fails:
                raise RuntimeError

    folder.write("old", b"")
    with pytest.raises(RuntimeError):
        write("a/b", fails=True)
    assert folder.names() == ["old"]
    write("a/b", fails=False)
    assert folder.read("a/b") == b"one two"
    with folder.open("a/b") as file:
        file.seek(4)
        assert file.read() == b"two"


class Upload(AbstractBufferedFile):
    """A file that its place shows when it is closed, in place of an older one."""

    def _upload_chunk(self, final: bool = False) -> bool:
        if final:
            self.fs.store[self.path] = MemoryFile(self.fs, self.path, self.buffer.getvalue())
        return final

    def discard(self) -> None:
        raise ConnectionError("nobody answers")


class Uploads(MemoryFileSystem):
    protocol = "uploads"
    store: ClassVar[dict[str, MemoryFile]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]

    def _open(self, path: str, mode: str = "rb", *arguments: Any, **named: Any) -> Any:
        return Upload(self, path, mode) if mode == "wb" else super()._open(path, mode, *arguments, **named)


def test_an_upload_that_breaks_off_leaves_the_older_file() -> None:
    fsspec.register_implementation("uploads", Uploads, clobber=True)
    folder = Folder("uploads://place")

    def write(text: bytes, fails: bool) -> None:
        with folder.stream("a") as file:
            file.write(text)
            if fails:
                raise RuntimeError("of the work")

    write(b"old", fails=False)
    with pytest.raises(RuntimeError, match="of the work"):
        write(b"part", fails=True)
    gc.collect()
    assert folder.read("a") == b"old"


def test_a_stream_that_cannot_be_written_is_named_and_other_errors_keep_their_own_words(tmp_path: Path) -> None:
    def write(error: OSError | None) -> None:
        with Folder(str(tmp_path / "full")).stream("a") as file:
            if error is not None:
                raise error
            file.write(b"1")

    with pytest.raises(OSError, match=r"^not of this file$"):
        write(OSError("not of this file"))
    os.rmdir(tmp_path / "full")
    (tmp_path / "full").touch()
    with pytest.raises(ValueError, match=r"full/a cannot be written .* choose another place"):
        write(None)


def test_a_place_that_cannot_hold_files_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"file/a cannot be written .* choose another place"):
        Folder(str(tmp_path / "file")).write("a", b"")


def test_an_unknown_scheme_is_named() -> None:
    with pytest.raises(ValueError, match=r"nosuch://x: .*use a path"):
        Folder("nosuch://x").read("a")


def test_spellings_of_one_place_are_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Folder("a/b") == Folder(f"file://{tmp_path}/a/b/") == Folder(str(tmp_path)).child("a").child("b")
    assert Folder("a/b").parent == Folder("a")


def test_local_gives_the_files_of_a_remote_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RGC_CACHE", str(tmp_path))
    folder = Folder(f"memory://{uuid.uuid4().hex}")
    for content in (b"1", b"2"):
        folder.write("in/a", content)
        assert (folder.local() / "in" / "a").read_bytes() == content


def test_of_all_that_create_a_file_one_does(folder: Folder) -> None:
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda number: folder.create("in/a", bytes([number])), range(8)))
    assert sum(made) == 1
    assert folder.read("in/a") == bytes([made.index(True)])


@pytest.mark.parametrize(
    ("failure", "kind"),
    [(errno.EIO, PlaceError), (errno.ETIMEDOUT, PlaceError), (errno.ESTALE, PlaceError), (errno.EACCES, ValueError)],
)
def test_what_a_disk_fails_to_read_is_told_from_what_may_not_be_read(
    failure: int, kind: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> bytes:
        raise OSError(failure, os.strerror(failure))

    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(kind, match=rf"{tmp_path}/a cannot be read \(\[Errno {failure}\]") as caught:
        Folder(str(tmp_path)).read("a")
    assert isinstance(caught.value, PlaceError) == (kind is PlaceError)


def test_staging_writes_all_files_or_none(folder: Folder) -> None:
    def stage(name: str, fails: bool) -> None:
        with folder.staging() as scratch:
            (scratch / "sub").mkdir()
            (scratch / "sub" / name).write_bytes(b"1")
            if fails:
                raise RuntimeError

    stage("a", fails=False)
    with pytest.raises(RuntimeError):
        stage("b", fails=True)
    assert folder.names() == ["sub/a"]
