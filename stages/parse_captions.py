"""Captions -> how often they mention which phrases; nothing is kept of a single caption but a few examples."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from regionclip.concepts.counting import count_mentions, may_fold
from regionclip.concepts.parsing import PARSING, ParsingConfig, identity, make_parsers, resolve
from stages.contract import Artifact, Context, Result, Stage
from stages.parts import process_parts
from stages.rows import RowGroupRef, read_row_group, row_group_refs
from stages.storage import Folder

RENEW_AFTER = 1_000_000  # captions; spaCy keeps every word that it ever saw, so parsers are made anew now and then


@dataclass(frozen=True)
class CaptionRows:
    """A row group of captions, the first of which is row `first_row` of the corpus."""

    ref: RowGroupRef
    first_row: int


class PhraseCounter:
    """Counts the phrases of one row group of captions, and gives the counts bucket after bucket."""

    def __init__(self, config: ParsingConfig, captions: Folder) -> None:
        self._config, self._captions = config, captions
        self._parsers, self._num_parsed = make_parsers(config), 0

    def __call__(self, items: Sequence[CaptionRows]) -> Iterator[dict[str, pa.Table | int]]:
        [rows] = items
        captions = read_row_group(self._captions, rows.ref, ["caption"])["caption"].to_pylist()
        if self._num_parsed >= RENEW_AFTER:
            self._parsers, self._num_parsed = make_parsers(self._config), 0
        self._num_parsed += len(captions)
        counts = count_mentions(captions, self._parsers, rows.first_row)
        yield from counts.tables()
        yield {"captions": len(captions), "mentions": counts.num_mentions}


def parse_captions(context: Context, config: ParsingConfig, captions: Artifact) -> Result:
    """Write `groups-*.parquet`, `phrases-*.parquet` (one row group a bucket) and how was parsed as `parsing.json`."""
    resolved, message = resolve(config)
    context.say(message)
    parsers = make_parsers(resolved)
    about = {
        "parsers": [parser.name for parser in parsers],
        "folds": may_fold(parsers),
        "names": list(resolved.names),
        "message": message,
    }
    arguments = {"config": resolved, "captions": captions.folder}
    summary = process_parts(context, _items(captions), 1, PhraseCounter, arguments, ("groups", "phrases"), 0.0)
    context.folder.write(PARSING, json.dumps(about, indent=1, ensure_ascii=False).encode())
    return Result(metrics={name: summary.counts[name] for name in ("captions", "mentions")})


def _items(captions: Artifact) -> list[CaptionRows]:
    refs = [ref for ref in row_group_refs(captions, "captions") if ref.num_rows]
    first_rows = itertools.accumulate((ref.num_rows for ref in refs), initial=0)
    return [CaptionRows(ref, first_row) for ref, first_row in zip(refs, first_rows, strict=False)]


STAGE = Stage(
    name="parse_captions",
    version=2,
    inputs={"captions": ("captions",)},
    output="phrases",
    run=parse_captions,
    resumable=True,
    identity=identity,
)
