"""The command line called in this process, and one tiny run of the whole chain that many tests look at."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console

from pipelines.cli import main
from pipelines.config import PipelineConfig
from pipelines.execute import PIPELINES
from pipelines.loading import load
from pipelines.runner import Planned, Runner
from pipelines.store import list_artifacts
from pipelines.tracking import default_tracking_uri
from stages.contract import Artifact
from stages.storage import Folder

SMOKE = """
extends: demo
title: Smoke
data:
  scenes: {num_images: {train: 16, val: 1, test: 6}, scene: {size: 96, min_side: 20, max_side: 40}}
teacher: {model: rgc-test-rn, pretrained: null, allow_untrained: true}
student: null
proposer_weights: null
proposer_training: {batch_size: 4, num_steps: 2, resize: &whole {rule: pretraining, short_side: 96, max_side: 96}}
proposals: {resize: *whole, proposals: {pre_nms: 50, post_nms: 10}}
concepts: {min_document_frequency: 1}
embeddings: {templates: plain}
regions: {num_regions: 5, resize: *whole}
labels: {threshold: 0.0, candidates: captions}
pretrain: {batch_size: 4, num_steps: 2, regions_per_image: 4, resize: *whole}
transfer: {batch_size: 4, num_steps: 2, samples_per_image: 8, resize: *whole}
evaluate: {resize: *whole}
recipes:
  - {name: plain CLIP start, pretrain: false}
  - {name: whole-pool labels, candidates: pool}
  - {name: caption-guided labels, candidates: captions}
resources: {default: {num_workers: 0, num_cpus: 1, batch_size: 8}}
"""


IN_PLACE = "resources.stages={propose_regions: {num_workers: 0}, encode_regions: {num_workers: 0}}"
"""Without Ray, which takes ten seconds a stage to start."""


@dataclass(frozen=True)
class Outcome:
    """What a command left: its exit code and what it printed."""

    code: int | str | None
    out: str
    err: str


Rgc = Callable[..., Outcome]


@dataclass(frozen=True)
class Smoke:
    """A tiny config, a store, and what the command that filled it printed."""

    config: Path
    store: Path
    outcome: Outcome
    in_place: str = IN_PLACE

    @property
    def tracking(self) -> str:
        """Where this store's runs are recorded; a tracking store of its own takes some seconds to make."""
        return default_tracking_uri(Folder(str(self.store)))

    def arguments(self, verb: str, *overrides: str, store: Path | None = None, config: str | None = None) -> list[str]:
        """`run VERB` on this config and its store, or on others, recorded where this one's runs are."""
        sets = [part for override in overrides for part in ("--set", override)]
        where = ["--store", str(store or self.store), *(["--tracking-uri", self.tracking] if store else [])]
        return ["run", verb, "--config", config or str(self.config), *where, *sets]

    def plan(self, *overrides: str, verb: str = "all") -> list[Planned]:
        """What a run would do, stage by stage."""
        config = load(PipelineConfig, str(self.config), overrides)
        with Runner(Folder(str(self.store)), dry_run=True, console=Console(file=io.StringIO())) as run:
            PIPELINES[verb](config, run)
        return run.plan

    def made_by(self, stage: str) -> list[Artifact]:
        """The artifacts of a stage, oldest first."""
        return [found for found in list_artifacts(Folder(str(self.store))) if found.manifest["stage"] == stage]

    def files(self) -> dict[str, tuple[int, bytes]]:
        """Every file of the store, hidden ones as well, with its time of change and bytes."""
        paths = (path for path in self.store.rglob("*") if path.is_file())
        return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in paths}


def call(*arguments: str) -> Outcome:
    """Run the command line as the console script does."""
    out, err = io.StringIO(), io.StringIO()
    code: int | str | None = 0
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "argv", ["rgc", *arguments])
        patch.setenv("COLUMNS", "100")
        patch.delenv("RGC_DEBUG", raising=False)
        try:
            main()
        except SystemExit as leaving:
            code = leaving.code
    return Outcome(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="session")
def rgc() -> Rgc:
    """rgc(*arguments): the outcome of a command."""
    return call


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Smoke:
    """A store that `rgc run all` filled from the tiny config."""
    home = tmp_path_factory.mktemp("smoke")
    config = home / "smoke.yaml"
    config.write_text(SMOKE)
    smoke = Smoke(config, home / "store", Outcome(0, "", ""))
    return Smoke(config, smoke.store, call(*smoke.arguments("all")))


@pytest.fixture(scope="session")
def sound(smoke: Smoke, rgc: Rgc, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with nothing wrong."""
    folder = tmp_path_factory.mktemp("sound") / "data"
    assert rgc("data", "scenes", "--config", str(smoke.config), "--out", str(folder)).code == 0
    return folder


@pytest.fixture
def store(smoke: Smoke, tmp_path: Path) -> Path:
    """A store that holds all that the smoke run made, to lose nothing of."""
    return Path(shutil.copytree(smoke.store, tmp_path / "store", copy_function=os.link))


@pytest.fixture
def run(smoke: Smoke, rgc: Rgc, store: Path) -> Rgc:
    """run(verb, *overrides): a command on the store, recorded where the smoke run is."""

    def run(verb: str, *overrides: str, config: str | None = None) -> Outcome:
        return rgc(*smoke.arguments(verb, *overrides, store=store, config=config))

    return run
