"""Causal diagnosticity: does a metric of faithfulness know a faithful rationale from an unfaithful one?

The metrics themselves are graded, on records where the truth is known: a verdict of two sources, one of them faithful
and one not, such as `raison.testbed.rivals` gives. On the testbed, with a model and records of it:

    scores = rivals(records)
    verdict = evaluate(model, records, scores, budget="match:truth", one_out=True, also=["flips", "naopc", "soft"])
    grades = diagnosticity(verdict.items, "planted", "distractors")
"""

from collections.abc import Sequence

import msgspec
import numpy as np

from raison.evaluation import summarise
from raison.evaluation.results import Item
from raison.evaluation.statistics import Estimate, bootstrap_mean, wilson

# metrics of which lower is more faithful; of all others higher is
LOWER = (
    "sufficiency", "sufficiency_flip_rate", "aopc_sufficiency", "flip_fraction", "naopc_sufficiency",
    "f_fidelity_minus",
)  # fmt: skip
GRADED = (*summarise.RATES, *summarise.DROPS, *summarise.ALSO)
TIE = 1e-6  # values this near differ by rounding


class Diagnosis(msgspec.Struct, frozen=True):
    """How well one metric tells faithful rationales from unfaithful ones."""

    estimate: Estimate  # D, with its bootstrap interval
    ties: float | None  # share of pairs that the metric does not part

    @property
    def informative(self) -> bool:
        """Whether it is shown to be better than chance: its whole interval lies above one half."""
        return self.estimate.low is not None and self.estimate.low > 0.5


def diagnosticity(
    items: Sequence[Item],
    faithful: str,
    unfaithful: str,
    *,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> dict[str, Diagnosis]:
    """Give D = mean of 1[M(f) > M(u)] + 1/2 1[M(f) = M(u)] for every metric M of faithfulness that both sources have.

    This is Zaman and Srivastava 2025, section 3.1 (causal diagnosticity), with M turned round where lower is more
    faithful. 1/2 is chance. They make the pairs by editing models; here both rationales are of one model, whose reasons
    are planted.

    Args:
        items: of a verdict, one for each record.
        faithful: the source whose rationales are true.
        unfaithful: the source whose rationales are not.
        level: of the intervals.
        resamples: of the bootstrap over records.
        seed: of the bootstrap.

    Returns:
        metric -> diagnosis, in the order of the report; a record where either value is undefined is left out. Where all
        pairs are judged alike the bootstrap has nothing to say, and the interval is Wilson's.

    Raises:
        KeyError: no item has such a source.
    """
    table = summarise.columns_of(items)
    first, second = table[faithful], table[unfaithful]
    found: dict[str, Diagnosis] = {}
    for metric in GRADED:
        if metric in first and metric in second:
            sign = -1.0 if metric in LOWER else 1.0
            difference = sign * (first[metric] - second[metric])
            won = np.where(np.abs(difference) <= TIE, 0.5, difference > 0)
            known = won[~np.isnan(difference)]
            estimate = _estimate(known, level, resamples, seed)
            found[metric] = Diagnosis(estimate, float((known == 0.5).mean()) if len(known) else None)
    return found


def _estimate(won: summarise.Column, level: float, resamples: int, seed: int) -> Estimate:
    if len(won) and np.ptp(won) == 0 and won[0] != 0.5:
        return wilson(int(won.sum()), len(won), level=level)
    return bootstrap_mean(won, level=level, resamples=resamples, seed=seed)
