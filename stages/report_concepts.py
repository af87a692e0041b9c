"""A concept pool -> one page to judge it by: its size, its tail, its merges, and the classes that it lacks."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from regionclip.concepts.coverage import (
    ClassCoverage,
    Concept,
    PoolIndex,
    count_states,
    cover,
    coverage_document,
    num_covered,
    words_to_count,
)
from regionclip.concepts.parsing import PARSING
from regionclip.concepts.pool import captions_naming
from regionclip.concepts.vocabularies import RESERVED_GROUPS, ClassName, coco_groups, read_class_groups
from regionclip.report import concept_lists, concept_plots, plots
from regionclip.report.concepts_page import ConceptsPage, read_sizes, read_tail, render
from regionclip.report.page import ArtifactLine, Plot
from stages.contract import Artifact, Context, Result, Stage
from stages.parts import iter_tables, read_table

TITLE = "Concept pool"


@dataclass(frozen=True)
class ReportConceptsConfig:
    """Which classes the pool is checked against, and how much of it the page shows.

    groups: the user's classes, such as base and novel; the one called 'novel' is watched for names in the pool.
    coco: whether the base and novel classes of open-vocabulary COCO are checked.
    files: COCO or LVIS annotation files whose categories are checked, by their frequency or split.
    top: the most frequent concepts that the page shows; sample: concepts drawn by `seed`.
    """

    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    coco: bool = False
    files: tuple[str, ...] = ()
    top: int = 100
    sample: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        if self.top < 1 or self.sample < 0:
            raise ValueError(f"top {self.top} must be 1 or more, and sample {self.sample} 0 or more")
        for group, names in self.groups.items():
            if group in RESERVED_GROUPS:
                raise ValueError(f"group '{group}' has the name of a group of COCO or LVIS classes; call it otherwise")
            if not all(name.strip() for name in names):
                raise ValueError(f"group '{group}' has an empty name; give every class a name")
            if twice := [name for name, number in Counter(names).items() if number > 1]:
                raise ValueError(f"group '{group}' lists '{twice[0]}' twice; list every class once")


def class_groups(config: ReportConceptsConfig) -> dict[str, tuple[ClassName, ...]]:
    """The groups of classes to check: the user's, COCO's, and those of the files, of equal name united.

    Raises ValueError for a file that cannot be read.
    """
    groups = {group: tuple(map(ClassName, names)) for group, names in config.groups.items() if names}
    groups |= coco_groups() if config.coco else {}
    for file in config.files:
        for group, classes in read_class_groups(Path(file)).items():
            united = {name.name: name for name in (*groups.get(group, ()), *classes)}
            groups[group] = tuple(united.values())
    return groups


def identity(config: ReportConceptsConfig) -> Mapping[str, Any]:
    """The classes that are checked, whatever file they are from, and what the page shows."""
    shown = {"top": config.top, "sample": config.sample, "seed": config.seed}
    return {**shown, "groups": [[group, list(map(asdict, classes))] for group, classes in class_groups(config).items()]}


def report_concepts(
    context: Context, config: ReportConceptsConfig, concepts: Artifact, phrases: Artifact | None = None
) -> Result:
    """Write `report.html`, `coverage.json`, and the plots as `size_against_threshold.png` and `long_tail.png`."""
    rows = read_table(concepts, "concepts").to_pylist()
    coverage = _coverage(class_groups(config), rows, phrases)
    metrics: Mapping[str, float] = concepts.manifest["metrics"]
    drawn = _plots(rows, _sizes(concepts), _threshold(concepts))
    given = {"concepts": concepts, **({} if phrases is None else {"phrases": phrases})}
    page = ConceptsPage(
        title=TITLE,
        marks=sorted({mark for artifact in given.values() for mark in artifact.manifest["marks"]}),
        facts=_facts(rows, metrics, concepts, phrases),
        settings=_settings(rows, concepts, phrases),
        plots=list(drawn.values()),
        top=concept_lists.most_frequent(rows, config.top),
        sample=concept_lists.sample(rows, config.sample, config.seed),
        merged=concept_lists.merged_names(rows),
        dropped=concept_lists.dropped_names(_optional(concepts, "dropped"), metrics),
        coverage=coverage,
        counted=phrases is not None,
        lineage=[ArtifactLine.of(each.kind, each.key, each.manifest) for each in reversed(given.values())],
    )
    for name, (plot, _) in drawn.items():
        context.folder.write(f"{name}.png", plot.light)
    document = json.dumps(coverage_document(coverage), indent=1, ensure_ascii=False, allow_nan=False)
    context.folder.write("coverage.json", document.encode())
    context.folder.write("report.html", render(page).encode())
    return Result(metrics={"concepts": len(rows), **_metrics(coverage)})


def _coverage(
    groups: Mapping[str, Sequence[ClassName]], rows: Sequence[Mapping[str, Any]], phrases: Artifact | None
) -> dict[str, list[ClassCoverage]]:
    pool = PoolIndex(
        Concept(row["concept"], row["document_frequency"], row["surface_forms"], row["merged_from"]) for row in rows
    )
    counts = None
    if phrases is not None:
        words = words_to_count(name for classes in groups.values() for name in classes)
        counts = captions_naming(iter_tables(phrases, "groups"), words)
    return {group: cover(classes, pool, counts) for group, classes in groups.items()}


def _optional(concepts: Artifact, table: str) -> list[dict[str, Any]]:
    """The rows of a table that only a counted pool has."""
    exists = concepts.folder.exists(f"{table}.parquet")
    rows: list[dict[str, Any]] = read_table(concepts, table).to_pylist() if exists else []
    return rows


def _sizes(concepts: Artifact) -> list[tuple[int, int]]:
    return sorted((row["min_document_frequency"], row["concepts"]) for row in _optional(concepts, "thresholds"))


def _threshold(concepts: Artifact) -> int | None:
    """The captions that had to name a concept; None where no caption was counted."""
    least: int | None = concepts.manifest["config"].get("min_document_frequency")
    return least if _sizes(concepts) else None


def _plots(
    rows: Sequence[Mapping[str, Any]], sizes: Sequence[tuple[int, int]], threshold: int | None
) -> dict[str, tuple[Plot, str]]:
    """File name -> plot and its reading; without counts there is nothing to draw."""
    frequencies = [row["document_frequency"] for row in rows]
    tail = sorted((size, least) for least, size in sizes if size > len(rows))
    size_plot = partial(concept_plots.size_against_threshold, sizes, threshold, len(rows))
    tail_plot = partial(concept_plots.long_tail, frequencies, tail, threshold)
    drawn = {}
    if sizes:
        text = read_sizes(sizes, threshold, len(rows))
        drawn["size_against_threshold"] = _themed(size_plot, "size of the pool against the threshold"), text
    if any(frequencies):
        text = read_tail(frequencies, tail, threshold)
        drawn["long_tail"] = _themed(tail_plot, "captions that name each concept, against its rank"), text
    return drawn


def _themed(draw: Callable[[plots.Theme], bytes], alt: str) -> Plot:
    return Plot(draw(plots.LIGHT), draw(plots.DARK), alt)


def _facts(
    rows: Sequence[Mapping[str, Any]], metrics: Mapping[str, float], concepts: Artifact, phrases: Artifact | None
) -> list[tuple[str, str]]:
    numbers = [
        (None if phrases is None else phrases.manifest["metrics"].get("captions"), "captions"),
        (metrics.get("num_phrases"), "different names in them"),
        (len(rows), "concepts in the pool"),
        (_threshold(concepts), "captions that a concept needs"),
    ]
    return [(f"{number:,.0f}", words) for number, words in numbers if number is not None]


def _settings(rows: Sequence[Mapping[str, Any]], concepts: Artifact, phrases: Artifact | None) -> list[tuple[str, str]]:
    settings = []
    parsing = {} if phrases is None else json.loads(phrases.folder.read(PARSING))
    if parsing:
        settings += [("Parser", " and ".join(parsing["parsers"])), ("Why this one", parsing["message"])]
    found = Counter(parser for row in rows for parser in row["parser"].split("+") if parser)
    by_parser = ", ".join(f"{number:,} by {parser}" for parser, number in sorted(found.items()))
    settings.append(("Concepts found", by_parser))
    threshold, max_size = _threshold(concepts), concepts.manifest["config"].get("max_size")
    if threshold is None:
        settings.append(("Threshold", "None: the names were given, not chosen from captions."))
    else:
        text = f"A concept is named in {threshold:,} captions or more."
        folding = " A compound in fewer counts as its shorter ending: 'kitchen table' as 'table'."
        settings.append(("Threshold", text + (folding if parsing.get("folds") else "")))
    settings += [("Size limit", f"At most {max_size:,} concepts, the most frequent.")] if max_size else []
    return [(term, words) for term, words in settings if words]


def _metrics(coverage: Mapping[str, Sequence[ClassCoverage]]) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for group, rows in coverage.items():
        name = re.sub("[^a-z0-9]+", "_", group.lower()).strip("_")
        metrics[f"classes_{name}"] = len(rows)
        metrics[f"covered_{name}"] = num_covered(rows)
        metrics[f"lacking_{name}"] = count_states(rows)["lacking"]
    return metrics


STAGE = Stage(
    name="report_concepts",
    version=1,
    inputs={"concepts": ("concepts",), "phrases": ("phrases",)},
    output="concepts_report",
    run=report_concepts,
    optional=frozenset({"phrases"}),
    identity=identity,
)
