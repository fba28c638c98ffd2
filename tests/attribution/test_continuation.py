"""Scores of words for each token of a continuation, against a slow loop and Captum."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from answerers import causal, tokenizer
from raison.attribution import continuation
from raison.masking import apply, make_operator
from raison.models import Answerer
from raison.models.prefix import SharedPrefix
from raison.records import InputError, Record

LABELS = {"entailment": "entailment", "neutral": "neutral", "contradiction": "contradiction"}
RECORD = Record("r", {"premise": "a man reads a red book in the park", "hypothesis": "the man plays plays"})


def answerer(kind="llama", **options):
    words = tokenizer("byte", chat=False)
    return Answerer(causal(kind, words, **options), words, "nli", labels=list(LABELS))


def slow(model, ids, reply):
    """log p of each token of the reply, with one pass for each."""
    found = []
    for place, token in enumerate(reply):
        row = torch.tensor([[*ids, *reply[:place]]])
        with torch.no_grad():
            found.append(float(model.model(row).logits[0, -1].log_softmax(-1)[token]))
    return np.array(found)


def reply_of(model, size=5, seed=0):
    return np.random.default_rng(seed).integers(10, model.model.config.vocab_size, size).tolist()


@pytest.mark.parametrize("kind", ["llama", "gpt2", "qwen"])
@pytest.mark.parametrize("operator", ["delete", "unknown", "text:in the"])
def test_occlusion_equals_a_loop_over_words_and_tokens(kind, operator):
    model = answerer(kind)
    prompt, reply = model.encode([RECORD])[0], reply_of(model)
    chosen = make_operator(operator, model.tokenizer)
    expected = []
    for word in range(len(prompt.grid)):
        version = apply(chosen, prompt, np.arange(len(prompt.grid))[None] == word)[0]
        expected.append(slow(model, prompt.ids, reply) - slow(model, version.ids, reply))
    found = continuation(model, prompt, reply, operator=chosen)
    assert found.shape == (len(prompt.grid), len(reply))
    np.testing.assert_allclose(found, expected, atol=2e-5)
    assert np.abs(found).max() > 0.01


@pytest.mark.parametrize("method", ["gradient", "input_x_gradient"])
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_gradients_equal_one_pass_for_each_token(kind, method):
    model = answerer(kind)
    prompt, reply = model.encode([RECORD])[0], reply_of(model)
    expected = np.zeros((len(prompt.grid), len(reply)))
    for place, token in enumerate(reply):
        row = torch.tensor([[*prompt.ids.tolist(), *reply[:place]]])
        embeds = model.model.get_input_embeddings()(row).detach().requires_grad_()
        value = model.model(inputs_embeds=embeds).logits[0, -1].log_softmax(-1)[token]
        grads = torch.autograd.grad(value, embeds)[0][0]
        tokens = grads.norm(dim=-1) if method == "gradient" else (grads * embeds[0].detach()).sum(-1)
        for index, word in enumerate(prompt.word.tolist()):
            if word >= 0:
                expected[word, place] += float(tokens[index])
    np.testing.assert_allclose(continuation(model, prompt, reply, method), expected, atol=2e-5, rtol=1e-4)


def test_it_equals_captum():
    captum = pytest.importorskip("captum.attr")
    model = answerer()
    prompt, reply = model.encode([RECORD])[0], reply_of(model)
    unknown = model.tokenizer.unk_token_id

    def forward(ids):
        whole = torch.cat([ids, torch.tensor(reply).expand(len(ids), -1)], dim=1)
        logits = model.model(whole).logits[:, -len(reply) - 1 : -1].log_softmax(-1)
        return logits[:, torch.arange(len(reply)), reply]

    features = torch.from_numpy(prompt.word + 1)[None]  # 0: what is no word
    for place in range(len(reply)):
        scores = captum.FeatureAblation(lambda ids, place=place: forward(ids)[:, place]).attribute(
            torch.from_numpy(prompt.ids)[None], baselines=unknown, feature_mask=features
        )[0]
        first = [int(np.flatnonzero(prompt.word == word)[0]) for word in range(len(prompt.grid))]
        found = continuation(model, prompt, reply, operator=make_operator("unknown", model.tokenizer, "token"))
        np.testing.assert_allclose(found[:, place], scores.detach().numpy()[first], atol=1e-4)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 6), st.integers(0, 99), st.integers(20, 400))
def test_batches_and_shared_beginnings_make_no_difference(size, seed, budget):
    model = answerer()
    prompt, reply = model.encode([RECORD])[0], reply_of(model, size, seed)
    expected = continuation(model, prompt, reply)
    model.max_tokens = budget
    np.testing.assert_allclose(continuation(model, prompt, reply), expected, atol=2e-5)


def test_a_reply_that_repeats_a_deleted_end_shares_no_place_that_is_read():
    model = answerer()
    prompt = model.encode([Record("r", {"premise": "a man", "hypothesis": "plays plays"})])[0]
    cut = int(np.flatnonzero(prompt.word == len(prompt.grid) - 1)[-1]) + 1
    prompt = type(prompt)(prompt.grid, prompt.ids[:cut], prompt.types[:cut], prompt.word[:cut])  # ends with its word
    reply = [*prompt.ids[prompt.word == len(prompt.grid) - 1].tolist(), 40, 41]
    chosen = make_operator("delete", model.tokenizer)
    version = apply(chosen, prompt, np.arange(len(prompt.grid))[None] == len(prompt.grid) - 1)[0]
    expected = slow(model, prompt.ids, reply) - slow(model, version.ids, reply)
    np.testing.assert_allclose(continuation(model, prompt, reply, operator=chosen)[-1], expected, atol=2e-5)


def test_models_that_do_not_go_on_from_a_cache_are_run_whole(monkeypatch):
    model = answerer()
    prompt, reply = model.encode([RECORD])[0], reply_of(model)
    expected = continuation(model, prompt, reply)
    tried = []

    def refuse(*_):
        tried.append(1)
        raise TypeError("no cache")

    monkeypatch.setattr(SharedPrefix, "_cache", staticmethod(refuse))
    np.testing.assert_allclose(continuation(model, prompt, reply), expected, atol=2e-5)
    assert tried


def test_columns_sum_to_the_score_of_the_whole_continuation():
    model = answerer()
    prompt = model.encode([RECORD])[0]
    word = model.tokenizer(" neutral", add_special_tokens=False).input_ids
    alone = continuation(model, prompt, word)
    whole = slow(model, prompt.ids, word).sum()
    version = apply(make_operator("delete", model.tokenizer), prompt, np.arange(len(prompt.grid))[None] == 2)[0]
    np.testing.assert_allclose(alone[2].sum(), whole - slow(model, version.ids, word).sum(), atol=5e-5)


def test_faults_are_named():
    model = answerer(positions=160)
    prompt = model.encode([RECORD])[0]
    with pytest.raises(InputError, match="empty"):
        continuation(model, prompt, [])
    with pytest.raises(InputError, match="in all"):
        continuation(model, prompt, [5] * 160)
    with pytest.raises(InputError, match="unknown method 'lime'"):
        continuation(model, prompt, [5], "lime")
