"""A full disk, a store that cannot be written and an input that is gone: a clear error, and a store to go on with."""

from __future__ import annotations

import io
import random
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from rich.console import Console

from pipelines.runner import NoTracker, Runner, Status
from stages.contract import Context, Resources, Result, Stage
from stages.local_context import LocalContext
from stages.parts import process_parts, read_table, write_table
from stages.rows import RowReader, RowRef
from stages.storage import Folder


@pytest.mark.parametrize("seed", range(4))
def test_a_full_disk_is_named_and_the_work_goes_on_when_there_is_room(
    seed: int, drivers: Any, undisturbed: Any, site: Any
) -> None:
    total = sum(len(data) for data in undisturbed.contents().values())
    assert drivers.run(**site.asked, room=random.Random(seed).randrange(500, total)) == 1
    assert "cannot be written ([Errno 28] No space left on device); free or choose another place" in drivers.said()
    assert site.artifact() is None
    assert not list(site.home.rglob("*.partial"))
    site.note_kill()
    assert drivers.run(**site.asked) == 0
    site.check_nothing_was_done_twice()
    assert site.contents() == undisturbed.contents()


@pytest.fixture
def small_disk(site: Any) -> Iterator[Path]:
    """A file system of 128 KiB where the site's store will be."""
    place = site.home / "store"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(place)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("this user may not mount a small file system")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_is_really_full_is_named_and_may_grow(
    drivers: Any, undisturbed: Any, site: Any, small_disk: Path
) -> None:
    assert drivers.run(**site.asked) == 1
    assert "No space left on device" in drivers.said()
    assert site.committed()
    assert site.artifact() is None
    site.note_kill()
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    assert drivers.run(**site.asked) == 0
    site.check_nothing_was_done_twice()
    assert site.contents() == undisturbed.contents()


def test_a_store_that_turns_read_only_is_named_and_taken_up_when_it_can_be_written_again(
    drivers: Any, undisturbed: Any, site: Any, small_disk: Path
) -> None:
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    drivers.start(**site.asked, hold_at=2)
    drivers.until(lambda: bool(site.committed()) and bool(site.working()), "a part is done and the next one begun")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    site.let_go()
    assert drivers.wait() == 1
    assert "cannot be written ([Errno 30] Read-only file system" in drivers.said()
    assert site.artifact() is None
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    site.note_kill()
    assert list(small_disk.glob(".locks/*.json"))  # its dead owner could not remove it
    assert drivers.run(**site.asked) == 0
    site.check_nothing_was_done_twice()
    assert site.contents() == undisturbed.contents()


def test_a_store_that_is_a_file_is_named(drivers: Any, site: Any) -> None:
    (site.home / "store").touch()
    assert drivers.run(**site.asked) == 2
    assert f"the store {site.home}/store cannot be written" in drivers.said()


class FullTracker(NoTracker):
    """Records on a full disk: runs can begin, and nothing more can be noted of them."""

    def end(self, status: Status, manifest: Mapping[str, Any] | None) -> None:
        raise OSError("the records are full")

    def close(self, status: Status) -> None:
        raise OSError("the records are full")


def test_records_on_the_same_full_disk_do_not_hide_which_file_was_not_written(tmp_path: Path) -> None:
    def fill(context: Context, config: object) -> Result:
        raise ValueError("numbers.parquet cannot be written")

    stage = Stage("fill", 1, {}, "numbers", fill, identity=lambda config: {})
    run = Runner(Folder(str(tmp_path)), FullTracker(), console=Console(file=io.StringIO()))
    with pytest.raises(ValueError, match=r"numbers\.parquet cannot be written"), run:
        run(stage, Resources())


class Copier:
    """Copies the rows that it is given references to."""

    def __init__(self, source: Folder) -> None:
        self._rows = RowReader(source)

    def __call__(self, items: Sequence[RowRef]) -> dict[str, pa.Table]:
        return {"copies": self._rows.take(items)}


def test_an_input_that_is_gone_is_named_and_may_come_back(tmp_path: Path) -> None:
    source, target = Folder(str(tmp_path / "in")), Folder(str(tmp_path / "out"))
    for part in range(2):
        write_table(source, f"numbers-{part:05d}", pa.table({"number": [2 * part, 2 * part + 1]}))
    refs = [RowRef(f"numbers-{part:05d}", row) for part in range(2) for row in range(2)]
    kept = source.read("numbers-00001.parquet")
    source.delete("numbers-00001.parquet")
    with pytest.raises(ValueError, match=r"in holds no table 'numbers-00001'; its files are numbers-00000\.parquet"):
        process_parts(LocalContext(target), refs, 1, Copier, {"source": source}, ("copies",), 0.0)
    assert target.exists("parts/00001.json")
    source.write("numbers-00001.parquet", kept)
    process_parts(LocalContext(target), refs, 1, Copier, {"source": source}, ("copies",), 0.0)
    assert read_table(target, "copies")["number"].to_pylist() == [0, 1, 2, 3]
