"""The distribution: its names are its own, and the wheel holds all that the code reads beside itself."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("pipelines", "regionclip", "stages")
IGNORED = {"__pycache__", ".DS_Store"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built without network."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (path,) = folder.glob("rgc-*.whl")
    return path


@pytest.fixture(scope="module")
def unpacked(wheel: Path) -> Path:
    """The folder that the wheel is unpacked to."""
    folder = wheel.parent / "unpacked"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def test_the_package_names_belong_to_this_distribution_alone() -> None:
    owners = importlib.metadata.packages_distributions()
    if not any("rgc" in owners.get(package, []) for package in PACKAGES):
        pytest.skip("the distribution is not installed")
    assert {package: set(owners[package]) for package in PACKAGES} == {package: {"rgc"} for package in PACKAGES}


def test_the_wheel_holds_every_file_of_the_packages_and_the_presets(unpacked: Path) -> None:
    found = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file()}
    expected = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and not IGNORED & set(path.parts)
    }
    presets = {f"pipelines/conf/{path.name}" for path in (ROOT / "conf").glob("*.yaml")}
    assert "regionclip/report/page.html.j2" in expected
    assert "regionclip/model_configs/rgc-test-rn.json" in expected
    assert len(presets) >= 2
    assert {name for name in found if ".dist-info/" not in name} == expected | presets


def test_the_wheel_works_without_the_checkout(unpacked: Path, tmp_path: Path) -> None:
    code = """
import json
import pipelines.loading, regionclip.packaged
from pipelines.config import PipelineConfig
from regionclip.clip_models import create_clip
from regionclip.report import page
create_clip("rgc-test-rn")
load = pipelines.loading.load
given = ["data.root=x", "data.pool_captions.files=[x]"]
titles = [load(PipelineConfig, name, given).title for name in pipelines.loading.preset_names()]
files = [module.__file__ for module in (pipelines.loading, regionclip.packaged, page)]
print(json.dumps([files, titles, str(pipelines.loading.presets_folder())]))
"""
    environment = {**os.environ, "PYTHONPATH": str(unpacked)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True)
    files, titles, presets = json.loads(done.stdout)
    assert all(file.startswith(str(unpacked)) for file in files)
    assert presets == str(unpacked / "pipelines" / "conf")
    assert len(titles) == len(list((ROOT / "conf").glob("*.yaml")))


def test_no_stage_is_left_out_of_the_import_contract() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (independent,) = (set(contract["modules"]) for contract in contracts if contract["type"] == "independence")
    defining = (path for path in (ROOT / "stages").glob("*.py") if "Stage(" in path.read_text())
    assert independent == {f"stages.{path.stem}" for path in defining if "class Stage(" not in path.read_text()}
