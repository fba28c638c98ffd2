"""Agreement of labels: against scikit-learn, slow loops, and values worked by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, cohen_kappa_score, f1_score

from raison.annotators.agreement import accuracy, confusion, distance, kappa, label_error, macro_f1, sign_accuracy

LABELS = ("a", "b", "c")
pairs = st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS)), min_size=1, max_size=40)


@given(pairs)
def test_accuracy_f1_and_kappa_are_those_of_scikit_learn(said):
    wanted, given_ = zip(*said, strict=True)
    counts = confusion(wanted, given_, LABELS)
    assert accuracy(counts) == pytest.approx(accuracy_score(wanted, given_))
    assert macro_f1(counts) == pytest.approx(f1_score(wanted, given_, average="macro", zero_division=0))
    if len({*wanted, *given_}) > 1:
        assert kappa(counts) == pytest.approx(cohen_kappa_score(wanted, given_))


def test_kappa_by_hand():
    # 10 pairs; agreed 4 + 3 = 7, p_o = .7; wanted a 5, b 5; given a 6, b 4; p_e = (5 * 6 + 5 * 4) / 100 = .5
    assert kappa([[4, 1], [2, 3]]) == pytest.approx((0.7 - 0.5) / 0.5)


def test_what_is_missing_is_left_out_and_nothing_is_undefined():
    counts = confusion(["a", None, "b"], ["a", "b", None], LABELS)
    assert counts.sum() == 1
    nothing = np.zeros((3, 3))
    assert np.isnan([accuracy(nothing), macro_f1(nothing), kappa(nothing), sign_accuracy(nothing, [1, 2, 3])]).all()
    assert np.isnan(kappa([[5, 0], [0, 0]]))  # both always say the same: chance is 1


def test_many_matrices_are_as_one_after_the_other():
    many = np.random.default_rng(0).integers(0, 9, (5, 2, 3, 3))
    for function in (
        accuracy,
        macro_f1,
        kappa,
        lambda c: distance(c, [-1, 0, 2], 3),
        lambda c: sign_accuracy(c, [-1, 0, 2]),
    ):
        whole = function(many)
        assert whole.shape == (5, 2)
        assert whole[3, 1] == pytest.approx(function(many[3, 1]))


@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=1, max_size=30))
def test_ratings_against_a_slow_loop(said):
    labels = [str(number) for number in range(-5, 6)]
    counts = confusion([str(a) for a, _ in said], [str(b) for _, b in said], labels)
    values = [float(label) for label in labels]
    assert sign_accuracy(counts, values) == pytest.approx(np.mean([np.sign(a) == np.sign(b) for a, b in said]))
    for divisor in (10, 11):
        assert distance(counts, values, divisor) == pytest.approx(np.mean([abs(a - b) / divisor for a, b in said]))


def test_a_divisor_must_be_above_0():
    with pytest.raises(ValueError, match="divisor must be above 0, got 0"):
        distance(np.eye(2), [0, 1], 0)


def test_label_errors_by_hand():
    # LeWiDi: of three labels, `b` is wrongly left out
    assert label_error({"a", "b"}, {"a"}, LABELS) == pytest.approx(1 / 3)
    assert label_error({"a"}, {"b"}, LABELS) == pytest.approx(2 / 3)
    assert label_error({"a", "c"}, {"c", "a"}, LABELS) == 0
