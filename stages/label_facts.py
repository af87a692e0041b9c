"""What a report says of sets of region labels: how they were made, their numbers, and plots of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from regionclip.labels.agreement import Agreement
from regionclip.labels.statistics import LabelAudit
from regionclip.labels.truth import TruthCurve
from regionclip.report import label_plots, plots
from regionclip.report.labels_page import (
    CURVE,
    LabelSet,
    LabelsPage,
    best_cut,
    read_curve,
    read_entropy,
    read_scores,
    read_sizes,
    read_tail,
)
from regionclip.report.page import ABSENT, Plot, percent
from stages.contract import Artifact
from stages.lineage import stored, upstream
from stages.parts import iter_tables

_CANDIDATES = {
    "pool": "All concepts of the pool, in every image.",
    "captions": "Only the concepts that the image's own captions name; where they name none, no region is kept.",
    "weighted": "All concepts of the pool; the odds of those that the image's captions name count {weight:g} times.",
}


def concept_names(labels: Artifact) -> list[str]:
    """The names behind the concept ids."""
    names: list[str] = json.loads(labels.folder.read("concepts.json"))["concepts"]
    return names


def describe(
    labels: Artifact, num_concepts: int, audit: LabelAudit, agreement: Agreement | None, truth: TruthCurve | None
) -> LabelSet:
    """A set of labels with its numbers."""
    made, metadata = _made_with(labels), _metadata(labels)
    threshold = threshold_of(labels)
    about = [_teacher(labels), f"{num_concepts:,} concepts", "" if threshold is None else f"threshold {threshold:g}"]
    return LabelSet(
        key=labels.key,
        candidates=metadata.get("candidates", made.get("candidates", "")),
        threshold=threshold,
        corrected=bool(metadata.get("corrections")),
        about=", ".join(filter(None, about)),
        num_concepts=num_concepts,
        audit=audit,
        agreement=agreement,
        truth=truth,
    )


def threshold_of(labels: Artifact) -> float | None:
    """What the probability of a kept region exceeds, None where it is no longer known."""
    return _made_with(labels).get("threshold")


def facts(labels: LabelSet) -> list[tuple[str, str]]:
    """The headline numbers, each with what it counts."""
    audit = labels.audit
    shown = [
        (f"{audit.images:,}", f"images, {audit.images_without_kept:,} of them without a kept region"),
        (f"{audit.regions:,}", "regions"),
        (_percent(audit.kept / audit.regions if audit.regions else None), f"of them kept: {audit.kept:,}"),
        (f"{audit.used:,}", f"of {labels.num_concepts:,} concepts label a kept region"),
        (ABSENT if audit.mean_kept_score is None else f"{audit.mean_kept_score:.2f}", "mean score of kept regions"),
    ]
    if labels.truth is not None:
        precision, recall = labels.truth.kept
        shown += [
            (_percent(precision), "of judged kept labels are right"),
            (_percent(recall), "of annotated objects are found"),
        ]
    return shown


def settings(labels: Artifact, num_concepts: int) -> list[tuple[str, str]]:
    """How the labels were made: term and words."""
    made, metadata = _made_with(labels), _metadata(labels)
    pool = metadata.get("pool", "")
    candidates = metadata.get("candidates", "")
    rows = [
        ("Teacher", _teacher(labels)),
        ("Pool", f"{num_concepts:,} concepts{f' ({pool[:8]})' if pool else ''}"),
        ("Templates", ", ".join(filter(None, (metadata.get("templates"), metadata.get("ensemble"))))),
        ("Temperature", metadata.get("temperature", "")),
        ("Candidates", _CANDIDATES.get(candidates, "").format(weight=float(metadata.get("caption_weight", 1)))),
    ]
    if "threshold" in made:
        kept = f"A region whose first label has a probability above {made['threshold']:g}"
        if made.get("pool_threshold"):
            kept += f", and above {made['pool_threshold']:g} over the whole pool"
        rows += [("Kept", f"{kept}."), ("Stored", f"The {made['top_k']} likeliest concepts of a region.")]
    corrections = len(metadata.get("corrections", "").split())
    rows += [("Corrected", f"By {corrections} {'file' if corrections == 1 else 'files'}.")] if corrections else []
    return [(term, words) for term, words in rows if words]


def plots_of(labels: LabelSet) -> dict[str, tuple[Plot, str]]:
    """File name -> plot of a set of labels and its reading; that against annotated boxes only where there are any."""
    audit, threshold = labels.audit, labels.threshold
    draw: dict[str, tuple[Callable[[plots.Theme], bytes], str, str]] = {
        "scores": (
            partial(label_plots.histogram, audit.score, "probability of a region's first label", threshold),
            "how probable the first labels are, kept and dropped",
            read_scores(audit, threshold),
        ),
        "entropy": (
            partial(label_plots.histogram, audit.entropy, "entropy over the whole pool (nat)", None),
            "how undecided the teacher is, kept and dropped",
            read_entropy(audit),
        ),
        "sizes": (
            partial(label_plots.histogram, audit.size, "side of the box, as a share of the image's", None),
            "how large the boxes are, kept and dropped",
            read_sizes(audit),
        ),
        "labels_per_concept": (
            partial(label_plots.long_tail, audit.kept_of, audit.labelled),
            "regions of each concept, against its rank",
            read_tail(audit, labels.num_concepts),
        ),
    }
    if labels.truth is not None:
        draw[CURVE] = (
            partial(label_plots.precision_and_recall, labels.truth, threshold),
            "precision, recall and F1 against the threshold",
            read_curve(labels),
        )
    return {name: (Plot(make(plots.LIGHT), make(plots.DARK), alt), text) for name, (make, alt, text) in draw.items()}


def document(page: LabelsPage, concepts: Sequence[str]) -> dict[str, Any]:
    """All numbers of the page, ready for JSON; `concepts` are those of the first set."""
    return {
        "marks": list(page.marks),
        "concepts": list(concepts),
        "sets": [_set_document(each) for each in page.sets],
        "never_kept": None if page.never is None else [row._asdict() for row in page.never],
        "classes_without_concept": None if page.judged is None else list(page.judged.unmeant),
        "judged_images": None if page.judged is None else page.judged.images,
        "unreadable": {str(image_id): reason for image_id, reason in page.unreadable.items()},
    }


def metrics(sets: Sequence[LabelSet]) -> dict[str, float]:
    """Flat numbers: of the first set by their names, of another with 'labels_1.' before them."""
    return {
        f"labels_{index}.{name}" if index else name: value
        for index, each in enumerate(sets)
        for name, value in _set_metrics(each).items()
        if value is not None
    }


def _set_metrics(labels: LabelSet) -> dict[str, float | None]:
    audit, truth, agreement = labels.audit, labels.truth, labels.agreement
    threshold, f1 = best_cut(truth)
    precision, recall = (None, None) if truth is None else truth.kept
    return {
        "images": audit.images,
        "images_without_kept": audit.images_without_kept,
        "regions": audit.regions,
        "kept": audit.kept,
        "kept_share": audit.kept / audit.regions if audit.regions else None,
        "concepts": labels.num_concepts,
        "concepts_used": audit.used,
        "mean_kept_score": audit.mean_kept_score,
        "precision": precision,
        "recall": recall,
        "best_f1": f1,
        "best_threshold": threshold,
        "same_label": None if agreement is None else agreement.share,
        "same_label_of_both_kept": None if agreement is None else agreement.share_of_both_kept,
    }


def _set_document(labels: LabelSet) -> dict[str, Any]:
    truth = labels.truth
    steps = range(0 if truth is None else len(truth.thresholds))
    more = {"title": labels.title, "departure": labels.departure, "metrics": _set_metrics(labels)}
    if truth is not None:
        more["truth"] = {**asdict(truth), "by_class": [row._asdict() for row in truth.by_class]}
        measures = {"precision": truth.precision, "recall": truth.recall, "f1": truth.f1}
        more["curve"] = {name: [measure(step) for step in steps] for name, measure in measures.items()}
    return {**asdict(labels), **more}


def _made_with(labels: Artifact) -> Mapping[str, Any]:
    """The config of the labelling, of which the labels may be a correction; empty where it is no longer known."""
    *_, oldest = upstream(labels, ["region_labels"])
    config: dict[str, Any] = oldest.manifest["config"]
    return config if "threshold" in config else {}


def _metadata(labels: Artifact) -> dict[str, str]:
    table = next(iter_tables(labels, "region_labels", ["image_id"]))
    return {name.decode(): value.decode() for name, value in (table.schema.metadata or {}).items()}


def _teacher(labels: Artifact) -> str:
    key = _metadata(labels).get("teacher", "")
    clip = stored(labels, "clip", key) if key else None
    config = {} if clip is None else clip.manifest["config"]
    model = config.get("model") or config.get("training", {}).get("model", "")
    return " ".join(filter(None, (model, config.get("pretrained") or "", f"({key[:8]})" if key else "")))


def _percent(value: float | None) -> str:
    return ABSENT if value is None else f"{percent(value)} %"
