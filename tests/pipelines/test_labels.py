"""Region labels made again from what a store holds, written for other tools, and taken back corrected."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pipelines.config import PipelineConfig
from pipelines.labels import export, import_, label
from pipelines.loading import load
from pipelines.runner import NoTracker, Runner
from pipelines.store import artifact_of
from stages.contract import Artifact, Resources
from stages.parts import read_table, table_files, write_table
from stages.storage import Folder


@pytest.fixture(autouse=True)
def untracked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.tracking.MlflowTracker", lambda *arguments: NoTracker())


@pytest.fixture(scope="module")
def store(smoke: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the smoke run's store, free to add to."""
    copy = tmp_path_factory.mktemp("labels") / "store"
    shutil.copytree(smoke.store, copy)
    return copy


@pytest.fixture
def guided(smoke: Any, store: Path) -> Artifact:
    """The caption-guided labels of that store."""
    (found,) = (each for each in smoke.made_by("label_regions") if each.manifest["config"]["candidates"] == "captions")
    return artifact_of(Folder(str(store)), found.kind, found.key)


def quiet() -> Console:
    return Console(file=io.StringIO(), width=200)


def relabelled(smoke: Any, store: Path, *overrides: str, regions: str | None = None) -> tuple[Artifact, set[str]]:
    """The labels of the config with these overrides, and the stages that ran for them."""
    console = quiet()
    with Runner(Folder(str(store)), default=Resources(num_workers=0), console=console) as run:
        artifact = label(load(PipelineConfig, str(smoke.config), overrides), run, regions)
    assert isinstance(console.file, io.StringIO)
    printed = [line.split() for line in console.file.getvalue().splitlines()]
    return artifact, {line[0] for line in printed if len(line) > 2 and line[2] != "reused" and len(line[1]) == 8}


@pytest.mark.parametrize(
    ("override", "ran"),
    [
        ("labels.threshold=0.03", {"label_regions"}),
        ("labels.temperature=0.5", {"label_regions"}),
        ("embeddings.templates=method81", {"embed_concepts", "label_regions"}),
        ("concepts.min_document_frequency=2", {"extract_concepts", "embed_concepts", "label_regions"}),
    ],
)
def test_labelling_again_opens_no_image(
    override: str, ran: set[str], smoke: Any, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("an image was opened")

    monkeypatch.setattr("PIL.Image.open", refuse)
    artifact, found = relabelled(smoke, store, override)
    assert found == ran
    assert artifact.kind == "region_labels"


def test_regions_that_the_store_lacks_are_not_made(smoke: Any, store: Path) -> None:
    before = set(Folder(str(store)).names())
    with pytest.raises(ValueError, match=r"are not in .* make them with 'rgc run pseudo-label'"):
        relabelled(smoke, store, "regions.num_regions=4")
    assert set(Folder(str(store)).names()) == before


def test_regions_of_a_key_are_labelled_if_the_teacher_is_theirs(smoke: Any, store: Path, guided: Artifact) -> None:
    regions = guided.manifest["inputs"]["regions"]["key"]
    artifact, _ = relabelled(smoke, store, "regions.num_regions=4", "labels.threshold=0.04", regions=regions)
    assert artifact.manifest["inputs"]["regions"]["key"] == regions
    with pytest.raises(ValueError, match=f"regions {regions} were encoded by the teacher"):
        relabelled(smoke, store, "teacher.seed=5", regions=regions)
    with pytest.raises(ValueError, match="is a region_labels; give the key of regions"):
        relabelled(smoke, store, regions=guided.key)


def test_labels_go_out_in_three_forms(store: Path, guided: Artifact, tmp_path: Path) -> None:
    kept = sum(sum(row["keep"]) for row in read_table(guided, "region_labels").to_pylist())
    for name in ("labels.json", "labels.jsonl", "yolo"):
        assert export(guided.key, str(tmp_path / name), str(store), console=quiet()).regions == kept
    coco = json.loads((tmp_path / "labels.json").read_text())
    assert len(coco["annotations"]) == kept
    names = {image["file_name"] for image in coco["images"]}
    lines = [json.loads(line) for line in (tmp_path / "labels.jsonl").read_text().splitlines()]
    assert {line["filename"] for line in lines} <= names
    assert sum(len(line["detection"]["instances"]) for line in lines) == kept
    map_ = json.loads((tmp_path / "labels_label_map.json").read_text())
    assert list(map_.values()) == (tmp_path / "yolo" / "classes.txt").read_text().splitlines()
    written = {path.stem for path in (tmp_path / "yolo" / "labels").iterdir()}
    assert written == {Path(name).stem for name in names}


def test_corrections_come_back_as_labels_of_their_own(store: Path, guided: Artifact, tmp_path: Path) -> None:
    path = tmp_path / "labels.json"
    export(guided.key, str(path), str(store), console=quiet())
    data = json.loads(path.read_text())
    removed = data["annotations"].pop()
    data["annotations"][0]["category_id"] = 1 + data["annotations"][0]["category_id"] % len(data["categories"])
    path.write_text(json.dumps(data))
    artifact = import_(str(path), guided.key, str(store), console=quiet())
    assert artifact.key != guided.key
    metrics = artifact.manifest["metrics"]
    assert (metrics["num_relabelled"], metrics["num_dropped"], metrics["num_rejected"]) == (1, 1, 0)
    again = tmp_path / "again.json"
    export(artifact.key, str(again), str(store), console=quiet())
    exported = json.loads(again.read_text())["annotations"]
    assert removed["id"] not in {each["id"] for each in exported}
    assert exported[0]["category_id"] == data["annotations"][0]["category_id"]
    assert exported[0]["score"] == 1.0
    assert exported[1:] == data["annotations"][1:]


def test_what_cannot_be_exported_is_said(smoke: Any, store: Path, guided: Artifact, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"labels are not written as '\.csv'"):
        export(guided.key, str(tmp_path / "labels.csv"), str(store))
    (pool, *_) = smoke.made_by("extract_concepts")
    with pytest.raises(ValueError, match="is a concepts; give the key of region_labels"):
        export(pool.key, str(tmp_path / "labels.json"), str(store))


def test_a_folder_with_files_of_another_export_is_refused(store: Path, guided: Artifact, tmp_path: Path) -> None:
    export(guided.key, str(tmp_path / "labels"), str(store), console=quiet())
    before = sorted((tmp_path / "labels").rglob("*"))
    with pytest.raises(ValueError, match=r"labels is not empty, and old files .*; give a new folder"):
        export(guided.key, str(tmp_path / "labels"), str(store), min_score=1.0)
    assert sorted((tmp_path / "labels").rglob("*")) == before


def test_labels_are_exported_without_what_they_were_made_from(store: Path, guided: Artifact, tmp_path: Path) -> None:
    alone = tmp_path / "store"
    shutil.copytree(store / "region_labels", alone / "region_labels")
    for name, place in (("whole", store), ("alone", alone)):
        export(guided.key, str(tmp_path / f"{name}.json"), str(place), console=quiet())
    exported = (tmp_path / "alone.json").read_bytes()
    assert exported == (tmp_path / "whole.json").read_bytes()
    assert all(image["file_name"].endswith(".jpg") for image in json.loads(exported)["images"])


def test_labels_of_an_older_version_are_not_exported(store: Path, guided: Artifact, tmp_path: Path) -> None:
    shutil.copytree(store / "region_labels", tmp_path / "store" / "region_labels")
    old = artifact_of(Folder(str(tmp_path / "store")), guided.kind, guided.key)
    for name in table_files(old.folder, "region_labels"):
        stem = name.removesuffix(".parquet")
        write_table(old.folder, stem, read_table(old.folder, stem).drop_columns(["uri"]))
    with pytest.raises(ValueError, match="have no column uri: an older version made them; make them again"):
        export(guided.key, str(tmp_path / "labels"), str(tmp_path / "store"))
    assert not (tmp_path / "labels").exists()
