"""What a stage is, what an artifact is, and what a stage is lent while it runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from stages.storage import Folder

MANIFEST = "manifest.json"
WORK = "work"  # scratch folder inside an output folder; kept for a resumed run, removed when the artifact is committed


@dataclass(frozen=True)
class Resources:
    """How fast a stage may work; never part of a key.

    num_workers: Ray actors (row stages) or Ray Train workers (trainings); 0 works in the caller.
    num_cpus: CPUs, and torch threads, of each worker.
    num_gpus: GPUs of each worker.
    batch_size: rows of one forward pass of a row stage.
    """

    num_workers: int = 1
    num_cpus: float = 1.0
    num_gpus: float = 0.0
    batch_size: int = 16

    @property
    def device(self) -> str:
        """Where the models of a worker are, as torch calls it."""
        return "cuda" if self.num_gpus > 0 else "cpu"


@dataclass(frozen=True)
class Artifact:
    """An immutable directory of a store, known by its kind and key; `folder` may not exist yet in a dry run."""

    kind: str
    key: str
    folder: Folder

    @property
    def manifest(self) -> dict[str, Any]:
        """The parsed manifest: stage, version, config, inputs, files, metrics, external, marks, git, start, end."""
        parsed: dict[str, Any] = json.loads(self.folder.read(MANIFEST))
        return parsed


@dataclass(frozen=True)
class Result:
    """What a stage says of its finished output, beside the files it wrote.

    metrics: single numbers for the manifest and the tracker.
    external: name -> URI of data that the artifact points to without holding it (an image folder).
    marks: words every later artifact, run and report must carry, such as 'untrained'.
    """

    metrics: Mapping[str, float] = field(default_factory=dict)
    external: Mapping[str, str] = field(default_factory=dict)
    marks: tuple[str, ...] = ()


class Context(Protocol):
    """What a running stage is lent: its output folder, its resources and a place for metrics."""

    @property
    def folder(self) -> Folder: ...

    @property
    def resources(self) -> Resources: ...

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Record metrics of one step, for the tracker and the terminal."""
        ...

    def advance(self, done: int, total: int, unit: str) -> None:
        """Say how far the work is, for the progress display."""
        ...

    def say(self, text: str) -> None:
        """Tell the user one thing about this run, such as which of several ways was taken."""
        ...


def what_is_made(config: Any) -> dict[str, Any]:
    """The fields of a config that decide over what is written: all but `max_rejected_fraction`.

    That one only says whether a run may go on, so a run that it stopped goes on with a higher one.
    """
    return {name: value for name, value in asdict(config).items() if name != "max_rejected_fraction"}


@dataclass(frozen=True)
class Stage:
    """A verb: a function from a config and artifacts to one artifact.

    name: the verb, and the name of the file that defines it.
    version: raised when the same config and inputs would give other bytes.
    inputs: argument name -> artifact kinds it accepts.
    output: the kind of the artifact written.
    run: run(context, config, **inputs) -> Result; files go through `context.folder`.
    optional: the inputs that may be None.
    resumable: whether a restart keeps the files of an interrupted run; else they are removed first.
    identity: what of a config enters the key (`what_is_made`, unless said); sources give content hashes here instead
    of paths.
    """

    name: str
    version: int
    inputs: Mapping[str, tuple[str, ...]]
    output: str
    run: Callable[..., Result]
    optional: frozenset[str] = frozenset()
    resumable: bool = False
    identity: Callable[[Any], Mapping[str, Any]] = what_is_made

    def key(self, config: object, inputs: Mapping[str, Artifact | None]) -> str:
        """The recipe hash: sha256 (first 16 hex digits) of name, version, config and input keys.

        Raises ValueError when an input is missing, unknown or of the wrong kind.
        """
        self._check(inputs)
        recipe = {
            "stage": self.name,
            "version": self.version,
            "config": self.identity(config),
            "inputs": {name: artifact.key for name, artifact in inputs.items() if artifact is not None},
        }
        text = canonical_json(recipe).encode("utf-8", "backslashreplace")  # names of files may be no text
        return hashlib.sha256(text).hexdigest()[:16]

    def _check(self, inputs: Mapping[str, Artifact | None]) -> None:
        for name in sorted(set(inputs) - set(self.inputs)):
            raise ValueError(f"{self.name} has no input '{name}'; it takes {', '.join(self.inputs) or 'none'}")
        for name, kinds in self.inputs.items():
            artifact = inputs.get(name)
            if artifact is None:
                if name not in self.optional:
                    raise ValueError(
                        f"{self.name} needs the input '{name}' ({' or '.join(kinds)}), which was not given"
                    )
            elif artifact.kind not in kinds:
                raise ValueError(
                    f"{self.name}: input '{name}' is a {artifact.kind} ({artifact.key}); give a {' or '.join(kinds)}"
                )


def canonical_json(value: object) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text, whatever the order of their keys."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
