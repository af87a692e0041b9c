"""Captions -> concept pool: parse every caption for its noun phrases, then keep those named often enough."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from regionclip.concepts.parser import RulesParser
from regionclip.concepts.pool import Mentions, build_pool, pool_of_names
from regionclip.schemas import MENTIONS, rejected_table
from stages.contract import Artifact, Context, Result, Stage
from stages.parts import REJECTED, iter_tables, process_parts, read_table, write_table

MAX_CHARACTERS = 2000


@dataclass(frozen=True)
class ConceptsConfig:
    """Where concepts come from and which are kept.

    parser: 'rules' finds noun phrases in the captions; 'list' takes `names` as they are and needs no captions.
    min_document_frequency: captions that must name a concept; a rarer compound counts as its head.
    max_size: the most frequent concepts that are kept; None keeps all.
    max_rejected_fraction: how many captions, of all, may be empty or overlong.
    part_size: captions of one part, the piece that is redone after an interruption.
    """

    parser: Literal["rules", "list"] = "rules"
    names: tuple[str, ...] = ()
    min_document_frequency: int = 100
    max_size: int | None = None
    max_rejected_fraction: float = 0.01
    part_size: int = 5000

    def __post_init__(self) -> None:
        for name, value in (
            ("min_document_frequency", self.min_document_frequency),
            ("max_size", self.max_size),
            ("part_size", self.part_size),
        ):
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be 1 or more")
        if bool(self.names) != (self.parser == "list"):
            raise ValueError(
                f"parser '{self.parser}' with {len(self.names)} names; names belong to parser 'list' alone"
            )


class MentionFinder:
    """Parses the captions of one part into `schemas.MENTIONS`, one row a sound caption."""

    def __init__(self) -> None:
        self._parser = RulesParser()

    def __call__(self, captions: Sequence[str]) -> dict[str, pa.Table]:
        rows = []
        rejected = []
        for caption in captions:
            reason = _unfit(caption)
            if reason:
                rejected.append((caption[:80], reason))
                continue
            phrases = self._parser.parse(caption)
            names, surface_forms = [phrase.name for phrase in phrases], [phrase.surface for phrase in phrases]
            rows.append({"caption": caption, "phrases": names, "surface_forms": surface_forms})
        return {"mentions": pa.Table.from_pylist(rows, schema=MENTIONS), REJECTED: rejected_table(rejected)}


def extract_concepts(context: Context, config: ConceptsConfig, captions: Artifact | None = None) -> Result:
    """Write `concepts.parquet`, and with parser 'rules' the phrases of every caption as `mentions-*.parquet`."""
    if config.parser == "list":
        pool = pool_of_names(config.names)
        write_table(context.folder, "concepts", pool)
        return Result(metrics={"concepts": pool.num_rows})
    if captions is None:
        raise ValueError("extract_concepts with parser 'rules' needs captions; give them, or parser 'list' with names")
    texts: list[str] = read_table(captions, "captions", ["caption"])["caption"].to_pylist()
    summary = process_parts(
        context, texts, config.part_size, MentionFinder, {}, ("mentions",), config.max_rejected_fraction
    )

    def mentions() -> Iterator[Mentions]:
        for part in iter_tables(context.folder, "mentions"):
            yield from zip(*(part[name].to_pylist() for name in MENTIONS.names), strict=True)

    pool = build_pool(mentions, config.min_document_frequency, config.max_size)
    write_table(context.folder, "concepts", pool)
    return Result(metrics={"concepts": pool.num_rows, **summary.metrics})


def _unfit(caption: str) -> str:
    if not caption.strip():
        return "empty caption"
    if len(caption) > MAX_CHARACTERS:
        return f"{len(caption)} characters, more than {MAX_CHARACTERS}"
    return ""


STAGE = Stage(
    name="extract_concepts",
    version=1,
    inputs={"captions": ("captions",)},
    output="concepts",
    run=extract_concepts,
    optional=frozenset({"captions"}),
    resumable=True,
)
