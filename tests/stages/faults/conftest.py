"""Drivers as processes of their own, so that they can be killed, and what a store must be after that."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pipelines.store import list_artifacts
from stages.contract import MANIFEST, Artifact
from stages.ray_session import ensure_ray
from stages.storage import Folder

PART_SIZE = 3
PATIENCE = 120.0


class Drivers:
    """A process that forks one driver at a time; its standard error goes to `errors`."""

    def __init__(self, errors: Path) -> None:
        self._errors = errors
        self._running: int | None = None
        root = Path(__file__).parents[3]
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("driver.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors.open("w"),
            text=True,
            env={**os.environ, "PYTHONPATH": str(root)},
        )

    def start(self, **asked: Any) -> int:
        """Fork a driver with the arguments of `driver.Drive`; its process id."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        self._running = int(self._process.stdout.readline())
        return self._running

    def wait(self) -> int:
        """The exit status of the driver that was started; minus the signal that killed it."""
        assert self._process.stdout is not None
        status = int(self._process.stdout.readline())
        self._running = None
        return status

    def run(self, **asked: Any) -> int:
        """Start a driver and wait for it."""
        self.start(**asked)
        return self.wait()

    def said(self) -> str:
        """What drivers wrote to their standard error."""
        return self._errors.read_text()

    def until(self, happened: Callable[[], bool], what: str) -> None:
        """Poll until something happened; give up after two minutes."""
        end = time.monotonic() + PATIENCE
        while not happened():
            assert time.monotonic() < end, f"never happened: {what}; {self.said()[-2000:]}"
            time.sleep(0.02)

    def kill(self, process: int) -> None:
        """SIGKILL, and wait until the process is gone."""
        os.kill(process, signal.SIGKILL)
        self.until(lambda: _is_gone(process), f"process {process} ends")

    def close(self) -> None:
        if self._running is not None:  # a test failed meanwhile
            with suppress(ProcessLookupError):
                os.kill(self._running, signal.SIGKILL)
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE)


@dataclass
class Site:
    """A store of one artifact, what its workers began, and what was committed at each kill."""

    home: Path
    kills: list[tuple[set[int], int]] = field(default_factory=list)

    @property
    def asked(self) -> dict[str, str]:
        return {"store": str(self.home / "store"), "seen": str(self.home / "seen")}

    def begun(self) -> list[tuple[int, int]]:
        """Process and part of each beginning, in order."""
        seen = self.home / "seen"
        lines = seen.read_text().split("\n")[:-1] if seen.exists() else []
        return [(int(process), int(item) // PART_SIZE) for process, item in map(str.split, lines)]

    def committed(self) -> set[int]:
        return {int(path.stem) for path in self.home.glob("store/folds/*/parts/[0-9]*.json")}

    def working(self, since: int = 0) -> dict[int, int]:
        """Part -> the process that began it last, of those that are not committed; `since`: beginnings passed over."""
        done = self.committed()
        return {part: process for process, part in self.begun()[since:] if part not in done}

    def note_kill(self) -> None:
        done = self.committed()
        self.kills.append((done, len(self.begun())))

    def check_nothing_was_done_twice(self) -> None:
        begun = self.begun()
        for done, mark in self.kills:
            assert not done & {part for _, part in begun[mark:]}

    def artifact(self) -> Artifact | None:
        """The finished artifact, with every file as its manifest says; None before it is finished."""
        found = list_artifacts(Folder(str(self.home / "store")))
        if not found:
            return None
        [artifact] = found
        for name, facts in artifact.manifest["files"].items():
            assert artifact.folder.checksum(name) == (facts["sha256"], facts["bytes"])
        return artifact

    def contents(self) -> dict[str, bytes]:
        """The bytes of all files of the finished artifact, hidden ones too, but for the manifest and its times."""
        artifact = self.artifact()
        assert artifact is not None
        root = Path(artifact.folder.uri)
        files = (path for path in root.rglob("*") if path.is_file() and path.name != MANIFEST)
        return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="session")
def drivers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drivers]:
    drivers = Drivers(tmp_path_factory.mktemp("drivers") / "errors")
    yield drivers
    drivers.close()


@pytest.fixture
def other_drivers(tmp_path: Path) -> Iterator[Drivers]:
    drivers = Drivers(tmp_path / "errors")
    yield drivers
    drivers.close()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    home = tmp_path / "site"
    home.mkdir()
    return Site(home)


@pytest.fixture
def no_other_ray() -> Iterator[None]:
    """The Ray session of the tests' own process is down meanwhile."""
    ray = sys.modules.get("ray")
    was_up = ray is not None and ray.is_initialized()
    if ray is not None and was_up:
        ray.shutdown()
    yield
    if was_up:
        ensure_ray()


@pytest.fixture(scope="session")
def undisturbed(drivers: Drivers, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """The same work without a fault, and the number of its changes to the store."""
    site = Site(tmp_path_factory.mktemp("undisturbed"))
    assert drivers.run(**site.asked, changes=str(site.home / "changes")) == 0
    return site


def _is_gone(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
