"""Attribution on a causal language model equals Captum's on the same prompt, label words of several tokens included."""

import numpy as np
import pytest
import torch
from captum.attr import FeatureAblation, InputXGradient, IntegratedGradients, Saliency

import answerers
from raison.attribution import extract
from raison.attribution.gradients import default_baseline
from raison.models import Answerer
from raison.records import Record
from raison.words import pool

RECORDS = [
    Record("1", {"premise": "A man plays in the park.", "hypothesis": "The man is asleep!"}, "nli", "contradiction"),
    Record("2", {"premise": "the", "hypothesis": "naïve café 😀 is not  open"}, "nli", "neutral"),
]


@pytest.fixture(scope="module", params=["llama", "gpt2", "qwen"])
def answerer(request):
    words = answerers.tokenizer(chat=request.param != "gpt2")
    return Answerer(answerers.causal(request.param, words), words, "nli", name=request.param)


def label_score(answerer, label):
    """Captum's forward function: embeddings of a prompt -> log-probability of a label's words, read one by one."""
    model, ids = answerer.model, answerer.label_ids[label]
    table = model.get_input_embeddings()

    def score(embeddings):
        rest = table(torch.tensor(ids[:-1], dtype=torch.long)).expand(len(embeddings), -1, -1)
        logits = model(inputs_embeds=torch.cat([embeddings, rest], dim=1)).logits
        start = embeddings.shape[1] - 1
        logs = torch.log_softmax(logits[:, start : start + len(ids)].float(), dim=-1)
        return logs[:, torch.arange(len(ids)), torch.tensor(ids)].sum(dim=1)

    return score


def cases(answerer):
    """Yield (tokens, embeddings, forward function) of each record, for its predicted label."""
    table = answerer.model.get_input_embeddings()
    for row, prediction in zip(answerer.encode(RECORDS), answerer.predict(RECORDS), strict=True):
        embeddings = table(torch.tensor(row.ids)[None]).detach()
        yield row, embeddings, label_score(answerer, answerer.labels.index(prediction.label))


def assert_same(found, row, expected):
    flat = np.concatenate(list(found.scores.values()))
    wanted = pool(expected.detach().numpy(), row)
    np.testing.assert_allclose(flat, wanted, atol=1e-4, rtol=1e-4)
    assert np.abs(wanted).max() > 1e-2


def test_gradient(answerer):
    for found, (row, embeddings, score) in zip(extract(answerer, RECORDS, "gradient"), cases(answerer), strict=True):
        assert_same(found, row, Saliency(score).attribute(embeddings, abs=False)[0].norm(dim=-1))


def test_input_x_gradient(answerer):
    rows = extract(answerer, RECORDS, "input_x_gradient")
    for found, (row, embeddings, score) in zip(rows, cases(answerer), strict=True):
        tokens = InputXGradient(score).attribute(embeddings)[0].sum(dim=-1)
        assert_same(found, row, tokens)
        outside = tokens.abs()[torch.tensor(row.word < 0)].sum() / tokens.abs().sum()
        assert found.convention["outside"] == pytest.approx(float(outside), abs=1e-4)
        assert found.convention["score"] == "log_probability"


def test_integrated_gradients_from_a_token(answerer):
    rows = extract(answerer, RECORDS, "integrated_gradients", baseline="unknown")
    table = answerer.model.get_input_embeddings()
    for found, (row, embeddings, score) in zip(rows, cases(answerer), strict=True):
        ids = torch.tensor(np.where(row.word >= 0, answerer.tokenizer.unk_token_id, row.ids))
        path = IntegratedGradients(score)
        tokens = path.attribute(embeddings, table(ids[None]).detach(), n_steps=50, method="gausslegendre")
        assert_same(found, row, tokens[0].sum(dim=-1))


def test_the_baseline_is_a_token_where_the_norm_undoes_scaling(answerer):
    assert default_baseline(answerer) == ("zero" if answerer.name == "gpt2" else "unknown")
    (found,) = extract(answerer, RECORDS[:1], "integrated_gradients", steps=8)
    assert found.convention["baseline"] == default_baseline(answerer)


def test_occlusion(answerer):
    rows = extract(answerer, RECORDS, "occlusion", mask="unknown", unit="token")
    table = answerer.model.get_input_embeddings()
    for found, (row, _, score) in zip(rows, cases(answerer), strict=True):
        groups = torch.tensor(np.where(row.word >= 0, row.word, len(row.grid)))[None]
        ablate = FeatureAblation(lambda ids, score=score: score(table(ids)))
        baseline = torch.tensor(np.where(row.word >= 0, answerer.tokenizer.unk_token_id, row.ids))[None]
        values = ablate.attribute(torch.tensor(row.ids)[None], baselines=baseline, feature_mask=groups)[0]
        expected = [float(values[int(np.flatnonzero(row.word == word)[0])]) for word in range(len(row.grid))]
        flat = np.concatenate(list(found.scores.values()))
        np.testing.assert_allclose(flat, expected, atol=1e-4)


def test_a_contrast_is_the_difference_of_two_scores(answerer):
    one, other = (extract(answerer, RECORDS, "input_x_gradient", target=name) for name in ("neutral", "entailment"))
    both = extract(answerer, RECORDS, "input_x_gradient", target="neutral - entailment")
    for found, a, b in zip(both, one, other, strict=True):
        for name, values in found.scores.items():
            np.testing.assert_allclose(values, a.scores[name] - b.scores[name], atol=1e-4)
    runner_up = extract(answerer, RECORDS, "gradient", target="predicted - runner-up")
    assert all(" - " in row.target for row in runner_up)


def test_value_weighted_attention_equals_a_computation_by_hand(answerer):
    (found,) = extract(answerer, RECORDS[:1], "value_weighted_attention", layers="0")
    (row,) = answerer.encode(RECORDS[:1])
    model = answerer.model
    seen = {}
    attention = model.model.layers[0].self_attn if answerer.name != "gpt2" else model.transformer.h[0].attn
    project = attention.o_proj if answerer.name != "gpt2" else attention.c_proj

    def keep(_module, given, output):
        seen["joined"], seen["out"] = given[0], output

    model.set_attn_implementation("eager")
    hook = project.register_forward_hook(keep)
    with torch.no_grad():
        output = model(torch.tensor(row.ids)[None], output_attentions=True, use_cache=True)
    hook.remove()
    model.set_attn_implementation("sdpa")
    weights = output.attentions[0][0, :, -1]  # heads, tokens
    values = output.past_key_values.layers[0].values[0]
    values = values.repeat_interleave(len(weights) // len(values), dim=0)
    brought = (weights[..., None] * values).transpose(0, 1).flatten(1)  # tokens, heads * width
    with torch.no_grad():
        mapped = project(brought) - project(torch.zeros_like(brought))
    np.testing.assert_allclose(brought.sum(dim=0), seen["joined"][0, -1], atol=1e-5)  # what the layer itself computes
    expected = pool(mapped.norm(dim=-1).numpy(), row)
    np.testing.assert_allclose(np.concatenate(list(found.scores.values())), expected, atol=1e-5)
