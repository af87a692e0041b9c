"""Looking into a store: its artifacts, one found by key, and where an artifact came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from stages.contract import MANIFEST, Artifact
from stages.storage import Folder


@dataclass(frozen=True)
class Lineage:
    """An artifact with all that it was made from; `manifest` is None where an artifact is no longer in the store."""

    artifact: Artifact
    manifest: Mapping[str, Any] | None
    inputs: Mapping[str, Lineage]

    def __iter__(self) -> Iterator[Artifact]:
        """Every artifact of the tree that the store holds, the last made first."""
        if self.manifest is not None:
            yield self.artifact
        for given in self.inputs.values():
            yield from given


def list_artifacts(store: Folder, kind: str | None = None) -> list[Artifact]:
    """The finished artifacts of a store, or those of one kind, oldest first."""
    return sorted(_finished(store, kind), key=lambda artifact: (str(artifact.manifest["ended"]), artifact.key))


def find_artifact(store: Folder, key: str) -> Artifact:
    """The one finished artifact whose key begins with `key`; raises ValueError when there is none or more."""
    found = [artifact for artifact in _finished(store) if artifact.key.startswith(key)]
    if not found:
        raise ValueError(f"{store.uri} holds no artifact with a key that begins with '{key}'; 'rgc ls' lists the keys")
    if len(found) > 1:
        names = ", ".join(f"{artifact.kind}/{artifact.key}" for artifact in found)
        raise ValueError(f"'{key}' begins {len(found)} keys: {names}; give more digits")
    return found[0]


def lineage(store: Folder, artifact: Artifact) -> Lineage:
    """The tree from an artifact up to its sources."""
    if not artifact.folder.exists(MANIFEST):
        return Lineage(artifact, None, {})
    manifest = artifact.manifest
    inputs = {
        name: lineage(store, artifact_of(store, given["kind"], given["key"]))
        for name, given in manifest["inputs"].items()
    }
    return Lineage(artifact, manifest, inputs)


def artifact_of(store: Folder, kind: str, key: str) -> Artifact:
    """The place of an artifact in a store, whether it is made or not."""
    return Artifact(kind, key, store.child(f"{kind}/{key}"))


def _finished(store: Folder, kind: str | None = None) -> list[Artifact]:
    kinds = store.folders() if kind is None else [kind]
    places = (artifact_of(store, kind, key) for kind in kinds for key in store.child(kind).folders())
    return [artifact for artifact in places if artifact.folder.exists(MANIFEST)]
