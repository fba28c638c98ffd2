"""Masks and formulas of faithfulness: by hand, against slow loops, and on a classifier whose answers are known."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from raison.evaluation.alignment import chance, f1
from raison.evaluation.faithfulness import (
    ERASER_RATIOS,
    aopc,
    comprehensiveness,
    flip_rate,
    flips,
    least_mask,
    normalised_flip_rate,
    normalised_flips,
    probability_of,
    random_masks,
    ratio_masks,
    subset_rows,
    sufficiency,
)
from raison.rationales import top_k

nan = math.nan
score_rows = arrays.arrays(np.float32, st.integers(1, 25), elements=st.sampled_from([-2.0, -0.5, 0.0, 0.5, 1.0, nan]))

# ----------------------------------------------------------------------------------------------------------- masks


@given(arrays.arrays(np.bool_, st.integers(0, 20)), st.integers(0, 22), st.integers(1, 5), st.text(max_size=5))
def test_random_masks_keep_to_size_and_eligible_words(eligible, size, draws, record_id):
    masks = random_masks(eligible, size, draws, seed=3, record_id=record_id)
    assert masks.shape == (draws, len(eligible))
    assert not (masks & ~eligible).any()
    assert (masks.sum(axis=1) == min(size, eligible.sum())).all()
    assert (masks == random_masks(eligible, size, draws, seed=3, record_id=record_id)).all()


def test_random_masks_depend_on_seed_and_record():
    words = np.ones(40, dtype=bool)
    first = random_masks(words, 12, 4, seed=0, record_id="a")
    assert (first != random_masks(words, 12, 4, seed=1, record_id="a")).any()
    assert (first != random_masks(words, 12, 4, seed=0, record_id="b")).any()
    assert (first[0] != first[1]).any()


def test_random_masks_take_every_word_alike():
    eligible = np.array([True] * 6 + [False] * 2)
    masks = random_masks(eligible, 2, 6_000, seed=0, record_id="a")
    # Each word is in 2 of 6; each pair in 1 of 15; 4.5 standard deviations of 6,000 draws.
    assert np.abs(masks[:, :6].mean(axis=0) - 1 / 3).max() < 4.5 * math.sqrt(2 / 9 / 6_000)
    pairs = [(masks[:, a] & masks[:, b]).mean() for a, b in itertools.combinations(range(6), 2)]
    assert np.abs(np.array(pairs) - 1 / 15).max() < 4.5 * math.sqrt(14 / 225 / 6_000)


def test_f1_of_random_masks_is_chance():
    human = np.arange(20) % 3 == 0  # 7 of 20
    masks = random_masks(np.ones(20, dtype=bool), 5, 4_000, seed=0, record_id="a")
    scores = f1(masks, human)
    assert scores.mean() == pytest.approx(2 * 5 * 7 / (20 * 12), abs=3 * scores.std() / math.sqrt(4_000))
    assert chance(f1, 5, human[None], "each") == pytest.approx(2 * 5 * 7 / (20 * 12))


def test_least_mask_by_hand():
    scores = np.array([0.5, nan, -1.0, -1.0, 0.0], dtype=np.float32)
    assert least_mask(scores, 1).tolist() == [False, False, True, False, False]  # the first of two equal ones
    assert least_mask(scores, 3).tolist() == [False, False, True, True, True]
    assert least_mask(scores, 9).tolist() == [True, False, True, True, True]
    assert not least_mask(scores, 0).any()


@given(score_rows, st.integers(0, 25))
def test_least_and_most_part_the_scored_words(scores, size):
    scored = ~np.isnan(scores)
    least = least_mask(scores, size)
    assert not (least & ~scored).any()
    rest = scored & ~least
    if least.any() and rest.any():
        assert scores[least].max() <= scores[rest].min()


def test_ratio_masks_by_hand():
    # 20 words: 0.2, 1, 2, 4 and 10 words; at least one. 30 words: 0.3, 1.5, 3, 6, 15, halves up.
    scores = -np.arange(20, dtype=np.float32)
    assert ratio_masks(scores).sum(axis=1).tolist() == [1, 1, 2, 4, 10]
    assert ratio_masks(-np.arange(30, dtype=np.float32)).sum(axis=1).tolist() == [1, 2, 3, 6, 15]
    assert ratio_masks(scores)[3].tolist() == [True] * 4 + [False] * 16
    assert ratio_masks(scores, (1.0,)).all()
    unseen = np.array([1.0, nan, 3.0, nan], dtype=np.float32)  # two scored words: a half is one
    assert ratio_masks(unseen, (0.5, 1.0)).tolist() == [[False, False, True, False], [True, False, True, False]]
    assert not ratio_masks(np.array([nan, nan], dtype=np.float32)).any()


@given(score_rows, st.lists(st.floats(0.01, 1), min_size=1, max_size=6))
def test_ratio_masks_are_nested(scores, ratios):
    masks = ratio_masks(scores, sorted(ratios))
    for smaller, larger in itertools.pairwise(masks):
        assert not (smaller & ~larger).any()
    assert not (masks & np.isnan(scores)).any()


# ----------------------------------------------------------------------------------------------------------- flips


def test_flips_by_hand():
    assert flips(["a", "b", "a"], ["a", "a", "b"]).tolist() == [0, 1, 1]
    assert flips(["a", "b"], [["a", "b"], ["b", "a"]]).tolist() == [[0, 1], [0, 1]]
    assert flips(np.array([2, 0]), np.array([2, 1])).tolist() == [0, 1]


def test_an_invalid_answer_is_missing_unless_asked():
    before, after = ["a", None, "a", None], [None, "a", "b", None]
    assert flips(before, after) == pytest.approx([nan, nan, 1, nan], nan_ok=True)
    assert flips(before, after, invalid_is_flip=True) == pytest.approx([1, nan, 1, nan], nan_ok=True)


def test_subsets():
    predicted, gold = ["a", "b", None, "a"], ["a", "a", "b", None]
    assert subset_rows(predicted, gold, "all").tolist() == [True] * 4
    assert subset_rows(predicted, gold, "correct").tolist() == [True, False, False, False]
    assert subset_rows(predicted, gold, "incorrect").tolist() == [False, True, True, False]


def test_flip_rate():
    flipped = np.array([1.0, 0.0, nan, 1.0])
    assert flip_rate(flipped) == pytest.approx(2 / 3)
    assert flip_rate(flipped, np.array([False, True, True, False])) == 0
    assert flip_rate(flipped, np.array([False, False, True, False])) is None
    assert flip_rate(np.array([[1, 0], [0, 0]])) == 0.25


def test_normalised_flip_rate():
    assert normalised_flip_rate(0.4, 0.2, 0.6) == (pytest.approx(0.5), None)
    assert normalised_flip_rate(0.1, 0.2, 0.6) == (pytest.approx(-0.25), None)
    assert normalised_flip_rate(0.2, 0.2, 0.25)[0] == pytest.approx(0)  # 0.05 of room is enough
    value, reason = normalised_flip_rate(0.2, 0.2, 0.24)
    assert value is None
    assert "24.0%" in reason
    assert "20.0%" in reason
    assert normalised_flip_rate(0.2, 0.2, 0.24, delta=0.01)[1] is None
    assert normalised_flip_rate(0.3, 0.6, 0.2)[0] is None  # random words flip more than everything
    assert normalised_flip_rate(None, 0.2, 0.6) == (None, "a flip rate is missing")


def test_normalised_flips_are_the_same_of_columns():
    rng = np.random.default_rng(0)
    method, full = (rng.random((2, 5, 30)) < [[[0.5]], [[0.9]]]).astype(float)
    random = rng.random((5, 30)) * 0.3
    expected = [
        normalised_flip_rate(*(float(x.mean()) for x in row))[0] for row in zip(method, random, full, strict=True)
    ]
    assert normalised_flips(method, random, full) == pytest.approx(expected)
    assert math.isnan(normalised_flips(np.array([1.0]), np.array([0.5]), np.array([0.5])))


# --------------------------------------------------------------------------------------------------- probabilities


def test_probability_of_the_predicted_label():
    table = np.array([[[0.1, 0.9], [0.4, 0.6]], [[0.7, 0.3], [0.2, 0.8]]])
    assert probability_of(table, np.array([1, 0])).tolist() == [[0.9, 0.6], [0.7, 0.2]]
    assert probability_of(table[:, 0], np.array([0, 0])).tolist() == [0.1, 0.7]


def test_comprehensiveness_and_sufficiency_by_hand():
    # p = 0.9; 0.3 without the rationale, 0.8 with it alone.
    assert comprehensiveness([0.9], [0.3]) == pytest.approx([0.6])
    assert sufficiency([0.9], [0.8]) == pytest.approx([0.1])
    # AOPC of drops 0.1, 0.2, 0.3, 0.4, 0.5 is their mean.
    assert aopc([[0.1, 0.2, 0.3, 0.4, 0.5]]) == pytest.approx([0.3])


def softmax_classifier(weights):
    """Give p(label | words present) of a bag of words; weights (words, labels)."""

    def predict(present):
        logits = (present[..., None] * weights).sum(axis=-2)
        parts = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return parts / parts.sum(axis=-1, keepdims=True)

    return predict


def slow_aopc(predict, scores, *, keep):
    """DeYoung et al. 2020, section 4.2, word by word for one text, over ERASER's bins."""
    n = len(scores)
    whole = predict(np.ones(n))
    label = int(np.argmax(whole))
    order = sorted(range(n), key=lambda i: (-scores[i], i))
    drops = []
    for ratio in ERASER_RATIOS:
        count = max(1, math.floor(ratio * n + 0.5))
        present = np.array([(i in order[:count]) == keep for i in range(n)], dtype=float)
        drops.append(whole[label] - predict(present)[label])
    return sum(drops) / len(drops)


@pytest.mark.parametrize("seed", range(5))
def test_aopc_is_that_of_slow_loops(seed):
    rng = np.random.default_rng(seed)
    texts = [rng.normal(size=(n, 3)) for n in (1, 7, 20, 33)]
    scores = [rng.normal(size=len(text)).round(1) for text in texts]
    for keep, formula in ((False, comprehensiveness), (True, sufficiency)):
        found = []
        for weights, row in zip(texts, scores, strict=True):
            predict, masks = softmax_classifier(weights), ratio_masks(row)
            whole = predict(np.ones(len(row)))[None]
            label = whole.argmax(axis=1)
            answers = predict((masks if keep else ~masks).astype(float))[None]
            found.append(aopc(formula(probability_of(whole, label), probability_of(answers, label)))[0])
        expected = [slow_aopc(softmax_classifier(w), row, keep=keep) for w, row in zip(texts, scores, strict=True)]
        assert found == pytest.approx(expected)


# ----------------------------------------------------------------- acceptance checks 1 and 2: a toy with known answers


def toy(seed=0, n=300, words=10):
    """Texts where one word, at a known place, decides between two labels; without it the answer is label 0."""
    rng = np.random.default_rng(seed)
    places, labels = rng.integers(0, words, n), rng.integers(0, 2, n)
    return places, labels, lambda row, present: int(labels[row] == 1 and present[places[row]])


def test_flip_rates_of_the_toy_are_the_analytic_ones():
    places, labels, answer = toy()
    n, words = len(places), 10
    whole = [answer(row, np.ones(words, dtype=bool)) for row in range(n)]
    full = flips(whole, [answer(row, np.zeros(words, dtype=bool)) for row in range(n)])
    assert flip_rate(full) == pytest.approx(1 - np.mean(np.array(whole) == 0))  # 1 - share of the constant answer
    scores = np.eye(words)[places]
    method = flips(whole, [answer(row, ~top_k(scores[row], 1)) for row in range(n)])
    assert flip_rate(method) == flip_rate(full)
    draws = [random_masks(np.ones(words, dtype=bool), 2, 50, seed=0, record_id=str(row)) for row in range(n)]
    random = flips(whole, [[answer(row, ~draw) for draw in draws[row]] for row in range(n)])
    share = np.mean(labels == 1)
    assert flip_rate(random) == pytest.approx(share * 2 / words, abs=3 * math.sqrt(0.16 * share / (n * 50)))
    value, reason = normalised_flip_rate(flip_rate(method), flip_rate(random), flip_rate(full))
    assert value == pytest.approx(1)
    assert reason is None
    least = flips(whole, [answer(row, ~least_mask(scores[row], 1)) for row in range(n)])
    assert flip_rate(least) == 0


def test_a_constant_classifier_flips_nothing_and_is_not_normalised():
    answers = ["yes"] * 50
    assert flip_rate(flips(answers, answers)) == 0
    value, reason = normalised_flip_rate(0.0, 0.0, 0.0)
    assert value is None
    assert "no room" in reason


# --------------------------------------------------------------------------------------------------- bad arguments


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: random_masks(np.ones(3, dtype=bool), -1, 2, seed=0, record_id="a"), "-1"),
        (lambda: random_masks(np.ones(3, dtype=bool), 1, 0, seed=0, record_id="a"), "0"),
        (lambda: least_mask(np.zeros(3), -2), "-2"),
        (lambda: ratio_masks(np.zeros(3), (0.5, 1.2)), "1.2"),
        (lambda: ratio_masks(np.zeros(3), ()), r"\(\)"),
        (lambda: flips(["a"], ["a", "b"]), r"\(2,\)"),
        (lambda: subset_rows(["a"], ["a"], "right"), "right"),
        (lambda: subset_rows(["a"], ["a", "b"], "correct"), r"\(2,\)"),
        (lambda: normalised_flip_rate(0.1, 0.1, 0.4, delta=0), "0"),
        (lambda: probability_of([[0.5, 0.5]], np.array([2])), "2"),
        (lambda: probability_of([0.5, 0.5], np.array([0, 1])), r"\(2,\)"),
        (lambda: comprehensiveness([0.5], [0.5, 0.1]), r"\(2,\)"),
        (lambda: sufficiency([[0.5]], [0.5]), r"\(1, 1\)"),
        (lambda: aopc([0.1, 0.2]), r"\(2,\)"),
    ],
)
def test_bad_arguments_are_named(call, named):
    with pytest.raises(ValueError, match=named):
        call()
