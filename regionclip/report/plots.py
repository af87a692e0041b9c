"""The plots of the page, as PNG bytes; equal values give equal bytes."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

WIDTH, DPI = 4.8, 200  # inches; dots an inch
GROUP_COLOURS = {"base": "#3f74a8", "novel": "#c9701f"}
_SERIES = ("#6b5b95", "#2f8f83", "#9a6a3a", "#7a7f87")
FONT = 10.5


@dataclass(frozen=True)
class Theme:
    """The colours of a plot that follow the page's light or dark scheme."""

    paper: str
    ink: str
    muted: str
    grid: str
    faint: str


LIGHT = Theme(paper="#ffffff", ink="#1d2126", muted="#5c646e", grid="#e4e7eb", faint="#cfd5dc")
DARK = Theme(paper="#1b1f24", ink="#e6e8eb", muted="#9aa3ad", grid="#30363d", faint="#4a525c")


@dataclass(frozen=True)
class ClassResult:
    """One class with its value before and after (fractions; None where not measured)."""

    name: str
    group: str
    before: float | None
    after: float | None


def group_bars(
    names: Sequence[str], values: Mapping[str, Sequence[float | None]], quantity: str, theme: Theme
) -> bytes:
    """Horizontal bars, a cluster a recipe and a bar a group; values are fractions, shown in percent."""
    axes, canvas = new_axes(0.55 + 0.58 * len(names), theme)
    thickness = 0.76 / len(values)
    highest = max([value for row in values.values() for value in row if value is not None], default=0.0)
    for offset, (group, row) in enumerate(values.items()):
        at = np.arange(len(names)) + (offset - (len(values) - 1) / 2) * thickness
        axes.barh(at, [100 * (value or 0.0) for value in row], thickness * 0.9, color=GROUP_COLOURS[group], label=group)
        for y, value in zip(at, row, strict=True):
            text = "not measured" if value is None else f"{100 * value:.1f}"
            axes.annotate(
                text, (100 * (value or 0.0), y), (3, 0), textcoords="offset points", va="center", size=FONT - 1.5
            )
    axes.set_yticks(range(len(names)), [textwrap.fill(name, 24) for name in names])
    axes.invert_yaxis()
    axes.set_xlim(0, max(100 * highest * 1.12, 1.0))
    axes.set_xlabel(f"{quantity} (%)")
    legend(axes, theme)
    return png(canvas)


def class_dots(classes: Sequence[ClassResult], before: str, after: str, quantity: str, theme: Theme) -> bytes:
    """One line a class, from its value before (ring) to its value after (dot), sorted within base and novel."""
    ordered = sorted(
        classes, key=lambda result: (result.group, -(-1.0 if result.after is None else result.after), result.name)
    )
    axes, canvas = new_axes(0.75 + 0.195 * max(len(ordered), 5), theme)
    for row, result in enumerate(ordered):
        colour = GROUP_COLOURS.get(result.group, theme.muted)
        ends = [100 * value for value in (result.before, result.after) if value is not None]
        if len(ends) == 2:
            axes.plot(ends, [row, row], color=colour, alpha=0.45, linewidth=1.6, zorder=2)
        if not ends:
            axes.annotate("not measured", (0, row), va="center", size=FONT - 2.5)
        if result.before is not None:
            axes.plot(
                100 * result.before,
                row,
                "o",
                markersize=4.6,
                markerfacecolor=theme.paper,
                markeredgecolor=colour,
                zorder=3,
            )
        if result.after is not None:
            axes.plot(100 * result.after, row, "o", markersize=5.2, color=colour, zorder=4)
    axes.set_yticks(range(len(ordered)), [result.name for result in ordered], fontsize=FONT - 1.5)
    axes.set_ylim(len(ordered) - 0.4, -0.6)
    axes.set_xlim(left=-1.5)
    axes.set_xlabel(f"{quantity} (%)")
    marks = [
        Line2D(
            [], [], linestyle="", marker="o", markerfacecolor=theme.paper, markeredgecolor=theme.muted, label=before
        ),
        Line2D([], [], linestyle="", marker="o", color=theme.muted, label=after),
        *(Patch(color=colour, label=group) for group, colour in GROUP_COLOURS.items()),
    ]
    legend(axes, theme, handles=marks, num_columns=2)
    return png(canvas)


def concept_bars(counts: Mapping[str, Mapping[str, int]], theme: Theme, num_concepts: int = 15) -> bytes:
    """Kept regions of the most used concepts; counts: recipe -> concept -> regions."""
    totals: dict[str, int] = {}
    for row in counts.values():
        for concept, count in row.items():
            totals[concept] = totals.get(concept, 0) + count
    concepts = sorted(totals, key=lambda concept: (-totals[concept], concept))[:num_concepts]
    axes, canvas = new_axes(0.75 + 0.26 * max(len(concepts), 5), theme)
    thickness = 0.78 / max(len(counts), 1)
    for offset, (recipe, row) in enumerate(counts.items()):
        at = np.arange(len(concepts)) + (offset - (len(counts) - 1) / 2) * thickness
        axes.barh(
            at, [row.get(concept, 0) for concept in concepts], thickness * 0.9, color=_series(offset), label=recipe
        )
    axes.set_yticks(range(len(concepts)), concepts)
    axes.invert_yaxis()
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("kept regions")
    legend(axes, theme, num_columns=1)
    return png(canvas)


def score_histograms(scores: Mapping[str, tuple[Sequence[int], Sequence[int]]], theme: Theme) -> bytes:
    """A histogram a recipe of the probability of the first label; scores: recipe -> (kept, dropped) regions a bin."""
    figure = new_figure(0.5 + 1.35 * len(scores), theme)
    canvas = FigureCanvasAgg(figure)
    panels = figure.subplots(len(scores), 1, sharex=True, squeeze=False)[:, 0]
    for index, (axes, (recipe, (kept, dropped))) in enumerate(zip(panels, scores.items(), strict=True)):
        style(axes, theme)
        axes.grid(axis="x", visible=False)
        axes.grid(axis="y", color=theme.grid, linewidth=0.7)
        edges = np.linspace(0, 1, len(kept) + 1)
        axes.bar(edges[:-1], dropped, np.diff(edges) * 0.92, align="edge", color=theme.faint, label="left out")
        axes.bar(
            edges[:-1], kept, np.diff(edges) * 0.92, bottom=dropped, align="edge", color=_series(index), label="kept"
        )
        axes.set_title(recipe, loc="left", fontsize=FONT - 0.5, color=theme.ink)
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.set_ylabel("regions")
        axes.legend(
            frameon=False, fontsize=FONT - 1.5, labelcolor=theme.muted, loc="upper right", ncols=2, handlelength=1.0
        )
        axes.set_ylim(top=max(1, *(np.add(kept, dropped) * 1.25)))
    panels[-1].set_xlabel("probability of a region's first label")
    panels[-1].set_xlim(0, 1)
    return png(canvas)


def new_figure(height: float, theme: Theme) -> Figure:
    """An empty figure of the plots' width; height: inches."""
    return Figure(figsize=(WIDTH, height), dpi=DPI, facecolor=theme.paper, layout="constrained")


def new_axes(height: float, theme: Theme) -> tuple[Axes, FigureCanvasAgg]:
    """The one panel of a new figure, and the canvas that `png` takes."""
    figure = new_figure(height, theme)
    axes = figure.subplots()
    style(axes, theme)
    return axes, FigureCanvasAgg(figure)


def style(axes: Axes, theme: Theme) -> None:
    """Give a panel the colours of the theme: no frame, no ticks, upright grid lines."""
    axes.set_facecolor(theme.paper)
    axes.set_axisbelow(True)
    axes.grid(axis="x", color=theme.grid, linewidth=0.7)
    axes.tick_params(length=0, labelsize=FONT - 0.5, labelcolor=theme.ink)
    axes.xaxis.label.set(color=theme.muted, fontsize=FONT - 0.5)
    axes.yaxis.label.set(color=theme.muted, fontsize=FONT - 0.5)
    for spine in axes.spines.values():
        spine.set_visible(False)


def legend(axes: Axes, theme: Theme, handles: Sequence[Artist] | None = None, num_columns: int = 4) -> None:
    """A legend above the panel, of its labelled marks or of `handles`."""
    for text in axes.texts:
        text.set_color(theme.ink)
    shown = axes.get_legend_handles_labels()[0] if handles is None else handles
    figure = axes.get_figure()
    assert figure is not None
    figure.legend(
        handles=shown,
        labels=[textwrap.fill(str(handle.get_label()), 44) for handle in shown],
        loc="outside upper left",
        ncols=num_columns,
        frameon=False,
        fontsize=FONT - 0.5,
        labelcolor=theme.ink,
        handlelength=1.0,
        columnspacing=1.4,
    )


def _series(index: int) -> str:
    return _SERIES[index % len(_SERIES)]


def png(canvas: FigureCanvasAgg) -> bytes:
    """The drawn figure as PNG bytes, without a trace of the software."""
    buffer = io.BytesIO()
    canvas.print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()
