"""Who wrote it? A classifier of people by their texts, and how well groups of k texts of one person tell who it is.

The linear score of a mean vector is the mean of the linear scores, so a group's answer needs no vector of its own: it
is the mean of its texts' log-probabilities, scaled to sum to 1. (Adding a constant to all people's scores of a text
changes nothing, so log-probabilities do as well as scores.)

How the paper attributes is not known; this is our reading: multinomial logistic regression, groups drawn without
replacement among the texts of a person that the classifier has not seen, chance 1 over the number of people.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from raison.annotators.vectors import Encode, fit_vectors
from raison.evaluation.statistics import Estimate

Values = NDArray[np.float64]
Ints = NDArray[np.int64]

GROUPS = 200  # of each person at each k
LEVEL = 0.95
STRENGTH = 10.0  # C of the attributor, the inverse of its penalty


class Attributor(NamedTuple):
    """A fitted classifier of people by their texts."""

    people: tuple[str, ...]  # sorted
    encode: Encode
    weights: Values  # (people, d)
    intercepts: Values  # (people,)

    def vectors(self, texts: Sequence[str]) -> Values:
        """Give the vectors of texts, (n, d)."""
        return np.asarray(self.encode(texts), dtype=np.float64)

    def log_probabilities(self, vectors: ArrayLike) -> Values:
        """Give the natural logarithm of each person's probability, (n, people)."""
        return log_softmax(np.asarray(vectors, dtype=np.float64) @ self.weights.T + self.intercepts)


class Identification(msgspec.Struct, frozen=True):
    """How well groups of k of one person's texts tell who wrote them."""

    k: int
    accuracy: Estimate  # mean over people of the share of their groups given to them; n = texts behind it
    log_loss: float | None  # mean over groups, in nats; None = undefined
    confusion: tuple[tuple[float, ...], ...]  # [writer][answer]: shares of a writer's groups; empty = undefined
    chance: float
    undefined: str = ""  # why there is no value


def fit_attributor(texts: Sequence[str], people: Sequence[str], *, vectors: str | Encode = "words") -> Attributor:
    """Fit a multinomial logistic regression (L2, C = 10) of people on the vectors of their texts.

    TF-IDF is not reduced here: it takes that and C = 10 to meet the reference figures of control baselines (attribution
    of people's own texts, fitted on 100 items of VariErr: .65 at k = 1, reference .66; on 300: .71, reference .72).

    Args:
        texts: explanations.
        people: who wrote each.
        vectors: `words`, `chars`, or a function of texts; see `fit_vectors`.

    Raises:
        ValueError: there are not as many people as texts, or fewer than two distinct people.
    """
    if len(texts) != len(people):
        raise ValueError(f"expected a person for each text, got {len(texts)} texts and {len(people)} people")
    encode = fit_vectors(texts, vectors)
    names = tuple(sorted(set(people)))
    codes = np.array([names.index(person) for person in people], dtype=np.int64)
    weights, intercepts = fit_scores(np.asarray(encode(texts), dtype=np.float64), codes, len(names), STRENGTH)
    return Attributor(names, encode, weights, intercepts)


def fit_scores(vectors: Values, codes: Ints, people: int, strength: float = 1.0) -> tuple[Values, Values]:
    """Fit the logistic regression on vectors (n, d) of people 0, 1, ...; gives (people, d) weights and intercepts.

    A person without a vector gets the lowest score there is to get: no weights, and an intercept of -50.
    """
    from sklearn.linear_model import LogisticRegression

    there = np.unique(codes)
    if len(there) < 2:
        raise ValueError(f"expected texts of at least two people, got {len(there)}")
    fitted: Any = LogisticRegression(C=strength, max_iter=1000).fit(vectors, codes)
    weights, intercepts = np.zeros((people, vectors.shape[1])), np.full(people, -50.0)
    if len(there) == 2:  # one row for both: half the difference each is the same model
        weights[there] = np.stack([-fitted.coef_[0], fitted.coef_[0]]) / 2
        intercepts[there] = np.array([-fitted.intercept_[0], fitted.intercept_[0]]) / 2
    else:
        weights[there], intercepts[there] = fitted.coef_, fitted.intercept_
    return weights, intercepts


def identify(
    attributor: Attributor,
    vectors: ArrayLike,
    people: Sequence[str],
    k: int,
    *,
    groups: int = GROUPS,
    resamples: int = 500,
    seed: int = 0,
) -> Identification:
    """Attribute groups of k texts of one person by their mean vector.

    Args:
        attributor: fitted on other texts.
        vectors: of one text each, (n, d), of distinct items within a person.
        people: who wrote each; people that the attributor does not know are an error.
        k: texts in a group.
        groups: drawn of each person; for k = 1 each text is a group.
        resamples: of the bootstrap over texts.
        seed: of the draws.

    Returns:
        Its accuracy is undefined where any person has fewer than k texts.

    Raises:
        ValueError: k is below 1, or a person is unknown.
    """
    unknown = sorted(set(people) - set(attributor.people))
    if unknown:
        raise ValueError(f"unknown person {unknown[0]!r}; the attributor knows {', '.join(attributor.people)}")
    codes = np.array([attributor.people.index(person) for person in people], dtype=np.int64)
    scores = attributor.log_probabilities(vectors)
    return identify_scores(scores, codes, k, groups=groups, resamples=resamples, seed=seed)


def identify_scores(
    scores: Values,
    codes: Ints,
    k: int,
    *,
    items: Ints | None = None,
    groups: int = GROUPS,
    resamples: int = 500,
    seed: int = 0,
) -> Identification:
    """Attribute groups of k texts by the mean of their log-probabilities.

    The interval is that of a bootstrap over items: items are drawn with replacement, and groups among the texts drawn.
    A group with an item twice is less telling, so the draws are moved to have the value as their mean.

    Args:
        scores: of each text for each person, (n, people), up to a constant of each text.
        codes: who wrote it, 0 to people - 1, (n,). A person without a text is not judged.
        k: texts in a group.
        items: place of the item of each text, (n,), which is the unit of the bootstrap; None = each its own.
        groups: drawn of each person.
        resamples: of the bootstrap; 0 = no interval.
        seed: of the draws.
    """
    if k < 1:
        raise ValueError(f"k must be 1 or more, got {k}")
    chance = 1 / scores.shape[1]
    counts = np.bincount(codes, minlength=scores.shape[1])
    writers = np.flatnonzero(counts)
    fewest = int(counts[writers].min()) if len(writers) else 0
    if fewest < k:
        none = Estimate(value=None, low=None, high=None, n=len(codes), level=LEVEL)
        return Identification(k, none, None, (), chance, f"a person has {fewest} texts, fewer than {k}")
    rng = np.random.default_rng([seed, k])
    rows = [np.flatnonzero(codes == writer) for writer in writers]
    answers = [log_softmax(scores[drawn(own, k, groups, rng)].mean(axis=1)) for own in rows]
    hits = [np.mean(found.argmax(axis=1) == writer) for found, writer in zip(answers, writers, strict=True)]
    losses = [-np.mean(found[:, writer]) for found, writer in zip(answers, writers, strict=True)]
    value = float(np.mean(hits))
    shares = [
        tuple((np.bincount(found.argmax(axis=1), minlength=scores.shape[1]) / len(found)).tolist()) for found in answers
    ]
    low, high = _interval(value, scores, codes, k, np.arange(len(codes)) if items is None else items, resamples, rng)
    accuracy = Estimate(value=value, low=low, high=high, n=len(codes), level=LEVEL)
    return Identification(k, accuracy, float(np.mean(losses)), tuple(shares), chance)


def drawn(rows: Ints, k: int, groups: int, rng: np.random.Generator) -> Ints:
    """Draw groups of k of the rows, (groups, k), none twice in a group; for k = 1 each row once."""
    if k == 1:
        return rows[:, None]
    return rows[np.argpartition(rng.random((groups, len(rows))), k - 1, axis=1)[:, :k]]


def log_softmax(scores: Values) -> Values:
    """Scale scores (..., people) to log-probabilities."""
    moved = scores - scores.max(axis=-1, keepdims=True)
    return moved - np.log(np.exp(moved).sum(axis=-1, keepdims=True))


def _interval(  # noqa: PLR0917
    value: float, scores: Values, codes: Ints, k: int, items: Ints, resamples: int, rng: np.random.Generator
) -> tuple[float | None, float | None]:
    names, places = np.unique(items, return_inverse=True)
    people = scores.shape[1]
    writers = np.flatnonzero(np.bincount(codes, minlength=people))
    draws: list[float] = []
    for _ in range(resamples):
        times = np.bincount(rng.integers(0, len(names), len(names)), minlength=len(names))
        rows = np.repeat(np.arange(len(codes)), times[places])
        own = [rows[codes[rows] == writer] for writer in writers]
        if min(map(len, own)) >= k:
            groups = [found[:, None] if k == 1 else found[rng.integers(0, len(found), (GROUPS, k))] for found in own]
            hits = [
                np.mean(scores[group].mean(axis=1).argmax(axis=1) == who)
                for group, who in zip(groups, writers, strict=True)
            ]
            draws.append(float(np.mean(hits)))
    if len(draws) < max(2, resamples * (1 + LEVEL) / 2):
        return None, None
    moved = np.array(draws) - np.mean(draws) + value
    low, high = np.clip(np.quantile(moved, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]), 0, 1)
    return float(low), float(high)
