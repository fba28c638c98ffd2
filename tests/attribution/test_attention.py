"""Attention and rollout: equal to a computation by hand from the bare model's weights."""

import copy

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, BloomConfig

import answerers
from raison.attribution import extract
from raison.models import Answerer
from raison.records import InputError


def weights_of(classifier, row):
    """Attention of one unpadded record, [layer][head][from][to], by a copy of the model that was made eager."""
    model = copy.deepcopy(classifier.model)
    model.set_attn_implementation("eager")
    options = (
        {"token_type_ids": torch.tensor(row.types[None])}
        if "token_type_ids" in classifier.tokenizer.model_input_names
        else {}
    )
    with torch.no_grad():
        output = model(torch.tensor(row.ids[None]), output_attentions=True, **options)
    return [layer[0].tolist() for layer in output.attentions]


def mean_over_heads(layer):
    size = len(layer[0])
    return [[sum(head[i][j] for head in layer) / len(layer) for j in range(size)] for i in range(size)]


def rollout_by_loop(layers):
    """Abnar and Zuidema 2020: A~ = A_L ... A_1 with A_l = 0.5 W_l + 0.5 I."""
    product = None
    for layer in layers:
        mean = mean_over_heads(layer)
        size = len(mean)
        mixed = [[0.5 * mean[i][j] + 0.5 * (i == j) for j in range(size)] for i in range(size)]
        if product is None:
            product = mixed
        else:
            product = [
                [sum(mixed[i][k] * product[k][j] for k in range(size)) for j in range(size)] for i in range(size)
            ]
    return product


@pytest.mark.parametrize("method", ["attention", "attention_rollout"])
def test_scores_are_the_classified_positions_row(classifier, tiny, method):
    records = tiny.records()
    for record, scores in zip(records, extract(classifier, records, method), strict=True):
        (row,) = classifier.encode([record])
        layers = weights_of(classifier, row)
        matrix = mean_over_heads(layers[-1]) if method == "attention" else rollout_by_loop(layers)
        line = matrix[-1 if classifier.name in ("gpt2", "llama") else 0]
        expected = [0.0] * len(row.grid)
        for token, word in enumerate(row.word.tolist()):
            if word >= 0:
                expected[word] += line[token]
        np.testing.assert_allclose(np.concatenate(list(scores.scores.values())), expected, atol=1e-5)
        assert scores.convention["score"] == "none"
        assert scores.convention["signed"] is False


def test_the_models_own_attention_is_put_back(tiny):
    classifier = tiny.build("bert")
    assert classifier.model.config._attn_implementation == "sdpa"
    before = classifier.logits(classifier.encode(tiny.records()))
    extract(classifier, tiny.records(), "attention")
    assert classifier.model.config._attn_implementation == "sdpa"
    np.testing.assert_array_equal(classifier.logits(classifier.encode(tiny.records())), before)
    classifier.model.set_attn_implementation("eager")
    extract(classifier, tiny.records(), "attention")
    assert classifier.model.config._attn_implementation == "eager"


def test_a_causal_model_whose_attention_can_not_be_exchanged_is_refused(tiny):
    """BLOOM computes attention in one way of its own, and an `Answerer` keeps no matrices."""
    made = answerers.tokenizer()
    config = BloomConfig(hidden_size=32, n_layer=2, n_head=4, vocab_size=len(made), bos_token_id=0, eos_token_id=2)
    model = Answerer(AutoModelForCausalLM.from_config(config), made, "nli", name="bloom")
    with pytest.raises(InputError, match=r"^bloom: a BloomForCausalLM .* use occlusion") as said:
        extract(model, tiny.records(), "attention")
    assert "\n" not in str(said.value)
    assert np.isfinite(np.concatenate([*extract(model, tiny.records(), "gradient")[0].scores.values()])).all()
