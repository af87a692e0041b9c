"""The record that each command opens in the tracker of its store."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.lock import LOCKS, guarded
from pipelines.runner import Tracker
from stages.storage import Folder


def open_tracker(store: Folder, verb: str, about: Mapping[str, Any], uri: str | None) -> Tracker:
    """The record of one command; ValueError where the store cannot be written."""
    from pipelines.tracking import MlflowTracker

    if store.is_local:
        try:
            Path(store.uri).mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=store.uri).close()
        except OSError as error:
            raise ValueError(f"the store {store.uri} cannot be written ({error}); choose another --store") from error
    with guarded(store.child(LOCKS), ".tracking"):  # MLflow makes its database in steps that two at once break
        return MlflowTracker(store, verb, about, uri)
