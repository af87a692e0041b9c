"""One artifact made of what a user hands in, outside of any pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from pipelines import summary
from pipelines.opening import open_tracker
from pipelines.runner import Runner
from stages.contract import Artifact, Stage
from stages.storage import Folder


def take_in(
    name: str,
    about: Mapping[str, Any],
    stage: Stage,
    config: Any,
    store: str,
    tracking_uri: str | None = None,
    console: Console | None = None,
    **inputs: Artifact,
) -> Artifact:
    """Run one stage, recorded under `name` with `about`, and print its key."""
    console, folder = console or Console(), Folder(store)
    stage.key(config, inputs)  # what is wrong with a file or a key is said before a run is opened
    with Runner(folder, open_tracker(folder, name, about, tracking_uri), console=console) as run:
        artifact = run(stage, config, **inputs)
    summary.print_result(console, artifact, store)
    return artifact
