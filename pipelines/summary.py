"""What a run ends with on the terminal: its result, and where to look further."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from regionclip.report.comparison import AP50, BOX_ACCURACY, DEPARTURE, GROUPS
from stages.contract import Artifact
from stages.parts import REJECTED, read_table

MEASURES = ((BOX_ACCURACY, "box"), (AP50, "AP50"))
ABSENT = "-"
_NUM_REASONS = 5
_NUM_SHOWN = 10  # lacking classes; the report lists all


def print_result(console: Console, artifact: Artifact, store: str) -> None:
    """Print the table that a kind of artifact has, such as the recipes of a comparison, else its metrics."""
    if artifact.kind == "comparison":
        _print_comparison(console, artifact)
    elif artifact.kind == "concepts_report":
        _print_coverage(console, artifact)
    elif artifact.kind == "labels_report":
        _print_labels(console, artifact)
    elif artifact.kind == "recall":
        _print_recall(console, artifact)
    else:
        _print_artifact(console, artifact)
    say(console, "runs", f"rgc ui --store {store}")


def say(console: Console, name: str, value: str) -> None:
    """One line, a name and its value, that no narrow terminal breaks."""
    console.print(Text(f"{name:<12} {value}"), soft_wrap=True)


def print_metrics(console: Console, metrics: Mapping[str, float]) -> None:
    """Metrics in the order of their names, whole numbers without a point."""
    table = Table("metric", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("value", justify="right")
    for name, value in sorted(metrics.items()):
        table.add_row(Text(name), f"{value:,.0f}" if float(value).is_integer() and abs(value) > 1 else f"{value:.4g}")
    console.print(table)


def _print_artifact(console: Console, artifact: Artifact) -> None:
    manifest = artifact.manifest
    console.print()
    say(console, artifact.kind, artifact.key)
    if manifest["marks"]:
        say(console, "marks", ", ".join(manifest["marks"]))
    if manifest["metrics"]:
        print_metrics(console, manifest["metrics"])
    if manifest.get("stage") == "import_labels":
        _print_rejected(console, artifact)
    say(console, "folder", artifact.folder.uri)


def _print_rejected(console: Console, artifact: Artifact) -> None:
    """The first corrections that were not taken, and where all of them are."""
    name = f"{REJECTED}.parquet"
    if not artifact.folder.exists(name):
        return
    rows = read_table(artifact, REJECTED).to_pylist()
    console.print(Text(f"not taken, {len(rows):,}; their regions are as they were"))
    for row in rows[:_NUM_REASONS]:
        console.print(Text(f"  {row['item']}: {row['reason']}"), soft_wrap=True)
    say(console, "all of them", artifact.folder.path(name))


def _print_coverage(console: Console, artifact: Artifact) -> None:
    groups: dict[str, dict[str, Any]] = json.loads(artifact.folder.read("coverage.json"))["groups"]
    table = Table("classes", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("in the pool", justify="right", no_wrap=True)
    table.add_column("lacking, with the captions that name them", ratio=1)
    for name, group in groups.items():
        lacking = [row for row in group["rows"] if row["state"] == "lacking"]
        lacking.sort(key=lambda row: -(row["captions"] or 0))
        shown = [
            f"{row['name']} {ABSENT if row['captions'] is None else row['captions']}" for row in lacking[:_NUM_SHOWN]
        ]
        shown += [f"and {len(lacking) - _NUM_SHOWN:,} more"] if len(lacking) > _NUM_SHOWN else []
        table.add_row(Text(name), f"{group['covered']} of {group['classes']}", Text(", ".join(shown)))
    console.print()
    pool = artifact.manifest["inputs"]["concepts"]["key"]
    say(console, "concepts", f"{pool}  ({artifact.manifest['metrics']['concepts']:,.0f})")
    if groups:
        console.print(table)
    say(console, "report", artifact.folder.path("report.html"))


def _print_labels(console: Console, artifact: Artifact) -> None:
    sets: list[dict[str, Any]] = json.loads(artifact.folder.read("audit.json"))["sets"]
    judged = any(row["truth"] for row in sets)
    table = Table("labels", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("regions", "kept", "concepts", "same", *(("right", "found", "best cut") if judged else ())):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in sets:
        values = row["metrics"]
        shown = [f"{values['regions']:,}", *(_percent(values[name]) for name in ("kept_share",))]
        shown += [f"{values['concepts_used']:,} of {values['concepts']:,}", _percent(values["same_label"])]
        if judged:
            shown += [_percent(values["precision"]), _percent(values["recall"])]
            shown.append(ABSENT if values["best_threshold"] is None else f"{values['best_threshold']:.2f}")
        departure = f" ({DEPARTURE})" if row["departure"] else ""
        table.add_row(Text(f"{row['title']} {row['key'][:8]}{departure}"), *shown)
    console.print()
    console.print(table)
    words = "percent; same: first label as in the first set"
    words += "; right and found: kept labels, objects; best cut: threshold of best F1" if judged else ""
    console.print(Text(words))
    say(console, "report", artifact.folder.path("report.html"))


def _percent(value: float | None) -> str:
    return ABSENT if value is None else f"{100 * value:.1f}"


def _print_recall(console: Console, artifact: Artifact) -> None:
    rows: list[dict[str, Any]] = json.loads(artifact.folder.read("recall.json"))
    table = Table("IoU", "size", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("objects", *(f"{limit:,} boxes" for limit in rows[0]["limits"])):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        recalls = (
            [f"{100 * value:.1f}" for value in row["recalls"]] if row["recalls"] else [ABSENT] * len(row["limits"])
        )
        table.add_row(f"{row['iou']:g}", row["size"], f"{row['num_objects']:,}", *recalls)
    console.print()
    say(console, artifact.kind, artifact.key)
    console.print(table)
    console.print(Text("recall in percent, by the best boxes of an image"))


def _print_comparison(console: Console, artifact: Artifact) -> None:
    comparison = json.loads(artifact.folder.read("comparison.json"))
    rows: list[dict[str, Any]] = comparison["rows"]
    console.print()
    console.print(Text(comparison["title"]), style="bold")
    if comparison["marks"]:
        console.print(Text(f"{', '.join(comparison['marks'])}: the numbers show that the chain runs, no more"))
    labelled = [row for row in rows if row["labels"]]
    if labelled:
        console.print(_labels_table(labelled))
    console.print(_recipes_table(rows, comparison["best"]))
    console.print(Text("percent; box: accuracy on true boxes; best: highest novel AP50"))
    console.print()
    say(console, "report", artifact.folder.path("report.html"))


def _labels_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table("what was labelled", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("images", "regions", "kept", "concepts", "score"):
        table.add_column(heading, justify="right")
    for row in rows:
        labels = row["labels"]
        counts = [labels[name] for name in ("images", "regions", "kept_regions", "concepts_used")]
        score = labels["mean_kept_score"]
        table.add_row(
            Text(row["title"]), *(f"{count:,}" for count in counts), ABSENT if score is None else f"{score:.2f}"
        )
    return table


def _recipes_table(rows: Sequence[Mapping[str, Any]], best: str | None) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("recipe", ratio=1)
    for _, heading in MEASURES:
        for group in GROUPS:
            table.add_column(f"{heading}\n{group}", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for row in rows:
        values = [row["metrics"].get(f"{metric}_{group}") for metric, _ in MEASURES for group in GROUPS]
        shown = [ABSENT if value is None else f"{100 * value:.1f}" for value in values]
        is_best = row["name"] == best
        table.add_row(Text(row["title"]), *shown, "best" if is_best else "", style="bold" if is_best else "")
    return table
