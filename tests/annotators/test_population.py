"""The population: matrices against scikit-learn, the alt-test against its procedure written as loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import false_discovery_control, ttest_1samp
from sklearn.metrics import cohen_kappa_score

from raison.annotators.population import alt_test, jensen_shannon, kappa_gap, kappa_matrix, manhattan, shares


def panel(seed, items=40, people=3, labels=3, missing=0.1):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, labels, items)
    found = np.where(rng.random((items, people)) < 0.6, truth[:, None], rng.integers(0, labels, (items, people)))
    return np.where(rng.random((items, people)) < missing, -1, found)


def test_shares_and_distances_by_hand():
    found = shares([[0, 0, 1], [2, -1, -1], [-1, -1, -1]], 3)
    assert found[:2] == pytest.approx(np.array([[2 / 3, 1 / 3, 0], [0, 0, 1]]))
    assert np.isnan(found[2]).all()
    assert manhattan(found[0], found[1]) == pytest.approx(2)
    assert jensen_shannon(found[0], found[1]) == pytest.approx(1)
    assert jensen_shannon(found[0], [0.5, 0.5, 0]) == pytest.approx(jensenshannon(found[0], [0.5, 0.5, 0], base=2) ** 2)


@given(st.integers(0, 1000))
@settings(max_examples=15)
def test_kappas_are_those_of_scikit_learn(seed):
    one, other = panel(seed), panel(seed + 1, people=2)
    found = kappa_matrix(one, other, 3)
    for p in range(3):
        for q in range(2):
            both = (one[:, p] >= 0) & (other[:, q] >= 0)
            assert found[p, q] == pytest.approx(cohen_kappa_score(one[both, p], other[both, q]))


@given(st.integers(0, 1000))
@settings(max_examples=15)
def test_a_panel_agrees_with_itself_as_with_itself(seed):
    one = panel(seed)
    found = kappa_matrix(one, one, 3)
    assert found == pytest.approx(found.T)
    assert np.diag(found) == pytest.approx(1)
    assert kappa_gap(found, kappa_matrix(one.copy(), one, 3)) == 0


def slow_alt_test(stand_ins, people, epsilon, level, score):
    ps, rhos = [], []
    for j in range(people.shape[1]):
        d, wins = [], []
        for i in range(len(people)):
            rest = [people[i, k] for k in range(people.shape[1]) if k != j and people[i, k] >= 0]
            if people[i, j] < 0 or stand_ins[i, j] < 0 or not rest:
                continue
            f, h = score(stand_ins[i, j], rest), score(people[i, j], rest)
            wins.append(float(f >= h))
            d.append(float(h >= f) - float(f >= h))
        ps.append(ttest_1samp(d, epsilon, alternative="less").pvalue)
        rhos.append(np.mean(wins))
    rejected = false_discovery_control(ps, method="by") <= level
    return ps, rhos, rejected.mean()


@given(st.integers(0, 1000), st.sampled_from([0.1, 0.15, 0.2]), st.booleans())
@settings(max_examples=20)
def test_the_alt_test_is_its_procedure(seed, epsilon, ordinal):
    people, stand_ins = panel(seed, items=60), panel(seed + 7, items=60)
    values = np.array([-2.0, 0.0, 3.0])
    score = (
        (lambda one, rest: -np.sqrt(np.mean([(values[one] - values[other]) ** 2 for other in rest])))
        if ordinal
        else (lambda one, rest: np.mean([one == other for other in rest]))
    )
    found = alt_test(stand_ins, people, ["a", "b", "c"], values if ordinal else None, epsilon=epsilon)
    ps, rhos, rate = slow_alt_test(stand_ins, people, epsilon, 0.05, score)
    assert [one.p for one in found.people] == pytest.approx(ps)
    assert [one.stand_in for one in found.people] == pytest.approx(rhos)
    assert found.winning_rate == pytest.approx(rate)
    assert found.advantage == pytest.approx(np.mean(rhos))
    assert found.passed == (rate >= 0.5)


def test_the_alt_test_at_its_ends():
    people = panel(0, items=80, missing=0)
    same = alt_test(people, people, ["a", "b", "c"])
    assert same.passed
    assert same.advantage == 1
    other = alt_test((people + 1) % 3, people, ["a", "b", "c"])
    assert other.winning_rate == 0
    assert not other.passed
    few = alt_test(people[:29], people[:29], ["a", "b", "c"])
    assert (few.winning_rate, few.passed, few.people[0].p) == (None, None, None)
    with pytest.raises(ValueError, match="one stand-in for each of 3 people"):
        alt_test(people[:, :2], people, ["a", "b", "c"])
