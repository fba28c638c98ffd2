"""Does a rationale drive the model's own decision? Masks to take away, and what the answers to them say.

A record's words are one flat axis over its fields. Scores are (words,), NaN = the model never saw the word; such words
are never masked. Undefined is NaN in arrays and None in single numbers. Every function raises ValueError, with the
value, for a bad argument.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from raison.rationales import Budget, top_k
from raison.words import Mask

Values = NDArray[np.float64]
Labels = Sequence[str | None] | NDArray[Any]  # None = no valid answer, or no gold label
Subset = Literal["all", "correct", "incorrect"]

ERASER_RATIOS = (0.01, 0.05, 0.1, 0.2, 0.5)
MIN_ROOM = 0.05  # between random and full masking, below which a flip rate is not normalised


# ----------------------------------------------------------------------------------------------------- masks


def random_masks(eligible: Mask, size: int, draws: int, *, seed: int, record_id: str) -> Mask:
    """Draw `draws` masks (draws, words) of `size` words each among the eligible ones (words,).

    A mask depends on seed, record id, size and the words alone, not on the records around it. Where fewer words are
    eligible, all of them are taken.
    """
    if size < 0 or draws < 1:
        raise ValueError(f"expected size >= 0 and draws >= 1, got {size} and {draws}")
    key = hashlib.blake2b(record_id.encode(), digest_size=16).digest()
    rng = np.random.default_rng([seed, size, int.from_bytes(key, "little")])
    places = np.flatnonzero(eligible)
    chosen = np.argsort(rng.random((draws, len(places))), axis=1)[:, :size]
    masks = np.zeros((draws, len(eligible)), dtype=np.bool_)
    np.put_along_axis(masks, places[chosen], values=True, axis=1)
    return masks


def least_mask(scores: NDArray[Any], size: int) -> Mask:
    """Mark the `size` words with the lowest scores (words,), ties by position; all scored words if they are fewer."""
    if size < 0:
        raise ValueError(f"size must be 0 or more, got {size}")
    return top_k(-scores, size)


def ratio_masks(scores: NDArray[Any], ratios: Sequence[float] = ERASER_RATIOS) -> Mask:
    """Mark the highest words at each ratio (ratios, words), ties by position; a larger ratio contains the smaller ones.

    A ratio takes as many words as `Budget("ratio")` does: the share of the scored words, rounded up from a half, and at
    least one.
    """
    if not ratios or not all(0 < ratio <= 1 for ratio in ratios):
        raise ValueError(f"ratios must be above 0 and at most 1, got {tuple(ratios)}")
    return np.array([top_k(scores, Budget("ratio", ratio).size(scores) or 0) for ratio in ratios])


# ----------------------------------------------------------------------------------------------------- flips


def flips(before: Labels, after: Labels | Sequence[Labels], *, invalid_is_flip: bool = False) -> Values:
    """Say where the predicted label changed: 1.0 or 0.0, in the shape of `after`, (n,) or (n, draws).

    An answer of None before masking gives NaN. One after masking gives NaN too, to be reported apart, unless
    `invalid_is_flip`.
    """
    old, new = np.asarray(before, dtype=object), np.asarray(after, dtype=object)
    if old.ndim != 1 or new.ndim not in (1, 2) or len(old) != len(new):
        raise ValueError(f"expected labels (n,) and (n,) or (n, draws), got shapes {old.shape} and {new.shape}")
    old = old.reshape((-1,) + (1,) * (new.ndim - 1))
    changed = (old != new).astype(np.float64)
    missing = _missing(old) | _missing(new) if not invalid_is_flip else _missing(old)
    return np.where(missing, np.nan, changed)


def subset_rows(predicted: Labels, gold: Labels, subset: Subset) -> Mask:
    """Say which instances (n,) belong to a subset by the prediction on the whole input; without gold only to `all`."""
    if subset not in ("all", "correct", "incorrect"):
        raise ValueError(f"unknown subset {subset!r}; expected all, correct or incorrect")
    answer, truth = np.asarray(predicted, dtype=object), np.asarray(gold, dtype=object)
    if answer.shape != truth.shape or answer.ndim != 1:
        raise ValueError(f"expected labels (n,) twice, got shapes {answer.shape} and {truth.shape}")
    if subset == "all":
        return np.ones(len(answer), dtype=np.bool_)
    same = (answer == truth) if subset == "correct" else (answer != truth)
    return same.astype(np.bool_) & ~_missing(truth)


def _missing(labels: NDArray[Any]) -> Mask:
    return np.asarray(labels == np.array(None, dtype=object), dtype=np.bool_)


def flip_rate(flipped: ArrayLike, rows: Mask | None = None) -> float | None:
    """Give FR = (1/N) sum 1[f(x) != f(x without r)] of `flips` (n,) or (n, draws), over `rows` (n,).

    NaN is left out; None where nothing is left.
    """
    values = np.asarray(flipped, dtype=np.float64)
    values = values if rows is None else values[rows]
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else None


def normalised_flip_rate(
    rate: float | None, random: float | None, full: float | None, *, delta: float = MIN_ROOM
) -> tuple[float | None, str | None]:
    """Give nFR = (FR - FR_random) / (FR_full - FR_random), or None and the reason why it is undefined.

    0 is random words of the same number, 1 is masking everything. Undefined where a rate is missing, or where the room
    FR_full - FR_random is below `delta`.
    """
    if not delta > 0:
        raise ValueError(f"delta must be above 0, got {delta}")
    if rate is None or random is None or full is None:
        return None, "a flip rate is missing"
    room = full - random
    if room < delta - 1e-12:
        return None, (
            f"no room: masking everything flips {full:.1%} of the labels and random words {random:.1%}, "
            f"which is less than {delta:.0%} apart"
        )
    return (rate - random) / room, None


def normalised_flips(flipped: Values, random: Values, full: Values) -> Values:
    """Give nFR of the means over the last axis of columns (..., n), as a statistic for `bootstrap_statistic`.

    `random` is each instance's mean over draws. NaN where masking everything flips no more than random words do;
    whether there is room enough is decided once, by `normalised_flip_rate`.
    """
    rate, low, high = (np.mean(column, axis=-1) for column in (flipped, random, full))
    room = high - low
    return np.where(room > 0, (rate - low) / np.where(room > 0, room, 1.0), np.nan)


# --------------------------------------------------------------------------------------------- probabilities


def probability_of(probabilities: ArrayLike, labels: NDArray[np.int64]) -> Values:
    """Pick each instance's label from (n, ..., labels): (n, ...). The label is the one predicted on the whole input."""
    table = np.asarray(probabilities, dtype=np.float64)
    if table.ndim < 2 or labels.shape != table.shape[:1]:
        raise ValueError(f"expected (n, ..., labels) and (n,), got shapes {table.shape} and {labels.shape}")
    if len(labels) and not (labels.min() >= 0 and labels.max() < table.shape[-1]):
        raise ValueError(f"label {labels.max()} or {labels.min()} is not among {table.shape[-1]} labels")
    return np.take_along_axis(table, labels.reshape((-1,) + (1,) * (table.ndim - 1)), axis=-1)[..., 0]


def comprehensiveness(whole: ArrayLike, removed: ArrayLike) -> Values:
    """Give p(y|x) - p(y|x without r) (DeYoung et al. 2020, eq. 1): higher is more faithful, in [-1, 1].

    `whole` (n,) and `removed` (n,) or (n, maskings) are probabilities of the label y predicted on the whole input.
    """
    return _drop(whole, removed)


def sufficiency(whole: ArrayLike, kept: ArrayLike) -> Values:
    """Give p(y|x) - p(y|only r) (DeYoung et al. 2020, eq. 2): lower is more faithful, in [-1, 1].

    `whole` (n,) and `kept` (n,) or (n, maskings) are probabilities of the label y predicted on the whole input.
    """
    return _drop(whole, kept)


def aopc(drops: ArrayLike) -> Values:
    """Average comprehensiveness or sufficiency (n, ratios) over the ratios: (n,).

    This is ERASER's code (rationale_benchmark/metrics.py, `_instances_aopc`): a mean over the given ratios, without
    the ratio 0 that the paper's formula (section 4.2) counts as well.
    """
    table = np.asarray(drops, dtype=np.float64)
    if table.ndim != 2 or table.shape[1] == 0:
        raise ValueError(f"expected drops (n, ratios), got shape {table.shape}")
    return table.mean(axis=1)


def _drop(whole: ArrayLike, part: ArrayLike) -> Values:
    before, after = np.asarray(whole, dtype=np.float64), np.asarray(part, dtype=np.float64)
    if before.ndim != 1 or after.ndim not in (1, 2) or len(before) != len(after):
        raise ValueError(f"expected (n,) and (n,) or (n, maskings), got shapes {before.shape} and {after.shape}")
    return before.reshape((-1,) + (1,) * (after.ndim - 1)) - after
