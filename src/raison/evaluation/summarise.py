"""From what happened to every record to cells, comparisons and curves: intervals, frames, tests, corrections."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from raison.evaluation.alignment import micro, normalised_f1
from raison.evaluation.faithfulness import flip_rate, normalised_flip_rate, normalised_flips
from raison.evaluation.power import detectable_difference
from raison.evaluation.results import Cell, Comparison, Curve, Item
from raison.evaluation.statistics import (
    Estimate,
    bootstrap_mean,
    bootstrap_statistic,
    holm,
    mcnemar,
    paired_rate_difference,
    sign_flip,
    wilson,
)

Column = NDArray[np.float64]
Columns = Mapping[str, Column]  # metric -> (records,), NaN = undefined

MEANS = ("f1", "precision", "recall", "iou", "auprc")
ALIGNMENT = (*MEANS, "f1_micro", "f1_normalised", "span_iou_f1")
RATES = ("flip_rate", "sufficiency_flip_rate", "flip_unreadable")
DROPS = ("comprehensiveness", "sufficiency", "aopc_comprehensiveness", "aopc_sufficiency", "tau_loo")
ORDERED = ("aopc_comprehensiveness", "aopc_sufficiency", "tau_loo")  # of these random rationales say nothing
# of `extras`, measured where they were asked for
ALSO = (
    "normalised_comprehensiveness", "normalised_sufficiency", "log_odds", "flip_fraction", "flip_top",
    "naopc_comprehensiveness", "naopc_sufficiency", "soft_comprehensiveness", "soft_sufficiency", "f_fidelity_plus",
    "f_fidelity_minus",
)  # fmt: skip
REPLIES = (
    "reply_missing", "reply_unreadable", "reply_refused", "reply_cut", "reply_hallucinated", "reply_from_prompt",
    "reply_partial", "reply_fuzzy", "reply_over", "reply_under", "reply_share", "reply_then_agrees",
    "reply_then_unreadable",
)  # fmt: skip
REPLY_MEANS = ("reply_hallucinated", "reply_from_prompt", "reply_partial", "reply_fuzzy", "reply_share")
REPLY_RATES = tuple(name for name in REPLIES if name not in REPLY_MEANS)
ALSO_RATES = ("flip_top",)
ALSO_ORDERED = ("flip_fraction", *(name for name in ALSO if name.startswith(("naopc", "soft"))))
# of models that write, see `outputs`
OUTPUTS = (
    "answer_flip_rate", "log_probability_drop", "log_probability_sufficiency", "aopc_log_probability_drop",
    "aopc_log_probability_sufficiency",
)  # fmt: skip
OUTPUT_RATES = ("answer_flip_rate",)
OUTPUT_ORDERED = tuple(name for name in OUTPUTS if name.startswith("aopc"))
COMPARED = ("f1", "auprc", "flip_rate", "aopc_comprehensiveness", "aopc_sufficiency")
READ = "no rationale missing"  # the slice of records in which every source has one
CURVES = ("comprehensiveness", "sufficiency")
UNGRADED = "it needs probabilities, and the model gives labels alone"


class Ratio(NamedTuple):
    """A metric that is a ratio of sums over records, from the columns it needs."""

    columns: tuple[str, ...]
    value: Callable[..., Column]  # takes columns (..., records), reduces the last axis


def _pooled_f1(hit: Column, chosen: Column, marked: Column) -> Column:
    return micro(hit, chosen, marked).f1


RATIOS = {
    "f1_micro": Ratio(("overlap", "chosen", "marked"), _pooled_f1),
    "span_iou_f1": Ratio(("spans_hit", "spans_chosen", "spans_marked"), _pooled_f1),
    "f1_normalised": Ratio(("f1", "f1.chance", "f1.human"), normalised_f1),
    "flip_rate_normalised": Ratio(("flip_rate", "flip_rate.random", "flip_rate.full"), normalised_flips),
}


ALTERNATIVES = 10  # records with two masks, from which on it is believed that they never share a word


class Settings(NamedTuple):
    """How intervals and tests are made."""

    level: float = 0.95
    resamples: int = 10_000
    seed: int = 0


def columns_of(items: Sequence[Item]) -> dict[str, dict[str, Column]]:
    """Gather the metrics of every source: source -> metric -> (records,), NaN where undefined or absent."""
    sources = dict.fromkeys(name for item in items for name in item.sources)
    table: dict[str, dict[str, Column]] = {source: {} for source in sources}
    for index, item in enumerate(items):
        for source, found in item.sources.items():
            for metric, value in found.metrics.items():
                column = table[source].setdefault(metric, np.full(len(items), np.nan))
                column[index] = np.nan if value is None else value
    return table


def cells(items: Sequence[Item], withheld: Mapping[str, str], settings: Settings) -> list[Cell]:
    """Give every metric of every source, over all records and over slices of them.

    The slices are the records of each gold label, and, where a source has failed, those in which none did.

    Args:
        items: what happened to every record.
        withheld: family of metrics -> why it can't be ranked, as `Validity` has it.
        settings: of intervals.
    """
    table = columns_of(items)
    if are_alternatives(items):
        table = {source: _without_ceiling(columns) for source, columns in table.items()}
    labels = np.array([item.label or "" for item in items])
    slices = {"all": np.ones(len(items), dtype=np.bool_)}
    if len(set(labels)) > 1:
        slices |= {f"label={label}": labels == label for label in sorted(set(labels) - {""})}
    failed = np.array([any(found.failure for found in item.sources.values()) for item in items])
    if failed.any() and not failed.all():
        slices[READ] = ~failed
    coarse = settings._replace(resamples=min(settings.resamples, 2_000))  # enough for slices, a fifth of the time
    found = [
        cell
        for source, columns in table.items()
        for name, rows in slices.items()
        for cell in _cells_of(
            (source, name),
            {key: column[rows] for key, column in columns.items()},
            settings if name == "all" else coarse,
            withheld,
        )
    ]
    random = {(cell.metric, cell.slice): cell.value for cell in found if cell.source == "random"}
    return [_beside_random(cell, random) for cell in found]


def are_alternatives(items: Sequence[Item]) -> bool:
    """Whether the masks of one record are alternatives, as evidence groups are, and not several people's opinion.

    So they are taken to be where at least 10 records have two that are not empty, and none has two that share a word.
    """
    several = [[set(words) for _, words in item.people if words] for item in items]
    several = [masks for masks in several if len(masks) > 1]
    return len(several) >= ALTERNATIVES and all(
        len(set.union(*masks)) == sum(len(mask) for mask in masks) for masks in several
    )


def _without_ceiling(columns: Columns) -> dict[str, Column]:
    """Leave what a person would reach undefined: alternatives were never meant to agree."""
    return {name: np.full_like(c, np.nan) if name.endswith(".human") else c for name, c in columns.items()}


def _beside_random(cell: Cell, random: Mapping[tuple[str, str], float | None]) -> Cell:
    """Set a metric that needs a score for every word beside that of the source of random scores, if there is one."""
    place = (cell.metric, cell.slice)
    if cell.metric not in (*ORDERED, *ALSO_ORDERED, *OUTPUT_ORDERED) or place not in random:
        return cell
    return msgspec.structs.replace(cell, frame={**cell.frame, "random": random[place]})


def _cells_of(
    where: tuple[str, str], columns: Columns, settings: Settings, withheld: Mapping[str, str]
) -> Iterator[Cell]:
    for metric in (*MEANS, *RATES, *DROPS, *ALSO, *RATIOS, *REPLIES, *OUTPUTS):
        estimate = _estimate(metric, columns, settings)
        if estimate is None:
            continue
        verdict = _readable(metric, estimate, withheld)
        frame = _frame(metric, columns)
        yield Cell(metric, *where, estimate.value, estimate.low, estimate.high, estimate.n, frame, verdict)


def _estimate(metric: str, columns: Columns, settings: Settings) -> Estimate | None:
    """Estimate a metric with its interval; None where it was not measured at all."""
    level, resamples, seed = settings
    if metric in RATIOS:
        ratio = RATIOS[metric]
        if any(name not in columns for name in ratio.columns):
            return None
        needed = [columns[name] for name in ratio.columns]
        if metric == "flip_rate_normalised" and _no_room(*needed):
            return Estimate(value=None, low=None, high=None, n=int(_joint(*needed).sum()), level=level)
        return bootstrap_statistic(ratio.value, *needed, level=level, resamples=resamples, seed=seed)
    if metric not in columns:
        return None
    values = columns[metric]
    if metric in (*RATES, *ALSO_RATES, *REPLY_RATES, *OUTPUT_RATES):
        known = values[~np.isnan(values)]
        return wilson(int(known.sum()), len(known), level=level)
    return bootstrap_mean(values, level=level, resamples=resamples, seed=seed)


def _no_room(rate: Column, random: Column, full: Column) -> bool:
    """Whether masking everything flips too little more than random words do for a flip rate to be normalised.

    The rates are over the records that have all three, as those of the value itself.
    """
    both = _joint(rate, random, full)
    return normalised_flip_rate(flip_rate(rate[both]), flip_rate(random[both]), flip_rate(full[both]))[0] is None


def _joint(*columns: Column) -> NDArray[np.bool_]:
    """Say which records have a value in every column."""
    missing: NDArray[np.bool_] = np.isnan(np.stack(columns))
    return ~np.logical_or.reduce(missing, axis=0)


def _frame(metric: str, columns: Columns) -> dict[str, float | None]:
    """Give the references of a metric, as means over the records where the metric is defined."""
    if metric in RATIOS:
        return {}
    defined = ~np.isnan(columns[metric])
    frame: dict[str, float | None] = {}
    for name, column in columns.items():
        if name.startswith(f"{metric}."):
            known = column[defined & ~np.isnan(column)]
            frame[name.partition(".")[2]] = float(known.mean()) if len(known) else None
    return frame


def family_of(metric: str) -> str:
    """Give the family whose ranking `Validity` may withhold: alignment, flips or probabilities; or replies."""
    if metric in REPLIES:
        return "replies"
    if metric in ALIGNMENT:
        return "alignment"
    return "flips" if "flip" in metric or "fidelity" in metric else "probabilities"


def _readable(metric: str, estimate: Estimate, withheld: Mapping[str, str]) -> str:
    """Say why a number can't be read or ranked; empty where it can."""
    if estimate.n == 0:
        unknown = withheld.get(family_of(metric)) == UNGRADED
        return f"undefined: {UNGRADED}" if unknown else "undefined: no record has it"
    if family_of(metric) in withheld:
        return f"not to be ranked: {withheld[family_of(metric)]}"
    if estimate.value is None:
        return "undefined: no room between its references"
    return ""


def comparisons(items: Sequence[Item], withheld: Mapping[str, str], settings: Settings) -> list[Comparison]:
    """Compare all pairs of sources on the records both have, metric by metric, with Holm's correction over the pairs.

    Arguments are those of `cells`. Where a family can't be ranked, its comparisons say why instead.
    """
    table = columns_of(items)
    found: list[Comparison] = []
    for metric in (*COMPARED, *ALSO, *OUTPUTS):
        having = [source for source, columns in table.items() if metric in columns]
        pairs = list(combinations(having, 2))
        if family_of(metric) in withheld:
            found += [_withheld(metric, a, b, len(pairs), withheld[family_of(metric)]) for a, b in pairs]
            continue
        tested = [_tested(metric, table[a][metric], table[b][metric], settings) for a, b in pairs]
        adjusted = holm([np.nan if p is None else p for _, p, _ in tested])
        for (a, b), (estimate, p, test), holm_p in zip(pairs, tested, adjusted, strict=True):
            corrected = None if np.isnan(holm_p) else float(holm_p)
            verdict = _resolved(estimate, corrected, settings.level)
            found.append(
                Comparison(
                    metric,
                    a,
                    b,
                    estimate.value,
                    estimate.low,
                    estimate.high,
                    p,
                    corrected,
                    len(pairs),
                    estimate.n,
                    test,
                    verdict,
                )
            )
    return found


def _tested(metric: str, a: Column, b: Column, settings: Settings) -> tuple[Estimate, float | None, str]:
    """Estimate a minus b on the records both have, and test it."""
    both = ~np.isnan(a) & ~np.isnan(b)
    first, second = a[both], b[both]
    if metric in (*RATES, *ALSO_RATES, *OUTPUT_RATES):
        only_a, only_b = int((first > second).sum()), int((second > first).sum())
        estimate = paired_rate_difference(only_a, only_b, len(first), level=settings.level)
        return estimate, mcnemar(only_a, only_b) if len(first) else None, "exact McNemar"
    differences = first - second
    estimate = bootstrap_mean(differences, level=settings.level, resamples=settings.resamples, seed=settings.seed)
    p = sign_flip(differences, resamples=settings.resamples, seed=settings.seed)
    return estimate, p, "paired sign-flip permutation"


def _resolved(estimate: Estimate, p: float | None, level: float) -> str:
    if p is None or estimate.value is None:
        return "undefined: no record has both"
    if p > 1 - level:
        return f"not resolved at n = {estimate.n}"
    return "a higher" if estimate.value > 0 else "b higher"


def _withheld(metric: str, a: str, b: str, family: int, reason: str) -> Comparison:
    return Comparison(metric, a, b, None, None, None, None, None, family, 0, "none", f"withheld: {reason}")


def curves(items: Sequence[Item], ratios: Sequence[float], settings: Settings) -> list[Curve]:
    """Give comprehensiveness and sufficiency of each source at each share of words, with intervals."""
    found: list[Curve] = []
    for source, columns in columns_of(items).items():
        for metric in CURVES:
            names = [f"{metric}@{ratio:g}" for ratio in ratios]
            if any(name not in columns for name in names):
                continue
            points = [
                bootstrap_mean(columns[name], level=settings.level, resamples=1_000, seed=settings.seed)
                for name in names
            ]
            if all(p.value is not None and p.low is not None and p.high is not None for p in points):
                value, low, high = ([getattr(p, end) for p in points] for end in ("value", "low", "high"))
                found.append(Curve(metric, source, list(ratios), value, low, high))
    return found


def power_notes(items: Sequence[Item], settings: Settings) -> list[str]:
    """Say which difference of two flip rates this sample can resolve, at the discordance it shows."""
    flips = [columns["flip_rate"] for columns in columns_of(items).values() if "flip_rate" in columns]
    pairs = [np.stack([a, b]) for a, b in combinations(flips, 2)]
    kept = [pair[:, ~np.isnan(pair).any(axis=0)] for pair in pairs]
    shares = [float((pair[0] != pair[1]).mean()) for pair in kept if pair.shape[1]]
    if not any(shares):
        return []
    n, discordance = min(pair.shape[1] for pair in kept), float(np.median(shares))
    least = detectable_difference(n, discordance, level=settings.level)
    return (
        []
        if least is None
        else [
            f"power: on {n} records, of which two sources disagree in {discordance:.0%} (median), flip rates less than "
            f"{100 * least:.1f} points apart are told apart in fewer than 80 % of samples"
        ]
    )
