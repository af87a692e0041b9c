"""What a source says of files that are damaged."""

from __future__ import annotations

import pyarrow.compute as pc

from regionclip.captions.damage import UNCOUNTED
from stages.contract import Context
from stages.part_tally import NUM_REASONS_SHOWN
from stages.parts import REJECTED, iter_tables


def say_damaged(context: Context) -> None:
    """Name the files of which an unknown rest is lost: each counts as one rejected row, so that no fraction of rejected
    rows need stop the run."""
    said: list[str] = []
    for rejected in iter_tables(context.folder, REJECTED):
        found = rejected.filter(pc.starts_with(rejected["reason"], UNCOUNTED))
        said += [f"{row['item']}: {row['reason']}" for row in found.to_pylist()]
    for text in said[:NUM_REASONS_SHOWN]:
        context.say(f"{text}; what follows in it is lost and counts as one rejected row: repair the file")
    if len(said) > NUM_REASONS_SHOWN:
        context.say(f"{len(said) - NUM_REASONS_SHOWN} more files are damaged like that, see {REJECTED}-*.parquet")
