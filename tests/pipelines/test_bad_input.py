"""Bad input through the command line: one line that names thing, value and remedy, exit code 2, nothing lost."""

from __future__ import annotations

import json
import re
import shutil
import signal
from collections.abc import Callable, Iterable, Iterator
from functools import partialmethod
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.store import list_artifacts
from regionclip.concepts.rules import RulesParser
from regionclip.embeddings import load_embeddings, save_embeddings
from stages.contract import Artifact
from stages.parts import read_table
from stages.storage import Folder

Rgc = Callable[..., Any]
Data = dict[str, Any]


@pytest.fixture
def data(sound: Path, tmp_path: Path) -> Path:
    """A copy of it to break."""
    return Path(shutil.copytree(sound, tmp_path / "data"))


def contents(store: Path) -> dict[str, bytes]:
    """Every file of the finished artifacts."""
    folders = [Path(artifact.folder.uri) for artifact in list_artifacts(Folder(str(store)))]
    return {str(path): path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()}


def check_refused(outcome: Any, *words: str) -> None:
    """Exit code 2 and one line with these words, no traceback."""
    assert outcome.code == 2, outcome
    assert "Traceback" not in outcome.err + outcome.out
    (line,) = outcome.err.splitlines()
    assert line.startswith("error: ")
    for word in words:
        assert word in line


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("labels.treshold=0.2", ["'labels.treshold'", "0.2", "did you mean 'labels.threshold'"]),
        ("labels.threshold=many", ["'labels.threshold'", "'many'", "number"]),
        ("labels.candidates=caption", ["'labels.candidates'", "'caption'", "'pool', 'captions' or 'weighted'"]),
        ("labels.threshold", ["--set labels.threshold", "KEY=VALUE"]),
        ("labels.threshold=5", ["'labels'", "threshold 5.0", "give 0 to 1"]),
        ("data.train.images=[a, b", ["--set data.train.images=[a, b", "not readable YAML"]),
        ("data.train.max_rejected_fraction=7", ["'data.train'", "max_rejected_fraction is 7"]),
        ("classes.novel=[umbrella]", ["umbrella", "both base and novel"]),
        ("pretrain.resize={rule: odd}", ["'pretrain.resize.rule'", "'odd'"]),
        ("teacher.allow_untrained=false", ["rgc-test-rn", "allow_untrained"]),
        ("teacher.model=rgc-test-m", ["rgc-test-m", "rgc-test-rn"]),
        ("teacher.model=rgc-test-vit", ["'rgc-test-vit'", "no ResNet", "'student'"]),
        ("teacher.pretrained=nowhere.pt", ["nowhere.pt", "neither a file"]),
        ("proposer_weights=nowhere", ["nowhere", "train-proposer"]),
        ("embeddings.templates=some", ["'some'", "method81"]),
        ("resources.default.batch_size=0", ["batch_size=0", "batch_size 1 or more"]),
        ("resources.stages.pretrian.num_workers=1", ["'pretrian'", "did you mean pretrain"]),
        ("data.root=nowhere", ["nowhere", "no such data folder"]),
        ("data.train.split=dev", ["'dev'", "choose one of"]),
        ("data.pool_captions={files: [nowhere.json]}", ["nowhere.json", "no such file"]),
        (f"data.pool_captions={{files: [{__file__}]}}", ["test_bad_input.py", "'.py'", ".tsv"]),
    ],
)
def test_a_wrong_value_is_refused(run: Any, store: Path, sound: Path, override: str, words: list[str]) -> None:
    before = contents(store)
    sources = [] if override.startswith("data.root") else [f"data.root={sound}"]
    check_refused(run("all", *sources, override), *words)
    assert contents(store).items() >= before.items()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, ["config.yaml", "does not exist", "demo"]),
        ("labels: {threshold: 0.2\n  x", ["config.yaml", "not readable YAML"]),
        ("- 1", ["config.yaml", "keys and values"]),
        ("title: no classes", ["'classes'", "missing"]),
        ("extends: demoo", ["'demoo'", "did you mean 'demo'"]),
        ("extends: coco_small", ["data.root", "--set"]),
    ],
)
def test_a_wrong_config_file_is_refused(run: Any, tmp_path: Path, text: str | None, words: list[str]) -> None:
    path = tmp_path / "config.yaml"
    if text is not None:
        path.write_text(text)
    check_refused(run("all", config=str(path)), *words)


def no_images(instances: Data, captions: Data) -> None:
    instances.update(images=[], annotations=[])


def no_captions(instances: Data, captions: Data) -> None:
    captions.update(annotations=instances["annotations"])


def no_annotations(instances: Data, captions: Data) -> None:
    captions.update(annotations=[])


def box_outside(instances: Data, captions: Data) -> None:
    instances["annotations"][0]["bbox"] = [90, 10, 30, 10]


def box_without_area(instances: Data, captions: Data) -> None:
    instances["annotations"][0]["bbox"] = [10, 10, 0, 10]


def box_of_no_image(instances: Data, captions: Data) -> None:
    instances["annotations"][0]["image_id"] = 999


def caption_of_no_image(instances: Data, captions: Data) -> None:
    captions["annotations"][0]["image_id"] = 999


def image_twice(instances: Data, captions: Data) -> None:
    instances["images"][1]["id"] = instances["images"][0]["id"]


def no_file(instances: Data, captions: Data) -> None:
    instances["images"][0]["file_name"] = "gone.jpg"


def unknown_category(instances: Data, captions: Data) -> None:
    instances["annotations"][0]["category_id"] = 999


def other_class_list(instances: Data, captions: Data) -> None:
    for category in instances["categories"]:
        category["name"] += " thing"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (no_images, ["instances.json", "empty dataset", "'images'"]),
        (no_captions, ["captions.json", "no annotation has a 'caption'", "give a captions file"]),
        (no_annotations, ["captions.json", "empty dataset", "'annotations'"]),
        (
            box_outside,
            ["instances.json", "annotation 1 of image 1", "[90, 10, 30, 10]", "raise data.train.max_rejected_fraction"],
        ),
        (box_without_area, ["annotation 1 of image 1", "[10, 10, 0, 10]", "no positive width"]),
        (box_of_no_image, ["annotation 1", "image_id 999", "add the image record"]),
        (caption_of_no_image, ["captions.json", "annotation 1", "image_id 999"]),
        (image_twice, ["image id 1", "twice", "unique"]),
        (no_file, ["gone.jpg", "missing", "remove the records"]),
        (unknown_category, ["annotation 1", "category_id 999", "add the category"]),
        (other_class_list, ["unknown class", "did you mean"]),
    ],
)
def test_wrong_data_are_refused(run: Any, store: Path, data: Path, damage: Any, words: list[str]) -> None:
    paths = [data / "annotations" / f"{name}.json" for name in ("instances", "captions")]
    parsed = [json.loads(path.read_text()) for path in paths]
    damage(*parsed)
    for path, content in zip(paths, parsed, strict=True):
        path.write_text(json.dumps(content))
    before = contents(store)
    refused = run("all", f"data.root={data}")
    check_refused(refused, *words)
    assert contents(store).items() >= before.items()
    assert not re.search("train_proposer|transfer", refused.out), "long work before the data were checked"


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_an_annotation_file_of_another_kind_is_refused(run: Any, data: Path, text: str) -> None:
    (data / "annotations" / "instances.json").write_text(text)
    check_refused(run("all", f"data.root={data}"), "instances.json", "give a")


def test_a_corrupt_image_stops_the_run_or_is_rejected_with_its_reason(
    smoke: Any, run: Any, store: Path, data: Path
) -> None:
    broken = data / "images" / "train_000001.jpg"
    broken.write_bytes(broken.read_bytes()[:300])
    without_network = [f"data.root={data}", "proposals={method: random, random_boxes: 5}", smoke.in_place]
    before = contents(store)
    check_refused(run("pseudo-label", *without_network), broken.name, "1 of 16", "max_rejected_fraction=0.01", "raise")
    assert contents(store).items() > before.items()
    assert run("pseudo-label", *without_network, "regions.max_rejected_fraction=0.1").code == 0
    regions = [found for found in list_artifacts(Folder(str(store))) if found.kind == "regions"][-1]
    ((item, reason),) = [tuple(row.values()) for row in read_table(regions, "rejected").to_pylist()]
    assert item == broken.name
    assert "cannot be read as an image" in reason
    assert read_table(regions, "regions", ["image_id"]).num_rows == 15
    check_refused(run("transfer", f"data.root={data}"), broken.name, "mend or remove")


def damaged_embeddings(store: Path, num_concepts: int, names: Any, width: int) -> Artifact:
    """Replace the embeddings of that many concepts; what was made from them is forgotten."""
    artifacts = list_artifacts(Folder(str(store)))
    tables = [each for each in artifacts if each.kind == "embeddings"]
    (artifact,) = [each for each in tables if each.manifest["metrics"]["concepts"] == num_concepts]
    concepts, table = load_embeddings(artifact.folder.local())
    for path in (store / "embeddings" / artifact.key).glob("*s.*"):
        path.unlink()
    save_embeddings(artifact.folder.local(), concepts, table[:, :width].contiguous())
    description = json.loads(artifact.folder.read("concepts.json"))
    artifact.folder.write("concepts.json", json.dumps({**description, "concepts": names(concepts)}).encode())
    for each in artifacts:
        if {"kind": "embeddings", "key": artifact.key} in each.manifest["inputs"].values():
            each.folder.clear()
    return artifact


@pytest.mark.parametrize(
    ("names", "width", "words"),
    [
        (lambda names: names[::-1], 32, ["not in the order"]),
        (lambda names: names[1:], 32, ["[40, 32]", "39 concepts"]),
        (lambda names: names, 16, ["[28, 16]", "[28, 32]"]),
    ],
    ids=["order", "size", "dimension"],
)
def test_a_class_table_that_does_not_fit_the_classes_is_refused(
    run: Any, store: Path, names: Any, width: int, words: list[str]
) -> None:
    damaged_embeddings(store, 40, names, width)
    check_refused(run("transfer"), *words, "embed")


def test_a_pool_of_another_width_than_the_teacher_is_refused(run: Any, store: Path, smoke: Any) -> None:
    (pool,) = (step.artifact for step in smoke.plan(verb="pseudo-label") if step.stage == "extract_concepts")
    artifact = damaged_embeddings(store, read_table(pool, "concepts").num_rows, list, 16)
    check_refused(run("pseudo-label"), artifact.key, "16", "32", "embed")


def test_an_interrupted_run_keeps_what_it_has_and_goes_on(
    run: Any, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [tmp_path / "0.txt", tmp_path / "1.txt"]
    for file, lines in zip(files, (8, 4), strict=True):
        file.write_text("two dogs on a table\n" * lines)
    overrides = [f"data.pool_captions.files={list(map(str, files))}", "labels.candidates=pool"]
    mentions, parsed = RulesParser.mentions, list[str]()

    def counted(self: RulesParser, captions: Iterable[str], last: int | None = None) -> Iterator[Any]:
        for caption, found in zip(captions, mentions(self, captions), strict=True):
            parsed.append(caption)
            if len(parsed) == last:
                signal.raise_signal(signal.SIGINT)
            yield found

    before = contents(store)
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job starts with it ignored
    try:
        with monkeypatch.context() as patch:
            patch.setattr(RulesParser, "mentions", partialmethod(counted, last=10))
            outcome = run("pseudo-label", *overrides)
    finally:
        signal.signal(signal.SIGINT, inherited)
    assert (outcome.code, len(parsed)) == (1, 10)
    assert outcome.err == "interrupted; nothing finished is lost: give the same command again to go on\n"
    after = contents(store)
    assert after.items() > before.items()
    assert not list((store / ".locks").glob("*.json"))
    parsed.clear()
    monkeypatch.setattr(RulesParser, "mentions", counted)
    assert run("pseudo-label", *overrides).code == 0
    assert len(parsed) == 4  # of 12 captions the first part, a file of 8, was done
    assert contents(store).items() >= after.items()


def test_a_failure_that_is_not_the_users_is_told_apart(run: Any, sound: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: Any, **named: Any) -> None:
        raise RuntimeError("the disk\nis gone")

    monkeypatch.setattr(torch, "load", broken)
    monkeypatch.setattr(RulesParser, "mentions", broken)
    outcome = run("pseudo-label", f"data.root={sound}")
    assert (outcome.code, outcome.err.count("\n")) == (1, 1)
    assert outcome.err.startswith("failed: RuntimeError: the disk is gone")
