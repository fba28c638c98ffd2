"""Every metric of faithfulness on one toy, by hand from its published definition, as `evaluate` gives it.

Three words, a model that is a table: the probability of `yes` for each set of words that is left. The scores are 3, 1
and 2, so the order of words is a, c, b; the rationale has one word, a.

    left    abc   bc    ac    ab    a     b     c     none
    p(yes)  0.9   0.4   0.55  0.6   0.7   0.5   0.3   0.2
"""

import math

import numpy as np
import pytest

from answerers import tokenizer
from raison.evaluation.evaluate import evaluate
from raison.rationales import WordScores
from raison.records import Record
from raison.words import Tokens, word_grid

LEFT = {"abc": 0.9, "bc": 0.4, "ac": 0.55, "ab": 0.6, "a": 0.7, "b": 0.5, "c": 0.3, "": 0.2}
TUNED = {**LEFT, "bc": 0.4, "ac": 0.45, "ab": 0.8}
RECORD = Record("r", {"text": "a b c"}, label="yes")
WORDS = np.array(["a", "b", "c"])


class Table:
    """Answers from a table; of embeddings kept in part, it reads the words kept with a chance above one half."""

    name, labels = "table", ("yes", "no")
    tokenizer = tokenizer()

    def __init__(self, table=LEFT):
        self.table = table

    def encode(self, records):
        grid = word_grid(RECORD)
        return [Tokens(grid, np.arange(3), np.zeros(3, dtype=int), np.arange(3)) for _ in records]

    def _answer(self, kept):
        yes = self.table["".join(WORDS[kept])]
        return [yes, 1 - yes]

    def predict_masked(self, tokens, masks, operator, known=None):
        return [np.array([self._answer(~gone) for gone in rows]).reshape(-1, 2) for rows in masks]

    def predict_soft(self, tokens, keep, draws, seed=0):
        """Give the answer of every draw; the draws of a word kept with the chance 1/2 take turns."""
        turns = [lambda row: row > 0.5, lambda row: row >= 0.5]
        return [np.array([[self._answer(turns[d % 2](row)) for d in range(draws)] for row in rows]) for rows in keep]


@pytest.fixture(scope="module")
def metrics():
    scores = [WordScores("r", "m", "yes", {"text": np.array([3, 1, 2], dtype=np.float32)})]
    options = {"budget": "k:1", "ratios": (0.3, 0.6), "one_out": True, "draws": 2, "resamples": 50}
    also = ["normalised", "log-odds", "flips", "naopc", "soft", "f-fidelity"]
    verdict = evaluate(Table(), [RECORD], scores, also=also, tuned=Table(TUNED), **options)
    return verdict.items[0].sources["m"].metrics


def logit(p):
    return math.log(p / (1 - p))


BY_HAND = {
    # DeYoung et al. 2020: p(x) - p(x without r), p(x) - p(r alone)
    "comprehensiveness": 0.9 - 0.4,
    "sufficiency": 0.9 - 0.7,
    # the mean over shares: 0.3 of 3 words is one (a), 0.6 two (a, c)
    "aopc_comprehensiveness": ((0.9 - 0.4) + (0.9 - 0.5)) / 2,
    "aopc_sufficiency": ((0.9 - 0.7) + (0.9 - 0.55)) / 2,
    # Fayyaz et al. 2024: without a the answer is no; a alone gives yes
    "flip_rate": 1.0,
    "sufficiency_flip_rate": 0.0,
    # Jain and Wallace 2019: drops without a, b, c are .5, .35, .3, scores 3, 1, 2: two pairs alike, one (b, c) reversed
    "tau_loo": 1 / 3,
    # Carton et al. 2020: what no word costs is 0.9 - 0.2 = 0.7
    "normalised_comprehensiveness": 0.5 / 0.7,
    "normalised_sufficiency": 1 - 0.2 / 0.7,
    "log_odds": logit(0.9) - logit(0.4),
    # Huang et al. 2023: the answer flips at the first of three words, and by the top word alone
    "flip_fraction": 1 / 3,
    "flip_top": 1.0,
    # Edin et al. 2024: words go in the order a, c, b: drops .5, .4, .7, mean 1.6/3. Of all six orders the mean drops
    # times 3 are abc .5+.6+.7, acb .5+.4+.7, bac .35+.6+.7, bca .35+.2+.7, cab .3+.4+.7, cba .3+.2+.7: 1.2 to 1.8
    "naopc_comprehensiveness": (1.6 - 1.2) / (1.8 - 1.2),
    "naopc_sufficiency": (1.25 - 1.2) / (1.8 - 1.2),  # the order b, c, a
    # Zhao and Aletras 2023: a = 1, b = 0, c = 1/2. Kept by 1 - a: b and, in every other draw, c: p .5 and .4, drops .4
    # and .5; kept by a: a and every other c: p .7 and .55, drops .2 and .35
    "soft_comprehensiveness": (0.4 / 0.7 + 0.5 / 0.7) / 2,
    "soft_sufficiency": ((1 - 0.2 / 0.7) + (1 - 0.35 / 0.7)) / 2,
}


@pytest.mark.parametrize("name", BY_HAND)
def test_by_hand(metrics, name):
    assert metrics[name] == pytest.approx(BY_HAND[name], abs=1e-6)


def test_f_fidelity_by_hand(metrics):
    """Zheng et al. 2025: beta n = 0.3 words at most go, so each word of r with chance .3, each of the rest with .15.

    The tuned model says no only where a alone is gone ("bc", 0.4) or b alone ("ac", 0.45).
    """
    draws = 50
    assert metrics["f_fidelity_plus"] * draws == pytest.approx(round(metrics["f_fidelity_plus"] * draws))
    assert metrics["f_fidelity_plus"] == pytest.approx(0.3, abs=0.2)  # P(a gone): 3 standard errors
    assert metrics["f_fidelity_minus"] == pytest.approx(0.15 * 0.85, abs=0.15)  # P(b gone, c left)
