from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.contract import MANIFEST, Resources
from stages.local_context import LocalContext
from stages.part_actors import _rows
from stages.part_plan import MAX_PART_WEIGHT
from stages.part_tally import PartsSummary
from stages.parts import REJECTED_SCHEMA, iter_tables, process_parts, read_table, write_table
from stages.rows import RowGroupRef, read_row_group, row_group_refs
from stages.storage import Folder


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


def run(context: LocalContext, num_items: int = 10, limit: float = 0.5, **arguments: Any) -> PartsSummary:
    return process_parts(context, range(num_items), 3, Doubler, arguments, ("doubles",), limit)


def contents(folder: Folder) -> dict[str, bytes]:
    return {name: folder.read(name) for name in folder.names()}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(str(tmp_path / "out"))


def test_every_item_ends_in_a_table_or_among_the_rejected(folder: Folder) -> None:
    context = LocalContext(folder)
    summary = run(context, bad=(4, 5))
    assert summary == PartsSummary(num_items=10, num_parts=4, num_rejected=2, num_rows={"doubles": 8})
    assert read_table(folder, "doubles")["double"].to_pylist() == [0, 2, 4, 6, 12, 14, 16, 18]
    assert read_table(folder, "rejected").to_pylist() == [
        {"item": "4", "reason": "is bad"},
        {"item": "5", "reason": "is bad"},
    ]
    assert context.progress == [(done, 10, "items") for done in (0, 3, 6, 9, 10)]


def test_a_restart_runs_only_what_is_missing_or_damaged_and_gives_the_same_bytes(
    folder: Folder, tmp_path: Path
) -> None:
    run(LocalContext(folder), bad=(4,))
    whole = contents(folder)
    folder.delete("parts/00000.json")
    folder.delete("doubles-00002.parquet")
    folder.write("doubles-00003.parquet", b"half")
    seen = tmp_path / "seen"
    summary = run(LocalContext(folder), bad=(4,), seen=str(seen))
    assert seen.read_text().split() == ["0", "6", "9"]
    assert contents(folder) == whole
    assert summary.num_rows == {"doubles": 9}
    run(LocalContext(folder), bad=(4,), seen=str(tmp_path / "unseen"))
    assert not (tmp_path / "unseen").exists()


def test_what_killed_writers_left_is_removed(folder: Folder) -> None:
    run(LocalContext(folder))
    whole = sorted(os.listdir(folder.uri)), sorted(os.listdir(f"{folder.uri}/parts"))
    folder.delete("parts/00001.json")
    for left in (".doubles-00001.parquet.7-ab.partial", "parts/.00001.json.7-ab.partial", "parts/.00001.tries"):
        Path(folder.uri, left).touch()
    run(LocalContext(folder))
    assert (sorted(os.listdir(folder.uri)), sorted(os.listdir(f"{folder.uri}/parts"))) == whole


def test_heavy_items_end_in_smaller_parts(folder: Folder) -> None:
    weights = [MAX_PART_WEIGHT // 2] * 10
    summary = process_parts(LocalContext(folder), range(10), 3, Doubler, {}, ("doubles",), 0.0, weights=weights)
    assert summary.num_parts == 5
    assert read_table(folder, "doubles")["item"].to_pylist() == list(range(10))


NUMBERS = pa.schema([("number", pa.int64())])


class Counter:
    """Counts up to each item, a piece a number; rejects the multiples of `bad`, and breaks after `last`."""

    def __init__(self, bad: int = 100, last: int = 100) -> None:
        self.bad, self.last = bad, last

    def __call__(self, items: list[int]) -> Iterator[dict[str, pa.Table | int]]:
        yield {"numbers": NUMBERS.empty_table()}
        for number in range(1, items[0] + 1):
            if number > self.last:
                raise ValueError(f"{number} is too large")
            bad = [{"item": str(number), "reason": "is bad"}] if number % self.bad == 0 else []
            rows = pa.table({"number": [] if bad else [number] * number}, NUMBERS)
            yield {"numbers": rows, "rejected": pa.Table.from_pylist(bad, REJECTED_SCHEMA), "odd": number % 2}


def count(context: LocalContext, items: list[int], limit: float = 0.0, **arguments: Any) -> PartsSummary:
    return process_parts(context, items, 1, Counter, arguments, ("numbers",), limit, rejected_of="rows")


@pytest.mark.parametrize("where", ["local", "memory"])
def test_pieces_of_a_part_become_its_row_groups_as_they_come(tmp_path: Path, where: str) -> None:
    folder = Folder(str(tmp_path / "out") if where == "local" else f"memory://{uuid.uuid4().hex}")
    summary = count(LocalContext(folder), [3, 1], 0.5, bad=2)
    assert summary == PartsSummary(2, 2, num_rejected=1, num_rows={"numbers": 5}, counts={"odd": 3})
    assert summary.metrics == {"num_items": 2, "num_rejected": 1, "num_numbers": 5, "num_odd": 3}
    refs = row_group_refs(folder, "numbers")
    sizes = [("numbers-00000", group, size) for group, size in enumerate([0, 1, 0, 3])]
    assert refs == [RowGroupRef(*each) for each in (*sizes, ("numbers-00001", 0, 0), ("numbers-00001", 1, 1))]
    assert read_row_group(folder, refs[3])["number"].to_pylist() == [3, 3, 3]
    groups = [read_row_group(folder, ref, ["number"]) for ref in row_group_refs(folder, "numbers")]
    assert pa.concat_tables(groups).equals(read_table(folder, "numbers"))
    assert read_table(folder, "rejected").to_pylist() == [{"item": "2", "reason": "is bad"}]
    whole = contents(folder)
    assert "rejected-00001.parquet" not in whole
    folder.delete("numbers-00001.parquet")
    assert count(LocalContext(folder), [3, 1], 0.5, bad=2) == summary
    assert contents(folder) == whole


def test_a_table_of_one_piece_is_the_table_written_whole(folder: Folder) -> None:
    with folder.stream("streamed.parquet") as file:
        table = pa.table({"a": list(range(1000)), "b": [str(row) for row in range(1000)]})
        with pq.ParquetWriter(file, table.schema, compression="zstd", version="2.6", data_page_version="1.0") as writer:
            writer.write_table(table)
    write_table(folder, "whole", table)
    assert folder.read("streamed.parquet") == folder.read("whole.parquet")


def test_an_error_between_pieces_leaves_no_file_of_the_part(folder: Folder) -> None:
    with pytest.raises(ValueError, match="4 is too large"):
        count(LocalContext(folder), [3, 5], last=3)
    assert sorted(os.listdir(folder.uri)) == ["numbers-00000.parquet", "parts"]
    assert os.listdir(f"{folder.uri}/parts") == ["00000.json"]


def test_of_rows_too_many_rejected_are_told_at_the_end_alone(folder: Folder) -> None:
    assert count(LocalContext(folder.child("a")), [9, 2], 0.025, bad=8).num_rejected == 1  # of 38 rows, then of 41
    message = r"^2 of 5 rows are rejected, more than max_rejected_fraction=0\.1 allows; first: 2: is bad; 2: is bad; "
    with pytest.raises(ValueError, match=message):
        count(LocalContext(folder.child("b")), [1, 2, 2], 0.1, bad=2)
    assert folder.child("b").exists("parts/00002.json")


def test_progress_in_place_tells_rows_too(folder: Folder) -> None:
    context = LocalContext(folder)
    count(context, [2, 1])
    rows = [f"items, {number} rows" for number in (0, 1, 3, 3, 4)]
    assert [unit for _, _, unit in context.progress] == ["items", *rows[:3], "items", *rows[3:], "items"]


def test_an_error_keeps_the_parts_before_it(folder: Folder) -> None:
    with pytest.raises(ValueError, match="item -1 is negative"):
        process_parts(LocalContext(folder), [1, 2, 3, -1], 3, Doubler, {}, ("doubles",), 0.0)
    assert folder.names() == ["doubles-00000.parquet", "parts/00000.json"]


def test_too_many_rejected_stop_the_run_as_soon_as_that_is_certain(folder: Folder) -> None:
    message = (
        r"2 of 10 items are rejected after 3, more than max_rejected_fraction=0\.1 allows; first: 0: is bad; 1: is bad"
    )
    for _ in range(2):
        with pytest.raises(ValueError, match=message):
            run(LocalContext(folder), bad=(0, 1), limit=0.1)
    assert run(LocalContext(folder.child("fewer")), bad=(0,), limit=0.1).num_rejected == 1


def test_a_lower_fraction_takes_nothing_from_what_is_finished(folder: Folder) -> None:
    run(LocalContext(folder), bad=(1, 4, 7))
    folder.write(MANIFEST, b"{}")
    whole = contents(folder)
    with pytest.raises(ValueError, match=r"3 of 10 items are rejected after 10, more than max_rejected_fraction=0\.1"):
        run(LocalContext(folder), bad=(1, 4, 7), limit=0.1)
    assert contents(folder) == whole


def test_nothing_to_process_is_an_error(folder: Folder) -> None:
    with pytest.raises(ValueError, match="holds no items"):
        run(LocalContext(folder), num_items=0)


def test_parts_work_in_a_store_that_is_not_a_disk() -> None:
    folder = Folder(f"memory://{uuid.uuid4().hex}")
    run(LocalContext(folder))
    run(LocalContext(folder))
    assert read_table(folder, "doubles", ["item"])["item"].to_pylist() == list(range(10))
    with pytest.raises(ValueError, match="seen by one process only"):
        run(LocalContext(folder.child("x"), Resources(num_workers=1)))


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
    run(LocalContext(folder.child("here")), bad=(4,))
    context = LocalContext(folder.child("ray"), Resources(num_workers=2))
    run(context, bad=(4,), deadly=7, grave=str(tmp_path / "grave"))
    assert (tmp_path / "grave").exists()
    assert contents(folder.child("ray")) == contents(folder.child("here"))
    assert context.progress[-1][:2] == (10, 10)


class Forgetful(Doubler):
    """Commits part 1, as if Ray had lost the answer of an earlier try, before it is asked for it."""

    def __init__(self, seen: str, kept: dict[str, bytes], place: Folder) -> None:
        super().__init__(seen)
        for name, data in kept.items():
            place.write(name, data)


def test_a_part_whose_answer_ray_lost_is_not_done_again(folder: Folder, tmp_path: Path, ray_session: Any) -> None:
    ray_session.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    run(LocalContext(folder.child("here")))
    whole = contents(folder.child("here"))
    kept = {name: data for name, data in whole.items() if "00001" in name}
    there, seen = folder.child("ray"), tmp_path / "seen"
    arguments = {"seen": str(seen), "kept": kept, "place": there}
    process_parts(LocalContext(there, Resources(num_workers=1)), range(10), 3, Forgetful, arguments, ("doubles",), 0.5)
    assert sorted(seen.read_text().split()) == ["0", "6", "9"]
    assert contents(there) == whole


def test_a_lost_cluster_is_told_apart_from_an_error_of_the_work(ray_session: Any) -> None:
    class Lost:
        def iter_rows(self) -> Iterator[dict[str, Any]]:
            yield {"answer": "{}"}
            raise ray_session.exceptions.ActorDiedError

    rows = _rows(Lost(), ray_session)
    assert next(rows) == {"answer": "{}"}
    with pytest.raises(RuntimeError, match=r"^the Ray cluster was lost \(ActorDiedError\); .* give the same command"):
        next(rows)


def test_an_error_in_an_actor_keeps_its_message(folder: Folder, ray_session: Any) -> None:
    ray_session.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with pytest.raises(ValueError, match=r"^bad holds 666; take it out$"):
        run(LocalContext(folder, Resources(num_workers=1)), bad=(666,))


def test_workers_that_never_fit_are_refused_at_once(folder: Folder, ray_session: Any) -> None:
    cpus = ray_session.cluster_resources()["CPU"]
    resources = Resources(num_workers=2, num_cpus=cpus / 2)
    message = rf"2 workers x {cpus / 2:g} CPUs \+ 1 spare = {cpus + 1:g}, but the Ray cluster has {cpus:g}"
    with pytest.raises(ValueError, match=message):
        run(LocalContext(folder, resources))
