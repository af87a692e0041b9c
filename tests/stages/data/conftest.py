"""What tests of whole stages need: a context that works in the caller, and a way to run a stage to an artifact."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pytest

from stages.contract import MANIFEST, Artifact, Resources, Stage
from stages.storage import Folder


@dataclass(frozen=True)
class FakeContext:
    """Lends a folder and remembers what it was told."""

    folder: Folder
    resources: Resources = field(default_factory=lambda: Resources(num_workers=0))
    logged: list[tuple[Mapping[str, float], int]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        self.logged.append((metrics, step))

    def advance(self, done: int, total: int, unit: str) -> None:
        assert done <= total, unit

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def run_stage(tmp_path: Path) -> Callable[..., Artifact]:
    """run_stage(stage, config, **inputs): the artifact of a stage run in this process, with a small manifest."""

    def run(stage: Stage, config: object, **inputs: Artifact) -> Artifact:
        key = stage.key(config, inputs)
        folder = Folder(str(tmp_path / "store" / stage.output / key))
        result = stage.run(FakeContext(folder), config, **inputs)
        folder.write(MANIFEST, json.dumps(asdict(result), default=dict).encode())
        return Artifact(stage.output, key, folder)

    return run
