"""Systems and controls side by side: no attribution is shown without label, grounding and all four controls."""

from typing import NamedTuple

import msgspec

from raison.annotators.controls import CONTROLS
from raison.annotators.imitation import Imitation
from raison.evaluation.results import Cell
from raison.report.imitation_words import METRICS, Group

INDEX = "index.html"
COMPANIONS = ("label", "mrr")  # what an attribution stands beside


class Row(NamedTuple):
    """One source in a table."""

    source: str
    about: str  # what a control is; empty for a system
    cells: list[Cell]
    hidden: list[str]  # why a cell is not shown; empty where it is


def lineup(found: Imitation, group: Group, slice: str = "all") -> list[Row]:
    """Give the rows of a table: systems, then the four controls; where it has attributions, complete or not at all.

    An attribution whose label or grounding can't be told is not shown, with the reason.

    Args:
        found: the result.
        group: which metrics; those that a slice has not are left out.
        slice: all, or a person.

    Raises:
        ValueError: there is an attribution, but no label, no grounding, or not all controls.
    """
    known = {(cell.metric, cell.source): cell for cell in found.cells if cell.slice == slice}
    names = [metric.name for metric in group.metrics if any(name == metric.name for name, _ in known)]
    sources = [*found.systems, *(name for name in CONTROLS if any(source == name for _, source in known))]
    attributed = any(map(is_attribution, names))
    missing = [name for name in COMPANIONS if name not in names] if attributed else []
    missing += [name for name in CONTROLS if name not in sources] if attributed else []
    if missing:
        raise ValueError(f"an attribution is never shown without {', '.join(missing)}")
    rows: list[Row] = []
    for source in sources:
        cells = [known[name, source] for name in names]
        lacking = [METRICS[cell.metric].title.lower() for cell in cells if _is_undefined(cell)]
        reason = f"not shown without {' and '.join(lacking)}" if lacking else ""
        hidden = [cell.verdict or reason if is_attribution(cell.metric) else "" for cell in cells]
        rows.append(Row(source, CONTROLS.get(source, ""), cells, hidden))
    return rows


def is_attribution(metric: str) -> bool:
    """Tell whether a metric says who a text is taken for."""
    return metric.startswith(("attribution_", "imitation_")) or metric == "composite"


def _is_undefined(cell: Cell) -> bool:
    return cell.metric in COMPANIONS and cell.value is None


def pictured(found: Imitation, metric: str, slice: str) -> list[Cell]:
    """Give the cells of one plot: systems, and the controls as hollow marks; chance stays as a line."""
    chosen = [cell for cell in found.cells if cell.metric == metric and cell.slice == slice]
    order = {source: place for place, source in enumerate([*found.systems, *CONTROLS])}
    chosen.sort(key=lambda cell: order[cell.source])
    return [
        msgspec.structs.replace(
            cell,
            frame={name: mark for name, mark in cell.frame.items() if name == "chance"},
            verdict=cell.verdict or ("a control" if cell.source in CONTROLS else ""),
            value=None if is_attribution(metric) and cell.verdict else cell.value,
        )
        for cell in chosen
    ]


def page_of(place: int) -> str:
    """Name the page of a person: by number, since a name may be anything."""
    return f"person-{place + 1}.html"
