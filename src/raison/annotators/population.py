"""The population: does a panel of imitated people, taken together, still label like the panel of people?

Labels are integers, (items, people), -1 where there is none.
"""

from collections.abc import Sequence
from math import nan, sqrt
from typing import Any

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from raison.annotators.agreement import kappa

Values = NDArray[np.float64]
Labels = NDArray[np.int64]

FEWEST = 30  # items that the t-test of the alt-test needs, by its authors' rule


def shares(labels: ArrayLike, count: int) -> Values:
    """Give the share of each label on each item, (items, count); NaN on items that nobody labelled."""
    table = _labels(labels)
    found = (table[:, :, None] == np.arange(count)).sum(axis=1).astype(np.float64)
    total = found.sum(axis=1, keepdims=True)
    return np.divide(found, total, out=np.full_like(found, nan), where=total > 0)


def manhattan(one: ArrayLike, other: ArrayLike) -> Values:
    """Give the sum of absolute differences of two distributions (LeWiDi's soft metric), (...), in [0, 2]."""
    return np.abs(np.asarray(one, float) - np.asarray(other, float)).sum(axis=-1)


def jensen_shannon(one: ArrayLike, other: ArrayLike) -> Values:
    """Give the Jensen-Shannon divergence of two distributions in bits, (...), in [0, 1]; a share of 0 adds nothing."""
    p, q = np.asarray(one, float), np.asarray(other, float)
    middle = (p + q) / 2
    parts = [np.where(share == 0, 0.0, share * np.log2(_safe(share) / _safe(middle))) for share in (p, q)]
    return np.maximum((parts[0] + parts[1]).sum(axis=-1) / 2, 0.0)


def _safe(share: Values) -> Values:
    return np.where(share == 0, 1.0, share)


def kappa_matrix(rows: ArrayLike, columns: ArrayLike, count: int) -> Values:
    """Give Cohen's kappa of every person of one panel with every person of another, on the items both labelled.

    Args:
        rows: (items, people); the rows of the result.
        columns: (items, others); the same panel again gives the agreement within it, with 1 on the diagonal (NaN for
            a person who always chose the same label).
        count: how many labels there are.
    """
    one, other = ((_labels(panel)[:, :, None] == np.arange(count)).astype(np.float64) for panel in (rows, columns))
    return kappa(np.einsum("ipa,iqb->pqab", one, other))


def kappa_gap(real: ArrayLike, imitated: ArrayLike) -> float:
    """Give the mean absolute difference of two kappa matrices off their diagonals; NaN where there is no pair."""
    apart = np.abs(np.asarray(real, float) - np.asarray(imitated, float))
    kept = apart[~np.eye(len(apart), dtype=bool)]
    return float(np.nanmean(kept)) if (~np.isnan(kept)).any() else nan


class Standing(msgspec.Struct, frozen=True):
    """How one person's stand-in fares against that person, by the rest of the panel."""

    annotator: str
    items: int  # that both and at least one more labelled
    stand_in: float | None  # share of items where the stand-in agrees with the rest at least as well
    person: float | None  # share where the person does
    p: float | None  # of "the person is better by epsilon or more"; None = too few items to test
    replaced: bool  # whether that is rejected, at the corrected level


class AltTest(msgspec.Struct, frozen=True):
    """What the alternative annotator test says of a panel of stand-ins."""

    winning_rate: float | None  # omega: share of the people tested whom their stand-in may replace
    advantage: float | None  # rho: mean of `stand_in`
    passed: bool | None  # omega >= 1/2; None = nobody could be tested
    epsilon: float
    level: float  # of false discoveries
    people: list[Standing]


def alt_test(
    stand_ins: ArrayLike,
    people: ArrayLike,
    names: Sequence[str],
    values: ArrayLike | None = None,
    *,
    epsilon: float = 0.15,
    level: float = 0.05,
) -> AltTest:
    """Run the alternative annotator test (Calderon, Reichart and Dror 2025) on a panel of stand-ins.

    On every item a person j is left out, and both j and their stand-in are scored by their agreement S with the rest:
    the share of equal labels or, of ordinal labels, minus the root mean square difference. With W_f = 1 where the
    stand-in's S is at least the person's, and W_h = 1 where the person's is at least the stand-in's, the null is
    mean(W_h - W_f) >= epsilon: the person is better by epsilon, the price of asking a person. A one-sided t-test for
    each j; p-values corrected for false discoveries under any dependence (Benjamini and Yekutieli 2001). omega is the
    share of people whose null is rejected, and the panel passes at omega >= 1/2.

    The authors test one model against all people. Here each person has a stand-in of their own, which is our use of it;
    with the same column for everybody it is theirs.

    Args:
        stand_ins: labels (items, people), in the order of `people`.
        people: labels (items, people).
        names: of the people.
        values: numbers of the labels where they are ordinal; None = they are not.
        epsilon: the authors advise 0.2 where people are experts, 0.15 for skilled annotators, 0.1 for crowd workers.
        level: of false discoveries.

    Returns:
        The test. A person with fewer than 30 items is not tested, by the authors' rule.
    """
    given, real = _labels(stand_ins), _labels(people)
    if given.shape != real.shape or given.shape[1] != len(names):
        raise ValueError(f"expected one stand-in for each of {len(names)} people, got {given.shape} and {real.shape}")
    scales = None if values is None else np.asarray(values, dtype=np.float64)
    wins = [_wins(given[:, j], real, j, scales) for j in range(len(names))]
    p_values = np.array([_p(first, second, epsilon) for first, second in wins])
    tested = ~np.isnan(p_values)
    adjusted = np.full(len(names), nan)
    if tested.any():
        adjusted[tested] = stats.false_discovery_control(p_values[tested], method="by")
    found = [
        Standing(name, len(first), _mean(first), _mean(second), None if np.isnan(p) else float(p), bool(q <= level))
        for name, (first, second), p, q in zip(names, wins, p_values, adjusted, strict=True)
    ]
    judged = [one for one, known in zip(found, tested, strict=True) if known]
    rate = _mean([one.replaced for one in judged])
    advantage = _mean([one.stand_in for one in judged])
    return AltTest(rate, advantage, None if rate is None else rate >= 0.5, epsilon, level, found)


def _wins(stand_in: Labels, people: Labels, left_out: int, values: Values | None) -> tuple[Values, Values]:
    """Give W_f and W_h of one person on the items where it can be told."""
    rest = np.delete(people, left_out, axis=1)
    kept = (stand_in >= 0) & (people[:, left_out] >= 0) & (rest >= 0).any(axis=1)
    first, second = (_agreement(row[kept], rest[kept], values) for row in (stand_in, people[:, left_out]))
    return (first >= second - 1e-12).astype(float), (second >= first - 1e-12).astype(float)


def _agreement(one: Labels, rest: Labels, values: Values | None) -> Values:
    """Score labels (n,) by those of the rest (n, others)."""
    there = rest >= 0
    if values is None:
        return ((one[:, None] == rest) & there).sum(axis=1) / there.sum(axis=1)
    squares = np.where(there, (values[one][:, None] - values[rest]) ** 2, 0.0)
    return -np.sqrt(squares.sum(axis=1) / there.sum(axis=1))


def _p(stand_in: Values, person: Values, epsilon: float) -> float:
    """Give the p-value of the one-sided t-test of mean(W_h - W_f) >= epsilon; NaN for fewer than 30 items."""
    apart = person - stand_in
    if len(apart) < FEWEST:
        return nan
    gap, error = epsilon - float(apart.mean()), float(apart.std(ddof=1)) / sqrt(len(apart))
    if error == 0:
        return 0.0 if gap > 0 else 1.0
    return float(stats.t.sf(gap / error, len(apart) - 1))


def _labels(labels: ArrayLike) -> Labels:
    table = np.asarray(labels, dtype=np.int64)
    if table.ndim != 2:
        raise ValueError(f"labels: expected (items, people), got shape {table.shape}")
    return table


def _mean(values: Any) -> float | None:
    return float(np.mean(values)) if len(values) else None
