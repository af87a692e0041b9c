"""A process that forks runs of one small row stage, as `dying` says."""

from __future__ import annotations

import hashlib
import io
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
from dying import Asked, serve
from rich.console import Console

from pipelines.runner import Runner
from stages.contract import Context, Result, Stage
from stages.parts import REJECTED_SCHEMA, process_parts
from stages.storage import Folder

PART_SIZE = 3


@dataclass(frozen=True)
class FoldConfig:
    """How many items, and how many rows each of them makes."""

    num_items: int = 24
    num_rows: int = 400


@dataclass(frozen=True, kw_only=True)
class Drive(Asked):
    """A run over so many items; whatever process begins the part `deadly` ends, each time."""

    num_items: int = 24
    num_rows: int = 400
    deadly: int | None = None


class Hasher:
    """Hashes each item into rows; rejects every seventh."""

    def __init__(self, asked: Drive) -> None:
        self.asked = asked

    def __call__(self, items: Sequence[int]) -> dict[str, pa.Table]:
        part = items[0] // PART_SIZE
        self.asked.begin("folds", part)
        if part == self.asked.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        good = [item for item in items if item % 7 != 3]
        rows = [
            hashlib.sha256(f"{item} {row}".encode()).digest() for item in good for row in range(self.asked.num_rows)
        ]
        lost = [{"item": str(item), "reason": "is 3 modulo 7"} for item in items if item % 7 == 3]
        return {"folds": pa.table({"fold": rows}), "rejected": pa.Table.from_pylist(lost, schema=REJECTED_SCHEMA)}


def drive(asked: Drive) -> None:
    """Run the stage through a runner, as the command line does."""

    def fold(context: Context, config: FoldConfig) -> Result:
        items = range(config.num_items)
        summary = process_parts(context, items, PART_SIZE, Hasher, {"asked": asked}, ("folds",), 0.5)
        return Result(metrics=summary.metrics)

    stage = Stage("fold", 1, {}, "folds", fold, resumable=True)
    console = Console(file=io.StringIO())
    with Runner(Folder(asked.store), default=asked.resources, ray_address=asked.address, console=console) as run:
        run(stage, FoldConfig(asked.num_items, asked.num_rows))


if __name__ == "__main__":
    serve(Drive, drive)
