"""`rgc proposals recall`: what it prints and records is the recall counted by hand, of folders and of parquet files."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipelines.runner import NoTracker
from pipelines.store import list_artifacts
from stages.contract import Artifact
from stages.storage import Folder

Rgc = Callable[..., Any]
FIRST, SECOND = 71, 1070
"""Ids of the images; no box is proposed in the second."""
LIMITS = (10, 100, 300, 1000)
NUM_PROPOSALS = 1101


@dataclass(frozen=True)
class Object:
    """An object as x, y and side of its square; the proposal of this rank overlaps it by this IoU, none by 0."""

    image_id: int
    square: tuple[int, int, int]
    rank: int = -1
    iou: float = 0.0


OBJECTS = (
    Object(FIRST, (10, 10, 20), rank=0, iou=1.0),
    Object(FIRST, (50, 10, 20)),
    Object(FIRST, (100, 100, 60), rank=1, iou=0.6),
    Object(FIRST, (200, 100, 60), rank=50, iou=1.0),
    Object(SECOND, (10, 10, 60)),
    Object(SECOND, (100, 10, 60)),
    Object(SECOND, (200, 10, 120)),
    Object(FIRST, (300, 100, 120), rank=200, iou=1.0),
    Object(FIRST, (450, 100, 120), rank=500, iou=0.6),
    Object(FIRST, (10, 250, 120), rank=1100, iou=1.0),
)
COUNTED = {
    (0.5, "all", 10): (0.2, 0.3, 0.4, 0.5),
    (0.5, "small", 2): (0.5, 0.5, 0.5, 0.5),
    (0.5, "medium", 4): (0.25, 0.5, 0.5, 0.5),
    (0.5, "large", 4): (0.0, 0.0, 0.25, 0.5),
    (0.75, "all", 10): (0.1, 0.2, 0.3, 0.3),
    (0.75, "small", 2): (0.5, 0.5, 0.5, 0.5),
    (0.75, "medium", 4): (0.0, 0.25, 0.25, 0.25),
    (0.75, "large", 4): (0.0, 0.0, 0.25, 0.25),
}
"""By IoU, size and number of objects the recall of the best `LIMITS` boxes: the shares of OBJECTS, counted by eye."""


def annotations(objects: Sequence[Object]) -> dict[str, Any]:
    """COCO instances of a class that no config names in both images, with a crowd that nothing covers."""
    boxes = [(each.image_id, [*each.square, each.square[2]], 0) for each in objects]
    crowd = (SECOND, [300, 300, 100, 100], 1)
    return {
        "images": [{"id": each, "file_name": f"{each}.png", "width": 640, "height": 480} for each in (FIRST, SECOND)],
        "categories": [{"id": 3, "name": "gnu"}],
        "annotations": [
            {"id": number, "image_id": image_id, "category_id": 3, "bbox": box, "iscrowd": is_crowd}
            for number, (image_id, box, is_crowd) in enumerate([*boxes, crowd], 1)
        ],
    }


def proposals() -> list[dict[str, Any]]:
    """COCO results, the worst first; a square moved by a quarter of its side overlaps itself by 0.6."""
    found = {rank: [rank % 600, 400.0, 8.0, 8.0] for rank in range(NUM_PROPOSALS)}  # on nothing
    for each in OBJECTS:
        if each.iou:
            x, y, side = each.square
            found[each.rank] = [x + (side / 4 if each.iou < 1 else 0), y, side, side]
    scored = [(1 - rank / 1200, box) for rank, box in found.items()]
    return [{"image_id": FIRST, "category_id": 3, "bbox": box, "score": score} for score, box in reversed(scored)]


def write_folder(root: Path) -> None:
    (root / "images").mkdir()
    for image_id in (FIRST, SECOND):
        Image.new("RGB", (640, 480)).save(root / "images" / f"{image_id}.png")


def write_parquet(root: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (640, 480)).save(buffer, "PNG")
    table = pa.table({"number": [SECOND, FIRST], "png": pa.array([buffer.getvalue()] * 2, pa.binary())})
    pq.write_table(table, root / "pictures.parquet")


@dataclass(frozen=True)
class Site:
    """A data folder with annotations and listed boxes, a store, and the command on them."""

    home: Path
    rgc: Rgc

    @property
    def data(self) -> Path:
        return self.home / "data"

    def recall(self, test: str, *more: str) -> Any:
        given = f"{{method: precomputed, precomputed: {{file: {self.home / 'found.json'}}}}}"
        place = "resources.stages={propose_regions: {num_workers: 0}}"
        overrides = [f"data.root={self.data}", f"data.test={test}", f"proposals={given}", place]
        sets = [part for override in overrides for part in ("--set", override)]
        return self.rgc("proposals", "recall", "--store", str(self.home / "store"), *sets, *more)

    def made(self) -> Artifact:
        return list_artifacts(Folder(str(self.home / "store")), "recall")[-1]


@pytest.fixture
def site(rgc: Rgc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setattr("pipelines.tracking.MlflowTracker", lambda *arguments: NoTracker())
    (tmp_path / "data" / "annotations").mkdir(parents=True)
    (tmp_path / "data" / "annotations" / "instances.json").write_text(json.dumps(annotations(OBJECTS)))
    (tmp_path / "found.json").write_text(json.dumps(proposals()))
    return Site(tmp_path, rgc)


def check(site: Site, outcome: Any, counted: Mapping[tuple[float, str, int], Sequence[float]]) -> None:
    """Whether these recalls, and no others, are printed and recorded."""
    assert (outcome.code, outcome.err) == (0, "")
    printed = [line.split() for line in outcome.out.splitlines()]
    shown = [
        [f"{iou:g}", size, str(number), *(f"{100 * each:.1f}" for each in row)]
        for (iou, size, number), row in counted.items()
    ]
    assert [line for line in printed if line[:1] in (["0.5"], ["0.75"]) and line[2] != "0"] == shown
    recorded = {name: value for name, value in site.made().manifest["metrics"].items() if name.startswith("recall")}
    assert recorded == pytest.approx(
        {
            f"recall{round(100 * iou)}_{limit}{'' if size == 'all' else f'_{size}'}": value
            for (iou, size, _), row in counted.items()
            for limit, value in zip(LIMITS, row, strict=True)
        }
    )


@pytest.mark.parametrize(
    ("write", "test"),
    [
        (write_folder, "{split: null}"),
        (write_parquet, "{images: '*.parquet', id_column: number, split: null}"),
    ],
)
def test_recall_is_that_counted_by_hand(site: Site, write: Callable[[Path], None], test: str) -> None:
    write(site.data)
    check(site, site.recall(test), COUNTED)


def test_another_annotation_file_is_judged_by_without_proposing_again(site: Site) -> None:
    write_folder(site.data)
    large = [each for each in OBJECTS if each.image_id == FIRST and each.square[2] == 120]
    (site.data / "annotations" / "large.json").write_text(json.dumps(annotations(large)))
    assert site.recall("{split: null}").code == 0
    before = site.made().manifest["inputs"]["proposals"]
    outcome = site.recall("{split: null}", "--instances", "annotations/large.json")
    at_half, above = (0.0, 0.0, 1 / 3, 2 / 3), (0.0, 0.0, 1 / 3, 1 / 3)
    rows = {(0.5, each, 3): at_half for each in ("all", "large")} | {
        (0.75, each, 3): above for each in ("all", "large")
    }
    check(site, outcome, rows)
    assert ["0.5", "small", "0", "-", "-", "-", "-"] in [line.split() for line in outcome.out.splitlines()]
    assert site.made().manifest["inputs"]["proposals"] == before


def test_images_that_were_only_counted_are_not_taken_for_those_of_the_annotations(site: Site) -> None:
    write_parquet(site.data)
    for more in ([], ["--set", "proposals={method: grid, precomputed: null}"]):
        outcome = site.recall("{images: '*.parquet', split: null}", *more)
        assert outcome.code == 2
        assert "name images by id, and images of the form 'parquet' are numbered as they come" in outcome.err
        assert "(id_column)" in outcome.err


def test_a_dry_run_writes_nothing_and_an_absent_file_is_named(site: Site) -> None:
    write_folder(site.data)
    planned = site.recall("{split: null}", "--dry-run")
    assert (planned.code, planned.err) == (0, "")
    assert [name in planned.out for name in ("propose_regions", "recall_proposals", "encode_regions")] == [1, 1, 0]
    assert not (site.home / "store").exists()
    absent = site.recall("{split: null}", "--instances", "annotations/absent.json")
    assert absent.code == 2
    assert "annotations/absent.json: no such file" in absent.err
