"""Sets of region labels -> one page to judge them by: pictures, numbers, and what annotated boxes say of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from regionclip.concepts.coverage import Concept
from regionclip.images import read_image
from regionclip.labels.agreement import Agreement, AgreementCounter
from regionclip.labels.annotated import AnnotatedBoxes, Judge, meant_classes
from regionclip.labels.pairing import Place, listed_places, paired
from regionclip.labels.statistics import LabelAudit, count_labels, never_kept
from regionclip.report import gallery
from regionclip.report.examples import NEUTRAL
from regionclip.report.labels_page import GalleryRow, Judged, LabelSet, LabelsPage, render, weakest_classes
from regionclip.report.plots import GROUP_COLOURS
from stages.contract import Artifact, Context, Result, Stage
from stages.label_facts import concept_names, describe, document, facts, metrics, plots_of, settings, threshold_of
from stages.lineage import lineage
from stages.listed_images import images_folder
from stages.parts import iter_tables, read_table

TITLE = "Region labels"
COLUMNS = (*gallery.COLUMNS, "width", "height", "entropy")


@dataclass(frozen=True)
class ReportLabelsConfig:
    """What the page shows of the first set of labels.

    num_images: on the contact sheet. num_concepts: in the gallery, half of them the most frequent ones and half drawn
    from the others; num_crops: kept regions of each. seed: decides what is drawn. groups: 'base' and 'novel' classes,
    for their colours. iou: least overlap of a region with an object that it finds.
    """

    num_images: int = 12
    num_concepts: int = 16
    num_crops: int = 8
    seed: int = 0
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    iou: float = 0.5

    def __post_init__(self) -> None:
        if min(self.num_images, self.num_concepts, self.num_crops) < 1:
            raise ValueError(
                f"num_images {self.num_images}, num_concepts {self.num_concepts} and num_crops {self.num_crops} must "
                "be 1 or more"
            )
        if not 0 < self.iou <= 1:
            raise ValueError(f"iou {self.iou} is no overlap; give a number above 0, up to 1")


def report_labels(
    context: Context,
    config: ReportLabelsConfig,
    images: Artifact,
    region_labels: Artifact,
    concepts: Artifact | None = None,
    boxes: Artifact | None = None,
    **others: Artifact,
) -> Result:
    """Write `report.html`, `audit.json`, and the plots of the page as PNG."""
    labels = [region_labels, *(others[f"labels_{index}"] for index in range(1, len(others) + 1))]
    material = _Material.read(images, concepts, boxes, config.iou)
    sets, judge = [], None
    for done, each in enumerate(labels):
        context.advance(done, len(labels), "sets of labels")
        found, own_judge = _label_set(each, region_labels, material)
        sets.append(found)
        judge = judge or own_judge
    names = concept_names(region_labels)
    groups = _groups(config.groups, material.concepts(names))
    drawn = _drawn(config, images, region_labels, sets[0].audit, groups)
    never = None if material.mentions is None else never_kept(sets[0].audit, names, material.mentions)
    plots = plots_of(sets[0])
    given = [artifact for artifact in (*labels, concepts, boxes, images) if artifact is not None]
    page = LabelsPage(
        title=TITLE,
        marks=sorted({mark for artifact in given for mark in artifact.manifest["marks"]}),
        facts=facts(sets[0]),
        settings=settings(region_labels, len(names)),
        sets=sets,
        pictures=drawn.images,
        gallery=[GalleryRow(names[row], sets[0].audit.kept_of[row], crops) for row, crops in drawn.crops.items()],
        unreadable=drawn.unreadable,
        groups=groups,
        plots=plots,
        never=never,
        judged=_judged(config, judge, sets[0]),
        lineage=lineage(given),
    )
    for name, (plot, _) in plots.items():
        context.folder.write(f"{name}.png", plot.light)
    audit = json.dumps(document(page, names), indent=1, ensure_ascii=False, allow_nan=False)
    context.folder.write("audit.json", audit.encode())
    context.folder.write("report.html", render(page).encode())
    return Result(metrics=metrics(sets))


@dataclass(frozen=True)
class _Material:
    """What all sets are read with.

    place: of an image in the list of images. rows: of the pool, by concept. mentions: captions that name a concept;
    None where none was counted. boxes, classes: None and empty without annotated boxes.
    """

    images: Artifact
    place: Place
    rows: Mapping[str, Mapping[str, Any]]
    mentions: Mapping[str, int] | None
    boxes: AnnotatedBoxes | None
    classes: Sequence[str]
    iou: float

    @classmethod
    def read(cls, images: Artifact, concepts: Artifact | None, boxes: Artifact | None, iou: float) -> _Material:
        listed = read_table(images, "images", ["image_id"])["image_id"].to_numpy()
        columns = ["concept", "document_frequency", "surface_forms", "merged_from"]
        pool = [] if concepts is None else read_table(concepts, "concepts", columns).to_pylist()
        mentions = {row["concept"]: row["document_frequency"] for row in pool}
        return cls(
            images=images,
            place=listed_places(listed),
            rows={row["concept"]: row for row in pool},
            mentions=mentions if any(mentions.values()) else None,
            boxes=None if boxes is None else AnnotatedBoxes(read_table(boxes, "boxes")),
            classes=() if boxes is None else json.loads(boxes.folder.read("classes.json")),
            iou=iou,
        )

    def concepts(self, names: Sequence[str]) -> list[Concept]:
        """Concepts of these names; what the pool does not hold has its name alone."""
        rows = [(name, self.rows.get(name)) for name in names]
        return [
            Concept(name, 0)
            if row is None
            else Concept(name, row["document_frequency"], row["surface_forms"], row["merged_from"])
            for name, row in rows
        ]

    def tables(self, labels: Artifact) -> Iterator[pa.Table]:
        """The parts of a set of labels; ValueError where they are of other images."""
        for table in iter_tables(labels, "region_labels", COLUMNS):
            unknown = table["image_id"].to_numpy()[self.place(table["image_id"].to_numpy()) < 0]
            if len(unknown):
                raise ValueError(
                    f"labels {labels.key} are of image {unknown[0]}, which is not among the images {self.images.key}; "
                    "give labels of these images"
                )
            yield table


def _label_set(labels: Artifact, first: Artifact, material: _Material) -> tuple[LabelSet, Judge | None]:
    names = concept_names(labels)
    judge = None
    if material.boxes is not None:
        judge = Judge(material.boxes, material.classes, material.concepts(names), material.iou, threshold_of(labels))

    def tables() -> Iterator[pa.Table]:
        for table in material.tables(labels):
            if judge is not None:
                judge.add(table)
            yield table

    audit = count_labels(tables(), len(names))
    if judge is not None and not judge.images:
        raise ValueError(f"no image of the labels {labels.key} has an annotated box; give the boxes of these images")
    compared = None if labels.key == first.key else _agreement(first, labels, material)
    return describe(labels, len(names), audit, compared, judge.result() if judge else None), judge


def _agreement(first: Artifact, other: Artifact, material: _Material) -> Agreement:
    counter = AgreementCounter(concept_names(first), concept_names(other))
    for pair in paired(material.tables(first), material.tables(other), material.place):
        counter.add(*pair)
    return counter.result()


def _judged(config: ReportLabelsConfig, judge: Judge | None, labels: LabelSet) -> Judged | None:
    if judge is None or labels.truth is None:
        return None
    weakest = weakest_classes(labels.truth)
    return Judged(
        weakest, len(judge.meant) + len(judge.unmeant), judge.unmeant, judge.images, judge.regions, config.iou
    )


def _groups(classes: Mapping[str, Sequence[str]], concepts: Sequence[Concept]) -> dict[str, str]:
    """Class, or concept that means one -> its group."""
    groups = {name: group for group, names in classes.items() for name in names}
    return {**{concept: groups[name] for concept, name in meant_classes(list(groups), concepts).items()}, **groups}


def _drawn(
    config: ReportLabelsConfig, images: Artifact, labels: Artifact, audit: LabelAudit, groups: Mapping[str, str]
) -> gallery.Drawn:
    chosen = gallery.choose_concepts(audit.kept_of, config.num_concepts, config.seed)
    choice = gallery.GalleryChoice(chosen, config.num_images, config.num_crops, config.seed)
    for table in iter_tables(labels, "region_labels", gallery.COLUMNS):
        choice.add(table)

    def colour_of(concept: str) -> str:
        return GROUP_COLOURS.get(groups.get(concept, ""), NEUTRAL)

    return gallery.draw(choice, _reader(images, choice.image_ids()), concept_names(labels), colour_of)


def _reader(images: Artifact, image_ids: Sequence[int]) -> Callable[[int], Image.Image]:
    wanted = pa.array(image_ids, pa.int64())
    files: dict[int, str] = {}
    for table in iter_tables(images, "images", ["image_id", "file_name"]):
        rows = table.filter(pc.is_in(table["image_id"], wanted))
        files |= dict(zip(rows["image_id"].to_pylist(), rows["file_name"].to_pylist(), strict=True))
    folder = images_folder(images)
    return lambda image_id: read_image(folder.read(files[image_id]))


def stage_for(num_others: int) -> Stage:
    """The stage that looks at one set of labels, region_labels, and compares labels_1, labels_2, ... with it.

    images: those that were labelled. concepts: the pool of the first set, whose captions were counted. boxes: of
    objects in the images.
    """
    others = {f"labels_{index}": ("region_labels",) for index in range(1, num_others + 1)}
    given = {"images": ("images",), "region_labels": ("region_labels",)}
    return Stage(
        name="report_labels",
        version=2,
        inputs={**given, **others, "concepts": ("concepts",), "boxes": ("boxes",)},
        output="labels_report",
        run=report_labels,
        optional=frozenset({"concepts", "boxes"}),
    )
