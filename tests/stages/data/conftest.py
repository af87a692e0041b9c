"""A way to run a stage to an artifact."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from stages.contract import MANIFEST, Artifact, Stage
from stages.local_context import LocalContext
from stages.storage import Folder


@pytest.fixture
def run_stage(tmp_path: Path) -> Callable[..., Artifact]:
    """run_stage(stage, config, **inputs): the artifact of a stage run in this process, with a small manifest."""

    def run(stage: Stage, config: object, **inputs: Artifact) -> Artifact:
        key = stage.key(config, inputs)
        folder = Folder(str(tmp_path / "store" / stage.output / key))
        context = LocalContext(folder)
        result = stage.run(context, config, **inputs)
        assert all(done <= total for done, total, _ in context.progress)
        folder.write(MANIFEST, json.dumps(asdict(result), default=dict).encode())
        return Artifact(stage.output, key, folder)

    return run
