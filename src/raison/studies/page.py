"""The study of rationale evaluation as a table and a page: every number beside its verdict, with links to reports."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from rich.console import Group
from rich.table import Table
from rich.text import Text

from raison.evaluation.results import Cell, Verdict
from raison.evaluation.summarise import REPLIES
from raison.report import text
from raison.report.contrast import contrast_table, write_contrast
from raison.report.glossary import Metric, describe
from raison.report.page import render_page, write_page
from raison.studies.rationale_evaluation import Outcome, Stage

SHOWN = ("f1", "flip_rate", "flip_rate_normalised", "comprehensiveness")


class Line(NamedTuple):
    """One source of one stage under one budget."""

    source: str
    cells: list[Cell | None]  # of `SHOWN`


class Replies(NamedTuple):
    """What became of the replies of one stage; they are the same under every budget of attributed rationales."""

    dataset: str
    stage: str
    metrics: list[Metric]
    lines: list[Line]


class Block(NamedTuple):
    """One verdict."""

    dataset: str
    stage: str
    budget: str
    verdict: Verdict
    lines: list[Line]
    report: str  # link

    @property
    def accuracy(self) -> str:
        """Accuracy with its interval, and that of always answering the most frequent label."""
        found = self.verdict.validity
        if found is None or found.accuracy is None or found.accuracy.value is None:
            return "unknown"
        known = found.accuracy
        span = f" [{known.low:.3f}, {known.high:.3f}]" if known.low is not None and known.high is not None else ""
        majority = "" if found.majority_share is None else f", majority {found.majority_share:.3f}"
        return f"{known.value:.3f}{span}{majority}"

    @property
    def gate(self) -> str:
        """What the validity gate says, with its weightiest reason."""
        found = self.verdict.validity
        return f"{found.verdict}: {found.reasons[0]}" if found else "not assessed"


def blocks(outcome: Outcome) -> list[Block]:
    """Give one block for each data set, stage and budget."""
    return [block for stage in outcome.stages for block in _blocks(stage)]


def _blocks(stage: Stage) -> Iterator[Block]:
    for budget, verdict in stage.verdicts.items():
        cells = {(cell.metric, cell.source): cell for cell in verdict.cells if cell.slice == "all"}
        lines = [Line(source, [cells.get((metric, source)) for metric in SHOWN]) for source in verdict.sources]
        place = f"{stage.dataset}/{stage.stage}/{budget.replace('/', '-').replace(':', '-')}/report.html"
        yield Block(stage.dataset, stage.stage, budget, verdict, lines, place)


def replies(stage: Stage) -> Replies:
    """Gather what was counted in the replies of a stage; only metrics and sources that have any."""
    verdict = next(iter(stage.verdicts.values()))
    cells = {(cell.metric, cell.source): cell for cell in verdict.cells if cell.slice == "all"}
    metrics = [name for name in REPLIES if any((name, source) in cells for source in verdict.sources)]
    asked = [source for source in verdict.sources if any((name, source) in cells for name in metrics)]
    lines = [Line(source, [cells.get((name, source)) for name in metrics]) for source in asked]
    return Replies(stage.dataset, stage.stage, [describe(name) for name in metrics], lines)


def study_table(outcome: Outcome) -> Group:
    """Give what the command line prints: one table for each data set, stage and budget; then the contrasts."""
    shown: list[Table | Text | Group] = []
    for block in blocks(outcome):
        title = f"{block.dataset}, {block.stage} tuning, budget {block.budget} · accuracy {block.accuracy}"
        table = Table(title=text.plain(title, 200), title_justify="left")
        table.add_column("source")
        for metric in SHOWN:
            table.add_column(describe(metric).title, justify="right")
        for line in block.lines:
            told = [f"{value(cell)}\n{frame(cell)}".strip() for cell in line.cells]
            table.add_row(text.plain(line.source, 60), *told)
        shown += [table, Text(f"gate: {text.plain(block.gate, 500)}\n", style="dim")]
    for name, found in outcome.contrasts.items():
        shown += [Text(f"\n{text.plain(name, 60)}: before and after", style="bold"), contrast_table(found)]
    return Group(*shown)


def value(cell: Cell | None) -> str:
    """Write a value with its interval; in brackets where it must not be ranked."""
    if cell is None or cell.value is None:
        return text.UNDEFINED
    span = f" [{text.number(cell.low, 2)}, {text.number(cell.high, 2)}]" if cell.low is not None else ""
    return f"({text.number(cell.value)}){span}" if cell.verdict else f"{text.number(cell.value)}{span}"


def frame(cell: Cell | None) -> str:
    """Write the references that a value stands beside."""
    known = cell.frame if cell is not None else {}
    return ", ".join(f"{name.replace('_', ' ')} {text.number(found)}" for name, found in known.items())


def write_study(path: str | Path, outcome: Outcome, title: str = "Rationales before and after fine-tuning") -> None:
    """Write the page of the study, and a page for each contrast beside it."""
    for name, found in outcome.contrasts.items():
        write_contrast(Path(path).parent / name / "contrast.html", found, f"{name}: before and after fine-tuning")
    html = render_page(
        "study.html",
        title=title,
        blocks=blocks(outcome),
        metrics=[describe(metric) for metric in SHOWN],
        value=value,
        frame=frame,
        contrasts={name: f"{name}/contrast.html" for name in outcome.contrasts},
        replies=[found for found in map(replies, outcome.stages) if found.lines],
    )
    write_page(path, html)
