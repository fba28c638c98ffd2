"""The study of annotators as a table and a page: every system beside the controls and the fine-tuned model, with costs.

An attribution is never shown by itself: tables come from `lineup`, and each plot of one stands beside those of label
and grounding, with the controls in it.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup
from msgspec import to_builtins
from rich.console import Group as Lines
from rich.console import RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from raison.annotators.controls import HUMAN, NEAREST
from raison.annotators.imitation import COMPARED, Imitation
from raison.annotators.measuring import COMPOSITE_K
from raison.annotators.stability import Stability
from raison.evaluation.results import Cell, Comparison
from raison.report import text
from raison.report.imitation import imitation_table, sentences
from raison.report.imitation_words import MAIN, METRICS
from raison.report.lineup import INDEX, Row, lineup, page_of
from raison.report.page import render_page, write_page
from raison.report.plots import grown
from raison.report.summary import outcome

TITLE = "Annotators, learned"
GROWN = ("label", "mrr", f"imitation_{COMPOSITE_K}_normalised")  # what is plotted against sizes, side by side


class Cost(NamedTuple):
    """What a system costs, of one seed: the mean over seeds."""

    system: str
    seconds: float  # of training
    answering: float
    parameters: int  # trained, for all people together
    bytes: int  # kept, for all people together
    people: int
    unread: int  # answers that can't be read, of all seeds
    answers: int


class Table(NamedTuple):
    """One part of the study on one data set."""

    part: str
    title: str
    about: str
    found: Imitation
    beside: str  # the system that the others are compared with
    costs: Sequence[Cost]
    sizes: Mapping[str, int]  # system -> items or people, where they are what is varied

    @property
    def rows(self) -> list[Row]:
        """The main table."""
        return lineup(self.found, MAIN)

    @property
    def gained(self) -> list[tuple[str, str, list[Comparison]]]:
        """For each comparison: the two systems, and what came of it by measure."""
        pairs = dict.fromkeys((one.a, one.b) for one in self.found.comparisons)
        return [(a, b, [one for one in self.found.comparisons if (one.a, one.b) == (a, b)]) for a, b in pairs]

    @property
    def resolved(self) -> list[str]:
        """What is resolved, in words."""
        return [
            f"{METRICS[one.metric].title}: {one.a} {'above' if (one.difference or 0) > 0 else 'below'} {one.b} by "
            f"{text.short(abs(one.difference or 0.0))} {text.interval(*_ends(one))} (p {text.probability(one.p_holm)})"
            for one in self.found.comparisons
            if outcome(one) == "resolved"
        ]

    @property
    def told(self) -> list[str]:
        """Whom each system is taken for, beside label and grounding."""
        return sentences(self.found)

    @property
    def figures(self) -> list[tuple[str, Markup]]:
        """Label, grounding and imitation against the sizes; none where nothing is varied."""
        if len(self.sizes) < 2:
            return []
        axis = "people" if self.part == "crowd" else "items of the person"
        return [(METRICS[name].title, _curves(self, name, axis)) for name in GROWN]

    @property
    def pages(self) -> dict[str, str]:
        """The page of each person."""
        return {person: f"{self.part}/{page_of(place)}" for place, person in enumerate(self.found.people)}


class Block(NamedTuple):
    """One data set."""

    name: str
    stability: Stability | None
    tables: Sequence[Table]


def _ends(one: Comparison) -> tuple[float | None, float | None]:
    ends = (one.low, one.high)
    return ends if (one.difference or 0) > 0 or None in ends else (-(one.high or 0.0), -(one.low or 0.0))


def write_annotator_study(
    path: str | Path, blocks: Sequence[Block], settings: Mapping[str, str], title: str = TITLE
) -> None:
    """Write the page of the study; those of data sets and people lie in folders beside it, named by the data set.

    Raises:
        InputError: the folder can't be made or written to.
    """
    write_page(path, annotator_study_html(blocks, settings, title))


def annotator_study_html(blocks: Sequence[Block], settings: Mapping[str, str], title: str = TITLE) -> str:
    """Render the page of the study as one HTML document."""
    return render_page(
        "annotator_study.html", title=title, blocks=blocks, settings=settings, main_group=MAIN, metrics=METRICS,
        compared=[METRICS[name] for name in COMPARED], outcome=outcome, size=size, index=INDEX,
    )  # fmt: skip


def annotator_study_table(blocks: Sequence[Block]) -> Lines:
    """Give what a terminal shows: the verdict and every table of each data set, 100 columns wide."""
    return Lines(*(line for block in blocks for line in _lines(block)))


def annotator_study_cells(blocks: Sequence[Block]) -> list[dict[str, Any]]:
    """Give every cell of the tables with its data set and part, what systems cost among them."""
    return [
        {"data": block.name, "part": table.part, **to_builtins(cell)}
        for block in blocks
        for table in block.tables
        for cell in (*table.found.cells, *_cost_cells(table.costs))
    ]


def _cost_cells(costs: Sequence[Cost]) -> Iterator[Cell]:
    for cost in costs:
        for metric in ("seconds", "answering", "parameters", "bytes"):
            yield Cell(metric, cost.system, "all", float(getattr(cost, metric)), None, None, cost.people)
        share = cost.unread / cost.answers if cost.answers else None
        yield Cell("unread", cost.system, "all", share, None, None, cost.answers)


def _lines(block: Block) -> Iterator[RenderableType]:
    if block.stability is not None:
        verdict = text.plain(block.stability.finding.words, 500)
        yield Text(f"{text.plain(block.name, 60)}: {verdict}", style="bold")
    for table in block.tables:
        yield Text(f"\n{text.plain(block.name, 60)}: {table.title.lower()}", style="bold")
        yield imitation_table(table.found)
        yield _cost_table(table.costs)


def _cost_table(costs: Sequence[Cost]) -> RichTable:
    table = RichTable("system", title="What it costs, of one seed", title_justify="left", title_style="bold")
    for name in ("training, s", "answering, s", "trained", "kept", "unread"):
        table.add_column(name, justify="right")
    for cost in costs:
        table.add_row(
            Text(text.plain(cost.system, 60)), f"{cost.seconds:.0f}", f"{cost.answering:.0f}", f"{cost.parameters:,}",
            size(cost.bytes), f"{cost.unread:,} of {cost.answers:,}",
        )  # fmt: skip
    return table


def size(count: float) -> str:
    """Write a number of bytes."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


# ------------------------------------------------------------------------------------------------------- pictures


def _curves(table: Table, metric: str, axis: str) -> Markup:
    """Plot a metric against the sizes, a line for each way, and two controls across."""
    ways: dict[str, list[tuple[int, Cell]]] = {}
    for system, at in sorted(table.sizes.items(), key=lambda pair: pair[1]):
        ways.setdefault(_way(system), []).append((at, table.found.cell(metric, system)))
    return grown(METRICS[metric], ways, axis, (HUMAN, NEAREST))


def _way(system: str) -> str:
    way, comma, _ = system.rpartition(", ")
    return way if comma else "one model"
