"""Images of tars, parquet files and plain folders: listed in parts, and read again wherever they are."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from regionclip import schemas
from regionclip.images import ResizeConfig, read_image
from regionclip.loading import load_batches
from stages import listed_images, read_captions, read_images
from stages.contract import Artifact, Resources
from stages.listed_images import image_files, image_records, images_folder
from stages.local_context import LocalContext
from stages.parts import read_table
from stages.read_captions import CaptionsConfig
from stages.read_images import ImagesConfig
from stages.storage import Folder

Run = Callable[..., Artifact]


def picture(value: int) -> bytes:
    """A picture of `value` + 1 x 5 pixels, stored on its side, whose red says the value."""
    sink, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (5, value + 1), (value, 0, 0)).save(sink, "PNG", exif=exif)
    return sink.getvalue()


def tar(first: int, broken: bool = False) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for number in range(first, first + 3):
            image = b"broken" if broken and number == first else picture(number)
            for name, content in ((f"{number:04d}.png", image), (f"{number:04d}.txt", b"caption %d" % number)):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return sink.getvalue()


def table(first: int, **more: Any) -> bytes:
    sink = io.BytesIO()
    images = pa.array([picture(number) for number in range(first, first + 3)])
    texts = [f"caption {number}" for number in range(first, first + 3)]
    pq.write_table(pa.table({"image": images, "caption": texts, **more}), sink, row_group_size=2)
    return sink.getvalue()


def fill(root: str) -> None:
    """Two files of three images each, 0 to 5, in three forms, and a table of URIs."""
    folder = Folder(root)
    for number, first in enumerate((0, 3)):
        folder.write(f"tars/{number}.tar", tar(first))
        folder.write(f"tables/{number}.parquet", table(first))
    for number in range(6):
        folder.write(f"plain/{number}.png", picture(number))
    sink = io.BytesIO()
    pq.write_table(pa.table({"url": [f"plain/{number}.png" for number in range(6)]}), sink)
    folder.write("uris.parquet", sink.getvalue())


CONFIGS = {
    "webdataset": ImagesConfig(images="tars"),
    "parquet": ImagesConfig(images="tables/*.parquet"),
    "folder": ImagesConfig(images="plain", format="folder"),
    "uris": ImagesConfig(images="uris.parquet", uri_column="url"),
}


@pytest.fixture(params=["local", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    where = str(tmp_path / "data") if request.param == "local" else f"memory://{tmp_path.name}"
    fill(where)
    return where


@pytest.mark.parametrize("form", CONFIGS)
def test_every_form_is_listed_and_read_again_alike(form: str, root: str, run_stage: Run) -> None:
    images = run_stage(read_images.STAGE, replace(CONFIGS[form], root=root))
    records = image_records(images)
    assert [(record.width, record.height) for record in records] == [(number + 1, 5) for number in range(6)]
    ids = [record.image_id for record in records]
    assert ids == (list(range(6)) if form in ("folder", "uris") else [0, 1, 2, 2**32, 2**32 + 1, 2**32 + 2])
    files = pickle.loads(pickle.dumps(image_files(images, np.array(ids[::-1]))))
    assert [files.read(name) for name in files.names] == [picture(number) for number in range(6)][::-1]
    assert images.manifest["metrics"] == {"images": 6, "rejected": 0, "not_downloaded": 0}


@pytest.mark.parametrize("form", CONFIGS)
def test_images_of_every_form_pass_the_loading_of_the_row_stages(form: str, root: str, run_stage: Run) -> None:
    images = run_stage(read_images.STAGE, replace(CONFIGS[form], root=root))
    rejected: list[tuple[str, str]] = []
    reds: dict[int, int] = {}
    read, records = images_folder(images).read, image_records(images)
    for batch in load_batches(
        read, records, ResizeConfig(short_side=4, max_side=400), 4, lambda *r: rejected.append(r)
    ):
        reds |= zip(batch.positions, batch.pixels[:, 0, 0, 0].tolist(), strict=True)
    assert not rejected
    assert reds == {number: number for number in range(6)}


@pytest.mark.parametrize(("form", "images"), [("webdataset", "tars"), ("parquet", "tables")])
def test_captions_of_the_same_files_meet_their_images(form: str, images: str, tmp_path: Path, run_stage: Run) -> None:
    fill(str(tmp_path))
    (tmp_path / "tars" / "0.tar").write_bytes(tar(0, broken=True))
    listed = run_stage(read_images.STAGE, ImagesConfig(str(tmp_path), images, format=form, max_rejected_fraction=0.5))
    said = run_stage(read_captions.STAGE, CaptionsConfig(str(tmp_path), (images,), format=form, number_images=True))
    captions = {row["image_id"]: row["caption"] for row in read_table(said, "captions").to_pylist()}
    files = image_files(listed, read_table(listed, "images")["image_id"].to_numpy())
    shown = [read_image(files.read(name)).getpixel((0, 0))[0] for name in files.names]  # type: ignore[index]
    assert [captions[row["image_id"]] for row in read_table(listed, "images").to_pylist()] == [
        f"caption {value}" for value in shown
    ]
    assert len(shown) == (5 if form == "webdataset" else 6)
    without = run_stage(read_captions.STAGE, CaptionsConfig(str(tmp_path), (images,), format=form))
    assert read_table(without, "captions")["image_id"].null_count == 6


@pytest.mark.parametrize("option", [{"number_images": True}, {"image_id_column": "id"}])
def test_captions_of_other_forms_have_no_such_ids(option: dict[str, Any], tmp_path: Path, run_stage: Run) -> None:
    (tmp_path / "0.tsv").write_text("a\tb\n")
    config = CaptionsConfig(str(tmp_path), ("0.tsv",), **option)
    with pytest.raises(ValueError, match="a tsv file gives captions no image ids in this way; set "):
        run_stage(read_captions.STAGE, config)
    with pytest.raises(ValueError, match="image ids come from one of them"):
        CaptionsConfig(number_images=True, image_id_column="id")


def test_a_row_without_an_id_is_rejected_and_gets_none_of_another_image(tmp_path: Path, run_stage: Run) -> None:
    (tmp_path / "0.parquet").write_bytes(table(0, id=[10, None, 1]))
    config = ImagesConfig(str(tmp_path), "0.parquet", id_column="id", max_rejected_fraction=0.5)
    images = run_stage(read_images.STAGE, config)
    assert read_table(images, "images")["image_id"].to_pylist() == [10, 1]
    assert read_table(images, "rejected").to_pylist() == [
        {"item": "0.parquet: row 2", "reason": "no image id in column 'id'"}
    ]


def test_given_ids_reach_images_and_captions_and_are_unique_among_all_files(tmp_path: Path, run_stage: Run) -> None:
    for number, ids in enumerate(([40, 41, 42], [50, 51, 52])):
        (tmp_path / f"{number}.parquet").write_bytes(table(3 * number, id=ids))
    config = ImagesConfig(str(tmp_path), ".", id_column="id")
    images = run_stage(read_images.STAGE, config)
    captions = run_stage(read_captions.STAGE, CaptionsConfig(str(tmp_path), ("*.parquet",), image_id_column="id"))
    for artifact, name in ((images, "images"), (captions, "captions")):
        assert read_table(artifact, name)["image_id"].to_pylist() == [40, 41, 42, 50, 51, 52]
    (tmp_path / "1.parquet").write_bytes(table(3, id=[60, 41, 61]))
    with pytest.raises(ValueError, match="image id 41 of column 'id' stands in several files"):
        run_stage(read_images.STAGE, config)


def test_bad_images_are_rejected_up_to_a_fraction(tmp_path: Path, run_stage: Run) -> None:
    (tmp_path / "0.tar").write_bytes(tar(0, broken=True))
    config = ImagesConfig(str(tmp_path), "0.tar")
    with pytest.raises(ValueError, match=r"1 of 3 rows are rejected.*0\.tar::0000\.png: image of 6 bytes: cannot be"):
        run_stage(read_images.STAGE, config)
    images = run_stage(read_images.STAGE, replace(config, max_rejected_fraction=0.4))
    assert read_table(images, "rejected")["item"].to_pylist() == ["0.tar::0000.png"]
    assert read_table(images, "images")["image_id"].to_pylist() == [1, 2]


@pytest.mark.parametrize("form", ["webdataset", "parquet", "folder"])
def test_the_key_is_of_names_below_the_root_and_of_bytes(form: str, tmp_path: Path) -> None:
    fill(str(tmp_path / "data"))
    shutil.copytree(tmp_path / "data", tmp_path / "moved")
    here, there = (replace(CONFIGS[form], root=str(tmp_path / name)) for name in ("data", "moved"))

    def key(config: ImagesConfig) -> str:
        return read_images.STAGE.key(config, {})

    assert key(here) == key(there) == key(replace(here, max_rejected_fraction=0.9))
    for path in sorted((tmp_path / "moved").rglob("1.*")):
        path.write_bytes(path.read_bytes() + b" ")
    assert key(here) != key(there)


def test_the_key_of_images_behind_uris_knows_what_they_are_below(tmp_path: Path) -> None:
    for size in ("low", "high"):
        fill(str(tmp_path / size))
    low, again, high = (replace(CONFIGS["uris"], root=f"{tmp_path}/{name}") for name in ("low", "high/../low", "high"))
    keys = [read_images.STAGE.key(config, {}) for config in (low, again, high)]
    assert keys[0] == keys[1] != keys[2]


def test_a_restart_lists_the_missing_files_alone_and_gives_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(str(tmp_path))
    config, context = ImagesConfig(str(tmp_path), "tars"), LocalContext(Folder(str(tmp_path / "out")))
    read_images.read_images(context, config)
    first = {name: context.folder.read(name) for name in context.folder.names()}
    context.folder.delete("images-00001.parquet")
    listed = []
    pieces = read_images.packed_pieces
    monkeypatch.setattr(
        read_images, "packed_pieces", lambda file, *more: listed.append(file.name) or pieces(file, *more)
    )
    read_images.read_images(context, config)
    assert listed == ["tars/1.tar"]
    assert {name: context.folder.read(name) for name in context.folder.names()} == first


def test_plain_files_come_in_parts_with_one_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(str(tmp_path))
    monkeypatch.setattr(read_images, "_PLAIN_FILES_OF_A_PART", 4)
    context = LocalContext(Folder(str(tmp_path / "out")))
    read_images.read_images(context, ImagesConfig(str(tmp_path), "plain", format="folder"))
    assert context.folder.exists("images-00001.parquet")
    assert read_table(context.folder, "images")["image_id"].to_pylist() == list(range(6))
    assert read_table(context.folder, "images").schema.equals(schemas.PACKED_IMAGES)


def test_a_row_group_is_read_once_for_images_in_a_row(
    tmp_path: Path, run_stage: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(str(tmp_path))
    images = run_stage(read_images.STAGE, ImagesConfig(str(tmp_path), "tables"))
    opened = []
    read_group = listed_images.read_group
    monkeypatch.setattr(listed_images, "read_group", lambda *of: opened.append(of[1]) or read_group(*of))
    folder = images_folder(images)
    for record in image_records(images):
        folder.read(record.file_name)
    assert opened == ["tables/0.parquet"] * 2 + ["tables/1.parquet"] * 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../data/tars/0.tar::a@0+5", "does not name a file inside"),
        ("/etc/hostname::a@0+5", "does not name a file inside"),
        ("../data/tables/0.parquet::image@0/0", "does not name a file inside"),
        ("tars/0.tar::a@10000000+5", "the file ends before it; it has changed"),
        ("tables/0.parquet::image@9/0", "no row group 9 with a column 'image'; it has changed"),
        ("tables/0.parquet::picture@0/0", "no row group 0 with a column 'picture'"),
        ("tars/0.tar::image@0/0", "cannot be read as parquet"),
        ("tables/0.parquet::image@0/9", "no image there; the file has changed"),
        ("tables/0.parquet::caption@0/0", "no image there"),
        ("tars/absent.tar::a@0+5", "does not exist"),
    ],
)
def test_places_that_are_not_there_are_value_errors(name: str, message: str, root: str, run_stage: Run) -> None:
    folder = images_folder(run_stage(read_images.STAGE, replace(CONFIGS["webdataset"], root=root)))
    with pytest.raises(ValueError, match=message):
        folder.read(name)


def test_other_forms_have_no_data_set_and_nothing_without_images(tmp_path: Path, run_stage: Run) -> None:
    (tmp_path / "x.tar").write_bytes(tar(0)[-1024:])
    dataset = Artifact("dataset", "0123", Folder(str(tmp_path)))
    for root in (None, str(tmp_path)):
        with pytest.raises(ValueError, match=r"need root|give one of the two"):
            run_stage(read_images.STAGE, ImagesConfig(root, "x.tar", format="webdataset"), dataset=dataset)
    with pytest.raises(ValueError, match=r"no image in the 1 files of 'x\.tar'"):
        run_stage(read_images.STAGE, ImagesConfig(str(tmp_path), "x.tar"))


def test_actors_list_the_same_images(tmp_path: Path, run_stage: Run, ray_session: Any) -> None:
    fill(str(tmp_path))
    config = ImagesConfig(str(tmp_path), "tars")
    here = run_stage(read_images.STAGE, config)
    context = LocalContext(Folder(str(tmp_path / "out")), Resources(num_workers=1))
    read_images.read_images(context, config)
    for name in ("images-00000.parquet", "images-00001.parquet"):
        assert context.folder.read(name) == here.folder.read(name)
    assert json.loads(here.folder.read("manifest.json"))["external"] == {"images": str(tmp_path)}


@pytest.fixture(autouse=True)
def _empty_memory(tmp_path: Path) -> Any:
    yield
    files = fsspec.filesystem("memory")
    if files.exists(f"/{tmp_path.name}"):
        files.rm(f"/{tmp_path.name}", recursive=True)
