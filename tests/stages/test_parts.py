from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from stages.contract import Resources
from stages.parts import REJECTED_SCHEMA, PartsSummary, iter_tables, process_parts, read_table, write_table
from stages.storage import Folder


@dataclass
class Lent:
    """A context that keeps what it is told."""

    folder: Folder
    resources: Resources = field(default_factory=lambda: Resources(num_workers=0))
    progress: list[tuple[int, int]] = field(default_factory=list)

    def log(self, metrics: Mapping[str, float], step: int) -> None: ...

    def advance(self, done: int, total: int, unit: str) -> None:
        self.progress.append((done, total))


class Doubler:
    """Doubles numbers, rejects those in `bad`, ends its process once at `deadly`, refuses negative ones."""

    def __init__(self, seen: str = "", bad: tuple[int, ...] = (), deadly: int | None = None, grave: str = "") -> None:
        if 666 in bad:
            raise ValueError("bad holds 666; take it out")
        self.seen, self.bad, self.deadly, self.grave = seen, bad, deadly, grave

    def __call__(self, items: list[int]) -> dict[str, pa.Table]:
        if self.deadly in items and not os.path.exists(self.grave):
            Path(self.grave).touch()
            os._exit(9)
        if min(items) < 0:
            raise ValueError(f"item {min(items)} is negative; give positive ones")
        if self.seen:
            with open(self.seen, "a") as file:
                file.write(f"{items[0]} ")
        good = [item for item in items if item not in self.bad]
        lost = [{"item": str(item), "reason": "is bad"} for item in items if item in self.bad]
        doubles = pa.table({"item": good, "double": [2 * item for item in good]})
        return {"doubles": doubles, "rejected": pa.Table.from_pylist(lost, schema=REJECTED_SCHEMA)}


def run(context: Lent, num_items: int = 10, limit: float = 0.5, **arguments: Any) -> PartsSummary:
    return process_parts(context, range(num_items), 3, Doubler, arguments, ("doubles",), limit)


def contents(folder: Folder) -> dict[str, bytes]:
    return {name: folder.read(name) for name in folder.names()}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(str(tmp_path / "out"))


def test_every_item_ends_in_a_table_or_among_the_rejected(folder: Folder) -> None:
    context = Lent(folder)
    summary = run(context, bad=(4, 5))
    assert summary == PartsSummary(num_items=10, num_parts=4, num_rejected=2, num_rows={"doubles": 8})
    assert read_table(folder, "doubles")["double"].to_pylist() == [0, 2, 4, 6, 12, 14, 16, 18]
    assert read_table(folder, "rejected").to_pylist() == [
        {"item": "4", "reason": "is bad"},
        {"item": "5", "reason": "is bad"},
    ]
    assert context.progress == [(0, 10), (3, 10), (6, 10), (9, 10), (10, 10)]


def test_a_restart_runs_only_what_is_missing_or_damaged_and_gives_the_same_bytes(
    folder: Folder, tmp_path: Path
) -> None:
    run(Lent(folder), bad=(4,))
    whole = contents(folder)
    folder.delete("parts/00000.json")
    folder.delete("doubles-00002.parquet")
    folder.write("doubles-00003.parquet", b"half")
    seen = tmp_path / "seen"
    summary = run(Lent(folder), bad=(4,), seen=str(seen))
    assert seen.read_text().split() == ["0", "6", "9"]
    assert contents(folder) == whole
    assert summary.num_rows == {"doubles": 9}
    run(Lent(folder), bad=(4,), seen=str(tmp_path / "unseen"))
    assert not (tmp_path / "unseen").exists()


def test_an_error_keeps_the_parts_before_it(folder: Folder) -> None:
    with pytest.raises(ValueError, match="item -1 is negative"):
        process_parts(Lent(folder), [1, 2, 3, -1], 3, Doubler, {}, ("doubles",), 0.0)
    assert folder.names() == ["doubles-00000.parquet", "parts/00000.json"]


def test_too_many_rejected_stop_the_run_as_soon_as_that_is_certain(folder: Folder) -> None:
    message = (
        r"2 of 10 items are rejected after 3, more than max_rejected_fraction=0\.1 allows; first: 0: is bad; 1: is bad"
    )
    for _ in range(2):
        with pytest.raises(ValueError, match=message):
            run(Lent(folder), bad=(0, 1), limit=0.1)
    assert run(Lent(folder.child("fewer")), bad=(0,), limit=0.1).num_rejected == 1


def test_nothing_to_process_is_an_error(folder: Folder) -> None:
    with pytest.raises(ValueError, match="holds no items"):
        run(Lent(folder), num_items=0)


def test_parts_work_in_a_store_that_is_not_a_disk() -> None:
    folder = Folder(f"memory://{uuid.uuid4().hex}")
    run(Lent(folder))
    run(Lent(folder))
    assert read_table(folder, "doubles", ["item"])["item"].to_pylist() == list(range(10))
    with pytest.raises(ValueError, match="seen by one process only"):
        run(Lent(folder.child("x"), Resources(num_workers=1)))


def test_equal_tables_are_equal_bytes_however_they_are_chunked(folder: Folder) -> None:
    table = pa.table({"features": pa.array([[0.5, 1.0]] * 6, pa.list_(pa.float16(), 2))})
    write_table(folder, "a", table)
    write_table(folder, "b", pa.concat_tables([table.slice(0, 2), table.slice(2)]))
    assert folder.read("a.parquet") == folder.read("b.parquet")
    assert read_table(folder, "a").equals(table)


def test_a_table_that_is_not_there_is_named(folder: Folder) -> None:
    write_table(folder, "doubles-of-all", pa.table({"a": [1]}))
    with pytest.raises(ValueError, match=r"no table 'doubles'; its files are doubles-of-all\.parquet"):
        list(iter_tables(folder, "doubles"))
    assert read_table(folder, "rejected").schema == REJECTED_SCHEMA


def test_actors_give_the_bytes_of_one_process_even_when_one_is_killed(
    folder: Folder, tmp_path: Path, ray_session: Any
) -> None:
    ray_session.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    run(Lent(folder.child("here")), bad=(4,))
    context = Lent(folder.child("ray"), Resources(num_workers=2))
    run(context, bad=(4,), deadly=7, grave=str(tmp_path / "grave"))
    assert (tmp_path / "grave").exists()
    assert contents(folder.child("ray")) == contents(folder.child("here"))
    assert context.progress[-1] == (10, 10)


def test_an_error_in_an_actor_keeps_its_message(folder: Folder, ray_session: Any) -> None:
    ray_session.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with pytest.raises(ValueError, match=r"^bad holds 666; take it out$"):
        run(Lent(folder, Resources(num_workers=1)), bad=(666,))


def test_workers_that_never_fit_are_refused_at_once(folder: Folder, ray_session: Any) -> None:
    cpus = ray_session.cluster_resources()["CPU"]
    resources = Resources(num_workers=2, num_cpus=cpus / 2)
    message = rf"2 workers x {cpus / 2:g} CPUs \+ 1 spare = {cpus + 1:g}, but the Ray cluster has {cpus:g}"
    with pytest.raises(ValueError, match=message):
        run(Lent(folder, resources))
