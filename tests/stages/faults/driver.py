"""A process that forks drivers of one small row stage on request, and lets them die at a counted moment.

A request is a line of JSON, the arguments of `Drive`; the answers are the driver's process id and its exit status.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from rich.console import Console

import stages.storage
from pipelines.runner import Runner
from stages.contract import Context, Resources, Result, Stage
from stages.parts import REJECTED_SCHEMA, process_parts
from stages.storage import Folder

CHANGES = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree"}
PART_SIZE = 3


@dataclass(frozen=True)
class FoldConfig:
    """How many items, and how many rows each of them makes."""

    num_items: int = 24
    num_rows: int = 400


@dataclass(frozen=True)
class Drive:
    """One run: where, with how many actors, and what is to go wrong.

    seen: a file to which workers add a line `pid first_item` as they begin a part. die_at: the change to the store at
    which the driver is killed; None counts them only, into `changes`. hold: a file that a worker waits for before it
    begins the part of item `hold_at`. room: bytes after which the disk is full. peak: a file for the largest memory
    that the driver held, in KiB.
    """

    store: str
    seen: str
    num_items: int = 24
    num_rows: int = 400
    num_workers: int = 0
    address: str | None = None
    die_at: int | None = None
    changes: str | None = None
    hold: str | None = None
    hold_at: int = 0
    room: int | None = None
    peak: str | None = None


class Hasher:
    """Hashes each item into rows; rejects every seventh."""

    def __init__(self, num_rows: int, seen: str, hold: str | None, hold_at: int) -> None:
        self.num_rows, self.seen, self.hold, self.hold_at = num_rows, seen, hold, hold_at

    def __call__(self, items: Sequence[int]) -> dict[str, pa.Table]:
        with open(self.seen, "a") as file:
            file.write(f"{os.getpid()} {items[0]}\n")
        while self.hold and self.hold_at <= items[0] and not os.path.exists(self.hold):
            time.sleep(0.02)
        good = [item for item in items if item % 7 != 3]
        rows = [hashlib.sha256(f"{item} {row}".encode()).digest() for item in good for row in range(self.num_rows)]
        lost = [{"item": str(item), "reason": "is 3 modulo 7"} for item in items if item % 7 == 3]
        return {"folds": pa.table({"fold": rows}), "rejected": pa.Table.from_pylist(lost, schema=REJECTED_SCHEMA)}


def drive(asked: Drive) -> None:
    """Run the stage through a runner, as the command line does."""

    def fold(context: Context, config: FoldConfig) -> Result:
        arguments = {"num_rows": config.num_rows, "seen": asked.seen, "hold": asked.hold, "hold_at": asked.hold_at}
        summary = process_parts(context, range(config.num_items), PART_SIZE, Hasher, arguments, ("folds",), 0.5)
        return Result(metrics=summary.metrics)

    stage = Stage("fold", 1, {}, "folds", fold, resumable=True)
    resources = Resources(num_workers=asked.num_workers)
    with Runner(
        Folder(asked.store), default=resources, ray_address=asked.address, console=Console(file=io.StringIO())
    ) as run:
        run(stage, FoldConfig(asked.num_items, asked.num_rows))


class FullFile(io.RawIOBase):
    """A file on a full disk."""

    def write(self, data: Any, /) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Fate:
    """Counts the changes to a store and kills the process just before, or in the middle of, a given one."""

    def __init__(self, store: str, die_at: int | None, room: int | None) -> None:
        self.store, self.die_at, self.room, self.count = store, die_at, room, 0

    def watch(self) -> None:
        sys.addaudithook(self._on_event)
        write = stages.storage._Sink.write

        def half(sink: Any, data: Any, /) -> int:
            if self.room is not None:
                self.room -= len(data)
                if self.room < 0:
                    sink._file = FullFile()
            elif self._comes():
                sink._file.write(bytes(data)[: len(data) // 2])
                sink._file.flush()
                os.kill(os.getpid(), signal.SIGKILL)
            return write(sink, data)

        stages.storage._Sink.write = half  # type: ignore[method-assign]

    def _comes(self) -> bool:
        self.count += 1
        return self.count - 1 == self.die_at

    def _on_event(self, event: str, details: tuple[Any, ...]) -> None:
        if event not in CHANGES or not str(details[0]).startswith(self.store):
            return
        if event == "open" and not (isinstance(details[1], str) and set(details[1]) & set("wax+")):
            return
        if self._comes():
            os.kill(os.getpid(), signal.SIGKILL)


def _child(asked: Drive) -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    fate = Fate(asked.store, asked.die_at, asked.room)
    if asked.die_at is not None or asked.room is not None or asked.changes:
        fate.watch()
    try:
        drive(asked)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 2
    except Exception as error:
        print(f"failed: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr, flush=True)
        return 130
    if asked.changes:
        Path(asked.changes).write_text(str(fate.count))
    if asked.peak:
        status = Path("/proc/self/status").read_text()
        Path(asked.peak).write_text(status.partition("VmHWM:")[2].split()[0])
    return 0


def main() -> None:
    """Serve requests until the input ends."""
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            code = 1
            os.dup2(2, 1)  # Ray writes to both
            try:
                code = _child(Drive(**json.loads(line)))
            finally:
                sys.stderr.flush()
                os._exit(code)
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
