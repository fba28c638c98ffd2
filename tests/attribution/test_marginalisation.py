"""Input marginalisation: the mathematics in float64 by hand, what is drawn, and a whole vocabulary gone through."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch.autograd import gradcheck
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification

from raison.attribution import extract, extract_to_file
from raison.attribution import extract as extract_function
from raison.attribution.marginalisation import (
    Replacer,
    candidates_of,
    drawable,
    load_masked_lm,
    log_odds,
    log_probabilities,
    marginal_log_odds,
)
from raison.models import Classifier
from raison.rationales import load_scores
from raison.records import InputError, Record
from raison.words import Tokens, word_grid

LABELS = ("a", "b", "c")


def odds(p):
    """Log-odds in base 2 of a probability, as the formula has it."""
    return math.log2(p / (1 - p))


def flat(scores):
    return np.concatenate(list(scores.scores.values()))


def alone(model, ids, types):
    """Score one unpadded input by the bare model: probabilities of labels, float64."""
    with torch.no_grad():
        given = {"token_type_ids": torch.from_numpy(types[None])}
        logits = model(input_ids=torch.from_numpy(ids[None]), **given).logits
    return torch.softmax(logits[0].double(), dim=-1).numpy()


@pytest.fixture(scope="module")
def bert(tiny):
    return tiny.build("bert")


@pytest.fixture(scope="module")
def row(bert):
    """A record of words of one token, and of more."""
    return bert.encode([Record("r", {"text": "the man reads xyz in the park"})])[0]


def save_masked_lm(tiny, folder, tokenizer=None):
    """Write a tiny masked language model with the classifiers' tokenizer."""
    tokenizer = tokenizer or tiny.bert_tokenizer()
    wide = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    torch.manual_seed(3)
    config = BertConfig(vocab_size=len(tokenizer), initializer_range=0.5, max_position_embeddings=96, **wide)
    BertForMaskedLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def masked_lm(tiny, tmp_path_factory):
    return save_masked_lm(tiny, tmp_path_factory.mktemp("mlm") / "mlm")


# --------------------------------------------------------------------------------------------------- mathematics


@given(st.lists(st.floats(1e-12, 1 - 1e-12), min_size=1, max_size=6), st.integers(0, 99))
def test_the_odds_of_a_mean_are_those_of_the_formula(chances, seed):
    weights = np.random.default_rng(seed).dirichlet(np.ones(len(chances)))
    p, w = torch.tensor(chances, dtype=torch.float64), torch.from_numpy(weights)
    found = marginal_log_odds(p.log(), torch.log1p(-p), w.log())
    mean, rest = float((p * w).sum()), float(((1 - p) * w).sum())  # 1 - mean would lose what is near 0
    assert float(found) == pytest.approx(np.log2(mean / rest), rel=1e-9, abs=1e-9)
    assert float(log_odds(p.log(), torch.log1p(-p))[0]) == pytest.approx(odds(chances[0]), rel=1e-6, abs=1e-4)


@pytest.mark.parametrize("lead", [-200.0, -60.0, -3.0, 0.0, 3.0, 60.0, 200.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_nothing_is_lost_near_0_and_near_1(lead, dtype):
    """Section 6, item 7: two labels `lead` nats apart have odds of lead / ln 2, with the gradient 1 / ln 2."""
    logits = torch.tensor([[lead, 0.0]], dtype=dtype, requires_grad=True)
    log_p, log_not = log_probabilities(logits, torch.tensor([0]))
    assert log_p.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    found = marginal_log_odds(log_p[:, None], log_not[:, None], torch.zeros(1, 1))
    found.sum().backward()
    assert found.item() == pytest.approx(lead / math.log(2), rel=1e-5, abs=1e-6)
    near = {"rel": 1e-2 if dtype == torch.bfloat16 else 1e-4}
    assert logits.grad.tolist()[0] == [pytest.approx(1 / math.log(2), **near), pytest.approx(-1 / math.log(2), **near)]


@settings(max_examples=20)
@given(st.integers(0, 99), st.floats(0.1, 40))
def test_gradients_are_finite_differences(seed, spread):
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(size=(3, 4)) * spread).requires_grad_()
    weights = torch.from_numpy(np.log(rng.dirichlet(np.ones(3))))
    labels = torch.from_numpy(rng.integers(0, 4, 3))

    def whole(given):
        return marginal_log_odds(*log_probabilities(given, labels), weights)

    assert gradcheck(whole, (logits,), rtol=1e-4, atol=1e-5)


def test_rows_pick_their_own_labels():
    logits = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([2, 0, 1, 1])
    log_p, log_not = log_probabilities(logits, labels)
    for one, label, p, rest in zip(logits.tolist(), labels.tolist(), log_p, log_not, strict=True):
        size = [math.exp(value) for value in one]
        assert math.exp(p) == pytest.approx(size[label] / sum(size))
        assert math.exp(rest) == pytest.approx(1 - size[label] / sum(size))


# -------------------------------------------------------------------------------------------------- replacements


def drawn(replacer, row, chosen, times, seed=0):
    """Draw, and give the tokens (times, places) that came."""
    found = replacer.draw(row, chosen, times, np.random.default_rng(seed))
    rest = ~chosen
    assert (found.ids[:, rest] == row.ids[rest]).all()  # what is not chosen stays
    assert np.exp(found.log_weights).sum() == pytest.approx(1)
    return found.ids[:, chosen], found.log_weights


def test_uniform_draws_every_token_alike(bert, row):
    known = drawable(bert.tokenizer)
    ids, weights = drawn(Replacer("uniform", bert.tokenizer), row, row.word == 1, 20_000)
    counts = np.bincount(ids[:, 0], minlength=len(bert.tokenizer))
    assert counts[known].sum() == 20_000
    assert chisquare(counts[known]).pvalue > 0.01
    np.testing.assert_allclose(weights, -math.log(20_000))


def test_prior_draws_tokens_as_often_as_texts_have_them(bert, row):
    """Section 6, item 10: tokens as the model reads them, of all fields; none that no text has."""
    texts = bert.encode([Record("1", {"p": "the man the the", "h": "a dog reads the book"})])
    ids, _ = drawn(Replacer("prior", bert.tokenizer, texts), row, row.word == 1, 20_000)
    names = "the", "man", "a", "dog", "reads", "book"
    expected = dict(zip(bert.tokenizer.convert_tokens_to_ids(list(names)), (4, 1, 1, 1, 1, 1), strict=True))
    counts = np.bincount(ids[:, 0], minlength=len(bert.tokenizer))
    assert set(np.flatnonzero(counts)) == set(expected)
    shares = np.array(list(expected.values())) / 9
    assert chisquare(counts[list(expected)], shares * 20_000).pvalue > 0.01


def test_neighbours_are_drawn_by_themselves(bert, row):
    """Two places together: every pair as often as any other."""
    texts = bert.encode([Record("1", {"text": "the man"})])
    chosen = (row.word == 0) | (row.word == 2)
    ids, _ = drawn(Replacer("prior", bert.tokenizer, texts), row, chosen, 8_000)
    _, counts = np.unique(ids, axis=0, return_counts=True)
    assert len(counts) == 4
    assert chisquare(counts).pvalue > 0.01


@pytest.mark.parametrize("kind", ["bert", "roberta", "gpt2", "llama"])
def test_special_and_unused_tokens_are_never_drawn(tiny, kind):
    """Section 6, item 9."""
    tokenizer = tiny.bert_tokenizer((*"ab", "[unused1]", "[unused2]")) if kind == "bert" else tiny.byte_tokenizer(kind)
    known = set(drawable(tokenizer).tolist())
    unused = set(tokenizer.convert_tokens_to_ids(["[unused1]", "[unused2]"])) if kind == "bert" else set()
    assert known == set(range(len(tokenizer))) - set(tokenizer.all_special_ids) - unused
    row = Tokens(
        word_grid(Record("r", {"text": "x"})), np.array([0, 3]), np.zeros(2, dtype=np.int64), np.array([-1, 0])
    )
    ids, _ = drawn(Replacer("uniform", tokenizer), row, row.word == 0, 3_000)
    assert set(ids[:, 0].tolist()) <= known


def test_mask_is_one_draw_of_words_alone(bert, row):
    """Section 6, item 9: what is chosen is masked, and special tokens never are."""
    found = Replacer("mask", bert.tokenizer).draw(row, row.word == 3, 7, np.random.default_rng(0))
    assert found.ids.shape == (1, len(row.ids))
    assert found.log_weights.tolist() == [0.0]
    expected = np.where(row.word == 3, bert.tokenizer.mask_token_id, row.ids)
    assert found.ids[0].tolist() == expected.tolist()
    assert (row.word == 3).sum() == 3  # letters of xyz
    assert found.ids[0, 0] == bert.tokenizer.cls_token_id


def test_renormalised_weights_are_the_published_ones(bert, row):
    """Spec 1.4: w_s = mean over places of the drawn probabilities, made to add up to 1 at each place over the draws."""
    texts = bert.encode([Record("1", {"text": "the the the man a a"})])
    chance = dict(zip(bert.tokenizer.convert_tokens_to_ids(["the", "man", "a"]), (3 / 6, 1 / 6, 2 / 6), strict=True))
    chosen = (row.word == 0) | (row.word == 4)
    ids, weights = drawn(Replacer("prior", bert.tokenizer, texts, weights="renormalised"), row, chosen, 5, seed=2)
    assert len(set(map(tuple, ids.tolist()))) > 2
    for s in range(5):
        terms = [chance[ids[s, i]] / sum(chance[ids[r, i]] for r in range(5)) for i in range(2)]
        assert math.exp(weights[s]) == pytest.approx(sum(terms) / 2)
    _, even = drawn(Replacer("uniform", bert.tokenizer, weights="renormalised"), row, chosen, 5)
    np.testing.assert_allclose(even, -math.log(5))


def test_replacing_nothing_leaves_the_record(bert, row):
    for weights in ("unbiased", "renormalised"):
        replacer = Replacer("uniform", bert.tokenizer, weights=weights)
        ids, found = drawn(replacer, row, np.zeros(len(row.ids), dtype=bool), 3)
        assert ids.shape == (3, 0)
        np.testing.assert_allclose(found, -math.log(3))


@pytest.mark.parametrize("max_tokens", [10, 10_000])
def test_masked_lm_candidates_are_those_of_a_slow_loop(bert, masked_lm, row, max_tokens):
    """Section 6, item 9: the token that stands there is never among them."""
    network = load_masked_lm(str(masked_lm), bert)
    pair = bert.encode([Record("p", {"a": "the dog", "b": "a man sleeps"})])[0]
    sized = Classifier(bert.model, bert.tokenizer, max_tokens=max_tokens)
    found = candidates_of(network, sized, [row, pair], count=7)
    assert found.keys() == {"r", "p"}
    barred = sorted(set(range(len(bert.tokenizer))) - set(drawable(bert.tokenizer).tolist()))
    for one in (row, pair):
        ids, chances = found[one.grid.record_id]
        assert ids.shape == chances.shape == (len(one.ids), 7)
        for place in np.flatnonzero(one.word >= 0):
            masked = one.ids.copy()
            masked[place] = bert.tokenizer.mask_token_id
            with torch.no_grad():
                given = {"token_type_ids": torch.from_numpy(one.types[None])}
                logits = network(input_ids=torch.from_numpy(masked[None]), **given).logits[0, place].double().numpy()
            logits[[*barred, one.ids[place]]] = -np.inf
            best = np.argsort(-logits)[:7]
            assert ids[place].tolist() == best.tolist()
            expected = np.exp(logits[best]) / np.exp(logits[best]).sum()
            np.testing.assert_allclose(chances[place], expected, rtol=1e-4)
            assert one.ids[place] not in ids[place]


def test_masked_lm_draws_come_as_often_as_they_are_likely(bert, masked_lm, row):
    candidates = candidates_of(load_masked_lm(str(masked_lm), bert), bert, [row], count=5)
    ids, _ = drawn(Replacer("masked-lm", bert.tokenizer, candidates=candidates), row, row.word == 2, 8_000)
    (place,) = np.flatnonzero(row.word == 2)
    known, chances = candidates["r"][0][place], candidates["r"][1][place]
    counts = np.array([(ids == index).sum() for index in known])
    assert counts.sum() == 8_000
    assert chisquare(counts, chances * 8_000).pvalue > 0.01


def test_no_more_candidates_than_there_are_tokens(bert, masked_lm, row):
    ids, chances = candidates_of(load_masked_lm(str(masked_lm), bert), bert, [row], count=10**6)["r"]
    assert ids.shape[1] == len(drawable(bert.tokenizer)) - 1
    np.testing.assert_allclose(chances[row.word >= 0].sum(axis=1), 1)


# ----------------------------------------------------------------------------------------- a whole vocabulary


@pytest.fixture(scope="module")
def small(tiny):
    """A classifier with a vocabulary of so few tokens that all of them can be tried."""
    tokenizer = tiny.bert_tokenizer(("red", "dog"))
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghij"]
    backend = {token: index for index, token in enumerate(names)}
    tokenizer.backend_tokenizer.model = type(tokenizer.backend_tokenizer.model)(backend, unk_token="[UNK]")
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=len(backend), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24,
        initializer_range=0.6, num_labels=3, id2label=dict(enumerate(LABELS)), pad_token_id=0,
    )  # fmt: skip
    return Classifier(BertForSequenceClassification(config), tokenizer)


def enumerated(small, row, place, chances):
    """The probability of each label, a place summed out over the whole vocabulary: a slow loop with the bare model."""
    total = np.zeros(3)
    for index, chance in chances.items():
        ids = row.ids.copy()
        ids[place] = index
        total += chance * alone(small.model, ids, row.types)
    return total


def test_all_draws_weighted_by_q_are_the_sum_over_the_vocabulary(small):
    row = small.encode([Record("r", {"text": "a b c"})])[0]
    rng, known = np.random.default_rng(0), drawable(small.tokenizer)
    assert len(known) == 10
    chances = dict(zip(known.tolist(), rng.dirichlet(np.ones(10)), strict=True))
    versions = np.repeat(row.ids[None], 10, axis=0)
    versions[:, 2] = known
    logits = torch.from_numpy(np.log([alone(small.model, ids, row.types) for ids in versions]))
    for label in range(3):
        log_p, log_not = log_probabilities(logits, torch.full((10,), label))
        found = marginal_log_odds(log_p, log_not, torch.tensor(list(chances.values())).log())
        assert float(found) == pytest.approx(odds(enumerated(small, row, 2, chances)[label]), abs=1e-9)


@pytest.mark.parametrize("kind", ["uniform", "prior", "masked-lm"])
def test_draws_converge_to_the_sum_over_the_vocabulary(small, kind):
    """Section 6, item 10: without bias; the published weights count a prior twice, and miss."""
    row = small.encode([Record("r", {"text": "a b c"})])[0]
    texts = small.encode([Record("1", {"text": "a a a a b b c d"})])
    ids = drawable(small.tokenizer)
    table = np.random.default_rng(5).dirichlet(np.ones(10), size=len(row.ids))
    candidates = {"r": (np.repeat(ids[None], len(row.ids), axis=0), table)}
    replacer = Replacer(kind, small.tokenizer, texts, candidates)
    chances = dict(zip(ids.tolist(), table[2] if kind == "masked-lm" else replacer.probabilities, strict=True))
    expected = enumerated(small, row, 2, chances)
    here = np.arange(len(row.ids)) == 2
    by_token = {index: alone(small.model, np.where(here, index, row.ids), row.types) for index in chances}
    tokens, weights = drawn(replacer, row, here, 4_000, seed=8)
    values = np.array([by_token[index] for index in tokens[:, 0]])
    mean = (np.exp(weights)[:, None] * values).sum(axis=0)
    error = values.std(axis=0) / math.sqrt(len(values))
    assert (np.abs(mean - expected) < 4 * error).all()
    replacer.weights = "renormalised"
    _, biased = drawn(replacer, row, here, 4_000, seed=8)
    squares = {index: chance**2 for index, chance in chances.items()}
    total = sum(squares.values())
    proportional = enumerated(small, row, 2, {index: value / total for index, value in squares.items()})
    assert (np.abs((np.exp(biased)[:, None] * values).sum(axis=0) - proportional) < 6 * error).all()


# --------------------------------------------------------------------------------------------------- attribution


def by_hand(model, row, replacer, label):
    """Weights of evidence (words,) of 3 draws by the seed 4, one word and one draw after the other."""
    rng = np.random.default_rng([4, *row.grid.record_id.encode()])
    whole = odds(alone(model.model, row.ids, row.types)[label])
    found = np.full(len(row.grid), np.nan)
    for word in range(len(row.grid)):
        if (row.word == word).any():
            given = replacer.draw(row, row.word == word, 3, rng)
            parts = [
                math.exp(weight) * alone(model.model, ids, row.types)[label]
                for ids, weight in zip(given.ids, given.log_weights, strict=True)
            ]
            found[word] = whole - odds(sum(parts))
    return found


@pytest.mark.parametrize("kind", ["uniform", "mask", "prior", "masked-lm"])
def test_scores_are_those_of_a_slow_loop(bert, tiny, masked_lm, kind):
    records = tiny.records()
    tokens = bert.encode(records)
    name = f"masked-lm:{masked_lm}" if kind == "masked-lm" else kind
    options = {"replacement": name, "draws": 3, "seed": 4}
    candidates = candidates_of(load_masked_lm(str(masked_lm), bert), bert, tokens) if name != kind else None
    replacer = Replacer(kind, bert.tokenizer, tokens, candidates)
    for target in ("predicted", "neutral"):
        for row, scores in zip(
            tokens, extract(bert, records, "input-marginalisation", target=target, **options), strict=True
        ):
            label = bert.labels.index(scores.target)
            np.testing.assert_allclose(flat(scores), by_hand(bert, row, replacer, label), atol=1e-4, rtol=1e-4)
            assert scores.convention["score"] == "log_odds"
            assert (scores.convention["replacement"], scores.convention["draws"]) == (name, 3)
            assert scores.convention["signed"]


def test_one_label_of_two_has_the_opposite_evidence_of_the_other(tiny):
    records = [Record(str(i), {"text": text}) for i, text in enumerate(["the man reads", "a dog in the park"])]
    made = tiny.build("bert")
    made.model.config.id2label, made.model.config.label2id = {0: "no", 1: "yes"}, {"no": 0, "yes": 1}
    made.model.classifier = torch.nn.Linear(32, 2)
    made.model.num_labels = 2
    model = Classifier(made.model, made.tokenizer)
    yes, no = (extract(model, records, "input_marginalisation", target=label) for label in ("yes", "no"))
    for one, other in zip(yes, no, strict=True):
        np.testing.assert_allclose(flat(one), -flat(other), atol=1e-5)


def test_a_record_is_the_same_in_whatever_company(bert, tiny, tmp_path, monkeypatch):
    """Also of `prior`, which counts all the records, however few are scored together."""
    records = tiny.records()
    whole = extract(bert, records, "input_marginalisation", replacement="prior")
    module = __import__("sys").modules[extract_function.__module__]
    monkeypatch.setattr(module, "CHUNK", 2)
    extract_to_file(tmp_path / "im.jsonl", bert, records, "input_marginalisation", replacement="prior")
    for one, other in zip(whole, load_scores(tmp_path / "im.jsonl"), strict=True):
        np.testing.assert_allclose(flat(one), flat(other), atol=1e-5)
    turned = extract(bert, records[::-1], "input_marginalisation")[::-1]
    for one, other in zip(extract(bert, records, "input_marginalisation"), turned, strict=True):
        np.testing.assert_allclose(flat(one), flat(other), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"replacement": "bert"}, "'bert': expected mask, uniform, prior, masked-lm"),
        ({"replacement": "masked-lm"}, "need a language model with the same tokenizer: masked-lm:NAME"),
        ({"replacement": "mask:x/y"}, "'mask:x/y': only masked-lm takes the name of a model"),
        ({"replacement": "masked-lm:./none"}, "./none: no such folder"),
        ({"draws": 0}, "draws 0: expected at least one"),
        ({"target": "predicted - runner-up"}, "a contrast of two has no odds"),
        ({"target": "neutral - contradiction"}, "a contrast of two has no odds"),
        ({"reduction": "sum"}, "takes no option 'reduction'; it takes draws, replacement, seed"),
    ],
)
def test_what_cannot_be_is_one_line(bert, tiny, tmp_path, options, message):
    for call in (extract, lambda *given, **named: extract_to_file(tmp_path / "out.jsonl", *given, **named)):
        with pytest.raises(InputError, match=message.replace("(", r"\(")) as caught:
            call(bert, tiny.records(), "input_marginalisation", **options)
        assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_models_and_tokenizers_that_cannot_are_said_in_a_line(bert, tiny, masked_lm, tmp_path):
    single = tiny.build("bert")
    single.labels = ("only",)
    with pytest.raises(InputError, match="has a single output, which has no odds"):
        extract(single, tiny.records(), "input_marginalisation", target="only")
    with pytest.raises(InputError, match="neither a mask nor an unknown token"):
        Replacer("mask", tiny.byte_tokenizer("gpt2"))
    with pytest.raises(InputError, match="need texts to count tokens in"):
        Replacer("prior", bert.tokenizer, [])
    with pytest.raises(InputError, match="'paper': expected unbiased, renormalised"):
        Replacer("uniform", bert.tokenizer, weights="paper")
    with pytest.raises(InputError, match="its tokens are not those of roberta"):
        load_masked_lm(str(masked_lm), tiny.build("roberta"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="can't be loaded as a masked language model") as caught:
        load_masked_lm(str(tmp_path / "empty"), bert)
    assert "\n" not in str(caught.value)
    bert.model.save_pretrained(tmp_path / "headless")
    bert.tokenizer.save_pretrained(tmp_path / "headless")
    with pytest.raises(InputError, match=r"not a masked language model: the file of weights lacks cls\.predictions"):
        load_masked_lm(str(tmp_path / "headless"), bert)
