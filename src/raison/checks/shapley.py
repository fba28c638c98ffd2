"""Shapley values by their definition, or by drawn permutations."""

from collections.abc import Callable
from math import comb

import numpy as np
from numpy.typing import NDArray

from raison.words import Mask

Values = NDArray[np.float64]
Value = Callable[[Mask], Values]  # (coalitions, players) True = present -> (coalitions, outputs)


def evaluations(players: int, draws: int) -> int:
    """Give for how many coalitions `shapley` asks at most."""
    sampled = 2 + draws * max(players - 1, 0)
    return min(2**players, sampled) if players < 60 else sampled


def shapley(value: Value, players: int, draws: int, rng: np.random.Generator) -> Values:
    """Give the Shapley values of players, for several outputs at once (Shapley 1953).

    Exact, over all coalitions, where these are no more than what would be drawn. Otherwise the mean marginal
    contribution over drawn permutations, each followed by its reverse (Mitchell et al. 2022, section 4.2); the values
    sum to value(all) - value(none) either way. Every distinct coalition is asked for once, all in one call.

    Args:
        value: of coalitions.
        players: how many there are.
        draws: permutations, an even number.
        rng: draws them.

    Returns:
        (players, outputs).
    """
    if draws < 2 or draws % 2:
        raise ValueError(f"expected an even number of draws, got {draws}")
    if evaluations(players, draws) == 2**players:
        return exact(value, players)
    half = np.array([rng.permutation(players) for _ in range(draws // 2)])
    orders = np.concatenate([half, half[:, ::-1]])
    rank = np.argsort(orders, axis=1)  # (draws, players): when each of them joins
    present = rank[:, None, :] < np.arange(players + 1)[:, None]  # (draws, players + 1, players)
    distinct, code = np.unique(present.reshape(-1, players), axis=0, return_inverse=True)
    worth = np.asarray(value(distinct), dtype=np.float64)[code.reshape(draws, players + 1)]
    gains = np.diff(worth, axis=1)  # (draws, players in the order of joining, outputs)
    return np.take_along_axis(gains, rank[..., None], axis=1).mean(axis=0)


def exact(value: Value, players: int) -> Values:
    """Give the Shapley values of players over all 2^players coalitions: (players, outputs)."""
    coalitions = (np.arange(2**players)[:, None] >> np.arange(players)) & 1 == 1
    worth = np.asarray(value(coalitions), dtype=np.float64)
    sizes = coalitions.sum(axis=1)
    found = np.zeros((players, worth.shape[1]))
    for player in range(players):
        without = np.flatnonzero(~coalitions[:, player])
        weights = np.array([1 / (players * comb(players - 1, int(size))) for size in sizes[without]])
        found[player] = weights @ (worth[without | (1 << player)] - worth[without])
    return found
