import contextlib
import io
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from regionclip.evaluation import ScoredBoxes, TrueBoxes, average_precision, box_accuracy

CLASSES = ("cat", "dog", "cup", "tree")
GROUPS = {"base": ("cat", "dog"), "novel": ("cup", "tree")}


def true(*rows: tuple[str, Sequence[float]], crowd: Sequence[bool] | None = None) -> TrueBoxes:
    return TrueBoxes(np.array([box for _, box in rows]).reshape(-1, 4), [name for name, _ in rows], crowd)


def scored(*rows: tuple[str, float, Sequence[float]]) -> ScoredBoxes:
    boxes = np.array([box for _, _, box in rows]).reshape(-1, 4)
    return ScoredBoxes(boxes, [name for name, _, _ in rows], [score for _, score, _ in rows])


def case(seed: int = 0) -> tuple[dict[int, TrueBoxes], dict[int, ScoredBoxes]]:
    """Images 0 to 11 with boxes of three classes, some of them crowds, and detections that are near them."""
    rng = np.random.default_rng(seed)
    truth, found = {}, {}
    for image in range(12):
        count = int(rng.integers(0, 5))
        corners = rng.uniform(0, 60, (count, 2))
        boxes = np.concatenate((corners, corners + rng.uniform(10, 40, (count, 2))), axis=1)
        names = [CLASSES[i] for i in rng.integers(0, 3, count)]
        truth[image] = TrueBoxes(boxes, names, (rng.random(count) < 0.15).tolist())
        noisy = np.concatenate((boxes, boxes)) + rng.normal(0, 3, (2 * count, 4))
        if image % 5:
            found[image] = ScoredBoxes(noisy, [*names, *names[1:], *names[:1]], rng.random(2 * count).tolist())
    return truth, found


def direct(truth: dict[int, TrueBoxes], found: dict[int, ScoredBoxes], max_detections: int) -> tuple[float, ...]:
    """AP, AP50 and AP75 as pycocotools summarises the files that a user would write by hand."""

    def rows(of: dict[int, Any]) -> list[dict[str, Any]]:
        listed = []
        for image, row in of.items():
            for index, (box, name) in enumerate(zip(row.boxes.tolist(), row.categories, strict=True)):
                x1, y1, x2, y2 = box
                entry = {"image_id": image, "category_id": CLASSES.index(name) + 1, "bbox": [x1, y1, x2 - x1, y2 - y1]}
                if isinstance(row, TrueBoxes):
                    crowd = int(bool(row.is_crowd and row.is_crowd[index]))
                    entry |= {"id": len(listed) + 1, "area": (x2 - x1) * (y2 - y1), "iscrowd": crowd}
                else:
                    entry["score"] = row.scores[index]
                listed.append(entry)
        return listed

    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        categories = [{"id": number + 1, "name": name} for number, name in enumerate(CLASSES)]
        coco.dataset = {"images": [{"id": i} for i in truth], "categories": categories, "annotations": rows(truth)}
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(rows(found)), "bbox")
        evaluation.params.maxDets = [max_detections]
        evaluation.evaluate()
        evaluation.accumulate()
        precision = evaluation.eval["precision"][:, :, :, 0, 0]
    return tuple(float(chosen[chosen > -1].mean()) for chosen in (precision, precision[0], precision[5]))


@pytest.mark.parametrize("max_detections", [1, 2, 100])
def test_average_precision_is_that_of_pycocotools(max_detections: int) -> None:
    truth, found = case()
    metrics = average_precision(truth, found, CLASSES, max_detections=max_detections)
    expected = direct(truth, found, max_detections)
    assert (metrics["AP_all"], metrics["AP50_all"], metrics["AP75_all"]) == pytest.approx(expected, abs=1e-12)
    assert 0 < metrics["AP_all"] < 1


def test_published_figures_are_reproduced(shared: Path) -> None:
    folder = shared / "data" / "metrics" / "coco"
    annotations = json.loads((folder / "instances_val2014_100.json").read_text())
    results = json.loads((folder / "instances_val2014_fakebbox100_results.json").read_text())
    names = {category["id"]: category["name"] for category in annotations["categories"]}
    true_rows, found_rows = defaultdict(list), defaultdict(list)
    for of, rows in ((true_rows, annotations["annotations"]), (found_rows, results)):
        for row in rows:
            x, y, w, h = row["bbox"]
            of[row["image_id"]].append((names[row["category_id"]], row, (x, y, x + w, y + h)))
    truth = {
        image["id"]: true(
            *((name, box) for name, _, box in true_rows[image["id"]]),
            crowd=[row["iscrowd"] for _, row, _ in true_rows[image["id"]]],
        )
        for image in annotations["images"]
    }
    found = {i: scored(*((name, row["score"], box) for name, row, box in rows)) for i, rows in found_rows.items()}
    metrics = average_precision(truth, found, list(names.values()))
    assert metrics["AP_all"] == pytest.approx(0.5045806987, abs=1e-9)
    assert metrics["AP50_all"] == pytest.approx(0.6969727247, abs=1e-9)
    assert metrics["AP75_all"] == pytest.approx(0.5729816670, abs=1e-9)


def test_groups_average_their_own_classes_and_skip_those_without_truth() -> None:
    truth = {
        1: true(("cat", (0, 0, 10, 10)), ("dog", (20, 0, 30, 10))),
        2: true(("cup", (0, 0, 10, 10))),
        3: true(),
    }
    found = {
        1: scored(("cat", 0.9, (0, 0, 10, 10)), ("dog", 0.8, (60, 60, 70, 70))),
        2: scored(("cup", 0.9, (0, 0, 10, 7)), ("tree", 0.9, (0, 0, 10, 10))),
    }
    metrics = average_precision(truth, found, CLASSES, GROUPS)
    assert metrics["AP50_base"] == pytest.approx(0.5)
    assert metrics["AP50_novel"] == pytest.approx(1.0)
    assert metrics["AP75_novel"] == pytest.approx(0.0)
    assert metrics["AP_novel"] == pytest.approx(0.5)  # IoU .7 passes five of ten thresholds
    assert metrics["AP50_all"] == pytest.approx(2 / 3)
    without_novel = average_precision({1: truth[1]}, {1: found[1]}, CLASSES, GROUPS)
    assert set(without_novel) == {f"{ap}_{group}" for ap in ("AP", "AP50", "AP75") for group in ("base", "all")}


def test_a_detection_on_a_crowd_does_not_count() -> None:
    truth = {1: true(("cat", (0, 0, 10, 10)), ("cat", (50, 50, 90, 90)), crowd=[False, True])}
    found = {1: scored(("cat", 0.9, (52, 52, 60, 60)), ("cat", 0.5, (0, 0, 10, 10)))}
    assert average_precision(truth, found, CLASSES)["AP50_all"] == pytest.approx(1.0)


def test_no_detections_give_zero() -> None:
    truth, _ = case()
    assert average_precision(truth, {}, CLASSES)["AP_all"] == 0


def test_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    average_precision(*case(), CLASSES)
    assert capsys.readouterr().out == ""


def test_what_the_ground_truth_does_not_know_is_refused() -> None:
    truth = {1: true(("cat", (0, 0, 10, 10)))}
    box = (0, 0, 10, 10)
    with pytest.raises(ValueError, match="first is 7"):
        average_precision(truth, {7: scored(("cat", 0.9, box))}, CLASSES)
    with pytest.raises(ValueError, match=r"image 1: 'lion'"):
        average_precision(truth, {1: scored(("lion", 0.9, box))}, CLASSES)
    with pytest.raises(ValueError, match=r"image 1: 'lion'"):
        average_precision({1: true(("lion", box))}, {}, CLASSES)
    with pytest.raises(ValueError, match=r"group 'novel': 'lion'"):
        average_precision(truth, {}, CLASSES, {"novel": ["lion"]})
    with pytest.raises(ValueError, match="3 classes, of which 2"):
        average_precision(truth, {}, ["cat", "dog", "cat"])


def test_box_accuracy_counts_by_the_group_of_the_true_name() -> None:
    labels = ["cat", "cat", "dog", "cup"]
    accuracy = box_accuracy(["cat", "dog", "dog", "cat"], labels, GROUPS)
    assert accuracy == pytest.approx({"box_accuracy_base": 2 / 3, "box_accuracy_novel": 0.0, "box_accuracy_all": 0.5})
    assert set(box_accuracy(["cup"], ["cat"], GROUPS)) == {"box_accuracy_base", "box_accuracy_all"}


def test_box_accuracy_refuses_unequal_lengths_and_unknown_labels() -> None:
    with pytest.raises(ValueError, match="2 predicted names for 1"):
        box_accuracy(["cat", "dog"], ["cat"], GROUPS)
    with pytest.raises(ValueError, match="'lion'"):
        box_accuracy(["cat"], ["lion"], GROUPS)
