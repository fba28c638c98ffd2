"""The specification curve of a multiverse: every universe in one picture (Simonsohn, Simmons and Nelson 2020).

From left to right stand the universes, from the largest lead of the source that wins most often to the smallest, those
that are tied among them; those that rank nobody come last. Above, the lead; below, who wins and which levels of the
choices each universe has; at the right, what each choice does to the winner.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple, cast

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Outline
from matplotlib.ticker import MaxNLocator

from raison.evaluation.multiverse import Factor, Multiverse, Universe
from raison.report import text
from raison.report.canvas import COLOURS, INK, LINE, MUTED, as_svg, drawing, fitting, margin
from raison.report.glossary import describe

WINNERS = 7  # that have a colour and a row of their own; of more, the last stands for all that win more seldom
OTHERS = "other sources"
TIED = "tied"
WITHHELD = "withheld"

# CSS pixels
_WIDTH, _BARS, _RIGHT = 820, 64, 214  # of the picture, of a bar that stands for everything, of the column at the right
_LEAD, _ROW, _GAP, _TOP = 150, 18, 10, 26
_THIN = 3  # below it, marks have no gap between them

Boxes = dict[str, list[tuple[float, float, float, float]]]  # colour -> (left, right, top, bottom)


class Placed(NamedTuple):
    """A universe at its place in the picture."""

    universe: Universe
    winner: str | None
    lead: float | None  # of the source that wins most; None where that is undefined
    tied: bool  # nobody wins since the best are equal


class Row(NamedTuple):
    """A line of the picture below the leads."""

    title: str
    marked: list[bool]  # for each universe in order
    bold: bool = False
    share: float | None = None  # the bar beside it
    told: str = ""  # beside the bar


class Sheet(NamedTuple):
    """What is drawn on."""

    axes: Any
    places: Any  # left ends of the universes, and the right end of the last
    colours: list[str]  # of each universe


def placed(multiverse: Multiverse) -> list[Placed]:
    """Put the universes in order: by lead, then those without one that have a winner, then those that rank nobody."""
    top = next(iter(multiverse.winners), "")
    better = multiverse.better
    found = [
        Placed(universe, universe.winner(better), _lead(universe, top, better), universe.tied(better))
        for universe in multiverse.universes
    ]
    return sorted(found, key=lambda one: (one.winner is None and not one.tied, one.lead is None, -(one.lead or 0)))


def _lead(universe: Universe, source: str, better: str) -> float | None:
    own, sign = universe.values.get(source), 1 if better == "higher" else -1
    others = [sign * value for name, value in universe.values.items() if value is not None and name != source]
    return None if own is None or universe.withheld or not others else sign * own - max(others)


def colours(multiverse: Multiverse) -> dict[str, int]:
    """Give each winner, most often first, the number of its colour: 0 to 6."""
    return {source: min(index, WINNERS - 1) for index, source in enumerate(multiverse.winners)}


def percent(share: float | None) -> str:
    """Write a share as a percentage; one that is not 0 or 1 never looks so."""
    if share is None:
        return text.UNDEFINED
    if 0 < share < 0.005:
        return "< 1\u00a0%"
    return "> 99\u00a0%" if 0.995 <= share < 1 else f"{100 * share:.0f}\u00a0%"


def specification_curve(multiverse: Multiverse, told: str) -> Markup:
    """Draw the picture; `told` is what it shows, in words."""
    universes = placed(multiverse)
    blocks = [_winners(multiverse, universes), *(_levels(factor, universes) for factor in multiverse.factors)]
    number = colours(multiverse)
    height = _TOP + _LEAD + 8 + sum(_GAP + _ROW * len(block) for block in blocks) + 6
    left = margin([row.title for block in blocks for row in block] + ["−0.000"]) + 6
    with drawing(f"specification curve {multiverse.metric}"):
        figure = Figure(figsize=(_WIDTH / 72, height / 72))
        axes: Any = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.set_xlim(0, _WIDTH)
        axes.set_ylim(height, 0)
        places = np.linspace(left, _WIDTH - _RIGHT, len(universes) + 1)
        sheet = Sheet(axes, places, [MUTED if one.winner is None else COLOURS[number[one.winner]] for one in universes])
        _leads(sheet, multiverse, [one.lead for one in universes])
        y = _TOP + _LEAD + 8
        for block in blocks:
            _block(sheet, block, y + _GAP)
            y += _GAP + _ROW * len(block)
        return as_svg(figure, told)


# ------------------------------------------------------------------------------------------------- what it shows


def _winners(multiverse: Multiverse, universes: Sequence[Placed]) -> list[Row]:
    """Give the rows that say who wins: a title, the winners, and the universes that are tied or rank nobody."""
    named = list(multiverse.winners)
    if len(named) > WINNERS:
        named = named[: WINNERS - 1]
    kinds = [*named, *([OTHERS] if len(named) < len(multiverse.winners) else [])]
    rows = [Row("who wins", [], bold=True, told="share of the universes")]
    for kind in kinds:
        own = [one.winner == kind if kind in named else one.winner is not None and one.winner not in named
               for one in universes]  # fmt: skip
        rows.append(_counted(kind, own))
    if multiverse.tied:
        rows.append(_counted(TIED, [one.tied for one in universes]))
    if multiverse.withheld:
        rows.append(_counted(WITHHELD, [one.winner is None and not one.tied for one in universes]))
    return rows


def _counted(title: str, marked: list[bool]) -> Row:
    share = sum(marked) / len(marked)
    return Row(title, marked, share=share, told=f"{percent(share)} ({sum(marked):,})")


def _levels(factor: Factor, universes: Sequence[Placed]) -> list[Row]:
    """Give the rows of a choice: its name, with what it does to the winner beside it, and its levels."""
    rows = [Row(level, [one.universe.choices[factor.name] == level for one in universes]) for level in factor.levels]
    rows[0] = rows[0]._replace(share=factor.spread, told=f"{percent(factor.spread)} of the lead (η²)")
    told = f"{percent(factor.switched)} switch the winner"
    return [Row(factor.name, [], bold=True, share=factor.switched, told=told), *rows]


# ------------------------------------------------------------------------------------------------- drawing


def _leads(sheet: Sheet, multiverse: Multiverse, leads: Sequence[float | None]) -> None:
    """Draw the leads as bars from zero, in the colours of the winners, over a scale."""
    axes, places = sheet.axes, sheet.places
    known = [lead for lead in leads if lead is not None]
    if not known:
        axes.text(places[0], _TOP + _LEAD / 2, "No universe has a lead.", color=MUTED)
        return
    axes.text(places[0], 12, _told(multiverse), color=MUTED, va="center")
    low, high = min(0.0, *known), max(0.0, *known)
    ticks = MaxNLocator(4, steps=[1, 2, 5, 10]).tick_values(low, high if high > low else 1.0)
    low, high = min(ticks), max(ticks)

    def y_of(value: float) -> float:
        return _TOP + _LEAD * (high - value) / (high - low)

    for tick in ticks:
        axes.plot([places[0], places[-1]], [y_of(tick)] * 2, color=LINE, linewidth=0.6, zorder=1)
        axes.text(places[0] - 8, y_of(tick), f"{tick:.3g}".replace("-", "−"), color=MUTED, ha="right", va="center")
    boxes: Boxes = {}
    for index, lead in enumerate(leads):
        if lead is not None:
            height = max(abs(y_of(lead) - y_of(0)), 0.8)  # a lead of nothing is a universe, too
            top = y_of(0) - height if lead >= 0 else y_of(0)
            ends = _cell(places, index, index + 1)
            boxes.setdefault(sheet.colours[index], []).append((*ends, top, top + height))
    _fill(axes, boxes)
    axes.plot([places[0], places[-1]], [y_of(0)] * 2, color=INK, linewidth=1, zorder=3)


def _told(multiverse: Multiverse) -> str:
    top, metric = (
        fitting(next(iter(multiverse.winners), "")),
        text.plain(text.within(describe(multiverse.metric).title), 40),
    )
    return f"lead of {top} in {metric}: below 0, another wins"


def _block(sheet: Sheet, rows: Sequence[Row], top: float) -> None:
    """Draw rows of marks in the colours of the winners, with their names at the left and their bars at the right."""
    axes, places, boxes = sheet.axes, sheet.places, cast("Boxes", {})
    bar = places[-1] + 14
    axes.plot([8, _WIDTH - 4], [top - _GAP / 2] * 2, color=LINE, linewidth=0.6, zorder=1)
    for number, row in enumerate(rows):
        y = top + _ROW * (number + 0.5)
        name = fitting(row.title) or "(no name)"
        axes.text(places[0] - 8, y, name, ha="right", va="center", color=INK, weight="bold" if row.bold else "normal")
        for colour, start, stop in _runs(row, sheet):
            boxes.setdefault(colour, []).append((*_cell(places, start, stop), y - 6, y + 6))
        if row.share is not None:
            boxes.setdefault(LINE, []).append((bar, bar + _BARS, y - 4, y + 4))
            boxes.setdefault(INK if row.bold else MUTED, []).append((bar, bar + _BARS * row.share, y - 4, y + 4))
        axes.text(bar if row.share is None else bar + _BARS + 6, y, row.told, color=MUTED, va="center", fontsize=10)
    _fill(axes, boxes)


def _runs(row: Row, sheet: Sheet) -> Iterator[tuple[str, int, int]]:
    """Yield (colour, first universe, one after the last) of the marks; thin neighbours of one colour are one mark."""
    merged = sheet.places[1] - sheet.places[0] < _THIN
    kinds = [
        (colour if marked else "", -1 if merged else index)
        for index, (colour, marked) in enumerate(zip(sheet.colours, row.marked, strict=False))
    ]
    done = 0
    for (colour, _), run in groupby(kinds):
        start, done = done, done + len(list(run))
        if colour:
            yield colour, start, done


def _cell(places: Any, start: int, stop: int) -> tuple[float, float]:
    """Give the left and right end of a mark: at most 12 wide and apart from its neighbours while there is room."""
    a, b = float(places[start]), float(places[stop])
    if stop > start + 1 or b - a < _THIN:
        return round(a, 2), round(b, 2)
    half = min(6.0, 0.4 * (b - a))
    return round((a + b) / 2 - half, 2), round((a + b) / 2 + half, 2)


def _fill(axes: Any, boxes: Boxes) -> None:
    """Fill rectangles, all of a colour as one path: a picture of 2,000 universes stays small."""
    codes = [Outline.MOVETO, Outline.LINETO, Outline.LINETO, Outline.LINETO, Outline.CLOSEPOLY]
    for colour in sorted(boxes, key=lambda name: name != LINE):
        corners = [p for a, b, c, d in boxes[colour] for p in ((a, c), (b, c), (b, d), (a, d), (a, c))]
        path = Outline(np.round(corners, 2), codes * len(boxes[colour]))
        axes.add_artist(PathPatch(path, facecolor=colour, linewidth=0, zorder=2))
