"""Images -> class-agnostic boxes with objectness: by a trained proposer, given ones, or some that need neither."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from regionclip.images import ResizeConfig
from regionclip.loading import ImageRecord, load_batches, records_of
from regionclip.proposals.listed import (
    ListedProposer,
    Scores,
    listed_counts,
    listed_in_parquet,
    read_coco_results,
    true_boxes,
)
from regionclip.proposals.network import NetworkProposer, ProposalConfig, load_proposer
from regionclip.proposals.proposer import Images, JoinedProposers, Proposals, Proposer, Reject
from regionclip.proposals.table import proposals_table
from regionclip.proposals.unseen import GridProposer, RandomProposer, num_grid_boxes
from regionclip.schemas import IMAGES, rejected_table
from regionclip.source_files import named_sha256, on_disk
from stages.contract import WORK, Artifact, Context, Result, Stage, what_is_made
from stages.listed_images import ImageFolder, images_folder
from stages.parts import REJECTED, process_parts, read_table, write_table
from stages.rows import RowReader, RowRef, column_values, count_in_lists, table_rows
from stages.storage import Folder

Method = Literal["rpn", "ground_truth", "grid", "random", "precomputed"]


@dataclass(frozen=True)
class PrecomputedConfig:
    """Boxes that another program found.

    file: a path or fsspec URI; .json with COCO results or annotations (bbox in xywh), or .parquet with one row an
    image: image_id, boxes (xyxy), objectness; boxes in pixels of the original images. scores: what its numbers are;
    None takes those of JSON for probabilities and those of parquet for logits.
    """

    file: str
    scores: Scores | None = None

    def __post_init__(self) -> None:
        if self.suffix not in (".json", ".parquet"):
            raise ValueError(f"precomputed boxes {self.file} are neither .json nor .parquet; give one of these")

    @property
    def suffix(self) -> str:
        """The end of its name, which says what it is."""
        return PurePosixPath(self.file).suffix


@dataclass(frozen=True)
class ProposeConfig:
    """How boxes are found.

    method: one way, or several whose boxes are joined. 'rpn' takes a trained proposer on images resized by `resize`;
    'ground_truth' the true boxes, crowds left out; 'precomputed' those of a file; these two, 'grid' and 'random' open
    no image. Boxes that nobody scored have objectness 0.
    random_boxes: boxes of an image, of `seed`. grid_sizes: sides of the sliding windows in pixels.
    logit_offsets: by method, added to its objectness, so that a union's logits compare. nms_iou: overlap at which a
    box of any method gives way to a better one; None keeps all. top_k: boxes of an image; None keeps all.
    part_size: images of one part, the piece that is redone after an interruption.
    """

    method: Method | tuple[Method, ...] = "rpn"
    proposals: ProposalConfig = field(default_factory=lambda: ProposalConfig(nms_iou=0.5, post_nms=300))
    resize: ResizeConfig = field(default_factory=ResizeConfig)
    random_boxes: int = 100
    grid_sizes: tuple[int, ...] = (24, 40, 64)
    precomputed: PrecomputedConfig | None = None
    logit_offsets: Mapping[Method, float] = field(default_factory=dict)
    nms_iou: float | None = None
    top_k: int | None = None
    seed: int = 0
    max_rejected_fraction: float = 0.01
    part_size: int = 256

    def __post_init__(self) -> None:
        methods = self.methods
        if not methods or len(set(methods)) < len(methods) or not set(methods) <= set(get_args(Method)):
            raise ValueError(f"method is {self.method}; give each of {', '.join(get_args(Method))} at most once")
        if ("precomputed" in methods) != (self.precomputed is not None):
            raise ValueError(f"method is {self.method} with precomputed={self.precomputed}; the two go together")
        if not set(self.logit_offsets) <= set(methods):
            raise ValueError(f"logit_offsets are for {', '.join(self.logit_offsets)}, the method is {self.method}")
        if self.nms_iou is not None and not 0 < self.nms_iou <= 1:
            raise ValueError(f"nms_iou is {self.nms_iou}; give an overlap above 0, up to 1, or null")
        if self.random_boxes < 0 or not all(size > 0 for size in self.grid_sizes):
            raise ValueError(
                f"random_boxes is {self.random_boxes} and grid_sizes are {list(self.grid_sizes)}; give 0 boxes or "
                "more, and sides above 0 pixels"
            )
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k is {self.top_k}; give 1 or more, or null")

    @property
    def methods(self) -> tuple[Method, ...]:
        """The methods, one or several."""
        return self.method if isinstance(self.method, tuple) else (self.method,)


@dataclass(frozen=True)
class Given:
    """What a worker is lent beside the images: folders of a proposer and of true boxes, and a file of listed boxes."""

    proposer: Folder | None = None
    boxes: Folder | None = None
    precomputed: tuple[Folder, str, Scores] | None = None


class RegionProposer:
    """Proposes boxes in the images of one part; rows of `schemas.PROPOSALS`, boxes in original pixels."""

    def __init__(
        self, config: ProposeConfig, listed: Folder, images: ImageFolder, given: Given, batch_size: int, device: str
    ) -> None:
        self._config, self._images, self._batch_size = config, images, batch_size
        self._listed = RowReader(listed, IMAGES.names)
        self._proposer = JoinedProposers(
            [_proposer(method, config, given, device) for method in config.methods],
            [config.logit_offsets.get(method, 0.0) for method in config.methods],
            config.nms_iou,
            config.top_k,
        )

    def __call__(self, rows: Sequence[RowRef]) -> dict[str, pa.Table]:
        records = records_of(self._listed.take(rows), "file_name")
        rejected: list[tuple[str, str]] = []

        def reject(item: str, reason: str) -> None:
            rejected.append((item, reason))

        found: dict[int, Proposals] = {}
        for positions, images in self._batches(records, reject):
            found |= zip(positions, self._proposer.propose(images, reject), strict=True)
        order = sorted(found)
        return {
            "proposals": proposals_table([records[position] for position in order], [found[each] for each in order]),
            REJECTED: rejected_table(rejected),
        }

    def _batches(self, records: Sequence[ImageRecord], reject: Reject) -> Iterator[tuple[Sequence[int], Images]]:
        if not self._proposer.reads_pixels:
            yield range(len(records)), Images(records)
            return
        with self._images.gathered([record.file_name for record in records]) as read:
            for batch in load_batches(read, records, self._config.resize, self._batch_size, reject):
                yield batch.positions, Images([records[position] for position in batch.positions], batch)


def _proposer(method: Method, config: ProposeConfig, given: Given, device: str) -> Proposer:
    match method:
        case "rpn":
            assert given.proposer is not None
            return NetworkProposer(load_proposer(given.proposer.local()).to(device), config.proposals, device)
        case "ground_truth":
            assert given.boxes is not None
            truth = true_boxes(read_table(given.boxes, "boxes"))
            return ListedProposer(lambda image_ids: truth)
        case "precomputed":
            assert given.precomputed is not None
            folder, name, scores = given.precomputed
            return ListedProposer(listed_in_parquet(folder.local() / name, scores))
        case "grid":
            return GridProposer(config.grid_sizes)
        case "random":
            return RandomProposer(config.random_boxes, config.seed)


def propose_regions(
    context: Context,
    config: ProposeConfig,
    images: Artifact,
    proposer: Artifact | None = None,
    boxes: Artifact | None = None,
) -> Result:
    """Write `proposals-*.parquet`, one row an image; images without a box have an empty one.

    `proposer` and `boxes` are given exactly where the methods 'rpn' and 'ground_truth' take part. An image of whose
    precomputed boxes some are none, or that is too narrow for random ones, counts among the rejected, and keeps the
    others.
    """
    _check_inputs(config, {"rpn": proposer, "ground_truth": boxes})
    precomputed, counts = None, dict[int, int]()
    if config.precomputed is not None:
        precomputed, counts = _precomputed(context, config.precomputed, images)
    given = Given(None if proposer is None else proposer.folder, None if boxes is None else boxes.folder, precomputed)
    arguments = {
        "config": config,
        "listed": images.folder,
        "images": images_folder(images),
        "given": given,
        "batch_size": context.resources.batch_size,
        "device": context.resources.device,
    }
    rows, fraction = table_rows(images, "images"), config.max_rejected_fraction
    weights = _num_unbounded(config, images, boxes, counts)
    summary = process_parts(
        context, rows, config.part_size, RegionProposer, arguments, ("proposals",), fraction, weights=weights
    )
    total, num_images = count_in_lists(context.folder, "proposals", "objectness"), summary.num_rows["proposals"]
    if not total:
        context.say(f"no box in any of {num_images} images, so no region; choose other settings or another method")
    return Result(metrics={**summary.metrics, "num_proposals": total, "num_images": num_images})


def _num_unbounded(
    config: ProposeConfig, images: Artifact, boxes: Artifact | None, precomputed: Mapping[int, int]
) -> NDArray[np.int64] | None:
    """How many boxes each image may get that no number in the config bounds: windows of a grid and given ones."""
    counts = Counter(precomputed)
    if boxes is not None:
        counts.update(column_values(boxes, "boxes", "image_id").tolist())
    if not counts and "grid" not in config.methods:
        return None
    listed = read_table(images, "images", ["image_id", "width", "height"])
    total = np.array([counts[image_id] for image_id in listed["image_id"].to_pylist()], np.int64)
    if "grid" in config.methods:
        sides = np.stack([listed[side].to_numpy() for side in ("height", "width")], axis=1)
        sizes, size_of = np.unique(sides, axis=0, return_inverse=True)
        windows = [num_grid_boxes(height, width, config.grid_sizes) for height, width in sizes.tolist()]
        total += np.array(windows, np.int64)[size_of]
    return total


def identity(config: ProposeConfig) -> Mapping[str, Any]:
    """The config, with the content of the precomputed boxes in place of their path."""
    values = what_is_made(config)
    if config.precomputed is not None:
        content = named_sha256(config.precomputed.file, "set precomputed.file to one")
        values["precomputed"] |= {"file": content, "kind": config.precomputed.suffix}
    return values


def _check_inputs(config: ProposeConfig, inputs: Mapping[str, Artifact | None]) -> None:
    for method, artifact in inputs.items():
        if (method in config.methods) != (artifact is not None):
            give, leave = ("a proposer", "the proposer") if method == "rpn" else ("true boxes", "the true boxes")
            remedy = f"give {give}" if artifact is None else f"leave {leave} out or add the method '{method}'"
            raise ValueError(f"the proposal method is '{', '.join(config.methods)}'; {remedy}")


def _precomputed(
    context: Context, config: PrecomputedConfig, images: Artifact
) -> tuple[tuple[Folder, str, Scores], dict[int, int]]:
    """Where the workers find the listed boxes as parquet, the given file or one that is made here; and how many there
    are of each image."""
    work, place = context.folder.child(WORK), "precomputed.parquet"
    is_json = config.suffix == ".json"
    scores: Scores = "logit" if is_json else config.scores or "logit"
    if not is_json and "://" not in config.file:
        path = Path(config.file).expanduser()
        work, place = Folder(str(path.parent)), path.name
    elif not work.exists(place):
        with on_disk(config.file) as source:
            if is_json:
                write_table(work, "precomputed", read_coco_results(source, config.scores or "probability"))
            else:
                work.write(place, source.read_bytes())
    counts = listed_counts(work.local() / place)
    wanted = column_values(images, "images", "image_id").tolist()
    known = sum(image_id in counts for image_id in wanted)
    if not known:
        raise ValueError(
            f"{config.file} lists boxes of {len(counts)} images and none of these {len(wanted)}; compare the ids"
        )
    if known < len(wanted):
        context.say(f"{config.file} lists boxes for {known} of {len(wanted)} images, the others get none of it")
    return (work, place, scores), counts


STAGE = Stage(
    name="propose_regions",
    version=3,
    inputs={"images": ("images",), "proposer": ("proposer",), "boxes": ("boxes",)},
    output="proposals",
    run=propose_regions,
    optional=frozenset({"proposer", "boxes"}),
    resumable=True,
    identity=identity,
)
