"""The study of training with rationales as a table and a page: each variant beside the task alone, paired by seed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from rich.table import Table

from raison.evaluation.faithfulness import MIN_ROOM
from raison.evaluation.statistics import Estimate, holm, sign_flip, student_mean
from raison.report.page import render_page, write_page
from raison.studies.uimer import Cell
from raison.studies.uimer_curves import ALONE, gains_of, plots_of, turns_of
from raison.studies.variants import Settings, of_shots


class Line(NamedTuple):
    """A variant at one number of shots."""

    part: str
    shots: int
    variant: str
    score: Estimate  # over seeds
    gain: Estimate | None  # over the task alone, paired by seed
    p: float | None  # of the gain, by sign flips, corrected within part and shots
    alignment: Estimate
    flips: Estimate  # normalised flip rate
    seconds: float  # of one training, median
    settings: str


def lines_of(cells: Sequence[Cell]) -> list[Line]:
    """Give a line for each variant, in the order of the cells; those of tuning are left out."""
    groups: dict[tuple[str, int, str], list[Cell]] = {}
    for cell in cells:
        if cell.part != "tuning":
            groups.setdefault((cell.part, cell.shots, cell.variant), []).append(cell)
    gained = gains_of(cells)
    lines: list[Line] = []
    for (part, shots, variant), members in groups.items():
        gains = [gained.get(f"{part} {cell.key}", np.nan) for cell in members]
        told = variant != ALONE
        lines.append(
            Line(
                part,
                shots,
                variant,
                student_mean([cell.score for cell in members]),
                student_mean(gains) if told else None,
                sign_flip(gains) if told else None,
                student_mean([np.nan if cell.alignment is None else cell.alignment for cell in members]),
                student_mean(
                    [np.nan if cell.normalised_flip_rate is None else cell.normalised_flip_rate for cell in members]
                ),
                float(np.median([cell.seconds for cell in members])),
                _settings(members[0]),
            )
        )
    return _corrected(lines)


def _corrected(lines: Sequence[Line]) -> list[Line]:
    """Correct the p-values of each part and number of shots by Holm's method."""
    found = list(lines)
    for key in {(line.part, line.shots) for line in lines}:
        places = [i for i, line in enumerate(lines) if (line.part, line.shots) == key and line.p is not None]
        for place, value in zip(places, holm([lines[i].p or 0.0 for i in places]), strict=True):
            found[place] = found[place]._replace(p=float(value))
    return found


def _settings(cell: Cell) -> str:
    variant = cell.made_from
    if variant is None:
        return ""
    said = {"lr": f"{variant.lr:g}", "epochs": str(variant.epochs)}
    if variant.alignment is not None:
        plain = msgspec.to_builtins(type(variant.alignment)())
        given = msgspec.to_builtins(variant.alignment)
        said |= {key: str(value) for key, value in given.items() if value != plain[key] or key == "alpha"}
    return ", ".join(f"{key} {value}" for key, value in said.items())


def uimer_table(cells: Sequence[Cell]) -> Table:
    """Give the study as a table for a terminal."""
    table = Table("part", "shots", "variant", "score", "gain over the task alone", "p (Holm)", "F1 with people", "s")
    for line in lines_of(cells):
        table.add_row(
            line.part,
            str(line.shots or "all"),
            line.variant,
            shown(line.score),
            shown(line.gain, signed=True),
            "" if line.p is None else f"{line.p:.3f}",
            shown(line.alignment),
            f"{line.seconds:.0f}",
        )
    return table


def shown(estimate: Estimate | None, *, signed: bool = False) -> str:
    """Write a value with its interval."""
    if estimate is None or estimate.value is None:
        return ""
    sign = "+" if signed else ""
    span = "" if estimate.low is None else f" [{estimate.low:{sign}.3f}, {estimate.high:{sign}.3f}]"
    return f"{estimate.value:{sign}.3f}{span}"


def write_uimer(path: str | Path, cells: Sequence[Cell], settings: Settings) -> None:
    """Write the study as one self-contained page."""
    title = f"Training with rationales: {settings.task}"
    given: dict[str, Any] = {
        "lines": lines_of(cells),
        "plots": plots_of(cells),
        "turns": turns_of(cells),
        "settings": settings,
        "room": f"{100 * MIN_ROOM:g}",
    }
    write_page(path, render_page("uimer.html", title=title, shown=shown, of_shots=of_shots, **given))
