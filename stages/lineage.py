"""What an artifact was made from, as far as the store still holds it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from regionclip.report.page import ArtifactLine
from stages.contract import MANIFEST, Artifact


def stored(artifact: Artifact, kind: str, key: str) -> Artifact | None:
    """Another artifact of the same store; None where it is not there."""
    found = Artifact(kind, key, artifact.folder.parent.parent.child(f"{kind}/{key}"))
    return found if found.folder.exists(MANIFEST) else None


def upstream(artifact: Artifact, names: Iterable[str]) -> Iterator[Artifact]:
    """The artifact, then that of its inputs which comes first in `names`, and so on as far as the store holds them."""
    wanted = tuple(names)
    found: Artifact | None = artifact
    while found is not None:
        yield found
        inputs = found.manifest["inputs"]
        name = next((name for name in wanted if name in inputs), None)
        found = None if name is None else stored(artifact, inputs[name]["kind"], inputs[name]["key"])


def lineage(artifacts: Iterable[Artifact]) -> list[ArtifactLine]:
    """Every artifact that these were made from and themselves, each once and after its inputs."""
    lines: dict[str, ArtifactLine] = {}

    def visit(artifact: Artifact) -> None:
        if artifact.key in lines:
            return
        if not artifact.folder.exists(MANIFEST):
            lines[artifact.key] = ArtifactLine(artifact.kind, artifact.key, "no longer in the store")
            return
        line = ArtifactLine.of(artifact.kind, artifact.key, artifact.manifest)
        for _, kind, key in line.inputs:
            visit(Artifact(kind, key, artifact.folder.parent.parent.child(f"{kind}/{key}")))
        lines[artifact.key] = line

    for artifact in artifacts:
        visit(artifact)
    return list(lines.values())
