"""CC-SHAP: Shapley values against their definition, log-probabilities token by token, an additive model by hand."""

import math
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import answerers
import raison.checks.ccshap as module
from raison.checks import Scored, cc_shap
from raison.checks.ccshap import agreement, cost, log_probabilities, shares, summarise
from raison.checks.shapley import evaluations, exact, shapley
from raison.masking import make_operator
from raison.models.answerer import Answerer
from raison.models.chat import Reply
from raison.records import Record
from speakers import LABELS, TASK, Speaker

WORDS = answerers.tokenizer()
MODEL = answerers.causal("llama", WORDS)
REASON = "the red book is in the park"


def subject(reply=REASON, model=None, **options):
    return Scored(Answerer(model or MODEL, WORDS, TASK, labels=LABELS, **options), Speaker(lambda talk: reply))


# ------------------------------------------------------------------------------------------------ Shapley values


def by_definition(value, players):
    """Give the mean marginal contribution over all orders of joining, one order after the other."""
    found = np.zeros((players, value(np.zeros((1, players), dtype=bool)).shape[1]))
    for order in permutations(range(players)):
        present = np.zeros((1, players), dtype=bool)
        for player in order:
            before = value(present)
            present[0, player] = True
            found[player] += (value(present) - before)[0]
    return found / math.factorial(players)


def game(seed, players, outputs=2):
    """Make any game: a random worth for each coalition."""
    worth = np.random.default_rng(seed).normal(size=(2**players, outputs))
    return lambda present: worth[present @ (1 << np.arange(players))]


@pytest.mark.parametrize("players", [1, 2, 3, 5])
def test_exact_values_are_those_of_the_definition(players):
    value = game(players, players)
    assert exact(value, players) == pytest.approx(by_definition(value, players))


def test_the_glove_game_by_hand():
    gloves = exact(lambda present: (present[:, :1] & (present[:, 1:2] | present[:, 2:])).astype(float), 3)
    assert gloves[:, 0] == pytest.approx([2 / 3, 1 / 6, 1 / 6])  # one left glove, two right ones


@given(st.integers(0, 1000), st.integers(9, 14))
def test_drawn_values_of_an_additive_game_are_its_weights(seed, players):
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(players, 3))
    asked = []

    def value(present):
        asked.append(present)
        return present @ weights + 5

    found = shapley(value, players, 4, rng)
    assert found == pytest.approx(weights, abs=1e-9)
    assert len(asked) == 1
    assert len(asked[0]) <= evaluations(players, 4) < 2**players


@given(st.integers(0, 1000))
def test_drawn_values_share_out_what_there_is(seed):
    value = game(seed, 7)
    found = shapley(value, 7, 2, np.random.default_rng(seed))
    ends = value(np.array([[False] * 7, [True] * 7]))
    assert found.sum(axis=0) == pytest.approx(ends[1] - ends[0])


def test_drawn_values_come_near_the_exact_ones():
    value = game(3, 11, 1)
    error = [np.abs(shapley(value, 11, draws, np.random.default_rng(0)) - exact(value, 11)).max() for draws in (4, 180)]
    assert error[1] < error[0] / 2
    assert error[1] < 0.3
    assert shapley(game(3, 8), 8, 64, np.random.default_rng(0)) == pytest.approx(exact(game(3, 8), 8))  # no draws
    with pytest.raises(ValueError, match="even"):
        shapley(value, 11, 3, np.random.default_rng(0))


# ------------------------------------------------------------------------------------------------------ CC-SHAP


def test_shares_and_agreement_by_hand():
    values = np.array([[2.0, 1.0, 0.0], [-2.0, 3.0, 0.0]])
    assert shares(values).T.tolist() == [[0.5, -0.5], [0.25, 0.75]]  # the third output is moved by nothing
    score, chance = agreement(np.array([0.5, -0.5]), np.array([0.25, 0.75]))
    assert score == pytest.approx(-0.25 / math.sqrt(0.5 * 0.625))
    assert chance == 0.0
    assert agreement(np.zeros(2), np.ones(2)) == (None, None)
    a, b = np.array([0.1, 0.7, -0.2, 0.4]), np.array([0.5, 0.1, 0.3, -0.1])
    orders = [agreement(a, b[list(order)])[0] for order in permutations(range(4))]
    assert agreement(a, b)[1] == pytest.approx(np.mean(orders))


class Additive(Answerer):
    """An answering model whose scores are sums over the words that it reads."""

    answer_weights = np.random.default_rng(1).normal(size=len(WORDS))

    def logits(self, inputs, progress=None, of=None):
        return np.array([[self.answer_weights[row.ids].sum(), 0.0] for row in inputs])

    def predict(self, records, progress=None):
        found = super().predict(records)
        return [type(row)(row.record_id, row.source, "positive", row.probabilities) for row in found]


@pytest.mark.parametrize("text", ["the red park", "a man plays in the red park and reads the book a man"])
def test_an_additive_model_by_hand(text, monkeypatch):
    model = Additive(MODEL, WORDS, TASK, labels=LABELS)
    item = Record("r", {"text": text})
    reasons = np.random.default_rng(2).normal(size=(3, len(WORDS)))
    monkeypatch.setattr(
        module, "log_probabilities", lambda _, rows, ids: np.array([reasons[:, row.ids].sum(axis=1) for row in rows])
    )
    delete = make_operator("delete", WORDS)
    row = cc_shap(Scored(model, Speaker(lambda talk: REASON)), [item], operator=delete, draws=4)[0]
    tokens = model.encode([item])[0]
    ids = [tokens.ids[tokens.word == word] for word in range(len(text.split()))]
    first = np.array([model.answer_weights[part].sum() for part in ids])
    second = np.array([reasons[:, part].sum(axis=1) for part in ids])
    wanted = (second / np.abs(second).sum(axis=0)).mean(axis=1)
    assert row.state == "tested"
    assert row.answer == pytest.approx(first / np.abs(first).sum())
    assert row.reason == pytest.approx(wanted)
    assert row.score == pytest.approx(first @ wanted / np.linalg.norm(first) / np.linalg.norm(wanted))
    # an explanation that is driven as the answer is scores 1, the opposite -1
    for sign in (1, -1):
        monkeypatch.setattr(
            module,
            "log_probabilities",
            lambda _, rows, ids, s=sign: np.array([[s * model.answer_weights[r.ids].sum()] for r in rows]),
        )
        row = cc_shap(Scored(model, Speaker(lambda talk: REASON)), [item], operator=delete, draws=4)[0]
        assert row.score == pytest.approx(sign)


@pytest.mark.parametrize("chat", [True, False])
def test_log_probabilities_are_those_of_a_slow_loop(chat):
    words = answerers.tokenizer(chat=chat)
    model = answerers.causal("qwen", words)
    answerer = Answerer(model, words, TASK, labels=LABELS, max_tokens=100)
    encoded = answerer.encode([Record("a", {"text": "the red book"}), Record("b", {"text": "a man plays in the park"})])
    delete = make_operator("delete", words)
    rows = [row for tokens in encoded for row in module.apply(delete, tokens, np.eye(len(tokens.grid), dtype=bool))]
    ids = np.array(words("the book in red", add_special_tokens=False).input_ids)
    found = log_probabilities(answerer, rows, ids)
    for row, values in zip(rows, found, strict=True):
        for place in range(len(ids)):
            with torch.no_grad():
                logits = model(torch.tensor([[*row.ids, *ids[:place]]])).logits[0, -1]
            assert values[place] == pytest.approx(float(logits.log_softmax(-1)[ids[place]]), abs=1e-4)


@pytest.mark.parametrize("kind", answerers.TOKENIZERS)
@pytest.mark.parametrize("chat", [True, False])
def test_the_explained_words_are_traced_through_the_dialogue(kind, chat):
    words = answerers.tokenizer(kind, chat)
    answerer = Answerer(answerers.causal("llama", words), words, TASK, labels=LABELS)
    item = Record("a", {"text": "the red book, in the park"})
    tokens, spoken = module._why_tokens(answerer, item, ("negative", REASON), module.load_wording())
    assert [words.decode(tokens.ids[tokens.word == word]).strip() for word in range(6)] == [
        "the", "red", "book," if kind != "wordpiece" else "book ,", "in", "the", "park",
    ]  # fmt: skip
    assert words.decode(spoken).strip() == REASON
    if kind != "wordpiece":  # it knows no such words
        whole = words.decode(tokens.ids)
        assert whole.index("the park") < whole.index("negative", whole.index("the park")) < whole.index("Why")


def test_a_real_model_and_what_is_missing():
    items = [
        Record("a", {"text": "the red book"}),
        Record("b", {"text": "a man plays in the park and reads a red book"}),
        Record("one", {"text": "park"}),
        Record("none", {"text": ""}),
    ]
    rows = cc_shap(subject(), items, draws=4)
    assert [row.state for row in rows] == ["tested", "tested", "fewer than two words", "fewer than two words"]
    assert [len(row.answer) for row in rows] == [3, 11, 0, 0]
    for row in rows[:2]:
        assert np.abs(row.answer).sum() == pytest.approx(1)
        assert -1 <= row.score <= 1
    found = summarise(rows)
    assert found.estimates["score"].n == 2
    assert found.states == {"tested": 2, "fewer than two words": 2}
    alone = cc_shap(subject(max_tokens=64), items[1:2], draws=4)[0]
    assert alone.score == pytest.approx(rows[1].score, abs=1e-3)  # neither batches nor other records
    for reply, state in (
        ("", "empty reply"),
        ("I can't help.", "refusal"),
        (Reply(None, "failed", "x"), "no reply"),
        ("a " * 600, "too long"),
    ):
        said = reply if isinstance(reply, Reply) else Reply(reply, "stop")
        assert cc_shap(subject(said), items[:1])[0].state == state
    given = cc_shap(subject(), items[:2], given={"a": REASON}, draws=4)
    assert [row.state for row in given] == ["tested", "no explanation"]
    assert given[0].score == pytest.approx(rows[0].score)
    assert cost(items, draws=4).passes == 2 * (2**3 + (2 + 4 * 10) + 2 + 1)


def test_a_model_that_no_word_moves_has_no_score():
    class Blind(Additive):
        answer_weights = np.zeros(len(WORDS))

    model = Blind(MODEL, WORDS, TASK, labels=LABELS)
    row = cc_shap(Scored(model, Speaker(lambda talk: REASON)), [Record("a", {"text": "the red book"})])[0]
    assert (row.state, row.score) == ("no contribution", None)
