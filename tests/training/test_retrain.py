"""Training anew on masked records, for ROAR."""

import numpy as np
import pytest
import torch

from raison.evaluation.roar import Scores, Split, roar
from raison.masking import make_operator
from raison.records import Record
from raison.testbed import make_corpus, truth_mask
from raison.training.retrain import fitter
from raison.training.small import untrained
from raison.words import word_grid

FILLER = "a the man woman in park is".split()  # noqa: SIM905
SIGNS = {"entailment": "dog", "neutral": "book", "contradiction": "happy"}


def split(classifier, n, seed):
    """Texts of 8 words, one of which says the label."""
    rng = np.random.default_rng(seed)
    records, truth = [], []
    for index in range(n):
        label, place = str(rng.choice(list(SIGNS))), int(rng.integers(8))
        words = list(rng.choice(FILLER, 8))
        words[place] = SIGNS[label]
        records.append(Record(f"{seed}-{index}", {"text": " ".join(words)}, label=label))
        truth.append(np.eye(8)[place])
    return Split(classifier.encode(records), [record.label for record in records]), truth


def test_what_is_masked_in_training_is_not_learned(tiny):
    """With the deciding word masked a fresh model is at chance; without, it learns; the same seed, the same model."""
    classifier = tiny.build("bert")
    operator = make_operator("mask", classifier.tokenizer)
    train, truth = split(classifier, 240, 0)
    test, truth_test = split(classifier, 120, 1)
    fit = fitter(lambda seed: tiny.build("bert", seed), operator, epochs=6, learning_rate=1e-2)
    nothing, masked = ([np.zeros(8, dtype=bool)] * len(part.tokens) for part in (train, test)), (truth, truth_test)

    def accuracy(masks):
        in_training, in_test = ([row.astype(bool) for row in part] for part in masks)
        answers = fit(train, in_training, 0)(test.tokens, in_test)
        return np.mean([a == b for a, b in zip(answers, test.labels, strict=True)])

    state = torch.get_rng_state()
    assert accuracy(nothing) > 0.9
    assert accuracy(masked) < 0.55
    assert torch.equal(torch.get_rng_state(), state)  # what others draw is not disturbed


def test_the_same_seed_gives_the_same_model(tiny):
    classifier = tiny.build("bert")
    train, truth = split(classifier, 60, 0)
    masks = [row.astype(bool) for row in truth]
    fit = fitter(lambda seed: tiny.build("bert", seed), make_operator("mask", classifier.tokenizer), epochs=2)
    answers = [fit(train, masks, seed)(train.tokens, masks) for seed in (1, 1, 2)]
    assert answers[0] == answers[1]
    assert answers[0] != answers[2]


@pytest.mark.slow
def test_the_planted_words_of_the_testbed_cost_a_new_model_more_than_random_ones():
    start = untrained("single")
    operator = make_operator("mask", start.tokenizer)
    parts = []
    for size, seed in ((1800, 5), (450, 6)):
        # not the neutral ones: they have no planted word, so that where masks stand would tell them from the others
        records = [record for record in make_corpus("single", size, seed, length=1) if record.label != "neutral"]
        truth = [truth_mask(record, word_grid(record)).astype(float) for record in records]
        parts.append((Split(start.encode(records), [record.label for record in records]), truth))
    (train, truth), (test, truth_test) = parts
    fit = fitter(lambda seed: untrained("single"), operator, epochs=15)
    found = roar(train, test, {"planted": Scores(truth, truth_test)}, fit, ratios=[0.2])["planted"]
    assert found.method[1] < 0.6
    assert found.random[1] > 0.65
    assert found.racu.low > 0
