"""Cross-fitting by item: a unit is scored by a classifier, and its vectors made by a vectoriser, that knew none of it.

A unit is what one person said of one item: the mean of the vectors of their responses to it.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from raison.annotators.attribution import drawn, fit_scores
from raison.annotators.variance import group_sums, without_item
from raison.annotators.vectors import Encode, part_vectors

Values = NDArray[np.float64]
Ints = NDArray[np.int64]

STRENGTH = 1.0  # C of the logistic regression, the inverse of its penalty, on columns of variance 1
PENALTY = 1.0  # of least squares, on vectors of the length that they have


class Units(NamedTuple):
    """What is told apart: one unit for each person and item."""

    rows: Ints  # (responses,): the unit of each response
    items: Ints  # (units,)
    people: Ints  # (units,)
    labels: Ints  # (units,): code of the label, or of the set of labels
    folds: Ints  # (units,): by item


class Fold(NamedTuple):
    """The vectors of all units, made by what knew only the training part."""

    vectors: Values  # (units, d)
    train: NDArray[np.bool_]  # (units,)


def folds_of(items: Ints, folds: int, seed: int) -> Ints:
    """Part items into folds of like size, at random by seed; gives the fold of each unit."""
    names, places = np.unique(items, return_inverse=True)
    fold = np.empty(len(names), dtype=np.int64)
    fold[np.random.default_rng([seed, 7]).permutation(len(names))] = np.arange(len(names)) % folds
    return fold[places]


def text_folds(texts: Sequence[str], units: Units, kind: str | Encode, seed: int) -> list[Fold]:
    """Vectorise texts of responses, for each fold by what is fitted on the others' texts."""
    trains = [units.folds != fold for fold in range(int(units.folds.max()) + 1)]
    tables = part_vectors(texts, kind, [train[units.rows] for train in trains], seed=seed)
    return [Fold(unit_means(table, units), train) for table, train in zip(tables, trains, strict=True)]


def number_folds(table: Values, units: Units) -> list[Fold]:
    """Scale columns of numbers (responses, d) to the mean 0 and variance 1 that they have in training."""
    means = unit_means(table, units)
    found: list[Fold] = []
    for fold in range(int(units.folds.max()) + 1):
        train = units.folds != fold
        spread = means[train].std(axis=0)
        scaled = (means - means[train].mean(axis=0)) / np.where(spread > 1e-9, spread, 1.0)
        found.append(Fold(scaled, train))
    return found


def unit_means(vectors: Values, units: Units) -> Values:
    """Give the mean vector of each unit's responses."""
    counts = np.bincount(units.rows, minlength=len(units.items))
    return group_sums(vectors, units.rows, len(counts)) / counts[:, None]


def item_residuals(folds: Sequence[Fold], units: Units) -> list[Fold]:
    """Take from each unit the mean of what the others said of its item."""
    return [fold._replace(vectors=without_item(fold.vectors, units.items)) for fold in folds]


def ridge_residuals(
    folds: Sequence[Fold], inputs: Sequence[Fold], units: Units, penalty: float = PENALTY
) -> list[Fold]:
    """Take from each unit what a ridge regression on its input and label, fitted on training items, expects of it.

    Args:
        folds: vectors of the units.
        inputs: vectors of the inputs of the same units, in the same folds.
        units: whose labels are the second block; a unit's label code is one of a few.
        penalty: on all weights but the intercept.
    """
    labels = np.eye(int(units.labels.max()) + 1)[units.labels]
    found: list[Fold] = []
    for fold, source in zip(folds, inputs, strict=True):
        known = np.hstack([source.vectors, labels])
        known -= known[fold.train].mean(axis=0)
        centre = fold.vectors[fold.train].mean(axis=0)
        design = known[fold.train]
        gram = design.T @ design + penalty * np.eye(design.shape[1])
        expected = known @ np.linalg.solve(gram, design.T @ (fold.vectors[fold.train] - centre))
        found.append(fold._replace(vectors=fold.vectors - centre - expected))
    return found


def held_out_scores(folds: Sequence[Fold], units: Units, people: int) -> Values:
    """Give each unit's scores for each person (units, people), by a logistic regression fitted on the other folds.

    Columns are scaled to the standard deviation 1 that they have in training, so that the penalty weighs on a rare turn
    of phrase as on a common one.
    """
    scores = np.zeros((len(units.items), people))
    for vectors, train in folds:
        spread = vectors[train].std(axis=0)
        scaled = vectors / np.where(spread > 1e-9, spread, 1.0)
        weights, intercepts = fit_scores(scaled[train], units.people[train], people, STRENGTH)
        scores[~train] = scaled[~train] @ weights.T + intercepts
    return scores


def least_squares_scores(folds: Sequence[Fold], owners: Ints, people: int) -> NDArray[np.float32]:
    """Give held-out scores of regularised least squares for many assignments of units to people at once.

    Least squares on one-hot people is linear in them: scores = H Y, with one H for all Y. So a permutation costs a
    matrix product instead of a fit, and nothing of it is approximate: it is the test of another linear classifier.

    Args:
        folds: vectors of the units.
        owners: (draws, units).
        people: how many.

    Returns:
        (draws, units, people).
    """
    draws, n = owners.shape
    found = np.zeros((draws, n, people), dtype=np.float32)
    for vectors, train in folds:
        centred = vectors - vectors[train].mean(axis=0)
        gram = centred[train].T @ centred[train] + PENALTY * np.eye(centred.shape[1])
        hat = (centred[~train] @ np.linalg.solve(gram, centred[train].T)).astype(np.float32)
        for person in range(people):
            given = (owners[:, train] == person).astype(np.float32).T  # (train, draws)
            found[:, ~train, person] = (hat @ (given - given.mean(axis=0)) + given.mean(axis=0)).T
    return found


def accuracies(scores: NDArray[Any], owners: Ints, k: int, groups: int, seed: int) -> Values:
    """Give the accuracy at k of each draw: mean over people of the share of their groups given to them.

    The same places among a person's units are drawn for every assignment, so that assignments are compared alike. Each
    must give every person as many units.

    Args:
        scores: (draws, units, people).
        owners: (draws, units).
        k: units in a group, at most as many as any person has.
        groups: of each person; for k = 1 each unit is one.
        seed: of the groups.
    """
    counts = np.bincount(owners[0])
    writers, rng = np.flatnonzero(counts), np.random.default_rng([seed, k])
    starts = np.cumsum(counts) - counts
    places = [starts[person] + drawn(np.arange(counts[person]), k, groups, rng) for person in writers]
    found = np.empty(len(owners))
    for draw, whose in enumerate(owners):
        order = np.argsort(whose, kind="stable")
        hits = [
            np.mean(scores[draw][order[chosen]].mean(axis=1).argmax(axis=1) == person)
            for chosen, person in zip(places, writers, strict=True)
        ]
        found[draw] = np.mean(hits)
    return found
