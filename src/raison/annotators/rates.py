"""Rates with intervals and paired comparisons of sources: what the results of judges and of raters have in common."""

import math
from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import NamedTuple

import numpy as np

from raison.evaluation.results import Comparison
from raison.evaluation.statistics import Estimate, Values, bootstrap_mean, holm, sign_flip, wilson

Group = tuple[str, int]  # what is resampled as a whole: whose texts, and their number


class How(NamedTuple):
    """How intervals and tests are made."""

    level: float = 0.95
    resamples: int = 10_000
    seed: int = 0


def share(values: Iterable[float], how: How) -> Estimate:
    """Estimate a mean of shares: BCa, or Wilson's where all of them are 0 or all are 1 and BCa has no width."""
    kept = [value for value in values if not math.isnan(value)]
    if kept and set(kept) in ({0.0}, {1.0}):
        return wilson(int(sum(kept)), len(kept), level=how.level)
    return bootstrap_mean(kept, level=how.level, resamples=how.resamples, seed=how.seed)


def paired(metric: str, values: Mapping[str, Mapping[Group, float]], how: How, withheld: str = "") -> list[Comparison]:
    """Compare each pair of sources on the groups that both have a value for; Holm's correction over all pairs.

    Args:
        metric: what is compared.
        values: source -> group -> value; NaN = missing.
        how: of intervals and tests.
        withheld: why no pair is ranked; empty = they are.
    """
    pairs = [*combinations(values, 2)]
    differences: list[Values] = []
    for a, b in pairs:
        common = [group for group in values[a] if group in values[b]]
        differences.append(np.array([values[a][group] - values[b][group] for group in common], dtype=np.float64))
    p_values = [sign_flip(one, resamples=how.resamples, seed=how.seed) for one in differences]
    adjusted = holm([math.nan if p is None else p for p in p_values]) if pairs else np.empty(0)
    found: list[Comparison] = []
    for (a, b), one, p, corrected in zip(pairs, differences, p_values, adjusted.tolist(), strict=True):
        estimate = bootstrap_mean(one, level=how.level, resamples=how.resamples, seed=how.seed)
        p_holm = None if p is None else float(corrected)
        verdict = withheld or _ranked(estimate, p_holm, how.level)
        span = (estimate.value, estimate.low, estimate.high, p, p_holm, len(pairs), estimate.n)
        found.append(Comparison(metric, a, b, *span, "paired sign-flip permutation", verdict))
    return found


def _ranked(estimate: Estimate, p: float | None, level: float) -> str:
    if p is None or estimate.value is None or p > 1 - level:
        return f"not resolved at n = {estimate.n}"
    return "a higher" if estimate.value > 0 else "b higher"
