"""A small made-up store for the comparison stage."""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image, ImageDraw

from regionclip import schemas
from stages.contract import MANIFEST, Artifact
from stages.parts import write_table
from stages.storage import Folder

BASE, NOVEL = ("anchor", "cow", "kite & string"), ("cup", "gear")


@dataclass
class Scenes:
    """A store of made-up artifacts that a comparison takes; box i of an image is an object of some class."""

    root: Path
    base: Sequence[str] = BASE
    novel: Sequence[str] = NOVEL
    num_images: int = 6
    seed: int = 0
    candidates: Sequence[str | None] = (None, None, "pool", "captions")
    novel_ap50: Sequence[float | None] = (0.2, 0.22, 0.25, 0.4)
    marks: tuple[str, ...] = ()
    inputs: dict[str, Artifact] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)
        self.classes = [*self.base, *self.novel]
        dataset = self.artifact("dataset", "make_scenes")
        self.inputs["images"] = self.images("test", dataset, 100)
        self.inputs["train_images"] = self.images("train", dataset, 500)
        captions = self.artifact("captions", "read_captions", {"dataset": dataset})
        self.inputs["concepts"] = self.concepts(captions)
        self.inputs["boxes"] = self.boxes(dataset)
        for index, candidates in enumerate(self.candidates):
            self.recipe(index, candidates, self.novel_ap50[index], dataset)

    def artifact(
        self,
        kind: str,
        stage: str,
        inputs: Mapping[str, Artifact] | None = None,
        config: Mapping[str, Any] | None = None,
        external: Mapping[str, str] | None = None,
        name: str = "",
    ) -> Artifact:
        key = f"{abs(hash_of(kind + stage + name)):016x}"[:16]
        manifest = {
            "stage": stage,
            "version": 1,
            "config": dict(config or {}),
            "inputs": {given: {"kind": source.kind, "key": source.key} for given, source in (inputs or {}).items()},
            "external": dict(external or {}),
            "marks": list(self.marks),
        }
        artifact = Artifact(kind, key, Folder(str(self.root / kind / key)))
        artifact.folder.write(MANIFEST, json.dumps(manifest).encode())
        return artifact

    def images(self, split: str, dataset: Artifact, first_id: int) -> Artifact:
        rows = []
        for image_id in range(first_id, first_id + self.num_images):
            file_name = f"{split}-{image_id}.png"
            picture = io.BytesIO()
            self.picture(image_id).save(picture, "PNG")
            dataset.folder.write(f"images/{file_name}", picture.getvalue())
            rows.append({"image_id": image_id, "file_name": file_name, "width": 96, "height": 96})
        external = {"images": dataset.folder.child("images").uri}
        artifact = self.artifact("images", "read_images", {"dataset": dataset}, external=external, name=split)
        write_table(artifact.folder, "images", pa.Table.from_pylist(rows, schema=schemas.IMAGES))
        return artifact

    def objects(self, image_id: int) -> list[tuple[str, list[float]]]:
        random = np.random.default_rng(image_id)
        corners = [(4, 6), (52, 4), (6, 50), (50, 52)]
        chosen = random.permutation(len(corners))[: random.integers(2, 5)]
        return [
            (self.classes[random.integers(len(self.classes))], [float(x), float(y), float(x + 36), float(y + 34)])
            for x, y in (corners[index] for index in chosen)
        ]

    def picture(self, image_id: int) -> Image.Image:
        noise = np.random.default_rng(image_id).integers(150, 220, (96, 96, 3)).astype(np.uint8)
        image = Image.fromarray(noise)
        draw = ImageDraw.Draw(image)
        for name, (left, top, right, bottom) in self.objects(image_id):
            hue = hash_of(name)
            colour = (hue % 200, hue // 200 % 200, hue // 40000 % 200)
            draw.ellipse((left + 2, top + 2, right - 2, bottom - 2), fill=colour)
        return image

    def concepts(self, captions: Artifact) -> Artifact:
        phrases = self.artifact("phrases", "parse_captions", {"captions": captions})
        artifact = self.artifact("concepts", "extract_concepts", {"phrases": phrases})
        lists = {"surface_forms": [], "examples": [], "merged_from": []}
        rows = [
            {"concept": name, "document_frequency": 9, "count": 9, "parser": "rules", **lists} for name in self.classes
        ]
        write_table(artifact.folder, "concepts", pa.Table.from_pylist(rows, schema=schemas.CONCEPTS))
        return artifact

    def boxes(self, dataset: Artifact) -> Artifact:
        artifact = self.artifact("boxes", "read_boxes", {"dataset": dataset})
        rows = [
            {"image_id": image_id, "category": name, "box": box, "is_crowd": False}
            for image_id in range(100, 100 + self.num_images)
            for name, box in self.objects(image_id)
        ]
        write_table(artifact.folder, "boxes", pa.Table.from_pylist(rows, schema=schemas.BOXES))
        return artifact

    def recipe(self, index: int, candidates: str | None, novel: float | None, dataset: Artifact) -> None:
        sources = {"dataset": dataset}
        if candidates is not None:
            labels = self.artifact(
                "region_labels", "label_regions", sources, {"candidates": candidates}, name=candidates
            )
            for part in range(2):
                write_table(labels.folder, f"region_labels-{part:05d}", self.labels(part))
            labels.folder.write("concepts.json", json.dumps({"concepts": self.classes}).encode())
            self.inputs[f"labels_{index}"] = sources["labels"] = labels
        level = 0.2 if novel is None else novel
        per_class = {
            name: {
                "group": "base" if name in self.base else "novel",
                "AP50": float(np.clip(level + self.random.normal(0, 0.08), 0, 1)),
                "num_boxes": 5,
            }
            for name in self.classes
        }
        del per_class[self.classes[0]]["AP50"]
        values = {"base": level + 0.1, "all": level + 0.05, **({} if novel is None else {"novel": novel})}
        for what, metric, more in (("accuracy", "box_accuracy", 0.25), ("detection", "AP50", 0.0)):
            report = self.artifact("report", "evaluate", sources, {"what": what}, name=f"{what}{index}")
            metrics = {f"{metric}_{group}": value + more for group, value in values.items()}
            groups = {"base": list(self.base), "novel": list(self.novel)}
            document = {"metrics": metrics, "per_class": per_class, "groups": groups}
            report.folder.write("metrics.json", json.dumps(document).encode())
            write_table(report.folder, "detections", self.detections(0.3 + level))
            self.inputs[f"{what}_{index}"] = report

    def detections(self, skill: float) -> pa.Table:
        rows = []
        for image_id in range(100, 100 + self.num_images):
            for name, box in self.objects(image_id):
                hit = self.random.random() < skill
                moved = [value + self.random.uniform(-2, 2) for value in box]
                category = name if hit else self.classes[self.random.integers(len(self.classes))]
                score = float(self.random.uniform(0.2, 0.9))
                rows.append({"image_id": image_id, "category": category, "box": moved, "score": score})
        return pa.Table.from_pylist(rows, schema=schemas.DETECTIONS)

    def labels(self, part: int) -> pa.Table:
        rows = []
        half = self.num_images // 2
        for image_id in range(500 + part * half, 500 + (part + 1) * half):
            boxes = [box for _, box in self.objects(image_id)]
            scores = self.random.beta(2, 2, len(boxes))
            pairs = [self.random.permutation(len(self.classes))[:2].tolist() for _ in boxes]
            rows.append(
                {
                    "image_id": image_id,
                    "uri": f"{image_id}.png",
                    "sha256": "0" * 64,
                    "width": 96,
                    "height": 96,
                    "boxes": boxes,
                    "objectness": [0.0] * len(boxes),
                    "concept_ids": pairs,
                    "log_probabilities": [[math.log(score), math.log(1 - score)] for score in scores],
                    "keep": [bool(score > 0.5) for score in scores],
                }
            )
        return pa.Table.from_pylist(rows, schema=schemas.REGION_LABELS)


def hash_of(text: str) -> int:
    return int(hashlib.sha256(text.encode()).hexdigest()[:16], 16)


@pytest.fixture(scope="session")
def make_scenes() -> type[Scenes]:
    return Scenes
