"""The plots of a labels page, as PNG bytes; equal values give equal bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from regionclip.labels.statistics import Histogram
from regionclip.labels.truth import TruthCurve
from regionclip.report.plots import FONT, GROUP_COLOURS, Theme, legend, new_axes, png

KEPT, MARK = GROUP_COLOURS["base"], GROUP_COLOURS["novel"]
RECALL = "#2f8f83"
_HEIGHT = 3.2  # inches
_DASHED, _DOTTED = (0, (4, 3)), (0, (1, 2))


def histogram(bins: Histogram, quantity: str, threshold: float | None, theme: Theme) -> bytes:
    """Regions in each bin, the kept ones below and the dropped ones above; threshold: marked where given."""
    axes, canvas = new_axes(_HEIGHT, theme)
    axes.grid(axis="x", visible=False)
    axes.grid(axis="y", color=theme.grid, linewidth=0.7)
    edges = np.array(bins.edges)
    at, width = edges[:-1], np.diff(edges) * 0.92
    axes.bar(at, bins.kept, width, align="edge", color=KEPT)
    axes.bar(at, bins.dropped, width, bottom=bins.kept, align="edge", color=theme.faint)
    marks: list[Artist] = [Patch(color=KEPT, label="kept"), Patch(color=theme.faint, label="dropped")]
    if threshold is not None:
        words = f"threshold {threshold:g}"
        marks.append(axes.axvline(threshold, color=MARK, linewidth=1.4, linestyle=_DASHED, label=words))
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(bottom=0, top=max(1, 1.05 * float(np.add(bins.kept, bins.dropped).max(initial=0))))
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    _thousands(axes)
    axes.set_xlabel(quantity)
    axes.set_ylabel("regions")
    legend(axes, theme, handles=marks)
    return png(canvas)


def long_tail(kept: Sequence[int], labelled: Sequence[int], theme: Theme) -> bytes:
    """Regions of each concept against its rank, both on a logarithmic scale.

    kept, labelled: kept regions, and all regions, whose first label is concept i; concepts of none are counted in a
    note.
    """
    axes, canvas = new_axes(_HEIGHT, theme)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.grid(axis="y", color=theme.grid, linewidth=0.7)
    for counts, colour, line, words in (
        (labelled, theme.muted, _DOTTED, "all regions"),
        (kept, KEPT, "-", "kept regions"),
    ):
        ranked = sorted((count for count in counts if count), reverse=True)
        marker = "o" if len(ranked) == 1 else ""
        ranks = range(1, len(ranked) + 1)
        axes.plot(ranks, ranked, color=colour, linewidth=2.0, linestyle=line, marker=marker, label=words)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else ""))
        axis.set_minor_formatter(NullFormatter())
    axes.tick_params(which="minor", length=0)
    axes.margins(0.06, 0.1)
    never = sum(not count for count in kept)
    axes.annotate(
        f"{never:,} of {len(kept):,} concepts\nlabel no kept region",
        (0.03, 0.05),
        xycoords="axes fraction",
        color=theme.ink,
        size=FONT - 1.5,
        va="bottom",
    )
    axes.set_xlabel("rank of the concept")
    axes.set_ylabel("regions that it labels")
    legend(axes, theme)
    return png(canvas)


def precision_and_recall(curve: TruthCurve, threshold: float | None, theme: Theme) -> bytes:
    """Precision, recall and F1 at every threshold, in percent, with the suggested cut and the present one marked."""
    axes, canvas = new_axes(_HEIGHT + 0.4, theme)
    axes.grid(axis="y", color=theme.grid, linewidth=0.7)
    for measure, colour, line, words in (
        (curve.precision, KEPT, "-", "precision"),
        (curve.recall, RECALL, "-", "recall"),
        (curve.f1, theme.muted, _DOTTED, "F1"),
    ):
        values = [measure(index) for index in range(len(curve.thresholds))]
        percent = [np.nan if value is None else 100 * value for value in values]
        axes.plot(curve.thresholds, percent, color=colour, linewidth=2.0, linestyle=line, label=words)
    if curve.suggested is not None:
        axes.axvline(curve.suggested, color=MARK, linewidth=1.6, label=f"best F1: {curve.suggested:g}")
    if threshold is not None:
        axes.axvline(threshold, color=MARK, linewidth=1.4, linestyle=_DASHED, label=f"now: {threshold:g}")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 102)
    axes.set_xlabel("threshold that the score must exceed")
    axes.set_ylabel("percent")
    legend(axes, theme, num_columns=3)
    return png(canvas)


def _thousands(axes: Axes) -> None:
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
