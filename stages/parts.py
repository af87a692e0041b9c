"""Row work in fixed parts: spread over Ray Data actors, resumable, and the same bytes however it is spread."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from stages.contract import MANIFEST, Artifact, Context
from stages.part_actors import forget_tries, run_on_ray
from stages.part_plan import Weights, plan_parts
from stages.part_tally import NUM_REASONS_SHOWN, PartsSummary, Tally
from stages.ray_session import require_local_gpu, torch_threads
from stages.storage import Folder

REJECTED = "rejected"
REJECTED_SCHEMA = pa.schema([("item", pa.string()), ("reason", pa.string())])
_RECORDS = "parts"
_PARQUET = {"compression": "zstd", "version": "2.6", "data_page_version": "1.0"}


def process_parts(
    context: Context,
    items: Sequence[Any],
    part_size: int,
    worker: type,
    arguments: Mapping[str, Any],
    tables: tuple[str, ...],
    max_rejected_fraction: float,
    rejected_of: Literal["items", "rows"] = "items",
    weights: Weights | None = None,
) -> PartsSummary:
    """Turn items into parquet tables, part by part: `worker(**arguments)(items of a part) -> {table: pa.Table}`.

    Every part must give every table of `tables`, and may give 'rejected' with columns item and reason. A worker may
    yield several such mappings instead, where a part does not fit in memory: each table of them becomes one row
    group of the part's file as it comes, and a whole number in them is a count that is added up. Slices of items, and
    arguments, must pickle; `weights` say what each item holds. Part i is written to `<table>-<i>.parquet`, then
    recorded in `parts/<i>.json`; a restart runs only the parts without a sound record. Raises ValueError when
    there are no items, when more than `max_rejected_fraction` of them are rejected (or, at the end, of the rows:
    those of the first table and the rejected ones), when the workers do not fit in the cluster, and with the message
    of any ValueError of a worker.
    """
    if not items:
        raise ValueError(f"there is nothing to process for {context.folder.uri}; the input holds no items")
    plan = plan_parts(len(items), part_size, weights)
    _remove_partial_files(context.folder)
    tally = Tally(len(items), max_rejected_fraction, tables[0] if rejected_of == "rows" else None)
    found = ((part, _sound_record(context.folder, part, rows.stop - rows.start)) for part, rows in enumerate(plan))
    done = {part: record for part, record in found if record is not None}
    known = replace(tally).add(*done.values())
    if context.folder.exists(MANIFEST):
        known.check()  # what is finished keeps its files
    if known.problem():  # the rejected items may have been repaired since
        done = {part: record for part, record in done.items() if not record["num_rejected"]}
    tally.add(*done.values())
    pending = [part for part in range(len(plan)) if part not in done]
    _forget(context.folder, pending)
    job = _Job(context.folder, worker, dict(arguments), tables, context.resources.num_cpus)
    work = ((part, items[plan[part]]) for part in pending)

    def advance(num_rows: int | None = None) -> None:
        unit = "items" if num_rows is None else f"items, {sum(tally.num_rows.values()) + num_rows:,} rows"
        context.advance(tally.num_done, len(items), unit)

    advance()
    if pending:
        on_ray = context.resources.num_workers > 0
        if not on_ray:
            require_local_gpu(context.resources.num_gpus)
        for record in (
            run_on_ray(context.resources, job, work, len(pending)) if on_ray else _run_here(job, work, advance)
        ):
            tally.add(record)
            tally.check()
            advance()
        _remove_partial_files(context.folder)  # of workers that died meanwhile
    rows_of = {table: tally.num_rows.get(table, 0) for table in tables}
    return PartsSummary(len(items), len(plan), tally.num_rejected, rows_of, tally.counts)


def _parquet_options(schema: pa.Schema) -> dict[str, Any]:
    """How tables are written: with dictionaries for all but floating-point numbers, which seldom repeat.

    A dictionary of them makes the file larger, and takes twice the time to write and four times to read.
    """
    leaves = (leaf for column in schema for leaf in _leaves(column.name, column.type))
    return {**_PARQUET, "use_dictionary": [path for path, kind in leaves if not pa.types.is_floating(kind)]}


def _leaves(path: str, kind: pa.DataType) -> Iterator[tuple[str, pa.DataType]]:
    """The innermost columns of a column, by their paths in a parquet file."""
    if pa.types.is_nested(kind):
        for number in range(kind.num_fields):
            inner = kind.field(number)
            name = inner.name if pa.types.is_struct(kind) else "list.element"
            yield from _leaves(f"{path}.{name}", inner.type)
    else:
        yield path, kind


def write_table(folder: Folder, name: str, table: pa.Table, durable: bool = True) -> None:
    """Write a table as `<name>.parquet`; equal tables give equal bytes. durable: as in `Folder.write`."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, **_parquet_options(table.schema))
    folder.write(f"{name}.parquet", sink.getvalue().to_pybytes(), durable)


def table_files(folder: Folder, name: str) -> list[str]:
    """The files of a table's parts in order; ValueError when there are none, except for 'rejected'."""
    whole, parts = f"{name}.parquet", re.compile(re.escape(name) + r"-\d{5,}\.parquet")
    numbered = (file for file in folder.names() if parts.fullmatch(file))
    files = [whole] if folder.exists(whole) else sorted(numbered, key=lambda file: (len(file), file))
    if not files and name != REJECTED:
        raise ValueError(f"{folder.uri} holds no table '{name}'; its files are {', '.join(folder.names()) or 'none'}")
    return files


def iter_tables(source: Artifact | Folder, name: str, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """The parts of a table in order, one at a time; a table written whole is one part.

    Raises ValueError when the table is not there; 'rejected' may be absent.
    """
    folder = source.folder if isinstance(source, Artifact) else source
    for file in table_files(folder, name):
        where = folder.path(file) if folder.is_local else pa.BufferReader(folder.read(file))
        yield pq.ParquetFile(where).read(columns=None if columns is None else list(columns))


def read_table(source: Artifact | Folder, name: str, columns: Sequence[str] | None = None) -> pa.Table:
    """All parts of a table in order, as one; without any rejected row, 'rejected' is empty."""
    parts = list(iter_tables(source, name, columns))
    return pa.concat_tables(parts).combine_chunks() if parts else REJECTED_SCHEMA.empty_table()


@dataclass(frozen=True)
class _Job:
    """What every worker of a run is given."""

    folder: Folder
    worker: type
    arguments: dict[str, Any]
    tables: tuple[str, ...]
    num_cpus: float

    def make_worker(self) -> Any:
        return self.worker(**self.arguments)

    def committed(self, part: int, num_items: int) -> dict[str, Any] | None:
        return _sound_record(self.folder, part, num_items)

    def run(self, worker: Any, part: int, items: Sequence[Any]) -> dict[str, Any]:
        return _run_part(self, worker, part, items)


def _run_here(
    job: _Job, work: Iterable[tuple[int, Sequence[Any]]], advance: Callable[[int], None]
) -> Iterator[dict[str, Any]]:
    with torch_threads(job.num_cpus):
        worker = job.make_worker()
        for part, items in work:
            yield _run_part(job, worker, part, items, advance)


def _run_part(
    job: _Job, worker: Any, part: int, items: Sequence[Any], advance: Callable[[int], None] = lambda num_rows: None
) -> dict[str, Any]:
    made = worker(items)
    written = _Written(job, part)
    if isinstance(made, Mapping):
        written.write_whole(made)
    else:
        written.write_pieces(made, advance)
    files = {}
    for table, num_rows in sorted(written.num_rows.items()):
        name = f"{table}-{part:05d}.parquet"
        sha256, size = job.folder.checksum(name)
        files[table] = {"name": name, "sha256": sha256, "bytes": size, "rows": num_rows}
    record = {
        "part": part,
        "num_items": len(items),
        "num_rejected": written.num_rows.get(REJECTED, 0),
        "reasons": written.reasons,
        "files": files,
        **({"counts": written.counts} if written.counts else {}),
    }
    job.folder.write(_record_name(part), json.dumps(record, indent=1).encode())
    return record


class _Written:
    """The tables of one part: written, and what is to be recorded of them."""

    def __init__(self, job: _Job, part: int) -> None:
        self._job, self._part = job, part
        self.num_rows: dict[str, int] = {}
        self.counts: dict[str, int] = {}
        self.reasons: list[str] = []

    def write_whole(self, made: Mapping[str, pa.Table]) -> None:
        for name, table in self._counted(made):
            write_table(self._job.folder, self._name(name), table)
        self._check_tables()

    def write_pieces(self, pieces: Iterable[Mapping[str, pa.Table | int]], advance: Callable[[int], None]) -> None:
        writers: dict[str, pq.ParquetWriter] = {}
        with ExitStack() as opened:
            for piece in pieces:
                for name, table in self._counted(piece):
                    if name not in writers:
                        writers[name] = opened.enter_context(self._writer(name, table.schema))
                    writers[name].write_table(table.combine_chunks(), row_group_size=max(1, table.num_rows))
                advance(sum(self.num_rows.values()))
            self._check_tables()

    def _counted(self, made: Mapping[str, pa.Table | int]) -> Iterator[tuple[str, pa.Table]]:
        """The tables of a piece, except for an empty 'rejected'."""
        for name, table in made.items():
            if isinstance(table, int):
                self.counts[name] = self.counts.get(name, 0) + table
                continue
            if name == REJECTED:
                table = table.cast(REJECTED_SCHEMA)
                shown = table.slice(0, NUM_REASONS_SHOWN - len(self.reasons)).to_pylist()
                self.reasons += [f"{row['item']}: {row['reason']}" for row in shown]
            if name != REJECTED or table.num_rows:
                self.num_rows[name] = self.num_rows.get(name, 0) + table.num_rows
                yield name, table

    def _check_tables(self) -> None:
        given, expected = {*self.num_rows, REJECTED}, {*self._job.tables, REJECTED}
        assert given == expected, f"{self._job.worker.__name__} gave {sorted(given)}, expected {sorted(expected)}"

    @contextmanager
    def _writer(self, name: str, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
        with (
            self._job.folder.stream(f"{self._name(name)}.parquet") as file,
            pq.ParquetWriter(file, schema, **_parquet_options(schema)) as writer,
        ):
            yield writer

    def _name(self, table: str) -> str:
        return f"{table}-{self._part:05d}"


def _sound_record(folder: Folder, part: int, num_items: int) -> dict[str, Any] | None:
    name = _record_name(part)
    if not folder.exists(name):
        return None
    record: dict[str, Any] = json.loads(folder.read(name))
    for file in record["files"].values():
        if not folder.exists(file["name"]) or folder.checksum(file["name"]) != (file["sha256"], file["bytes"]):
            return None
    return record if record["num_items"] == num_items else None


def _forget(folder: Folder, parts: Sequence[int]) -> None:
    """Let parts be made as if they never were; what they rejected before must not stay beside what they give now."""
    held = set(folder.names())
    for part in parts:
        for name in {_record_name(part), f"{REJECTED}-{part:05d}.parquet"} & held:
            folder.delete(name)
        forget_tries(folder, part)


def _remove_partial_files(folder: Folder) -> None:
    """Remove what writers that were killed left on a disk; on a remote store nothing is left."""
    if folder.is_local:
        for path in Path(folder.uri).rglob(".*.partial"):
            path.unlink(missing_ok=True)


def _record_name(part: int) -> str:
    return f"{_RECORDS}/{part:05d}.json"
