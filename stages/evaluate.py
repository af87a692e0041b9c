"""A region encoder or detector + true boxes -> a report: box accuracy, AP50 of base, novel and all classes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from regionclip.class_report import NAMED_BOXES, class_rows, detections_table, score_detections, score_names, true_boxes
from regionclip.clip_models import DESCRIPTION, load_clip
from regionclip.detections import Detections, InferenceConfig
from regionclip.detector import OpenVocabularyDetector, load_detector
from regionclip.embeddings import load_embeddings
from regionclip.evaluation import TrueBoxes
from regionclip.grouped import grouped_lists
from regionclip.images import ResizeConfig
from regionclip.known_clips import pixels_of
from regionclip.loading import ImageRecord, LoadedBatch, load_batches
from regionclip.open_vocabulary import OpenVocabularyHead
from regionclip.precision import full_precision
from regionclip.proposals.proposer import Proposals
from regionclip.region_encoder import RegionEncoder
from regionclip.schemas import rejected_table
from stages.contract import Artifact, Context, Result, Stage
from stages.listed_images import ImageFolder, image_records, images_folder
from stages.parts import REJECTED, process_parts, read_table
from stages.rows import RowReader, RowRef, row_refs
from stages.storage import Folder

DETECTOR = "detector"


@dataclass(frozen=True)
class EvaluateConfig:
    """What is measured.

    base, novel: the classes of each group; with none named, all classes are one group.
    temperature: of a region encoder's zero-shot scores; a detector has its own.
    part_size: images of one part, the piece that is redone after an interruption.
    """

    base: tuple[str, ...] = ()
    novel: tuple[str, ...] = ()
    temperature: float = 0.01
    inference: InferenceConfig = field(default_factory=InferenceConfig)
    resize: ResizeConfig = field(default_factory=ResizeConfig)
    max_rejected_fraction: float = 0.0
    part_size: int = 256

    @property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """The groups that have classes, by name."""
        return {name: classes for name, classes in (("base", self.base), ("novel", self.novel)) if classes}


class EvaluatedImage(NamedTuple):
    """An image, its true boxes, and where its proposals stand, if it has any."""

    record: ImageRecord
    truth: TrueBoxes
    proposals: RowRef | None

    @property
    def plain_boxes(self) -> tuple[NDArray[np.float32], list[str]]:
        """The true boxes [n, 4] and their names, crowds left out."""
        plain = ~np.array(self.truth.is_crowd, dtype=bool)
        return self.truth.boxes[plain], [name for name, keep in zip(self.truth.categories, plain, strict=True) if keep]


class Evaluator:
    """Names the true boxes of a part's images and detects objects among their proposals."""

    def __init__(
        self,
        config: EvaluateConfig,
        model: Artifact,
        embeddings: Folder | None,
        images: ImageFolder,
        proposals: Folder | None,
        batch_size: int,
        device: str,
    ) -> None:
        self._config, self._images, self._batch_size, self._device = config, images, batch_size, device
        self._detector = load_model(model, embeddings, config.temperature).to(device)
        self._pixels = pixels_of(json.loads(model.folder.read(DESCRIPTION)))
        self._names_boxes = model.kind != DETECTOR
        self._proposals = None if proposals is None else RowReader(proposals, ["boxes", "objectness"])

    def __call__(self, items: Sequence[EvaluatedImage]) -> dict[str, pa.Table]:
        rejected: list[tuple[str, str]] = []
        proposals = self._proposals_of(items)
        detections: dict[int, Detections] = {}
        named: dict[int, tuple[Tensor, Tensor]] = {}
        records, config = [item.record for item in items], self._config

        def reject(item: str, reason: str) -> None:
            rejected.append((item, reason))

        with self._images.gathered([record.file_name for record in records]) as read:
            for batch in load_batches(read, records, config.resize, self._batch_size, reject, RegionEncoder.stride):
                pixels = batch.normalized(*self._pixels, self._device)
                with torch.inference_mode(), full_precision():
                    if self._names_boxes:
                        named |= self._name(pixels, batch, items)
                    if proposals is not None:
                        detections |= self._detect(pixels, batch, proposals)
        classes = self._detector.classes
        return {
            "named_boxes": _named_table(items, named, classes),
            "detections": detections_table(
                {items[position].record.image_id: found for position, found in sorted(detections.items())}, classes
            ),
            REJECTED: rejected_table(rejected),
        }

    def _proposals_of(self, items: Sequence[EvaluatedImage]) -> list[Proposals] | None:
        if self._proposals is None:
            return None
        proposals = [Proposals(torch.empty(0, 4), torch.empty(0))] * len(items)
        known = {position: item.proposals for position, item in enumerate(items) if item.proposals is not None}
        if not known:
            return proposals
        grouped = grouped_lists(self._proposals.take(list(known.values())), ["boxes", "objectness"])
        columns = (
            torch.split(torch.from_numpy(grouped[name]), np.diff(grouped.offsets).tolist()) for name in grouped.columns
        )
        for position, *pair in zip(known, *columns, strict=True):
            proposals[position] = Proposals(*pair)
        return proposals

    def _name(
        self, pixels: Tensor, batch: LoadedBatch, items: Sequence[EvaluatedImage]
    ) -> dict[int, tuple[Tensor, Tensor]]:
        """The likeliest class and its probability of each true box; background is no choice."""
        boxes = [torch.from_numpy(items[position].plain_boxes[0]) * batch.scale for position in batch.positions]
        raw = self._detector.encoder(pixels, [each.to(self._device) for each in boxes])
        logits = self._detector.head.logits(raw, self._detector.class_embeddings)[:, :-1]
        best = logits.float().softmax(dim=1).max(dim=1)
        counts = [len(each) for each in boxes]
        pairs = zip(torch.split(best.indices.cpu(), counts), torch.split(best.values.cpu(), counts), strict=True)
        return dict(zip(batch.positions, pairs, strict=True))

    def _detect(self, pixels: Tensor, batch: LoadedBatch, proposals: Sequence[Proposals]) -> dict[int, Detections]:
        resized = [
            Proposals(proposals[position].boxes * batch.scale, proposals[position].objectness)
            for position in batch.positions
        ]
        found = self._detector.detect(pixels, resized, [batch.size] * len(resized), self._config.inference)
        original = (
            Detections(each.boxes / batch.scale, each.scores, each.labels, each.proposal_indices) for each in found
        )
        return dict(zip(batch.positions, original, strict=True))


def load_model(model: Artifact, embeddings: Folder | None, temperature: float) -> OpenVocabularyDetector:
    """A detector, or a region encoder as a zero-shot detector; its class table is that of `embeddings`, if given."""
    table = None if embeddings is None else load_embeddings(embeddings.local())
    if model.kind == DETECTOR:
        detector = load_detector(model.folder.local())
        if table is not None:
            detector.set_class_embeddings(*table)
        return detector.eval()
    assert table is not None
    encoder = RegionEncoder(load_clip(model.folder.local()).visual)
    head = OpenVocabularyHead(encoder.width, temperature, num_box_outputs=None)
    return OpenVocabularyDetector(encoder, head, *table).eval()


def evaluate(
    context: Context,
    config: EvaluateConfig,
    model: Artifact,
    images: Artifact,
    boxes: Artifact,
    embeddings: Artifact | None = None,
    proposals: Artifact | None = None,
) -> Result:
    """Write `metrics.json` (metrics, groups, per_class), `named_boxes-*.parquet` and `detections-*.parquet`.

    A detector is measured by AP on the proposals; a region encoder by how often it names true boxes right, and, with
    proposals given, by zero-shot AP. `embeddings` replaces a detector's own class table.
    """
    classes = _check(config, model, boxes, embeddings, proposals)
    truth = true_boxes(read_table(boxes, "boxes"))
    if not truth:
        raise ValueError(f"boxes {boxes.key} hold no box to evaluate on; check split and classes")
    items = _items(images, truth, proposals)
    arguments = {
        "config": config,
        "model": model,
        "embeddings": None if embeddings is None else embeddings.folder,
        "images": images_folder(images),
        "proposals": None if proposals is None else proposals.folder,
        "batch_size": context.resources.batch_size,
        "device": context.resources.device,
    }
    tables = ("named_boxes", "detections")
    process_parts(context, items, config.part_size, Evaluator, arguments, tables, config.max_rejected_fraction)
    groups = config.groups or {"all": tuple(classes)}
    rejected = set(read_table(context.folder, REJECTED)["item"].to_pylist())
    seen = {item.record.image_id: item.truth for item in items if item.record.file_name not in rejected}
    per_class = class_rows(classes, groups, seen)
    metrics: dict[str, float] = {}
    if model.kind != DETECTOR:
        metrics |= score_names(read_table(context.folder, "named_boxes"), groups, per_class)
    if proposals is not None:
        metrics |= score_detections(read_table(context.folder, "detections"), seen, groups, per_class)
    report = {"metrics": metrics, "groups": {**groups, "all": classes}, "per_class": per_class}
    context.folder.write("metrics.json", json.dumps(report, indent=1, ensure_ascii=False).encode())
    return Result(metrics={**metrics, "num_images": len(seen)})


def _check(
    config: EvaluateConfig,
    model: Artifact,
    boxes: Artifact,
    embeddings: Artifact | None,
    proposals: Artifact | None,
) -> list[str]:
    """The classes of the boxes; ValueError unless the class table and the groups hold exactly these."""
    if model.kind == DETECTOR and proposals is None:
        raise ValueError(f"detector {model.key} is evaluated on proposals, and none were given")
    if model.kind != DETECTOR and embeddings is None:
        raise ValueError(f"{model.kind} {model.key} needs the embeddings of the classes to name boxes; give them")
    classes: list[str] = json.loads(boxes.folder.read("classes.json"))
    table = load_model(model, None if embeddings is None else embeddings.folder, config.temperature).classes
    grouped = [name for names in config.groups.values() for name in names]
    for what, names in (("class table of the model", table), ("list of base and novel classes", grouped or classes)):
        unmatched = sorted(set(names) ^ set(classes))
        if unmatched or len(names) != len(set(names)):
            raise ValueError(
                f"the {what} has {len(names)} names, the boxes {len(classes)}; they differ in "
                f"{', '.join(unmatched[:5]) or 'a repeated name'}; evaluate with the classes of the boxes"
            )
    return classes


def _items(images: Artifact, truth: Mapping[int, TrueBoxes], proposals: Artifact | None) -> list[EvaluatedImage]:
    refs: dict[int, RowRef] = {}
    if proposals is not None:
        found, table = row_refs(proposals, "proposals", ["image_id"])
        refs = dict(zip(table["image_id"].to_pylist(), found, strict=True))
    records = image_records(images)
    nothing = TrueBoxes(np.empty((0, 4), np.float32), (), ())
    unlisted = sorted(set(truth) - {record.image_id for record in records})
    if unlisted:
        raise ValueError(
            f"{len(unlisted)} images with boxes are not among the {len(records)} listed ones, first is {unlisted[0]}; "
            "give images and boxes of the same split"
        )
    return [
        EvaluatedImage(record, truth.get(record.image_id, nothing), refs.get(record.image_id)) for record in records
    ]


def _named_table(
    items: Sequence[EvaluatedImage], named: Mapping[int, tuple[Tensor, Tensor]], classes: Sequence[str]
) -> pa.Table:
    rows = []
    for position, (labels, scores) in sorted(named.items()):
        item = items[position]
        boxes, categories = item.plain_boxes
        for box, category, label, score in zip(boxes, categories, labels.tolist(), scores.tolist(), strict=True):
            predicted = classes[label]
            rows.append((item.record.image_id, box.tolist(), category, predicted, score))
    return pa.Table.from_pylist([dict(zip(NAMED_BOXES.names, row, strict=True)) for row in rows], schema=NAMED_BOXES)


STAGE = Stage(
    name="evaluate",
    version=2,
    inputs={
        "model": ("detector", "region_encoder", "clip"),
        "images": ("images",),
        "boxes": ("boxes",),
        "embeddings": ("embeddings",),
        "proposals": ("proposals",),
    },
    output="report",
    run=evaluate,
    optional=frozenset({"embeddings", "proposals"}),
    resumable=True,
)
