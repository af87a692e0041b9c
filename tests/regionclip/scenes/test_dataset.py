import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from regionclip.scenes.dataset import ScenesConfig, make_scene, write_scenes
from regionclip.scenes.pictograms import CLASS_NAMES
from regionclip.scenes.render import SceneConfig

SMALL = SceneConfig(size=64, min_objects=1, max_objects=3, min_side=20, max_side=40)


def written(config: ScenesConfig) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    write_scenes(config, files.__setitem__)
    return files


def test_the_same_config_gives_the_same_bytes() -> None:
    config = ScenesConfig({"train": 4, "val": 2}, scene=SMALL)
    assert written(config) == written(config)


def test_an_image_does_not_depend_on_the_other_images() -> None:
    few, many = ScenesConfig({"val": 3}, scene=SMALL), ScenesConfig({"train": 5, "val": 9}, scene=SMALL)
    few_files, many_files = written(few), written(many)
    for number in (1, 2, 3):
        name = f"images/val_{number:06d}.jpg"
        assert few_files[name] == many_files[name]


def test_splits_and_seeds_differ() -> None:
    first, second = ScenesConfig({"train": 3, "val": 3}, scene=SMALL), ScenesConfig({"train": 3}, seed=1, scene=SMALL)
    pictures = [make_scene(first, "train", 0), make_scene(first, "val", 0), make_scene(second, "train", 0)]
    images = [scene.image.tobytes() for scene, _ in pictures]
    assert len(set(images)) == 3


def test_pycocotools_reads_it_and_finds_each_box_on_its_image(tmp_path: Path) -> None:
    config = ScenesConfig({"train": 5, "test": 3}, scene=SMALL)
    for name, content in written(config).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    with contextlib.redirect_stdout(io.StringIO()):
        instances = COCO(str(tmp_path / "annotations" / "instances.json"))
        captions = COCO(str(tmp_path / "annotations" / "captions.json"))
    assert [category["name"] for category in instances.loadCats(instances.getCatIds())] == list(CLASS_NAMES)
    assert sorted(instances.getImgIds()) == sorted(captions.getImgIds()) == list(range(1, 9))
    for record in instances.loadImgs(instances.getImgIds()):
        with Image.open(tmp_path / "images" / record["file_name"]) as image:
            assert image.size == (record["width"], record["height"])
        assert record["file_name"].startswith(record["split"])
        assert len(captions.getAnnIds(record["id"])) == 2
        shown = {
            one.name for one in make_scene(config, record["split"], int(record["file_name"][-10:-4]) - 1)[0].objects
        }
        boxes = instances.loadAnns(instances.getAnnIds(record["id"]))
        assert {CLASS_NAMES[box["category_id"] - 1] for box in boxes} == shown
        x, y, width, height = np.array([box["bbox"] for box in boxes]).T
        assert (np.minimum(x, y) >= 0).all()
        assert (np.minimum(width, height) > 0).all()
        assert (np.maximum(x + width, y + height) <= 64).all()


def test_metrics_count_what_was_written_and_progress_reaches_the_end() -> None:
    files: dict[str, bytes] = {}
    told: list[tuple[int, int]] = []
    metrics = write_scenes(
        ScenesConfig({"train": 6}, scene=SMALL), files.__setitem__, lambda done, total: told.append((done, total))
    )
    instances = json.loads(files["annotations/instances.json"])
    assert metrics["num_images"] == sum(name.endswith(".jpg") for name in files) == 6
    assert metrics["num_boxes"] == len(instances["annotations"])
    assert told[-1] == (6, 6)


def test_an_empty_split_is_refused() -> None:
    with pytest.raises(ValueError, match="num_images"):
        ScenesConfig({"train": 0})
