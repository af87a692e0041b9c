"""Labels of the same images by two teachers: the report's agreement is that of a plain loop over both tables."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pipelines.runner import NoTracker
from pipelines.store import artifact_of, list_artifacts
from stages.contract import Artifact
from stages.parts import read_table
from stages.storage import Folder

VIT = "teacher={model: rgc-test-vit, pretrained: null, allow_untrained: true}"
CUT = "labels.threshold=0.4"

Labelled = Callable[..., Artifact]


class Region(NamedTuple):
    """A region as the loop sees it; label: the name of its first concept."""

    box: list[float]
    label: str
    keep: bool


@pytest.fixture(scope="module")
def store(smoke: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the smoke run's store, free to add to."""
    return Path(shutil.copytree(smoke.store, tmp_path_factory.mktemp("teachers") / "store", copy_function=os.link))


@pytest.fixture
def labelled(smoke: Any, rgc: Callable[..., Any], store: Path, monkeypatch: pytest.MonkeyPatch) -> Labelled:
    """labelled(*overrides): the labels that the pipeline gives the smoke run's images."""
    monkeypatch.setattr("pipelines.tracking.MlflowTracker", lambda *arguments: NoTracker())
    monkeypatch.setattr("regionclip.report.label_plots.png", lambda canvas: b"\x89PNG")

    def labelled(*overrides: str) -> Artifact:
        outcome = rgc(*smoke.arguments("pseudo-label", smoke.in_place, CUT, *overrides, store=store))
        assert (outcome.code, outcome.err) == (0, "")
        (key,) = re.findall(r"^region_labels +(\w+)$", outcome.out, re.MULTILINE)
        return artifact_of(Folder(str(store)), "region_labels", key)

    return labelled


def names_of(labels: Artifact) -> list[str]:
    """The names behind the concept ids."""
    names: list[str] = json.loads(labels.folder.read("concepts.json"))["concepts"]
    return names


def regions_of(labels: Artifact) -> dict[int, list[Region]]:
    """The regions of each image."""
    names = names_of(labels)
    return {
        row["image_id"]: [
            Region(box, names[ids[0]], keep)
            for box, ids, keep in zip(row["boxes"], row["concept_ids"], row["keep"], strict=True)
        ]
        for row in read_table(labels, "region_labels").to_pylist()
    }


def overlap(one: list[float], other: list[float]) -> float:
    """Intersection over union."""
    width, height = (max(0.0, min(one[side + 2], other[side + 2]) - max(one[side], other[side])) for side in (0, 1))
    both = width * height
    return both / (sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)) - both)


def plain_agreement(first: dict[int, list[Region]], other: dict[int, list[Region]]) -> dict[str, Any]:
    """What the report calls agreement, counted region by region: each with the one of the other set on its spot."""
    counts: Counter[str] = Counter()
    differ: Counter[tuple[str, str]] = Counter()
    for image_id, regions in first.items():
        for region in regions:
            best = max(other[image_id], key=lambda each: overlap(region.box, each.box))
            counts["regions"] += 1
            if overlap(region.box, best.box) < 0.5:
                continue
            same, both_kept = region.label == best.label, region.keep and best.keep
            counts.update(matched=1, same=same, both_kept=both_kept, same_of_both_kept=same and both_kept)
            if both_kept and not same:
                differ[region.label, best.label] += 1
    for name, found in (("kept_first", first), ("kept_other", other)):
        counts[name] = sum(region.keep for regions in found.values() for region in regions)
    most = sorted(([*pair, number] for pair, number in differ.items()), key=lambda row: (-row[2], row))
    return {**counts, "disagreements": most[:15]}


@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param([], id="the same regions and pool"),
        pytest.param(["regions.num_regions=4", "concepts_file={pool}"], id="fewer regions, another pool"),
    ],
)
def test_the_agreement_of_two_teachers_is_that_of_a_plain_loop(
    smoke: Any, rgc: Callable[..., Any], store: Path, labelled: Labelled, tmp_path: Path, overrides: list[str]
) -> None:
    first, pool = labelled(), tmp_path / "pool.txt"
    pool.write_text("\n".join(names_of(first)[:1:-1]))  # backwards and without two
    other = labelled(VIT, *(each.format(pool=pool) for each in overrides))
    where = ["--config", str(smoke.config), "--store", str(store)]
    outcome = rgc("labels", "report", first.key, other.key, *where)
    assert (outcome.code, outcome.err) == (0, "")
    report = list_artifacts(Folder(str(store)), "labels_report")[-1]

    one, two = json.loads(report.folder.read("audit.json"))["sets"]
    expected = plain_agreement(regions_of(first), regions_of(other))
    assert one["agreement"] is None
    assert two["agreement"] == expected
    assert 0 < expected["same"] < expected["matched"]  # else the loop proves little
    assert 0 < expected["same_of_both_kept"] < expected["both_kept"] < expected["matched"]
    assert (expected["matched"] == expected["regions"]) == (not overrides)

    of_all, of_kept = expected["same"] / expected["matched"], expected["same_of_both_kept"] / expected["both_kept"]
    assert two["metrics"]["same_label"] == report.manifest["metrics"]["labels_1.same_label"] == of_all
    html = report.folder.read("report.html").decode()
    for heading, share in (("same label", of_all), ("of both kept", of_kept)):
        cells = re.findall(rf'data-label="{heading} \(%\)">([^<]*)<', html)
        assert cells == ["–", f"{100 * share:.1f}"]
    assert [model in html for model in ("rgc-test-rn", "rgc-test-vit")] == [True, True]
    (line,) = (line for line in outcome.out.splitlines() if other.key[:8] in line)
    assert f"{100 * of_all:.1f}" in line.split()
