"""Plots as inline SVG whose colours are the page's variables, so that they follow its theme."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from raison.evaluation.results import Cell, Curve
from raison.evaluation.statistics import Estimate
from raison.report.canvas import (
    COLOURS,
    INK,
    MUTED,
    PANEL,
    SERIES,
    as_svg,
    drawing,
    fitting,
    legend_below,
    margin,
    new_figure,
)
from raison.report.glossary import REFERENCES, Metric, reference_title

Band = tuple[Sequence[float], Sequence[float], Sequence[float]]  # values, low, high
_REFERENCE_STYLES = {
    "chance": (MUTED, (0, (4, 3))),
    "random": (MUTED, (0, (4, 3))),
    "select_all": (MUTED, (0, (1, 2))),
    "least": (MUTED, (0, (1, 2))),
    "human": (COLOURS[2], "solid"),
    "full": (INK, "solid"),
}


def dots(metric: Metric, cells: Sequence[Cell]) -> Markup:
    """Plot each source's value with its interval, and the references as lines through its row."""
    with drawing(f"dots {metric.name}"):
        height = 56 + 26 * len(cells) + 18 * ((len(_references(cells)) + 1) // 2)
        figure, axes = new_figure(height, left=margin([cell.source for cell in cells]))
        for name in _references(cells):
            _reference_line(axes, name, [cell.frame.get(name) for cell in cells])
        for row, cell in enumerate(cells):
            _dot(axes, row, cell)
        axes.set_yticks(range(len(cells)), [fitting(cell.source) for cell in cells])
        axes.set_ylim(len(cells) - 0.4, -0.6)
        axes.margins(x=0.06)
        if _references(cells):
            legend_below(figure, axes, columns=2)
        return as_svg(figure, f"{metric.title} of each source with its interval; the numbers are in the table above.")


def curves(metric: Metric, found: Sequence[Curve]) -> Markup:
    """Plot a metric against the share of words taken away or kept, with a band for each source's interval."""
    with drawing(f"curves {metric.name}"):
        height = 240 + 18 * ((len(found) + 1) // 2)
        figure, axes = new_figure(height, left=36)
        axes.grid(axis="y")
        for index, curve in enumerate(found):
            _curve(axes, index, curve.source, curve.ratios, (curve.values, curve.low, curve.high), opacity=0.13)
        axes.xaxis.set_major_formatter(lambda x, _: f"{100 * x:g} %")
        axes.margins(x=0.02)
        legend_below(figure, axes, columns=2)
        return as_svg(figure, f"{metric.title} of each source against the share of words, with intervals.")


def _references(cells: Sequence[Cell]) -> list[str]:
    present = {name for cell in cells for name, mark in cell.frame.items() if mark is not None}
    return [*(name for name in REFERENCES if name in present), *sorted(present - REFERENCES.keys())]


def _reference_line(axes: Any, name: str, marks: Sequence[float | None]) -> None:
    """Draw a reference through each row; where it is the same for all, the pieces join to one line."""
    colour, style = _REFERENCE_STYLES.get(name, (MUTED, (0, (5, 1, 1, 1))))
    x = np.repeat([np.nan if mark is None else mark for mark in marks], 2)
    y = np.repeat(np.arange(len(marks)), 2) + np.tile([-0.5, 0.5], len(marks))
    axes.plot(x, y, color=colour, linestyle=style, linewidth=1.2, label=reference_title(name), zorder=1)


def _dot(axes: Any, row: int, cell: Cell) -> None:
    if cell.value is None or not np.isfinite(cell.value):
        behind = {"facecolor": PANEL, "edgecolor": "none", "pad": 1}
        axes.text(0.02, row, "undefined", color=MUTED, va="center", bbox=behind, transform=axes.get_yaxis_transform())
        return
    withheld = bool(cell.verdict)  # hollow and grey: not to be ranked
    colour = MUTED if withheld else COLOURS[0]
    if cell.low is not None and cell.high is not None:
        axes.plot([cell.low, cell.high], [row, row], color=colour, linewidth=2, solid_capstyle="round", zorder=2)
    axes.plot([cell.value], [row], marker="o", markersize=6.5, color=colour, zorder=3,
              fillstyle="none" if withheld else "full", linestyle="none")  # fmt: skip


def _curve(axes: Any, index: int, name: str, places: Sequence[float], values: Band, *, opacity: float) -> None:
    """Draw values with the band between low and high; colour, dashes and marker say which curve it is."""
    colour, style = COLOURS[index % SERIES], ("solid", (0, (5, 2)), (0, (2, 2)))[index // SERIES % 3]
    y, low, high = values
    axes.fill_between(places, low, high, color=colour, alpha=opacity, linewidth=0)
    axes.plot(places, y, color=colour, linestyle=style, linewidth=1.6, marker="osD^vPX*"[index % 8], markersize=4.5,
              label=fitting(name))  # fmt: skip


def grown(metric: Metric, found: Mapping[str, Sequence[tuple[int, Cell]]], axis: str, marks: Sequence[str]) -> Markup:
    """Plot a metric against a size (logarithmic), a curve with a band for each series, and references as lines across.

    Args:
        metric: what is plotted.
        found: series -> size and cell.
        axis: what the size is of.
        marks: references in the cells' frames, the same for all, that are drawn.
    """
    with drawing(f"{metric.name} {axis} {' '.join(found)}"):
        figure, axes = new_figure(250 + 18 * ((len(found) + len(marks) + 1) // 2), left=40)
        axes.grid(axis="y")
        frame = next(iter(found.values()))[0][1].frame
        for name, style in zip(marks, ("solid", (0, (4, 3)), (0, (1, 2))), strict=False):
            if (mark := frame.get(name)) is not None:
                axes.axhline(mark, color=MUTED, linestyle=style, linewidth=1.2, label=fitting(name))
        for index, (name, points) in enumerate(found.items()):
            rows = [(cell.value, cell.low, cell.high) for _, cell in points]
            y, low, high = ([np.nan if end is None else end for end in ends] for ends in zip(*rows, strict=True))
            _curve(axes, index, name, [at for at, _ in points], (y, low, high), opacity=0.13)
        _by_powers(axes, {at for points in found.values() for at, _ in points}, {})
        legend_below(figure, axes, columns=2)
        return as_svg(figure, f"{metric.title} against {axis}, with intervals; the numbers are in the table.")


def _by_powers(axes: Any, places: Collection[float], named: Mapping[float, str]) -> None:
    """Make the axis logarithmic, with a tick at each place, which says its value where it has no name."""
    axes.set_xscale("log")
    axes.set_xticks(sorted(places), [named.get(at, f"{at:g}") for at in sorted(places)])
    axes.minorticks_off()


def gains(
    found: Mapping[str, Sequence[tuple[float, Estimate]]],
    axis: str,
    *,
    logarithmic: bool = False,
    named: Mapping[float, str],
) -> Markup:
    """Plot what was gained against what was varied, a curve with a band for each series, and a line at no gain.

    Args:
        found: series -> value of what was varied, and gain.
        axis: what was varied.
        logarithmic: whether its axis is, with a tick at each value.
        named: what such a tick says in the place of its value.
    """
    with drawing(f"gains {axis} {' '.join(found)}"):
        figure, axes = new_figure(240 + 18 * ((len(found) + 1) // 2), left=40)
        axes.grid(axis="y")
        axes.axhline(0, color=MUTED, linewidth=1.2)
        for index, (name, points) in enumerate(found.items()):
            rows = [(one.value, one.low, one.high) for _, one in points]
            y, low, high = ([np.nan if mark is None else mark for mark in marks] for marks in zip(*rows, strict=True))
            _curve(axes, index, name, [at for at, _ in points], (y, low, high), opacity=0.1)
        if logarithmic:
            _by_powers(axes, {at for points in found.values() for at, _ in points}, named)
        axes.margins(x=0.03)
        legend_below(figure, axes, columns=2)
        return as_svg(figure, f"Gain over the task alone against {axis}, with intervals.")
