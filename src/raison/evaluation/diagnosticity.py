"""Causal diagnosticity: does a metric of faithfulness know a faithful rationale from an unfaithful one?

The metrics themselves are graded, on records where the truth is known: a verdict of sources of which one is faithful
and others are not, such as `raison.testbed.rivals` gives. On the testbed, with a model and records of it:

    scores = rivals(records)
    verdict = evaluate(model, records, scores, budget="match:truth", one_out=True, also=["flips", "naopc", "soft"])
    grades = grades_of(verdict)

Another verdict shows such grades beside its metrics: `other.graded(grades)`.
"""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from raison.evaluation import summarise
from raison.evaluation.results import Diagnosis, Grades, Item, Verdict
from raison.evaluation.statistics import Estimate, bootstrap_mean, wilson
from raison.records import Fault, InputError

# metrics of which lower is more faithful; of all others higher is
LOWER = (
    "sufficiency", "sufficiency_flip_rate", "aopc_sufficiency", "flip_fraction", "naopc_sufficiency",
    "f_fidelity_minus",
)  # fmt: skip
UNGRADED = ("flip_unreadable",)  # what became of answers, not a measure of a rationale
GRADED = tuple(name for name in (*summarise.RATES, *summarise.DROPS, *summarise.ALSO) if name not in UNGRADED)
TIE = 1e-6  # values this near differ by rounding


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


def grades_of(
    verdict: Verdict, faithful: str = "planted", unfaithful: Sequence[str] = ("random_words", "distractors")
) -> Grades:
    """Grade the metrics of a verdict of sources whose truth is known: `diagnosticity` against each that is not true.

    Args:
        verdict: of rationales of a model, such as those of `raison.testbed.rivals`.
        faithful: the source whose rationales are true.
        unfaithful: sources whose rationales are not; those that the verdict does not have are left out.

    Raises:
        ValueError: no model was run.
        KeyError: there is no source of that name.
    """
    if verdict.model is None or verdict.validity is None:
        raise ValueError("no model was run, so there is no metric of faithfulness to grade")
    accuracy = verdict.validity.accuracy
    return Grades(
        model=verdict.model,
        records=len(verdict.items),
        accuracy=accuracy.value if accuracy else None,
        against={
            name: diagnosticity(verdict.items, faithful, name)
            for name in unfaithful
            if any(name in item.sources for item in verdict.items)
        },
        provenance=verdict.provenance,
    )


def read_grades(path: str | Path) -> Grades:
    """Read grades that `raison grade` wrote. Metrics that nobody knows are kept; they stand beside nothing.

    Raises:
        InputError: the file is not there, or holds something else.
    """
    try:
        return msgspec.json.decode(Path(path).read_bytes(), type=Grades)
    except OSError:
        raise InputError(f"{path}: no such file of grades; `raison grade` writes one") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(str(Fault(str(path), None, f"no grades as `raison grade` writes them: {error}"))) from None
