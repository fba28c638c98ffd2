"""Agreement of labels: a person's against those given in their name, as functions of a confusion matrix.

A matrix is (..., labels, labels): how often the person chose the row's label where the column's was given. Leading axes
are kept, so that one call answers for many resamples. What is undefined is NaN, never 0.
"""

from collections.abc import Collection, Sequence
from math import nan

import numpy as np
from numpy.typing import ArrayLike, NDArray

Values = NDArray[np.float64]


def confusion(wanted: Sequence[str | None], given: Sequence[str | None], labels: Sequence[str]) -> Values:
    """Count (labels, labels): rows the labels wanted, columns those given; a pair with a missing label is left out.

    Raises:
        ValueError: the two differ in length.
        KeyError: a label is not one of `labels`.
    """
    index = {label: place for place, label in enumerate(labels)}
    counts = np.zeros((len(labels), len(labels)))
    for one, other in zip(wanted, given, strict=True):
        if one is not None and other is not None:
            counts[index[one], index[other]] += 1
    return counts


def accuracy(counts: ArrayLike) -> Values:
    """Give the share of equal labels: the trace divided by the sum; NaN for no pair."""
    table = _table(counts)
    return _divided(np.trace(table, axis1=-2, axis2=-1), table.sum(axis=(-2, -1)))


def macro_f1(counts: ArrayLike) -> Values:
    """Give the mean F1 over labels, each 2 tp / (wanted + given); labels that nobody gave or wanted are left out."""
    table = _table(counts)
    both = table.sum(axis=-1) + table.sum(axis=-2)
    f1 = np.divide(2 * np.diagonal(table, axis1=-2, axis2=-1), both, out=np.zeros_like(both), where=both > 0)
    return _divided(f1.sum(axis=-1), (both > 0).sum(axis=-1))


def kappa(counts: ArrayLike) -> Values:
    """Give Cohen's kappa (1960), (p_o - p_e) / (1 - p_e); NaN for no pair, or where both always say the same one."""
    table = _table(counts)
    total = table.sum(axis=(-2, -1))
    by_chance = _divided((table.sum(axis=-1) * table.sum(axis=-2)).sum(axis=-1), total**2)
    room = np.where(1 - by_chance > 1e-12, 1 - by_chance, nan)
    return (accuracy(table) - by_chance) / room


def sign_accuracy(counts: ArrayLike, values: ArrayLike) -> Values:
    """Give the share of labels whose numbers have the same sign, 0 being a sign of its own.

    `values` are the numbers of the labels, (labels,).
    """
    table, signs = _table(counts), np.sign(np.asarray(values, dtype=np.float64))
    same = signs[:, None] == signs[None, :]
    return _divided((table * same).sum(axis=(-2, -1)), table.sum(axis=(-2, -1)))


def distance(counts: ArrayLike, values: ArrayLike, divisor: float) -> Values:
    """Give the mean |wanted - given| / divisor of labels that are numbers.

    The divisor is the caller's to name, since it is not agreed on: for ratings of -5 to 5 the text of LeWiDi-2025
    divides by 10, their range, and one of its systems by 11, how many there are.
    """
    if not divisor > 0:
        raise ValueError(f"divisor must be above 0, got {divisor}")
    table, numbers = _table(counts), np.asarray(values, dtype=np.float64)
    apart = np.abs(numbers[:, None] - numbers[None, :]) / divisor
    return _divided((table * apart).sum(axis=(-2, -1)), table.sum(axis=(-2, -1)))


def label_error(wanted: Collection[str], given: Collection[str], labels: Collection[str]) -> float:
    """Give the share of labels that one of two sets has and the other has not.

    It is LeWiDi-2025's error rate of one annotator on one item who may give several labels; its mean over items is
    theirs. NaN where there are no labels.
    """
    wrong = sum((label in wanted) != (label in given) for label in labels)
    return wrong / len(labels) if labels else nan


def _table(counts: ArrayLike) -> Values:
    table = np.asarray(counts, dtype=np.float64)
    if table.ndim < 2 or table.shape[-1] != table.shape[-2]:
        raise ValueError(f"expected (..., labels, labels), got shape {table.shape}")
    return table


def _divided(part: ArrayLike, whole: ArrayLike) -> Values:
    part, whole = np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64)
    return np.divide(part, whole, out=np.full(part.shape, nan), where=whole > 0)
