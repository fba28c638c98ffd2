"""ROAR: remove the words that a method calls important, train anew, and see how much of the accuracy is gone.

Masked inputs are unlike anything that a model was trained on; one that is trained on inputs masked in the same way is
at home with them, so what it still gets wrong was in the words (Hooker et al. 2019, on text Madsen et al. 2022). Words
that say the same as the masked ones hide the loss, and so does a method that masks in other places for one label than
for another, since the places then tell the label (Rong et al. 2022): a small RACU does not prove scores wrong.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from raison.evaluation.faithfulness import random_masks, ratio_masks
from raison.evaluation.statistics import Estimate, bootstrap_statistic
from raison.words import Mask, Tokens

Values = NDArray[np.float64]
RATIOS = (0.1, 0.3, 0.5, 0.7, 0.9)


class Split(NamedTuple):
    """Records as a model reads them, with their gold labels."""

    tokens: Sequence[Tokens]
    labels: Sequence[str]


class Scores(NamedTuple):
    """One method's scores (words,) for every record of both splits, NaN = not scored."""

    train: Sequence[NDArray[np.floating]]
    test: Sequence[NDArray[np.floating]]


Predict = Callable[[Sequence[Tokens], Sequence[Mask]], Sequence[str]]  # records with one mask each -> labels
Fit = Callable[[Split, Sequence[Mask], int], Predict]  # records, one mask for each, seed -> what was trained on them


class Roar(msgspec.Struct, frozen=True):
    """Accuracies of the models trained anew, by the share of words masked in training and test."""

    ratios: list[float]  # from 0 (nothing masked) to 1 (every word masked)
    method: list[float]  # test accuracy where the method's highest words are masked
    random: list[float]  # where as many random words are
    racu: Estimate  # 1 = as good as masking everything at once, 0 = as random words; below 0 possible; None = undefined


def roar(
    train: Split,
    test: Split,
    scores: Mapping[str, Scores],
    fit: Fit,
    *,
    ratios: Sequence[float] = RATIOS,
    seeds: Sequence[int] = (0,),
    level: float = 0.95,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Roar]:
    """Judge methods by training models anew on records without the words that they score highest.

    Of every record of both splits the highest share of the seen words is masked, by the method or at random, and a
    model trained on the one and tested on the other.

    Args:
        train: records to train on.
        test: records to test on.
        scores: method -> its scores of both.
        fit: trains a new model on records with one mask for each, and gives what predicts labels of masked records;
            what stands in the place of masked words is its own matter (see `raison.training.retrain.fitter`).
        ratios: shares of words, between 0 and 1; both ends are added.
        seeds: of training and of the random words; accuracies are means over them.
        level: of the interval of RACU, from a bootstrap over the test records (for the models as trained).
        say: is told the number of trainings before the first.

    Returns:
        method -> curves and RACU.
    """
    shares = sorted(set(ratios))
    if not shares or not all(0 < share < 1 for share in shares) or not seeds:
        raise ValueError(f"expected ratios between 0 and 1 and a seed, got {tuple(ratios)} and {tuple(seeds)}")
    runs = trainings(len(shares), len(scores), len(seeds))
    say(f"roar: {runs} trainings on {len(train.labels):,} records")

    def correct(masks: Callable[[Split, bool, int], Sequence[Mask]]) -> Values:
        """Train and test for every seed: (test records,) share of right answers."""
        right: list[Values] = []
        for seed in seeds:
            predict = fit(train, masks(train, True, seed), seed)
            answers = predict(test.tokens, masks(test, False, seed))
            right.append(np.array([a == b for a, b in zip(answers, test.labels, strict=True)], dtype=np.float64))
        return np.mean(right, axis=0)

    none, full = correct(_nothing), correct(_everything)
    random = [correct(_at_random(share)) for share in shares]
    found: dict[str, Roar] = {}
    for name, own in scores.items():
        method = [correct(_highest(own, share)) for share in shares]
        curve, chance = np.array([none, *method, full]), np.array([none, *random, full])
        places = [0.0, *shares, 1.0]
        found[name] = Roar(
            places,
            curve.mean(axis=1).tolist(),
            chance.mean(axis=1).tolist(),
            bootstrap_statistic(_racu_of(places), *curve, *chance, level=level, resamples=2_000),
        )
    return found


def trainings(ratios: int, methods: int, seeds: int = 1) -> int:
    """Give how many models `roar` trains: that many, for whole and for empty records once."""
    return seeds * (2 + ratios * (1 + methods))


def racu(ratios: ArrayLike, method: ArrayLike, random: ArrayLike) -> Values:
    """Give the relative area between the curves of random words and of the method (Madsen et al. 2022, eq. 6).

    The area between the two curves, divided by that between the random curve and the accuracy with every word masked
    (their last value), both by the trapezoidal rule.

    Args:
        ratios: (points,) shares of words, rising to 1.
        method: (points, ...) accuracies where the method's words are masked.
        random: (points, ...) accuracies where random words are.

    Returns:
        (...); NaN where random words cost no more than masking everything does: there is no room.
    """
    x, p, b = (np.asarray(values, dtype=np.float64) for values in (ratios, method, random))
    if len(x) < 2 or p.shape != b.shape or len(p) != len(x) or (np.diff(x) <= 0).any():
        raise ValueError(
            f"expected rising ratios and curves of their length, got shapes {x.shape}, {p.shape}, {b.shape}"
        )
    area, room = _trapezoids(x, b - p), _trapezoids(x, b - b[-1:])
    return np.divide(area, room, out=np.full(np.shape(area), np.nan), where=room > 1e-12)


def _trapezoids(x: Values, y: Values) -> Values:
    """Give the area under y (points, ...) by the trapezoidal rule."""
    return np.tensordot(np.diff(x), (y[1:] + y[:-1]) / 2, axes=1)


def _racu_of(ratios: Sequence[float]) -> Callable[..., Values]:
    """Give RACU as a statistic of the columns of right answers: first the method's, then those of random words."""

    def statistic(*columns: Values) -> Values:
        means = np.array([column.mean(axis=-1) for column in columns])
        return racu(ratios, means[: len(ratios)], means[len(ratios) :])

    return statistic


def _nothing(split: Split, training: bool, seed: int) -> list[Mask]:
    del training, seed
    return [np.zeros_like(tokens.seen) for tokens in split.tokens]


def _everything(split: Split, training: bool, seed: int) -> list[Mask]:
    del training, seed
    return [tokens.seen for tokens in split.tokens]


def _at_random(share: float) -> Callable[[Split, bool, int], list[Mask]]:
    def masks(split: Split, training: bool, seed: int) -> list[Mask]:
        del training
        return [
            random_masks(row.seen, _size(row, share), 1, seed=seed, record_id=row.grid.record_id)[0]
            for row in split.tokens
        ]

    return masks


def _highest(scores: Scores, share: float) -> Callable[[Split, bool, int], list[Mask]]:
    def masks(split: Split, training: bool, seed: int) -> list[Mask]:
        del seed
        own = scores.train if training else scores.test
        pairs = zip(split.tokens, own, strict=True)
        return [ratio_masks(np.where(row.seen, values, np.nan), [share])[0] for row, values in pairs]

    return masks


def _size(tokens: Tokens, share: float) -> int:
    """Give as many words as `ratio_masks` takes."""
    return int(ratio_masks(np.where(tokens.seen, 0.0, np.nan), [share])[0].sum())
