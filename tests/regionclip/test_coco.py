"""COCO files: what is read, and that each fault gets one message naming the thing and the value."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from regionclip import schemas
from regionclip.coco import (
    BOX_TOLERANCE,
    Rows,
    check_image_files,
    check_rejected,
    dataset_folder,
    read_coco_boxes,
    read_coco_images,
)

DATA: dict[str, Any] = {
    "images": [
        {"id": 7, "file_name": "seven.jpg", "width": 100, "height": 50, "split": "train"},
        {"id": 3, "file_name": "three.jpg", "width": 40, "height": 60, "split": "val"},
    ],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 9, "bbox": [10, 5, 20, 30], "iscrowd": 0, "caption": "a dog"},
        {"id": 2, "image_id": 3, "category_id": 4, "bbox": [0, 0, 40, 60], "iscrowd": 1, "caption": "a cat"},
    ],
    "categories": [{"id": 9, "name": "dog"}, {"id": 4, "name": "cat"}],
}


def write(folder: Path, data: object = DATA, name: str = "data.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(data))
    return path


def changed(where: str, index: int, **values: object) -> dict[str, Any]:
    data = copy.deepcopy(DATA)
    data[where][index].update(values)
    return data


def test_images_come_in_file_order_with_the_schema(tmp_path: Path) -> None:
    images = read_coco_images(write(tmp_path))
    assert images.schema.equals(schemas.IMAGES)
    assert images.to_pylist()[0] == {"image_id": 7, "file_name": "seven.jpg", "width": 100, "height": 50}
    assert images["image_id"].to_pylist() == [7, 3]


def test_a_split_selects_images_and_boxes(tmp_path: Path) -> None:
    path = write(tmp_path)
    assert read_coco_images(path, "val")["image_id"].to_pylist() == [3]
    assert read_coco_boxes(path, "val")[0].table["category"].to_pylist() == ["cat"]


def test_boxes_are_xyxy_with_classes_by_category_id(tmp_path: Path) -> None:
    rows, classes = read_coco_boxes(write(tmp_path))
    assert rows.table.schema.equals(schemas.BOXES)
    assert rows.table.to_pylist()[0] == {"image_id": 7, "category": "dog", "box": [10, 5, 30, 35], "is_crowd": False}
    assert rows.table["is_crowd"].to_pylist() == [False, True]
    assert classes == ["cat", "dog"]


def test_only_boxes_of_kept_classes_are_read(tmp_path: Path) -> None:
    rows, classes = read_coco_boxes(write(tmp_path), classes=("dog",))
    assert set(rows.table["category"].to_pylist()) == {"dog"}
    assert classes == ["dog"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "a JSON list, not a COCO object"),
        ({"images": "many"}, "no list of records 'images'"),
        ({**DATA, "images": []}, "empty dataset, its list 'images'"),
        (changed("images", 1, id=7), "image id 7 stands twice"),
        (changed("images", 1, id="3"), "the id '3'"),
        (changed("images", 1, width=0), "image 3 has the width 0"),
        (changed("images", 1, file_name=""), "image 3 has no 'file_name'"),
        ({**DATA, "annotations": []}, "empty dataset, its list 'annotations'"),
        (changed("annotations", 1, id=1), "annotation id 1 stands twice"),
        (changed("annotations", 1, image_id=8), "annotation 2 has image_id 8, which 'images' does not list"),
        (changed("annotations", 1, image_id=[7]), r"annotation 2 has image_id \[7\], which 'images' does not list"),
        (changed("annotations", 1, category_id=5), "annotation 2 has category_id 5"),
        (
            changed("annotations", 1, category_id=[4]),
            r"annotation 2 has category_id \[4\], which 'categories' does not",
        ),
        (changed("categories", 1, name="dog"), "category 4 'dog' stands twice"),
    ],
)
def test_a_faulty_file_is_refused_by_name(tmp_path: Path, data: object, message: str) -> None:
    path = write(tmp_path, data)
    with pytest.raises(ValueError, match=message) as error:
        read_coco_boxes(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_and_an_unparsable_file_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.json: no such file"):
        read_coco_images(tmp_path / "none.json")
    for text in ('{"images": [', '{"images": ' + "[" * 100_000):
        (tmp_path / "half.json").write_text(text)
        with pytest.raises(ValueError, match=r"half\.json: not JSON"):
            read_coco_images(tmp_path / "half.json")


def test_an_unknown_class_gets_close_names(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown class 'dogs'; did you mean dog"):
        read_coco_boxes(write(tmp_path), classes=("dogs",))
    with pytest.raises(ValueError, match="unknown class 'cow' and 1 more, none is known; did you mean cat, dog"):
        read_coco_boxes(write(tmp_path), classes=("cow", "elk"))


def test_a_class_may_be_absent_where_another_is_known(tmp_path: Path) -> None:
    rows, classes = read_coco_boxes(write(tmp_path), classes=("elk", "dogs", "dog"))
    assert classes == ["dog", "elk", "dogs"]
    assert rows.table["category"].to_pylist() == ["dog"]
    assert rows.remarks == ["data.json does not know 2 of 3 classes: 'elk', 'dogs' (did you mean 'dog'?)"]
    assert read_coco_boxes(write(tmp_path), classes=("dog",))[0].remarks == []


def test_a_split_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no image has the split 'test'; choose one of train, val"):
        read_coco_images(write(tmp_path), "test")
    data = copy.deepcopy(DATA)
    del data["images"][1]["split"]
    with pytest.raises(ValueError, match="split 'val' is asked but image 3 has no 'split'"):
        read_coco_images(write(tmp_path, data), "val")


@pytest.mark.parametrize(
    ("bbox", "reason"),
    [
        ([10, 5, 0, 30], "no positive width"),
        ([10, 5, 20, -3], "no positive width"),
        ([90, 5, 11.5, 10], "outside its image of 100 x 50"),
        ([-1.5, 5, 10, 10], "outside its image"),
        ([100.5, 5, 0.25, 10], "outside its image"),
        ([1, 2, 3], "not four numbers"),
        ([float("nan"), 0, 5, 5], "not four numbers"),
        ([0, 0, 10**400, 5], "not four numbers"),
    ],
)
def test_a_box_that_fits_no_image_is_left_out_with_its_reason(tmp_path: Path, bbox: list[float], reason: str) -> None:
    rows, _ = read_coco_boxes(write(tmp_path, changed("annotations", 0, bbox=bbox)))
    assert rows.table.num_rows == 1
    [(item, why)] = rows.rejected
    assert "annotation 1 of image 7" in item
    assert reason in why


def test_a_small_overshoot_is_clipped(tmp_path: Path) -> None:
    rows, _ = read_coco_boxes(write(tmp_path, changed("annotations", 0, bbox=[-0.5, -1, 101, 51.75])))
    assert rows.table["box"][0].as_py() == [0, 0, 100, 50]


side = st.floats(-BOX_TOLERANCE, 100, width=32)


@given(st.tuples(side, side, st.floats(2**-10, 102, width=32), st.floats(2**-10, 102, width=32)))
@example((0.0, -1.0, 1.0, 1.0))
@settings(max_examples=60, deadline=None)
def test_every_box_read_lies_in_its_image_and_has_area(
    tmp_path_factory: pytest.TempPathFactory, bbox: tuple[float, ...]
) -> None:
    data = changed("annotations", 0, bbox=list(bbox))
    rows, _ = read_coco_boxes(write(tmp_path_factory.mktemp("coco"), data), classes=("dog",))
    x, y, width, height = bbox
    if rows.rejected:
        inside = min(100 - x, 50 - y, x + width, y + height)
        assert min(inside, 100 + BOX_TOLERANCE - x - width, 50 + BOX_TOLERANCE - y - height) < 1e-4
        return
    x1, y1, x2, y2 = rows.table["box"][0].as_py()
    assert 0 <= x1 < x2 <= 100
    assert 0 <= y1 < y2 <= 50
    assert np.allclose([x1, y1, x2, y2], [x, y, x + width, y + height], atol=BOX_TOLERANCE + 1e-4)


def test_rejected_rows_stop_the_reading_only_above_the_allowed_share() -> None:
    rows = Rows(schemas.rejected_table([("kept", "row")] * 9), [("line 4", "broken")])
    check_rejected(rows, 0.1)
    with pytest.raises(ValueError, match=r"line 4: broken \(1 of 10 rows are like that\).*max_rejected_fraction"):
        check_rejected(rows, 0.09)


def test_a_missing_image_file_is_named(tmp_path: Path) -> None:
    images = read_coco_images(write(tmp_path))
    (tmp_path / "seven.jpg").touch()
    with pytest.raises(ValueError, match=r"1 of 2 image files are missing, first is three\.jpg"):
        check_image_files(images, tmp_path)
    (tmp_path / "three.jpg").touch()
    check_image_files(images, tmp_path)


def test_a_source_takes_a_root_or_a_dataset(tmp_path: Path) -> None:
    here = str(tmp_path)
    assert dataset_folder(here, None) == dataset_folder(None, here) == here
    for root, dataset in ((None, None), (here, here)):
        with pytest.raises(ValueError, match="give one of the two"):
            dataset_folder(root, dataset)
    with pytest.raises(ValueError, match="no such data folder"):
        dataset_folder(str(tmp_path / "none"), None)


def test_a_root_is_a_path_or_a_uri(tmp_path: Path) -> None:
    assert dataset_folder(tmp_path.as_uri(), None) == str(tmp_path)
    for none in ("file:///none/at/all", "memory://none/at/all"):
        with pytest.raises(ValueError, match=rf"^{none}: no such data folder"):
            dataset_folder(none, None)
    with pytest.raises(ValueError, match=r"^nosuch://x: .*install the fsspec driver"):
        dataset_folder("nosuch://x", None)


@pytest.mark.parametrize("name", ["/etc/passwd", "../other/1.jpg", "a/../../1.jpg", "s3://bucket/1.jpg"])
def test_names_of_images_stay_below_their_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"image 3 has the file_name '{name}'; give one below the image folder"):
        read_coco_images(write(tmp_path, changed("images", 1, file_name=name)))


def test_real_photos_are_read_whole(shared: Path) -> None:
    mini = shared / "data" / "coco_mini"
    images = read_coco_images(mini / "annotations" / "instances.json")
    check_image_files(images, mini / "images")
    rows, classes = read_coco_boxes(mini / "annotations" / "instances.json")
    assert (images.num_rows, rows.table.num_rows, len(rows.rejected), len(classes)) == (130, 1061, 0, 80)
    assert read_coco_images(mini / "annotations" / "instances.json", "train2017").num_rows == 37
