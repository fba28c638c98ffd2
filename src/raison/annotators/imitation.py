"""Imitation: did a model learn a person, and not only how to sound like one?

One number can be fooled: a program that copies a person's old sentences is taken for that person every time. So labels,
text, grounding, attribution, style, population and memorisation are measured together, and the same is measured of four
controls that need no model; every cell has them in its frame. The paper's own score is not known: these are ours.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from math import nan
from typing import Any

import msgspec
import numpy as np

from raison.annotators.controls import CONTROLS, HUMAN, controls
from raison.annotators.measuring import COMPOSITE_K, Measured, Options
from raison.annotators.population import AltTest, alt_test, kappa_gap, kappa_matrix
from raison.annotators.portraits import Portrait, Said, portraits, said_of
from raison.annotators.resampling import Panel, Values, estimate, swap_test
from raison.annotators.responses import Response
from raison.annotators.scoring import Counted, Ground, make_ground, make_panel
from raison.annotators.similarity import Encode
from raison.annotators.splits import Split
from raison.annotators.style import Habit
from raison.evaluation.results import Cell, Comparison, cell_of
from raison.evaluation.statistics import holm
from raison.records import InputError
from raison.runs import provenance

COMPARED = ("label", "rouge_l_margin", "mrr", f"imitation_{COMPOSITE_K}_normalised", "composite")


class Crowd(msgspec.Struct, frozen=True):
    """A panel of stand-ins beside the panel of people."""

    source: str
    kappas: list[list[float | None]]  # of the stand-ins with each other
    crossed: list[list[float | None]]  # rows: people; columns: stand-ins
    gap: float | None  # mean absolute difference of their kappas from the people's; None = undefined
    alt_test: AltTest


class Imitation(msgspec.Struct, frozen=True):
    """The whole result. Every cell has the four controls in its frame."""

    systems: list[str]
    controls: list[str]
    people: list[str]
    labels: list[str]
    cells: list[Cell]
    comparisons: list[Comparison]
    counted: dict[str, Counted]  # source -> what became of its answers
    kappas: list[list[float | None]]  # of the people with each other
    crowds: list[Crowd]
    habits: list[Habit]
    portraits: list[Portrait]
    said: list[Said]
    notes: list[str]
    provenance: dict[str, Any]

    def cell(self, metric: str, source: str, slice: str = "all") -> Cell:
        """Give one cell.

        Raises:
            KeyError: there is none of this name.
        """
        return cell_of(self.cells, metric, source, slice)


def score(
    split: Split,
    said: Sequence[Response],
    systems: Mapping[str, Sequence[Sequence[Response]]],
    options: Options | None = None,
    encode: Encode | None = None,
    *,
    compared: Sequence[tuple[str, str]] | None = None,
) -> Imitation:
    """Score systems that answer in people's names, beside the four controls.

    Args:
        split: items in three parts: what models may learn from (train), what the attributor is fitted on (dev), and
            what is judged (test).
        said: people's responses (`responses_of`), without those who opted out.
        systems: name -> its responses to test items, in each of one or more seeds.
        options: how.
        encode: makes vectors of texts, for a further measure of similarity.
        compared: which systems with which; None = every two.

    Returns:
        Cells of every source, overall and for each person, with percentile intervals over items (and seeds); paired
        permutation tests between systems of the same number of seeds, corrected by Holm's method for each metric.

    Raises:
        InputError: a part has too little, a system has a control's name, or a response fits no item or person.
    """
    options = options or Options()
    for name, runs in systems.items():
        if name in CONTROLS or not runs:
            taken = f"a control has this name; taken are {', '.join(CONTROLS)}"
            raise InputError(f"responses {name!r}: {taken if runs else 'no run'}")
    ground = make_ground(split, said, options.vectors, encode)
    history = [response for person in ground.people for response in ground.history[person]]
    targets = [response for answers in ground.targets.values() for response in answers]
    records = [record for part in split for record in part]
    runs = {name: [run] for name, run in controls(records, history, targets, options.seed).items()}
    runs |= {name: [list(run) for run in given] for name, given in systems.items()}
    made = {name: make_panel(ground, given) for name, given in runs.items()}
    panels = {name: panel for name, (panel, _) in made.items()}
    counted = {name: count for name, (_, count) in made.items()}
    measured = Measured(ground, panels, options)
    shown = {name: given[0] for name, given in runs.items()}
    habits, pictures = portraits(ground, shown)
    return Imitation(
        systems=list(systems),
        controls=list(CONTROLS),
        people=list(ground.people),
        labels=list(ground.labels),
        cells=measured.cells(),
        comparisons=_comparisons(measured, [*combinations(systems, 2)] if compared is None else compared),
        counted=counted,
        kappas=_rounded(kappa_matrix(panels[HUMAN].wanted, panels[HUMAN].wanted, len(ground.labels))),
        crowds=[_crowd(name, panel, ground, options) for name, panel in panels.items()],
        habits=habits,
        portraits=pictures,
        said=said_of(ground, shown, panels),
        notes=_notes(counted, ground, systems),
        provenance=provenance({**msgspec.to_builtins(options), "divisor": measured.divisor}, records, {}),
    )


def _crowd(name: str, panel: Panel, ground: Ground, options: Options) -> Crowd:
    """Compare the stand-ins of the first seed with the people."""
    first = panel.seeds == 0
    real, given, count = panel.wanted[first], panel.given[first], len(ground.labels)
    among = kappa_matrix(real, real, count)
    imitated, crossed = kappa_matrix(given, given, count), kappa_matrix(real, given, count)
    test = alt_test(given, real, ground.people, ground.numbers, epsilon=options.epsilon, level=1 - options.level)
    return Crowd(name, _rounded(imitated), _rounded(crossed), _defined(kappa_gap(among, imitated)), test)


def _comparisons(measured: Measured, pairs: Sequence[tuple[str, str]]) -> list[Comparison]:
    found: list[Comparison] = []
    for metric in COMPARED if pairs else ():
        p_values = [_p(measured, metric, a, b) for a, b in pairs]
        adjusted = holm([nan if p is None else p for p in p_values])
        for (a, b), p, corrected in zip(pairs, p_values, adjusted.tolist(), strict=True):
            found.append(_comparison(measured, metric, (a, b), (p, _defined(corrected), len(pairs))))
    return found


def _alike(measured: Measured, a: str, b: str) -> bool:
    return len(measured.panels[a].seeds) == len(measured.panels[b].seeds)


def _p(measured: Measured, metric: str, a: str, b: str) -> float | None:
    if not _alike(measured, a, b):
        return None
    options = measured.options
    return swap_test(
        measured.panels[a], measured.panels[b], lambda panel, weights: measured.statistic(metric, panel, weights),
        options.resamples, options.seed,
    )  # fmt: skip


def _comparison(
    measured: Measured, metric: str, pair: tuple[str, str], tested: tuple[float | None, float | None, int]
) -> Comparison:
    (p, p_holm, family), level, items = tested, measured.options.level, len(measured.ground.items)
    values = measured.found[pair[0]][metric] - measured.found[pair[1]][metric]
    one = estimate(values, items, level)
    verdict = f"not resolved at n = {items}"
    if not _alike(measured, *pair):
        verdict = "withheld: different numbers of seeds"
    elif p is None:
        verdict = "withheld: undefined"
    elif p_holm is not None and p_holm <= 1 - level and one.value is not None:
        verdict = "a higher" if one.value > 0 else "b higher"
    test = "paired permutation of items"
    return Comparison(metric, *pair, one.value, one.low, one.high, p, p_holm, family, items, test, verdict)


# --------------------------------------------------------------------------------------------------- in words


def _notes(counted: Mapping[str, Counted], ground: Ground, systems: Mapping[str, Sequence[object]]) -> list[str]:
    told: list[str] = []
    for name, count in counted.items():
        parts = [
            f"{number:,} {what}"
            for number, what in (
                (count.missing, "missing"), (count.unread, "without a label that could be read"),
                (count.silent, "without an explanation that could be read"),
            )
            if number
        ]  # fmt: skip
        reasons = "; ".join(f"{reason} ({number:,})" for reason, number in count.failures.items())
        if parts:
            told.append(f"{name}: of {count.wanted:,} answers {', '.join(parts)}{f': {reasons}' if reasons else ''}")
        if count.unasked:
            told.append(f"{name}: {count.unasked:,} answers are not judged: further ones, or the person gave none")
    if any(len(runs) > 1 for runs in systems.values()):
        told.append("intervals resample items and seeds; population, habits and texts shown are of the first seed")
    if ground.several:
        told.append("some people gave several labels to an item: the first counts, and all of them for label_error")
    return told


def _rounded(matrix: Values) -> list[list[float | None]]:
    return [[_defined(value) for value in row] for row in matrix.tolist()]


def _defined(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
