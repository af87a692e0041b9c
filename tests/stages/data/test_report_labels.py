"""The report of region labels: numbers, pictures and plots, deterministic, and pages where there is little to show."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from regionclip import schemas
from stages.contract import MANIFEST, Artifact
from stages.local_context import LocalContext
from stages.parts import write_table
from stages.report_labels import ReportLabelsConfig, stage_for
from stages.storage import Folder

CONCEPTS = ["cat", "cup", "<b>gnu</b>", "water"]
FRAMES = [(4.0, 4.0, 28.0, 28.0), (34.0, 6.0, 60.0, 40.0), (8.0, 36.0, 30.0, 60.0)]
FILES = ["audit.json", "entropy.png", "labels_per_concept.png", "precision_recall.png", "report.html", "scores.png"]
CONFIG = ReportLabelsConfig(num_images=4, num_concepts=2, num_crops=3, groups={"base": ("cat",), "novel": ("cup",)})
Labels = Mapping[int, Sequence[tuple[int, float, bool]]]
"""Of each image its regions: concept, score, keep."""
LABELS: Labels = {image: [(0, 0.9, True), (1, 0.6, image % 2 == 0), (2, 0.3, False)] for image in range(1, 7)}


def manifest(stage: str, config: Mapping[str, Any], inputs: Mapping[str, Artifact], **more: object) -> dict[str, Any]:
    given = {name: {"kind": each.kind, "key": each.key} for name, each in inputs.items()}
    return {"stage": stage, "version": 1, "config": dict(config), "inputs": given, "marks": [], "external": {}, **more}


@dataclass(frozen=True)
class Store:
    """A made-up store."""

    root: Path

    def artifact(self, kind: str, key: str, **about: Any) -> Artifact:
        made = Artifact(kind, key, Folder(str(self.root / kind / key)))
        made.folder.write(MANIFEST, json.dumps(manifest(**{"config": {}, "inputs": {}, **about})).encode())
        return made

    def images(self, num_images: int = 6) -> Artifact:
        folder = self.root / "pictures"
        folder.mkdir(parents=True, exist_ok=True)
        rows = []
        for image_id in range(1, num_images + 1):
            noise = np.random.default_rng(image_id).integers(0, 255, (64, 64, 3)).astype(np.uint8)
            Image.fromarray(noise).save(folder / f"{image_id}.png")
            rows.append({"image_id": image_id, "file_name": f"{image_id}.png", "width": 64, "height": 64})
        made = self.artifact("images", "images-key", stage="read_images", external={"images": str(folder)})
        write_table(made.folder, "images", pa.Table.from_pylist(rows, schema=schemas.IMAGES))
        return made

    def concepts(self, frequencies: Sequence[int] = (9, 8, 0, 7)) -> Artifact:
        made = self.artifact("concepts", "concepts-key", stage="extract_concepts")
        lists = {"surface_forms": [], "examples": [], "merged_from": [], "parser": "rules"}
        rows = [
            {"concept": name, "document_frequency": number, "count": number, **lists}
            for name, number in zip(CONCEPTS, frequencies, strict=True)
        ]
        write_table(made.folder, "concepts", pa.Table.from_pylist(rows, schema=schemas.CONCEPTS))
        return made

    def boxes(self, *rows: tuple[int, str, int]) -> Artifact:
        made = self.artifact("boxes", "boxes-key", stage="read_boxes")
        listed = [
            {"image_id": image, "category": name, "box": FRAMES[frame], "is_crowd": False}
            for image, name, frame in rows
        ]
        write_table(made.folder, "boxes", pa.Table.from_pylist(listed, schema=schemas.BOXES))
        made.folder.write("classes.json", json.dumps(["cat", "cup", "ibex"]).encode())
        return made

    def labels(
        self, key: str, labels: Labels, candidates: str = "pool", part: int = 4, marks: Sequence[str] = ()
    ) -> Artifact:
        config = {"candidates": candidates, "threshold": 0.5, "top_k": 3}
        made = self.artifact("region_labels", key, stage="label_regions", config=config, marks=list(marks))
        schema = schemas.region_labels({"candidates": candidates, "temperature": "0.01", "teacher": "t" * 16})
        rows = [
            {
                "image_id": image_id,
                "uri": f"{image_id}.png",
                "sha256": "0" * 64,
                "width": 64,
                "height": 64,
                "boxes": FRAMES[: len(regions)],
                "objectness": [0.0 for _ in regions],
                "concept_ids": [[concept] for concept, _, _ in regions],
                "log_probabilities": [[math.log(score)] for _, score, _ in regions],
                "keep": [keep for _, _, keep in regions],
                "entropy": [0.5 for _ in regions],
            }
            for image_id, regions in labels.items()
        ]
        for number, start in enumerate(range(0, max(len(rows), 1), part)):
            table = pa.Table.from_pylist(rows[start : start + part], schema=schema)
            write_table(made.folder, f"region_labels-{number:05d}", table)
        made.folder.write("concepts.json", json.dumps({"concepts": CONCEPTS}).encode())
        return made

    def report(self, name: str, config: ReportLabelsConfig = CONFIG, **inputs: Artifact) -> Made:
        folder = Folder(str(self.root / name))
        others = sum(each.startswith("labels_") for each in inputs)
        stage = stage_for(others)
        stage.key(config, inputs)
        context = LocalContext(folder)
        result = stage.run(context, config, **inputs)
        assert all(done <= total for done, total, _ in context.progress)
        return Made(folder, dict(result.metrics), json.loads(folder.read("audit.json")), read(folder))


@dataclass(frozen=True)
class Made:
    """What the stage left."""

    folder: Folder
    metrics: dict[str, float]
    audit: dict[str, Any]
    html: str


def read(folder: Folder) -> str:
    return folder.read("report.html").decode()


@pytest.fixture(autouse=True)
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots are looked at elsewhere, and drawing them takes the longest here."""
    monkeypatch.setattr("regionclip.report.label_plots.png", lambda canvas: b"\x89PNG")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def everything(store: Store) -> dict[str, Artifact]:
    other = {**LABELS, 3: [(1, 0.9, True), (1, 0.6, False), (2, 0.3, False)]}
    return {
        "images": store.images(),
        "region_labels": store.labels("first-labels", LABELS, "captions", marks=["untrained"]),
        "labels_1": store.labels("other-labels", {image: other[image] for image in (1, 2, 3, 5)}, part=1),
        "concepts": store.concepts(),
        "boxes": store.boxes(*((image, "cat", 0) for image in range(1, 7)), (1, "cup", 1), (2, "cup", 1)),
    }


def test_numbers_of_labels_of_their_agreement_and_of_the_truth(store: Store) -> None:
    made = store.report("out", **everything(store))
    expected = {"images": 6, "images_without_kept": 0, "regions": 18, "kept": 9, "concepts": 4, "concepts_used": 2}
    assert {name: made.metrics[name] for name in expected} == expected
    assert made.metrics["mean_kept_score"] == pytest.approx((6 * 0.9 + 3 * 0.6) / 9)
    assert made.metrics["precision"] == pytest.approx(7 / 9)
    assert made.metrics["recall"] == pytest.approx(7 / 8)
    assert made.metrics["labels_1.same_label"] == pytest.approx(11 / 12)
    assert made.audit["sets"][1]["agreement"]["disagreements"] == [["cat", "cup", 1]]
    assert made.audit["sets"][0]["truth"]["unjudged"] == 6
    assert made.audit["classes_without_concept"] == ["ibex"]
    assert [row["concept"] for row in made.audit["never_kept"]] == ["water"]
    assert "<strong>untrained</strong>" in made.html
    assert "&lt;b&gt;gnu&lt;/b&gt;" not in made.html.split("Concept by concept")[0]
    assert made.html.count("departure from the paper") > 1


def test_same_inputs_give_same_bytes_and_plots_are_pngs(store: Store) -> None:
    inputs = everything(store)
    first, again = (store.report(name, **inputs).folder for name in ("one", "two"))
    assert set(FILES) <= set(first.names())
    assert first.names() == again.names()
    assert all(first.read(name) == again.read(name) for name in first.names())
    assert all(first.read(name).startswith(b"\x89PNG") for name in first.names() if name.endswith(".png"))


def test_parts_do_not_matter(store: Store) -> None:
    images = store.images()
    whole = store.report("whole", images=images, region_labels=store.labels("labels", LABELS, part=6))
    parts = store.report("parts", images=images, region_labels=store.labels("labels", LABELS, part=1))
    assert whole.audit == parts.audit
    assert whole.html == parts.html


def test_page_stands_without_counts_and_without_truth(store: Store) -> None:
    for more in ({}, {"concepts": store.concepts((0, 0, 0, 0))}):
        made = store.report(f"out{len(more)}", images=store.images(), region_labels=store.labels("l", LABELS), **more)
        assert "no count of captions belongs" in made.html
        assert "--truth FILE" in made.html
        assert "precision" not in made.metrics
        assert "precision_recall.png" not in made.folder.names()


@pytest.mark.parametrize(
    "labels",
    [
        {1: [(0, 0.1, False)], 2: []},
        {1: [], 2: []},
        {1: [(3, 0.8, True)]},
    ],
)
def test_page_stands_with_little_or_nothing_kept(store: Store, labels: Labels) -> None:
    inputs = {"images": store.images(), "concepts": store.concepts(), "boxes": store.boxes((1, "cat", 0))}
    same = {"region_labels": store.labels("first", labels), "labels_1": store.labels("other", labels)}
    made = store.report("out", **inputs, **same)
    assert made.metrics["kept"] == sum(keep for regions in labels.values() for _, _, keep in regions)
    assert "None" not in made.html
    assert "nan" not in json.dumps(made.audit).lower()


def test_images_that_are_gone_are_left_out_with_a_note(store: Store) -> None:
    images, labels = store.images(), store.labels("labels", LABELS)
    config = ReportLabelsConfig(num_images=6, num_concepts=2, num_crops=6)
    (store.root / "pictures" / "3.png").unlink()
    (store.root / "pictures" / "4.png").write_bytes(b"no picture")
    made = store.report("out", config, images=images, region_labels=labels)
    assert sorted(made.audit["unreadable"]) == ["3", "4"]
    assert "2 images drawn for this page can no longer be read; the first is image 3" in made.html
    assert 'alt="image 5 with its labels"' in made.html
    assert 'alt="image 3 with its labels"' not in made.html
    for path in (store.root / "pictures").iterdir():
        path.unlink()
    bare = store.report("none", config, images=images, region_labels=labels)
    assert "There is no picture to show." in bare.html
    assert bare.metrics == made.metrics


def test_what_does_not_belong_together_is_refused(store: Store) -> None:
    labels, images = store.labels("labels", {**LABELS, 77: []}), store.images()
    with pytest.raises(ValueError, match="labels labels are of image 77, which is not among the images images-key"):
        store.report("out", images=images, region_labels=labels)
    apart = store.boxes((99, "cat", 0))
    with pytest.raises(ValueError, match="no image of the labels good has an annotated box"):
        store.report("out", images=images, region_labels=store.labels("good", LABELS), boxes=apart)


@pytest.mark.parametrize(
    ("values", "words"),
    [({"num_images": 0}, "num_images 0"), ({"num_crops": -1}, "num_crops -1"), ({"iou": 0.0}, "iou 0.0 is no overlap")],
)
def test_a_config_that_makes_no_sense_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ReportLabelsConfig(**values)
