"""The comparison stage on a small made-up store: what it says, what it hides, and that it says it twice alike."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from stages.compare_recipes import CompareConfig, compare_recipes, readable_images, stage_for
from stages.contract import Result
from stages.lineage import lineage
from stages.local_context import LocalContext
from stages.storage import Folder

NAMES = ("plain CLIP start", "image-text control", "paper's recipe", "caption-guided labels")
NOTES = (
    "No pretraining.",
    "The captions alone.",
    "Labels from the whole pool.",
    "Labels from an image's own captions.",
)
Make = Callable[..., Any]


def compare(scenes: Any, out: Path, **changes: Any) -> tuple[Result, str, dict[str, Any]]:
    config = CompareConfig(**{"names": NAMES, "notes": NOTES, "control": 1, "num_pictures": 2, **changes})
    context = LocalContext(Folder(str(out)))
    stage_for(config.names).key(config, scenes.inputs)
    result = compare_recipes(context, config, **scenes.inputs)
    return result, (out / "report.html").read_text(), json.loads((out / "comparison.json").read_text())


@dataclass
class Made:
    """A comparison of scenes marked 'untrained'."""

    scenes: Any
    folder: Path
    result: Result
    html: str
    comparison: dict[str, Any]


@pytest.fixture(scope="module")
def made(make_scenes: Make, tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("compare")
    scenes = make_scenes(folder / "store", num_images=4, marks=("untrained",))
    return Made(scenes, folder / "out", *compare(scenes, folder / "out"))


def test_page_asks_for_nothing_from_outside(made: Made) -> None:
    html = made.html
    sources = re.findall(r'(?:src|srcset|href|url)\s*[=(]\s*"?([^">\s)]+)', html)
    assert len(sources) > 10
    assert all(source.startswith("data:image/") for source in sources)
    assert "<script" not in html
    assert "@import" not in html
    assert "prefers-color-scheme: dark" in html


def test_only_caption_guided_labels_are_named_a_departure(made: Made) -> None:
    html, comparison = made.html, made.comparison
    assert [row["departure"] for row in comparison["rows"]] == [False, False, False, True]
    shown = re.findall(r'<th scope="row">\s*caption-guided labels(.*?)</th>', html, re.DOTALL)
    assert len(shown) == 2
    assert all("departure from the paper" in words for words in shown)
    assert "caption-guided labels (departure from the paper)</b>" in html


def test_differences_are_to_the_start_and_to_the_control(made: Made) -> None:
    result, html, comparison = made.result, made.html, made.comparison
    last = comparison["rows"][-1]
    assert last["difference_to_baseline"]["AP50_novel"] == pytest.approx(0.2)
    assert last["difference_to_control"]["AP50_novel"] == pytest.approx(0.18)
    assert comparison["best"] == "caption-guided labels"
    assert result.metrics["caption_guided_labels.AP50_novel"] == pytest.approx(0.4)
    assert "+20.0 against the plain start and +18.0 against the control" in html


def test_label_totals_are_those_of_all_parts(made: Made) -> None:
    assert [row["labels"] is None for row in made.comparison["rows"]] == [True, True, False, False]
    labels = made.comparison["rows"][3]["labels"]
    regions = sum(len(made.scenes.objects(image_id)) for image_id in range(500, 504))
    assert (labels["images"], labels["regions"]) == (4, regions)
    assert sum(labels["kept_by_score"]) == labels["kept_regions"] > 0
    assert labels["mean_kept_score"] > 0.5
    assert sum(count for _, count in labels["top_concepts"]) == labels["kept_regions"]


def test_same_inputs_give_same_bytes(made: Made, tmp_path: Path) -> None:
    compare(made.scenes, tmp_path)
    first, second = Folder(str(made.folder)), Folder(str(tmp_path))
    assert first.names() == second.names()
    assert "plots/classes.png" in first.names()
    assert all(first.read(name) == second.read(name) for name in first.names())


def test_lineage_reaches_the_source_and_lists_inputs_first(made: Made) -> None:
    lines = lineage(made.scenes.inputs.values())
    keys = [line.key for line in lines]
    assert lines[0].maker == "make_scenes v1"
    assert len(set(keys)) == len(keys)
    assert all(keys.index(key) < keys.index(line.key) for line in lines for _, _, key in line.inputs)


def test_marks_of_any_input_are_shown_and_passed_on(made: Made) -> None:
    assert made.result.marks == ("untrained",)
    assert '<p class="banner"><strong>untrained</strong>' in made.html


def test_page_stands_without_labels_novel_scores_or_training_images(make_scenes: Make, tmp_path: Path) -> None:
    scenes = make_scenes(tmp_path / "store", num_images=2, candidates=(None, None), novel_ap50=(None, None))
    del scenes.inputs["train_images"]
    _, html, comparison = compare(scenes, tmp_path / "out", names=NAMES[:2], notes=(), control=None)
    assert comparison["best"] is None
    assert "No recipe found an object of a novel class" in html
    assert "What was labelled" not in html


def test_unreadable_test_image_is_passed_over(make_scenes: Make, tmp_path: Path) -> None:
    scenes = make_scenes(tmp_path / "store", num_images=4, candidates=())
    folder = Folder(scenes.inputs["images"].manifest["external"]["images"])
    folder.write("test-100.png", b"no image")
    read = [image_id for image_id, _ in readable_images(scenes.inputs["images"], range(100, 104), seed=0, limit=9)]
    assert sorted(read) == [101, 102, 103]
    assert [read[0]] == [image_id for image_id, _ in readable_images(scenes.inputs["images"], range(100, 104), 0, 1)]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"names": ("a", "a")}, "different names"),
        ({"names": ("a", "b"), "notes": ("x",)}, "1 notes for 2 recipes"),
        ({"names": ("a",), "control": 1}, "control 1 is no row; choose 0 to 0"),
    ],
)
def test_config_that_does_not_fit_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        CompareConfig(**changes)
