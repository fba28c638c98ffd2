"""Normalised AOPC: bounds against all orders written out, searches that run side by side."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raison.evaluation.naopc import Bounds, cost, normalised_aopc, run_searches, search_bounds, word_aopc


def game(words, seed):
    """A model of `words` words with any interaction: subset taken away -> drop of the probability."""
    rng = np.random.default_rng(seed)
    drops = rng.normal(size=2**words).clip(-1, 1)
    return lambda mask: drops[sum(1 << i for i in np.flatnonzero(mask))]


def solved(seen, drop, width=5):
    """Run one search, and count what it asked for."""
    asked = []

    def drops_of(masks):
        asked.extend(tuple(row.tolist()) for row in masks[0])
        assert not (masks[0] & ~seen).any()
        return {0: np.array([drop(row[seen]) for row in masks[0]])}

    return run_searches([search_bounds(seen, width)], drops_of)[0], asked


def all_orders(words, drop):
    """AOPC of every order, written out."""
    found = []
    for order in permutations(range(words)):
        mask, drops = np.zeros(words, dtype=bool), []
        for word in order:
            mask[word] = True
            drops.append(drop(mask))
        found.append(sum(drops) / words)
    return found


def test_by_hand():
    """Two words: without a 0.4, without b 0.1, without both 0.5. Orders: ab 0.45, ba 0.3."""
    drops = {(True, False): 0.4, (False, True): 0.1, (True, True): 0.5}
    bounds, asked = solved(np.ones(2, dtype=bool), lambda mask: drops[tuple(mask.tolist())])
    assert bounds == pytest.approx((0.3, 0.45))
    assert len(asked) == 3
    assert word_aopc([0.4, 0.5]) == pytest.approx(0.45)
    assert normalised_aopc(0.45, bounds) == pytest.approx(1)
    assert normalised_aopc(0.3, bounds) == pytest.approx(0)
    assert normalised_aopc(0.375, bounds) == pytest.approx(0.5)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 5), st.integers(0, 10_000))
def test_exact_bounds_are_those_of_all_orders(words, seed):
    drop = game(words, seed)
    bounds, asked = solved(np.ones(words, dtype=bool), drop)
    orders = all_orders(words, drop)
    assert bounds == pytest.approx((min(orders), max(orders)))
    assert len(asked) == len(set(asked)) == 2**words - 1 == cost(words)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("words", [6, 7])
def test_exact_bounds_of_longer_inputs(words, seed):
    drop = game(words, seed)
    orders = all_orders(words, drop)
    assert solved(np.ones(words, dtype=bool), drop)[0] == pytest.approx((min(orders), max(orders)))


def subset_bounds(words, drop):
    """The bounds by recursion over subsets, for inputs with too many orders to write out."""
    from functools import cache

    @cache
    def best(subset, sign):
        if not subset:
            return 0.0
        mask = np.array([subset >> bit & 1 for bit in range(words)], dtype=bool)
        before = [best(subset & ~(1 << bit), sign) for bit in range(words) if subset >> bit & 1]
        return sign * drop(mask) + max(before)

    everything = 2**words - 1
    return -best(everything, -1) / words, best(everything, 1) / words


@pytest.mark.parametrize("seed", range(6))
def test_a_beam_lies_inside_the_exact_bounds_and_a_wide_one_reaches_them(seed):
    words = 10
    drop, seen = game(words, seed), np.ones(words, dtype=bool)
    lower, upper = subset_bounds(words, drop)
    for width in (1, 5, 20):
        bounds, asked = solved(seen, drop, width)
        assert lower - 1e-12 <= bounds.lower <= bounds.upper <= upper + 1e-12
        assert len(asked) == len(set(asked)) <= cost(words, width)
    assert solved(seen, drop, 300)[0] == pytest.approx((lower, upper))


def test_a_beam_finds_the_order_of_a_model_without_interactions():
    rng = np.random.default_rng(0)
    weights = rng.normal(size=14)
    bounds, _ = solved(np.ones(14, dtype=bool), lambda mask: weights[mask].sum(), width=1)
    for sign, value in ((-1, bounds.upper), (1, bounds.lower)):
        assert value == pytest.approx(np.cumsum(weights[np.argsort(sign * weights)]).mean())


@pytest.mark.parametrize("words", [3, 11])
def test_unseen_words_are_never_touched(words):
    seen = np.array([False, *[True] * words, False])
    drop = game(words, 1)
    bounds, asked = solved(seen, drop)
    assert bounds == solved(np.ones(words, dtype=bool), drop)[0]
    assert not any(row[0] or row[-1] for row in asked)


def test_no_room_is_undefined():
    assert np.isnan(normalised_aopc(0.2, Bounds(0.2, 0.2 + 1e-9)))
    assert np.isnan(normalised_aopc(np.nan, solved(np.zeros(3, dtype=bool), game(0, 0))[0]))
    assert np.isnan(word_aopc([]))
    one, _ = solved(np.ones(1, dtype=bool), game(1, 0))
    assert np.isnan(normalised_aopc(one.lower, one))
    with pytest.raises(ValueError, match="width"):
        search_bounds(np.ones(3, dtype=bool), 0)


def test_searches_side_by_side_find_what_they_find_alone():
    sizes, rounds = (0, 1, 4, 9, 11), []
    games = [game(words, words) for words in sizes]

    def drops_of(asked):
        rounds.append(sorted(asked))
        return {index: np.array([games[index](row) for row in masks]) for index, masks in asked.items()}

    together = run_searches([search_bounds(np.ones(words, dtype=bool)) for words in sizes], drops_of)
    for words, drop, bounds in zip(sizes, games, together, strict=True):
        np.testing.assert_array_equal(bounds, solved(np.ones(words, dtype=bool), drop)[0])
    assert len(rounds) == 11  # one for each word of the longest
    assert rounds[0] == [1, 2, 3, 4]
