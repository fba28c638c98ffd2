"""What a system said as each person, on a grid of items and people; statistics of it, their intervals and paired tests.

Every statistic takes weights (draws, rows), which say how often each row counts: ones for the value itself, counts of
resampled items for its interval, 0 and 1 for a test that swaps items between two systems. So one function gives all
three, and items are drawn whole, with all that was said of them in every seed.
"""

from collections.abc import Callable, Sequence
from math import ceil, nan
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from raison.evaluation.statistics import Estimate

Values = NDArray[np.float64]
Ints = NDArray[np.int64]

GROUPS = 100  # groups of k texts drawn of each person, at least, of all seeds together


class Panel(NamedTuple):
    """What was said in the names of people. A row is one item in one seed; NaN or -1 = missing."""

    items: Ints  # (rows,): place of the item
    seeds: Ints  # (rows,)
    wanted: Ints  # (rows, people): labels that the people chose
    given: Ints  # (rows, people): those given in their names
    values: dict[str, Values]  # measure -> (rows, people)
    evidence: Values  # (rows, people, people): log-probabilities of who wrote the text in the name of each
    wanted_bins: Ints  # (rows, people, features): of style features
    given_bins: Ints

    def only(self, person: int) -> "Panel":
        """Keep one person."""
        column = slice(person, person + 1)
        values = {name: value[:, column] for name, value in self.values.items()}
        return self._replace(
            wanted=self.wanted[:, column], given=self.given[:, column], values=values,
            wanted_bins=self.wanted_bins[:, column], given_bins=self.given_bins[:, column],
        )  # fmt: skip


Statistic = Callable[[Panel, Values], Values]  # (panel, weights (draws, rows)) -> (draws,)


# ---------------------------------------------------------------------------------------------- statistics


def mean(panel: Panel, weights: Values, name: str) -> Values:
    """Give the mean of a measure over all that has a value."""
    values = panel.values[name]
    total = weights @ (~np.isnan(values)).sum(axis=1).astype(np.float64)
    return np.divide(weights @ np.nansum(values, axis=1), total, out=np.full(len(weights), nan), where=total > 0)


def label_counts(panel: Panel, weights: Values, labels: int) -> Values:
    """Give confusion matrices (draws, labels, labels); a missing label is in none."""
    codes = np.where((panel.wanted >= 0) & (panel.given >= 0), panel.wanted * labels + panel.given, -1)
    found = np.zeros((len(panel.items), labels * labels))
    for column in codes.T:
        known = np.flatnonzero(column >= 0)
        found[known, column[known]] += 1
    return (weights @ found).reshape(len(weights), labels, labels)


def bin_counts(bins: Ints, weights: Values, size: int) -> Values:
    """Count style features: (draws, people, features, bins)."""
    rows, people, kinds = bins.shape
    there = (bins[..., None] == np.arange(size)).reshape(rows, -1).astype(np.float64)
    return (weights @ there).reshape(len(weights), people, kinds, size)


def identified(panel: Panel, weights: Values, k: int, seed: int = 0) -> tuple[Values, Values]:
    """Give how well the texts of each person, k together, are taken for that person's.

    Of each person groups of k texts are drawn without replacement, as disjoint groups from one shuffle after another,
    and never of several seeds: these are several models, each with a text to an item, and the mean over them counts.
    The evidence of a group is the mean of its texts' log-probabilities, scaled to sum to 1. For an attributor that is
    log-linear in its vectors, as ours is, that is q(. | mean of the k vectors). With k = 1 nothing is drawn.

    Returns:
        Imi_k = E[q(person | group)] (our definition; the paper's ImiScore is not known), and the share of groups taken
        for their person, ties shared; both (draws, people). NaN for a person who has k texts in no seed.
    """
    people = panel.evidence.shape[1]
    found = np.full((2, len(weights), people), nan)
    for person in range(people):
        rows = np.flatnonzero(~np.isnan(panel.evidence[:, person]).any(axis=1))
        evidence = panel.evidence[rows, person]
        if k == 1:
            found[:, :, person] = _single(_right(evidence, person), weights[:, rows])
            continue
        rng = np.random.default_rng([seed, person, k])
        runs = [np.flatnonzero(panel.seeds[rows] == run) for run in np.unique(panel.seeds[rows])]
        for draw, counts in enumerate(weights[:, rows].astype(np.int64)):
            own = [texts for run in runs if len(texts := np.repeat(run, counts[run])) >= k]
            groups = [evidence[_groups(texts, k, rng, ceil(GROUPS / len(own)))].mean(axis=1) for texts in own]
            if own:
                shares = [_right(group, person).mean(axis=1) for group in groups]
                found[:, draw, person] = np.average(shares, axis=0, weights=[len(texts) for texts in own])
    return found[0], found[1]


def _single(right: Values, weights: Values) -> Values:
    total = weights.sum(axis=1)
    return np.divide(right @ weights.T, total, out=np.full((2, len(weights)), nan), where=total > 0)


def _groups(own: Ints, k: int, rng: np.random.Generator, least: int) -> Ints:
    """Draw (groups, k), at least so many: as many disjoint groups as there are from each shuffle."""
    at_once = len(own) // k
    shuffles = rng.permuted(np.tile(own, (ceil(least / at_once), 1)), axis=1)
    return shuffles[:, : at_once * k].reshape(-1, k)


def _right(evidence: Values, person: int) -> Values:
    """Give the probability of a person (n,), and whether it is the highest (ties shared); stacked, (2, n)."""
    top = evidence.max(axis=1, keepdims=True)
    probabilities = np.exp(evidence - top)
    best = evidence >= top - 1e-12
    return np.stack([probabilities[:, person] / probabilities.sum(axis=1), best[:, person] / best.sum(axis=1)])


# ------------------------------------------------------------------------------------ intervals and tests


def ones(panel: Panel) -> Values:
    """Give the weights that count every row once."""
    return np.ones((1, len(panel.items)))


def item_draws(items: int, resamples: int, seed: int) -> Values:
    """Give how often each item counts, (1 + resamples, items): every one once, then as bootstrap samples draw them."""
    drawn = np.random.default_rng(seed).multinomial(items, np.full(items, 1 / items), size=resamples)
    return np.concatenate([np.ones((1, items)), drawn.astype(np.float64)])


def weights_of(panel: Panel, draws: Values, seed: int) -> Values:
    """Give the weights of a panel's rows for draws of items; several seeds are drawn, too, as items are."""
    seeds = int(panel.seeds.max(initial=0)) + 1
    times: Values = item_draws(seeds, len(draws) - 1, seed + 1) if seeds > 1 else np.ones((len(draws), 1))
    return draws[:, panel.items] * times[:, panel.seeds]


def centred(values: Values, low: float = 0.0, high: float = 1.0) -> Values:
    """Move resamples (draws, ...) so that their mean is the value itself, which comes first; never out of bounds.

    For what is said of groups: a resample has items twice, and a group with a text twice is less telling.
    """
    drawn = values[1:]
    known = ~np.isnan(drawn)
    total = np.maximum(known.sum(axis=0), 1)
    off = values[0] - np.where(known, drawn, 0.0).sum(axis=0) / total
    return np.concatenate([values[:1], np.clip(drawn + off, low, high)])


def estimate(values: Values, n: int, level: float) -> Estimate:
    """Make an estimate of the value itself, which comes first, and its resamples: the percentile interval.

    There is no interval where more resamples are undefined than lie outside it.
    """
    value, drawn = float(values[0]), values[1:][~np.isnan(values[1:])]
    if np.isnan(value):
        return Estimate(value=None, low=None, high=None, n=n, level=level)
    if len(drawn) == 0 or len(drawn) < (len(values) - 1) * (1 + level) / 2:
        return Estimate(value=value, low=None, high=None, n=n, level=level)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(value=value, low=float(low), high=float(high), n=n, level=level)


def swap_test(first: Panel, second: Panel, statistic: Statistic, resamples: int, seed: int) -> float | None:
    """Give the two-sided p-value of a paired permutation test that two systems are alike.

    Under the null it makes no difference which of the two said what is said of an item. So whole items, with everybody
    and all seeds, change sides at random: p = (1 + #{|d*| >= |d|}) / (resamples + 1). It holds for any statistic, not
    only for means.

    Returns:
        None where the difference is undefined.

    Raises:
        ValueError: the two have not the same items and number of seeds.
    """
    if not np.array_equal(first.items, second.items) or not np.array_equal(first.seeds, second.seeds):
        raise ValueError("a paired test needs the same items in the same number of seeds")
    kept = np.random.default_rng(seed).integers(0, 2, (resamples + 1, int(first.items.max(initial=0)) + 1))
    kept[0] = 1
    own = kept[:, first.items].astype(np.float64)
    both = _stacked(first, second)
    one, other = (statistic(both, np.concatenate(sides, axis=1)) for sides in ((own, 1 - own), (1 - own, own)))
    apart = one - other
    if np.isnan(apart[0]):
        return None
    extreme = int((np.abs(apart[1:]) >= abs(apart[0]) - 1e-9).sum())  # an undefined one is not counted as extreme
    return (1 + extreme) / (resamples + 1)


def _stacked(first: Panel, second: Panel) -> Panel:
    pairs = zip(first, second, strict=True)
    joined = [
        {name: np.concatenate([value, other[name]]) for name, value in one.items()}
        if isinstance(one, dict) and isinstance(other, dict)
        else np.concatenate([np.asarray(one), np.asarray(other)])
        for one, other in pairs
    ]
    return Panel(*joined)  # pyright: ignore[reportArgumentType]


def geometric_mean(parts: Sequence[Values]) -> Values:
    """Give the geometric mean of numbers in each place; one that is 0 or less makes it 0, NaN makes it NaN."""
    stacked = np.stack(parts)
    product = np.where((stacked <= 0).any(axis=0), 0.0, np.prod(np.maximum(stacked, 0.0), axis=0))
    return np.where(np.isnan(stacked).any(axis=0), nan, product ** (1 / len(parts)))
