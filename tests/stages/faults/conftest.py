"""Drivers as processes of their own, so that they can be killed, and what a store must be after that."""

from __future__ import annotations

import io
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

import numpy as np
import pyarrow as pa
import pytest
import torch
from open_clip import CLIP
from PIL import Image
from torch.nn.functional import normalize

from pipelines.store import artifact_of, list_artifacts
from regionclip import schemas
from regionclip.clip_models import save_clip
from regionclip.embeddings import save_embeddings
from stages.contract import MANIFEST, Artifact
from stages.parts import write_table
from stages.ray_session import ensure_ray
from stages.storage import Folder

PART_SIZE = 3
PATIENCE = 300.0


class Drivers:
    """A process that forks one driver of `script` at a time; its standard error goes to `errors`."""

    def __init__(self, errors: Path, script: str = "driver.py") -> None:
        self._errors = errors
        self._running: int | None = None
        root = Path(__file__).parents[3]
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name(script))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors.open("w"),
            text=True,
            env={**os.environ, "PYTHONPATH": str(root)},
        )

    def start(self, **asked: Any) -> int:
        """Fork a driver with the arguments of the script's `Drive`; its process id."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._end()
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
        """Poll until something happened; give up after five minutes."""
        end = time.monotonic() + PATIENCE
        while not happened():
            assert time.monotonic() < end, f"never happened: {what}; {self.said()[-2000:]}"
            time.sleep(0.02)

    def _end(self) -> None:
        """End the driver that a test left when it failed."""
        if self._running is not None:
            with suppress(ProcessLookupError):
                os.kill(self._running, signal.SIGKILL)
            self.wait()

    def close(self) -> None:
        self._end()
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE)


@dataclass
class Site:
    """A store of one artifact of a kind, what its workers began, and what was committed at each kill."""

    home: Path
    kind: str = "folds"
    kills: list[tuple[dict[Path, int], int]] = field(default_factory=list)

    @property
    def asked(self) -> dict[str, str]:
        return {"home": str(self.home)}

    def of(self, kind: str) -> Site:
        """The same store, for its artifact of another kind."""
        return Site(self.home, kind)

    def let_go(self) -> None:
        """Let workers begin the parts at which they are held."""
        (self.home / f"go.{self.kind}").touch()

    def begun(self) -> list[tuple[int, int]]:
        """Process and part of each beginning, in order."""
        seen = self.home / f"seen.{self.kind}"
        lines = seen.read_text().split("\n")[:-1] if seen.exists() else []
        return [(int(process), int(part)) for process, part in map(str.split, lines)]

    def committed(self) -> set[int]:
        return {int(path.stem) for path in self._records()}

    def _records(self) -> list[Path]:
        return list(self.home.glob(f"store/{self.kind}/*/parts/[0-9]*.json"))

    def stamps(self) -> dict[Path, int]:
        """When the files of each committed part were written, in ns."""
        tables = [
            record.parents[1] / table["name"]
            for record in self._records()
            for table in json.loads(record.read_text())["files"].values()
        ]
        return {path: path.stat().st_mtime_ns for path in (*self._records(), *tables)}

    def working(self) -> dict[int, int]:
        """Part -> the process that began it last, of those that are not committed."""
        done = self.committed()
        return {part: process for process, part in self.begun() if part not in done}

    def note_kill(self) -> None:
        stamps = self.stamps()
        self.kills.append((stamps, len(self.begun())))

    def deaths(self) -> list[dict[str, Any]]:
        """What workers told of the processes that they killed: part, whom, change, name, and what was done by then."""
        deaths = self.home / "deaths"
        return [json.loads(line) for line in deaths.read_text().splitlines()] if deaths.exists() else []

    def check_nothing_was_done_twice(self) -> None:
        """No part is begun, and no file of it written, once it is committed."""
        begun, now = self.begun(), self.stamps()
        for stamps, mark in self.kills:
            assert stamps.items() <= now.items()
            assert not {int(path.stem) for path in stamps if path.suffix == ".json"} & {
                part for _, part in begun[mark:]
            }
        for death in self.deaths():
            assert not set(death["done"]) & {part for _, part in begun[death["begun"] :]}

    def artifact(self) -> Artifact | None:
        """The finished artifact, with every file as its manifest says; None before it is finished."""
        found = list_artifacts(Folder(str(self.home / "store")), self.kind)
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


@pytest.fixture(scope="session")
def stage_drivers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drivers]:
    """Drivers of encode_regions and label_regions."""
    drivers = Drivers(tmp_path_factory.mktemp("stage_drivers") / "errors", "stage_driver.py")
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
    assert drivers.run(**site.asked, count=True) == 0
    return site


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory, tiny_clip: CLIP) -> Path:
    """A store of 24 random images, of which one is broken, eight random boxes on each, a CLIP and random embeddings."""
    store, rng = tmp_path_factory.mktemp("sources"), np.random.default_rng(0)
    folders = {}
    for kind in ("images", "proposals", "clip", "embeddings"):
        artifact = artifact_of(Folder(str(store)), kind, "small")
        artifact.folder.write(
            MANIFEST, json.dumps({"external": {"images": str(store / "files")}, "marks": []}).encode()
        )
        folders[kind] = artifact.folder
    images = []
    for number in range(24):
        width, height = (96, 64) if number % 4 == 0 else (64, 64)
        data = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).save(data, "PNG")
        Folder(str(store / "files")).write(f"{number}.png", data.getvalue()[: 100 if number == 23 else None])
        corners = np.sort(rng.uniform(0, 64, (8, 2, 2)), axis=1).reshape(8, 4)
        boxes = {"boxes": corners.tolist(), "objectness": rng.normal(size=8).tolist()}
        images.append({"image_id": number, "uri": f"{number}.png", "width": width, "height": height, **boxes})
    for part in range(0, len(images), PART_SIZE):
        rows = pa.Table.from_pylist(images[part : part + PART_SIZE], schemas.PROPOSALS)
        write_table(folders["proposals"], f"proposals-{part // PART_SIZE:05d}", rows)
    save_clip(tiny_clip, "rgc-test-rn", folders["clip"].local())
    embeddings = normalize(torch.from_numpy(rng.normal(size=(16, 32))), dim=1)
    save_embeddings(folders["embeddings"].local(), [f"thing {number}" for number in range(16)], embeddings)
    return store


@pytest.fixture(scope="session")
def undisturbed_stages(stage_drivers: Drivers, sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Where encode_regions, whose changes to the store are counted, and label_regions ran in place."""
    site = Site(tmp_path_factory.mktemp("undisturbed_stages"))
    assert stage_drivers.run(**site.asked, sources=str(sources), count=True) == 0, stage_drivers.said()
    assert stage_drivers.run(**site.asked, sources=str(sources), label=True) == 0, stage_drivers.said()
    return site
