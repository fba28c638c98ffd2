"""Intervals, paired tests and corrections: plain functions on arrays, one value per instance.

The instance is the unit of resampling. A missing value is NaN: it is dropped, and `n` says how many are left. What is
undefined is None, never 0. `level` is that of an interval, inside (0, 1). What is random is drawn `resamples` times by
`seed`: the same arguments give the same result. Every function raises ValueError, with the value, for a bad argument.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

Values = NDArray[np.float64]
Statistic = Callable[..., Values]

_CELLS = 500_000  # numbers held at once while resampling
_DRAWS = 20_000_000  # instances drawn for one interval, all resamples together


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """A number with its interval."""

    value: float | None  # None = undefined
    low: float | None  # ends of the interval; None = it could not be computed
    high: float | None
    n: int  # instances it rests on, without the missing ones
    level: float = 0.95  # of the interval


# ------------------------------------------------------------------------------------------------- bootstrap


def bootstrap_mean(values: ArrayLike, *, level: float = 0.95, resamples: int = 10_000, seed: int = 0) -> Estimate:
    """Estimate a mean with its BCa bootstrap interval (Efron and Tibshirani 1993, eq. 14.10).

    Where n x resamples is above 20 million (n > 2,000 by default) the interval is that of ABC, which is the analytic
    limit of BCa (the same, section 14.4), and differs from it by less than the noise of resampling.

    `values` is (n,), NaN = missing. n = 0 has no value; equal values have an interval of no width (for a rate near 0
    or 1 `wilson` says more).
    """
    _check_level(level, resamples)
    kept = _column(values)
    n = len(kept)
    if n == 0:
        return _undefined(0, level)
    mean = float(kept.mean())
    if n * resamples > _DRAWS:
        low, high = _abc_mean(kept, level)
    else:
        drawn = [kept[rows].mean(axis=1) for rows in _resampled_rows(n, resamples, seed)]
        low, high = _bca(mean, np.concatenate(drawn), -kept, level)  # -kept orders as the leave-one-out means
    return Estimate(value=mean, low=low, high=high, n=n, level=level)


def student_mean(values: ArrayLike, *, level: float = 0.95) -> Estimate:
    """Estimate a mean with Student's t interval, for few values such as one per seed.

    Resampling a handful of values gives too narrow an interval: BCa's at 95 % holds the mean of five normal values in
    some 83 % of cases. `values` is (n,), NaN = missing. n = 0 has no value, n = 1 no interval.
    """
    _check_level(level)
    kept = _column(values)
    n = len(kept)
    if n == 0:
        return _undefined(0, level)
    mean = float(kept.mean())
    if n == 1:
        return Estimate(value=mean, low=None, high=None, n=1, level=level)
    reach = float(stats.t.isf((1 - level) / 2, n - 1) * kept.std(ddof=1) / math.sqrt(n))
    return Estimate(value=mean, low=mean - reach, high=mean + reach, n=n, level=level)


def bootstrap_statistic(
    statistic: Statistic, *columns: ArrayLike, level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Estimate:
    """Estimate any statistic of paired columns with its BCa bootstrap interval (Efron and Tibshirani 1993, eq. 14.10).

    Instances are resampled whole, so what is paired stays paired. An instance with a missing value in any column is
    dropped. Beyond n x resamples = 20 million fewer resamples are drawn (2,000 at n = 10,000, never below 1,000), and
    beyond n = 1,000 the acceleration comes from leaving out 200 groups instead of single instances.

    `columns` are one or more of (n,), NaN = missing; `statistic` takes them as arrays (..., n) and reduces the last
    axis, NaN = undefined. There is no value where n = 0 or the statistic is undefined, and no interval where it is
    undefined in more than (1 - level) / 2 of the resamples.
    """
    _check_level(level, resamples)
    kept = _paired(columns)
    n = kept.shape[1]
    value = float(statistic(*kept)) if n else math.nan
    if math.isnan(value):
        return _undefined(n, level)
    resamples = min(resamples, max(1_000, _DRAWS // n))
    drawn = [statistic(*kept[:, rows]) for rows in _resampled_rows(n, resamples, seed, len(kept))]
    low, high = _bca(value, np.concatenate(drawn), _leave_out(statistic, kept), level)
    return Estimate(value=value, low=low, high=high, n=n, level=level)


def bootstrap_two_way(values: ArrayLike, *, level: float = 0.95, resamples: int = 10_000, seed: int = 0) -> Estimate:
    """Estimate a mean over instances and seeds (or prompts), both resampled: percentile interval.

    For two methods give their differences, so that both are judged on the same instances and seeds. Resamples are
    fewer for large n as in `bootstrap_statistic`. `values` is (n, seeds), NaN = missing; `n` of the result counts the
    instances with a value in any seed.
    """
    _check_level(level, resamples)
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2:
        raise ValueError(f"values: expected (instances, seeds), got shape {table.shape}")
    present = ~np.isnan(table)
    table, present = table[present.any(axis=1)], present[present.any(axis=1)]
    n, width = table.shape
    if n == 0:
        return _undefined(0, level)
    stacked = np.hstack([np.where(present, table, 0.0), present])  # (n, 2 seeds): for sums and counts
    rng = np.random.default_rng([seed, 1])
    draws: list[Values] = []
    for rows in _resampled_rows(n, min(resamples, max(1_000, _DRAWS // n)), seed):
        cells = rows + n * np.arange(len(rows))[:, None]
        times = np.bincount(cells.ravel(), minlength=rows.size).reshape(rows.shape)  # how often each is drawn
        by_seed = (times.astype(np.float64) @ stacked).reshape(len(rows), 2, width)
        chosen = rng.integers(0, width, (len(rows), 1, width))
        sums, counts = np.take_along_axis(by_seed, chosen, axis=2).sum(axis=2).T
        draws.append(np.divide(sums, counts, out=np.full(len(rows), np.nan), where=counts > 0))
    low, high = _quantiles(np.concatenate(draws), (1 - level) / 2, (1 + level) / 2, level)
    return Estimate(value=float(table[present].mean()), low=low, high=high, n=n, level=level)


def _resampled_rows(n: int, resamples: int, seed: int, columns: int = 1) -> Iterator[NDArray[np.int32]]:
    """Draw the row numbers (resamples, n) in pieces that hold a bounded number of cells."""
    rng = np.random.default_rng(seed)
    step = max(1, _CELLS // (n * columns))
    for start in range(0, resamples, step):
        yield rng.integers(0, n, (min(step, resamples - start), n), dtype=np.int32)


def _leave_out(statistic: Statistic, columns: Values) -> Values:
    """Give the statistic without each instance, or without each of 200 groups of many."""
    n = columns.shape[1]
    groups = np.array_split(np.arange(n), n if n <= 1_000 else 200)
    if n < 2:
        return np.zeros(n)
    return np.array([float(statistic(*np.delete(columns, group, axis=1))) for group in groups])


def _bca(value: float, draws: Values, left_out: Values, level: float) -> tuple[float | None, float | None]:
    """Give the BCa interval, or the percentile interval where bias or acceleration is undefined."""
    tail = (1 - level) / 2
    defined = draws[~np.isnan(draws)]
    below = (np.mean(defined < value) + np.mean(defined <= value)) / 2 if len(defined) else 0.0
    acceleration = _acceleration(left_out)
    if not 0 < below < 1 or math.isnan(acceleration):
        return _quantiles(draws, tail, 1 - tail, level)
    bias = special.ndtri(below)
    shifted = bias + special.ndtri(np.array([tail, 1 - tail]))
    scale = 1 - acceleration * shifted
    if (scale <= 0).any():
        return _quantiles(draws, tail, 1 - tail, level)
    lower, upper = special.ndtr(bias + shifted / scale)
    return _quantiles(draws, float(lower), float(upper), level)


def _acceleration(left_out: Values) -> float:
    """Give the sixth of the skewness of the leave-one-out values (eq. 14.15); NaN where they are equal."""
    off = left_out.mean() - left_out
    spread = float((off**2).sum())
    if not spread > 1e-24 * max(1.0, float(np.abs(left_out).max(initial=0.0)) ** 2):
        return math.nan
    return float((off**3).sum()) / (6 * spread**1.5)


def _abc_mean(values: Values, level: float) -> tuple[float, float]:
    """Give the ABC interval of a mean, where both constants are the acceleration; never outside the values."""
    mean = float(values.mean())
    acceleration = _acceleration(-values)
    if math.isnan(acceleration):
        return mean, mean
    shifted = acceleration + special.ndtri(np.array([(1 - level) / 2, (1 + level) / 2]))
    ends = mean + float(values.std()) / math.sqrt(len(values)) * shifted / (1 - acceleration * shifted) ** 2
    low, high = np.clip(ends, values.min(), values.max())
    return float(low), float(high)


def _quantiles(draws: Values, lower: float, upper: float, level: float) -> tuple[float | None, float | None]:
    defined = draws[~np.isnan(draws)]
    if len(defined) < len(draws) * (1 + level) / 2:
        return None, None
    low, high = np.quantile(defined, [lower, upper])
    return float(low), float(high)


# ---------------------------------------------------------------------------------------------- paired tests


def sign_flip(differences: ArrayLike, *, resamples: int = 10_000, seed: int = 0) -> float | None:
    """Give the two-sided p-value of a paired sign-flip permutation test of a mean difference of 0.

    p = (1 + #{|d*| >= |d|}) / (resamples + 1), where d* has the sign of each difference drawn anew.

    `differences` is (n,), one method minus the other on the same instance; NaN = missing. None for n = 0; 1 where
    every difference is 0.
    """
    _check_level(0.5, resamples)
    kept = _column(differences)
    if not kept.any():
        return 1.0 if len(kept) else None
    observed = abs(kept.sum()) - 1e-9 * np.abs(kept).sum()  # equal sums in another order may differ by rounding
    signs = 1.0 - 2 * np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)  # all patterns of eight
    eights = np.pad(kept, (0, -len(kept) % 8)).reshape(-1, 8)
    sums, groups = eights @ signs.T, np.arange(len(eights))  # a random byte picks the signed sum of eight differences
    rng, step, extreme = np.random.default_rng(seed), max(1, _CELLS // len(eights)), 0
    for start in range(0, resamples, step):
        patterns = rng.integers(0, 256, (min(step, resamples - start), len(eights)), dtype=np.uint8)
        extreme += int((np.abs(sums[groups, patterns].sum(axis=1)) >= observed).sum())
    return (1 + extreme) / (resamples + 1)


def mcnemar(only_first: int, only_second: int, *, mid_p: bool = False) -> float:
    """Give the two-sided p-value of McNemar's exact test of two paired rates.

    Under the null the count of one kind is binomial(only_first + only_second, 1/2). The mid-p form takes off half of
    the probability of what was observed, on each side (Fagerland, Lydersen and Laake 2013): less conservative.

    Args:
        only_first: instances where only the first method has the event (a flip, say).
        only_second: where only the second has it. The p-value is 1 where both counts are 0.
        mid_p: use the mid-p form.
    """
    if min(only_first, only_second) < 0:
        raise ValueError(f"counts must be 0 or more, got {only_first} and {only_second}")
    least, total = min(only_first, only_second), only_first + only_second
    tail = float(stats.binom.cdf(least, total, 0.5))
    exact = min(1.0, 2 * tail)
    if not mid_p or total == 0:
        return exact
    at = float(stats.binom.pmf(least, total, 0.5))
    return 2 * tail - at if only_first != only_second else 1 - at / 2


def random_mask_test(observed: ArrayLike, random: ArrayLike) -> float | None:
    """Give the p-value that masking chosen words flips at least as many labels as masking random words does.

    Under the null the chosen mask of an instance is one of its R + 1 masks by chance. The number of flips is then a
    sum of independent Bernoulli trials, each with the mean of the instance's R + 1 flips, and its upper tail is exact:
    nothing is drawn.

    `observed` are the flips (1 or 0) of the method (n,), `random` those under R random masks of the same size (n, R).
    An instance with NaN in any is dropped; None where none is left. One-sided.
    """
    first, others = np.asarray(observed, dtype=np.float64), np.asarray(random, dtype=np.float64)
    if first.ndim != 1 or others.ndim != 2 or len(first) != len(others) or others.shape[1] == 0:
        raise ValueError(f"expected (n,) and (n, R) flips, got shapes {first.shape} and {others.shape}")
    table = np.column_stack([first, others])
    table = table[~np.isnan(table).any(axis=1)]
    if not np.isin(table, (0.0, 1.0)).all():
        raise ValueError(f"flips must be 0 or 1, got {table[~np.isin(table, (0.0, 1.0))][0]}")
    if len(table) == 0:
        return None
    width = table.shape[1]
    probability = np.ones(1)  # of 0, 1, 2, ... flips
    for flips, instances in zip(*np.unique(table.sum(axis=1), return_counts=True), strict=True):
        pmf = stats.binom.pmf(np.arange(instances + 1), instances, flips / width)
        probability = np.convolve(probability, pmf)
    return min(1.0, float(probability[int(table[:, 0].sum()) :].sum()))


def equivalence(differences: ArrayLike, margin: float) -> float | None:
    """Give the p-value of two one-sided t-tests (TOST) that a mean difference lies inside +-margin.

    Small p: the two are equivalent within the margin. A large p of a test of difference says no such thing.

    `differences` are paired, (n,), NaN = missing; `margin`, above 0 and in their unit, is the largest that would not
    matter. Gives the larger of the two p-values; None for n < 2.
    """
    if not margin > 0:
        raise ValueError(f"margin must be above 0, got {margin}")
    kept = _column(differences)
    if len(kept) < 2:
        return None
    error = float(kept.std(ddof=1)) / math.sqrt(len(kept))
    nearest = margin - abs(float(kept.mean()))  # to the nearer bound; its test has the larger p
    if error <= 1e-12 * margin:
        return 0.0 if nearest > 0 else 1.0
    return float(stats.t.sf(nearest / error, len(kept) - 1))


# ------------------------------------------------------------------------ rates, effect sizes, families, power


def wilson(successes: int, n: int, *, level: float = 0.95) -> Estimate:
    """Estimate one rate with its Wilson score interval (Wilson 1927); n = 0 has no value."""
    _check_level(level)
    if not 0 <= successes <= n:
        raise ValueError(f"expected 0 <= successes <= n, got {successes} of {n}")
    if n == 0:
        return _undefined(0, level)
    ends = stats.binomtest(successes, n).proportion_ci(confidence_level=level, method="wilson")
    return Estimate(value=successes / n, low=float(ends.low), high=float(ends.high), n=n, level=level)


def paired_rate_difference(only_first: int, only_second: int, n: int, *, level: float = 0.95) -> Estimate:
    """Estimate first rate minus second, paired, with the adjusted Wald interval of Bonett and Price (2012).

    `only_first` counts the instances where only the first method has the event, `only_second` those where only the
    second has it; `n` counts all, and 0 has no value.
    """
    _check_level(level)
    if min(only_first, only_second) < 0 or only_first + only_second > n:
        raise ValueError(f"expected counts that sum to at most n = {n}, got {only_first} and {only_second}")
    if n == 0:
        return _undefined(0, level)
    first, second = (only_first + 1) / (n + 2), (only_second + 1) / (n + 2)
    error = math.sqrt((first + second - (first - second) ** 2) / (n + 2))
    half = float(special.ndtri((1 + level) / 2)) * error
    low, high = max(-1.0, first - second - half), min(1.0, first - second + half)
    return Estimate(value=(only_first - only_second) / n, low=low, high=high, n=n, level=level)


def cliffs_delta(first: ArrayLike, second: ArrayLike) -> float | None:
    """Give P(first > second) - P(first < second) over all pairs (Cliff 1993); None where a sample is empty."""
    one, two = _column(first), _column(second)
    if len(one) == 0 or len(two) == 0:
        return None
    above = float(stats.mannwhitneyu(one, two, method="asymptotic").statistic)  # ties count half
    return 2 * above / (len(one) * len(two)) - 1


def holm(p_values: ArrayLike) -> Values:
    """Adjust a family of p-values for the chance of any false claim (Holm 1979); NaN = no test, not in the family."""
    return _adjusted(p_values, _step_down)


def benjamini_hochberg(p_values: ArrayLike) -> Values:
    """Adjust a family of p-values for the share of false findings (Benjamini and Hochberg 1995); NaN = no test."""
    return _adjusted(p_values, stats.false_discovery_control)


# --------------------------------------------------------------------------------------------------- helpers


def _adjusted(p_values: ArrayLike, adjust: Callable[[Values], Values]) -> Values:
    family = np.array(p_values, dtype=np.float64)
    tested = ~np.isnan(family)
    if family.ndim != 1 or not ((family[tested] >= 0) & (family[tested] <= 1)).all():
        raise ValueError(f"p-values must be one row of numbers in [0, 1], got {family}")
    if tested.any():
        family[tested] = adjust(family[tested])
    return family


def _step_down(p_values: Values) -> Values:
    """Adjust as Holm does; statsmodels has it too, but collects all garbage of the process at every call."""
    order = np.argsort(p_values)
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1))
    return np.minimum(adjusted, 1)


def _check_level(level: float, resamples: int = 1) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level must be inside (0, 1), got {level}")
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, got {resamples}")


def _column(values: ArrayLike) -> Values:
    return _paired([values])[0]


def _paired(columns: Sequence[ArrayLike]) -> Values:
    """Stack columns and drop every instance with a missing value: (columns, n)."""
    arrays = [np.asarray(column, dtype=np.float64) for column in columns]
    shapes = [array.shape for array in arrays]
    if not arrays or arrays[0].ndim != 1 or len(set(shapes)) != 1:
        raise ValueError(f"expected columns (n,) of one length, got shapes {shapes}")
    table = np.stack(arrays)
    return table[:, ~np.isnan(table).any(axis=0)]


def _undefined(n: int, level: float) -> Estimate:
    return Estimate(value=None, low=None, high=None, n=n, level=level)
