"""Images and captions in tars and parquet files instead of a COCO-layout folder, through the command line."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.store import list_artifacts
from stages.parts import read_table
from stages.storage import Folder

Rgc = Callable[..., Any]


@pytest.fixture(scope="module")
def samples(smoke: Any) -> list[tuple[str, bytes, str]]:
    """Name, JPEG and first caption of each training scene."""
    (dataset,) = smoke.made_by("make_scenes")
    data = json.loads(dataset.folder.read("annotations/captions.json"))
    said = {row["image_id"]: row["caption"] for row in reversed(data["annotations"])}
    rows = [image for image in data["images"] if image["split"] == "train"]
    return [(f"{row['id']:06}", dataset.folder.read(f"images/{row['file_name']}"), said[row["id"]]) for row in rows]


def write_tars(folder: Path, samples: list[tuple[str, bytes, str]]) -> None:
    for number, start in enumerate(range(0, len(samples), 6)):
        with tarfile.open(folder / f"{number:05}.tar", "w") as tar:
            for name, jpeg, caption in samples[start : start + 6]:
                for suffix, data in (("jpg", jpeg), ("txt", caption.encode())):
                    member = tarfile.TarInfo(f"{name}.{suffix}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))


@pytest.fixture
def tars(tmp_path: Path, samples: list[tuple[str, bytes, str]]) -> Path:
    """A folder of the scenes in tars."""
    data = tmp_path / "data"
    data.mkdir()
    write_tars(data, samples)
    return data


def write_parquet(folder: Path, samples: list[tuple[str, bytes, str]]) -> None:
    names, images, captions = zip(*samples, strict=True)
    table = pa.table({"key": names, "jpg": pa.array(images, pa.binary()), "text": captions})
    pq.write_table(table, folder / "all.parquet", row_group_size=5)


@pytest.mark.parametrize(
    ("write", "in_place", "values"),
    [
        (write_tars, True, "{images: '*.tar', captions: '*.tar', format: webdataset, split: null}"),
        (write_tars, False, "{images: '*.tar', captions: '*.tar', split: null}"),
        (
            write_parquet,
            False,
            "{images: all.parquet, captions: all.parquet, format: parquet, image_column: jpg, caption_column: text, "
            "split: null}",
        ),
    ],
)
def test_packed_images_get_the_labels_of_the_same_images_in_a_folder(
    smoke: Any, rgc: Rgc, tmp_path: Path, samples: Any, write: Callable[..., None], in_place: bool, values: str
) -> None:
    data, store = tmp_path / "data", tmp_path / "store"
    data.mkdir()
    write(data, samples)
    overrides = [f"data.root={data}", f"data.train={values}", "proposals.method=grid", *[smoke.in_place] * in_place]
    outcome = rgc(*smoke.arguments("pseudo-label", *overrides, store=store))
    assert (outcome.code, outcome.err) == (0, "")
    made = {artifact.kind: artifact for artifact in list_artifacts(Folder(str(store)))}
    images, captions = read_table(made["images"], "images"), read_table(made["captions"], "captions")
    assert captions["image_id"].to_pylist() == images["image_id"].to_pylist()
    assert captions["caption"].to_pylist() == [caption for _, _, caption in samples]
    labels = read_table(made["region_labels"], "region_labels")
    assert labels["image_id"].to_pylist() == images["image_id"].to_pylist()
    assert sum(map(len, labels["boxes"].to_pylist())) == 5 * len(samples)


def test_captions_of_no_image_are_refused_before_anything_is_encoded(
    smoke: Any, rgc: Rgc, tmp_path: Path, samples: Any, tars: Path
) -> None:
    store = tmp_path / "store"
    (tars / "said.txt").write_text("\n".join(caption for _, _, caption in samples))
    train = ("data.train.images=*.tar", "data.train.captions=said.txt", "data.train.split=null")
    overrides = (f"data.root={tars}", *train, "proposals.method=grid", smoke.in_place)
    arguments = smoke.arguments("pseudo-label", *overrides, store=store)
    outcome = rgc(*arguments)
    assert outcome.code == 2
    assert "data.train.captions 'said.txt': no caption belongs to an image, which labels.candidates" in outcome.err
    assert not {"proposals", "regions"} & {artifact.kind for artifact in list_artifacts(Folder(str(store)))}
    assert rgc(*arguments, "--set", "labels.candidates=pool").code == 0


@pytest.mark.parametrize("images", ["'*.tar'", "., format: folder"])
def test_captions_of_coco_are_no_captions_of_counted_images_but_make_a_pool(
    smoke: Any, sound: Path, tmp_path: Path, samples: Any, images: str
) -> None:
    write_tars(tmp_path, samples)
    (tmp_path / "a.jpg").write_bytes(samples[0][1])
    (tmp_path / "said.json").write_bytes((sound / "annotations" / "captions.json").read_bytes())
    values = f"data.train={{images: {images}, captions: said.json, split: null}}"
    overrides = (f"data.root={tmp_path}", values, "proposals.method=grid")
    for verb, candidates in (("pseudo-label", "captions"), ("pseudo-label", "weighted"), ("pretrain", "pool")):
        with pytest.raises(
            ValueError, match=r"captions 'said\.json' name images by id, and images of the form '\w+' are"
        ):
            smoke.plan(*overrides, f"labels.candidates={candidates}", verb=verb)
    planned = smoke.plan(*overrides, "labels.candidates=pool", verb="pseudo-label")
    assert "read_captions" in {step.stage for step in planned}


def test_ids_of_a_column_are_none_of_captions_in_tars(smoke: Any, tmp_path: Path, samples: Any) -> None:
    write_parquet(tmp_path, samples)
    write_tars(tmp_path, samples)
    values = "data.train={images: all.parquet, captions: '*.tar', id_column: key, split: null}"
    with pytest.raises(
        ValueError, match=r"data\.train\.id_column is 'key' and .*/00000\.tar is a tar, .* id_column: null"
    ):
        smoke.plan(f"data.root={tmp_path}", values, "proposals.method=grid", verb="pseudo-label")


@pytest.mark.parametrize(
    ("lost", "captions", "message"),
    [
        ("00001.tar", "said/*.tar", "first '00002' and '00001' differ"),
        ("00002.tar", "said/*.tar", "2 files and data.train.captions 'said/*.tar' 3"),
        (
            None,
            "said/00001.tar",
            "3 files and data.train.captions 'said/00001.tar' 1, first '00000' and '00001' differ",
        ),
    ],
)
def test_captions_of_other_tars_than_the_images_are_refused(
    smoke: Any, rgc: Rgc, tmp_path: Path, samples: Any, lost: str | None, captions: str, message: str
) -> None:
    for folder in ("shown", "said"):
        (tmp_path / "data" / folder).mkdir(parents=True)
        write_tars(tmp_path / "data" / folder, samples)
    if lost is not None:
        (tmp_path / "data" / "shown" / lost).unlink()
    values = f"data.train={{images: 'shown/*.tar', captions: '{captions}', split: null}}"
    overrides = (f"data.root={tmp_path / 'data'}", values, "proposals.method=grid")
    outcome = rgc(*smoke.arguments("pseudo-label", *overrides, store=tmp_path / "store"))
    assert outcome.code == 2
    assert message in outcome.err
    assert "images are numbered by file, so name the same files for both, or set id_column" in outcome.err


def test_captions_guide_no_regions_whose_tars_were_numbered_otherwise(
    smoke: Any, rgc: Rgc, tmp_path: Path, tars: Path
) -> None:
    store = tmp_path / "store"
    values = "data.train={images: '*.tar', captions: '*.tar', split: null}"
    overrides = (f"data.root={tars}", values, "proposals.method=grid", smoke.in_place)
    assert rgc(*smoke.arguments("pseudo-label", *overrides, store=store)).code == 0
    label = smoke.arguments("label", *overrides, store=store)
    shutil.copyfile(tars / "00000.tar", tars / "00003.tar")
    assert rgc(*label).code == 0
    (tars / "00003.tar").rename(tars / "0.tar")
    (regions,) = list_artifacts(Folder(str(store)), "regions")
    for options in ([], ["--regions", regions.key]):
        refused = rgc(*label, *options)
        assert refused.code == 2
        assert f"regions {regions.key}: file 0 of data.train was '00000.tar' when they were made and is" in refused.err
    assert len(list_artifacts(Folder(str(store)), "region_labels")) == 2
    assert rgc(*label, "--set", "labels.candidates=pool").code == 0


def test_a_damaged_image_in_a_tar_stops_by_the_key_that_allows_for_it(
    smoke: Any, rgc: Rgc, tmp_path: Path, samples: Any
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    write_tars(data, [("broken", b"no image", "a cat"), *samples])
    values = "data.train={images: '*.tar', captions: '*.tar', split: null}"
    overrides = (f"data.root={data}", values, "proposals.method=grid", smoke.in_place)
    arguments = smoke.arguments("pseudo-label", *overrides, store=tmp_path / "store")
    outcome = rgc(*arguments)
    assert outcome.code == 2
    assert "raise data.train.max_rejected_fraction" in outcome.err
    assert rgc(*arguments, "--set", "data.train.max_rejected_fraction=0.1").code == 0
