"""What people corrected, read from COCO JSON and written over the labels."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from regionclip.labels.choosing import Choice, labelled_images
from regionclip.labels.correcting import Corrected, correct
from regionclip.labels.corrections import Corrections, read_corrections
from regionclip.labels.writing import write_coco
from regionclip.schemas import region_labels

CONCEPTS = ("cat", "kite", "cup", "anchor")
BOXES = [[2.0, 2.0, 12.0, 12.0], [20.0, 4.0, 30.0, 14.5], [5.0, 5.0, 35.0, 15.0]]
IDS = [[1, 0], [2, 1], [0, 3]]
SHARES = [[0.8, 0.1], [0.7, 0.2], [0.3, 0.25]]
KEEP = [True, True, False]
LISTED = ([4, 5], ["4.jpg", "5.jpg"])


def table(keep: list[bool] | None = None) -> pa.Table:
    """Images 4 and 5, of three regions each with the same labels."""
    row = {
        "width": 40,
        "height": 20,
        "boxes": BOXES,
        "objectness": [0.0] * 3,
        "concept_ids": IDS,
        "log_probabilities": np.log(SHARES).tolist(),
        "keep": keep or KEEP,
        "pool_log_probabilities": np.log(SHARES).tolist(),
        "log_normalizer": [20.0] * 3,
        "kept_mass": [0.9, 0.9, 0.55],
        "entropy": [0.7] * 3,
        "margin": [0.7, 0.5, 0.05],
        "source": ["teacher"] * 3,
    }
    rows = [{"image_id": image_id, "uri": f"{image_id}.jpg", "sha256": "0" * 64, **row} for image_id in (4, 5)]
    return pa.Table.from_pylist(rows, schema=region_labels({"pool": "abc"}))


Change = Callable[[dict[str, Any]], object]


def exported(change: Change = lambda data: None, choice: Choice | None = None) -> dict[str, Any]:
    """The labels as they are exported, then changed."""
    choice, out = choice or Choice(), io.BytesIO()
    info = {"region_labels": "k", "everything": choice.everything, "min_score": choice.min_score}
    write_coco(out, labelled_images([table()], choice), CONCEPTS, info)
    data: dict[str, Any] = json.loads(out.getvalue())
    change(data)
    return data


@pytest.fixture
def corrected(tmp_path: Path) -> Callable[..., Corrected]:
    def take(data: dict[str, Any], absent: Any = "drop", tolerance: float = 1.0) -> Corrected:
        path = tmp_path / "corrected.json"
        path.write_text(json.dumps(data))
        corrections = read_corrections(path, CONCEPTS, *LISTED)
        taken = correct(table(), corrections, "sha256:f", tolerance, absent)
        return Corrected(taken.table, taken.counts, [*corrections.rejected, *taken.rejected])

    return take


def first_image(taken: Corrected) -> dict[str, Any]:
    row: dict[str, Any] = taken.table.to_pylist()[0]
    return row


def annotation(data: dict[str, Any], index: int) -> dict[str, Any]:
    found: dict[str, Any] = data["annotations"][index]
    return found


@pytest.mark.parametrize("choice", [Choice(), Choice(everything=True), Choice(min_score=0.75)])
def test_an_export_taken_back_unchanged_changes_nothing(choice: Choice, corrected: Any) -> None:
    taken = corrected(exported(choice=choice))
    assert taken.table.equals(table(), check_metadata=True)
    assert (set(taken.counts.values()), taken.rejected) == ({0}, [])


def test_another_concept_becomes_certain_and_the_file_its_source(corrected: Any) -> None:
    taken = corrected(exported(lambda data: annotation(data, 0).update(category_id=1)))
    row = first_image(taken)
    assert row["concept_ids"] == [[0, 1], *IDS[1:]]
    assert row["log_probabilities"][0] == [0.0, -math.inf]
    assert row["pool_log_probabilities"][0] == pytest.approx([math.log(0.1), math.log(0.8)])
    assert (row["source"], row["keep"]) == (["sha256:f", "teacher", "teacher"], KEEP)
    assert math.isnan(row["margin"][0])
    assert taken.counts == {"relabelled": 1, "dropped": 0, "added": 0}
    assert taken.table.slice(1).equals(table().slice(1))


def test_a_concept_that_was_not_stored_takes_the_last_place(corrected: Any) -> None:
    row = first_image(corrected(exported(lambda data: annotation(data, 0).update(category_id=4))))
    assert row["concept_ids"][0] == [3, 1]
    assert math.isnan(row["pool_log_probabilities"][0][0])
    assert row["pool_log_probabilities"][0][1] == pytest.approx(math.log(0.8))
    assert row["kept_mass"][0] == pytest.approx(0.8)


def test_a_removed_annotation_is_no_longer_kept_unless_absence_says_nothing(corrected: Any) -> None:
    without = exported(lambda data: data["annotations"].pop(0))
    taken = corrected(without)
    assert first_image(taken)["keep"] == [False, True, False]
    assert first_image(taken)["source"][0] == "sha256:f"
    assert taken.counts["dropped"] == 1
    assert corrected(without, absent="keep").table.equals(table())


def test_what_was_not_shown_is_not_missed(corrected: Any) -> None:
    few = exported(choice=Choice(min_score=0.75))
    assert len(few["annotations"]) == 2
    assert corrected(few).table.equals(table())
    few["info"] = {}
    assert corrected(few).counts["dropped"] == 2


def test_an_image_that_the_file_does_not_list_stays_as_it_is(corrected: Any) -> None:
    def forget(data: dict[str, Any]) -> None:
        data["images"] = data["images"][:1]
        data["annotations"] = []

    taken = corrected(exported(forget))
    assert [row["keep"] for row in taken.table.to_pylist()] == [[False] * 3, KEEP]


def test_a_box_may_move_by_a_pixel_and_no_more(corrected: Any) -> None:
    def moved(by: float) -> Corrected:
        box = [BOXES[1][0] + by, 4.0, 10.0, 10.5]
        taken: Corrected = corrected(exported(lambda data: annotation(data, 1).update(bbox=box, category_id=2)))
        return taken

    assert first_image(moved(1.0))["concept_ids"][1] == [1, 2]
    assert first_image(moved(1.0))["boxes"] == BOXES
    ((item, reason),) = moved(1.2).rejected
    assert item == "corrected.json: annotation 2 of image 4"
    assert reason == "no region within 1 pixels"
    assert moved(1.2).table.equals(table())


def test_the_nearest_annotation_gets_the_region(corrected: Any) -> None:
    def doubled(data: dict[str, Any]) -> None:
        far = {**annotation(data, 0), "id": 90, "bbox": [2.9, 2, 10, 10], "category_id": 3}
        data["annotations"].insert(0, far)

    taken = corrected(exported(doubled))
    assert taken.rejected == [("corrected.json: annotation 90 of image 4", "another annotation is of the same region")]
    assert taken.table.equals(table())


def test_an_annotation_on_a_region_that_was_not_kept_keeps_it(corrected: Any) -> None:
    def add(data: dict[str, Any]) -> None:
        data["annotations"].append({"id": 50, "image_id": 4, "category_id": 1, "bbox": [5, 5, 30, 10]})

    taken = corrected(exported(add))
    assert first_image(taken)["keep"] == [True, True, True]
    assert first_image(taken)["log_probabilities"][2] == pytest.approx(np.log(SHARES[2]))
    assert taken.counts == {"relabelled": 0, "dropped": 0, "added": 1}


@pytest.mark.parametrize(("keep", "expected"), [(True, True), (False, False)])
def test_where_everything_is_shown_keep_is_what_the_annotation_says(keep: bool, expected: bool, corrected: Any) -> None:
    data = exported(lambda data: [each.update(keep=keep) for each in data["annotations"]], Choice(everything=True))
    assert first_image(corrected(data))["keep"] == [expected] * 3


def test_keep_is_what_the_annotation_says_where_the_file_lost_what_it_shows(corrected: Any) -> None:
    taken = corrected(exported(lambda data: data.pop("info"), Choice(everything=True)))
    assert taken.table.equals(table())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"category_id": 77}, "category_id 77 is not among the file's categories"),
        ({"category_id": [1]}, "category_id [1] is not among the file's categories"),
        ({"category_id": 5}, "'zebra' is not in the pool"),
        ({"image_id": 6}, "the file does not list its image"),
        ({"bbox": [1, 2, 3]}, "is not four numbers"),
        ({"bbox": [1, 2, 3, math.nan]}, "is not four numbers"),
        ({"bbox": [1, 2, 3, 10**400]}, "is not four numbers"),
        ({"keep": "yes"}, "keep 'yes' is neither true nor false"),
    ],
)
def test_an_annotation_that_says_nothing_is_rejected_with_the_reason(
    change: dict[str, Any], reason: str, corrected: Any
) -> None:
    def wrong(data: dict[str, Any]) -> None:
        data["categories"].append({"id": 5, "name": "zebra"})
        data["annotations"].append({"id": 60, "image_id": 4, "category_id": 1, "bbox": BOXES[0], **change})

    ((item, found),) = corrected(exported(wrong)).rejected
    assert item.startswith("corrected.json: annotation 60 of image")
    assert reason in found


@pytest.mark.parametrize("keeps_ids", [True, False])
@pytest.mark.parametrize(
    "change",
    [
        {"bbox": [25, 4, 10, 10.5]},
        {"bbox": [29.5, 14, 10, 5]},
        {"category_id": 5},
        {"category_id": 77},
        {"keep": "yes"},
    ],
)
def test_a_region_whose_correction_is_rejected_stays_and_one_without_annotation_is_dropped(
    change: dict[str, Any], keeps_ids: bool, corrected: Any
) -> None:
    def wrong(data: dict[str, Any]) -> None:
        data["categories"].append({"id": 5, "name": "zebra"})
        annotation(data, 1).update(change)
        del data["annotations"][0]
        for number, each in enumerate(data["annotations"], 1):
            each["id"] = each["id"] if keeps_ids else number

    taken = corrected(exported(wrong))
    assert first_image(taken)["keep"] == [False, True, False]
    assert (taken.counts["dropped"], len(taken.rejected)) == (1, 1)
    assert taken.table.slice(1).equals(table().slice(1))


@pytest.mark.parametrize("bbox", [[0, 17, 3, 3], [1, 2, 3]])
def test_a_box_far_from_all_regions_is_of_the_one_that_its_id_names(bbox: list[float], corrected: Any) -> None:
    assert corrected(exported(lambda data: annotation(data, 1).update(bbox=bbox))).table.equals(table())
    renumbered = corrected(exported(lambda data: annotation(data, 1).update(bbox=bbox, id=90)))
    assert first_image(renumbered)["keep"] == [True, False, False]


def test_of_two_annotations_on_one_region_the_rejected_one_spares_no_other(corrected: Any) -> None:
    def doubled(data: dict[str, Any]) -> None:
        annotation(data, 1).update(bbox=annotation(data, 0)["bbox"])

    assert first_image(corrected(exported(doubled)))["keep"] == [True, False, False]


def renumber(data: dict[str, Any]) -> None:
    """Number images from 5 down, as no labelled image is."""
    ids = {4: 5, 5: 1}
    for image in data["images"]:
        image["id"] = ids[image["id"]]
    for each in data["annotations"]:
        each["image_id"] = ids[each["image_id"]]


@pytest.mark.parametrize("names", [("uri", "file_name"), ("uri",), ("file_name",)])
def test_images_are_known_by_name_whatever_their_ids(names: tuple[str, ...], tmp_path: Path, corrected: Any) -> None:
    def change(data: dict[str, Any]) -> None:
        renumber(data)
        annotation(data, 0).update(category_id=1)
        for image in data["images"]:
            for name in {"uri", "file_name"} - set(names):
                del image[name]

    taken = corrected(exported(change))
    assert first_image(taken)["concept_ids"][0] == [0, 1]
    assert (taken.counts, taken.rejected) == ({"relabelled": 1, "dropped": 0, "added": 0}, [])
    assert taken.table.slice(1).equals(table().slice(1))
    assert read_corrections(tmp_path / "corrected.json", CONCEPTS, *LISTED).num_renumbered == 2


def test_a_file_without_names_goes_by_ids(corrected: Any) -> None:
    def change(data: dict[str, Any]) -> None:
        annotation(data, 0).update(category_id=1)
        data["images"] = [{"id": image["id"]} for image in data["images"]]

    assert corrected(exported(change)).counts == {"relabelled": 1, "dropped": 0, "added": 0}


def test_nothing_of_an_image_of_another_name_is_taken(corrected: Any) -> None:
    def rename(data: dict[str, Any]) -> None:
        data["images"][0] = {"id": 4, "file_name": "x/4.jpg"}
        annotation(data, 0).update(category_id=1)

    taken = corrected(exported(rename))
    assert taken.table.equals(table())
    assert {reason for _, reason in taken.rejected} == {
        "its image 'x/4.jpg' is not labelled; give the name it was exported with, or only its id"
    }


def test_labels_without_evidence_are_refused() -> None:
    bare = table().drop_columns(["margin"])
    with pytest.raises(ValueError, match="have no margin; label the regions again"):
        correct(bare, Corrections({}), "sha256:f", 1.0, "drop")
