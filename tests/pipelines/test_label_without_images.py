"""`rgc run label` where the images are gone, were never captioned, or changed: what it takes, says and opens."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.store import list_artifacts
from stages.contract import Artifact
from stages.parts import read_table
from stages.storage import Folder

OPENED: list[str] = []


def note_image(event: str, given: tuple[Any, ...]) -> None:
    if event == "open" and str(given[0]).endswith(".jpg"):
        OPENED.append(str(given[0]))


sys.addaudithook(note_image)

Command = Callable[..., Any]


class Site:
    """A data folder in COCO layout, a store, and commands on both."""

    def __init__(self, rgc: Command, smoke: Any, home: Path) -> None:
        self.data, self.images, self.store = home / "data", home / "data/images", home / "store"
        self.rgc, self.pool, self._smoke = rgc, home / "pool.txt", smoke
        self.pool.write_text("umbrella\nanchor\ncat\n")

    def run(self, verb: str, *overrides: str, root: str | None = None, options: tuple[str, ...] = ()) -> Any:
        values = (f"data.root={root or self.data}", self._smoke.in_place, *overrides)
        return self.rgc(*self._smoke.arguments(verb, *values, store=self.store), *options)

    def made(self, kind: str) -> list[Artifact]:
        """The artifacts of a kind, oldest first."""
        return list_artifacts(Folder(str(self.store)), kind)


@pytest.fixture(scope="module")
def encoded(rgc: Command, smoke: Any, sound: Path, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A site whose images were labelled once, with a localiser that was trained on them."""
    site = Site(rgc, smoke, tmp_path_factory.mktemp("encoded"))
    shutil.copytree(sound, site.data)
    done = site.run("pseudo-label")
    assert (done.code, done.err) == (0, "")
    return site


@pytest.fixture
def without_images(encoded: Site) -> Iterator[Site]:
    """That site, while its image folder is elsewhere."""
    gone = encoded.images.rename(encoded.data.parent / "gone")
    yield encoded
    gone.rename(encoded.images)


@pytest.fixture
def own(rgc: Command, smoke: Any, sound: Path, tmp_path: Path) -> Site:
    """A site of the test's own, whose images were labelled once, with boxes of a grid."""
    site = Site(rgc, smoke, tmp_path)
    shutil.copytree(sound, site.data)
    assert site.run("pseudo-label", "proposals.method=grid").code == 0
    return site


@pytest.mark.parametrize(
    "overrides",
    [
        ["labels.temperature=0.5"],
        ["labels.threshold=0.04", "labels.candidates=weighted"],
        ["embeddings.templates=method81"],
        ["concepts_file={pool}", "labels.candidates=pool"],
        ["concepts_file={pool}", "labels.candidates=captions"],
    ],
)
def test_regions_are_labelled_anew_when_their_images_are_gone(without_images: Site, overrides: list[str]) -> None:
    site = without_images
    (regions,) = site.made("regions")
    labels = site.made("region_labels")
    done = site.run("label", *(each.format(pool=site.pool) for each in overrides))
    assert (done.code, done.err) == (0, "")
    assert f"regions      {regions.key}\n" in done.out
    (new,) = (each for each in site.made("region_labels") if each not in labels)
    assert new.manifest["inputs"]["regions"]["key"] == regions.key


def test_a_dry_run_needs_no_images_either(without_images: Site) -> None:
    before = without_images.made("region_labels")
    planned = without_images.run("label", "labels.temperature=0.7", options=("--dry-run",))
    assert (planned.code, planned.err) == (0, "")
    (line,) = (line for line in planned.out.splitlines() if "label_regions" in line)
    assert "run" in line
    assert "encode_regions" not in planned.out
    assert without_images.made("region_labels") == before


def test_with_a_pool_from_a_file_nothing_of_the_data_is_needed(encoded: Site) -> None:
    gone = encoded.data.rename(encoded.data.parent / "all gone")
    try:
        done = encoded.run("label", f"concepts_file={encoded.pool}", "labels.candidates=pool", "labels.threshold=0.2")
    finally:
        gone.rename(encoded.data)
    assert (done.code, done.err) == (0, "")


def opened_images(site: Site, *command: str) -> set[str]:
    """The names of the images that a command opens, though they look changed."""
    for path in site.images.iterdir():
        os.utime(path)
    OPENED.clear()
    assert site.run(*command).code == 0
    return {Path(path).name for path in OPENED if Path(path).parent == site.images}


def test_images_that_are_there_are_not_opened(encoded: Site) -> None:
    assert opened_images(encoded, "label", "labels.threshold=0.07") == set()
    assert len(opened_images(encoded, "pseudo-label", "labels.threshold=0.07")) == 16


@pytest.mark.parametrize(
    "override",
    [
        "regions.num_regions=4",
        "proposals.proposals.post_nms=9",
        "proposer_training.num_steps=3",
        "teacher.seed=3",
        "data.train.split=test",
        "classes.base=[umbrella, anchor]",
    ],
)
def test_regions_of_another_config_are_not_taken(encoded: Site, override: str) -> None:
    refused = encoded.run("label", override)
    assert refused.code == 2
    for words in ("the regions of this config are not in", "'rgc run pseudo-label'", "--regions KEY", "rgc ls"):
        assert words in refused.err


def test_a_data_folder_is_known_by_its_place_and_not_by_its_words(
    encoded: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(encoded.data.parent)
    assert encoded.run("label", root="data").code == 0
    shutil.copytree(encoded.data / "annotations", tmp_path / "data/annotations")
    monkeypatch.chdir(tmp_path)
    assert "are not in" in encoded.run("label", root="data").err


def test_the_newest_regions_are_taken_when_images_changed_and_a_key_takes_others(own: Site) -> None:
    names = sorted(path.name for path in own.images.glob("train*"))
    shutil.copyfile(own.images / names[0], own.images / names[1])
    assert own.run("pseudo-label", "proposals.method=grid").code == 0
    older, newer = own.made("regions")
    shutil.rmtree(own.images)
    found = own.run("label", "proposals.method=grid", "labels.threshold=0.07")
    assert f"regions      {newer.key}  (the newest; 1 older from before its images changed: --regions KEY" in found.out
    named = own.run("label", "proposals.method=grid", "labels.threshold=0.07", options=("--regions", older.key[:9]))
    assert (found.code, named.code) == (0, 0)
    made = [each.manifest for each in own.made("region_labels") if each.manifest["config"]["threshold"] == 0.07]
    used = [manifest["inputs"]["regions"]["key"] for manifest in made]
    assert used == [newer.key, older.key]


def test_captions_of_another_data_set_guide_no_regions(encoded: Site, tmp_path: Path) -> None:
    other = str(shutil.copytree(encoded.data, tmp_path / "other"))
    (regions,) = encoded.made("regions")
    named = ("--regions", regions.key)
    refused = encoded.run("label", root=other, options=named)
    assert refused.code == 2
    assert f"regions {regions.key} are not known to be of the images of data.train (root {other})" in refused.err
    assert encoded.run("label", "labels.candidates=pool", root=other, options=named).code == 0


def test_captions_guide_no_regions_of_images_that_had_other_ids(own: Site) -> None:
    shutil.rmtree(own.images)
    for path in own.data.glob("annotations/*.json"):
        data = json.loads(path.read_text())
        data["images"] = [
            {**one, "id": two["id"]} for one, two in zip(data["images"], data["images"][::-1], strict=True)
        ]
        path.write_text(json.dumps(data))
    refused = own.run("label", "proposals.method=grid")
    assert refused.code == 2
    assert "of data.train was 'train" in refused.err
    assert "so captions would go to other images; make regions" in refused.err
    assert own.run("label", "proposals.method=grid", "labels.candidates=pool").code == 0


@pytest.mark.parametrize(
    ("images", "id_column", "code"), [("a.parquet", "id", 0), ("a.parquet", "null", 0), ("*.parquet", "null", 2)]
)
def test_listed_images_are_guided_where_their_file_is_certain(
    rgc: Command, smoke: Any, sound: Path, tmp_path: Path, images: str, id_column: str, code: int
) -> None:
    site = Site(rgc, smoke, tmp_path)
    shutil.copytree(sound / "images", site.images)
    names = [f"images/{path.name}" for path in sorted(site.images.glob("train*"))]
    table = pa.table({"url": names, "id": range(len(names)), "text": ["an anchor and a cat"] * len(names)})
    pq.write_table(table, site.data / "a.parquet")
    values = f"images: '{images}', captions: '{images}', uri_column: url, id_column: {id_column}, caption_column: text"
    overrides = (f"data.train={{{values}, split: null}}", "proposals.method=grid")
    assert site.run("pseudo-label", *overrides).code == 0
    shutil.rmtree(site.images)
    done = site.run("label", *overrides, "labels.threshold=0.07")
    assert (done.code, "uris do not tell which file counted them" in done.err) == (code, bool(code))


@pytest.mark.parametrize("source", ["concepts_file={pool}", "data.pool_captions.files=[{said}]"])
def test_images_without_captions_are_labelled_with_a_pool_from_elsewhere(
    rgc: Command, smoke: Any, sound: Path, tmp_path: Path, source: str
) -> None:
    site = Site(rgc, smoke, tmp_path)
    site.data.mkdir()
    shutil.copytree(sound / "images", site.images, ignore=shutil.ignore_patterns("test*", "val*"))
    said = tmp_path / "said.txt"
    said.write_text("an umbrella and a cat\nan anchor by a wheel\n" * 3)
    plain = ("data.train={format: folder, split: null}", "proposals.method=grid", "labels.candidates=pool")
    done = site.run("pseudo-label", *plain, source.format(pool=site.pool, said=said))
    assert (done.code, done.err) == (0, "")
    (labels,) = site.made("region_labels")
    assert read_table(labels, "region_labels").num_rows == 16
    names = json.loads(labels.folder.read("concepts.json"))["concepts"]
    assert {"umbrella", "anchor", "cat"} <= set(names)
    assert len(site.made("captions")) == ("said" in source)


def test_captions_for_a_pool_are_not_read_where_a_file_gives_the_pool(smoke: Any, tmp_path: Path) -> None:
    (tmp_path / "pool.txt").write_text("umbrella\n")
    elsewhere = "data.pool_captions.files=[nowhere.txt]"
    plan = smoke.plan(f"concepts_file={tmp_path / 'pool.txt'}", elsewhere)
    assert [step.stage for step in plan].count("read_captions") == 1
