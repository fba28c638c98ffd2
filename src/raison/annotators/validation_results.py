"""What the ratings of a kit say: each source beside ceiling and floor, and how far raters agree."""

import math
from collections import Counter
from collections.abc import Sequence
from itertools import combinations

import krippendorff
import msgspec
import numpy as np
from scipy.special import ndtri

from raison.annotators.material import HUMAN, OTHER
from raison.annotators.rates import Group, How, paired
from raison.annotators.validation import QUESTIONS, UNSURE, Item, Key
from raison.annotators.validation_sheets import Rating
from raison.evaluation.results import Cell, Comparison
from raison.evaluation.statistics import Estimate, Values, bootstrap_statistic, wilson

MATCHED = ("style", "reasoning")  # questions whose right answer is the target's letter
ALPHA_DRAWS = 1_000


class Agreement(msgspec.Struct, frozen=True):
    """How far raters agree on one question, over items that several of them decided."""

    question: str
    raters: tuple[str, ...]  # two, or all
    agreed: Estimate  # of two: share of items with the same answer
    kappa: Estimate  # of two: Cohen's
    alpha: Estimate  # Krippendorff's, nominal


class Validation(msgspec.Struct, frozen=True):
    """The whole result of a kit."""

    cells: list[Cell]
    comparisons: list[Comparison]
    agreement: list[Agreement]
    states: dict[str, dict[str, int]]  # "RATER, QUESTION" -> decided, unsure, no answer, not returned


# ------------------------------------------------------------------------------------------------------- analysis


def summarise_ratings(
    ratings: Sequence[Rating], key: Key, *, level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Validation:
    """Sum up what raters answered.

    Cells (`source` is whose responses, `slice` is "all", "rater=NAME" or "target=PERSON"): `human_valid`, the share
    judged valid, and `human_style` and `human_reasoning`, the share taken for the target's, with chance, `ceiling`
    (people's own) and `floor` (the rival's) in their frame. Wilson intervals; the instance is the item, and where
    several raters decided one its value is the mean of theirs, so that the interval errs on the wide side. Unsure
    and missing answers are in `states`, and in no share.

    Comparisons of each pair of sources but the floor are on the same slots, with Holm's correction for each question.

    Args:
        ratings: from `read_ratings`.
        key: of the kit.
        level: of intervals.
        resamples: of intervals and tests.
        seed: of the draws.
    """
    how = How(level, resamples, seed)
    items = {item.id: item for item in key.items}
    cells: list[Cell] = []
    comparisons: list[Comparison] = []
    agreement: list[Agreement] = []
    for name in QUESTIONS:
        cells += _cells(name, "all", ratings, items, level)
        for rater in key.raters:
            cells += _cells(name, f"rater={rater}", [one for one in ratings if one.rater == rater], items, level)
        for target in sorted({item.target for item in key.items}):
            own = [one for one in ratings if items[one.item].target == target]
            cells += _cells(name, f"target={target}", own, items, level)
        comparisons += paired(f"human_{name}", _by_slot(name, ratings, items), how)
        agreement += _agreement(name, ratings, key, how)
    return Validation(cells, comparisons, agreement, _states(ratings, key))


def _value(name: str, rating: Rating, item: Item) -> float | None:
    """Say whether an answer is yes, or the target's letter; None where nothing was decided."""
    said = rating.answers[name]
    if said in (None, UNSURE):
        return None
    return float(said == (item.letter if name in MATCHED else "yes"))


def _means(name: str, ratings: Sequence[Rating], items: dict[str, Item]) -> dict[str, float]:
    """Give the mean of each item over the raters who decided it."""
    found: dict[str, list[float]] = {}
    for one in ratings:
        value = _value(name, one, items[one.item])
        if value is not None:
            found.setdefault(one.item, []).append(value)
    return {item: sum(values) / len(values) for item, values in found.items()}


def _cells(name: str, slice: str, ratings: Sequence[Rating], items: dict[str, Item], level: float) -> list[Cell]:
    means = _means(name, ratings, items)
    sources = list(dict.fromkeys(item.source for item in items.values()))
    found = {
        source: wilson_mean([value for item, value in means.items() if items[item].source == source], level)
        for source in sources
    }
    frame = {"ceiling": found[HUMAN].value, "floor": found[OTHER].value}
    chance = {"chance": 0.5} if name in MATCHED else {}
    return [
        Cell(f"human_{name}", source, slice, one.value, one.low, one.high, one.n, {**chance, **frame})
        for source, one in found.items()
    ]


def wilson_mean(values: Sequence[float], level: float = 0.95) -> Estimate:
    """Estimate a mean of shares with Wilson's formula (1927); of zeros and ones it is `statistics.wilson`.

    Shares vary less than zeros and ones of the same mean, so the interval holds at least its level.
    """
    n = len(values)
    if n == 0:
        return Estimate(value=None, low=None, high=None, n=0, level=level)
    mean, z = sum(values) / n, float(ndtri((1 + level) / 2))
    middle, half = mean + z * z / (2 * n), z * math.sqrt(mean * (1 - mean) / n + z * z / (4 * n * n))
    low, high = ((middle + sign * half) / (1 + z * z / n) for sign in (-1, 1))
    return Estimate(value=mean, low=max(0.0, low), high=min(1.0, high), n=n, level=level)


def _by_slot(name: str, ratings: Sequence[Rating], items: dict[str, Item]) -> dict[str, dict[Group, float]]:
    found: dict[str, dict[Group, float]] = {
        item.source: {} for item in sorted(items.values(), key=lambda one: one.slot) if item.source != OTHER
    }
    for item, value in _means(name, ratings, items).items():
        if items[item].source != OTHER:
            found[items[item].source][items[item].target, items[item].slot] = value
    return found


def _states(ratings: Sequence[Rating], key: Key) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for rater, ids in key.raters.items():
        own = [one for one in ratings if one.rater == rater]
        for name in QUESTIONS:
            said = Counter(one.answers[name] for one in own)
            unsure, empty = said.pop(UNSURE, 0), said.pop(None, 0)
            counts = {"decided": said.total(), "unsure": unsure, "no answer": empty}
            found[f"{rater}, {name}"] = {**counts, "not returned": len(ids) - len(own)}
    return found


# ------------------------------------------------------------------------------------------------------ agreement


def _agreement(name: str, ratings: Sequence[Rating], key: Key, how: How) -> list[Agreement]:
    """Compare each pair of raters, and where there are more than two all of them."""
    raters, answers = tuple(key.raters), QUESTIONS[name][1]
    places = {item.id: place for place, item in enumerate(key.items)}
    table = np.full((len(raters), len(places)), np.nan)
    for one in ratings:
        if (said := one.answers[name]) not in (None, UNSURE):
            table[raters.index(one.rater), places[one.item]] = answers.index(said)
    found: list[Agreement] = []
    for a, b in combinations(range(len(raters)), 2):
        both = ~np.isnan(table[[a, b]]).any(axis=0)
        same = table[a, both] == table[b, both]
        agreed = wilson(int(same.sum()), len(same), level=how.level)
        kappa = bootstrap_statistic(cohen_kappa, table[a], table[b], level=how.level, seed=how.seed)
        found.append(Agreement(name, (raters[a], raters[b]), agreed, kappa, _alpha(table[[a, b]], how)))
    if len(raters) > 2:
        none = Estimate(value=None, low=None, high=None, n=0, level=how.level)
        found.append(Agreement(name, raters, none, none, _alpha(table, how)))
    return found


def cohen_kappa(first: Values, second: Values) -> Values:
    """Give Cohen's kappa (1960) of two raters' answers, 0 or 1, along the last axis; NaN where both always say one."""
    agreed = (first == second).mean(axis=-1)
    one, two = first.mean(axis=-1), second.mean(axis=-1)
    by_chance = one * two + (1 - one) * (1 - two)
    return np.divide(agreed - by_chance, 1 - by_chance, out=np.full_like(agreed, np.nan), where=by_chance < 1)


def _alpha(table: Values, how: How) -> Estimate:
    """Estimate Krippendorff's alpha with a percentile interval over items that two or more decided."""
    kept = table[:, (~np.isnan(table)).sum(axis=0) > 1]
    value, n = _one_alpha(kept), kept.shape[1]
    if math.isnan(value):
        return Estimate(value=None, low=None, high=None, n=n, level=how.level)
    rng = np.random.default_rng(how.seed)
    times = min(how.resamples, ALPHA_DRAWS)
    draws = np.array([_one_alpha(kept[:, rng.integers(0, n, n)]) for _ in range(times)])
    draws = draws[~np.isnan(draws)]
    if len(draws) < times * (1 + how.level) / 2:
        return Estimate(value=value, low=None, high=None, n=n, level=how.level)
    low, high = np.quantile(draws, [(1 - how.level) / 2, (1 + how.level) / 2])
    return Estimate(value=value, low=float(low), high=float(high), n=n, level=how.level)


def _one_alpha(table: Values) -> float:
    """Give alpha; NaN where nobody can be compared or all answers are one."""
    if len(np.unique(table[~np.isnan(table)])) < 2:
        return math.nan
    return float(krippendorff.alpha(reliability_data=table, level_of_measurement="nominal"))
