"""ROAR on a bag of words that is trained in no time, where what must come out is known."""

from collections import Counter

import numpy as np
import pytest

from raison.evaluation.faithfulness import random_masks
from raison.evaluation.roar import Scores, Split, racu, roar, trainings
from raison.records import Record
from raison.words import Tokens, word_grid

FILLER = "one two three four five six seven".split()  # noqa: SIM905


def split(n, seed, cues=1, cut=False):
    """Texts of 10 words in which `cues` words, yes or no, say the label; with `cut`, the model sees the first 8."""
    rng = np.random.default_rng(seed)
    tokens, labels, truth = [], [], []
    for index in range(n):
        label = rng.choice(["yes", "no"])
        words = list(rng.choice(FILLER, 10))
        places = rng.choice(8, cues, replace=False)
        for place in places:
            words[place] = str(label)
        grid = word_grid(Record(f"{seed}-{index}", {"text": " ".join(words)}))
        size = 8 if cut else 10
        ids = np.array([[*FILLER, "yes", "no"].index(word) for word in words[:size]])
        tokens.append(Tokens(grid, ids, np.zeros_like(ids), np.arange(size)))
        labels.append(str(label))
        truth.append(np.isin(np.arange(10), places).astype(float))
    return Split(tokens, labels), truth


def bag_fit(calls=None):
    """Give a `fit` that counts in how many texts of each label each word is left, and votes."""

    def fit(train, masks, seed):
        if calls is not None:
            calls.append((seed, [mask.copy() for mask in masks]))
        counts = {"yes": Counter(), "no": Counter()}
        for row, label, mask in zip(train.tokens, train.labels, masks, strict=True):
            counts[label].update(set(row.ids[~mask[row.word]].tolist()))

        def predict(tokens, masks):
            found = []
            for row, mask in zip(tokens, masks, strict=True):
                left = row.ids[~mask[row.word]]
                odds = sum(np.log((counts["yes"][i] + 1) / (counts["no"][i] + 1)) for i in left)
                found.append("yes" if odds > 0 else "no")
            return found

        return predict

    return fit


@pytest.fixture(scope="module")
def data():
    return split(300, 0), split(200, 1)


def test_the_true_words_cost_everything_and_random_scores_as_much_as_random_words(data):
    (train, truth), (test, truth_test) = data
    rng = np.random.default_rng(5)
    noise = [[rng.random(10) for _ in part] for part in (truth, truth_test)]
    found = roar(train, test, {"true": Scores(truth, truth_test), "noise": Scores(*noise)}, bag_fit())
    true, random = found["true"], found["noise"]
    assert true.ratios == [0, 0.1, 0.3, 0.5, 0.7, 0.9, 1]
    assert true.method[0] == true.random[0] == 1.0
    assert max(true.method[1:]) < 0.6  # one word of ten says it all
    assert true.random[1] > 0.8
    assert true.racu.value > 0.7
    assert true.racu.low > 0.5
    assert random.racu.low < 0 < random.racu.high
    assert abs(random.racu.value) < 0.15


def test_the_curve_equals_a_slow_loop(data):
    (train, truth), (test, truth_test) = data
    calls = []
    found = roar(train, test, {"true": Scores(truth, truth_test)}, bag_fit(calls), ratios=[0.2, 0.6], seeds=(0, 3))
    assert len(calls) == trainings(2, 1, 2) == 2 * (2 + 2 * 2)
    by_random = {seed: [random_masks(row.seen, 2, 1, seed=seed, record_id=row.grid.record_id)[0] for row in test.tokens]
                 for seed in (0, 3)}  # fmt: skip
    accuracies = []
    for seed, masks in by_random.items():
        away = [random_masks(row.seen, 2, 1, seed=seed, record_id=row.grid.record_id)[0] for row in train.tokens]
        predict = bag_fit()(train, away, seed)
        answers = predict(test.tokens, masks)
        accuracies.append(np.mean([a == b for a, b in zip(answers, test.labels, strict=True)]))
    assert found["true"].random[1] == pytest.approx(np.mean(accuracies))
    sizes = sorted({int(mask.sum()) for _, masks in calls for mask in masks})
    assert sizes == [0, 2, 6, 10]


def test_racu_by_hand():
    """Curves at 0, 1/2, 1: random 1, 0.8, 0.5; method 1, 0.6, 0.5. Areas 0.1 and (0.5 + 0.3)/4 + 0.3/4 = 0.275."""
    assert racu([0, 0.5, 1], [1, 0.6, 0.5], [1, 0.8, 0.5]) == pytest.approx(0.1 / 0.275)
    assert racu([0, 0.5, 1], [1, 0.8, 0.5], [1, 0.8, 0.5]) == 0
    assert racu([0, 0.5, 1], [1, 0.9, 0.5], [1, 0.8, 0.5]) < 0
    both = racu([0, 0.5, 1], np.array([[1, 1], [0.6, 0.8], [0.5, 0.5]]), np.array([[1, 1], [0.8, 0.8], [0.5, 0.5]]))
    np.testing.assert_allclose(both, [0.1 / 0.275, 0])
    assert np.isnan(racu([0, 1], [0.5, 0.5], [0.5, 0.5]))  # masking everything costs nothing
    for wrong in (([0, 0], [1, 1], [1, 1]), ([0, 1], [1, 1, 1], [1, 1, 1]), ([1], [1], [1])):
        with pytest.raises(ValueError, match="rising ratios"):
            racu(*wrong)


def test_a_model_that_learns_nothing_has_no_racu(data):
    (train, truth), (test, truth_test) = data
    found = roar(train, test, {"true": Scores(truth, truth_test)}, lambda *_: lambda tokens, _: ["yes"] * len(tokens))
    assert found["true"].racu.value is None


def test_unseen_words_are_never_masked_and_do_not_count():
    (train, truth), (test, truth_test) = split(40, 0, cut=True), split(30, 1, cut=True)
    calls = []
    roar(train, test, {"true": Scores(truth, truth_test)}, bag_fit(calls), ratios=[0.5])
    assert not any(mask[8:].any() for _, masks in calls for mask in masks)
    assert sorted({int(mask.sum()) for _, masks in calls for mask in masks}) == [0, 4, 8]


def test_it_says_what_it_costs_before_the_first_training(data):
    (train, truth), (test, truth_test) = data
    said = []

    def fit(*_):
        assert said == ["roar: 12 trainings on 300 records"]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        roar(train, test, {"true": Scores(truth, truth_test)}, fit, say=said.append)
    for options in ({"ratios": []}, {"ratios": [1.0]}, {"seeds": ()}):
        with pytest.raises(ValueError, match="ratios between 0 and 1"):
            roar(train, test, {}, fit, **options)
