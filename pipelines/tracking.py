"""MLflow: one run a pipeline, one child run a stage, and artifacts as datasets with their key as digest."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.runner import Status
from stages.contract import MANIFEST, Artifact, Stage
from stages.storage import Folder

EXPERIMENT = "rgc"
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
}
_SERVER = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_LOGGING_LEVEL": "WARNING"}
_PAGE = "/#/experiments/1/runs?workflowType=machine_learning"  # a new embedded store numbers ours 1
_STATUS = {"finished": "FINISHED", "failed": "FAILED", "killed": "KILLED"}
_CONTEXT = "mlflow.data.context"
_BUFFERED_METRICS, _FLUSH_SECONDS = 500, 5.0
_PARAMS_A_BATCH = 100
_REPORT_SUFFIXES = (".html", ".png", ".json")
_MAX_REPORT_BYTES = 20_000_000
_DATA_FOLDERS = ("parts/", "annotations/", "images/")


@dataclass(frozen=True)
class UpstreamRun:
    """The run that made an artifact."""

    run_id: str
    stage: str
    kind: str
    key: str


class MlflowTracker:
    """Records a pipeline for a `Runner`; the default store is SQLite and an artifact folder beside `store`.

    Raises ValueError when the tracking server does not answer.
    """

    def __init__(
        self, store: Folder, pipeline: str, config: Mapping[str, Any], tracking_uri: str | None = None
    ) -> None:
        uri = tracking_uri or default_tracking_uri(store)
        self._store = store
        try:
            self._client = _client(uri)
            self._experiment = _experiment(self._client, store, uri)
        except Exception as error:  # MLflow raises many types for a server that is away
            raise ValueError(f"the tracking store {uri} cannot be used: {error}") from error
        self.run_id = self._start(pipeline, {"pipeline": pipeline}, config)
        self._marks: set[str] = set()

    def begin(
        self, stage: Stage, artifact: Artifact, config: Mapping[str, Any], inputs: Mapping[str, Artifact]
    ) -> _StageRun:
        run_id = self._start_child(stage, artifact, {"reused": "false"}, config)
        given = {name: (value.kind, value.key) for name, value in inputs.items()}
        self._log_data(run_id, artifact, given)
        return _StageRun(self, run_id, artifact)

    def reuse(self, stage: Stage, artifact: Artifact, manifest: Mapping[str, Any]) -> None:
        self._marks.update(manifest["marks"])
        tags = {"reused": "true", **_marks(manifest)}
        run_id = self._start_child(stage, artifact, tags, {})
        given = {name: (value["kind"], value["key"]) for name, value in manifest["inputs"].items()}
        self._log_data(run_id, artifact, given)
        self._client.set_terminated(run_id, "FINISHED")

    def close(self, status: Status) -> None:
        if self._marks:
            self._client.set_tag(self.run_id, "marks", " ".join(sorted(self._marks)))
        self._client.set_terminated(self.run_id, _STATUS[status])

    def _start_child(self, stage: Stage, artifact: Artifact, tags: Mapping[str, str], config: Mapping[str, Any]) -> str:
        ours = {"stage": stage.name, "kind": artifact.kind, "key": artifact.key, "mlflow.parentRunId": self.run_id}
        return self._start(stage.name, {**ours, **tags}, config)

    def _start(self, name: str, tags: Mapping[str, str], config: Mapping[str, Any]) -> str:
        from mlflow.entities import Param

        run_id: str = self._client.create_run(self._experiment, run_name=name, tags=dict(tags)).info.run_id
        params = [Param(key, value) for key, value in _flat(config)]
        for first in range(0, len(params), _PARAMS_A_BATCH):
            self._client.log_batch(run_id, params=params[first : first + _PARAMS_A_BATCH])
        if config:
            self._client.log_text(run_id, json.dumps(config, indent=1, default=str), "config.json")
        return run_id

    def _log_data(self, run_id: str, artifact: Artifact, inputs: Mapping[str, tuple[str, str]]) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        def entry(kind: str, key: str, tags: Mapping[str, str]) -> Any:
            source = json.dumps({"uri": self._store.child(f"{kind}/{key}").uri})
            data = Dataset(name=kind, digest=key, source_type="rgc", source=source)
            return DatasetInput(data, [InputTag(name, value) for name, value in tags.items()])

        datasets = {
            key: entry(kind, key, {_CONTEXT: "input", "argument": name}) for name, (kind, key) in inputs.items()
        }
        datasets[artifact.key] = entry(artifact.kind, artifact.key, {_CONTEXT: "output"})
        self._client.log_inputs(run_id, datasets=list(datasets.values()))


class _StageRun:
    """One child run; metrics go out in batches."""

    def __init__(self, tracker: MlflowTracker, run_id: str, artifact: Artifact) -> None:
        self._tracker, self._client = tracker, tracker._client
        self._run_id, self._artifact = run_id, artifact
        self._metrics: list[Any] = []
        self._sent = time.monotonic()

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._metrics += [Metric(_name(name), float(value), now, step) for name, value in metrics.items()]
        if len(self._metrics) >= _BUFFERED_METRICS or time.monotonic() - self._sent > _FLUSH_SECONDS:
            self._flush()

    def end(self, status: Status, manifest: Mapping[str, Any] | None) -> None:
        if manifest is not None:
            self._tracker._marks.update(manifest["marks"])
            self.log(manifest["metrics"], step=0)
            for name, value in _marks(manifest).items():
                self._client.set_tag(self._run_id, name, value)
            self._log_files(manifest)
        self._flush()
        self._client.set_terminated(self._run_id, _STATUS[status])

    def _flush(self) -> None:
        if self._metrics:
            self._client.log_batch(self._run_id, metrics=self._metrics)
        self._metrics, self._sent = [], time.monotonic()

    def _log_files(self, manifest: Mapping[str, Any]) -> None:
        with tempfile.TemporaryDirectory(prefix="rgc-") as scratch:
            copies = Folder(scratch)
            copies.write(MANIFEST, json.dumps(manifest, indent=1).encode(), durable=False)
            for name, facts in manifest["files"].items():
                is_report = name.endswith(_REPORT_SUFFIXES) and not name.startswith(_DATA_FOLDERS)
                if is_report and facts["bytes"] < _MAX_REPORT_BYTES:
                    copies.write(name, self._artifact.folder.read(name), durable=False)
            self._client.log_artifacts(self._run_id, scratch)


def default_tracking_uri(store: Folder) -> str:
    """The embedded SQLite store: beside a local artifact store, or in the working directory for a remote one."""
    return f"sqlite:///{_home(store)}/mlflow.db"


def upstream_runs(run_id: str, tracking_uri: str) -> list[UpstreamRun]:
    """The runs that made what a run used, and what those used, up to the sources; nearest first.

    The way goes by digests alone. Raises ValueError for an unknown run.
    """
    client = _client(tracking_uri)
    try:
        waiting = [client.get_run(run_id)]
    except Exception as error:  # as above
        raise ValueError(f"{tracking_uri} has no run '{run_id}': {error}") from error
    experiment = waiting[0].info.experiment_id
    found: dict[str, UpstreamRun] = {}
    while waiting:
        run = waiting.pop(0)
        for key in _digests(run, "input"):
            maker = _maker(client, experiment, key) if key not in found else None
            if maker is not None:
                tags = maker.data.tags
                found[key] = UpstreamRun(maker.info.run_id, tags["stage"], tags["kind"], key)
                waiting.append(maker)
    return list(found.values())


def serve_ui(store: str, tracking_uri: str | None, port: int) -> None:
    """Serve the MLflow pages of the embedded store on 127.0.0.1 until interrupted."""
    uri = tracking_uri or default_tracking_uri(Folder(store))
    path = Path(uri.removeprefix("sqlite:///"))
    if uri.startswith("sqlite:///") and not path.exists():
        raise ValueError(f"{path} does not exist; run a pipeline with this --store first")
    address = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri, *address]
    page = "" if tracking_uri else _PAGE
    print(f"runs at http://127.0.0.1:{port}{page} (Ctrl-C ends the server)", flush=True)
    _serve(command, {**os.environ, **_ENVIRONMENT, **_SERVER})


def _serve(command: list[str], environment: Mapping[str, str]) -> None:
    """Run a server until it ends or we are interrupted; it is asked to end, for a killed one leaves its children."""
    with subprocess.Popen(command, env=environment) as server:
        try:
            code = server.wait()
        except KeyboardInterrupt:
            server.terminate()
            return
    if code:
        raise subprocess.CalledProcessError(code, command)


def _client(uri: str) -> Any:
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    from mlflow.tracking import MlflowClient

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    return MlflowClient(uri)


def _experiment(client: Any, store: Folder, uri: str) -> str:
    if uri.startswith("sqlite:///"):
        Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    known = client.get_experiment_by_name(EXPERIMENT)
    if known is not None:
        return str(known.experiment_id)
    served = uri.startswith(("http://", "https://", "databricks"))
    location = None if served else (_home(store) / "mlflow-artifacts").as_uri()
    return str(client.create_experiment(EXPERIMENT, artifact_location=location))


def _home(store: Folder) -> Path:
    return Path(store.parent.uri) if store.is_local else Path.cwd()


def _maker(client: Any, experiment: str, key: str) -> Any:
    """The run with this output: the one that made it, else the latest that reused it, else None."""
    query = f"dataset.digest = '{key}' AND dataset.context = 'output' AND attributes.status = 'FINISHED'"
    runs = [run for run in client.search_runs([experiment], query) if key in _digests(run, "output")]
    made = [run for run in runs if run.data.tags.get("reused") != "true"]
    return next(iter(made or runs), None)


def _marks(manifest: Mapping[str, Any]) -> dict[str, str]:
    return {"marks": " ".join(manifest["marks"])} if manifest["marks"] else {}


def _digests(run: Any, context: str) -> list[str]:
    return sorted(
        given.dataset.digest
        for given in run.inputs.dataset_inputs
        if any(tag.key == _CONTEXT and tag.value == context for tag in given.tags)
    )


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield _name(f"{prefix}{name}"), str(value)


def _name(name: str) -> str:
    """A name of a metric or parameter as MLflow takes it."""
    return re.sub(r"[^\w./ -]", "_", name)
