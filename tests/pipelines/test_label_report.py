"""`rgc labels report`: which labels it takes, what it makes for them, and what it refuses."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pipelines.config import PipelineConfig
from pipelines.loading import load
from pipelines.runner import NoTracker
from pipelines.store import list_artifacts
from pipelines.summary import print_result
from stages.contract import Artifact
from stages.storage import Folder

Report = Callable[..., Any]


@pytest.fixture(autouse=True)
def untracked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.tracking.MlflowTracker", lambda *arguments: NoTracker())
    monkeypatch.setattr("regionclip.report.label_plots.png", lambda canvas: b"\x89PNG")


@pytest.fixture(scope="module")
def store(smoke: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the smoke run's store, free to add to."""
    return Path(shutil.copytree(smoke.store, tmp_path_factory.mktemp("report") / "store", copy_function=os.link))


@pytest.fixture
def report(smoke: Any, rgc: Report, store: Path) -> Report:
    """report(*arguments): the outcome of the command on the smoke config and the store."""

    def report(*arguments: str) -> Any:
        return rgc("labels", "report", *arguments, "--config", str(smoke.config), "--store", str(store))

    return report


def keys(smoke: Any) -> dict[str, str]:
    """The keys of the smoke run's labels, by their candidates."""
    return {made.manifest["config"]["candidates"]: made.key for made in smoke.made_by("label_regions")}


def made_by(outcome: Any) -> set[str]:
    """The stages that ran, by their lines."""
    lines = [line.split() for line in outcome.out.splitlines()]
    return {line[0] for line in lines if len(line) > 3 and re.fullmatch("[0-9a-f]{8}", line[1]) and line[3] == "s"}


def embedded(smoke: Any, labels: str) -> str:
    """The key of the embeddings of labels."""
    (found,) = (made for made in smoke.made_by("label_regions") if made.key == labels)
    return str(found.manifest["inputs"]["embeddings"]["key"])


def latest(store: Path) -> Artifact:
    return [made for made in list_artifacts(Folder(str(store))) if made.kind == "labels_report"][-1]


def sets(store: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(latest(store).folder.read("audit.json"))["sets"]
    return found


def test_the_labels_of_the_config_are_judged_by_all_boxes_of_their_images(
    smoke: Any, report: Report, store: Path
) -> None:
    outcome = report()
    assert outcome.code == 0, outcome.err
    assert made_by(outcome) <= {"read_boxes", "report_labels"}
    (only,) = sets(store)
    assert only["key"] == keys(smoke)["captions"]
    names = {row["name"] for row in only["truth"]["by_class"]}
    classes = load(PipelineConfig, str(smoke.config), ()).classes
    assert names & set(classes.base)
    assert names & set(classes.novel)
    assert {"report.html", "audit.json", "scores.png"} <= set(latest(store).manifest["files"])
    assert f"caption-guided {only['key'][:8]}" in outcome.out
    assert latest(store).folder.path("report.html") in outcome.out
    assert made_by(report()) == set()


def test_candidates_are_compared_in_their_order_and_only_labelled_anew(smoke: Any, report: Report, store: Path) -> None:
    outcome = report("--candidates", "weighted", "--candidates", "pool")
    assert outcome.code == 0, outcome.err
    assert made_by(outcome) <= {"label_regions", "read_boxes", "report_labels"}
    assert [each["candidates"] for each in sets(store)] == ["weighted", "pool"]
    assert [each["departure"] for each in sets(store)] == [True, False]
    assert sets(store)[1]["key"] == keys(smoke)["pool"]
    assert sets(store)[1]["agreement"]["matched"] == sets(store)[0]["audit"]["regions"]
    assert outcome.out.count("departure from") >= 1


def test_labels_of_keys_are_reported_whatever_the_config_says_of_labels(
    smoke: Any, report: Report, store: Path
) -> None:
    given = keys(smoke)
    outcome = report(given["pool"][:6], given["captions"], "--set", "labels.threshold=0.9")
    assert outcome.code == 0, outcome.err
    assert [each["key"] for each in sets(store)] == [given["pool"], given["captions"]]
    assert sets(store)[0]["threshold"] == 0.0
    concepts = latest(store).manifest["inputs"]["concepts"]["key"]
    (embeddings,) = (made for made in smoke.made_by("embed_concepts") if made.key == embedded(smoke, given["pool"]))
    assert concepts == embeddings.manifest["inputs"]["concepts"]["key"]
    assert "<code>" + given["pool"][:8] in latest(store).folder.read("report.html").decode()


def test_labels_that_do_not_fit_are_refused(smoke: Any, report: Report) -> None:
    given = keys(smoke)
    other = report(given["pool"], "--set", "data.train.split=test")
    assert other.code == 2
    images = {made.key for made in smoke.made_by("read_images")}
    assert f"labels {given['pool']} are of the images " in other.err
    assert sum(key in other.err for key in images) == 2
    for arguments, words in (
        ([given["pool"], "--candidates", "pool"], "give one of the two"),
        ([given["pool"], given["pool"]], "asked for twice"),
        (["--candidates", "pool", "--candidates", "pool"], "asked for twice"),
        ([smoke.made_by("encode_regions")[0].key], "is a regions; give the key of region_labels"),
        (["--candidates", "none"], "none"),
    ):
        outcome = report(*arguments)
        assert outcome.code == 2, arguments
        assert words in outcome.err


def test_a_dry_run_names_the_report_and_writes_nothing(smoke: Any, report: Report, store: Path) -> None:
    before = sorted(store.rglob("*"))
    outcome = report("--candidates", "captions", "--candidates", "pool", "--dry-run", "--set", "labels.threshold=0.33")
    assert outcome.code == 0
    assert outcome.out.count("label_regions") == 2
    assert outcome.out.count("report_labels") == 1
    assert sorted(store.rglob("*")) == before


def test_labels_are_judged_where_their_images_have_annotated_boxes(sound: Path, report: Report, tmp_path: Path) -> None:
    root = Path(shutil.copytree(sound, tmp_path / "data"))
    instances = root / "annotations" / "instances.json"
    data = json.loads(instances.read_text())
    train = {image["id"] for image in data["images"] if image["split"] == "train"}
    elsewhere = [each for each in data["annotations"] if each["image_id"] not in train]
    captions = [{"id": 1, "image_id": image_id, "caption": "a dog"} for image_id in train]

    plan = ["--dry-run", "--set", f"data.root={root}", "--set", "proposals.method=grid"]  # which needs no boxes itself

    def planned(annotations: list[dict[str, Any]], *arguments: str) -> int:
        instances.write_text(json.dumps({**data, "annotations": annotations}))
        outcome = report(*plan, *arguments)
        assert outcome.code == 0, outcome.err
        return int(outcome.out.count("read_boxes"))

    (root / "annotations" / "truth.json").write_text(json.dumps(data))
    assert planned(data["annotations"]) == 1
    assert planned(elsewhere) == 0
    assert planned(captions) == 0
    assert planned(elsewhere, "--truth", "annotations/truth.json") == 1
    absent = report(*plan, "--truth", "annotations/absent.json")
    assert absent.code == 2
    assert "absent.json: no such file" in absent.err


def test_the_summary_shows_what_was_not_judged_as_absent(tmp_path: Path) -> None:
    values = {"regions": 1234, "kept_share": 0.5, "concepts_used": 3, "concepts": 70, "same_label": None}
    row = {"title": "whole pool", "key": "0123456789abcdef", "departure": False, "metrics": values, "truth": None}
    artifact = Artifact("labels_report", "f" * 16, Folder(str(tmp_path)))
    artifact.folder.write("audit.json", json.dumps({"sets": [row]}).encode())
    out = io.StringIO()
    print_result(Console(file=out, width=80), artifact, "my/store")
    lines = [line.split() for line in out.getvalue().splitlines()]
    assert ["whole", "pool", "01234567", "1,234", "50.0", "3", "of", "70", "-"] in lines
    assert "found" not in out.getvalue()
    assert artifact.folder.path("report.html") in out.getvalue()
