"""Images that vanish between being listed and being encoded: the run says which, keeps the rest, and goes on later."""

from __future__ import annotations

import io
import json
import re
import shutil
import tarfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.store import list_artifacts
from stages import encode_regions
from stages.contract import MANIFEST, Artifact
from stages.parts import process_parts, read_table
from stages.storage import Folder

SETS = ("proposals={method: random, random_boxes: 5}", "regions.part_size=2")
Sample = tuple[str, bytes, str]
Vanishing = Callable[[Path, int], AbstractContextManager[Path]]


def as_folder(data: Path, sound: Path, samples: list[Sample]) -> tuple[str, Path]:
    shutil.copytree(sound, data, dirs_exist_ok=True)
    return "{split: train}", data / "images" / f"{samples[9][0]}.jpg"


def as_tars(data: Path, sound: Path, samples: list[Sample]) -> tuple[str, Path]:
    for number in range(2):
        with tarfile.open(data / f"{number}.tar", "w") as tar:
            for name, image, caption in samples[8 * number : 8 * number + 8]:
                for suffix, content in (("jpg", image), ("txt", caption.encode())):
                    member = tarfile.TarInfo(f"{name}.{suffix}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    return "{images: '*.tar', captions: '*.tar', format: webdataset, split: null}", data / "1.tar"


def as_tables(data: Path, sound: Path, samples: list[Sample]) -> tuple[str, Path]:
    for number in range(2):
        _, images, captions = zip(*samples[8 * number : 8 * number + 8], strict=True)
        table = pa.table({"jpg": pa.array(images, pa.binary()), "caption": captions})
        pq.write_table(table, data / f"{number}.parquet", row_group_size=3)
    return "{images: '*.parquet', captions: '*.parquet', format: parquet, split: null}", data / "1.parquet"


@pytest.fixture(params=[as_folder, as_tars, as_tables])
def given(smoke: Any, request: pytest.FixtureRequest, sound: Path, tmp_path: Path) -> tuple[tuple[str, ...], Path]:
    """The overrides for 16 images in one of three forms, and the file that will vanish: of image 9, or 8 to 15."""
    said = json.loads((sound / "annotations/captions.json").read_text())
    captions = {row["image_id"]: row["caption"] for row in reversed(said["annotations"])}
    rows = [row for row in said["images"] if row["split"] == "train"]
    files = [sound / "images" / row["file_name"] for row in rows]
    data = tmp_path / "data"
    data.mkdir()
    samples = [(file.stem, file.read_bytes(), captions[row["id"]]) for file, row in zip(files, rows, strict=True)]
    values, file = request.param(data, sound, samples)
    return (smoke.in_place, *SETS, f"data.root={data}", f"data.train={values}"), file


@pytest.fixture
def vanishing(tmp_path: Path) -> Vanishing:
    """vanishing(file, part): inside the block a file goes, to where is given, as the encoder begins its nth part."""

    @contextmanager
    def vanishing(file: Path, part: int) -> Iterator[Path]:
        gone = tmp_path / "gone"

        def process(context: Any, items: Any, part_size: int, worker: Any, *others: Any, **named: Any) -> Any:
            class Losing(worker):  # type: ignore[misc]
                begun = 0

                def __call__(self, items: Any) -> Any:
                    if self.begun == part:
                        file.rename(gone)
                    self.begun += 1
                    return super().__call__(items)

            return process_parts(context, items, part_size, Losing, *others, **named)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(encode_regions, "process_parts", process)
            yield gone

    return vanishing


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of all files of an artifact but the manifest."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def check_sound(store: Path) -> None:
    """Every file of every finished artifact is as its manifest says."""
    for artifact in list_artifacts(Folder(str(store))):
        for name, facts in artifact.manifest["files"].items():
            assert artifact.folder.checksum(name) == (facts["sha256"], facts["bytes"])


def newest(store: Path, kind: str) -> Artifact:
    return [artifact for artifact in list_artifacts(Folder(str(store))) if artifact.kind == kind][-1]


def test_a_run_names_images_that_vanish_and_goes_on_when_they_are_back(
    given: Any, vanishing: Any, run: Any, rgc: Any, store: Path
) -> None:
    overrides, file = given
    assert run("pseudo-label", *overrides).code == 0
    made = [newest(store, kind) for kind in ("regions", "region_labels")]
    undisturbed = [contents(Path(artifact.folder.uri)) for artifact in made]
    for artifact in made:
        artifact.folder.clear()
    for part in (2, 0):
        with vanishing(file, part) as gone:
            stopped = run("pseudo-label", *overrides)
        assert gone.exists(), f"stopped before an image was opened: {stopped.err}"
        assert stopped.code == 2
        fraction = "regions.max_rejected_fraction"
        assert re.fullmatch(
            rf"error: \d of 16 items are rejected after \d+, more than {fraction}=0.01 allows; first: .*"
            rf"{re.escape(str(file))} does not exist; repair the items or raise {fraction}\n",
            stopped.err,
        )
        check_sound(store)
        assert made[0].key[:8] not in rgc("ls", "--store", str(store)).out
        gone.rename(file)
    kept = [made[0].folder.path(name) for name in ("parts/00000.json", "regions-00001.parquet")]
    times = [Path(path).stat().st_mtime_ns for path in kept]
    again = run("pseudo-label", *overrides)
    assert (again.code, again.err) == (0, "")
    assert [Path(path).stat().st_mtime_ns for path in kept] == times
    check_sound(store)
    assert made[0].key[:8] in rgc("ls", "--store", str(store)).out
    assert [contents(Path(artifact.folder.uri)) for artifact in made] == undisturbed


def test_few_enough_vanished_images_are_left_out_with_the_reason(
    smoke: Any, sound: Path, vanishing: Any, run: Any, store: Path, tmp_path: Path
) -> None:
    data = shutil.copytree(sound, tmp_path / "data")
    file = data / "images" / "train_000009.jpg"
    with vanishing(file, 1):
        done = run("pseudo-label", smoke.in_place, *SETS, f"data.root={data}", "regions.max_rejected_fraction=0.1")
    assert (done.code, done.err) == (0, "")
    regions = newest(store, "regions")
    assert read_table(regions, "rejected").to_pylist() == [{"item": file.name, "reason": f"{file} does not exist"}]
    assert read_table(regions, "regions").num_rows == 15
    check_sound(store)
