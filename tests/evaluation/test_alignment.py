"""Agreement with people against slow references from the published definitions, enumeration, sklearn and real data."""

import gzip
import itertools
import json
import math
import re
from functools import partial

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.metrics import auc, average_precision_score, precision_recall_curve, precision_recall_fscore_support

from raison.evaluation import alignment
from raison.evaluation.alignment import (
    against,
    auprc,
    average_precision,
    chance,
    chance_of_ranking,
    eraser_macro,
    f1,
    human_ceiling,
    human_size,
    iou,
    iou_f1,
    mean_pairwise_f1,
    merged,
    micro,
    normalised_f1,
    overlap_counts,
    pairwise_f1,
    precision,
    recall,
    recall_at_k,
    select_all_f1,
    span_counts,
    spans,
)
from shared import shared_file

RULES = ("majority", "each", "union", "best")
MASK_METRICS = (precision, recall, f1, iou)


def mask(text):
    """Make a mask of a string: x is marked; other signs are not, and blanks only divide fields for the eye."""
    return np.array([sign == "x" for sign in text.replace(" ", "")])


def people_of(*texts):
    return np.array([mask(text) for text in texts])


masks = st.integers(1, 12).flatmap(lambda n: st.tuples(*[arrays.arrays(np.bool_, n)] * 2))
crowds = st.tuples(st.integers(1, 4), st.integers(1, 7)).flatmap(lambda shape: arrays.arrays(np.bool_, shape))

# ------------------------------------------------------------------------------- slow references, on sets of positions


def chosen(row):
    return {i for i, marked in enumerate(row) if marked}


def slow(metric, predicted, human):
    r, h = chosen(predicted), chosen(human)
    if not h:
        return math.nan
    if not r:
        return 0.0
    p, q = len(r & h) / len(r), len(r & h) / len(h)
    return {
        precision: p,
        recall: q,
        f1: 2 * p * q / (p + q) if p + q else 0.0,
        iou: len(r & h) / len(r | h),
    }[metric]


def slow_against(metric, predicted, people, rule):
    n = people.shape[1]
    if rule in ("majority", "union"):
        votes = [sum(row[i] for row in people) for i in range(n)]
        needed = len(people) / 2 if rule == "majority" else 0
        return slow(metric, predicted, [vote > needed for vote in votes])
    if not people.any():
        return math.nan
    values = [slow(metric, predicted, row) if any(row) else 0.0 for row in people]
    return sum(values) / len(values) if rule == "each" else max(values)


def slow_spans(row, sizes):
    """Give maximal runs as sets of positions, field by field."""
    found, start = [], 0
    for size in sizes:
        run = set()
        for i in range(start, start + size):
            if row[i]:
                run.add(i)
            elif run:
                found.append(run)
                run = set()
        found += [run] if run else []
        start += size
    return found


def slow_hits(predicted, human, sizes, threshold=0.5):
    ours, theirs = slow_spans(predicted, sizes), slow_spans(human, sizes)
    best = [max((len(p & t) / len(p | t) for t in theirs), default=0) for p in ours]
    return sum(value >= threshold for value in best), len(ours), len(theirs)


def harmonic(p, r):
    return 2 * p * r / (p + r) if p + r else 0.0


# --------------------------------------------------------------------------------------------- one against another


@given(masks)
def test_masks_against_sets(pair):
    for metric in MASK_METRICS:
        assert float(metric(*pair)) == pytest.approx(slow(metric, *pair), nan_ok=True)


def test_by_hand():
    # Predicted words 0, 1, 2; marked 2, 3, 4, 5; shared 2: P = 1/3, R = 1/4, F1 = 2/7, IoU = 1/6.
    pair = mask("xxx..."), mask("..xxxx")
    assert [float(metric(*pair)) for metric in MASK_METRICS] == pytest.approx([1 / 3, 1 / 4, 2 / 7, 1 / 6])


def test_edge_rules():
    nothing, some = mask("...."), mask(".xx.")
    assert all(math.isnan(metric(some, nothing)) for metric in MASK_METRICS)
    assert all(math.isnan(metric(nothing, nothing)) for metric in MASK_METRICS)
    assert [float(metric(nothing, some)) for metric in MASK_METRICS] == [0, 0, 0, 0]


@given(masks)
def test_f1_and_iou_say_the_same(pair):
    assume(pair[1].any())
    j = float(iou(*pair))
    assert float(f1(*pair)) == pytest.approx(2 * j / (1 + j))


def test_many_people_at_once():
    people = people_of("xx..", "..xx", "....")
    assert f1(mask("x..."), people) == pytest.approx([2 / 3, 0, math.nan], nan_ok=True)


def test_micro_pools_words_and_leaves_unmarked_records_out():
    predicted = [mask("xx."), mask("x...."), mask("xxx"), mask("..")]
    human = [mask("x.x"), mask("xxxx."), mask("..."), mask("x.")]
    counts = np.array([overlap_counts(*pair) for pair in zip(predicted, human, strict=True)])
    assert counts[0].tolist() == [1, 2, 2]
    assert np.isnan(counts[2]).all()
    kept = [0, 1, 3]
    truth, guess = (np.concatenate([rows[i] for i in kept]) for rows in (human, predicted))
    expected = precision_recall_fscore_support(truth, guess, average="binary")[:3]
    assert micro(*counts.T) == pytest.approx(expected)  # 2 hits of 3 predicted and 7 marked
    resampled = micro(*counts[np.array([[0, 1], [3, 3]])].transpose(2, 0, 1))  # leading axes stay
    assert resampled.precision == pytest.approx([2 / 3, 0])
    assert np.isnan(micro(*np.full((3, 2), np.nan)).f1)


# ----------------------------------------------------------------------------------------------------------- spans


def test_a_run_ends_with_its_field():
    assert spans(mask("xx.x xx."), (4, 3)).tolist() == [[0, 2], [3, 4], [4, 6]]
    assert spans(mask("xx.x xx."), (7,)).tolist() == [[0, 2], [3, 6]]
    assert spans(mask("xxx"), (0, 2, 0, 1)).tolist() == [[0, 2], [2, 3]]
    assert spans(mask("..."), (3,)).shape == (0, 2)


# ERASER's partial match at IoU 0.5 on five records (sizes 4 + 4), worked by hand:
#   1  identical spans                                    2 hits of 2 predicted, 2 human
#   2  predicted 0-2 (3 words) on human 0-1: IoU 2/3      1 of 1, 1
#   3  predicted 0-1 on human 1-3: IoU 1/4                0 of 1, 1
#   4  one word of two: IoU 1/2 is a hit; 6 is alone      1 of 2, 1
#   5  nothing predicted                                  0 of 0, 2
CASES = [
    ("xx.. .x..", "xx.. .x.."),
    ("xxx. ....", "xx.. ...."),
    ("xx.. ....", ".xxx ...."),
    ("x... ..x.", "xx.. ...."),
    (".... ....", "x... x..."),
]


def test_span_counts_by_hand():
    counts = np.array([span_counts(mask(r), mask(h), (4, 4)) for r, h in CASES])
    assert counts.tolist() == [[2, 2, 2], [1, 1, 1], [0, 1, 1], [1, 2, 1], [0, 0, 2]]
    # Micro: 4 hits, 6 predicted, 7 human.
    assert micro(*counts.T) == pytest.approx((4 / 6, 4 / 7, harmonic(4 / 6, 4 / 7)))
    # Macro: P over the four records with a prediction (1 + 1 + 0 + 1/2) / 4, R over all (1 + 1 + 0 + 1 + 0) / 5.
    assert eraser_macro(*counts.T) == pytest.approx((2.5 / 4, 3 / 5, harmonic(2.5 / 4, 3 / 5)))


@given(st.lists(masks, min_size=1, max_size=5), st.floats(0.1, 1), st.data())
def test_spans_against_sets(pairs, threshold, data):
    cuts = [data.draw(st.integers(0, len(r))) for r, _ in pairs]
    sizes = [(cut, len(r) - cut) for cut, (r, _) in zip(cuts, pairs, strict=True)]
    ours = [span_counts(r, h, size, threshold=threshold) for (r, h), size in zip(pairs, sizes, strict=True)]
    theirs = [slow_hits(r, h, size, threshold) for (r, h), size in zip(pairs, sizes, strict=True)]
    kept = [found for found in theirs if found[2]]
    assert [tuple(found) for found in ours if not np.isnan(found[0])] == kept
    if not kept:
        assert np.isnan(micro(*np.array(ours).T)).all()
        assert np.isnan(eraser_macro(*np.array(ours).T)).all()
        return
    hits, predicted, human = (sum(column) for column in zip(*kept, strict=True))
    p, r = (hits / predicted if predicted else 0.0), hits / human
    assert micro(*np.array(ours).T) == pytest.approx((p, r, harmonic(p, r)))
    shares = [hit / size for hit, size, _ in kept if size]
    p, r = (sum(shares) / len(shares) if shares else 0.0), sum(hit / size for hit, _, size in kept) / len(kept)
    assert eraser_macro(*np.array(ours).T) == pytest.approx((p, r, harmonic(p, r)))


def test_iou_f1_of_one_record_and_of_people():
    r, h = mask(CASES[3][0]), mask(CASES[3][1])
    assert float(iou_f1(r, h, (4, 4))) == pytest.approx(2 / 3)
    people = np.array([h, np.zeros(8, dtype=bool), r])
    assert against(partial(iou_f1, sizes=(4, 4)), r, people, "each") == pytest.approx((2 / 3 + 0 + 1) / 3)


# ---------------------------------------------------------------------------------------------------------- scores


@given(st.data(), st.integers(2, 12))
def test_curves_are_sklearns(data, n):
    human = data.draw(arrays.arrays(np.bool_, n))
    scores = data.draw(arrays.arrays(np.float64, n, elements=st.sampled_from([-1.5, 0.0, 0.25, 0.5, 2.0])))  # with ties
    if human.all() or not human.any():
        assert math.isnan(auprc(scores, human))
        assert math.isnan(average_precision(scores, human))
        return
    p, r, _ = precision_recall_curve(human, scores)
    assert float(auprc(scores, human)) == pytest.approx(auc(r, p))
    assert float(average_precision(scores, human)) == pytest.approx(average_precision_score(human, scores))


def test_auprc_by_hand():
    # Ranked: marked, not, marked. (P, R): (1, 0) (1, 1/2) (1/2, 1/2) (2/3, 1).
    # Trapezoids: 1/2 x 1 + 1/2 x (1/2 + 2/3) / 2 = 0.791667; steps: 1/2 x 1 + 1/2 x 2/3.
    scores, human = np.array([0.9, 0.5, 0.1]), mask("x.x")
    assert float(auprc(scores, human)) == pytest.approx(19 / 24)
    assert float(average_precision(scores, human)) == pytest.approx(5 / 6)


def test_unseen_words_rank_last_together():
    human = mask("x..x")
    unseen = np.array([0.3, -2.0, math.nan, math.nan])
    last = np.array([0.3, -2.0, -9.0, -9.0])
    assert auprc(unseen, human) == auprc(last, human)
    assert auprc(unseen, human) != auprc(np.array([0.3, -2.0, 0.0, 0.0]), human)


def test_recall_at_k():
    scores, human = np.array([0.1, 0.9, 0.9, math.nan]), mask("x.xx")
    assert [float(recall_at_k(scores, human, k)) for k in (1, 2, 3, 9)] == pytest.approx([0, 1 / 3, 2 / 3, 2 / 3])
    assert math.isnan(recall_at_k(scores, mask("...."), 2))


# --------------------------------------------------------------------------------------------------- several people


@given(crowds, st.data())
def test_rules_against_slow_ones(people, data):
    predicted = data.draw(arrays.arrays(np.bool_, people.shape[1]))
    for rule, metric in itertools.product(RULES, MASK_METRICS):
        expected = slow_against(metric, predicted, people, rule)
        assert against(metric, predicted, people, rule) == pytest.approx(expected, nan_ok=True)


@given(crowds)
def test_ceiling_leaves_each_person_out(people):
    for rule, metric in itertools.product(RULES, MASK_METRICS):
        scores = []
        for i, row in enumerate(people):
            others = np.array([other for j, other in enumerate(people) if j != i]).reshape(-1, people.shape[1])
            scores.append(slow_against(metric, row, others, rule) if len(others) else math.nan)
        defined = [score for score in scores if not math.isnan(score)]
        expected = sum(defined) / len(defined) if defined else math.nan
        assert human_ceiling(metric, people, rule) == pytest.approx(expected, nan_ok=True)


@given(crowds)
def test_ceiling_of_each_is_the_mean_pairwise_f1(people):
    pairs = pairwise_f1(people)
    if people.any():
        assert len(pairs) == len(people) * (len(people) - 1) // 2
    else:
        assert len(pairs) == 0
    expected = pairs.mean() if len(pairs) else math.nan
    assert human_ceiling(f1, people, "each") == pytest.approx(expected, nan_ok=True)


def test_merged_by_hand():
    people = people_of("xx..", "x.x.", "x...", "xxx.")
    assert merged(people, "majority").tolist() == mask("x...").tolist()  # two of four are not more than half
    assert merged(people, "union").tolist() == mask("xxx.").tolist()


def test_scores_against_people():
    # AUPRC: 1 against the first, undefined against the third who marked all; the second, who marked nothing, counts 0.
    people = people_of("x..", "...", "xxx")
    assert against(auprc, np.array([3.0, 2.0, 1.0]), people, "each") == pytest.approx(1 / 2)
    assert math.isnan(against(auprc, np.array([3.0, 2.0, 1.0]), people_of("...", "..."), "each"))
    assert math.isnan(against(auprc, np.array([3.0, 2.0, 1.0]), people_of("xxx", "xxx"), "best"))
    # A person's mask scores as 0 and 1: against "x..", the mask "xx." has (1, 0) (1/2, 1) (1/3, 1), area 3/4.
    assert human_ceiling(auprc, people_of("x..", "xx."), "each") == pytest.approx((3 / 4 + (1 / 2 + 5 / 6 / 2)) / 2)


def test_mean_pairwise_f1_weighs_pairs():
    # Record 1: pairs 1, 0, 0. Record 2: one pair, 2/3. Record 3: nobody marked; record 4: one person.
    records = [people_of("x.", "x.", ".."), people_of("xx", "x."), people_of("..", ".."), people_of("x.")]
    found = mean_pairwise_f1(records)
    assert found.value == pytest.approx((1 + 0 + 0 + 2 / 3) / 4)
    assert found.n == 2
    assert mean_pairwise_f1([]).value is None


def test_human_size():
    assert human_size(people_of("xx..", "x...", "....")) == 2  # (2 + 1) / 2 = 1.5, up
    assert human_size(people_of("xxxx", "x...", "x...", "x...")) == 2  # 7 / 4
    assert human_size(people_of("xxx.", "x...", "x...", "....")) == 2  # 5 / 3
    assert human_size(people_of("x...", "x...", "xx..")) == 1  # 4 / 3
    assert human_size(people_of("....", "....")) is None
    assert human_size(np.zeros((0, 4), dtype=bool)) is None


# ------------------------------------------------------------------------------------------------------- references


def enumerated_chance(metric, size, people, rule, eligible):
    scores = []
    for places in itertools.combinations(np.flatnonzero(eligible), size):
        row = np.zeros(people.shape[1], dtype=bool)
        row[list(places)] = True
        scores.append(slow_against(metric, row, people, rule))
    return sum(scores) / len(scores)


@settings(max_examples=40, deadline=None)
@given(crowds, st.data())
def test_chance_enumerates_every_choice(people, data):
    eligible = data.draw(arrays.arrays(np.bool_, people.shape[1]))
    size = data.draw(st.integers(0, int(eligible.sum())))
    for rule, metric in itertools.product(RULES, MASK_METRICS):
        expected = enumerated_chance(metric, size, people, rule, eligible)
        assert chance(metric, size, people, rule, eligible=eligible) == pytest.approx(expected, nan_ok=True)


@given(st.integers(1, 30), st.data())
def test_chance_of_f1_is_the_published_formula(n, data):
    h, r = data.draw(st.integers(1, n)), data.draw(st.integers(0, n))
    people = (np.arange(n) < h)[None]
    assert chance(f1, r, people, "union") == pytest.approx(2 * r * h / (n * (r + h)))
    assert select_all_f1(people, "union") == pytest.approx(2 * h / (n + h))


@pytest.mark.parametrize("metric", [f1, iou])
def test_drawn_chance_is_near_the_exact_one(metric, monkeypatch):
    people = np.random.default_rng(0).random((3, 14)) < 0.4
    exact = chance(metric, 5, people, "best")
    monkeypatch.setattr(alignment, "_OUTCOMES", 0)
    drawn = chance(metric, 5, people, "best", seed=1)
    assert drawn != exact
    assert drawn == pytest.approx(exact, abs=3 * 0.2 / math.sqrt(2_000))
    assert drawn == chance(metric, 5, people, "best", seed=1)
    assert drawn != chance(metric, 5, people, "best", seed=2)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 6).flatmap(lambda n: arrays.arrays(np.bool_, (2, n))))
def test_chance_of_ranking_enumerates_every_order(people):
    orders = list(itertools.permutations(range(people.shape[1])))
    for rule, metric in itertools.product(("majority", "each", "union"), (auprc, average_precision)):
        expected = np.mean([against(metric, np.array(order, dtype=float), people, rule) for order in orders])
        assert chance_of_ranking(metric, people, rule) == pytest.approx(expected, nan_ok=True)


def test_chance_of_the_best_ranking_is_drawn():
    people = people_of("xx...", "..x..")
    orders = itertools.permutations(range(5))
    expected = np.mean([against(auprc, np.array(order, dtype=float), people, "best") for order in orders])
    drawn = chance_of_ranking(auprc, people, "best", seed=3)
    assert drawn == pytest.approx(expected, abs=4 * 0.25 / math.sqrt(500))
    assert drawn == chance_of_ranking(auprc, people, "best", seed=3)
    assert drawn > chance_of_ranking(auprc, people, "each")


def test_select_all_by_hand():
    # 4 words. Against one word 2/5, against two 4/6, against nothing 0.
    people = people_of("x...", "xx..", "....")
    assert select_all_f1(people, "each") == pytest.approx((2 / 5 + 2 / 3 + 0) / 3)
    assert select_all_f1(people, "best") == pytest.approx(2 / 3)


def test_normalised_f1():
    # Means 0.4, 0.2, 0.6: half of the way from chance to people.
    assert float(normalised_f1([0.3, 0.5], [0.1, 0.3], [0.5, 0.7])) == pytest.approx(0.5)
    assert math.isnan(normalised_f1([0.3, 0.5], [0.2, 0.4], [0.3, 0.3]))
    assert normalised_f1(np.full((2, 3), 0.4), np.full((2, 3), 0.2), np.array([[0.6] * 3, [0.1] * 3])) == pytest.approx(
        [0.5, math.nan], nan_ok=True
    )


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: f1(mask("x.."), mask("x.")), r"\(3,\)"),
        (lambda: f1(np.array([1, 2]), mask("x.")), "int64"),
        (lambda: spans(mask("x..."), (2, 1)), r"\(2, 1\)"),
        (lambda: span_counts(mask("x."), mask("x."), (2,), threshold=0), "0"),
        (lambda: auprc(np.zeros(3), mask("x.")), r"\(3,\)"),
        (lambda: recall_at_k(np.zeros(2), mask("x."), 0), "0"),
        (lambda: merged(people_of("x."), "each"), "each"),
        (lambda: merged(mask("x."), "union"), r"\(2,\)"),
        (lambda: against(f1, mask("x."), people_of("x."), "most"), "most"),
        (lambda: human_ceiling(f1, mask("x."), "each"), r"\(2,\)"),
        (lambda: chance(f1, 3, people_of("x."), "each"), "3 of 2"),
        (lambda: chance(auprc, 1, people_of("x."), "each"), "auprc"),
        (lambda: chance_of_ranking(f1, people_of("x."), "each"), "f1"),
    ],
)
def test_bad_arguments_are_named(call, named):
    with pytest.raises(ValueError, match=named):
        call()


# -------------------------------------------------------------------------------------------------------- real data


def marked_words(record):
    """Give (annotators, words) of everyone who was asked: a word between blanks is marked if a span overlaps it."""
    rows = []
    for annotation in record["annotations"]:
        if annotation["rationale"] is not None:
            row = []
            for field, text in record["fields"].items():
                places = annotation["rationale"].get(field, [])
                words = re.finditer(r"\S+", text)
                row += [any(start < w.end() and end > w.start() for start, end in places) for w in words]
            rows.append(row)
    return np.array(rows, dtype=bool)


def agreement_by_label(path):
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
        records = [json.loads(line) for line in lines]
    crowd = [(record["label"], marked_words(record)) for record in records]
    labels = {"all", *(label for label, _ in crowd)}
    return {name: mean_pairwise_f1([p for label, p in crowd if name in ("all", label)]).value for name in labels}


def test_people_agree_on_esnli_as_counted_independently():
    found = agreement_by_label(shared_file("data/esnli/test.jsonl.gz"))
    assert found == pytest.approx(
        {"all": 0.620, "neutral": 0.699, "entailment": 0.531, "contradiction": 0.633}, abs=0.005
    )


def test_people_agree_on_the_litex_selection_as_counted_independently():
    found = agreement_by_label(shared_file("data/litex/esnli.jsonl"))
    assert found["all"] == pytest.approx(0.535, abs=0.005)
    assert found["neutral"] == pytest.approx(0.698, abs=0.005)
    assert found["entailment"] == pytest.approx(0.387, abs=0.005)
    assert found["contradiction"] == pytest.approx(0.554, abs=0.01)
