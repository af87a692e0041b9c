from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from regionclip.labels.choosing import Choice, labelled_images
from regionclip.labels.writing import write_coco
from regionclip.training.pretrain import PretrainConfig
from stages import import_labels, pretrain
from stages.contract import Artifact
from stages.import_labels import ImportLabelsConfig
from stages.parts import iter_tables, read_table, table_files
from stages.storage import Folder


@pytest.fixture
def exported(world: Any, tmp_path: Path) -> Path:
    """The labels of the world as COCO JSON."""
    labels = world["labels"]
    concepts = json.loads(labels.folder.read("concepts.json"))["concepts"]
    images = labelled_images(iter_tables(labels, "region_labels"), Choice())
    path = tmp_path / "labels.json"
    with path.open("wb") as file:
        write_coco(file, images, concepts, {"region_labels": labels.key, "everything": False, "min_score": 0.0})
    return path


@pytest.fixture
def take_in(world: Any) -> Any:
    def take(path: Path | str, key: str, **config: Any) -> Artifact:
        artifact: Artifact = world.run(
            import_labels.STAGE, ImportLabelsConfig(str(path), **config), key, region_labels=world["labels"]
        )
        return artifact

    return take


def change(path: Path, **to: Any) -> dict[str, Any]:
    """Change the first annotation of a file and return what it was."""
    data = json.loads(path.read_text())
    before = dict(data["annotations"][0])
    data["annotations"][0].update(to)
    path.write_text(json.dumps(data))
    return before


def test_an_unchanged_file_gives_the_same_labels_in_the_same_parts(world: Any, exported: Path, take_in: Any) -> None:
    artifact = take_in(exported, "unchanged")
    old, new = world["labels"].folder, artifact.folder
    assert new.read("concepts.json") == old.read("concepts.json")
    for before, after in zip(iter_tables(old, "region_labels"), iter_tables(new, "region_labels"), strict=True):
        assert after.equals(before)
    assert artifact.manifest["metrics"]["num_relabelled"] == 0


def test_pretraining_learns_from_a_correction(
    world: Any, exported: Path, take_in: Any, pretrain_config: PretrainConfig, pretrain_inputs: dict[str, Artifact]
) -> None:
    before = change(exported, category_id=1)
    change(exported, category_id=1 + before["category_id"] % 4)
    corrected = take_in(exported, "corrected")
    assert corrected.manifest["metrics"]["num_relabelled"] == 1
    sources = [source for row in read_table(corrected, "region_labels").to_pylist() for source in row["source"]]
    (source,) = set(sources) - {"teacher"}
    assert source.startswith("sha256:")
    assert sources.count(source) == 1
    schema = next(iter_tables(corrected, "region_labels")).schema
    assert schema.metadata[b"corrections"].decode() == source

    def student(key: str, labels: Artifact) -> bytes:
        made = world.run(pretrain.STAGE, pretrain_config, key, **{**pretrain_inputs, "region_labels": labels})
        return bytes(made.folder.read("clip.safetensors"))

    assert student("corrected-student", corrected) != student("plain-student", world["labels"])


def same_tables(first: Artifact, second: Artifact) -> bool:
    pairs = zip(iter_tables(first, "region_labels"), iter_tables(second, "region_labels"), strict=True)
    return all(before.equals(after) for before, after in pairs)


def test_an_annotation_of_no_region_is_rejected_and_too_many_stop_the_import(
    world: Any, exported: Path, take_in: Any
) -> None:
    change(exported, bbox=[0, 0, 2000, 2000])
    artifact = take_in(exported, "outside")
    assert same_tables(artifact, world["labels"])
    (row,) = read_table(artifact, "rejected").to_pylist()
    assert row["item"].startswith("labels.json: annotation 1 of image")
    assert row["reason"] == "no region within 1 pixels"
    with pytest.raises(ValueError, match=r"no region within 1 pixels \(1 of .* max_rejected_fraction \(now 0\)"):
        take_in(exported, "strict", max_rejected_fraction=0.0)


def test_ids_of_annotations_count_over_all_parts(world: Any, exported: Path, take_in: Any) -> None:
    data = json.loads(exported.read_text())
    data["annotations"][-1]["bbox"] = [-9, -9, 2, 2]
    exported.write_text(json.dumps(data))
    artifact = take_in(exported, "last")
    assert len(list(iter_tables(world["labels"], "region_labels"))) > 1
    assert artifact.manifest["metrics"]["num_rejected"] == 1
    assert same_tables(artifact, world["labels"])


def test_a_file_with_images_numbered_anew_gives_the_same_labels(world: Any, exported: Path, take_in: Any) -> None:
    data = json.loads(exported.read_text())
    ids = {image["id"]: number for number, image in enumerate(reversed(data["images"]), 1)}
    for record, name in (*((image, "id") for image in data["images"]), *((a, "image_id") for a in data["annotations"])):
        record[name] = ids[record[name]]
    for number, annotation in enumerate(data["annotations"], 1):
        annotation["id"] = number
    exported.write_text(json.dumps(data))
    artifact = take_in(exported, "renumbered")
    assert same_tables(artifact, world["labels"])
    assert artifact.manifest["metrics"]["num_rejected"] == 0


def test_corrections_of_other_labels_are_taken_only_for_what_they_state(exported: Path, take_in: Any) -> None:
    data = json.loads(exported.read_text())
    data["info"]["region_labels"] = "elsewhere"
    data["annotations"] = []
    exported.write_text(json.dumps(data))
    with pytest.raises(ValueError, match=r"exported from the labels elsewhere, not from pool.* set absent to 'keep'"):
        take_in(exported, "refused")
    assert take_in(exported, "stated", absent="keep").manifest["metrics"]["num_dropped"] == 0


def test_the_key_holds_the_content_of_the_file_and_not_its_place(world: Any, exported: Path) -> None:
    def key(path: Path) -> str:
        return import_labels.STAGE.key(ImportLabelsConfig(str(path)), {"region_labels": world["labels"]})

    copy = exported.with_name("copy.json")
    copy.write_bytes(exported.read_bytes())
    before = key(exported)
    assert key(copy) == before
    change(copy, category_id=4)
    assert key(copy) != before
    with pytest.raises(ValueError, match=r"none\.json: no such file"):
        key(exported.with_name("none.json"))


def test_a_corrected_file_may_lie_behind_a_uri(world: Any, exported: Path, take_in: Any) -> None:
    change(exported, category_id=4)
    remote = Folder(f"memory://{exported.parent.name}")
    remote.write("labels.json", exported.read_bytes())
    here, there = take_in(exported, "here"), take_in(f"{remote.uri}/labels.json", "there")
    names = table_files(here.folder, "region_labels")
    assert [there.folder.read(name) for name in names] == [here.folder.read(name) for name in names]
    assert here.manifest["metrics"]["num_relabelled"] == 1


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="absent is 'forget'; choose 'drop' or 'keep'"):
        ImportLabelsConfig("f.json", absent="forget")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"tolerance -1 is below 0"):
        ImportLabelsConfig("f.json", tolerance=-1)
