from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pipelines.runner import Runner
from pipelines.tracking import MlflowTracker, default_tracking_uri, serve_ui, upstream_runs
from stages.contract import Artifact, Context, Result, Stage
from stages.storage import Folder


@dataclass(frozen=True)
class StepConfig:
    name: str = "a"
    fails: bool = False


def step(context: Context, config: StepConfig, **inputs: Artifact | None) -> Result:
    if config.fails:
        raise KeyboardInterrupt
    for number in range(1, 4):
        context.log({"loss": 1.0 / number}, number)
    context.folder.write("page.html", config.name.encode())
    context.folder.write("rows.parquet.bin", b"0")
    context.folder.write("parts/00000.json", b"{}")
    return Result(metrics={"AP50_novel": 0.5}, marks=("untrained",) if config.name == "raw" else ())


STAND_IN = """
import signal, subprocess, sys
server = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
signal.signal(signal.SIGTERM, lambda number, frame: server.send_signal(number))
print("serving", flush=True)
sys.exit(server.wait())
"""
READ = Stage("read_captions", 1, {}, "captions", step)
LABEL = Stage("label_regions", 1, {"captions": ("captions",)}, "region_labels", step)
TRAIN = Stage("transfer", 1, {"labels": ("region_labels",), "captions": ("captions",)}, "detector", step)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return Folder(str(tmp_path_factory.mktemp("rgc") / "store"))


def pipeline(store: Folder, name: str, fails: bool = False) -> tuple[Any, str, Artifact | None]:
    """The MLflow client, the parent run's id and the last artifact of a three-stage pipeline."""
    tracker = MlflowTracker(store, "all", {"labels": {"threshold": 0.1, "name": name}})
    last = None
    try:
        with Runner(store, tracker, console=Console(file=io.StringIO())) as run:
            captions = run(READ, StepConfig(name))
            labels = run(LABEL, StepConfig(name), captions=captions)
            last = run(TRAIN, StepConfig(name, fails), labels=labels, captions=captions)
    except KeyboardInterrupt:
        assert fails
    return tracker._client, tracker.run_id, last


def children(client: Any, parent: str) -> dict[str, Any]:
    experiment = client.get_run(parent).info.experiment_id
    runs = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent}'")
    return {run.data.tags["stage"]: run for run in runs}


def test_a_pipeline_is_one_run_with_a_child_for_each_stage(store: Folder) -> None:
    client, parent, artifact = pipeline(store, "raw")
    assert artifact is not None
    run = client.get_run(parent)
    assert (run.info.status, run.info.run_name, run.data.tags["marks"]) == ("FINISHED", "all", "untrained")
    assert run.data.params == {"labels.threshold": "0.1", "labels.name": "raw"}
    made = children(client, parent)
    assert sorted(made) == ["label_regions", "read_captions", "transfer"]
    child = made["transfer"]
    assert child.data.tags["key"] == artifact.key
    assert child.data.tags["marks"] == "untrained"
    assert child.data.metrics == {"loss": 1.0 / 3, "AP50_novel": 0.5}
    history = client.get_metric_history(child.info.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(1, 1.0), (2, 0.5), (3, 1.0 / 3)]
    files = sorted(file.path for file in client.list_artifacts(child.info.run_id))
    assert files == ["config.json", "manifest.json", "page.html"]


def test_from_a_detector_one_gets_back_to_the_captions(store: Folder) -> None:
    client, parent, _ = pipeline(store, "b")
    run_id = children(client, parent)["transfer"].info.run_id
    found = upstream_runs(run_id, default_tracking_uri(store))
    assert {run.stage for run in found} == {"label_regions", "read_captions"}
    made = {run.info.run_id for run in children(client, parent).values()}
    again, second, _ = pipeline(store, "b")
    reused = children(again, second)
    assert {run.data.tags["reused"] for run in reused.values()} == {"true"}
    back = upstream_runs(reused["transfer"].info.run_id, default_tracking_uri(store))
    assert back == found
    assert {run.run_id for run in found} < made


def test_an_interrupted_stage_and_its_pipeline_are_recorded_as_killed(store: Folder) -> None:
    client, parent, _ = pipeline(store, "c", fails=True)
    assert client.get_run(parent).info.status == "KILLED"
    status = {stage: run.info.status for stage, run in children(client, parent).items()}
    assert status == {"read_captions": "FINISHED", "label_regions": "FINISHED", "transfer": "KILLED"}


def test_everything_lies_beside_the_store(store: Folder) -> None:
    client, parent, _ = pipeline(store, "d")
    home = Path(store.parent.uri)
    assert default_tracking_uri(store) == f"sqlite:///{home}/mlflow.db"
    assert (home / "mlflow.db").exists()
    assert client.get_run(parent).info.artifact_uri.startswith((home / "mlflow-artifacts").as_uri())


def test_a_run_or_store_that_is_not_there_is_named(store: Folder, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no run 'nosuch'"):
        upstream_runs("nosuch", default_tracking_uri(store))
    with pytest.raises(ValueError, match=r"mlflow\.db does not exist; run a pipeline"):
        serve_ui(str(tmp_path / "store"), None, 5000)


def test_a_polite_kill_of_the_ui_ends_its_server_too_and_is_no_failure(tmp_path: Path) -> None:
    """With a stand-in for mlflow, whose server holds our pipes: they close when it is gone."""
    (tmp_path / "mlflow").mkdir()
    (tmp_path / "mlflow" / "__init__.py").touch()
    (tmp_path / "mlflow" / "__main__.py").write_text(STAND_IN)
    (tmp_path / "mlflow.db").touch()
    paths = os.pathsep.join((str(tmp_path), str(Path(__file__).parents[2])))
    command = [sys.executable, "-c", "from pipelines.cli import main; main()", "ui", "--store", str(tmp_path / "store")]
    ui = subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert ui.stdout is not None
        assert "runs at" in ui.stdout.readline()
        assert ui.stdout.readline() == "serving\n"
        ui.terminate()
        assert ui.communicate(timeout=20) == ("", "")
        assert ui.returncode == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(ui.pid, signal.SIGKILL)
        ui.wait()


def test_names_of_a_users_groups_are_written_as_the_tracker_takes_them(store: Folder) -> None:
    tracker = MlflowTracker(store, "concepts", {"groups": {"pets & farm": ["cat"], "möbel": ["bed"]}})
    params = tracker._client.get_run(tracker.run_id).data.params
    tracker.close("finished")
    assert params == {"groups.pets _ farm": "['cat']", "groups.möbel": "['bed']"}
