"""Source: a concept list from a text file, one `name,document_frequency` a line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regionclip.concepts.text_form import read_text_form
from regionclip.digests import content_sha256
from stages.contract import Context, Result, Stage
from stages.parts import write_table


@dataclass(frozen=True)
class ReadConceptsConfig:
    """concepts: the text file, as `regionclip.concepts.text_form` reads it."""

    concepts: str


def read_concepts(context: Context, config: ReadConceptsConfig) -> Result:
    """Write `concepts.parquet`, in the order of the file."""
    concepts = read_text_form(Path(config.concepts).expanduser())
    write_table(context.folder, "concepts", concepts)
    return Result(metrics={"concepts": concepts.num_rows})


def identity(config: ReadConceptsConfig) -> Mapping[str, Any]:
    """The names and their document frequencies, in order."""
    return {"content_sha256": content_sha256(read_text_form(Path(config.concepts).expanduser()))}


STAGE = Stage(name="read_concepts", version=1, inputs={}, output="concepts", run=read_concepts, identity=identity)
