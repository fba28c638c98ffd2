"""The gate: every verdict and its reason, and its numbers against sklearn and scipy."""

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import accuracy_score
from sklearn.metrics import f1_score as sklearn_f1

from raison.evaluation.validity import Validity, assess

LABELS = ("entailment", "neutral", "contradiction")
GOLD = list(LABELS) * 40  # 120 records, balanced


def answers(correct, other="neutral"):
    """Give predictions for GOLD: the first `correct` right, the others one label."""
    return GOLD[:correct] + [other] * (len(GOLD) - correct)


def test_a_sound_model_is_ok():
    found = assess(GOLD[:100] + GOLD[19::-1], GOLD, LABELS, flip_rate_full=0.65, flip_rate_random=0.2)
    assert found.verdict == "ok"
    assert not found.rankings_withheld
    assert found.withheld == {}
    assert found.room == pytest.approx(0.45)
    assert "significantly above" in found.reasons[0]


def test_a_constant_classifier_is_collapsed():
    found = assess(["neutral"] * 120, GOLD, LABELS, flip_rate_full=0.0, flip_rate_random=0.0)
    assert found.verdict == "collapsed"
    assert "'neutral' in 100.0%" in found.reasons[0]
    assert "0.0% of the answers" in found.reasons[1]
    assert set(found.withheld) == {"flips", "probabilities"}
    assert found.share_max == 1
    assert found.normalised_entropy == 0
    assert found.effective_labels == 1
    assert found.accuracy.value == found.majority_share == pytest.approx(1 / 3)


@pytest.mark.parametrize(("same", "verdict"), [(108, "collapsed"), (107, "weak")])
def test_collapsed_begins_at_nine_tenths(same, verdict):
    found = assess(["neutral"] * same + ["entailment"] * (120 - same), GOLD, LABELS, flip_rate_full=0.5)
    assert found.verdict == verdict


@pytest.mark.parametrize(("full", "verdict"), [(0.099, "collapsed"), (0.1, "ok")])
def test_collapsed_below_a_tenth_of_flips(full, verdict):
    found = assess(GOLD, GOLD, LABELS, flip_rate_full=full, flip_rate_random=0.0)
    assert found.verdict == verdict
    if verdict == "collapsed":
        assert "9.9%" in found.reasons[0]


def test_weak_is_decided_by_the_exact_binomial_test():
    # 120 records, majority 1/3: the upper tail is below 5 % from 49 right answers on.
    limit = next(k for k in range(121) if stats.binom.sf(k - 1, 120, 1 / 3) < 0.05)
    right = [(a if i < limit else LABELS[(LABELS.index(a) + 1) % 3]) for i, a in enumerate(GOLD)]
    right_less = [(a if i < limit - 1 else LABELS[(LABELS.index(a) + 1) % 3]) for i, a in enumerate(GOLD)]
    assert assess(right, GOLD, LABELS).verdict == "ok"
    weak = assess(right_less, GOLD, LABELS, flip_rate_full=0.5, flip_rate_random=0.1)
    assert weak.verdict == "weak"
    assert weak.accuracy_p == pytest.approx(stats.binom.sf(limit - 2, 120, 1 / 3))
    assert "not significantly above" in weak.reasons[0]
    assert not weak.rankings_withheld  # weak warns, it does not withhold


def test_too_few_records_withhold_everything():
    found = assess(GOLD[:29], GOLD[:29], LABELS, flip_rate_full=0.6, flip_rate_random=0.1)
    assert found.verdict == "too few"
    assert set(found.withheld) == {"alignment", "flips", "probabilities"}
    assert "29" in found.withheld["alignment"]
    assert assess(GOLD[:30], GOLD[:30], LABELS, flip_rate_full=0.6, flip_rate_random=0.1).verdict == "ok"


def test_no_room_withholds_flips_only():
    found = assess(GOLD, GOLD, LABELS, flip_rate_full=0.4, flip_rate_random=0.36)
    assert found.verdict == "ok"
    assert set(found.withheld) == {"flips"}
    assert found.rankings_withheld
    assert "no room" in found.withheld["flips"]
    assert any("no room" in reason for reason in found.reasons)
    assert assess(GOLD, GOLD, LABELS, flip_rate_full=0.4, flip_rate_random=0.35).withheld == {}


def test_without_gold_accuracy_is_unknown():
    found = assess(GOLD, [None] * 120, LABELS, flip_rate_full=0.5, flip_rate_random=0.1)
    assert found.verdict == "ok"
    assert (found.accuracy, found.majority_share, found.macro_f1, found.kl_to_gold) == (None, None, None, None)
    assert any("accuracy unknown" in reason for reason in found.reasons)


def test_records_without_gold_count_for_nothing_that_needs_it():
    found = assess(GOLD, [*GOLD[:60], *[None] * 60], LABELS)
    assert found.accuracy.n == 60
    assert found.accuracy.value == 1
    assert found.n == 120


def test_invalid_answers_are_wrong_and_counted_apart():
    found = assess([*GOLD[:90], *[None] * 30], GOLD, LABELS)
    assert found.invalid_rate == pytest.approx(0.25)
    assert found.accuracy.value == pytest.approx(0.75)
    assert sum(found.predicted_shares.values()) == pytest.approx(1)
    assert assess([None] * 120, GOLD, LABELS).verdict == "too few"


def test_nothing_measured_says_so():
    assert any("not measured" in reason for reason in assess(GOLD, GOLD, LABELS).reasons)
    empty = assess([], [], LABELS)
    assert (empty.verdict, empty.n, empty.invalid_rate, empty.share_max) == ("too few", 0, None, None)


def test_a_label_that_gold_lacks_leaves_no_divergence():
    assert assess(["neutral", "other"], ["neutral", "neutral"], LABELS).kl_to_gold is None
    # Shares 3/4, 1/4 against 1/2, 1/2: 3/4 log 3/2 + 1/4 log 1/2.
    found = assess(["a", "a", "a", "b"], ["a", "b", "a", "b"], ("a", "b"))
    assert found.kl_to_gold == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))


@given(st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS)), min_size=1, max_size=80))
def test_numbers_are_sklearns_and_scipys(pairs):
    predicted, gold = (list(side) for side in zip(*pairs, strict=True))
    found = assess(predicted, gold, LABELS)
    present = sorted(set(gold))
    assert found.accuracy.value == pytest.approx(accuracy_score(gold, predicted))
    expected = sklearn_f1(gold, predicted, labels=present, average="macro", zero_division=0)
    assert found.macro_f1 == pytest.approx(expected)
    counts = np.array([predicted.count(label) for label in LABELS])
    assert list(found.predicted_shares.values()) == pytest.approx(list(counts / len(predicted)))
    assert found.normalised_entropy == pytest.approx(stats.entropy(counts, base=3), abs=1e-12)
    assert found.effective_labels == pytest.approx(math.exp(stats.entropy(counts)))
    if set(predicted) <= set(gold):
        assert found.kl_to_gold == pytest.approx(stats.entropy(counts, [gold.count(label) for label in LABELS]))
    top = max(set(gold), key=lambda label: (gold.count(label), -gold.index(label)))
    assert found.majority_share == gold.count(top) / len(gold)
    constant = sklearn_f1(gold, [top] * len(gold), labels=present, average="macro", zero_division=0)
    assert found.majority_macro_f1 == pytest.approx(constant)
    assert found.reasons
    assert msgspec.json.decode(msgspec.json.encode(found), type=Validity) == found


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: assess(["a"], ["a", "b"], ("a",)), "1 predictions"),
        (lambda: assess(["a"], ["a"], ("a",), flip_rate_full=1.2), "1.2"),
        (lambda: assess(["a"], ["a"], ("a",), flip_rate_random=-0.1), "-0.1"),
    ],
)
def test_bad_arguments_are_named(call, named):
    with pytest.raises(ValueError, match=named):
        call()
