"""Agreement of a rationale, or of scores, with the words that people marked.

A record's words are one flat axis over its fields. `human` is one person's mask (words,), `people` are the masks
(annotators, words) of everyone who was asked; whoever was asked and marked nothing is a row without a True. Undefined
is NaN, never 0. The edge rules, for one record:

- nobody marked a word: every score is NaN, and the record is left out and counted;
- nothing was predicted: 0;
- rules `each` and `best`: a person who marked nothing, where another marked something, counts 0, since nothing that was
  chosen is theirs. People scored against each other by this rule agree as published (0.535 on the LiTEx selection).

Every function raises ValueError, with the value, for masks or scores whose shapes do not fit and for unknown names.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from raison.evaluation.statistics import Estimate, bootstrap_statistic
from raison.rationales import top_k
from raison.words import Mask

Values = NDArray[np.float64]
Metric = Callable[[Any, Mask], Values]  # (mask or scores (words,), masks (..., words)) -> (...)
Rule = Literal["majority", "each", "union", "best"]

_OUTCOMES, _DRAWS = 20_000, 2_000  # joint counts enumerated for an exact chance; beyond it, choices drawn


# ----------------------------------------------------------------------------------------- one mask against another


def precision(predicted: Mask, human: Mask) -> Values:
    """Give |r & h| / |r| of masks (..., words): the share of predicted words that the person marked."""
    return _overlap(_precision, predicted, human)


def recall(predicted: Mask, human: Mask) -> Values:
    """Give |r & h| / |h| of masks (..., words): the share of the person's words that were predicted."""
    return _overlap(_recall, predicted, human)


def f1(predicted: Mask, human: Mask) -> Values:
    """Give 2 |r & h| / (|r| + |h|) of masks (..., words); NaN where h is empty, else 0 where r is."""
    return _overlap(_f1, predicted, human)


def iou(predicted: Mask, human: Mask) -> Values:
    """Give |r & h| / |r | h| of masks (..., words); NaN where h is empty, else 0 where r is."""
    return _overlap(_iou, predicted, human)


def overlap_counts(predicted: Mask, human: Mask) -> Values:
    """Give (words in both, predicted, marked) as (..., 3), for `micro`; NaN where the person marked nothing."""
    hit, size, marked = _counts(predicted, human)
    table = np.stack(np.broadcast_arrays(hit, size, marked), axis=-1).astype(np.float64)
    return np.where(table[..., 2:] > 0, table, np.nan)


def _precision(hit: Values, size: Values, marked: Values) -> Values:
    return _divide(hit, size)


def _recall(hit: Values, size: Values, marked: Values) -> Values:
    return _divide(hit, marked)


def _f1(hit: Values, size: Values, marked: Values) -> Values:
    return _divide(2 * hit, size + marked)


def _iou(hit: Values, size: Values, marked: Values) -> Values:
    return _divide(hit, size + marked - hit)


def _divide(part: Values, whole: Values) -> Values:
    """Divide, with 0 / 0 = 0."""
    return part / np.where(whole == 0, 1, whole)


# Metrics as functions of three counts: words in both, words predicted, words marked.
_FROM_COUNTS: dict[Any, Callable[[Any, Any, Any], Values]] = {
    precision: _precision,
    recall: _recall,
    f1: _f1,
    iou: _iou,
}


def _counts(predicted: Mask, human: Mask) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    if predicted.dtype != np.bool_ or human.dtype != np.bool_:
        raise ValueError(f"masks must be boolean, got {predicted.dtype} and {human.dtype}")
    if predicted.shape[-1:] != human.shape[-1:]:
        raise ValueError(f"masks are of different lengths: {predicted.shape} and {human.shape}")
    return (predicted & human).sum(axis=-1), predicted.sum(axis=-1), human.sum(axis=-1)


def _overlap(formula: Callable[[Any, Any, Any], Values], predicted: Mask, human: Mask) -> Values:
    hit, size, marked = _counts(predicted, human)
    return np.where(marked > 0, formula(hit, size, marked), np.nan)


# ------------------------------------------------------------------------------------------------- pooled scores


class Scores(NamedTuple):
    """Precision, recall and F1 over many records; arrays where the counts had leading axes."""

    precision: Values
    recall: Values
    f1: Values


def micro(hit: Values, predicted: Values, human: Values) -> Scores:
    """Pool counts over records: columns (..., n) of `overlap_counts` or `span_counts`, summed over the last axis.

    Records with NaN are left out. P = sum hit / sum predicted, R = sum hit / sum human and F1 from both, as ERASER's
    micro average (DeYoung et al. 2020, section 4.1). NaN where no record is left, else 0 where nothing was predicted.
    """
    hits, sizes, marked = (np.nansum(column, axis=-1) for column in (hit, predicted, human))
    formulas = (_precision, _recall, _f1)
    return Scores(*(np.where(marked > 0, formula(hits, sizes, marked), np.nan) for formula in formulas))


def eraser_macro(hit: Values, predicted: Values, human: Values) -> Scores:
    """Average precision and recall over records, and give the F1 of the two averages: ERASER's macro average.

    As published (rationale_benchmark/metrics.py, `partial_match_score`) precision is averaged over the records where
    something was predicted. Columns (..., n) as in `micro`; NaN where no record is left, 0 where nothing was predicted.
    """
    present = human > 0  # False for NaN
    hits, sizes = np.where(present, hit, 0.0), np.where(present, predicted, 0.0)
    p = _divide(_divide(hits, sizes).sum(axis=-1), (sizes > 0).sum(axis=-1))
    r = _divide(np.where(present, hits / np.where(present, human, 1.0), 0.0).sum(axis=-1), present.sum(axis=-1))
    undefined = ~present.any(axis=-1)
    return Scores(*(np.where(undefined, np.nan, x) for x in (p, r, _divide(2 * p * r, p + r))))


# --------------------------------------------------------------------------------------------------------- spans


def spans(mask: Mask, sizes: Sequence[int]) -> NDArray[np.int64]:
    """Give the runs of marked words as (runs, 2): first word and the word after the last.

    `sizes` are the words per field; a run never crosses from one field into the next.
    """
    if sum(sizes) != len(mask):
        raise ValueError(f"fields of {tuple(sizes)} words do not make {len(mask)}")
    first = np.zeros(len(mask) + 1, dtype=np.bool_)
    first[np.cumsum([0, *sizes])] = True
    starts = mask & (first[:-1] | ~np.concatenate([[False], mask[:-1]]))
    ends = mask & (first[1:] | ~np.concatenate([mask[1:], [False]]))
    return np.column_stack([np.flatnonzero(starts), np.flatnonzero(ends) + 1])


def span_counts(predicted: Mask, human: Mask, sizes: Sequence[int], *, threshold: float = 0.5) -> Values:
    """Give (predicted spans that hit, predicted spans, human spans) as (3,), for `micro` and `eraser_macro`.

    A predicted span hits if its best IoU with a human span is at least `threshold` (DeYoung et al. 2020, section 4.1).
    NaN where the person marked nothing. Arguments as in `spans`, both masks (words,).
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must be above 0 and at most 1, got {threshold}")
    if not human.any():
        return np.full(3, np.nan)
    ours, theirs = spans(predicted, sizes)[:, None], spans(human, sizes)[None]
    shared = np.minimum(ours[..., 1], theirs[..., 1]) - np.maximum(ours[..., 0], theirs[..., 0])
    joint = np.maximum(ours[..., 1], theirs[..., 1]) - np.minimum(ours[..., 0], theirs[..., 0])
    hits = (shared >= threshold * joint).any(axis=1)  # where two spans meet, what they join is what they span
    return np.array([hits.sum(), len(ours), theirs.shape[1]], dtype=np.float64)


def iou_f1(predicted: Mask, human: Mask, sizes: Sequence[int], *, threshold: float = 0.5) -> Values:
    """Give ERASER's IoU-F1 of one record, 2 hits / (predicted + human spans), see `span_counts`.

    `human` may be (annotators, words), so that `functools.partial(iou_f1, sizes=...)` goes into `against`.
    """
    if human.ndim > 1:
        return np.array([iou_f1(predicted, row, sizes, threshold=threshold) for row in human])
    return _f1(*span_counts(predicted, human, sizes, threshold=threshold))


# ------------------------------------------------------------------------------------------------ scores, not masks


def auprc(scores: NDArray[Any], human: Mask) -> Values:
    """Give the area under the precision-recall curve by trapezoids, as ERASER does (DeYoung et al. 2020, section 4.1).

    `scores` is (words,); words without a score (NaN) rank last, together. `human` is (words,) or (annotators, words).
    NaN where a person marked no word or all of them.
    """
    return _of_curve(scores, human, lambda p, r: float((np.diff(r) * (p[1:] + p[:-1]) / 2).sum()))


def average_precision(scores: NDArray[Any], human: Mask) -> Values:
    """Give the sum of precisions weighted by the steps of recall; arguments and NaN as in `auprc`."""
    return _of_curve(scores, human, lambda p, r: float((np.diff(r) * p[1:]).sum()))


def recall_at_k(scores: NDArray[Any], human: Mask, k: int) -> Values:
    """Give the share of a person's words among the k highest scores, ties by position; NaN where they marked none."""
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    return recall(top_k(scores, k), human)


def _of_curve(scores: NDArray[Any], human: Mask, area: Callable[[Values, Values], float]) -> Values:
    """Apply `area` to (precision, recall) at every distinct score, from (1, 0) on, for each mask."""
    if scores.ndim != 1 or scores.shape != human.shape[-1:]:
        raise ValueError(f"scores of shape {scores.shape} do not fit masks of shape {human.shape}")
    if human.ndim > 1:
        return np.array([_of_curve(scores, row, area) for row in human])
    if human.all() or not human.any():
        return np.asarray(np.nan)
    keys = np.where(np.isnan(scores), -np.inf, scores)
    order = np.argsort(-keys, kind="stable")
    changes = np.flatnonzero(keys[order][1:] != keys[order][:-1])
    last = np.append(changes, len(keys) - 1)  # of each group of equal scores
    hits = np.cumsum(human[order])[last]
    return np.asarray(area(np.append(1.0, hits / (last + 1)), np.append(0.0, hits / hits[-1])))


# -------------------------------------------------------------------------------------------------- several people


def merged(people: Mask, rule: Rule) -> Mask:
    """Make one mask (words,) of (annotators, words): words that more than half marked, or that anyone marked.

    Only the rules `majority` and `union` give one mask.
    """
    _check_people(people, rule)
    if rule not in ("majority", "union"):
        raise ValueError(f"expected the rule majority or union, got {rule!r}")
    votes = people.sum(axis=0)
    return 2 * votes > len(people) if rule == "majority" else votes > 0


def against(metric: Metric, given: NDArray[Any], people: Mask, rule: Rule) -> float:
    """Score a mask or scores (words,) against several people by any metric of one record.

    `majority` and `union` compare with one merged mask; `each` is the mean over people, `best` the maximum. The module
    gives the edge rules; people for whom the metric is undefined otherwise are left out.
    """
    if rule in ("majority", "union"):
        return float(metric(given, merged(people, rule)))
    _check_people(people, rule)
    if not people.any():
        return math.nan
    values = np.where(people.any(axis=1), metric(given, people), 0.0)
    if np.isnan(values).all():
        return math.nan
    return float(np.nanmean(values) if rule == "each" else np.nanmax(values))


def human_ceiling(metric: Metric, people: Mask, rule: Rule) -> float:
    """Score every person against the others by `rule`, and give the mean over people: what a person would reach.

    For `each` with F1 this is the mean pairwise F1. The others are one fewer than a model is scored against, which
    lowers `best`, and makes `majority` of two others their intersection. NaN with fewer than two people.
    """
    _check_people(people, rule)
    scores = [against(metric, people[i], np.delete(people, i, axis=0), rule) for i in range(len(people))]
    return math.nan if np.isnan(scores).all() else float(np.nanmean(scores))


def pairwise_f1(people: Mask) -> Values:
    """Give the F1 of every pair of people (pairs,); a pair with an empty mask has 0, and none where nobody marked."""
    first, second = np.triu_indices(len(people) if people.any() else 0, k=1)
    return _f1(*_counts(people[first], people[second]))


def mean_pairwise_f1(records: Iterable[Mask], *, level: float = 0.95, seed: int = 0) -> Estimate:
    """Estimate how well people agree: the mean F1 over all pairs of people on the same record, records resampled.

    Every pair weighs the same, so a record with more people weighs more; `n` counts the records with a pair. On e-SNLI
    test it is 0.620, on the LiTEx selection of e-SNLI 0.538.
    """
    pairs = [values for people in records if len(values := pairwise_f1(people))]
    sums, counts = [values.sum() for values in pairs], [len(values) for values in pairs]
    return bootstrap_statistic(lambda s, c: s.sum(axis=-1) / c.sum(axis=-1), sums, counts, level=level, seed=seed)


def human_size(people: Mask) -> int | None:
    """Give how many words people marked: the mean over those who marked any, rounded half up; None for nobody."""
    sizes = people.sum(axis=1)
    return int(sizes[sizes > 0].mean() + 0.5) if sizes.any() else None


def _check_people(people: Mask, rule: str) -> None:
    if people.ndim != 2:
        raise ValueError(f"expected masks (annotators, words), got shape {people.shape}")
    if rule not in ("majority", "each", "union", "best"):
        raise ValueError(f"unknown rule {rule!r}; expected majority, each, union or best")


# ---------------------------------------------------------------------------------------------------- references


def chance(
    metric: Metric, size: int, people: Mask, rule: Rule, *, eligible: Mask | None = None, seed: int = 0
) -> float:
    """Give the exact expectation of a metric for a random choice of `size` words.

    `metric` is `precision`, `recall`, `f1` or `iou`; `eligible` (words,) may be chosen, by default all. The number of
    hits is hypergeometric: F1 is linear in it, so E[F1] = 2|r||h| / (n(|r| + |h|)); for IoU and the rule `best` all
    joint counts are enumerated, and beyond 20,000 (long texts, many people) 2,000 choices are drawn by `seed`.
    """
    if metric not in _FROM_COUNTS:
        raise ValueError(f"no exact chance for {metric!r}; expected precision, recall, f1 or iou")
    _check_people(people, rule)
    if rule in ("majority", "union"):
        people = merged(people, rule)[None]
    free = np.ones(people.shape[1], dtype=np.bool_) if eligible is None else eligible
    if not 0 <= size <= free.sum():
        raise ValueError(f"can't choose {size} of {free.sum()} words")
    if not people.any():
        return math.nan
    groups = [people] if rule == "best" else [row[None] for row in people]
    return float(np.mean([_expected_best(metric, size, group, free, seed) for group in groups]))


def chance_of_ranking(metric: Metric, people: Mask, rule: Rule, *, seed: int = 0) -> float:
    """Give the expectation of `auprc` or `average_precision` for words in random order, without ties.

    Given a marked word at rank k, the expected number of marked words above it is (k - 1) p, p = (h - 1) / (n - 1); the
    expectation sums over ranks (Bestgen 2015 for average precision). For `best`, 500 orders are drawn by `seed`.
    """
    if metric not in (auprc, average_precision):
        raise ValueError(f"no chance for {metric!r}; expected auprc or average_precision")
    if rule == "best":
        orders = np.random.default_rng(seed).permuted(np.tile(np.arange(people.shape[1]), (500, 1)), axis=1)
        return float(np.mean([against(metric, order, people, rule) for order in orders]))
    return against(lambda _, masks: _expected_ranking(metric, masks), np.empty(0), people, rule)


def select_all_f1(people: Mask, rule: Rule) -> float:
    """Give the F1 of marking every word, 2|h| / (n + |h|) for one person."""
    return against(f1, np.ones(people.shape[1], dtype=np.bool_), people, rule)


def normalised_f1(score: Values, chance_score: Values, ceiling: Values) -> Values:
    """Give (F1 - chance) / (ceiling - chance) of means over the last axis of columns (..., n).

    0 is a random choice of the same size, 1 a person. NaN where the ceiling is not above chance. It is a statistic for
    `bootstrap_statistic`; the columns must be of the same records.
    """
    value, low, high = (np.mean(column, axis=-1) for column in (score, chance_score, ceiling))
    room = high - low
    return np.where(room > 0, (value - low) / np.where(room > 0, room, 1.0), np.nan)


def _expected_best(metric: Metric, size: int, people: Mask, free: Mask, seed: int) -> float:
    """Give the expectation of the maximum over people of a metric of a random choice."""
    marked = people.sum(axis=1)
    if len(people) == 1 and metric is not iou:
        hits, weights = np.array([[size * (people[0] & free).sum() / max(free.sum(), 1)]]), np.ones(1)
    else:
        hits, weights = _hit_outcomes(size, people[:, free], seed)
    return float(_FROM_COUNTS[metric](hits, np.asarray(size), marked[:, None]).max(axis=0) @ weights)


def _hit_outcomes(size: int, people: Mask, seed: int) -> tuple[NDArray[Any], Values]:
    """Give the hits (annotators, outcomes) of a random choice and their probabilities (outcomes,).

    Words marked by the same people are alike, so an outcome is how many of each kind are chosen.
    """
    found = Counter(bytes(word) for word in people[:, people.any(axis=0)].T)
    kinds = np.array([list(kind) for kind in found], dtype=np.int64).reshape(-1, len(people)).T
    counts, rest = np.array([*found.values()], dtype=np.int64), people.shape[1] - found.total()
    outcomes = math.prod(count + 1 for count in found.values())
    if outcomes > _OUTCOMES:
        rng = np.random.default_rng(seed)
        chosen = rng.multivariate_hypergeometric([*counts, rest], size, _DRAWS)[:, :-1].T
        return kinds @ chosen, np.full(_DRAWS, 1 / _DRAWS)
    chosen = np.indices([count + 1 for count in found.values()]).reshape(len(counts), outcomes)
    left = size - chosen.sum(axis=0)
    chosen, left = chosen[:, (left >= 0) & (left <= rest)], left[(left >= 0) & (left <= rest)]
    ways = _log_choose(counts[:, None], chosen).sum(axis=0) + _log_choose(rest, left)
    return kinds @ chosen, np.exp(ways - _log_choose(people.shape[1], size))


def _log_choose(n: Any, k: Any) -> Any:
    return special.gammaln(n + 1) - special.gammaln(np.asarray(k) + 1) - special.gammaln(n - k + 1)


def _expected_ranking(metric: Metric, human: Mask) -> Values:
    """Give the expectation over random orders for each mask (..., words); NaN where a mask has one class."""
    n, marked = human.shape[-1], human.sum(axis=-1)
    k = np.arange(1, n + 1)
    above = (k - 1) * ((marked - 1) / max(n - 1, 1))[..., None]  # marked words above a marked word at rank k
    here = (above + 1) / k
    before = np.where(k > 1, above / np.maximum(k - 1, 1), 1.0)  # the curve starts at precision 1
    steps = here if metric is average_precision else (here + before) / 2
    return np.where((marked > 0) & (marked < n), steps.mean(axis=-1), np.nan)
