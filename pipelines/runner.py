"""Running stages: reuse what is made, make the rest under a lock, and commit it with a manifest written last."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal, Protocol, Self

from rich.console import Console
from rich.table import Table

from pipelines.lock import locked
from pipelines.manifest import make_manifest, outcome
from pipelines.progress import Display
from pipelines.store import artifact_of
from stages.contract import MANIFEST, WORK, Artifact, Resources, Stage
from stages.ray_session import use_address
from stages.storage import Folder

Status = Literal["finished", "failed", "killed"]


class StageRun(Protocol):
    """The tracker's record of one running stage."""

    def log(self, metrics: Mapping[str, float], step: int) -> None: ...

    def end(self, status: Status, manifest: Mapping[str, Any] | None) -> None:
        """Close the record; the manifest is None unless the stage finished."""
        ...


class Tracker(Protocol):
    """What a pipeline tells of its run while it goes."""

    def begin(
        self, stage: Stage, artifact: Artifact, config: Mapping[str, Any], inputs: Mapping[str, Artifact]
    ) -> StageRun: ...

    def reuse(self, stage: Stage, artifact: Artifact, manifest: Mapping[str, Any]) -> None: ...

    def close(self, status: Status) -> None: ...


class NoTracker:
    """A tracker, and a stage's record, that keeps nothing."""

    def begin(
        self, stage: Stage, artifact: Artifact, config: Mapping[str, Any], inputs: Mapping[str, Artifact]
    ) -> NoTracker:
        return self

    def reuse(self, stage: Stage, artifact: Artifact, manifest: Mapping[str, Any]) -> None:
        pass

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        pass

    def end(self, status: Status, manifest: Mapping[str, Any] | None) -> None:
        pass

    def close(self, status: Status) -> None:
        pass


@dataclass(frozen=True)
class Planned:
    """One line of a dry run."""

    stage: str
    artifact: Artifact
    action: Literal["run", "reuse"]


class Runner:
    """Calls stages for a pipeline: `run(STAGE, config, input=artifact, ...) -> Artifact`, inside a `with` block.

    resources: by stage name; `default` for the others. dry_run: plan only; nothing is run or written, and the
    plan is printed at the end of the block.
    """

    def __init__(
        self,
        store: Folder,
        tracker: Tracker | None = None,
        resources: Mapping[str, Resources] | None = None,
        default: Resources | None = None,
        dry_run: bool = False,
        ray_address: str | None = None,
        console: Console | None = None,
    ) -> None:
        self.store, self.dry_run = store, dry_run
        self.plan: list[Planned] = []
        self._tracker: Tracker = tracker or NoTracker()
        self._resources, self._default = dict(resources or {}), default or Resources()
        self._console = console or Console()
        self._display = Display(self._console)
        self._done: set[Artifact] = set()
        self._keys: dict[tuple[str, str, tuple[tuple[str, str], ...]], str] = {}
        use_address(ray_address)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            with suppress(Exception):  # the first error is the one to tell
                self._tracker.close(_status(error))
            return
        self._tracker.close("finished")
        if self.dry_run:
            self._print_plan()

    def __call__(self, stage: Stage, config: Any, **inputs: Artifact | None) -> Artifact:
        """The artifact of a stage: the one in the store, or a new one.

        Raises ValueError for inputs that do not fit, for an artifact that another process is making, and
        whatever the stage raises; an artifact that was not finished does not exist for readers.
        """
        artifact = artifact_of(self.store, stage.output, self._key(stage, config, inputs))
        if artifact in self._done:
            return artifact
        values = _plain(asdict(config))
        if self.dry_run:
            action: Literal["run", "reuse"] = "reuse" if _is_current(artifact, values) else "run"
            self.plan.append(Planned(stage.name, artifact, action))
        elif _is_current(artifact, values):
            self._reuse(stage, artifact)
        else:
            with locked(self.store, artifact) as check_lock:
                if _is_current(artifact, values):
                    self._reuse(stage, artifact)
                else:
                    given = {name: value for name, value in inputs.items() if value is not None}
                    self._make(stage, artifact, config, values, given, check_lock)
        self._done.add(artifact)
        return artifact

    def _key(self, stage: Stage, config: Any, inputs: Mapping[str, Artifact | None]) -> str:
        """The key, computed once a run: that of a source reads its files."""
        given = tuple(sorted((name, artifact.key) for name, artifact in inputs.items() if artifact is not None))
        asked = (stage.name, repr(config), given)
        if asked not in self._keys:
            self._keys[asked] = stage.key(config, inputs)
        return self._keys[asked]

    def _reuse(self, stage: Stage, artifact: Artifact) -> None:
        manifest = artifact.manifest
        self._tracker.reuse(stage, artifact, manifest)
        self._display.done(stage.name, artifact.key, "reused", tuple(manifest["marks"]))

    def _make(
        self,
        stage: Stage,
        artifact: Artifact,
        config: Any,
        values: Mapping[str, Any],
        inputs: Mapping[str, Artifact],
        check_lock: Callable[[], None],
    ) -> None:
        if not stage.resumable and not artifact.folder.exists(MANIFEST):
            artifact.folder.clear()
        started = datetime.now(UTC)
        record = self._tracker.begin(stage, artifact, values, inputs)
        context = _Context(artifact.folder, self._resources.get(stage.name, self._default), record, self._display)
        self._display.start(stage.name)
        try:
            result = stage.run(context, config, **inputs)
            manifest = make_manifest(stage, artifact, values, inputs, result, started)
            check_lock()
            artifact.folder.write(MANIFEST, json.dumps(manifest, indent=1, sort_keys=True).encode())
            artifact.folder.child(WORK).clear()
        except BaseException as error:
            with suppress(Exception):  # likewise: a full disk may hold the tracker's records too
                record.end(_status(error), None)
            raise
        finally:
            self._display.stop()
        record.end("finished", manifest)
        self._display.done(stage.name, artifact.key, outcome(manifest), tuple(manifest["marks"]))

    def _print_plan(self) -> None:
        table = Table("stage", "kind", "key", "action")
        for step in self.plan:
            table.add_row(step.stage, step.artifact.kind, step.artifact.key, step.action)
        self._console.print(table)


@dataclass(frozen=True)
class _Context:
    """What a stage is lent; see `stages.contract.Context`."""

    folder: Folder
    resources: Resources
    record: StageRun
    display: Display

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        self.record.log(metrics, step)
        self.display.metrics(metrics, step)

    def advance(self, done: int, total: int, unit: str) -> None:
        self.display.advance(done, total, unit)

    def say(self, text: str) -> None:
        self.display.say(text)


def _is_current(artifact: Artifact, values: Mapping[str, Any]) -> bool:
    """Whether the artifact is finished and was made with these very values.

    The values can differ under one key only for a source, whose key holds its content and not its place: then
    the source is read again, so that its manifest points to the files where they are now.
    """
    return artifact.folder.exists(MANIFEST) and bool(artifact.manifest["config"] == values)


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values as they read back from JSON: tuples as lists, paths as strings."""
    plain: dict[str, Any] = json.loads(json.dumps(values, default=str))
    return plain


def _status(error: BaseException) -> Status:
    return "failed" if isinstance(error, Exception) else "killed"
