"""Sources: known by content and not by path, checked before any work, the same from a folder and a data set."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from regionclip.clip_models import WEIGHTS, load_clip, save_clip
from regionclip.scenes.dataset import ScenesConfig
from stages import make_scenes, read_boxes, read_captions, read_clip, read_images
from stages.contract import Artifact
from stages.listed_images import images_folder
from stages.parts import read_table
from stages.read_boxes import BoxesConfig
from stages.read_captions import CaptionsConfig
from stages.read_clip import ClipConfig
from stages.read_images import ImagesConfig
from stages.storage import Folder

Run = Callable[..., Artifact]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data folder of two images with a caption and a box each."""
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    (folder / "annotations").mkdir()
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, split in ((1, "train"), (2, "val")):
        (folder / "images" / f"{number}.jpg").write_bytes(b"jpeg %d" % number)
        images.append({"id": number, "file_name": f"{number}.jpg", "width": 20, "height": 20, "split": split})
        box = {"category_id": number, "bbox": [1, 2, 3, 4]}
        annotations.append({"id": number, "image_id": number, "caption": f"caption {number}", **box})
    categories = [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}]
    data = json.dumps({"images": images, "annotations": annotations, "categories": categories})
    for name in ("instances.json", "captions.json"):
        (folder / "annotations" / name).write_text(data)
    return folder


SOURCES = [(read_images, ImagesConfig()), (read_captions, CaptionsConfig()), (read_boxes, BoxesConfig())]


@pytest.mark.parametrize(("module", "config"), SOURCES)
def test_the_key_is_of_the_content_and_not_of_the_path(root: Path, tmp_path: Path, module: Any, config: Any) -> None:
    shutil.copytree(root, tmp_path / "moved")
    here, there = replace(config, root=str(root)), replace(config, root=str(tmp_path / "moved"))
    assert module.STAGE.key(here, {}) == module.STAGE.key(there, {})
    assert module.STAGE.key(here, {}) != module.STAGE.key(replace(here, split="val"), {})
    data = json.loads((root / "annotations" / "instances.json").read_text())
    data["annotations"][0].update(caption="another", bbox=[2, 2, 3, 4])
    data["images"][0].update(width=19)
    for name in ("instances.json", "captions.json"):
        (root / "annotations" / name).write_text(json.dumps(data))
    assert module.STAGE.key(here, {}) != module.STAGE.key(there, {})


def test_another_image_file_gives_another_key(root: Path) -> None:
    config = ImagesConfig(str(root))
    before = read_images.STAGE.key(config, {})
    (root / "images" / "1.jpg").write_bytes(b"other bytes")
    assert read_images.STAGE.key(config, {}) != before


@pytest.mark.parametrize(("module", "config"), SOURCES)
def test_a_dataset_gives_the_same_table_and_a_key_without_paths(
    root: Path, run_stage: Run, module: Any, config: Any
) -> None:
    dataset = Artifact("dataset", "0123", Folder(str(root)))
    of_dataset = run_stage(module.STAGE, config, dataset=dataset)
    of_root = run_stage(module.STAGE, replace(config, root=str(root)))
    table = module.STAGE.output
    assert read_table(of_dataset, table).equals(read_table(of_root, table))
    assert str(root) not in json.dumps(dict(module.STAGE.identity(config)))
    moved = Artifact("dataset", "0123", Folder(str(root.parent / "elsewhere")))
    assert module.STAGE.key(config, {"dataset": moved}) == of_dataset.key
    with pytest.raises(ValueError, match="give one of the two"):
        run_stage(module.STAGE, config)


def test_images_point_to_the_folder_of_the_files(root: Path, run_stage: Run) -> None:
    images = run_stage(read_images.STAGE, ImagesConfig(str(root), split="train"))
    folder = Folder(images.manifest["external"]["images"])
    assert [folder.read(name) for name in read_table(images, "images")["file_name"].to_pylist()] == [b"jpeg 1"]


def test_images_of_a_dataset_are_found_wherever_their_store_lies(tmp_path: Path) -> None:
    for store in ("here", "there"):
        folder = Folder(str(tmp_path / store / "images" / "4567"))
        folder.write("manifest.json", json.dumps({"external": {"images": "store:dataset/0123/images"}}).encode())
        assert images_folder(Artifact("images", "4567", folder)).uri == str(tmp_path / store / "dataset/0123/images")


def test_boxes_of_other_classes_never_reach_the_table(root: Path, run_stage: Run) -> None:
    boxes = run_stage(read_boxes.STAGE, BoxesConfig(str(root), classes=("dog",)))
    assert read_table(boxes, "boxes")["category"].to_pylist() == ["dog"]
    assert json.loads(boxes.folder.read("classes.json")) == ["dog"]


def test_a_class_that_the_file_does_not_know_is_told_and_kept_among_the_names(root: Path, tmp_path: Path) -> None:
    said: list[str] = []
    context = SimpleNamespace(folder=Folder(str(tmp_path / "boxes")), say=said.append)
    read_boxes.read_boxes(context, BoxesConfig(str(root), classes=("cats", "cat")))
    assert json.loads(context.folder.read("classes.json")) == ["cat", "cats"]
    assert said == ["instances.json does not know 1 of 2 classes: 'cats' (did you mean 'cat'?)"]


@pytest.mark.parametrize(("module", "config"), SOURCES)
def test_a_root_behind_a_uri_gives_the_same_tables_and_key(
    root: Path, run_stage: Run, module: Any, config: Any
) -> None:
    remote = f"memory://{root.parent.name}"
    for path in root.rglob("*"):
        if path.is_file():
            Folder(remote).write(path.relative_to(root).as_posix(), path.read_bytes())
    here, there = (run_stage(module.STAGE, replace(config, root=each)) for each in (str(root), remote))
    assert there.key == here.key
    assert read_table(there, module.STAGE.output).equals(read_table(here, module.STAGE.output))
    if module is read_images:
        names = read_table(there, "images")["file_name"].to_pylist()
        assert list(map(images_folder(there).read, names)) == [(root / "images" / name).read_bytes() for name in names]
        Folder(remote).delete(f"images/{names[0]}")
        with pytest.raises(ValueError, match=rf"image files are missing, first is {names[0]}"):
            module.STAGE.key(replace(config, root=remote), {})


def test_images_may_lie_in_the_root_itself(root: Path, run_stage: Run) -> None:
    below = run_stage(read_images.STAGE, ImagesConfig(str(root)))
    for file in (root / "images").iterdir():
        shutil.move(file, root / file.name)
    flat = run_stage(read_images.STAGE, ImagesConfig(str(root), "."))
    assert flat.key == below.key
    names = read_table(flat, "images")["file_name"].to_pylist()
    assert list(map(images_folder(flat).read, names)) == [(root / name).read_bytes() for name in names]
    with pytest.raises(ValueError, match=r"'\.\./images' does not name images inside"):
        run_stage(read_images.STAGE, ImagesConfig(str(root), "../images"))


@pytest.mark.parametrize(("module", "config"), SOURCES)
def test_a_root_may_be_a_file_uri(root: Path, run_stage: Run, module: Any, config: Any) -> None:
    by_path, by_uri = (run_stage(module.STAGE, replace(config, root=each)) for each in (str(root), root.as_uri()))
    assert by_uri.key == by_path.key
    assert by_uri.manifest == by_path.manifest


def test_how_many_boxes_may_be_left_out_changes_no_key(root: Path) -> None:
    configs = [BoxesConfig(str(root), max_rejected_fraction=each) for each in (0.0, 0.5)]
    assert len({read_boxes.STAGE.key(config, {}) for config in configs}) == 1


def test_one_bad_box_of_a_thousand_is_left_out_with_its_reason(root: Path, run_stage: Run) -> None:
    path = root / "annotations" / "instances.json"
    data = json.loads(path.read_text())
    data["annotations"] = [data["annotations"][0] | {"id": number} for number in range(1000)]
    data["annotations"][7]["bbox"] = [1, 2, 3, 0]
    path.write_text(json.dumps(data))
    boxes = run_stage(read_boxes.STAGE, BoxesConfig(str(root)))
    assert boxes.manifest["metrics"] == {"boxes": 999, "classes": 2, "rejected": 1}
    (rejected,) = read_table(boxes, "rejected").to_pylist()
    assert rejected == {
        "item": "instances.json: annotation 7 of image 1",
        "reason": "bbox [1, 2, 3, 0] has no positive width and height",
    }


def test_a_box_outside_its_image_stops_unless_it_is_allowed_for(root: Path, run_stage: Run) -> None:
    path = root / "annotations" / "instances.json"
    path.write_text(path.read_text().replace("[1, 2, 3, 4]", "[1, 2, 30, 4]", 1))
    with pytest.raises(ValueError, match=r"annotation 1 of image 1: bbox \[1, 2, 30, 4\] lies outside its image of 20"):
        run_stage(read_boxes.STAGE, BoxesConfig(str(root)))
    boxes = run_stage(read_boxes.STAGE, BoxesConfig(str(root), max_rejected_fraction=0.5))
    assert read_table(boxes, "rejected").num_rows == 1


def test_clip_weights_are_known_by_content(tmp_path: Path, tiny_clip: Any) -> None:
    for name in ("a", "b"):
        save_clip(tiny_clip, "rgc-test-rn", tmp_path / name)
    keys = {
        read_clip.STAGE.key(ClipConfig("rgc-test-rn", str(path)), {})
        for path in (tmp_path / "a", tmp_path / "b", tmp_path / "a" / WEIGHTS)
    }
    assert len(keys) == 1
    assert read_clip.STAGE.key(ClipConfig("RN50-quickgelu", "openai"), {}) not in keys


def test_untrained_weights_are_refused_or_marked(run_stage: Run) -> None:
    with pytest.raises(ValueError, match="allow_untrained"):
        run_stage(read_clip.STAGE, ClipConfig("rgc-test-rn"))
    clip = run_stage(read_clip.STAGE, ClipConfig("rgc-test-rn", allow_untrained=True))
    assert clip.manifest["marks"] == ["untrained"]
    assert load_clip(clip.folder.local()).visual.output_dim == clip.manifest["metrics"]["width"]
    other = read_clip.STAGE.key(ClipConfig("rgc-test-rn", allow_untrained=True, seed=1), {})
    assert other != clip.key


def test_scenes_are_a_data_set_that_the_sources_read(run_stage: Run) -> None:
    dataset = run_stage(make_scenes.STAGE, ScenesConfig(num_images={"train": 2, "val": 1}))
    images = run_stage(read_images.STAGE, ImagesConfig(split="train"), dataset=dataset)
    captions = run_stage(read_captions.STAGE, CaptionsConfig(split="train"), dataset=dataset)
    boxes = run_stage(read_boxes.STAGE, BoxesConfig(split="train", classes=("umbrella", "cow")), dataset=dataset)
    ids = read_table(images, "images")["image_id"].to_pylist()
    assert len(ids) == 2
    assert set(read_table(captions, "captions")["image_id"].to_pylist()) == set(ids)
    assert json.loads(boxes.folder.read("classes.json")) == ["umbrella", "cow"]
