"""Region labels as one self-contained HTML page to judge them by: no script and no outside resource."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from regionclip.labels.agreement import Agreement
from regionclip.labels.statistics import Histogram, LabelAudit, NeverKept
from regionclip.labels.truth import ClassTruth, TruthCurve
from regionclip.report.comparison import DEPARTURE
from regionclip.report.gallery import Crop, LabelledPicture
from regionclip.report.page import ABSENT, ArtifactLine, Plot, environment, percent

MAX_ROWS = 16
LITTLE = 0.01  # F1 that is not worth another threshold
CURVE = "precision_recall"
_TITLES = {"pool": "whole pool", "captions": "caption-guided", "weighted": "caption-weighted"}


@dataclass(frozen=True)
class LabelSet:
    """One set of labels.

    candidates: 'pool', 'captions' or 'weighted'; empty where not known. threshold: that a score had to exceed to be
    kept; None where not known. corrected: whether a person changed some. about: further words, such as the teacher.
    agreement: with the set that the page looks at; None for that one itself. truth: None without annotated boxes.
    """

    key: str
    candidates: str
    threshold: float | None
    corrected: bool
    about: str
    num_concepts: int
    audit: LabelAudit
    agreement: Agreement | None = None
    truth: TruthCurve | None = None

    @property
    def departure(self) -> bool:
        """Whether candidates were not the whole pool, as in the paper."""
        return self.candidates not in ("pool", "")

    @property
    def title(self) -> str:
        """What the candidates were, in words."""
        return _TITLES.get(self.candidates, "labels")


@dataclass(frozen=True)
class GalleryRow:
    """A concept with its kept regions, of which some are shown."""

    concept: str
    kept: int
    crops: Sequence[Crop]


@dataclass(frozen=True)
class Judged:
    """What is judged by annotated boxes.

    unmeant: of `num_classes`, those that no concept means. images, regions: with any annotated box, and in them. iou:
    least overlap.
    """

    weakest: Sequence[ClassTruth]
    num_classes: int
    unmeant: Sequence[str]
    images: int
    regions: int
    iou: float


@dataclass(frozen=True)
class LabelsPage:
    """Everything the page shows.

    facts: (number, what it counts), the headline; settings: (term, words) on how the labels were made.
    sets: the one looked at, then those compared with it.
    pictures, gallery: of the first set; unreadable: images that could not be read, by id, with the reason.
    groups: concept or class -> base or novel.
    plots: by name, each with a paragraph that reads it; that of CURVE stands beside the weakest classes.
    never: concepts that captions mention and no kept region carries; None where captions were not counted.
    judged: None without annotated boxes.
    """

    title: str
    marks: Sequence[str]
    facts: Sequence[tuple[str, str]]
    settings: Sequence[tuple[str, str]]
    sets: Sequence[LabelSet]
    pictures: Sequence[LabelledPicture]
    gallery: Sequence[GalleryRow]
    unreadable: Mapping[int, str]
    groups: Mapping[str, str]
    plots: Mapping[str, tuple[Plot, str]]
    never: Sequence[NeverKept] | None
    judged: Judged | None
    lineage: Sequence[ArtifactLine]


def render(page: LabelsPage) -> str:
    """The HTML text of the page."""
    made = environment()
    made.filters.update(decimals=decimals)
    template = made.get_template("labels_page.html.j2")
    shown = {name: pair for name, pair in page.plots.items() if name != CURVE}
    return template.render(
        page=page,
        first=page.sets[0],
        plots=shown,
        curve=page.plots.get(CURVE),
        departure=DEPARTURE,
        max_rows=MAX_ROWS,
        best=best_cut,
    )


def decimals(value: float | None) -> str:
    """A score with two decimals."""
    return ABSENT if value is None else f"{value:.2f}"


def best_cut(curve: TruthCurve | None) -> tuple[float | None, float | None]:
    """The threshold of the highest F1, and that F1."""
    if curve is None or curve.suggested is None:
        return None, None
    return curve.suggested, curve.f1(curve.thresholds.index(curve.suggested))


def weakest_classes(curve: TruthCurve, number: int = MAX_ROWS) -> list[ClassTruth]:
    """The classes of the lowest F1 of kept regions, of equals the one with more objects first."""

    def strength(row: ClassTruth) -> tuple[float, int, str]:
        return (
            2 * row.found * row.right / max(row.found * row.labels + row.right * row.objects, 1),
            -row.objects,
            row.name,
        )

    return sorted((row for row in curve.by_class if row.objects or row.labels), key=strength)[:number]


def read_scores(audit: LabelAudit, threshold: float | None) -> str:
    """What the histogram of scores says."""
    if not audit.regions:
        return "There is no region."
    totals = [kept + dropped for kept, dropped in zip(audit.score.kept, audit.score.dropped, strict=True)]
    sure = sum(total for edge, total in zip(audit.score.edges, totals, strict=False) if edge >= 0.9 - 1e-9)
    text = (
        f"The probability of a region's first label among its candidates. {_share(audit.kept, audit.regions)} of all "
        f"regions are kept, {_share(sure, audit.regions)} score 0.9 or more."
    )
    if threshold is not None:
        near = _between(audit.score, audit.score.dropped, threshold - 0.1, threshold)
        text += f" Lowering the threshold by 0.1 would add about {near:,} regions." if near else ""
    return f"{text} A high score says that the teacher is sure, not that it is right."


def read_entropy(audit: LabelAudit) -> str:
    """What the histogram of entropies says."""
    bins = audit.entropy
    known = sum(bins.kept) + sum(bins.dropped)
    if not known:
        return "Not known: these labels came without a teacher's probabilities."
    text = f"How undecided the teacher is over the whole pool: 0 is sure, {bins.edges[-1]:.2f} is all concepts alike."
    return f"{text} {_medians(bins)}{_unknown(known, audit.regions)}"


def read_sizes(audit: LabelAudit) -> str:
    """What the histogram of box sizes says."""
    bins = audit.size
    if not sum(bins.kept) + sum(bins.dropped):
        return "There is no region with a known size."
    text = f"The side of a square as large as the box, as a share of such a side of the image. {_medians(bins)}"
    small = [counts[:2] for counts in (bins.kept, bins.dropped)]
    if total := sum(map(sum, small)):
        text += f" Of the {total:,} regions below {bins.edges[2]:g}, {_share(sum(small[0]), total)} are kept."
    return text


def read_tail(audit: LabelAudit, num_concepts: int) -> str:
    """What the plot of ranks says."""
    if not audit.kept:
        return "No region is kept, so no concept labels one."
    silent = sum(not count for count in audit.labelled)
    text = (
        f"Concepts that label a kept region: {audit.used:,} of {num_concepts:,}. "
        f"Concepts that make up half of all kept regions: {audit.half:,}."
    )
    if audit.used < num_concepts:
        text += f" Concepts that are not even the first label of a dropped region: {silent:,}."
    return f"{text} A student learns little of those far out in the tail."


def read_curve(labels: LabelSet) -> str:
    """What precision and recall against the threshold say, with the cut that they suggest."""
    curve = labels.truth
    if curve is None or not curve.objects:
        return "No annotated object is of a class that a concept means, so recall is not known."
    most = _share(curve.covered, curve.objects)
    ceiling = f"No label can find more than {most} of the objects: no region overlaps the rest."
    if curve.suggested is None:
        return f"No label is right, at any threshold. {ceiling}"
    best = curve.thresholds.index(curve.suggested)
    text = (
        f"The best balance (F1 {percent(curve.f1(best))} %) is at a threshold of {curve.suggested:g}: "
        f"{percent(curve.precision(best))} % of the labels above it are right, and they find "
        f"{percent(curve.recall(best))} % of the objects."
    )
    precision, recall = curve.kept
    at = "" if labels.threshold is None else f", at {labels.threshold:g},"
    text += f" What is kept now{at} has {percent(precision)} % and {percent(recall)} %"
    f1 = 2 * precision * recall / (precision + recall) if precision and recall else 0.0
    text += f" (F1 {percent(f1)} %)."
    if (curve.f1(best) or 0.0) - f1 < LITTLE:
        text += " Another threshold would gain little."
    elif not labels.corrected:
        candidates = f" --set labels.candidates={labels.candidates}" if labels.candidates else ""
        text += f" To take it over: 'rgc run label --set labels.threshold={curve.suggested:g}{candidates}'."
    return f"{text} {ceiling}"


def _between(bins: Histogram, counts: Sequence[int], low: float, high: float) -> int:
    """Roughly how many of the counted lie between two values; bins that are cut count in part."""
    total = 0.0
    for left, right, count in zip(bins.edges, bins.edges[1:], counts, strict=False):
        total += count * max(0.0, min(right, high) - max(left, low)) / (right - left)
    return round(total)


def _medians(bins: Histogram) -> str:
    middles = {"kept": _median(bins, bins.kept), "dropped": _median(bins, bins.dropped)}
    said = [f"{value:.2f} of the {name}" for name, value in middles.items() if value is not None]
    return f"The median is about {' and '.join(said)} ones." if said else ""


def _median(bins: Histogram, counts: Sequence[int]) -> float | None:
    total, running = sum(counts), 0
    for left, right, count in zip(bins.edges, bins.edges[1:], counts, strict=False):
        if count and 2 * (running + count) >= total:
            return left + (right - left) * (total / 2 - running) / count
        running += count
    return None


def _unknown(known: int, regions: int) -> str:
    return f" Not known of {_some(regions - known, 'region')}." if known < regions else ""


def _share(part: int, whole: int) -> str:
    return f"{percent(part / whole if whole else None)} %"


def _some(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
