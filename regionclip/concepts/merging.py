"""Adding up the tables of counts of many parts of a corpus."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from regionclip.concepts.counting import NUM_EXAMPLES
from regionclip.schemas import PHRASE_GROUPS, PHRASES

_SEPARATOR = "\n"  # phrases are words parted by blanks
_MERGE_AT = 1 << 15  # rows


def merge_groups(pieces: Iterable[pa.Table]) -> pa.Table:
    """The sum (`schemas.PHRASE_GROUPS`, sorted) of any number of pieces, of which a few are held at a time."""
    return _merge(pieces, _add_groups, PHRASE_GROUPS)


def merge_phrases(pieces: Iterable[pa.Table]) -> pa.Table:
    """The sum (`schemas.PHRASES`, sorted) of any number of pieces, of which a few are held at a time."""
    return _merge(pieces, _add_phrases, PHRASES)


def _merge(pieces: Iterable[pa.Table], add: Callable[[pa.Table], pa.Table], schema: pa.Schema) -> pa.Table:
    total, waiting, num_waiting = schema.empty_table(), [], 0
    for piece in (piece for piece in pieces if piece.num_rows):
        waiting.append(piece)
        num_waiting += piece.num_rows
        if num_waiting > max(_MERGE_AT, total.num_rows):
            total = add(pa.concat_tables([total, *waiting]))
            waiting, num_waiting = [], 0
    return add(pa.concat_tables([total, *waiting])) if waiting else total


def _add_groups(pieces: pa.Table) -> pa.Table:
    keys = pc.binary_join(pieces["phrases"], _SEPARATOR)
    table = pa.table([pieces["head"], keys, pieces["document_frequency"]], names=["head", "key", "number"])
    summed = table.group_by(["head", "key"], use_threads=False).aggregate([("number", "sum")])
    summed = summed.sort_by([("head", "ascending"), ("key", "ascending")])
    columns = [summed["head"], pc.split_pattern(summed["key"], _SEPARATOR), summed["number_sum"]]
    return pa.table(columns, schema=PHRASE_GROUPS)


def _add_phrases(pieces: pa.Table) -> pa.Table:
    keys = pieces.select(["head", "phrase", "count", "reason"]).group_by(["head", "phrase"], use_threads=False)
    summed = keys.aggregate([("count", "sum"), ("reason", "min")])
    summed = summed.sort_by([("head", "ascending"), ("phrase", "ascending")])
    ids = pc.index_in(pieces["phrase"], summed["phrase"]).to_numpy()
    columns = {
        "head": summed["head"],
        "phrase": summed["phrase"],
        "count": summed["count_sum"],
        "surface_forms": _add_counted(pieces["surface_forms"], ids, summed.num_rows),
        "merged_from": _add_counted(pieces["merged_from"], ids, summed.num_rows),
        "parsers": _unite(pieces["parsers"], ids, summed.num_rows),
        "examples": _first(pieces["examples"], ids, summed.num_rows),
        "reason": summed["reason_min"],
    }
    return pa.table(columns, schema=PHRASES)


def _add_counted(lists: pa.ChunkedArray, ids: NDArray[np.int32], num_phrases: int) -> pa.Array:
    """Lists of `schemas.COUNTED` of each phrase added up, by falling count, then by name."""
    owners, values = _flat(lists, ids)
    table = pa.table({"owner": owners, "name": _member(values, "name"), "count": _member(values, "count")})
    table = table.group_by(["owner", "name"], use_threads=False).aggregate([("count", "sum")])
    table = table.sort_by([("owner", "ascending"), ("count_sum", "descending"), ("name", "ascending")])
    return _lists(table["owner"], [table["name"], table["count_sum"]], lists.type, num_phrases)


def _first(lists: pa.ChunkedArray, ids: NDArray[np.int32], num_phrases: int) -> pa.Array:
    """Of the lists of `schemas.EXAMPLE` of each phrase the first rows whose captions differ."""
    owners, values = _flat(lists, ids)
    table = pa.table({"owner": owners, "row": _member(values, "row"), "caption": _member(values, "caption")})
    table = table.group_by(["owner", "caption"], use_threads=False).aggregate([("row", "min")])
    table = table.sort_by([("owner", "ascending"), ("row_min", "ascending")])
    sorted_owners = table["owner"].to_numpy()
    place = np.arange(len(sorted_owners)) - np.searchsorted(sorted_owners, sorted_owners)
    table = table.filter(pa.array(place < NUM_EXAMPLES))
    return _lists(table["owner"], [table["row_min"], table["caption"]], lists.type, num_phrases)


def _unite(lists: pa.ChunkedArray, ids: NDArray[np.int32], num_phrases: int) -> pa.Array:
    """The lists of strings of each phrase as one, sorted, without repeats."""
    owners, values = _flat(lists, ids)
    table = pa.table({"owner": owners, "name": values}).group_by(["owner", "name"], use_threads=False).aggregate([])
    table = table.sort_by([("owner", "ascending"), ("name", "ascending")])
    return _lists(table["owner"], [table["name"]], lists.type, num_phrases)


def _flat(lists: pa.ChunkedArray, ids: NDArray[np.int32]) -> tuple[NDArray[np.int32], pa.Array]:
    """All elements of a list column, and the phrase each belongs to."""
    whole = pa.concat_arrays(lists.chunks) if lists.num_chunks else pa.array([], lists.type)
    return ids[pc.list_parent_indices(whole).to_numpy()], whole.flatten()


def _member(structs: pa.StructArray, name: str) -> pa.Array:
    return pc.struct_field(structs, name)


def _lists(owners: pa.ChunkedArray, members: Sequence[pa.ChunkedArray], type_: pa.DataType, number: int) -> pa.Array:
    """Elements sorted by owner as one list an owner; several members make the elements structs."""
    counts = np.bincount(owners.to_numpy(), minlength=number)
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
    arrays = [member.combine_chunks() for member in members]
    inner = type_.value_type
    values = pa.StructArray.from_arrays(arrays, fields=list(inner)) if pa.types.is_struct(inner) else arrays[0]
    return pa.ListArray.from_arrays(offsets, values)
