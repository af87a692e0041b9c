"""The labelled regions of each image that are shown to others, out of region-label tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from regionclip.grouped import grouped_lists
from regionclip.image_sources.places import TableRow, TarMember, parse_place

_UNSAFE = re.compile(r'[\x00-\x1f\\:*?"<>|]')  # in a name of a file somewhere


@dataclass(frozen=True)
class Choice:
    """Which regions are shown: the kept ones or `everything`, of a first label of probability `min_score` or more."""

    everything: bool = False
    min_score: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.min_score <= 1:
            raise ValueError(f"min_score {self.min_score} is no probability; give a number from 0 to 1")

    def shown(self, keep: NDArray[np.bool_], scores: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which regions [R] are shown, by their `keep` and the probability of their first label."""
        return (keep | self.everything) & (scores >= self.min_score)


@dataclass(frozen=True)
class LabelledImage:
    """An image and n regions of it: boxes float32 [n, 4] xyxy pixels, their first concepts and their scores [n].

    uri: where it is, below the folder of its images. file_name: what other tools call it (`file_names`).
    numbers: which region of the whole table each is, counted from 0. scores: probability among the candidates.
    """

    image_id: int
    uri: str
    file_name: str
    width: int
    height: int
    numbers: NDArray[np.int64]
    boxes: NDArray[np.float32]
    concept_ids: NDArray[np.int64]
    scores: NDArray[np.float32]
    keep: NDArray[np.bool_]


def labelled_images(tables: Iterable[pa.Table], choice: Choice) -> Iterator[LabelledImage]:
    """All images of region-label tables (`schemas.REGION_LABELS`) in order, with the regions that are chosen."""
    before, naming = 0, _Naming()
    for table in tables:
        regions = grouped_lists(table, ["boxes", "concept_ids", "log_probabilities", "keep"])
        scores, firsts = first_scores(regions["log_probabilities"]), first_concepts(regions["concept_ids"])
        shown = choice.shown(regions["keep"], scores)
        images = table.select(["image_id", "uri", "width", "height"]).to_pylist()
        for image, start, end in zip(images, regions.offsets[:-1], regions.offsets[1:], strict=True):
            rows = start + np.flatnonzero(shown[start:end])
            yield LabelledImage(
                **image,
                file_name=naming(image["uri"]),
                numbers=before + rows,
                boxes=regions["boxes"][rows],
                concept_ids=firsts[rows].astype(np.int64),
                scores=scores[rows],
                keep=regions["keep"][rows],
            )
        before += int(regions.offsets[-1])


def file_names(uris: Iterable[str]) -> list[str]:
    """A name for the image of each uri, in order, that any tool can give a file; no two images have the same.

    The image of a tar is `<tar>/<member>`, that of a parquet row `<file>/<row group>-<row in it>`, both without the
    file's ending; other images have their own path. A name that is taken goes on with `~2`, `~3`, ...
    """
    return list(map(_Naming(), uris))


def first_scores(log_probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """The probability of the first label of each region [R, k]."""
    return np.exp(log_probabilities[:, :1].reshape(-1))


def first_concepts(concept_ids: NDArray[np.int32]) -> NDArray[np.int32]:
    """The first concept of each region [R, k]."""
    return concept_ids[:, :1].reshape(-1)


class _Naming:
    """Gives one name after the other; see `file_names`."""

    def __init__(self) -> None:
        self._owners: dict[str, str] = {}

    def __call__(self, uri: str) -> str:
        wanted = name = _file_name(uri)
        number = 1
        while self._owners.setdefault(name, uri) != uri:
            number += 1
            path = PurePosixPath(wanted)
            name = str(path.with_name(f"{path.stem}~{number}{path.suffix}"))
        return name


def _file_name(uri: str) -> str:
    match parse_place(uri):
        case TarMember(file, member):
            parts = [part for part in member.split("/") if part not in ("", ".", "..")]
            return "/".join([file.removesuffix(".tar"), *(_UNSAFE.sub("_", part) for part in parts)])
        case TableRow(file, _, group, row):
            return f"{file.removesuffix('.parquet')}/{group:04}-{row:06}"
        case _:
            return uri
