"""Statistics of panels: against slow loops, the shared attributor, and their behaviour under the null."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raison.annotators.agreement import accuracy
from raison.annotators.attribution import fit_attributor
from raison.annotators.resampling import (
    Panel,
    bin_counts,
    centred,
    estimate,
    geometric_mean,
    identified,
    item_draws,
    label_counts,
    mean,
    ones,
    swap_test,
    weights_of,
)


def panel(seed=0, items=30, people=3, shift=0.0, seeds=1):
    rng = np.random.default_rng(seed)
    rows = items * seeds
    evidence = np.log(rng.dirichlet(np.ones(people), (rows, people)))
    evidence[:, np.arange(people), np.arange(people)] += shift
    evidence[rng.random((rows, people)) < 0.1] = np.nan
    values = np.where(rng.random((rows, people)) < 0.1, np.nan, rng.random((rows, people)) + shift)
    labels = [rng.integers(-1, 4, (rows, people)) for _ in range(2)]
    bins = [rng.integers(-1, 5, (rows, people, 2)) for _ in range(2)]
    return Panel(
        np.tile(np.arange(items), seeds), np.repeat(np.arange(seeds), items), *labels, {"x": values}, evidence, *bins
    )


def test_weights_count_rows_as_often_as_they_say():
    one = panel()
    weights = np.random.default_rng(1).integers(0, 3, (4, 30)).astype(float)
    for draw, counts in enumerate(weights.astype(int)):
        rows = np.repeat(np.arange(30), counts)
        assert mean(one, weights, "x")[draw] == pytest.approx(np.nanmean(one.values["x"][rows]))
        known = [
            (w, g) for w, g in zip(one.wanted[rows].ravel(), one.given[rows].ravel(), strict=True) if min(w, g) >= 0
        ]
        assert accuracy(label_counts(one, weights, 4))[draw] == pytest.approx(np.mean([w == g for w, g in known]))
        assert bin_counts(one.given_bins, weights, 5)[draw, 1, 0, 3] == (one.given_bins[rows, 1, 0] == 3).sum()


def test_one_text_at_a_time_nothing_is_drawn():
    one = panel()
    probabilities, hits = identified(one, ones(one), 1)
    for person in range(3):
        rows = one.evidence[:, person][~np.isnan(one.evidence[:, person]).any(axis=1)]
        shares = np.exp(rows) / np.exp(rows).sum(axis=1, keepdims=True)
        assert probabilities[0, person] == pytest.approx(shares[:, person].mean())
        assert hits[0, person] == pytest.approx((rows.argmax(axis=1) == person).mean())


def test_all_texts_together_are_one_group():
    one = panel()
    own = one.evidence[:, 0][~np.isnan(one.evidence[:, 0]).any(axis=1)]
    together = np.exp(own.mean(axis=0))
    assert identified(one, ones(one), len(own))[0][0, 0] == pytest.approx(together[0] / together.sum())
    assert np.isnan(identified(one, ones(one), len(own) + 1)[0][0, 0])


def test_no_group_has_texts_of_several_seeds():
    """Two models that are known for their person and one that is taken for another: two thirds, and no mixture."""
    good, bad = panel(items=60, seeds=1), panel(1, items=60, seeds=1)
    good.evidence[:, np.arange(3), np.arange(3)] += 3.0
    bad.evidence[:, np.arange(3), (np.arange(3) + 1) % 3] += 3.0
    runs = [good, good, bad]
    rows = {name: np.concatenate([getattr(run, name) for run in runs]) for name in panel()._fields if name != "values"}
    seeds = np.repeat(np.arange(3), 60)
    together = Panel(values={}, **{**rows, "seeds": seeds})
    for k in (1, 5, 20):
        apart = [np.stack(identified(run, ones(run), k)) for run in runs]
        assert np.stack(identified(together, ones(together), k)) == pytest.approx(np.mean(apart, axis=0), abs=0.03)
    assert np.isnan(identified(panel(items=8, seeds=3), ones(panel(items=8, seeds=3)), 9)[0]).all()


def test_a_group_is_judged_by_the_mean_of_its_vectors():
    texts = [f"{word} {i % 7}" for i in range(40) for word in ("well", "so", "thus")]
    people = ["a", "b", "c"] * 40
    attributor = fit_attributor(texts, people)
    vectors = attributor.vectors(["well 3", "so 1", "thus thus", "well so"])
    apart = attributor.log_probabilities(vectors).mean(axis=0)
    together = attributor.log_probabilities(vectors.mean(axis=0, keepdims=True))[0]
    assert apart - np.logaddexp.reduce(apart) == pytest.approx(together, abs=1e-9)


@given(st.integers(2, 6), st.integers(0, 99))
@settings(max_examples=10)
def test_groups_of_k_are_near_all_subsets(k, seed):
    one = panel(seed, items=7, people=2)
    found = identified(one, ones(one), k, seed)[0][0]
    from itertools import combinations

    for person in range(2):
        own = one.evidence[:, person][~np.isnan(one.evidence[:, person]).any(axis=1)]
        groups = [np.exp(own[list(rows)].mean(axis=0)) for rows in combinations(range(len(own)), k)]
        exact = [group[person] / group.sum() for group in groups]
        if exact:
            assert found[person] == pytest.approx(np.mean(exact), abs=5 * np.std(exact) / 10 + 1e-9)


def test_draws_of_items_and_seeds():
    draws = item_draws(10, 50, 0)
    assert draws.shape == (51, 10)
    assert (draws[0] == 1).all()
    assert (draws.sum(axis=1) == 10).all()
    two = panel(items=10, seeds=2)
    weights = weights_of(two, draws, 0)
    assert weights.shape == (51, 20)
    assert (weights[0] == 1).all()
    assert (weights.sum(axis=1) == 20).all()


def test_estimates_and_their_ends():
    found = estimate(np.concatenate([[0.5], np.linspace(0, 1, 1001)]), 9, 0.9)
    assert (found.value, found.n) == (0.5, 9)
    assert (found.low, found.high) == pytest.approx((0.05, 0.95))
    assert estimate(np.array([np.nan, 1.0]), 9, 0.9).value is None
    assert estimate(np.array([1.0, np.nan, np.nan, 1.0]), 9, 0.9).low is None
    moved = centred(np.array([[0.9], [0.5], [0.7], [np.nan]]))[:, 0]
    assert moved[:3] == pytest.approx([0.9, 0.8, 1.0])


def test_geometric_means():
    found = geometric_mean([np.array([4.0, -1.0, np.nan]), np.array([9.0, 2.0, 1.0])])
    assert found[:2] == pytest.approx([6, 0])
    assert np.isnan(found[2])


def of_x(one, weights):
    return mean(one, weights, "x")


def test_a_system_does_not_differ_from_itself_and_does_from_a_better_one():
    assert swap_test(panel(), panel(), of_x, 200, 0) == 1
    assert swap_test(panel(), panel(1, shift=0.5), of_x, 200, 0) == pytest.approx(1 / 201)
    probability = lambda one, weights: np.nanmean(identified(one, weights, 3)[0], axis=1)  # noqa: E731
    assert swap_test(panel(), panel(1, shift=2.0), probability, 100, 0) < 0.05


def test_the_swap_test_is_a_slow_loop_over_items():
    one, other = panel(), panel(1, shift=0.1)
    swaps = np.random.default_rng(3).integers(0, 2, (301, 30))
    swaps[0] = 1
    apart = []
    for kept in swaps.astype(bool):
        a = np.where(kept[:, None], one.values["x"], other.values["x"])
        b = np.where(kept[:, None], other.values["x"], one.values["x"])
        apart.append(np.nanmean(a) - np.nanmean(b))
    expected = (1 + np.sum(np.abs(apart[1:]) >= abs(apart[0]) - 1e-9)) / 301
    assert swap_test(one, other, of_x, 300, 3) == pytest.approx(expected)


def test_false_alarms_keep_their_level():
    p_values = [swap_test(panel(2 * i, items=15), panel(2 * i + 1, items=15), of_x, 99, i) for i in range(200)]
    assert np.mean(np.array(p_values) <= 0.05) <= 0.09  # 10 of 200 expected; 19 or more has a chance of .5 %


def test_different_items_are_refused():
    with pytest.raises(ValueError, match="the same items"):
        swap_test(panel(items=5), panel(items=6), of_x, 10, 0)
