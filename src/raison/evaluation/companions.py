"""Companions of the flip rate and of comprehensiveness: normalised, in log-odds, by rank order, under a tuned model.

Probabilities are those of the label that the model predicts on the whole input. Words, scores and what is undefined are
as in `faithfulness`. `raison evaluate --also` computes all of these, see `extras`.
"""

import hashlib

import numpy as np
from numpy.typing import ArrayLike, NDArray

from raison.rationales import ranking
from raison.words import Mask

Values = NDArray[np.float64]

CLIP = 1e-6  # probabilities are kept this far from 0 and 1, so that log-odds are finite (at most 13.8)
LEAST_ROOM = 1e-6  # rounding of the model's own arithmetic: references no further apart than this are equal
ALPHA, BETA, FIDELITY_DRAWS = 0.5, 0.1, 50  # of F-Fidelity, as in its authors' code


# ----------------------------------------------------------------------------------- normalised, also for soft


def unit_scores(scores: NDArray[np.floating]) -> Values:
    """Scale the scores (words,) of one record to [0, 1], its lowest to 0 and its highest to 1 (min-max, by value).

    This is how scores become the probabilities of soft comprehensiveness and sufficiency. NaN stays NaN; everything is
    NaN where all scores are equal, since they then say nothing about the order or weight of words.
    """
    values = np.asarray(scores, dtype=np.float64)
    known = values[~np.isnan(values)]
    if not len(known) or np.ptp(known) == 0:
        return np.full(values.shape, np.nan)
    return (values - known.min()) / np.ptp(known)


def normalised_sufficiency(whole: ArrayLike, kept: ArrayLike, empty: ArrayLike) -> Values:
    """Give nS = (S' - S'_0) / (1 - S'_0) with S' = 1 - max(0, p(y|x) - p(y|only r)) (Carton et al. 2020, section 3).

    Higher is more faithful, unlike for sufficiency: 1 where the words alone carry the whole decision, 0 where they do
    no better than no words at all (S'_0). With words kept in part it is Soft-NS (Zhao and Aletras 2023, section 3).
    As in the published code the value is cut to [0, 1].

    Args:
        whole: p(y|x).
        kept: with only the rationale; shapes are those that numpy broadcasts.
        empty: with no word at all.

    Returns:
        NaN where the empty input is as probable as the whole one: there is nothing to normalise by. (The published
        code moves S'_0 by 1e-4 instead, which gives such inputs a value that means nothing.)
    """
    low = _shortfall(whole, empty)
    return np.clip(_divided(low - _shortfall(whole, kept), low), 0.0, 1.0)


def normalised_comprehensiveness(whole: ArrayLike, removed: ArrayLike, empty: ArrayLike) -> Values:
    """Give nC = max(0, p(y|x) - p(y|without r)) / (1 - S'_0) (Carton et al. 2020, section 3).

    Higher is more faithful: 1 where taking the words away costs as much as taking everything away, 0 where it costs
    nothing. With words removed in part it is Soft-NC (Zhao and Aletras 2023, section 3). Arguments, the cut to [0, 1]
    and NaN are those of `normalised_sufficiency`, with `removed` in the place of `kept`.
    """
    return np.clip(_divided(_shortfall(whole, removed), _shortfall(whole, empty)), 0.0, 1.0)


def _shortfall(whole: ArrayLike, part: ArrayLike) -> Values:
    """Give 1 - S' = max(0, p(y|x) - p(y|part))."""
    return np.maximum(0.0, np.asarray(whole, dtype=np.float64) - np.asarray(part, dtype=np.float64))


def _divided(above: Values, below: Values) -> Values:
    above, below = np.broadcast_arrays(above, below)
    return np.divide(above, below, out=np.full(above.shape, np.nan), where=below > LEAST_ROOM)


# -------------------------------------------------------------------------------------------------- log-odds


def log_odds_drop(whole: ArrayLike, removed: ArrayLike) -> Values:
    """Give log(p/(1-p)) of the label on the whole input minus the same without the rationale.

    In nats; higher is more faithful. Unlike a drop of probability it does not saturate for a sure model. (Shrikumar et
    al. 2017, section 4.1, have it for pixels.) Probabilities are clipped to [1e-6, 1 - 1e-6] first, so the drop is
    finite, and at most 27.6. Shapes are those that numpy broadcasts.
    """
    return _log_odds(whole) - _log_odds(removed)


def _log_odds(probability: ArrayLike) -> Values:
    p = np.clip(np.asarray(probability, dtype=np.float64), CLIP, 1 - CLIP)
    return np.log(p) - np.log1p(-p)


# ------------------------------------------------------------------------------------------------ rank order


def removal_steps(scores: NDArray[np.floating]) -> Mask:
    """Take scored words away one by one, highest first, ties by position: (scored words, words), the last masks all."""
    order = ranking(np.asarray(scores, dtype=np.float32))
    steps = np.zeros((len(order), len(scores)), dtype=np.bool_)
    for index, word in enumerate(order.tolist()):
        steps[index:, word] = True
    return steps


def flip_fraction(flipped: ArrayLike) -> float:
    """Give DFFrac, the smallest share of the words, taken away in rank order, whose removal flips the label.

    The decision flip by fraction of tokens (Serrano and Smith 2019, section 4; the name is Chrysostomou and Aletras's);
    lower is more faithful. 1 where no number of words flips it.

    Args:
        flipped: (words,), whether the label is another one without the first 1, 2, ... words in rank order.

    Returns:
        In (0, 1]; NaN where there is no word.
    """
    changed = np.asarray(flipped, dtype=np.bool_)
    if not len(changed):
        return np.nan
    return float(changed.argmax() + 1) / len(changed) if changed.any() else 1.0


# ------------------------------------------------------------------------------------------------ F-Fidelity


def fidelity_masks(rationales: Mask, seen: Mask, *, alpha: float, beta: float, seed: int, record_id: str) -> Mask:
    """Draw words to mask inside rationales, for F-Fidelity: one masking for each row.

    Every word of a rationale r is masked with the probability alpha, each by itself as in the authors' code; where
    alpha |r| is above beta n, with beta n / |r|: on average no more words go than the tuned model has learned to miss.

    Args:
        rationales: (draws, words); a row for each draw, all alike where one rationale is judged.
        seen: (words,), the n words that can be masked.
        alpha: share of the rationale that is masked.
        beta: largest share of all words that is masked.
        seed: of the draws, which depend on it and on the record alone.
        record_id: the record.
    """
    if not (0 < alpha <= 1 and 0 < beta <= 1):
        raise ValueError(f"alpha and beta must be above 0 and at most 1, got {alpha} and {beta}")
    key = hashlib.blake2b(record_id.encode(), digest_size=16).digest()
    noise = np.random.default_rng([seed, int.from_bytes(key, "little")]).random(rationales.shape)
    inside = rationales & seen
    sizes = inside.sum(axis=1, keepdims=True)
    rate = np.minimum(alpha, beta * seen.sum() / np.maximum(sizes, 1))
    return inside & (noise < rate)


def f_fidelity(right_before: ArrayLike, right_after: ArrayLike) -> Values:
    """Give 1[f(x) = y] - mean over draws of 1[f_r(x with some words masked) = y] (Zheng et al. 2025, eq. 6 and 7).

    f_r is the model tuned with random masking, so that masked inputs are nothing new to it. With words of the rationale
    masked it is FFid+, higher is more faithful; with words outside of it masked FFid-, lower is more faithful.

    Args:
        right_before: (n,), whether f gives the label y on the whole input.
        right_after: (n, draws), whether f_r gives it on the masked inputs.

    Returns:
        (n,) in [-1, 1].
    """
    before, after = np.asarray(right_before, dtype=np.float64), np.asarray(right_after, dtype=np.float64)
    if before.ndim != 1 or after.ndim != 2 or len(before) != len(after) or not after.shape[1]:
        raise ValueError(f"expected (n,) and (n, draws), got shapes {before.shape} and {after.shape}")
    return before - after.mean(axis=1)
