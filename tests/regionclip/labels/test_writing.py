"""Labelled images as files of other tools, read back the way those tools do."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pycocotools.coco import COCO

from regionclip.labels.choosing import Choice, file_names, labelled_images
from regionclip.labels.writing import CLASSES, URIS, odvg_label_map, write_coco, write_odvg, write_yolo
from regionclip.schemas import REGION_LABELS

CONCEPTS = ("cat", "red kite", "cup")
NAMES = {7: "a/seven.jpg", 9: "nine.png"}


def image(
    image_id: int, *regions: tuple[list[float], list[int], float, bool], names: dict[int, str] = NAMES
) -> pa.Table:
    """A row of 40 x 20 pixels; a region is its box, concepts, score of the first and keep."""
    row = {
        "image_id": image_id,
        "uri": names[image_id],
        "sha256": "0" * 64,
        "width": 40,
        "height": 20,
        "boxes": [box for box, *_ in regions],
        "objectness": [0.0 for _ in regions],
        "concept_ids": [ids for _, ids, _, _ in regions],
        "log_probabilities": [[math.log(score), math.log(1 - score)] for _, _, score, _ in regions],
        "keep": [keep for *_, keep in regions],
    }
    return pa.Table.from_pylist([row], schema=REGION_LABELS)


FIRST = image(7, ([4, 2, 12, 10], [1, 0], 0.75, True), ([0, 0, 40, 20], [2, 0], 0.5, False))
SECOND = image(9, ([10.25, 5, 20, 15], [0, 2], 0.625, True))
EMPTY = image(9, ([0, 0, 4, 4], [0, 1], 0.5, False))


def coco(*tables: pa.Table, choice: Choice | None = None) -> dict[str, Any]:
    out = io.BytesIO()
    write_coco(out, labelled_images(tables, choice or Choice()), CONCEPTS, {"region_labels": "k"})
    written: dict[str, Any] = json.loads(out.getvalue())
    return written


def test_coco_has_the_kept_regions_with_score_and_concept() -> None:
    written = coco(FIRST, SECOND)
    assert [(each["id"], each["image_id"], each["category_id"]) for each in written["annotations"]] == [
        (1, 7, 2),
        (3, 9, 1),
    ]
    first = written["annotations"][0]
    assert (first["bbox"], first["area"], first["score"], first["concept"]) == ([4, 2, 8, 8], 64, 0.75, "red kite")
    assert written["categories"][2] == {"id": 3, "name": "cup"}
    assert written["images"][0] == {
        **{"id": 7, "file_name": "a/seven.jpg", "uri": "a/seven.jpg"},
        **{"width": 40, "height": 20},
    }
    assert written["info"] == {"region_labels": "k"}


def test_the_coco_tools_read_it(tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text(json.dumps(coco(FIRST, SECOND)))
    read = COCO(str(tmp_path / "labels.json"))
    assert read.loadAnns(read.getAnnIds(imgIds=[9], catIds=[1]))[0]["bbox"] == [10.25, 5, 9.75, 10]


def test_everything_and_a_least_score_choose_other_regions() -> None:
    def numbers(choice: Choice) -> list[int]:
        return [each["id"] for each in coco(FIRST, SECOND, choice=choice)["annotations"]]

    assert numbers(Choice(everything=True)) == [1, 2, 3]
    assert numbers(Choice(min_score=0.7)) == [1]
    assert numbers(Choice(everything=True, min_score=0.6)) == [1, 3]
    with pytest.raises(ValueError, match=r"min_score 1\.5 is no probability"):
        Choice(min_score=1.5)


def test_an_image_without_regions_stays_listed() -> None:
    written = coco(EMPTY, FIRST)
    assert ([each["id"] for each in written["images"]], len(written["annotations"])) == ([9, 7], 1)
    assert coco(EMPTY)["annotations"] == []


def test_yolo_lines_are_fractions_of_the_image() -> None:
    files: dict[str, str] = {}
    written = write_yolo(files.__setitem__, labelled_images([FIRST, SECOND], Choice()), CONCEPTS)
    assert files[CLASSES].splitlines() == list(CONCEPTS)
    name, *numbers = files["labels/a/seven.txt"].split()
    assert (name, [float(number) for number in numbers]) == ("1", [0.2, 0.3, 0.2, 0.4])
    assert (written, set(files)) == ((2, 2), {CLASSES, URIS, "labels/a/seven.txt", "labels/nine.txt"})
    assert json.loads(files[URIS]) == {"labels/a/seven.txt": "a/seven.jpg", "labels/nine.txt": "nine.png"}


def test_yolo_keeps_boxes_inside_the_image_and_says_which_image_has_none() -> None:
    files: dict[str, str] = {}
    over = image(7, ([-4, 0, 44, 20], [0, 1], 0.5, True))
    write_yolo(files.__setitem__, labelled_images([over, EMPTY], Choice()), CONCEPTS)
    assert files["labels/a/seven.txt"].split() == ["0", "0.500000", "0.500000", "1.000000", "1.000000"]
    assert files["labels/nine.txt"] == ""


def test_yolo_refuses_two_images_of_one_file() -> None:
    images = labelled_images([image(7, names={7: "nine.jpg"}), SECOND], Choice())
    with pytest.raises(ValueError, match=r"nine\.png and nine\.jpg would share labels/nine\.txt"):
        write_yolo(lambda name, text: None, images, CONCEPTS)


def test_odvg_has_a_line_an_image_with_corners_and_a_map_of_labels() -> None:
    out = io.BytesIO()
    write_odvg(out, labelled_images([FIRST, EMPTY], Choice()), CONCEPTS)
    (line,) = [json.loads(line) for line in out.getvalue().splitlines()]
    assert (line["filename"], line["uri"]) == ("a/seven.jpg", "a/seven.jpg")
    assert (line["height"], line["width"]) == (20, 40)
    (instance,) = line["detection"]["instances"]
    assert instance == {"bbox": [4, 2, 12, 10], "label": 1, "category": "red kite", "score": 0.75}
    assert json.loads(odvg_label_map(CONCEPTS)) == {"0": "cat", "1": "red kite", "2": "cup"}


PACKED = {
    "s/00000.tar::0000.jpg@512+9": "s/00000/0000.jpg",
    "s/00000.tar::sub/0000.jpg@999+9": "s/00000/sub/0000.jpg",
    "s/00000.tar::../..//./0000.jpg@2048+9": "s/00000/0000~2.jpg",
    "s/00000.tar::/etc/a:b?.png@4096+9": "s/00000/etc/a_b_.png",
    "0.parquet::image.bytes@0/3": "0/0000-000003",
    "0.parquet::image.bytes@12/3": "0/0012-000003",
    "plain: b.jpg": "plain: b.jpg",
}


def test_images_that_are_parts_of_files_get_names_that_are_theirs_alone() -> None:
    assert dict(zip(PACKED, file_names(PACKED), strict=True)) == PACKED
    assert file_names(["a.jpg", "a.jpg"]) == ["a.jpg", "a.jpg"]
    assert file_names(["a/b.tar::c.jpg@1+1", "a.tar::b/c.jpg@1+1"]) == ["a/b/c.jpg", "a/b/c~2.jpg"]


@pytest.mark.parametrize("uri", PACKED)
def test_packed_images_leave_under_that_name_with_their_uri(uri: str) -> None:
    table = image(7, ([4, 2, 12, 10], [1, 0], 0.75, True), names={7: uri})
    (record,) = coco(table)["images"]
    assert (record["file_name"], record["uri"]) == (file_names([uri])[0], uri)
    files: dict[str, str] = {}
    write_yolo(files.__setitem__, labelled_images([table], Choice()), CONCEPTS)
    (name,) = set(files) - {CLASSES, URIS}
    assert json.loads(files[URIS]) == {name: uri}
    assert "::" not in name
    assert ".." not in name
