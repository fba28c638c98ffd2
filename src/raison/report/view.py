"""The tables of the report, arranged: what stands in each cell, in which order, with which footnote."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from raison.evaluation.results import Cell, Diagnosis, Grades, Verdict
from raison.report.glossary import GROUPS, REFERENCES, Metric, ordered, reference_title
from raison.report.summary import diagnoses_of, findings, origin, rival_title, standing
from raison.report.text import UNDEFINED, interval, number

Key = tuple[str, str, str]  # metric, source, slice


class CellView(NamedTuple):
    """One cell as it is shown."""

    value: str
    interval: str = ""
    n: str = ""  # only where it differs from the slice's
    order: float | None = None  # to sort by; None sorts last
    mark: str = ""  # of its footnote
    title: str = ""  # what a pointer or a screen reader is told in addition
    best: bool = False  # the best of its metric, or not resolved from it


class RowView(NamedTuple):
    """A row of the table: a source, or a reference."""

    name: str
    cells: list[CellView]
    explanation: str = ""


class SliceView(NamedTuple):
    """The rows of one slice."""

    name: str
    title: str
    n: int  # the most records behind any cell
    rows: list[RowView]
    references: list[RowView]
    footnotes: list[tuple[str, str]]  # mark, text


class GroupView(NamedTuple):
    """One table: the metrics of a group, for every slice."""

    key: str
    title: str
    metrics: list[Metric]
    slices: list[SliceView]
    grades: list[RowView]  # of the metrics themselves, the same for every slice


def groups(verdict: Verdict) -> list[GroupView]:
    """Arrange the cells into one table for each group of metrics that has any."""
    cells = {(cell.metric, cell.source, cell.slice): cell for cell in verdict.cells}
    metrics = ordered([cell.metric for cell in verdict.cells])
    slices = list(dict.fromkeys(cell.slice for cell in verdict.cells))
    best = {(f.metric.name, source, "all") for f in findings(verdict) if f.resolved and f.leader
            for source in (f.leader, *f.tied)}  # fmt: skip
    result: list[GroupView] = []
    for key, title in GROUPS.items():
        columns = [metric for metric in metrics if metric.group == key]
        if columns:
            views = [_slice(name, columns, verdict.sources, cells, best) for name in slices]
            result.append(GroupView(key, title, columns, views, list(_grades(columns, verdict.grades))))
    return result


def _grades(metrics: list[Metric], grades: Grades | None) -> Iterator[RowView]:
    """Give a row for whatever stood against the true words: how well each metric told them from it."""
    for rival in grades.against if grades else ():
        found = [diagnoses_of(metric.name, grades).get(rival) for metric in metrics if grades]
        cells = [CellView("") if one is None else _diagnosis(one) for one in found]
        if grades and any(cell.value for cell in cells):
            yield RowView(f"told from {rival_title(rival)}", cells, f"Diagnosticity; chance is 0.5. {origin(grades)}")


def _diagnosis(one: Diagnosis) -> CellView:
    mark = "" if one.informative else "!"
    span = interval(one.estimate.low, one.estimate.high)
    return CellView(number(one.estimate.value), span, mark=mark, title=f"n = {one.estimate.n}; {standing(one)}")


def slice_title(name: str) -> str:
    """Give the name of a slice as shown."""
    if name == "all":
        return "all records"
    kind, equals, value = name.partition("=")
    return f"gold label: {value}" if kind == "label" and equals else name


def _slice(name: str, metrics: list[Metric], sources: list[str], cells: dict[Key, Cell], best: set[Key]) -> SliceView:
    inside = [cell for cell in cells.values() if cell.slice == name and cell.metric in {m.name for m in metrics}]
    n = max((cell.n for cell in inside), default=0)
    notes = Footnotes()
    rows: list[RowView] = []
    for source in sources:
        keys = [(metric.name, source, name) for metric in metrics]
        shown = [_cell(metric, cells.get(key), n, notes) for metric, key in zip(metrics, keys, strict=True)]
        rows.append(RowView(source, [c._replace(best=key in best) for c, key in zip(shown, keys, strict=True)]))
    return SliceView(name, slice_title(name), n, rows, list(_references(metrics, inside)), notes.items())


class Footnotes:
    """Footnotes of a table, each text once, marked a, b, c, ..."""

    def __init__(self) -> None:
        self._marks: dict[str, str] = {}

    def mark(self, text: str) -> str:
        """Give the mark of a text; the same text has the same mark."""
        return self._marks.setdefault(text, _letters(len(self._marks)))

    def items(self) -> list[tuple[str, str]]:
        """Give (mark, text) in order."""
        return [(mark, text) for text, mark in self._marks.items()]


def _letters(index: int) -> str:
    before, last = divmod(index, 26)
    return (_letters(before - 1) if before else "") + chr(ord("a") + last)


def _cell(metric: Metric, cell: Cell | None, n: int, notes: Footnotes) -> CellView:
    if cell is None:
        return CellView(
            UNDEFINED, mark=notes.mark("not measured for this source"), title="not measured for this source"
        )
    value, reason = number(cell.value), cell.verdict
    if value == UNDEFINED:
        reason = reason or "undefined"
        reason += f" ({metric.title}: {metric.edges})" if metric.edges else ""
    frame = "; ".join(f"{reference_title(name)} {number(mark)}" for name, mark in cell.frame.items())
    title = "; ".join(part for part in (f"n = {cell.n}", frame, reason) if part)
    mark = notes.mark(reason) if reason else ""
    return CellView(value, interval(cell.low, cell.high), f"n = {cell.n}" if cell.n != n else "",
                    None if value == UNDEFINED else cell.value, mark, title)  # fmt: skip


def _references(metrics: list[Metric], cells: list[Cell]) -> Iterator[RowView]:
    present = {name for cell in cells for name in cell.frame}
    for name in [*(n for n in REFERENCES if n in present), *sorted(present - REFERENCES.keys())]:
        row = [_reference(name, [cell for cell in cells if cell.metric == metric.name]) for metric in metrics]
        yield RowView(reference_title(name), row, REFERENCES.get(name, ("", ""))[1])


def _reference(name: str, cells: Iterable[Cell]) -> CellView:
    """Show one reference of one metric: a number, or a range where it differs between sources."""
    marks = {cell.source: cell.frame[name] for cell in cells if name in cell.frame}
    known = [mark for mark in marks.values() if mark is not None]
    if not marks:
        return CellView("")
    if not known:
        return CellView(UNDEFINED, title="undefined")
    low, high = number(min(known)), number(max(known))
    if low == high:
        return CellView(low)
    each = "; ".join(f"{source} {number(mark)}" for source, mark in marks.items())
    return CellView(f"{low} to {high}", title=f"it differs between sources: {each}")
