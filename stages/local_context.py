"""Running a stage from Python alone, without store or tracker: in a notebook, a benchmark or a test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from stages.contract import Resources
from stages.storage import Folder


@dataclass
class LocalContext:
    """A `Context` whose stage writes to `folder`, in this process unless `resources` ask for workers.

    logged: (metrics, step). said: what the stage had to tell. progress: (done, total, unit). The latest come last.
    """

    folder: Folder
    resources: Resources = field(default_factory=lambda: Resources(num_workers=0))
    logged: list[tuple[dict[str, float], int]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    progress: list[tuple[int, int, str]] = field(default_factory=list)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Keep metrics of one step."""
        self.logged.append((dict(metrics), step))

    def advance(self, done: int, total: int, unit: str) -> None:
        """Keep how far the work is."""
        self.progress.append((done, total, unit))

    def say(self, text: str) -> None:
        """Keep what the user is to know."""
        self.said.append(text)
