"""Concept pools from the command line: comparing two, writing one to a file, taking one in from a file."""

from __future__ import annotations

import csv
import io
import json
import string
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipelines import summary
from pipelines.store import find_artifact
from pipelines.taking_in import take_in
from regionclip.concepts.difference import Change, Difference, Entry, difference
from regionclip.concepts.text_form import read_text_form, write_text_form
from regionclip.embeddings import EMBEDDINGS, load_embeddings, write_bare_embeddings
from regionclip.schemas import CONCEPTS
from stages import read_concepts, read_embeddings
from stages.contract import Artifact, Stage
from stages.parts import read_table
from stages.storage import Folder, folder_and_name

TENSOR_SUFFIXES = (".pth", ".pt")


def diff(
    before: str, after: str, store: str, limit: int = 10, as_json: bool = False, console: Console | None = None
) -> Difference:
    """Print what changed from one pool to another: at most `limit` rows of a kind, or everything as JSON.

    before, after: keys of concepts in the store (or their first digits), or files (.txt with one name a line,
    .parquet).
    """
    if limit < 0:
        raise ValueError(f"limit {limit} is below 0; give the number of rows to show, or 0 for the counts alone")
    console = console or Console()
    found = difference(_pool(before, store), _pool(after, store))
    if as_json:
        console.file.write(json.dumps(asdict(found), indent=1, ensure_ascii=False) + "\n")
    else:
        _print_difference(console, found, limit)
    return found


def export(key: str, path: str, store: str, console: Console | None = None) -> None:
    """Write concepts (.txt, .csv, .json, .parquet) or embeddings (.pth, .safetensors, .txt: their names) to a file."""
    artifact = find_artifact(Folder(store), key)
    formats = FORMATS.get(artifact.kind)
    if formats is None:
        raise ValueError(f"{key} is a {artifact.kind}; give the key of {' or '.join(FORMATS)} ('rgc ls' lists them)")
    suffix = PurePosixPath(path).suffix
    if suffix not in formats:
        raise ValueError(f"{path}: {artifact.kind} are not written as '{suffix}'; choose {', '.join(formats)}")
    folder, name = folder_and_name(path)
    folder.write(name, formats[suffix](artifact))
    (console or Console()).print(Text(f"wrote {path} ({artifact.kind} {artifact.key})"), soft_wrap=True)


def import_(
    path: str,
    store: str,
    concepts: str | None = None,
    tracking_uri: str | None = None,
    console: Console | None = None,
) -> Artifact:
    """Take names (.txt) or, with the list of their names, embeddings (.pth, .pt) into the store; print the key."""
    stage, config = _source(path, concepts)
    return take_in("concepts-import", {"path": path, "concepts": concepts}, stage, config, store, tracking_uri, console)


def _source(path: str, concepts: str | None) -> tuple[Stage, Any]:
    suffix, tensors = Path(path).suffix, " or ".join(TENSOR_SUFFIXES)
    if suffix == ".txt":
        if concepts is not None:
            raise ValueError(f"{path} is a list of names itself; a second list belongs to embeddings ({tensors})")
        return read_concepts.STAGE, read_concepts.ReadConceptsConfig(path)
    if suffix in TENSOR_SUFFIXES:
        if concepts is None:
            raise ValueError(f"{path} holds numbers without names; give the list of their names with --concepts")
        return read_embeddings.STAGE, read_embeddings.ReadEmbeddingsConfig(path, concepts)
    raise ValueError(f"{path}: '{suffix}' cannot be imported; give names (.txt) or embeddings ({tensors})")


def _pool(text: str, store: str) -> pa.Table:
    """Names and document frequencies of a file or an artifact."""
    suffix = Path(text).suffix
    if suffix == ".txt":
        return read_text_form(Path(text).expanduser())
    if suffix == ".parquet":
        return _parquet(Path(text).expanduser())
    if not text or set(text) - set(string.hexdigits):
        raise ValueError(f"'{text}' is neither a key nor a .txt or .parquet file; 'rgc ls' lists the keys")
    artifact = find_artifact(Folder(store), text)
    if artifact.kind != "concepts":
        raise ValueError(f"{text} is a {artifact.kind}; give the key of concepts ('rgc ls' lists them)")
    return read_table(artifact, "concepts")


def _parquet(path: Path) -> pa.Table:
    wanted = pa.schema([CONCEPTS.field(name) for name in ("concept", "document_frequency")])
    try:
        table = pq.ParquetFile(path).read().select(wanted.names).cast(wanted)
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:
        raise ValueError(
            f"{path} cannot be read as concepts ({error}); it needs the columns {' and '.join(wanted.names)}"
        ) from error
    names = table["concept"].to_pylist()
    if len(set(names)) != len(names):
        raise ValueError(f"{path} lists {len(names) - len(set(names))} concepts again; list every concept once")
    return table


def _text(artifact: Artifact) -> bytes:
    table = read_table(artifact, "concepts", ["concept", "document_frequency"])
    columns = (table[name].to_pylist() for name in ("concept", "document_frequency"))
    return write_text_form(*columns).encode()


def _names_of_rows(artifact: Artifact) -> bytes:
    return write_text_form(load_embeddings(artifact.folder.local())[0]).encode()


def _csv(artifact: Artifact) -> bytes:
    table = read_table(artifact, "concepts")
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(table.column_names)
    for row in table.to_pylist():
        rows.writerow(
            [json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value for value in row.values()]
        )
    return out.getvalue().encode()


def _json(artifact: Artifact) -> bytes:
    return (json.dumps(read_table(artifact, "concepts").to_pylist(), indent=1, ensure_ascii=False) + "\n").encode()


def _bare_tensor(artifact: Artifact) -> bytes:
    out = io.BytesIO()
    write_bare_embeddings(out, load_embeddings(artifact.folder.local())[1])
    return out.getvalue()


FORMATS: dict[str, dict[str, Callable[[Artifact], bytes]]] = {
    "concepts": {
        ".txt": _text,
        ".csv": _csv,
        ".json": _json,
        ".parquet": lambda artifact: artifact.folder.read("concepts.parquet"),
    },
    "embeddings": {
        ".pth": _bare_tensor,
        ".safetensors": lambda artifact: artifact.folder.read(EMBEDDINGS),
        ".txt": _names_of_rows,
    },
}


def _print_difference(console: Console, found: Difference, limit: int) -> None:
    summary.say(console, "concepts", f"{found.concepts_before:,} before, {found.concepts_after:,} after")
    summary.say(console, "added", f"{len(found.added):,}")
    summary.say(console, "removed", f"{len(found.removed):,}")
    changed = "not compared, one of the two states none" if found.changed is None else f"{len(found.changed):,}"
    summary.say(console, "frequency", f"{changed}{' changed' if found.changed is not None else ''}")
    summary.say(console, "order", f"{len(found.moved):,} of the common concepts moved" if found.moved else "the same")
    _print_entries(console, "added", found.added, limit)
    _print_entries(console, "removed", found.removed, limit)
    _print_changes(console, "document frequency changed", "captions", found.changed or (), limit, signed=True)
    _print_changes(console, "moved", "place", found.moved, limit, signed=False)


def _print_entries(console: Console, heading: str, entries: Sequence[Entry], limit: int) -> None:
    rows = ((entry.concept, f"{entry.document_frequency:,}") for entry in entries[:limit])
    _print_rows(console, heading, ("captions",), rows, len(entries) - limit)


def _print_changes(
    console: Console, heading: str, unit: str, changes: Sequence[Change], limit: int, signed: bool
) -> None:
    rows = (
        (
            change.concept,
            f"{change.before:,}",
            f"{change.after:,}",
            *((f"{change.after - change.before:+,}",) if signed else ()),
        )
        for change in changes[:limit]
    )
    headings = (f"{unit} before", "after", *(("change",) if signed else ()))
    _print_rows(console, heading, headings, rows, len(changes) - limit)


def _print_rows(
    console: Console, heading: str, numbers: Sequence[str], rows: Iterable[tuple[str, ...]], num_more: int
) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(heading, overflow="fold")
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    for concept, *values in rows:
        table.add_row(Text(concept), *values)
    if table.row_count:
        console.print(table)
    if num_more > 0 and table.row_count:
        console.print(Text(f"and {num_more:,} more"))
