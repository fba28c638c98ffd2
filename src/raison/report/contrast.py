"""Before and after fine-tuning, as a person reads it: tables for a terminal, and one self-contained HTML page."""

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from markupsafe import Markup
from matplotlib.ticker import MaxNLocator
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from raison.evaluation.contrast import Change, Contrast, Interaction, Parts
from raison.evaluation.statistics import Estimate
from raison.report import text
from raison.report.canvas import COLOURS, MUTED, PANEL, as_svg, drawing, fitting, margin, new_figure
from raison.report.glossary import Metric, describe, ordered
from raison.report.page import render_page, write_page
from raison.report.summary import Conclusion

TITLE = "Before and after fine-tuning"
Outcome = Literal["better", "worse", "changed", "unresolved", "withheld", "undefined"]
Write = Callable[[float | None], str]  # of a number: without the zero before its point in a terminal

WORDS: dict[Outcome, str] = {
    "better": "better",
    "worse": "worse",
    "changed": "changed",
    "unresolved": "not resolved",
    "withheld": "can’t be read",
    "undefined": "undefined",
}
_STYLES: dict[Outcome, str] = {"better": "green", "worse": "red"}
PARTS = ("the model became maskable", "the explanation changed")
STEPS = (
    "“The model became maskable”: the words chosen before, judged on the model after instead of before. “The "
    "explanation changed”: on the model after, the words chosen after instead of those chosen before."
)


def contrast_table(contrast: Contrast) -> Group:
    """Give what a terminal shows: what can be concluded, every change, its parts, what can't be read; 100 columns."""
    return Group(*_lines(contrast))


def contrast_html(contrast: Contrast, title: str = TITLE) -> str:
    """Render a contrast as one self-contained HTML document. The same contrast gives the same text."""
    levels = [change.difference.level for change in contrast.changes]
    return render_page(
        "contrast.html",
        title=title,
        contrast=contrast,
        conclusions=conclusions(contrast, text.number),
        groups=[(metric, _of(metric, contrast)) for metric in _metrics(contrast)],
        figures=[(metric, dumbbells(metric, _of(metric, contrast))) for metric in _metrics(contrast)],
        parts=[(metric, rows) for metric in _metrics(contrast) if (rows := _parts_of(metric, contrast))],
        unread=unread(contrast),
        level=f"{100 * levels[0]:g} %" if levels else "",
        outcome=outcome,
        words=WORDS,
        part_names=PARTS,
        steps=STEPS,
        signed=lambda value: signed(value, text.number),
        span=lambda estimate: span(estimate, text.number),
    )  # fmt: skip


def write_contrast(path: str | Path, contrast: Contrast, title: str = TITLE) -> None:
    """Write the page, whole or not at all.

    Raises:
        InputError: the folder can't be made or written to.
    """
    write_page(path, contrast_html(contrast, title))


def _metrics(contrast: Contrast) -> list[Metric]:
    return ordered([change.metric for change in contrast.changes])


def _of(metric: Metric, contrast: Contrast) -> list[Change]:
    return [change for change in contrast.changes if change.metric == metric.name]


# ------------------------------------------------------------------------------------------------- in words


def outcome(change: Change) -> Outcome:
    """Sort a change by Holm's p-value, or by its interval where it has none (normalised flip rate)."""
    difference = change.difference
    if difference.value is None:
        return "undefined"
    if change.verdict:
        return "withheld"
    resolved = _clear(difference) if change.p_holm is None else change.p_holm <= 1 - difference.level
    if not resolved or difference.value == 0:
        return "unresolved"
    better = describe(change.metric).better
    if not better:
        return "changed"
    return "better" if (difference.value > 0) == (better == "higher") else "worse"


def conclusions(contrast: Contrast, write: Write) -> list[Conclusion]:
    """Say in words what fine-tuning did to the model, to each metric, and to which family of sources more."""
    found = [Conclusion("Accuracy of the model", _accuracy(contrast.accuracy, write), [], False)]
    for metric in _metrics(contrast):
        changes = _of(metric, contrast)
        details = [interaction_line(one, changes, write) for one in contrast.interactions if one.metric == metric.name]
        details += _parts_line(metric, contrast)
        read = any(outcome(change) not in ("withheld", "undefined") for change in changes)
        found.append(Conclusion(metric.title, _tally(changes), details, not read))
    return found


def _accuracy(estimate: Estimate | None, write: Write) -> str:
    if estimate is None or estimate.value is None:
        return "The change is unknown: no record has a gold label and an answer in both."
    if not _clear(estimate):
        return f"No change is resolved: {signed(estimate.value, write)} {span(estimate, write)}."
    size = _size(estimate)
    return f"It {'rose' if estimate.value > 0 else 'fell'} by {write(size.value)} {span(size, write)}."


def _tally(changes: Sequence[Change]) -> str:
    """Name the sources by what came of them: `Better: a, b. Not resolved: c.`."""
    told: list[str] = []
    for kind, words in WORDS.items():
        sources = [change.source for change in changes if outcome(change) == kind]
        told += [f"{words.capitalize()}: {_listed(sources, len(changes))}."] if sources else []
    return " ".join(told)


def _listed(sources: Sequence[str], among: int) -> str:
    return "all sources" if len(sources) == among > 1 else ", ".join(source or "(no name)" for source in sources)


def interaction_line(interaction: Interaction, changes: Sequence[Change], write: Write) -> str:
    """Say whether fine-tuning served attributed or prompted rationales more, by one metric.

    `changes` are those of the metric: where one of them can't be read, a mean over sources can't be read either.
    """
    metric, estimate, size = describe(interaction.metric), interaction.difference, _size(interaction.difference)
    a, b = interaction.attributed, interaction.prompted
    name = text.within(metric.title)
    if a is None or b is None or estimate.value is None:
        return "Attributed against prompted rationales: undefined, no record has both."
    if any(outcome(change) == "withheld" for change in changes):
        return "Whether attributed or prompted rationales changed more can’t be read."
    if not _clear(estimate):
        return (
            f"Whether fine-tuning changed {name} of attributed or of prompted rationales more is not resolved: "
            f"attributed {signed(a, write)}, prompted {signed(b, write)}, "
            f"difference {signed(estimate.value, write)} {span(estimate, write)}."
        )
    if a * b >= 0:
        more, less = ("attributed", "prompted") if abs(a) > abs(b) else ("prompted", "attributed")
        return (
            f"Fine-tuning {'raised' if a + b > 0 else 'lowered'} {name} of {more} rationales by {write(size.value)} "
            f"more than that of {less} ones {span(size, write)}."
        )
    up, down = ("attributed", "prompted") if a > b else ("prompted", "attributed")
    return (
        f"Fine-tuning raised {name} of {up} rationales ({signed(max(a, b), write)}) and lowered that of {down} ones "
        f"({signed(min(a, b), write)}), a difference of {write(size.value)} {span(size, write)}."
    )


def unread(contrast: Contrast) -> list[tuple[str, list[str]]]:
    """Give (reason, what it concerns) of all that can't be read or is undefined; each reason once."""
    found: dict[str, dict[str, list[str]]] = {}
    for change in contrast.changes:
        if outcome(change) in ("withheld", "undefined"):
            reason = change.verdict or "undefined: no record has a value both before and after"
            found.setdefault(reason, {}).setdefault(change.metric, []).append(change.source)
    return [
        (
            reason,
            [f"{metric.title}: {_listed(who[metric.name], len(_of(metric, contrast)))}" for metric in ordered([*who])],
        )
        for reason, who in found.items()
    ]


def signed(value: float | None, write: Write) -> str:
    """Write a change with its sign; one that is written as zero has none."""
    shown = write(value)
    return f"+{shown}" if value is not None and value > 0 and re.search("[1-9]", shown) else shown


def span(estimate: Estimate, write: Write) -> str:
    """Write the interval of an estimate; empty where there is none."""
    if estimate.low is None or estimate.high is None:
        return ""
    return f"[{write(estimate.low)}, {write(estimate.high)}]"


def _clear(estimate: Estimate) -> bool:
    """Whether an interval leaves zero out."""
    return estimate.low is not None and estimate.high is not None and (estimate.low > 0 or estimate.high < 0)


def _size(estimate: Estimate) -> Estimate:
    """Turn an estimate round so that its value is not below zero."""
    value, low, high = (None if end is None else -end for end in (estimate.value, estimate.high, estimate.low))
    turned = Estimate(value=value, low=low, high=high, n=estimate.n, level=estimate.level)
    return turned if estimate.value is not None and estimate.value < 0 else estimate


# ------------------------------------------------------------------------------------------------- parts


class Step(NamedTuple):
    """One part of a change, and whether it can be read."""

    estimate: Estimate
    withheld: bool


def steps(parts: Parts, changes: Sequence[Change]) -> tuple[Step, Step]:
    """Give the two parts of a change: the model became maskable, the explanation changed.

    The second is judged on the model after alone: it can be read even where the model before can't.
    """
    change = next((c for c in changes if (c.metric, c.source) == (parts.metric, parts.source)), None)
    reason = change.verdict if change else ""
    after = reason.startswith("after: ") or "; after: " in reason
    return Step(parts.maskable, bool(reason)), Step(parts.explained, after)


def _parts_of(metric: Metric, contrast: Contrast) -> list[tuple[Parts, tuple[Step, Step]]]:
    return [(parts, steps(parts, contrast.changes)) for parts in contrast.parts if parts.metric == metric.name]


def _parts_line(metric: Metric, contrast: Contrast) -> list[str]:
    """Count for how many sources each part is resolved by its interval."""
    rows = [both for _, both in _parts_of(metric, contrast)]
    told: list[str] = []
    for index, name in enumerate(PARTS):
        known = [both[index] for both in rows if not both[index].withheld and both[index].estimate.value is not None]
        count = sum(_clear(step.estimate) for step in known)
        told += [f"“{name}” for {count} of {len(known)} sources"] if known else []
    return [f"Parts resolved by their intervals: {', '.join(told)}."] if told else []


# ------------------------------------------------------------------------------------------------- terminal


def _lines(contrast: Contrast) -> Iterator[RenderableType]:
    models = " → ".join(text.plain(name, 60) or "unnamed model" for name in (contrast.before, contrast.after))
    yield Text(f"before → after: {models} · {contrast.records:,} record{'' if contrast.records == 1 else 's'}")
    for metric in _metrics(contrast):
        yield Text()
        yield _changes_table(metric, _of(metric, contrast))
        if parts := _parts_of(metric, contrast):
            yield _parts_table(metric, parts)
    if contrast.parts:
        yield Text(STEPS, style="dim")
    yield Text()
    yield Text("What can be concluded", style="bold")
    for conclusion in conclusions(contrast, text.short):
        line = Text(f"{text.plain(conclusion.title)}: ", style="bold")
        line.append(text.plain(conclusion.sentence, 1000), style="not bold")
        details = "".join(f" {text.plain(detail, 1000)}" for detail in conclusion.details)
        yield line.append(details, style="not bold dim")
    if reasons := unread(contrast):
        yield Text()
        yield Text("What can’t be read", style="bold")
    for reason, what in reasons:
        yield Text(f"{text.plain('; '.join(what), 1000)} ({text.plain(reason, 1000)})")
    yield from (Text(f"note: {text.plain(note, 1000)}", style="dim") for note in contrast.notes)


def _new_table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("source", overflow="fold", max_width=24)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _changes_table(metric: Metric, changes: Sequence[Change]) -> Table:
    arrow = {"higher": " ↑", "lower": " ↓", "": ""}[metric.better]
    table = _new_table(
        text.plain(metric.title, 40) + arrow, ["before", "after", "change", "p (Holm)", "what came of it"]
    )
    for change in changes:
        kind = outcome(change)
        table.add_row(
            Text(text.plain(change.source, 60)),
            text.short(change.before),
            text.short(change.after),
            _estimate(Step(change.difference, kind == "withheld")),
            text.probability(change.p_holm).replace("0.", ".", 1),
            Text(WORDS[kind], style=_STYLES.get(kind, "")),
        )
    return table


def _parts_table(metric: Metric, rows: Sequence[tuple[Parts, tuple[Step, Step]]]) -> Table:
    table = _new_table(f"{text.plain(metric.title, 40)}: parts of the change", PARTS)
    for parts, both in rows:
        table.add_row(Text(text.plain(parts.source, 60)), *map(_estimate, both))
    return table


def _estimate(step: Step) -> Text:
    """Write `+.123 [.020, .225]`; what can't be read in brackets."""
    value = signed(step.estimate.value, text.short)
    shown = Text(f"({value})" if step.withheld else value)
    return shown.append(f" {span(step.estimate, text.short)}", style="dim") if step.estimate.low is not None else shown


# ------------------------------------------------------------------------------------------------- picture


def dumbbells(metric: Metric, changes: Sequence[Change]) -> Markup:
    """Plot each source before (hollow) and after (filled), and the interval of the change, laid from the value before.

    Where the band of the interval covers the hollow mark, the change could be none. What can't be read ends in a cross.
    """
    with drawing(f"dumbbells {metric.name}"):
        figure, axes = new_figure(56 + 28 * len(changes), left=margin([change.source for change in changes]))
        for row, change in enumerate(changes):
            _dumbbell(axes, row, change)
        axes.set_yticks(range(len(changes)), [fitting(change.source) or "(no name)" for change in changes])
        axes.set_ylim(len(changes) - 0.4, -0.6)
        axes.margins(x=0.06)
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        told = "before and after fine-tuning for each source, with the interval of the change"
        return as_svg(figure, f"{metric.title} {told}; the numbers are in the table below.")


def _dumbbell(axes: Any, row: int, change: Change) -> None:
    kind, before, after = outcome(change), change.before, change.after
    if before is None or after is None:
        behind = {"facecolor": PANEL, "edgecolor": "none", "pad": 1}
        axes.text(0.02, row, "undefined", color=MUTED, va="center", bbox=behind, transform=axes.get_yaxis_transform())
        return
    colour = {"better": COLOURS[0], "worse": COLOURS[1], "changed": COLOURS[6]}.get(kind, MUTED)
    low, high = change.difference.low, change.difference.high
    if low is not None and high is not None:
        axes.fill_between([before + low, before + high], row - 0.28, row + 0.28, color=colour, alpha=0.2, linewidth=0)
    axes.plot([before, after], [row, row], color=colour, linewidth=2, linestyle="dotted" if kind == "withheld" else "-")
    axes.plot([before], [row], marker="o", markersize=7, color=colour, markerfacecolor=PANEL, markeredgewidth=1.6)
    marker = {"worse": "D", "changed": "s", "withheld": "X"}.get(kind, "o")
    axes.plot([after], [row], marker=marker, markersize=6.5 if marker == "D" else 7.5, color=colour)
