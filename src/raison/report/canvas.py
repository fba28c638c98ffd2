"""What every picture is drawn with: the page's colours and fonts, names that fit, SVG for inside a page."""

import re
import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from io import StringIO
from typing import Any

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure

from raison.report.text import plain

SERIES = 8  # colours; after them the line style changes
# Stand-ins, replaced by the page's variables.
INK, MUTED, LINE, PANEL = "#0a0b0c", "#0a0b0d", "#0a0b0e", "#0a0b0f"
COLOURS = [f"#0b0c{index:02x}" for index in range(SERIES)]
_COLOURS = {
    **{INK: "ink", MUTED: "muted", LINE: "line", PANEL: "panel"},
    **{colour: f"series-{index + 1}" for index, colour in enumerate(COLOURS)},
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text
    "text.parse_math": False,  # a name with dollar signs is a name
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same layout everywhere
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "axes.grid": True,
    "axes.grid.axis": "x",
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "text.color": INK,
    "legend.frameon": False,
    "legend.labelcolor": MUTED,
    "legend.fontsize": 10.5,
}
_WIDTH = 350  # CSS pixels


def new_figure(height: int, left: int) -> tuple[Figure, Any]:
    """Make a figure of so many CSS pixels, its axes `left` pixels from the edge; a legend goes below."""
    figure = Figure(figsize=(_WIDTH / 72, height / 72))
    axes = figure.add_subplot()
    figure.subplots_adjust(left=left / _WIDTH, right=1 - 12 / _WIDTH, top=1 - 6 / height, bottom=24 / height)
    return figure, axes


def margin(names: Sequence[str]) -> int:
    """Give the CSS pixels that names beside an axis need."""
    return 12 + min(int(6.4 * max((len(fitting(name)) for name in names), default=0)), 150)


def fitting(text: str) -> str:
    """Make a name fit beside an axis."""
    text = plain(text)
    return text if len(text) <= 22 else f"{text[:21]}…"


def legend_below(figure: Figure, axes: Any, columns: int) -> None:
    """Put the legend under the axes and leave room for it."""
    handles, labels = axes.get_legend_handles_labels()
    rows = -(-len(labels) // columns)
    height = figure.get_figheight() * 72
    figure.subplots_adjust(bottom=(32 + 18 * rows) / height)
    figure.legend(handles, labels, loc="lower left", ncols=columns, bbox_to_anchor=(0, 0), borderaxespad=0.2,
                  columnspacing=1.4, handlelength=2.2, handletextpad=0.6)  # fmt: skip


@contextmanager
def drawing(salt: str) -> Generator[None]:
    """Draw in the page's style; `salt` sets the identifiers of one picture apart from those of another."""
    salt = salt.encode(errors="backslashreplace").decode()  # a name may hold half a character
    with rc_context({**_STYLE, "svg.hashsalt": salt}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # the browser has the letters that this font lacks
        yield


def as_svg(figure: Figure, label: str) -> Markup:
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
    head = Markup('<svg class="plot" role="img" aria-label="{}" ').format(plain(label, 5000)) + Markup(size)
    return head + Markup(svg[svg.index(">", svg.index("<svg")) :])
