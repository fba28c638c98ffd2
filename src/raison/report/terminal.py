"""A verdict as tables for a terminal: legible at 100 columns, and without colour."""

from collections.abc import Iterator

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from raison.evaluation.results import Cell, Diagnosis, Grades, Verdict
from raison.report import summary, text
from raison.report.glossary import GROUPS, REFERENCES, Metric, describe, ordered, reference_title

COLUMNS = 4  # metrics side by side
_COLOURS = {"ok": "green", "weak": "yellow", "too few": "yellow", "collapsed": "red"}


def table(verdict: Verdict) -> Group:
    """Give what `raison evaluate` prints: validity, methods with intervals and references, what is resolved, notes."""
    return Group(*_parts(verdict))


def as_text(verdict: Verdict) -> str:
    """Give the table as plain text of 100 columns."""
    console = Console(width=100, no_color=True, force_terminal=False)
    with console.capture() as captured:
        console.print(table(verdict))
    return captured.get()


def _parts(verdict: Verdict) -> Iterator[RenderableType]:
    yield _validity(verdict)
    hidden: list[str] = []
    for group, title in GROUPS.items():
        metrics = [metric for metric in ordered([cell.metric for cell in verdict.cells]) if metric.group == group]
        main = [metric for metric in metrics if metric.main]
        hidden += [metric.title for metric in metrics if not metric.main]
        tables = -(-len(main) // COLUMNS)
        for index in range(tables):
            yield Text()
            yield _methods(title, main[index * len(main) // tables : (index + 1) * len(main) // tables], verdict)
    yield from _footnotes(verdict)
    if hidden:
        yield Text(f"Also measured (in the report): {', '.join(hidden)}.", style="dim")
    yield from _conclusions(verdict)
    if verdict.notes:
        yield Text()
        yield from (Text(f"note: {text.plain(note, 1000)}", style="dim") for note in verdict.notes)


def _validity(verdict: Verdict) -> Text:
    if verdict.validity is None:
        return Text("validity: not assessed (no model was run: agreement with people only)")
    state, reasons = verdict.validity.verdict, "; ".join(verdict.validity.reasons)
    line = Text("validity: ")
    line.append(state, style=f"bold {_COLOURS.get(state, '')}".strip())
    return line.append(f" · {text.plain(reasons, 1000)}" if reasons else "")


def _methods(title: str, metrics: list[Metric], verdict: Verdict) -> Table:
    """Make one table: sources, then references, by metrics."""
    cells = [cell for cell in verdict.cells if cell.slice == "all"]
    found = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    found.add_column("source", overflow="fold", max_width=24)
    for metric in metrics:
        arrow = {"higher": " ↑", "lower": " ↓", "": ""}[metric.better]
        found.add_column(Text(text.plain(metric.title, 24) + arrow), justify="right", max_width=19)
    for source in verdict.sources:
        row = [_value(_pick(cells, metric.name, source)) for metric in metrics]
        found.add_row(Text(text.plain(source, 60)), *row)
    found.add_section()
    for name in _references(cells, metrics):
        row = [_range([c.frame.get(name) for c in cells if c.metric == m.name and name in c.frame]) for m in metrics]
        found.add_row(Text(reference_title(name)), *map(Text, row), style="dim")
    _add_grades(found, metrics, verdict.grades)
    return found


def _add_grades(table: Table, metrics: list[Metric], grades: Grades | None) -> None:
    """Add a row for whatever stood against the true words: how well each metric told them from it."""
    table.add_section()
    for rival in grades.against if grades else ():
        found = [summary.diagnoses_of(metric.name, grades).get(rival) for metric in metrics if grades]
        if any(found):
            row = [Text("") if one is None else _grade(one) for one in found]
            table.add_row(Text(f"told from {text.plain(summary.rival_title(rival), 40)}"), *row, style="dim")


def _grade(one: Diagnosis) -> Text:
    """Write `.92 [.85 .97]`, with an exclamation mark where it is no better than chance."""
    found = one.estimate
    shown = Text(text.short(found.value, 3) + ("" if one.informative else "!"))
    return shown.append(f" [{text.short(found.low, 2)} {text.short(found.high, 2)}]" if found.low is not None else "")


def grade_table(grades: Grades) -> Table:
    """Give what `raison grade` prints: the diagnosticity of each metric, its interval, ties, and what it amounts to."""
    title = Text(text.plain(summary.origin(grades), 1000), style="not italic")
    caption = " ".join(["D: share of records in which the metric sets the true words above the others; ½ is chance.",
                        summary.untaught(grades)])  # fmt: skip
    found = Table(title=title, caption=caption, title_justify="left", caption_justify="left", box=box.SIMPLE_HEAD)
    for name in ("metric", "against", "D", "interval", "ties", "n", "verdict"):
        found.add_column(name, justify="right" if name in ("D", "interval", "ties", "n") else "left")
    for rival, metrics in grades.against.items():
        found.add_section()
        for metric in ordered([*metrics]):
            one = metrics[metric.name]
            span = text.interval(one.estimate.low, one.estimate.high, 2)
            numbers = [text.number(one.estimate.value), span, text.number(one.ties, 2), str(one.estimate.n)]
            names = [text.plain(metric.title, 40), text.plain(summary.rival_title(rival), 40)]
            found.add_row(*map(Text, [*names, *numbers, summary.standing(one)]))
    return found


def _pick(cells: list[Cell], metric: str, source: str) -> Cell | None:
    return next((cell for cell in cells if (cell.metric, cell.source) == (metric, source)), None)


def _value(cell: Cell | None) -> Text:
    """Write `.523 [.47 .57]`; a value that must not be ranked in brackets; an en dash where it is undefined."""
    if cell is None or cell.value is None:
        return Text(text.UNDEFINED)
    value = text.short(cell.value, 3)
    shown = Text(f"({value})" if cell.verdict else value)
    if cell.low is not None and cell.high is not None:
        shown.append(f" [{text.short(cell.low, 2)} {text.short(cell.high, 2)}]", style="dim")
    return shown


def _references(cells: list[Cell], metrics: list[Metric]) -> list[str]:
    names = {metric.name for metric in metrics}
    present = {name for cell in cells if cell.metric in names for name in cell.frame}
    return [*(name for name in REFERENCES if name in present), *sorted(present - REFERENCES.keys())]


def _range(marks: list[float | None]) -> str:
    known = [mark for mark in marks if mark is not None]
    if not known:
        return text.UNDEFINED if marks else ""
    low, high = text.short(min(known), 3), text.short(max(known), 3)
    return low if low == high else f"{low} to {high}"


def _conclusions(verdict: Verdict) -> Iterator[RenderableType]:
    found = summary.conclusions(verdict)
    if found:
        yield Text()
        yield Text("What can be concluded", style="bold")
    for conclusion in found:
        line = Text(f"{'! ' if conclusion.warned else ''}{text.plain(conclusion.title)}: ", style="bold")
        line.append(text.plain(conclusion.sentence, 1000), style="not bold")
        yield line.append(
            "".join(f" {text.plain(detail, 1000)}" for detail in conclusion.details), style="not bold dim"
        )


def _footnotes(verdict: Verdict) -> Iterator[RenderableType]:
    """Say what is undefined and why, and what brackets mean; only where there are any."""
    shown = [cell for cell in verdict.cells if cell.slice == "all" and describe(cell.metric).main]
    undefined: dict[str, list[str]] = {}
    for cell in shown:
        if cell.value is None:
            undefined.setdefault(describe(cell.metric).title, []).append(cell.source)
    for title, sources in undefined.items():
        who = "all sources" if len(sources) == len(verdict.sources) else ", ".join(sources)
        yield Text(f"{text.UNDEFINED}  {title} is undefined for {text.plain(who)}", style="dim")
    if any(cell.verdict and cell.value is not None for cell in shown):
        yield Text("(…)  in brackets: not to be ranked, see the validity line", style="dim")
    if verdict.grades:
        told = "told from …  share of testbed records in which a metric sets the true words above others; ½ is chance"
        yield Text(told, style="dim")
