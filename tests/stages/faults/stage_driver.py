"""A process that forks runs of the stages encode_regions and label_regions themselves, as `dying` says."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dying import Asked, serve
from rich.console import Console

from pipelines.runner import Runner
from pipelines.store import artifact_of
from regionclip.images import ResizeConfig
from stages import encode_regions, label_regions
from stages.contract import Artifact
from stages.rows import RowRef
from stages.storage import Folder

PART_SIZE = 3
ENCODE = encode_regions.EncodeConfig(
    resize=ResizeConfig("pretraining", 64, 96), max_rejected_fraction=0.5, part_size=PART_SIZE
)
LABEL = label_regions.LabelsConfig(temperature=0.1, threshold=0.0, top_k=4, part_size=PART_SIZE)


@dataclass(frozen=True, kw_only=True)
class Drive(Asked):
    """A run of encode_regions, and of label_regions too if asked; `sources`: the store of what they need."""

    sources: str
    label: bool = False


def told_of(worker: type, kind: str, asked: Drive) -> type:
    """The worker of a stage, which first says which part it begins."""

    class Told(worker):  # type: ignore[misc]
        def __call__(self, rows: Sequence[RowRef]) -> Any:
            asked.begin(kind, int(rows[0].part.rpartition("-")[2]))  # each file of the input is a part of the output
            return super().__call__(rows)

    return Told


def drive(asked: Drive) -> None:
    """Run the stages through a runner, as the command line does."""

    def source(kind: str) -> Artifact:
        return artifact_of(Folder(asked.sources), kind, "small")

    encode_regions.RegionEncoding = told_of(encode_regions.RegionEncoding, "regions", asked)  # type: ignore[misc]
    label_regions.RegionLabeller = told_of(label_regions.RegionLabeller, "region_labels", asked)  # type: ignore[misc]
    console = Console(file=io.StringIO())
    with Runner(Folder(asked.store), default=asked.resources, ray_address=asked.address, console=console) as run:
        inputs = {kind: source(kind) for kind in ("images", "proposals", "clip")}
        regions = run(encode_regions.STAGE, ENCODE, **inputs)
        if asked.label:
            run(label_regions.STAGE, LABEL, regions=regions, embeddings=source("embeddings"))


if __name__ == "__main__":
    serve(Drive, drive)
