"""SIGTERM and SIGINT in the middle of parts, through the command line: what it says, what it leaves, how it goes on.

As a program: the command line with an encoder of regions that ends its first part and no other.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import stages
from pipelines.cli import main
from pipelines.store import list_artifacts
from stages import encode_regions
from stages.encode_regions import RegionEncoding
from stages.parts import process_parts
from stages.storage import Folder

PART_SIZE, NUM_PARTS = 2, 8
PATIENCE = 240.0
MARK = "RGC_TEST_STOPPING"
NUM_ACTORS = "resources.stages.encode_regions.num_workers"
SETS = (
    "proposals={method: random, random_boxes: 5}",
    f"regions.part_size={PART_SIZE}",
)
SAID = "interrupted; nothing finished is lost: give the same command again to go on\n"


class Stopped:
    """A command in a session of its own, known by a mark in the environment that all its processes inherit."""

    def __init__(self, home: Path, arguments: Sequence[str]) -> None:
        self.begun, self._errors, self._mark = home / "begun", home / "errors", f"{MARK}={home}"
        environment = {**os.environ, MARK: str(home), "PYTHONPATH": str(Path(stages.__file__).parents[1])}
        self._process = subprocess.Popen(
            [sys.executable, __file__, *arguments],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=self._errors.open("w"),
            start_new_session=True,
        )
        self.pid = self._process.pid

    def until(self, happened: Callable[[], bool], what: str) -> None:
        """Poll until something happened; give up after four minutes."""
        end = time.monotonic() + PATIENCE
        while not happened():
            assert time.monotonic() < end, f"never happened: {what}; {self.said()[-2000:]}"
            time.sleep(0.02)

    def holders(self) -> set[str]:
        """The processes that are in the middle of a part that will not end."""
        return set(self.begun.read_text().split()) if self.begun.exists() else set()

    def processes(self) -> list[str]:
        """Which of its processes live."""
        return [place.name for place in Path("/proc").glob("[0-9]*") if self._mark in _environment(place)]

    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def ended(self) -> int:
        """Its exit code, when all of its processes are gone."""
        code = self._process.wait(PATIENCE)
        self.until(lambda: not self.processes(), f"processes {self.processes()} end with their parent")
        return code

    def said(self) -> str:
        return self._errors.read_text()

    def close(self) -> None:
        for process in self.processes():  # a test failed meanwhile
            os.kill(int(process), signal.SIGKILL)
        self._process.wait(PATIENCE)


def _environment(place: Path) -> list[str]:
    try:
        return (place / "environ").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


@pytest.fixture
def start(smoke: Any, store: Path, tmp_path: Path) -> Iterator[Callable[..., Stopped]]:
    """start(*overrides): `rgc run pseudo-label` on the store, with an encoder that holds still."""
    started = []

    def start(*overrides: str) -> Stopped:
        started.append(
            Stopped(tmp_path, smoke.arguments("pseudo-label", smoke.in_place, *SETS, *overrides, store=store))
        )
        return started[-1]

    yield start
    for each in started:
        each.close()


def send(to: Stopped, number: signal.Signals) -> None:
    """SIGINT as a terminal sends it, to every process of the group; another signal as `kill` does, to one."""
    if number == signal.SIGINT:
        os.killpg(to.pid, number)
    else:
        os.kill(to.pid, number)


@pytest.mark.parametrize(
    ("number", "num_actors"), [(signal.SIGTERM, 0), (signal.SIGINT, 2)], ids=["SIGTERM-here", "SIGINT-on-Ray"]
)
def test_a_signal_in_the_middle_of_parts_ends_a_run_that_the_same_command_goes_on_with(
    number: signal.Signals, num_actors: int, start: Any, run: Any, rgc: Any, smoke: Any, store: Path
) -> None:
    before = {artifact.key for artifact in list_artifacts(Folder(str(store)))}
    stopped = start(f"{NUM_ACTORS}={num_actors}")
    num_workers = max(1, num_actors)
    stopped.until(lambda: stopped.has_ended() or len(stopped.holders()) == num_workers, "all workers are in a part")
    assert not stopped.has_ended(), stopped.said()
    (parts,) = (path for path in store.glob("regions/*/parts") if path.parent.name not in before)
    send(stopped, number)
    assert (stopped.ended(), stopped.said()) == (1, SAID)
    assert not list((store / ".locks").glob("*.json"))
    assert parts.parent.name[:8] not in rgc("ls", "--store", str(store)).out
    committed = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files_of_done_parts(parts)}
    assert 0 < len(list(parts.glob("[0-9]*.json"))) < NUM_PARTS
    again = run("pseudo-label", smoke.in_place, *SETS)
    assert (again.code, again.err) == (0, "")
    assert len(list(parts.glob("[0-9]*.json"))) == NUM_PARTS
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in committed} == committed


def files_of_done_parts(parts: Path) -> list[Path]:
    """The records of the parts that are done and the tables that they tell of."""
    numbers = {path.stem for path in parts.glob("[0-9]*.json")}
    return [path for path in parts.parent.rglob("*") if path.is_file() and path.stem.rpartition("-")[2] in numbers]


if __name__ == "__main__":

    class HeldEncoding(RegionEncoding):
        """Ends one part, begins the next, and stays there."""

        parts = 0

        def __call__(self, items: Any) -> Any:
            self.parts += 1
            if self.parts > 1:
                with open(Path(os.environ[MARK], "begun"), "a") as file:
                    file.write(f"{os.getpid()}\n")
                end = time.monotonic() + PATIENCE
                while time.monotonic() < end:
                    time.sleep(0.02)
            return super().__call__(items)

    def process_held(context: Any, items: Any, part_size: int, worker: type, *others: Any, **named: Any) -> Any:
        return process_parts(context, items, part_size, HeldEncoding, *others, **named)

    encode_regions.process_parts = process_held  # type: ignore[attr-defined]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job starts with it ignored
    main()
