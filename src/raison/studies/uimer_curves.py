"""The study of UIMER as curves: the gain against what is varied, and the rate of noise at which help turns to harm."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from raison.evaluation.statistics import Estimate, student_mean
from raison.report.plots import gains
from raison.studies.uimer import Cell
from raison.studies.variants import Variant, of_shots

ALONE = "task alone"
AXES = {
    "shots": "shots",
    "warm-up": "epochs of the task alone before the rationales",
    "rounds": "rounds",
    "strength": "alpha (logarithmic)",
    "noise": "share of the rationales that are noise",
}
LOGARITHMIC = ("shots", "strength")


class Turn(NamedTuple):
    """Where the gain of noisy rationales crosses zero."""

    family: str
    kind: str  # of noise
    rate: Estimate  # undefined: it does not come down to zero, or there was none to lose


class Series(NamedTuple):
    """A curve: gains by seed at each value of what is varied."""

    name: str
    xs: list[float]
    gains: list[list[float]]  # at each of them, by seed

    @property
    def points(self) -> list[tuple[float, Estimate]]:
        """The mean gain at each value, with its interval over seeds."""
        return [(x, student_mean(values)) for x, values in zip(self.xs, self.gains, strict=True)]


def gains_of(cells: Sequence[Cell]) -> dict[str, float]:
    """Give each cell's gain over the task alone with the same seed and shots, by the cell's key and part."""
    alone = {(cell.shots, cell.seed): cell.score for cell in cells if cell.variant == ALONE and cell.part == "main"}
    return {
        f"{cell.part} {cell.key}": cell.score - alone[cell.shots, cell.seed]
        for cell in cells
        if cell.part != "tuning" and cell.variant != ALONE and (cell.shots, cell.seed) in alone
    }


def series_of(cells: Sequence[Cell], part: str) -> dict[str, list[Series]]:
    """Give the curves of a part: title (family and shots) -> curves."""
    gained = gains_of(cells)
    found: dict[str, dict[str, dict[float, list[float]]]] = {}
    for cell in cells:
        key = f"{cell.part} {cell.key}"
        if cell.part != ("main" if part == "shots" else part) or cell.made_from is None or key not in gained:
            continue
        title, name, x = _place(part, cell, cell.made_from)
        found.setdefault(title, {}).setdefault(name, {}).setdefault(x, []).append(gained[key])
    return {
        title: [Series(name, sorted(points), [points[x] for x in sorted(points)]) for name, points in curves.items()]
        for title, curves in found.items()
    }


def _place(part: str, cell: Cell, variant: Variant) -> tuple[str, str, float]:
    """Say on which plot, on which curve and at which value of what is varied a cell stands.

    All shots there are, which has no number, stands at the number of records.
    """
    family, given = variant.name.split(", ")[0], variant.alignment
    assert given is not None
    if part == "shots":
        return "", family, cell.shots or cell.records
    title = f"{family}, {of_shots(cell.shots)}"
    if part == "warm-up":
        return title, family, float(given.warm_up)
    if part == "rounds":
        return title, f"{given.extractor_epochs} extractor epochs", given.rounds
    if part == "strength":
        return title, family if given.margin is None else f"margin {given.margin:g}", given.alpha
    return title, variant.noise or "", variant.rate


def plots_of(cells: Sequence[Cell]) -> Mapping[str, list[tuple[str, Markup]]]:
    """Give the plots of each part that has something to vary: part -> (title, plot)."""
    found: dict[str, list[tuple[str, Markup]]] = {}
    ticks = {float(cell.records): "all" for cell in cells if not cell.shots}
    for part, axis in AXES.items():
        for title, curves in series_of(cells, part).items():
            if max(len(curve.xs) for curve in curves) > 1:
                points = {curve.name: curve.points for curve in curves}
                named = ticks if part == "shots" else {}
                drawn = gains(points, axis, logarithmic=part in LOGARITHMIC, named=named)
                found.setdefault(part, []).append((f"{title}: gain against {axis}".lstrip(": "), drawn))
    return found


def turns_of(cells: Sequence[Cell], resamples: int = 2000) -> list[Turn]:
    """Find at which rate of noise the mean gain comes down to zero, with an interval over seeds."""
    return [
        Turn(title, curve.name, turning_rate(curve.xs, curve.gains, resamples))
        for title, curves in series_of(cells, "noise").items()
        for curve in curves
        if len({len(values) for values in curve.gains}) == 1
    ]


def turning_rate(rates: Sequence[float], gains: Sequence[Sequence[float]], resamples: int = 2000) -> Estimate:
    """Give the rate at which the mean gain first comes down to zero, by straight lines between the rates.

    Args:
        rates: rising, from 0.
        gains: (rates, seeds).
        resamples: bootstrap samples of seeds; those without a crossing count as the end of the scale they stand at.

    Returns:
        A percentile interval. Undefined where there is no gain without noise, or it never comes down to zero.
    """
    table, x = np.asarray(gains, dtype=np.float64), np.asarray(rates, dtype=np.float64)
    seeds = table.shape[1]
    value = _crossing(x, table.mean(axis=1))
    if value is None:
        return Estimate(value=None, low=None, high=None, n=seeds, level=0.95)
    rng = np.random.default_rng(0)
    means = table[:, rng.integers(seeds, size=(resamples, seeds))].mean(axis=2)
    drawn = [_crossing(x, column) for column in means.T]
    ends = [(0.0 if column[0] <= 0 else float(x[-1])) for column in means.T]
    low, high = np.quantile([end if one is None else one for one, end in zip(drawn, ends, strict=True)], [0.025, 0.975])
    return Estimate(value=value, low=float(low), high=float(high), n=seeds, level=0.95)


def _crossing(x: NDArray[np.float64], y: NDArray[np.float64]) -> float | None:
    if y[0] <= 0 or (y > 0).all():
        return None
    after = int(np.argmax(y <= 0))
    share = y[after - 1] / (y[after - 1] - y[after])
    return float(x[after - 1] + share * (x[after] - x[after - 1]))
