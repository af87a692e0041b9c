"""Corrected COCO JSON: which of its images are the labelled ones, and files that are none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from regionclip.labels.corrections import read_corrections

CONCEPTS = ("cat", "kite")
LISTED = ([4, 5], ["4.jpg", "5.jpg"])


def corrected_file(path: Path, images: list[dict[str, Any]]) -> Path:
    """Two annotations of each image, in a file at `path`."""
    of_images = [{"image_id": image["id"], "category_id": 1, "bbox": [2, 2, 10, 10]} for image in images for _ in "ab"]
    annotations = [{"id": number, **each} for number, each in enumerate(of_images, 1)]
    data = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cat"}]}
    path.write_text(json.dumps(data))
    return path


IMAGES = [{"id": 4, "file_name": "4.jpg"}, {"id": 5, "file_name": "5.jpg"}]


def test_of_images_that_share_a_file_the_id_tells(tmp_path: Path) -> None:
    path = corrected_file(tmp_path / "c.json", IMAGES)
    shared = ([4, 5, 6], ["4.jpg", "4.jpg", "5.jpg"])
    corrections = read_corrections(path, CONCEPTS, *shared)
    assert {image_id: len(of_image) for image_id, of_image in corrections.by_image.items()} == {4: 2, 6: 2}
    corrections = read_corrections(path, CONCEPTS, [7, 8, 6], shared[1])
    assert set(corrections.by_image) == {6}
    assert {reason for _, reason in corrections.rejected} == {"2 labelled images are '4.jpg' and none has its id 4"}


@pytest.mark.parametrize("name", ["0/0000-000003", "0/0000-000003.png", "0.parquet::image.bytes@0/3"])
def test_a_row_of_a_parquet_file_is_known_by_each_of_its_names(name: str, tmp_path: Path) -> None:
    path = corrected_file(tmp_path / "c.json", [{"id": 1, "file_name": name}])
    uris = ["0.parquet::image.bytes@0/2", "0.parquet::image.bytes@0/3"]
    assert set(read_corrections(path, CONCEPTS, [4, 5], uris).by_image) == {5}


def test_a_file_of_other_images_is_refused(tmp_path: Path) -> None:
    path = corrected_file(tmp_path / "c.json", IMAGES)
    with pytest.raises(ValueError, match=r"none of its 2 images is labelled; of the first, its image '4\.jpg' is not"):
        read_corrections(path, CONCEPTS, [4, 5], ["a.jpg", "b.jpg"])
    path = corrected_file(path, [*IMAGES, {"id": 4, "file_name": "5.jpg"}])
    with pytest.raises(ValueError, match="3 images have 2 ids; give each image an id of its own"):
        read_corrections(path, CONCEPTS, *LISTED)


def test_a_category_id_that_stands_twice_is_refused(tmp_path: Path) -> None:
    path = corrected_file(tmp_path / "c.json", IMAGES)
    data = json.loads(path.read_text())
    data["categories"].append({"id": 1, "name": "kite"})
    path.write_text(json.dumps(data))
    with pytest.raises(ValueError, match=r"c\.json: 2 categories have 1 ids; give each category an id of its own"):
        read_corrections(path, CONCEPTS, *LISTED)


@pytest.mark.parametrize(
    "text",
    ["", "[1]", pytest.param("[" * 100_000, id="deep"), "{}", '{"images": 3}', '{"images": [{}], "categories": []}'],
)
def test_what_is_not_coco_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(ValueError, match=r"c\.json .*give a corrected export"):
        read_corrections(tmp_path / "c.json", CONCEPTS, *LISTED)
    with pytest.raises(ValueError, match="no such file"):
        read_corrections(tmp_path / "other.json", CONCEPTS, *LISTED)
