"""Imitation, shown: tables for a terminal; a page for all systems, and one for each person.

An attribution is never shown by itself: every table that has one is made by `lineup`, which refuses without label,
grounding and all four controls.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from markupsafe import Markup
from rich import box
from rich.console import Group as Lines
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from raison.annotators.controls import ANOTHER, CONTROLS, HUMAN, MAJORITY, NEAREST
from raison.annotators.imitation import Imitation
from raison.evaluation.results import Cell, Comparison
from raison.report import text
from raison.report.glossary import Metric
from raison.report.imitation_words import GROUPS, MAIN, METRICS, Group
from raison.report.lineup import INDEX, Row, lineup, page_of, pictured
from raison.report.page import render_page, write_page
from raison.report.plots import dots
from raison.report.portrait import portrait_html
from raison.report.summary import outcome

TITLE = "Imitated, judged"
WITHHELD = "withheld"
PICTURED = ("label", "mrr", "attribution_5", "rouge_l_margin", "copied_whole", "composite")


def imitation_table(found: Imitation) -> Lines:
    """Give what a terminal shows: every system beside the four controls, what is resolved, and notes; 100 columns."""
    return Lines(*_lines(found))


def imitation_html(found: Imitation, title: str | None = None) -> str:
    """Render the page of all systems as one HTML document, which links the pages of people beside it."""
    return render_page(
        "imitation.html",
        title=title or TITLE,
        found=found,
        sentences=sentences(found),
        main=lineup(found, MAIN),
        groups=list(_groups(found)),
        main_group=MAIN,
        figures=list(_figures(found)),
        comparisons=[(METRICS[one.metric], one, outcome(one), _told(one)) for one in found.comparisons],
        crowds=found.crowds,
        pages={person: page_of(place) for place, person in enumerate(found.people)},
        level=found.provenance.get("config", {}).get("level", 0.95),
        divisor=found.provenance.get("config", {}).get("divisor"),
        metrics=METRICS,
        controls=CONTROLS,
    )  # fmt: skip


def write_imitation(folder: str | Path, found: Imitation, title: str | None = None) -> None:
    """Write the page of all systems and one for each person into a folder.

    Raises:
        InputError: the folder can't be made or written to.
    """
    write_page(Path(folder) / INDEX, imitation_html(found, title))
    for place, person in enumerate(found.people):
        rows = lineup(found, MAIN, f"annotator={person}")
        html = portrait_html(found, person, rows, page_of((place + 1) % len(found.people)))
        write_page(Path(folder) / page_of(place), html)


def _groups(found: Imitation) -> Iterator[tuple[Group, list[Row]]]:
    """Give the tables of all measures; those of nothing measured are left out."""
    known = {cell.metric for cell in found.cells if cell.slice == "all"}
    for group in GROUPS:
        if any(metric.name in known for metric in group.metrics):
            yield group, lineup(found, group)


def _told(one: Comparison) -> str:
    if outcome(one) != "resolved":
        return one.verdict
    return f"{one.a if one.verdict == 'a higher' else one.b} higher"


# ----------------------------------------------------------------------------------------------------- in words


def sentences(found: Imitation) -> list[str]:
    """Say of each system who it is taken for, beside a copier and the person, and whether it says what is asked."""
    return [line for system in found.systems for line in _of_system(found, system)]


def _of_system(found: Imitation, system: str) -> Iterator[str]:
    taken, ground, label, copied = (
        found.cell(metric, system) for metric in ("attribution_5", "mrr", "label", "copied_whole")
    )
    if taken.value is None or taken.verdict or ground.value is None or label.value is None:
        reason = taken.verdict or "label or grounding is undefined"
        yield f"{system}: nothing is told of whom it is taken for ({reason})."
        return
    yield (
        f"{system}: five of its texts together are taken for the person in {_percent(taken.value)} of draws; the "
        f"person’s own are in {_percent(taken.frame[HUMAN])}, and old sentences drawn at random, which never look at "
        f"the item, in {_percent(taken.frame[MAJORITY])}. Its explanations find their item at "
        f"{text.short(ground.value, 2)} (the person’s {text.short(ground.frame[HUMAN], 2)}, copied ones "
        f"{text.short(ground.frame[NEAREST], 2)}), and its labels are the person’s in {_percent(label.value)} (another "
        f"person’s in {_percent(label.frame[ANOTHER])})."
    )
    if copied.value is not None and copied.value > 0.5:
        yield f"{system} mostly copies: {_percent(copied.value)} of its texts stand word for word in the history."
    elif _below(ground, NEAREST):
        yield f"{system} is grounded no better than a program that copies old sentences: its attribution says little."


def _below(cell: Cell, control: str) -> bool:
    mark = cell.frame.get(control)
    return cell.value is not None and mark is not None and cell.value <= mark


def _percent(value: float | None) -> str:
    return text.UNDEFINED if value is None else f"{100 * value:.0f}\u00a0%"


# ----------------------------------------------------------------------------------------------------- pictures


def _figures(found: Imitation) -> Iterator[tuple[Metric, Markup]]:
    for name in PICTURED:
        cells = pictured(found, name, "all")
        if any(cell.value is not None for cell in cells):
            yield METRICS[name], dots(METRICS[name], cells)


# ----------------------------------------------------------------------------------------------------- terminal


def _lines(found: Imitation) -> Iterator[RenderableType]:
    for sentence in sentences(found):
        yield Text(text.plain(sentence, 1000))
    yield Text()
    yield _table(MAIN.title, lineup(found, MAIN), {metric.name: metric for metric in MAIN.metrics})
    yield Text("the last four rows need no model; intervals and all other measures are in the report", style="dim")
    resolved = [one for one in found.comparisons if outcome(one) == "resolved"]
    for one in resolved:
        title, p = METRICS[one.metric].title, text.probability(one.p_holm)
        yield Text(text.plain(f"{title}: {_told(one)} ({one.a} − {one.b} = {text.short(one.difference)}, p {p})", 400))
    if found.comparisons:
        yield Text(f"{len(found.comparisons) - len(resolved)} of {len(found.comparisons)} comparisons are not resolved")
    yield from (Text(f"note: {text.plain(note, 1000)}", style="dim") for note in found.notes)


def _table(title: str, rows: Sequence[Row], metrics: Mapping[str, Metric]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False,
                  padding=(0, 1, 0, 0))  # fmt: skip
    table.add_column("source", overflow="fold", min_width=10, max_width=22)
    for place, cell in enumerate(rows[0].cells):
        title = metrics[cell.metric].title
        longest = len(WITHHELD) if any(row.hidden[place] for row in rows) else 7
        table.add_column(Text(title), justify="right", width=max(longest, *map(len, title.split())))
    for before, row in zip([None, *rows], rows, strict=False):
        if before is not None and row.about and not before.about:
            table.add_section()
        values = [
            Text(WITHHELD if reason else text.short(cell.value, 2))
            for cell, reason in zip(row.cells, row.hidden, strict=True)
        ]
        table.add_row(Text(text.plain(row.source, 60)), *values, style="dim" if row.about else "")
    return table
