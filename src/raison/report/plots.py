"""Plots as inline SVG whose colours are the page's variables, so that they follow its theme."""

import re
import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from io import StringIO
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure

from raison.evaluation.results import Cell, Curve
from raison.report.glossary import REFERENCES, Metric, reference_title
from raison.report.text import plain

SERIES = 8  # colours; after them the line style changes
_INK, _MUTED, _LINE, _PANEL = "#0a0b0c", "#0a0b0d", "#0a0b0e", "#0a0b0f"  # stand-ins, replaced by the page's variables
_COLOURS = {
    **{_INK: "ink", _MUTED: "muted", _LINE: "line", _PANEL: "panel"},
    **{f"#0b0c{index:02x}": f"series-{index + 1}" for index in range(SERIES)},
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text
    "text.parse_math": False,  # a name with dollar signs is a name
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same layout everywhere
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.edgecolor": _LINE,
    "axes.labelcolor": _MUTED,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "axes.grid": True,
    "axes.grid.axis": "x",
    "grid.color": _LINE,
    "grid.linewidth": 0.6,
    "xtick.color": _MUTED,
    "ytick.color": _INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "text.color": _INK,
    "legend.frameon": False,
    "legend.labelcolor": _MUTED,
    "legend.fontsize": 10.5,
}
_REFERENCE_STYLES = {
    "chance": (_MUTED, (0, (4, 3))),
    "random": (_MUTED, (0, (4, 3))),
    "select_all": (_MUTED, (0, (1, 2))),
    "least": (_MUTED, (0, (1, 2))),
    "human": ("#0b0c02", "solid"),
    "full": (_INK, "solid"),
}
_WIDTH = 350  # CSS pixels


def dots(metric: Metric, cells: Sequence[Cell]) -> Markup:
    """Plot each source's value with its interval, and the references as lines through its row."""
    with _style(f"dots {metric.name}"):
        height = 56 + 26 * len(cells) + 18 * ((len(_references(cells)) + 1) // 2)
        figure, axes = _figure(height, left=_margin([cell.source for cell in cells]))
        for name in _references(cells):
            _reference_line(axes, name, [cell.frame.get(name) for cell in cells])
        for row, cell in enumerate(cells):
            _dot(axes, row, cell)
        axes.set_yticks(range(len(cells)), [_name(cell.source) for cell in cells])
        axes.set_ylim(len(cells) - 0.4, -0.6)
        axes.margins(x=0.06)
        if _references(cells):
            _legend(figure, axes, columns=2)
        return _svg(figure, f"{metric.title} of each source with its interval; the numbers are in the table above.")


def curves(metric: Metric, found: Sequence[Curve]) -> Markup:
    """Plot a metric against the share of words taken away or kept, with a band for each source's interval."""
    with _style(f"curves {metric.name}"):
        height = 240 + 18 * ((len(found) + 1) // 2)
        figure, axes = _figure(height, left=36)
        axes.grid(axis="y")
        for index, curve in enumerate(found):
            _curve(axes, index, curve)
        axes.xaxis.set_major_formatter(lambda x, _: f"{100 * x:g} %")
        axes.margins(x=0.02)
        _legend(figure, axes, columns=2)
        return _svg(figure, f"{metric.title} of each source against the share of words, with intervals.")


def _references(cells: Sequence[Cell]) -> list[str]:
    present = {name for cell in cells for name, mark in cell.frame.items() if mark is not None}
    return [*(name for name in REFERENCES if name in present), *sorted(present - REFERENCES.keys())]


def _reference_line(axes: Any, name: str, marks: Sequence[float | None]) -> None:
    """Draw a reference through each row; where it is the same for all, the pieces join to one line."""
    colour, style = _REFERENCE_STYLES.get(name, (_MUTED, (0, (5, 1, 1, 1))))
    x = np.repeat([np.nan if mark is None else mark for mark in marks], 2)
    y = np.repeat(np.arange(len(marks)), 2) + np.tile([-0.5, 0.5], len(marks))
    axes.plot(x, y, color=colour, linestyle=style, linewidth=1.2, label=reference_title(name), zorder=1)


def _dot(axes: Any, row: int, cell: Cell) -> None:
    if cell.value is None or not np.isfinite(cell.value):
        behind = {"facecolor": _PANEL, "edgecolor": "none", "pad": 1}
        axes.text(0.02, row, "undefined", color=_MUTED, va="center", bbox=behind, transform=axes.get_yaxis_transform())
        return
    withheld = bool(cell.verdict)  # hollow and grey: not to be ranked
    colour = _MUTED if withheld else "#0b0c00"
    if cell.low is not None and cell.high is not None:
        axes.plot([cell.low, cell.high], [row, row], color=colour, linewidth=2, solid_capstyle="round", zorder=2)
    axes.plot([cell.value], [row], marker="o", markersize=6.5, color=colour, zorder=3,
              fillstyle="none" if withheld else "full", linestyle="none")  # fmt: skip


def _curve(axes: Any, index: int, curve: Curve) -> None:
    colour = f"#0b0c{index % SERIES:02x}"
    style = ("solid", (0, (5, 2)), (0, (2, 2)))[index // SERIES % 3]
    marker = "osD^vPX*"[index % 8]
    axes.fill_between(curve.ratios, curve.low, curve.high, color=colour, alpha=0.13, linewidth=0)
    axes.plot(curve.ratios, curve.values, color=colour, linestyle=style, linewidth=1.6, marker=marker, markersize=4.5,
              label=_name(curve.source))  # fmt: skip


def _figure(height: int, left: int) -> tuple[Figure, Any]:
    """Make a figure of so many CSS pixels, its axes `left` pixels from the edge; a legend goes below."""
    figure = Figure(figsize=(_WIDTH / 72, height / 72))
    axes = figure.add_subplot()
    figure.subplots_adjust(left=left / _WIDTH, right=1 - 12 / _WIDTH, top=1 - 6 / height, bottom=24 / height)
    return figure, axes


def _margin(names: Sequence[str]) -> int:
    return 12 + min(int(6.4 * max((len(_name(name)) for name in names), default=0)), 150)


def _name(text: str) -> str:
    """Make a name fit beside an axis."""
    text = plain(text)
    return text if len(text) <= 22 else f"{text[:21]}…"


def _legend(figure: Figure, axes: Any, columns: int) -> None:
    """Put the legend under the axes and leave room for it."""
    handles, labels = axes.get_legend_handles_labels()
    rows = -(-len(labels) // columns)
    height = figure.get_figheight() * 72
    figure.subplots_adjust(bottom=(32 + 18 * rows) / height)
    figure.legend(handles, labels, loc="lower left", ncols=columns, bbox_to_anchor=(0, 0), borderaxespad=0.2,
                  columnspacing=1.4, handlelength=2.2, handletextpad=0.6)  # fmt: skip


@contextmanager
def _style(salt: str) -> Generator[None]:
    with rc_context({**_STYLE, "svg.hashsalt": salt}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # the browser has the letters that this font lacks
        yield


def _svg(figure: Figure, label: str) -> Markup:
    """Write a figure as SVG for a page: no document frame, no identifiers that clash, the page's fonts and colours."""
    stream = StringIO()
    figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    svg = stream.getvalue()
    svg = re.sub(r"<(metadata|style)\b.*?</\1>", "", svg[svg.index("<svg") :], count=2, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r"font-family: '[^']*'; ", "", svg)
    svg = re.sub(r"(fill|stroke): (#\w+)", lambda hit: f"{hit[1]}: var(--{_COLOURS.get(hit[2], 'ink')})", svg)
    svg = re.sub(r"\n\s*", " ", svg)
    size = f'viewBox="0 0 {figure.get_figwidth() * 72:g} {figure.get_figheight() * 72:g}"'
    head = Markup('<svg class="plot" role="img" aria-label="{}" ').format(label) + Markup(size)
    return head + Markup(svg[svg.index(">", svg.index("<svg")) :])
