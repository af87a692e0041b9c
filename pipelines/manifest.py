"""The manifest of an artifact: what made it, from what, and the hash of every file it holds."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import stages
from stages.contract import MANIFEST, WORK, Artifact, Result, Stage
from stages.parts import REJECTED
from stages.storage import Folder


def make_manifest(
    stage: Stage,
    artifact: Artifact,
    values: Mapping[str, Any],
    inputs: Mapping[str, Artifact],
    result: Result,
    started: datetime,
) -> dict[str, Any]:
    """Describe a finished output folder; marks are those of the inputs and the result together."""
    inherited = {mark for given in inputs.values() for mark in given.manifest["marks"]}
    if artifact.folder.is_local:
        os.sync()  # files written without durability must not be younger than the manifest
    ended = datetime.now(UTC)
    return {
        "stage": stage.name,
        "version": stage.version,
        "kind": artifact.kind,
        "key": artifact.key,
        "config": values,
        "inputs": {name: {"kind": given.kind, "key": given.key} for name, given in inputs.items()},
        "files": {name: _file(artifact.folder, name) for name in artifact.folder.names() if not _is_ours(name)},
        "metrics": {name: float(value) for name, value in result.metrics.items()},
        "external": dict(result.external),
        "marks": sorted(inherited | set(result.marks)),
        "git": _git_revision(),
        "package": _package_version(),
        "started": started.isoformat(timespec="milliseconds"),
        "ended": ended.isoformat(timespec="milliseconds"),
        "seconds": round((ended - started).total_seconds(), 3),
    }


def _is_ours(name: str) -> bool:
    return name == MANIFEST or name.startswith(f"{WORK}/")


def _file(folder: Folder, name: str) -> dict[str, Any]:
    sha256, size = folder.checksum(name)
    facts: dict[str, Any] = {"sha256": sha256, "bytes": size}
    if name.endswith(".parquet"):
        where = folder.path(name) if folder.is_local else pa.BufferReader(folder.read(name))
        facts["rows"] = pq.read_metadata(where).num_rows
    return facts


def outcome(manifest: Mapping[str, Any]) -> str:
    """The time and the counts of a finished stage, for its line."""
    rows = {name: facts["rows"] for name, facts in manifest["files"].items() if "rows" in facts}
    rejected = sum(count for name, count in rows.items() if name.startswith(REJECTED))
    kept = sum(rows.values()) - rejected
    parts = [f"{manifest['seconds']:.1f} s"]
    parts += [f"{kept:,} rows"] if rows else []
    parts += [f"{rejected:,} rejected"] if rejected else []
    return "  ".join(parts)


@functools.cache
def _git_revision() -> str | None:
    """The commit of a checkout this package runs from, with '-dirty' where files differ; None for an installed one."""
    git = ["git", "-C", str(Path(stages.__file__).parent)]
    try:
        subprocess.run([*git, "ls-files", "--error-unmatch", "contract.py"], capture_output=True, check=True)
        describe = [*git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        revision: str = subprocess.run(describe, capture_output=True, check=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
    return revision


@functools.cache
def _package_version() -> str | None:
    try:
        return importlib.metadata.version("rgc")
    except importlib.metadata.PackageNotFoundError:
        return None
