"""The two plots of a concept pool, as PNG bytes; equal values give equal bytes."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter

from regionclip.report.plots import FONT, GROUP_COLOURS, Theme, new_axes, png

LINE, MARK = GROUP_COLOURS["base"], GROUP_COLOURS["novel"]
_HEIGHT = 3.4  # inches


def size_against_threshold(
    sizes: Sequence[tuple[int, int]], threshold: int | None, num_concepts: int, theme: Theme
) -> bytes:
    """Concepts of the pool at each threshold, the chosen one marked; sizes: (captions needed, concepts)."""
    axes, canvas = new_axes(_HEIGHT, theme)
    shown = [(least, size) for least, size in sizes if size > 0]
    _log_log(axes, theme)
    if shown:
        axes.plot(*zip(*shown, strict=True), color=LINE, linewidth=1.8, marker="o", markersize=4.2, zorder=2)
    if threshold is not None:
        axes.axvline(threshold, color=MARK, linewidth=1.4, linestyle=(0, (4, 3)), zorder=1)
    if threshold is not None and num_concepts > 0:
        axes.plot([threshold], [num_concepts], "o", color=MARK, markersize=7.5, zorder=3)
        text = f"{num_concepts:,} concepts\nin {threshold:,} captions or more"
        _note(axes, text, (threshold, num_concepts), theme, right=threshold**2 <= max([1, *(t for t, _ in shown)]))
    axes.set_xlabel("captions that must name a concept")
    axes.set_ylabel("concepts in the pool")
    return png(canvas)


def long_tail(
    frequencies: Sequence[int], tail: Sequence[tuple[int, int]], threshold: int | None, theme: Theme
) -> bytes:
    """Document frequency against rank, both on a logarithmic scale, with the threshold.

    frequencies: of the concepts, any order; those below the threshold, which were listed, are left out.
    tail: (rank, document frequency) of names that are too rare.
    """
    axes, canvas = new_axes(_HEIGHT, theme)
    ranked = sorted((number for number in frequencies if number >= (threshold or 1)), reverse=True)
    _log_log(axes, theme)
    if ranked:
        axes.plot(range(1, len(ranked) + 1), ranked, color=LINE, linewidth=2.2, zorder=3)
    if tail:
        start = [(len(ranked), ranked[-1])] if ranked else []
        axes.plot(*zip(*start, *tail, strict=True), color=theme.muted, linewidth=1.4, linestyle=(0, (1, 2)), zorder=2)
    if threshold is not None:
        axes.axhline(threshold, color=MARK, linewidth=1.4, linestyle=(0, (4, 3)), zorder=1)
        axes.annotate(
            f"threshold: {threshold:,}",
            (0, threshold),
            (5, 3),
            xycoords=axes.get_yaxis_transform(),
            textcoords="offset points",
            color=theme.ink,
            size=FONT - 1.5,
            va="bottom",
        )
    axes.set_xlabel("rank of the concept")
    axes.set_ylabel("captions that name it")
    return png(canvas)


def _log_log(axes: Axes, theme: Theme) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.grid(axis="y", color=theme.grid, linewidth=0.7)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else ""))
        axis.set_minor_formatter(NullFormatter())
    axes.tick_params(which="minor", length=0)
    axes.margins(0.06, 0.1)


def _note(axes: Axes, text: str, at: tuple[float, float], theme: Theme, right: bool) -> None:
    axes.annotate(
        text,
        at,
        (9 if right else -9, 7),
        textcoords="offset points",
        color=theme.ink,
        size=FONT - 1.5,
        ha="left" if right else "right",
        va="bottom",
    )
