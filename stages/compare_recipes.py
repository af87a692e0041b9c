"""Reports of several recipes -> one comparison: the numbers, the plots and a self-contained page."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from regionclip.images import read_image
from regionclip.report import examples, plots
from regionclip.report.comparison import (
    AP50,
    BOX_ACCURACY,
    LabelStatistics,
    Recipe,
    best_recipe,
    comparison,
    label_statistics,
)
from regionclip.report.page import Page, Picture, Plot, render
from stages.contract import Artifact, Context, Result, Stage
from stages.lineage import lineage
from stages.listed_images import images_folder
from stages.parts import iter_tables, read_table

MAX_CLASSES_SHOWN = 80


@dataclass(frozen=True)
class CompareConfig:
    """Which rows are compared, and what the page says of them.

    names: one a recipe, in the order of the inputs; notes: one a recipe, or none at all.
    baseline, control: rows that the others are measured against; without a control, None.
    num_pictures: test images shown; half as many training images show their labels.
    seed: decides which images.
    """

    names: tuple[str, ...]
    notes: tuple[str, ...] = ()
    baseline: int = 0
    control: int | None = None
    num_pictures: int = 6
    seed: int = 0
    title: str = "Open-vocabulary detection, recipe by recipe"

    def __post_init__(self) -> None:
        if not self.names or len(set(self.names)) != len(self.names):
            raise ValueError(f"names {list(self.names)} must be one or more different names")
        if self.notes and len(self.notes) != len(self.names):
            raise ValueError(f"{len(self.notes)} notes for {len(self.names)} recipes; give one a recipe, or none")
        for what, index in (("baseline", self.baseline), ("control", self.control)):
            if index is not None and not 0 <= index < len(self.names):
                raise ValueError(f"{what} {index} is no row; choose 0 to {len(self.names) - 1}")


def stage_for(names: Sequence[str]) -> Stage:
    """The stage that compares the recipes of these names.

    Recipe i comes in as accuracy_i (the region encoder on ground-truth boxes), detection_i (the detector) and, where
    it has labels, labels_i. concepts is the pool they are from, images and boxes the test split, train_images the
    images that were labelled.
    """
    reports = {f"{what}_{index}": ("report",) for index in range(len(names)) for what in ("accuracy", "detection")}
    labels = {f"labels_{index}": ("region_labels",) for index in range(len(names))}
    others = {"concepts": ("concepts",), "images": ("images",), "boxes": ("boxes",), "train_images": ("images",)}
    return Stage(
        name="compare_recipes",
        version=2,
        inputs={**reports, **labels, **others},
        output="comparison",
        run=compare_recipes,
        optional=frozenset({*labels, "train_images"}),
    )


def compare_recipes(context: Context, config: CompareConfig, **inputs: Artifact | None) -> Result:
    """Write `comparison.json`, `report.html`, and the page's plots as `plots/*.png`."""
    given = {name: artifact for name, artifact in inputs.items() if artifact is not None}
    recipes = [_recipe(config, index, given) for index in range(len(config.names))]
    marks = tuple(sorted({mark for artifact in given.values() for mark in artifact.manifest["marks"]}))
    challenger = best_recipe(recipes, excluding=config.baseline)
    shown = [config.baseline] if challenger is None else [config.baseline, challenger]
    detection = _detection_plots(recipes, shown, given)
    labels = _label_plots(recipes)
    page = Page(
        title=config.title,
        recipes=recipes,
        baseline=config.baseline,
        control=config.control,
        marks=marks,
        pool_size=read_table(given["concepts"], "concepts", ["concept"]).num_rows,
        detection=list(detection.values()),
        labels=list(labels.values()),
        examples=_test_examples(config, recipes, shown, given),
        label_examples=_label_examples(config, recipes, given),
        lineage=lineage(given.values()),
    )
    for name, plot in {**detection, **labels}.items():
        context.folder.write(f"plots/{name}.png", plot.light)
    summary = {"title": config.title, "marks": marks, **comparison(recipes, config.baseline, config.control)}
    context.folder.write("comparison.json", json.dumps(summary, indent=1, ensure_ascii=False, allow_nan=False).encode())
    context.folder.write("report.html", render(page).encode())
    return Result(metrics=_flat_metrics(recipes), marks=marks)


def _recipe(config: CompareConfig, index: int, inputs: Mapping[str, Artifact]) -> Recipe:
    labels = inputs.get(f"labels_{index}")
    scores = _report(inputs[f"accuracy_{index}"])["metrics"]
    accuracy = {name: value for name, value in scores.items() if name.startswith(BOX_ACCURACY)}
    return Recipe(
        name=config.names[index],
        note=config.notes[index] if config.notes else "",
        departure=labels is not None and labels.manifest["config"].get("candidates", "pool") != "pool",
        metrics={**accuracy, **_report(inputs[f"detection_{index}"])["metrics"]},
        labels=None if labels is None else _statistics(labels),
    )


def _statistics(labels: Artifact) -> LabelStatistics:
    columns = ["concept_ids", "log_probabilities", "keep"]
    return label_statistics(iter_tables(labels, "region_labels", columns), _concepts(labels))


def _concepts(labels: Artifact) -> list[str]:
    names: list[str] = json.loads(labels.folder.read("concepts.json"))["concepts"]
    return names


def _report(artifact: Artifact) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(artifact.folder.read("metrics.json"))
    return report


def _themed(draw: Callable[[plots.Theme], bytes], alt: str) -> Plot:
    return Plot(draw(plots.LIGHT), draw(plots.DARK), alt)


def _detection_plots(
    recipes: Sequence[Recipe], shown: Sequence[int], inputs: Mapping[str, Artifact]
) -> dict[str, Plot]:
    titles = [recipe.title for recipe in recipes]
    made = {}
    for metric, quantity, name in (
        (AP50, "AP50 after transfer", "detection"),
        (BOX_ACCURACY, "box accuracy of the region encoder", "box_accuracy"),
    ):
        values = {group: [recipe.value(f"{metric}_{group}") for recipe in recipes] for group in plots.GROUP_COLOURS}
        draw = partial(plots.group_bars, titles, values, quantity)
        made[name] = _themed(draw, f"{quantity} of base and novel classes, by recipe")
    before, after = (_report(inputs[f"detection_{index}"])["per_class"] for index in (shown[0], shown[-1]))
    frequent = sorted(after, key=lambda name: (-after[name].get("num_boxes", 0), name))[:MAX_CLASSES_SHOWN]
    classes = [
        plots.ClassResult(name, after[name]["group"], before.get(name, {}).get(AP50), after[name].get(AP50))
        for name in frequent
    ]
    names = titles[shown[0]], titles[shown[-1]]
    draw = partial(plots.class_dots, classes, *names, AP50)
    made["classes"] = _themed(draw, f"AP50 of every class: {names[0]}, then {names[1]}")
    return made


def _label_plots(recipes: Sequence[Recipe]) -> dict[str, Plot]:
    labelled = {recipe.title: recipe.labels for recipe in recipes if recipe.labels is not None}
    if not labelled:
        return {}
    counts = {title: dict(labels.top_concepts) for title, labels in labelled.items()}
    scores = {title: (labels.kept_by_score, labels.dropped_by_score) for title, labels in labelled.items()}
    return {
        "concepts": _themed(partial(plots.concept_bars, counts), "kept regions of the most used concepts"),
        "scores": _themed(partial(plots.score_histograms, scores), "how probable the first labels are"),
    }


def _test_examples(
    config: CompareConfig, recipes: Sequence[Recipe], shown: Sequence[int], inputs: Mapping[str, Artifact]
) -> dict[int, list[Picture]]:
    named_groups: dict[str, list[str]] = _report(inputs[f"detection_{shown[0]}"])["groups"]
    groups = {name: group for group, names in named_groups.items() if group != "all" for name in names}
    truth = read_table(inputs["boxes"], "boxes")
    truth = truth.filter(pc.invert(truth["is_crowd"]))
    detections = {index: read_table(inputs[f"detection_{index}"], "detections") for index in shown}
    rows = {}
    for image_id, image in readable_images(
        inputs["images"], truth["image_id"].to_pylist(), config.seed, config.num_pictures
    ):
        objects = examples.rows_of(truth, image_id)
        rows[image_id] = [examples.truth_picture(image, objects, groups)]
        for index, table in detections.items():
            found = examples.rows_of(table, image_id)
            rows[image_id].append(examples.detection_picture(image, objects, found, groups, recipes[index].title))
    return rows


def _label_examples(
    config: CompareConfig, recipes: Sequence[Recipe], inputs: Mapping[str, Artifact]
) -> dict[int, list[Picture]]:
    labelled = [index for index in range(len(recipes)) if f"labels_{index}" in inputs]
    if not labelled or "train_images" not in inputs:
        return {}
    ids: list[int] = []
    for part in iter_tables(inputs[f"labels_{labelled[0]}"], "region_labels", ["image_id"]):
        ids += part["image_id"].to_pylist()
    chosen = dict(readable_images(inputs["train_images"], ids, config.seed, max(1, config.num_pictures // 2)))
    rows: dict[int, list[Picture]] = {image_id: [] for image_id in chosen}
    for index in labelled:
        concepts = _concepts(inputs[f"labels_{index}"])
        found = _labels_of(inputs[f"labels_{index}"], list(chosen))
        for image_id, image in chosen.items():
            picture = examples.label_picture(image, found.get(image_id), concepts, recipes[index].title)
            rows[image_id].append(picture)
    return rows


def _labels_of(labels: Artifact, image_ids: Sequence[int]) -> dict[int, dict[str, Any]]:
    wanted = pa.array(image_ids, pa.int64())
    parts = (part.filter(pc.is_in(part["image_id"], wanted)) for part in iter_tables(labels, "region_labels"))
    return {row["image_id"]: row for part in parts for row in part.to_pylist()}


def readable_images(images: Artifact, ids: Sequence[int], seed: int, limit: int) -> list[tuple[int, Image.Image]]:
    """Up to `limit` of the images, drawn by the seed; those whose file cannot be read are passed over."""
    table = read_table(images, "images", ["image_id", "file_name"])
    names = dict(zip(table["image_id"].to_pylist(), table["file_name"].to_pylist(), strict=True))
    folder = images_folder(images)
    chosen: list[tuple[int, Image.Image]] = []
    for image_id in examples.sample_ids([image_id for image_id in ids if image_id in names], seed):
        if len(chosen) == limit:
            break
        try:
            chosen.append((image_id, read_image(folder.read(names[image_id]))))
        except ValueError:
            continue
    return chosen


def _flat_metrics(recipes: Sequence[Recipe]) -> dict[str, float]:
    return {
        f"{re.sub('[^a-z0-9]+', '_', recipe.name.lower()).strip('_')}.{metric}": value
        for recipe in recipes
        for metric, value in recipe.metrics.items()
    }
