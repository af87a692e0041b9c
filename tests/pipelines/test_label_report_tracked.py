"""What MLflow keeps of `rgc labels report`: the page, its numbers and its plots, whole and readable."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipelines.store import list_artifacts
from pipelines.tracking import EXPERIMENT, default_tracking_uri
from stages.contract import Artifact
from stages.storage import Folder

PLOTS = {f"{name}.png" for name in ("scores", "entropy", "sizes", "labels_per_concept", "precision_recall")}
EMBEDDED = re.compile("data:image/(?:png|jpeg);base64,([A-Za-z0-9+/=]+)")


@dataclass(frozen=True)
class Logged:
    """A report, the MLflow run of its stage, and the folder that the artifacts of that run were fetched to."""

    report: Artifact
    run: Any
    folder: Path

    @property
    def html(self) -> str:
        return (self.folder / "report.html").read_text()


@pytest.fixture(scope="module")
def logged(smoke: Any, rgc: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Logged:
    """The report of two sets of the smoke run's labels, recorded where that run is."""
    from mlflow.tracking import MlflowClient

    home, uri = tmp_path_factory.mktemp("tracked"), default_tracking_uri(Folder(str(smoke.store)))
    store = shutil.copytree(smoke.store, home / "store", copy_function=os.link)
    where = ["--config", str(smoke.config), "--store", str(store), "--tracking-uri", uri]
    outcome = rgc("labels", "report", *where, "--candidates", "captions", "--candidates", "pool")
    assert (outcome.code, outcome.err) == (0, "")
    (report,) = list_artifacts(Folder(str(store)), "labels_report")
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id], f"tags.key = '{report.key}'")
    return Logged(report, run, Path(client.download_artifacts(run.info.run_id, "", str(home))))


def picture(data: bytes) -> Image.Image:
    """The decoded image; an error where it is none or cut short."""
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def test_the_run_holds_all_that_the_stage_wrote(logged: Logged) -> None:
    names = {path.name for path in logged.folder.iterdir() if path.is_file()}
    assert names >= {"report.html", "audit.json", *PLOTS}
    assert names - {"manifest.json", "config.json"} == set(logged.report.manifest["files"])
    assert all((logged.folder / name).read_bytes() == logged.report.folder.read(name) for name in names & PLOTS)
    sets = json.loads((logged.folder / "audit.json").read_text())["sets"]
    assert [each["candidates"] for each in sets] == ["captions", "pool"]
    assert logged.run.info.status == "FINISHED"
    assert logged.run.data.metrics["regions"] == sets[0]["audit"]["regions"]
    assert logged.run.data.metrics["labels_1.same_label"] == sets[1]["metrics"]["same_label"]


@pytest.mark.parametrize("name", sorted(PLOTS))
def test_a_plot_is_a_drawn_image_of_a_size_to_look_at(logged: Logged, name: str) -> None:
    image = picture((logged.folder / name).read_bytes())
    assert image.format == "PNG"
    assert 400 <= image.width <= 2000
    assert 300 <= image.height <= 2000
    inked = sum(low < 128 for low in image.convert("L").tobytes()) / (image.width * image.height)
    assert 0.002 < inked < 0.9  # neither blank nor black


def test_the_page_brings_its_own_pictures_and_asks_for_nothing_else(logged: Logged) -> None:
    pictures = [base64.b64decode(data) for data in EMBEDDED.findall(logged.html)]
    assert all(min(picture(data).size) > 40 for data in pictures)
    assert {(logged.folder / name).read_bytes() for name in PLOTS} <= set(pictures)
    assert logged.html.count("<img ") + logged.html.count("<source ") == len(pictures)
    around = EMBEDDED.sub("EMBEDDED", logged.html)
    assert set(re.findall(r'(?:src|srcset|href|data|action|poster)="([^"]*)"', around)) == {"EMBEDDED"}
    assert re.findall(r"//|\burl\(|@import|<script|<link|<iframe|<object|<base|http-equiv", around) == []
