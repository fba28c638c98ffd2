"""Normalised AOPC: how good an order of the words is, between the worst and the best order that this input has.

Comprehensiveness and sufficiency depend on the model and on the input more than on the scores: some models lose all
confidence with any word, some with none. The bounds over all orders part the two (Edin et al. 2024).

A search for the bounds is a generator: it yields maskings (maskings, words) that it must know of, is sent the drop of
the answer's probability for each, and returns the bounds. So searches of many records share batches of the model.
"""

from collections.abc import Callable, Generator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from raison.evaluation.companions import LEAST_ROOM
from raison.words import Mask

Values = NDArray[np.float64]
EXACT = 8  # most words of which every subset is run


class Bounds(NamedTuple):
    """The lowest and the highest AOPC of any order of an input's words; NaN for an input without words."""

    lower: float
    upper: float


Search = Generator[Mask, Values, Bounds]


def word_aopc(drops: ArrayLike) -> float:
    """Give the AOPC of one order: the mean of p(y|x) - p(y|x without the first k words) over k = 1, ..., all words.

    This is Edin et al. 2024, eq. 1 (word by word, the whole input left out of the mean, all words masked counted), not
    ERASER's mean over shares of words. `drops` is (words,); NaN where there is none.
    """
    values = np.asarray(drops, dtype=np.float64)
    return float(values.mean()) if len(values) else np.nan


def normalised_aopc(value: float, bounds: Bounds) -> float:
    """Give (AOPC - lower) / (upper - lower) (Edin et al. 2024, eq. 3).

    0 is the worst order of this input's words and 1 the best. Of words taken away from the highest score down (their
    comprehensiveness) higher is more faithful, from the lowest up (their sufficiency) lower is. Beam search may miss
    the extremes, and then values a little below 0 or above 1 are possible.

    Returns:
        NaN where the bounds are equal up to rounding: one word, or a model that no order moves.
    """
    room = bounds.upper - bounds.lower
    return (value - bounds.lower) / room if room > LEAST_ROOM else np.nan


def search_bounds(seen: Mask, width: int = 5) -> Search:
    """Search the bounds of AOPC over all orders of the seen words (words,).

    Up to 8 words they are exact: every subset is run once (at most 255 maskings), and the best order of a subset ends
    with the word whose removal from it leaves the best order of the rest. Beyond that a beam search (Edin et al. 2024,
    section 4) takes words away one by one and keeps the `width` best subsets, for the upper and the lower bound; a
    subset is kept once, with its best order. About width x words^2 maskings at most; its bounds lie inside the exact
    ones.
    """
    if width < 1:
        raise ValueError(f"width must be 1 or more, got {width}")
    return _exact(seen) if seen.sum() <= EXACT else _beam(seen, width)


def cost(words: int, width: int = 5) -> int:
    """Give the most maskings that `search_bounds` asks for."""
    return 2**words - 1 if words <= EXACT else words + width * words * (words - 1)


def run_searches(searches: Sequence[Search], drops_of: Callable[[dict[int, Mask]], dict[int, Values]]) -> list[Bounds]:
    """Run searches side by side.

    Args:
        searches: one for each record.
        drops_of: takes index of a search -> maskings, and gives the drops for each.
    """
    found: dict[int, Bounds] = {}
    asked: dict[int, Mask] = {}
    for index, search in enumerate(searches):
        try:
            asked[index] = next(search)
        except StopIteration as end:
            found[index] = end.value
    while asked:
        drops, asked_now, asked = drops_of(asked), asked, {}
        for index in asked_now:
            try:
                asked[index] = searches[index].send(drops[index])
            except StopIteration as end:
                found[index] = end.value
    return [found[index] for index in range(len(searches))]


def _exact(seen: Mask) -> Search:
    n = int(seen.sum())
    if not n:
        return Bounds(np.nan, np.nan)
    drops = np.concatenate([[0.0], (yield _masks(range(1, 2**n), seen))])
    lower, upper = np.zeros(2**n), np.zeros(2**n)  # best sums of drops on the way to each subset
    for subset in range(1, 2**n):
        before = [subset ^ 1 << bit for bit in range(n) if subset >> bit & 1]
        lower[subset] = drops[subset] + lower[before].min()
        upper[subset] = drops[subset] + upper[before].max()
    return Bounds(float(lower[-1]) / n, float(upper[-1]) / n)


def _beam(seen: Mask, width: int) -> Search:
    n = int(seen.sum())
    beams: dict[int, dict[int, float]] = {-1: {0: 0.0}, 1: {0: 0.0}}  # sign -> subset -> best signed sum of drops
    for _ in range(n):
        reached = {sign: _extended(beam, n) for sign, beam in beams.items()}
        subsets = sorted(set(reached[-1]) | set(reached[1]))
        drops = dict(zip(subsets, (yield _masks(subsets, seen)).tolist(), strict=True))
        for sign, sums in reached.items():
            totals = {subset: total + sign * drops[subset] for subset, total in sums.items()}
            beams[sign] = dict(sorted(totals.items(), key=lambda pair: (-pair[1], pair[0]))[:width])
    lower, upper = (sign * next(iter(beams[sign].values())) / n for sign in (-1, 1))
    return Bounds(lower, upper)


def _extended(beam: dict[int, float], n: int) -> dict[int, float]:
    """Take one more word away from every subset: new subset -> the best sum of any way that leads to it."""
    reached: dict[int, float] = {}
    for subset, total in beam.items():
        for bit in range(n):
            larger = subset | 1 << bit
            if larger != subset:
                reached[larger] = max(total, reached.get(larger, -np.inf))
    return reached


def _masks(subsets: Sequence[int], seen: Mask) -> Mask:
    """Write subsets of the seen words, as bits of a number, on all words: (subsets, words)."""
    places = np.flatnonzero(seen)
    masks = np.zeros((len(subsets), len(seen)), dtype=np.bool_)
    for row, subset in enumerate(subsets):
        masks[row, [place for bit, place in enumerate(places) if subset >> bit & 1]] = True
    return masks
