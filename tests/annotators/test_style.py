"""Style: features by hand, divergences against scipy and by their properties."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy

from raison.annotators.style import (
    FEATURES,
    binned,
    category_habit,
    corpus_habits,
    distinct_n,
    divergences,
    edges_of,
    features,
    habit,
    template_rate,
)

counts = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=2, max_size=8)


def test_features_by_hand():
    text = 'The premise says "dog", so it can\'t be not a cat; perhaps.'
    found = {name: values[0] for name, values in features([text], ["a dog runs"]).items()}
    assert found == {
        "length": 13, "input_reuse": 2 / 13, "quotes": 2, "hedges": 1, "negations": 2, "meta_words": 1, "full_stop": 1,
    }  # fmt: skip
    assert features(["the review"], [""], ["Review"])["meta_words"][0] == 1
    assert np.isnan(features(["?"], ["x"])["input_reuse"][0])


@given(counts)
def test_divergences_are_those_of_scipy_after_smoothing(pairs):
    one, other = np.array(pairs, dtype=float).T
    if not one.sum() or not other.sum():
        assert np.isnan(divergences(one, other)).all()
        return
    kl, js = divergences(one, other)
    p, q = ((column + 0.5) / (column + 0.5).sum() for column in (one, other))
    assert kl == pytest.approx(entropy(p, q, base=2), abs=1e-12)
    assert js == pytest.approx(jensenshannon(p, q, base=2) ** 2, abs=1e-9)
    assert divergences(other, one)[1] == pytest.approx(js)
    assert divergences(one, one)[0] == pytest.approx(0, abs=1e-12)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=60))
def test_bins_part_all_values_into_at_most_ten(values):
    edges = edges_of(values)
    bins = binned(values, edges)
    assert bins.min() == 0
    assert bins.max() == len(edges) <= 9
    assert (np.diff(bins[np.argsort(values, kind="stable")]) >= 0).all()
    assert binned([np.nan], edges)[0] == -1


def test_a_habit_by_hand():
    found = habit("ann", "x", "length", [1, 1, 3, 3], [3, 3, 3, np.nan])
    assert (found.theirs, found.given) == (2, 3)
    assert found.wasserstein == pytest.approx(1)  # half of the mass moves by 2
    # bins: {1}, {3}; with one half each: (2.5, 2.5) / 5 and (.5, 3.5) / 4
    assert found.kl == pytest.approx(0.5 * np.log2(0.5 / 0.125) + 0.5 * np.log2(0.5 / 0.875))
    none = habit("ann", "x", "length", [1], [np.nan])
    assert (none.theirs, none.given, none.js) == (1, None, None)


def test_rates_of_a_whole_set():
    assert template_rate(["Same topic.", "same topic", "other"]) == pytest.approx(2 / 3)
    assert distinct_n(["a b a", "a b"], 1) == pytest.approx(2 / 5)
    assert distinct_n(["a b a", "a b"], 2) == pytest.approx(2 / 3)
    assert np.isnan([template_rate([]), distinct_n(["a"], 2)]).all()
    assert {one.feature for one in corpus_habits("a", "x", ["b"], [])} == {"template_rate", "distinct_1", "distinct_2"}
    assert category_habit("a", "x", [], ["k"]) is None
    assert category_habit("a", "x", ["k", "l"], ["k", "l"]).js == pytest.approx(0, abs=1e-12)
    assert list(features([], [])) == list(FEATURES)
