"""Processes that fork runs on request, and let a run, or what it works with, die at a counted moment.

A request is a line of JSON, the arguments of an `Asked`; the answers are the run's process id and its exit status.
"""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import stages.storage
from stages.contract import Resources

CHANGES = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree"}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One run: where, with how many actors, and what is to go wrong. Runs write beside the store in `home`.

    die_at: the change to the store at which the driver is killed. fates: part -> (whom, change): the worker that is
    the first to begin this part kills the 'actor' that it is in, the 'driver' or the 'raylet' at this change of its
    own to the store, and tells of it in `deaths`. hold_at: the part from which on workers wait for `go.<kind>`.
    room: bytes after which the disk is full. count: write the number of changes to the store to `changes`. peak: write
    the largest memory that the driver held, in KiB, to `peak`. driver: the process of the run, which it sets itself.
    """

    home: str
    num_workers: int = 0
    num_cpus: float = 1.0
    address: str | None = None
    die_at: int | None = None
    fates: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    hold_at: int | None = None
    room: int | None = None
    count: bool = False
    peak: bool = False
    driver: int = 0

    @property
    def store(self) -> str:
        return f"{self.home}/store"

    @property
    def resources(self) -> Resources:
        return Resources(num_workers=self.num_workers, num_cpus=self.num_cpus, batch_size=4)

    def begin(self, kind: str, part: int) -> None:
        """Note in `seen.<kind>` that this process begins a part, wait where it is held, and watch for its fate."""
        seen = Path(f"{self.home}/seen.{kind}")
        with seen.open("a") as file:
            file.write(f"{os.getpid()} {part}\n")
        while self.hold_at is not None and part >= self.hold_at and not os.path.exists(f"{self.home}/go.{kind}"):
            time.sleep(0.02)
        whom, moment = self.fates.get(str(part), ("", 0))
        if not whom or not _is_first(f"{self.home}/fate.{part}"):
            return
        victim = {"actor": os.getpid(), "driver": self.driver, "raylet": os.getppid()}[whom]

        def tell(change: str, name: str) -> None:
            done = [int(path.stem) for path in Path(self.store).glob(f"{kind}/*/parts/[0-9]*.json")]
            begun = seen.read_text().count("\n")
            words = {"part": part, "whom": whom, "change": change, "name": name, "done": done, "begun": begun}
            with open(f"{self.home}/deaths", "a") as file:
                file.write(json.dumps(words) + "\n")

        Fate(self.store, moment, victim, tell).watch()


class FullFile(io.RawIOBase):
    """A file on a full disk."""

    def write(self, data: Any, /) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Fate:
    """Counts this process's changes to a store and kills a process just before, or in the middle of, a given one.

    tell: is given the change, 'write' or the name of an audit event, and the file that it is made to. room: bytes
    after which the disk is full.
    """

    def __init__(
        self,
        store: str,
        moment: int | None = None,
        victim: int = 0,
        tell: Callable[[str, str], None] = lambda change, name: None,
        room: int | None = None,
    ) -> None:
        self.store, self.moment, self.victim, self.tell, self.room = store, moment, victim, tell, room
        self.count = 0

    def watch(self) -> None:
        sys.addaudithook(self._on_event)
        write = stages.storage._Sink.write

        def half(sink: Any, data: Any, /) -> int:
            if self.room is not None:
                self.room -= len(data)
                if self.room < 0:
                    sink._file = FullFile()
            elif self._comes():
                middle = len(data) // 2
                write(sink, bytes(data)[:middle])
                sink._file.flush()
                self._kill("write", sink._target)
                return middle + write(sink, bytes(data)[middle:])
            return write(sink, data)

        stages.storage._Sink.write = half  # type: ignore[method-assign]

    def _comes(self) -> bool:
        self.count += 1
        return self.count - 1 == self.moment

    def _on_event(self, event: str, details: tuple[Any, ...]) -> None:
        if event not in CHANGES or not str(details[0]).startswith(self.store):
            return
        if event == "open" and not (isinstance(details[1], str) and set(details[1]) & set("wax+")):
            return
        if self._comes():
            self._kill(event, str(details[0]))

    def _kill(self, change: str, name: str) -> None:
        self.tell(change, name)
        os.kill(self.victim, signal.SIGKILL)


def serve(kind_of_asked: type[Asked], run: Callable[[Any], None]) -> None:
    """Serve requests until the input ends."""
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            code = 1
            os.dup2(2, 1)  # Ray writes to both
            try:
                code = _run(replace(kind_of_asked(**json.loads(line)), driver=os.getpid()), run)
            finally:
                sys.stderr.flush()
                os._exit(code)
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _run(asked: Asked, run: Callable[[Any], None]) -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    fate = Fate(asked.store, asked.die_at, os.getpid(), room=asked.room)
    if asked.die_at is not None or asked.room is not None or asked.count:
        fate.watch()
    try:
        run(asked)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 2
    except Exception as error:
        print(f"failed: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr, flush=True)
        return 130
    if asked.count:
        Path(f"{asked.home}/changes").write_text(str(fate.count))
    if asked.peak:
        status = Path("/proc/self/status").read_text()
        Path(f"{asked.home}/peak").write_text(status.partition("VmHWM:")[2].split()[0])
    return 0


def _is_first(name: str) -> bool:
    """Whether this call is the first one of all processes with this name."""
    try:
        open(name, "x").close()
    except FileExistsError:
        return False
    return True
