"""Row work in fixed parts: spread over Ray Data actors, resumable, and the same bytes however it is spread."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stages.contract import Artifact, Context
from stages.ray_session import ensure_ray, require_room, torch_threads
from stages.storage import Folder

REJECTED = "rejected"
REJECTED_SCHEMA = pa.schema([("item", pa.string()), ("reason", pa.string())])
_RECORDS = "parts"
_MAX_TRIES = 3
_NUM_REASONS_SHOWN = 3


@dataclass(frozen=True)
class PartsSummary:
    """Totals over all parts, those of earlier attempts included; num_rows: table name -> rows."""

    num_items: int
    num_parts: int
    num_rejected: int
    num_rows: Mapping[str, int]

    @property
    def metrics(self) -> dict[str, float]:
        """The totals as flat numbers: num_items, num_rejected and num_<table>."""
        rows = {f"num_{table}": float(count) for table, count in self.num_rows.items()}
        return {"num_items": float(self.num_items), "num_rejected": float(self.num_rejected), **rows}


def process_parts(
    context: Context,
    items: Sequence[Any],
    part_size: int,
    worker: type,
    arguments: Mapping[str, Any],
    tables: tuple[str, ...],
    max_rejected_fraction: float,
) -> PartsSummary:
    """Turn items into parquet tables, part by part: `worker(**arguments)(items of a part) -> {table: pa.Table}`.

    Every part must give every table of `tables`, and may give 'rejected' with columns item and reason. Items
    and arguments must pickle. Part i is written to `<table>-<i>.parquet`, then recorded in `parts/<i>.json`;
    a restart runs only the parts without a sound record. Raises ValueError when there are no items, when more
    than `max_rejected_fraction` of them are rejected, when the workers do not fit in the cluster, and with
    the message of any ValueError of a worker.
    """
    if not items:
        raise ValueError(f"there is nothing to process for {context.folder.uri}; the input holds no items")
    plan = {part: slice(start, start + part_size) for part, start in enumerate(range(0, len(items), part_size))}
    tally = _Tally(len(items), max_rejected_fraction)
    pending = []
    for part, rows in plan.items():
        record = _sound_record(context.folder, part, len(items[rows]))
        if record is None:
            pending.append(part)
        else:
            tally.add(record)
    tally.check()
    job = _Job(context.folder, worker, dict(arguments), tables, context.resources.num_cpus)
    work = ((part, items[plan[part]]) for part in pending)
    run = _run_here if context.resources.num_workers == 0 else _run_on_ray
    context.advance(tally.num_done, len(items), "items")
    for record in run(context, job, work, len(pending)) if pending else ():
        tally.add(record)
        tally.check()
        context.advance(tally.num_done, len(items), "items")
    rows_of = {table: tally.num_rows.get(table, 0) for table in tables}
    return PartsSummary(len(items), len(plan), tally.num_rejected, rows_of)


def write_table(folder: Folder, name: str, table: pa.Table) -> None:
    """Write a table as `<name>.parquet`; equal tables give equal bytes."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", version="2.6", data_page_version="1.0")
    folder.write(f"{name}.parquet", sink.getvalue().to_pybytes())


def iter_tables(source: Artifact | Folder, name: str, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """The parts of a table in order, one at a time; a table written whole is one part.

    Raises ValueError when the table is not there; 'rejected' may be absent.
    """
    folder = source.folder if isinstance(source, Artifact) else source
    whole, parts = f"{name}.parquet", re.compile(re.escape(name) + r"-\d{5,}\.parquet")
    files = [whole] if folder.exists(whole) else [file for file in folder.names() if parts.fullmatch(file)]
    if not files and name != REJECTED:
        raise ValueError(f"{folder.uri} holds no table '{name}'; its files are {', '.join(folder.names()) or 'none'}")
    for file in files:
        where = folder.path(file) if folder.is_local else pa.BufferReader(folder.read(file))
        yield pq.ParquetFile(where).read(columns=None if columns is None else list(columns))


def read_table(source: Artifact | Folder, name: str, columns: Sequence[str] | None = None) -> pa.Table:
    """All parts of a table in order, as one; without any rejected row, 'rejected' is empty."""
    parts = list(iter_tables(source, name, columns))
    return pa.concat_tables(parts).combine_chunks() if parts else REJECTED_SCHEMA.empty_table()


class _Tally:
    """Counts over finished parts, and the stop when too much is lost."""

    def __init__(self, num_items: int, max_rejected_fraction: float) -> None:
        self.num_items, self.max_rejected_fraction = num_items, max_rejected_fraction
        self.num_done = self.num_rejected = 0
        self.num_rows: dict[str, int] = {}
        self.reasons: list[str] = []

    def add(self, record: Mapping[str, Any]) -> None:
        self.num_done += record["num_items"]
        self.num_rejected += record["num_rejected"]
        self.reasons += record["reasons"]
        for table, file in record["files"].items():
            self.num_rows[table] = self.num_rows.get(table, 0) + file["rows"]

    def check(self) -> None:
        if self.num_rejected > self.max_rejected_fraction * self.num_items:
            raise ValueError(
                f"{self.num_rejected} of {self.num_items} items are rejected after {self.num_done}, more than "
                f"max_rejected_fraction={self.max_rejected_fraction:g} allows; first: "
                f"{'; '.join(self.reasons[:_NUM_REASONS_SHOWN])}; repair the items or raise max_rejected_fraction"
            )


@dataclass(frozen=True)
class _Job:
    """What every worker of a run is given."""

    folder: Folder
    worker: type
    arguments: dict[str, Any]
    tables: tuple[str, ...]
    num_cpus: float


def _run_here(
    context: Context, job: _Job, work: Iterable[tuple[int, Sequence[Any]]], num_parts: int
) -> Iterator[dict[str, Any]]:
    with torch_threads(job.num_cpus):
        worker = job.worker(**job.arguments)
        for part, items in work:
            yield _run_part(job, worker, part, items)


def _run_on_ray(
    context: Context, job: _Job, work: Iterable[tuple[int, Sequence[Any]]], num_parts: int
) -> Iterator[dict[str, Any]]:
    if not job.folder.is_shared:
        raise ValueError(f"{job.folder.uri} is seen by one process only; set num_workers to 0 or use another store")
    resources = context.resources
    num_actors = min(resources.num_workers, num_parts)
    ray = ensure_ray()
    require_room(num_actors, resources.num_cpus, resources.num_gpus, spare_cpus=1.0)
    rows = []
    for part, items in work:
        job.folder.delete(_tries_name(part))
        rows.append({"part": part, "items": pickle.dumps(items)})
    answers = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        _Actor,
        fn_constructor_kwargs={"job": ray.cloudpickle.dumps(job)},
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=num_actors),
        num_cpus=resources.num_cpus,
        num_gpus=resources.num_gpus,
    )
    for row in answers.iter_rows():
        answer = json.loads(row["answer"])
        if "error" in answer:
            raise ValueError(answer["error"])
        yield answer


class _Actor:
    """Holds one worker in a Ray process; a ValueError travels back as an answer, so that its message stays clean."""

    def __init__(self, job: bytes) -> None:
        self._job: _Job = pickle.loads(job)
        self._worker: Any = None
        self._threads = torch_threads(self._job.num_cpus)
        self._threads.__enter__()

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        try:
            if self._worker is None:
                self._worker = self._job.worker(**self._job.arguments)
            answers = [
                self._try_part(int(part), pickle.loads(items))
                for part, items in zip(batch["part"], batch["items"], strict=True)
            ]
        except ValueError as error:
            answers = [{"error": str(error)}]
        return {"answer": [json.dumps(answer) for answer in answers]}

    def _try_part(self, part: int, items: Sequence[Any]) -> dict[str, Any]:
        """Ray re-runs a part whose process died, without end; the count of tries lies in a hidden file."""
        folder, name = self._job.folder, _tries_name(part)
        tries = int(folder.read(name)) if folder.exists(name) else 0
        if tries == _MAX_TRIES:
            raise ValueError(
                f"part {part} ended its worker process {tries} times (first item: {items[0]!r:.200}); "
                "look for lack of memory or a broken item, then run again"
            )
        folder.write(name, str(tries + 1).encode(), durable=False)
        record = _run_part(self._job, self._worker, part, items)
        folder.delete(name)
        return record


def _run_part(job: _Job, worker: Any, part: int, items: Sequence[Any]) -> dict[str, Any]:
    made: dict[str, pa.Table] = worker(items)
    expected = {*job.tables, REJECTED}
    assert {*made, REJECTED} == expected, f"{job.worker.__name__} gave {sorted(made)}, expected {sorted(expected)}"
    rejected = made.get(REJECTED, REJECTED_SCHEMA.empty_table()).cast(REJECTED_SCHEMA)
    if rejected.num_rows == 0:
        made = {table: rows for table, rows in made.items() if table != REJECTED}
    files = {}
    for table, rows in sorted(made.items()):
        name = f"{table}-{part:05d}"
        write_table(job.folder, name, rows)
        sha256, size = job.folder.checksum(f"{name}.parquet")
        files[table] = {"name": f"{name}.parquet", "sha256": sha256, "bytes": size, "rows": rows.num_rows}
    shown = rejected.slice(0, _NUM_REASONS_SHOWN).to_pylist()
    record = {
        "part": part,
        "num_items": len(items),
        "num_rejected": rejected.num_rows,
        "reasons": [f"{row['item']}: {row['reason']}" for row in shown],
        "files": files,
    }
    job.folder.write(_record_name(part), json.dumps(record, indent=1).encode())
    return record


def _sound_record(folder: Folder, part: int, num_items: int) -> dict[str, Any] | None:
    name = _record_name(part)
    if not folder.exists(name):
        return None
    record: dict[str, Any] = json.loads(folder.read(name))
    for file in record["files"].values():
        if not folder.exists(file["name"]) or folder.checksum(file["name"]) != (file["sha256"], file["bytes"]):
            return None
    return record if record["num_items"] == num_items else None


def _record_name(part: int) -> str:
    return f"{_RECORDS}/{part:05d}.json"


def _tries_name(part: int) -> str:
    return f"{_RECORDS}/.{part:05d}.tries"
