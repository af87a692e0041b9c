"""Tables are read by tools that know nothing of this project, with the values that were written."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from regionclip import schemas
from stages.parts import write_table
from stages.storage import Folder

DOCUMENTATION = Path(__file__).parents[2] / "docs" / "labels.md"
LABELS = schemas.region_labels({"temperature": "0.01"})
TABLES = {
    "images": schemas.PACKED_IMAGES,
    "captions": schemas.CAPTIONS,
    "proposals": schemas.PROPOSALS,
    "regions": schemas.regions(4),
    "regions in 8 bits": schemas.regions(4, "int8"),
    "region_labels": LABELS,
    "concepts": schemas.CONCEPTS,
}
REGIONS_OF_AN_IMAGE = (2, 0, 1)
CONCEPTS_OF_A_REGION = 3


def value(type_: pa.DataType, row: int, depth: int = 0) -> Any:
    """Something of this type that differs from row to row; the outer list holds the regions of an image."""
    if pa.types.is_fixed_size_list(type_):
        return [value(type_.value_type, row + place, depth + 1) for place in range(type_.list_size)]
    if pa.types.is_list(type_):
        length = REGIONS_OF_AN_IMAGE[row % 3] if depth == 0 else CONCEPTS_OF_A_REGION
        return [value(type_.value_type, row + place, depth + 1) for place in range(length)]
    if pa.types.is_boolean(type_):
        return row % 2 == 0
    if pa.types.is_string(type_):
        return f"straße {row}"
    if pa.types.is_float16(type_):
        return np.float16(row + 0.5)
    if pa.types.is_int8(type_):
        return -row
    return row + 0.5 if pa.types.is_floating(type_) else row


def plain(content: Any) -> Any:
    """Arrays and tuples as lists, numbers as Python's."""
    if isinstance(content, np.generic):
        return content.item()
    if isinstance(content, list | tuple | np.ndarray):
        return [plain(each) for each in content]
    return content


def with_pandas(path: Path) -> list[dict[str, Any]]:
    return [{str(name): plain(cell) for name, cell in row.items()} for _, row in pd.read_parquet(path).iterrows()]


def with_duckdb(path: Path) -> list[dict[str, Any]]:
    found = duckdb.sql(f"SELECT * FROM '{path}'")
    return [dict(zip(found.columns, plain(row), strict=True)) for row in found.fetchall()]


def with_datasets(path: Path) -> list[dict[str, Any]]:
    import datasets

    return [dict(row) for row in datasets.Dataset.from_parquet(str(path), cache_dir=str(path.parent / "cache"))]


def with_ray(path: Path) -> list[dict[str, Any]]:
    import ray.data

    rows = ray.data.read_parquet(str(path)).take_all()
    return [{name: plain(cell) for name, cell in row.items()} for row in rows]


@pytest.fixture(params=TABLES)
def written(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, list[dict[str, Any]]]:
    schema = TABLES[request.param]
    rows = [{field.name: value(field.type, row) for field in schema} for row in range(len(REGIONS_OF_AN_IMAGE))]
    write_table(Folder(str(tmp_path)), "table", pa.Table.from_pylist(rows, schema=schema))
    return tmp_path / "table.parquet", [{name: plain(cell) for name, cell in row.items()} for row in rows]


@pytest.mark.parametrize("read", [with_pandas, with_duckdb, with_datasets])
def test_a_table_reads_elsewhere_as_it_was_written(
    read: Callable[[Path], list[dict[str, Any]]], written: tuple[Path, list[dict[str, Any]]]
) -> None:
    path, rows = written
    assert read(path) == rows


def test_a_table_reads_in_ray_as_it_was_written(ray_session: Any, written: tuple[Path, list[dict[str, Any]]]) -> None:
    path, rows = written
    assert sorted(with_ray(path), key=repr) == sorted(rows, key=repr)


def test_the_queries_of_the_documentation_count_what_was_labelled(tmp_path: Path) -> None:
    rows = [{field.name: value(field.type, row) for field in LABELS} for row in range(len(REGIONS_OF_AN_IMAGE))]
    for row in rows:
        row["concept_ids"] = [[1, 0]] * len(row["keep"])
        row["keep"] = [True] * len(row["keep"])
    write_table(Folder(str(tmp_path)), "region_labels-00000", pa.Table.from_pylist(rows, schema=LABELS))
    (tmp_path / "concepts.json").write_text(json.dumps({"concepts": ["cat", "dog"], "order_sha256": "0"}))
    block = re.search(r"^    SELECT .*(?:\n    .*)*", DOCUMENTATION.read_text(), re.MULTILINE)
    assert block is not None
    with duckdb.connect() as connection:
        connection.execute(f"SET file_search_path = '{tmp_path}'")
        by_concept, about = (connection.execute(query).fetchall() for query in block[0].split(";")[:2])
    assert [(concept, regions) for concept, regions, _ in by_concept] == [("dog", sum(REGIONS_OF_AN_IMAGE))]
    assert ("temperature", "0.01") in about


def test_every_column_says_what_it_is() -> None:
    for schema in TABLES.values():
        assert all(field.metadata[b"about"] for field in schema)
