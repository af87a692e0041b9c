"""What a run prints at its end."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from rich.console import Console

from pipelines.summary import print_result
from regionclip.report.comparison import LabelStatistics, Recipe, comparison
from regionclip.schemas import rejected_table
from stages.contract import MANIFEST, Artifact
from stages.parts import write_table
from stages.storage import Folder

LABELS = LabelStatistics(1200, 51_234, 20_001, 87, 0.6149, (("cat", 3),), (0,), (0,))


def printed(artifact: Artifact) -> str:
    out = io.StringIO()
    print_result(Console(file=out, width=80), artifact, "my/store")
    return out.getvalue()


def stored(root: Path, kind: str, manifest: dict[str, Any]) -> Artifact:
    artifact = Artifact(kind, "0123456789abcdef", Folder(str(root / kind / "0123456789abcdef")))
    artifact.folder.write(MANIFEST, json.dumps({"metrics": {}, "marks": [], **manifest}).encode())
    return artifact


def compared(root: Path, marks: list[str]) -> str:
    metrics = {
        f"{metric}_{group}": 0.31449 for metric in ("box_accuracy", "AP50") for group in ("base", "novel", "all")
    }
    recipes = [
        Recipe("plain CLIP start", "", False, metrics),
        Recipe("image-text control", "", False, {**metrics, "AP50_novel": 0.2}),
        Recipe("caption-guided labels", "", True, {**metrics, "AP50_novel": 0.4}, LABELS),
    ]
    artifact = stored(root, "comparison", {"marks": marks})
    document = {"title": "Recipes", "marks": marks, **comparison(recipes, 0, 1)}
    artifact.folder.write("comparison.json", json.dumps(document).encode())
    return printed(artifact)


def test_comparison_shows_labels_scores_and_where_to_look(tmp_path: Path) -> None:
    text = compared(tmp_path, [])
    assert "51,234" in text
    assert "20,001" in text
    start = next(line for line in text.splitlines() if line.strip().startswith("plain CLIP start"))
    assert start.split()[-6:] == ["31.4"] * 6
    best = [line for line in text.splitlines() if line.rstrip().endswith(" best")]
    assert len(best) == 1
    assert "caption-guided labels" in best[0]
    assert "40.0" in best[0]
    assert f"{tmp_path}/comparison/0123456789abcdef/report.html" in text
    assert "rgc ui --store my/store" in text


def test_comparison_names_the_departure_at_every_table_and_fits_80_columns(tmp_path: Path) -> None:
    text = compared(tmp_path, ["untrained"])
    words = " ".join(text.replace("departure from\n", "departure from ").split())
    assert words.count("(departure from") == 2
    assert "untrained" in text
    assert all(len(line) <= 80 or str(tmp_path) in line for line in text.splitlines())
    assert "\x1b" not in text


def test_other_results_show_kind_key_folder_and_metrics(tmp_path: Path) -> None:
    artifact = stored(tmp_path, "detector", {"metrics": {"steps": 1200.0, "loss": 0.123456}, "marks": ["untrained"]})
    text = printed(artifact)
    lines = [line.split() for line in text.splitlines()]
    assert ["detector", "0123456789abcdef"] in lines
    assert ["folder", str(artifact.folder.uri)] in lines
    assert ["steps", "1,200"] in lines
    assert ["loss", "0.1235"] in lines
    assert ["marks", "untrained"] in lines


def test_of_many_lacking_classes_the_most_named_are_shown(tmp_path: Path) -> None:
    manifest = {"inputs": {"concepts": {"kind": "concepts", "key": "c0ffee"}}, "metrics": {"concepts": 1234.0}}
    report = stored(tmp_path, "concepts_report", manifest)
    rows = [{"name": f"class{number}", "state": "lacking", "captions": number} for number in range(12)]
    rows.append({"name": "cat", "state": "same_name", "captions": None})
    groups = {"novel": {"classes": 13, "covered": 1, "rows": rows}}
    report.folder.write("coverage.json", json.dumps({"groups": groups}).encode())
    text = " ".join(printed(report).split())
    assert "c0ffee (1,234)" in text
    assert "1 of 13" in text
    assert "class11 11, class10 10" in text
    assert "and 2 more" in text
    assert "class1 1" not in text
    assert report.folder.path("report.html") in text.replace(" ", "")


def test_recall_is_a_table_of_thresholds_and_sizes(tmp_path: Path) -> None:
    recall = stored(tmp_path, "recall", {})
    rows = [
        {"iou": 0.5, "size": "all", "num_objects": 1061, "limits": [10, 1000], "recalls": [0.25, 0.5]},
        {"iou": 0.5, "size": "small", "num_objects": 0, "limits": [10, 1000], "recalls": None},
    ]
    recall.folder.write("recall.json", json.dumps(rows).encode())
    lines = [line.split() for line in printed(recall).splitlines()]
    assert ["0.5", "all", "1,061", "25.0", "50.0"] in lines
    assert ["0.5", "small", "0", "-", "-"] in lines


def test_an_import_shows_the_first_corrections_that_were_not_taken_and_where_all_are(tmp_path: Path) -> None:
    artifact = stored(tmp_path, "region_labels", {"stage": "import_labels"})
    assert "not taken" not in printed(artifact)
    write_table(artifact.folder, "rejected", rejected_table([(f"annotation {n}", "no region") for n in range(7)]))
    text = printed(artifact)
    assert "not taken, 7; their regions are as they were" in text
    assert "annotation 4: no region" in text
    assert "annotation 5" not in text
    assert f"{tmp_path}/region_labels/0123456789abcdef/rejected.parquet" in text
