"""The tables as their documentation lists them, read by tools that know nothing of this project."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from regionclip.schemas import PROPOSALS, REGION_LABELS, regions

DOCUMENT = Path(__file__).parents[2] / "docs" / "labels.md"
SCHEMAS = {"proposals": PROPOSALS, "regions": regions(4, "int8"), "region_labels": REGION_LABELS}
TYPES = {
    "int64": pa.int64(),
    "int32": pa.int32(),
    "string": pa.string(),
    "list of 4 float32": pa.list_(pa.list_(pa.float32(), 4)),
    "list of D float16, or of D int8": pa.list_(pa.list_(pa.int8(), 4)),
    "list of float32": pa.list_(pa.float32()),
    "list of float64": pa.list_(pa.float64()),
    "list of string": pa.list_(pa.string()),
    "list of bool": pa.list_(pa.bool_()),
    "list of list of int32": pa.list_(pa.list_(pa.int32())),
    "list of list of float32": pa.list_(pa.list_(pa.float32())),
}


def documented(table: str) -> dict[str, pa.DataType]:
    """The columns that the document lists under the heading of a table, with their types."""
    section = re.split(rf"^## {table}$", DOCUMENT.read_text(), flags=re.MULTILINE)[1].split("\n## ")[0]
    rows = re.findall(r"^\| (\w+) \| ([^|]+) \| [^|]+ \|$", section, flags=re.MULTILINE)
    return {name: TYPES[type_] for name, type_ in rows if name != "column"}


@pytest.mark.parametrize("table", SCHEMAS)
def test_the_document_lists_every_column_in_order(table: str, tmp_path: Path) -> None:
    schema = SCHEMAS[table]
    assert list(documented(table).items()) == [(field.name, field.type) for field in schema]
    pq.write_table(schema.empty_table(), tmp_path / "table.parquet")
    assert list(pd.read_parquet(tmp_path / "table.parquet").columns) == list(documented(table))


def test_half_precision_has_no_scale() -> None:
    half = regions(4)
    assert half.names == [name for name in documented("regions") if name != "scale"]
    assert half.field("features").type == pa.list_(pa.list_(pa.float16(), 4))
