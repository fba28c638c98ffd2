"""What only some positions are read from: the last layer runs there alone, and nothing changes by it."""

import pytest
import torch

from answerers import causal, tokenizer
from raison.models.scorer import projected
from raison.models.watch import watched

PLACES = torch.tensor([[6, 2], [4, 8]])


def positions_of_last(model):
    """Count the positions that modules of the last layer run on, while the model runs."""
    last, counts = model.model.layers[-1], {}
    modules = {"q": last.self_attn.q_proj, "k": last.self_attn.k_proj, "o": last.self_attn.o_proj, "mlp": last.mlp}
    for name, module in modules.items():
        module.register_forward_hook(lambda _, given, __, name=name: counts.update({name: given[0].shape[1]}))
    return counts


@pytest.mark.parametrize("kind", ["llama", "qwen", "mistral", "gpt2"])
def test_logits_and_gradients_are_those_of_the_whole_layer(kind):
    model = causal(kind, tokenizer())
    ids = torch.arange(18).view(2, 9) + 20
    embeds = model.get_input_embeddings()(ids).detach().requires_grad_()
    rows = torch.arange(2)[:, None]
    expected = model(inputs_embeds=embeds).logits[rows, PLACES]
    with projected(model, PLACES):
        found = model(inputs_embeds=embeds).logits
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    grads = [torch.autograd.grad((logits**2).sum(), embeds)[0] for logits in (expected, found)]
    torch.testing.assert_close(grads[1], grads[0], atol=1e-4, rtol=1e-4)


def test_the_last_layer_runs_on_read_positions_but_for_keys():
    model = causal("llama", tokenizer())
    counts = positions_of_last(model)
    ids = torch.arange(18).view(2, 9) + 20
    with torch.no_grad(), projected(model, PLACES):
        model(ids)
    assert counts == {"q": 2, "k": 9, "o": 2, "mlp": 2}


def test_who_reads_attention_gets_every_query():
    model = causal("llama", tokenizer())
    counts, seen = positions_of_last(model), []
    ids = torch.arange(18).view(2, 9) + 20
    with torch.no_grad(), watched(model, seen.append), projected(model, PLACES):
        model(ids)
    assert counts == {"q": 9, "k": 9, "o": 9, "mlp": 2}
    assert float(seen[-1].query.abs().amin(dim=(1, 3)).min()) > 0
    model.set_attn_implementation("eager")
    with torch.no_grad(), projected(model, PLACES):
        model(ids)
    assert counts["q"] == counts["o"] == 9
