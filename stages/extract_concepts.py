"""Phrases -> concept pool: those that captions name often enough, and the names that are listed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from regionclip.concepts.counting import NUM_BUCKETS
from regionclip.concepts.naming import normalize
from regionclip.concepts.parsing import PARSING
from regionclip.concepts.pool import Pool, check_max_size, check_names, choose_concepts, pool_of_names
from stages.contract import Artifact, Context, Result, Stage
from stages.parts import write_table
from stages.rows import RowGroupRef, read_row_group, row_group_refs
from stages.storage import Folder

_NUM_NAMES_SHOWN = 3


@dataclass(frozen=True)
class ConceptsConfig:
    """Which concepts make the pool.

    names: always in the pool; without captions they are the pool.
    min_document_frequency: captions that must name any other concept; a rarer compound counts as its head.
    max_size: the most frequent concepts that are kept, listed names first of all; None keeps all.
    """

    names: tuple[str, ...] = ()
    min_document_frequency: int = 100
    max_size: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("min_document_frequency", self.min_document_frequency), ("max_size", self.max_size)):
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be 1 or more")
        check_max_size(self.max_size, len(self.names))
        check_names(self.names)


def extract_concepts(context: Context, config: ConceptsConfig, phrases: Artifact | None = None) -> Result:
    """Write `concepts.parquet`, and what is known of the rest as `thresholds.parquet` and `dropped.parquet`."""
    if phrases is not None:
        looked_for: list[str] = json.loads(phrases.folder.read(PARSING))["names"]
        listed = list(dict.fromkeys((*looked_for, *_as_parsers_write(context, config.names, looked_for))))
        buckets = _buckets(context, phrases.folder)
        pool = choose_concepts(buckets, config.min_document_frequency, config.max_size, listed)
    elif config.names:
        pool = pool_of_names(config.names)
    else:
        raise ValueError("extract_concepts needs concepts to choose from; give captions, or a list of names")
    _write(context.folder, pool)
    return Result(metrics={"concepts": pool.concepts.num_rows, **pool.totals})


def _as_parsers_write(context: Context, names: Sequence[str], looked_for: Sequence[str]) -> list[str]:
    """The names as counts have them: those that were looked for as they are, others as phrases are named."""
    written = [name if name in looked_for else normalize(name) for name in names]
    changed = [f"'{name}' as '{other}'" for name, other in zip(names, written, strict=True) if name != other]
    if changed:
        more = f" and {len(changed) - _NUM_NAMES_SHOWN} more" if len(changed) > _NUM_NAMES_SHOWN else ""
        context.say(f"listed names are counted as captions have them: {', '.join(changed[:_NUM_NAMES_SHOWN])}{more}")
    return written


def _buckets(context: Context, phrases: Folder) -> Iterator[tuple[Iterator[pa.Table], Iterator[pa.Table]]]:
    refs = [row_group_refs(phrases, table) for table in ("groups", "phrases")]
    for bucket in range(NUM_BUCKETS):
        context.advance(bucket, NUM_BUCKETS, "buckets")
        yield _pieces(phrases, refs[0], bucket), _pieces(phrases, refs[1], bucket)
    context.advance(NUM_BUCKETS, NUM_BUCKETS, "buckets")


def _pieces(phrases: Folder, refs: Sequence[RowGroupRef], bucket: int) -> Iterator[pa.Table]:
    return (read_row_group(phrases, ref) for ref in refs if ref.group == bucket and ref.num_rows)


def _write(folder: Folder, pool: Pool) -> None:
    write_table(folder, "concepts", pool.concepts)
    write_table(folder, "thresholds", pool.thresholds)
    write_table(folder, "dropped", pool.dropped)


STAGE = Stage(
    name="extract_concepts",
    version=2,
    inputs={"phrases": ("phrases",)},
    output="concepts",
    run=extract_concepts,
    optional=frozenset({"phrases"}),
)
