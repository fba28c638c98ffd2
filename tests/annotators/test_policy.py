"""Trees against ordinary rows: the same probabilities and gradients; who can't take them; the reference on disk."""

import copy

import numpy as np
import pytest
import torch

from answerers import causal, tokenizer
from raison.annotators import policy as policies
from raison.annotators.capo import CapoConfig, Pair, pair_units, preference
from raison.annotators.policy import (
    Adapter,
    Policy,
    fingerprint,
    load_policy,
    log_probabilities,
    remembered,
    still,
    takes_trees,
    token_log_probabilities,
)
from raison.annotators.trees import Said, collate
from raison.records import InputError
from raison.training.lora import adapted

KINDS = ("llama", "qwen", "mistral", "gpt2")
WORDS = tokenizer()


def drawn(seed=0):
    """Two items: three responses under two prompts with a common trunk, and two under another, of unlike lengths."""
    rng = np.random.default_rng(seed)

    def ids(size):
        return tuple(rng.integers(7, 300, size).tolist())

    trunk, head = ids(9), ids(2)
    answers = [(*head, *ids(5)), (*head, *ids(2)), ids(4)]
    items = [[Said((*trunk, tag), a, (True,) * 2 + (False,) * (len(a) - 2)) for a in answers] for tag in (11, 12)]
    other = ids(5)
    return [items[0] + items[1], [Said(other, a, (False,) * len(a)) for a in (ids(6), ids(1))]]


ITEMS = drawn()


def pairs_of(said):
    """Every ordered pair under a prompt, with weights and betas of their own."""
    ways = [(a, b) for a in said for b in said if a != b and a.prompt == b.prompt]
    return [Pair(a, b, 0.5 + index % 3, 0.05 + 0.1 * (index % 2)) for index, (a, b) in enumerate(ways)]


def make(kind, lora=False, together=True, max_tokens=1000, **options):
    model = causal(kind, WORDS, **options)
    network = adapted(model, "x", *Adapter(4, 8, 0.0, 0)) if lora else model
    still(network)
    return Policy(network, WORDS, 512, max_tokens, together)


def moved(policy, seed=5):
    """The same model with what is trained moved, so that it is not the reference."""
    found = copy.deepcopy(policy.network).train()
    torch.manual_seed(seed)
    with torch.no_grad():
        for weight in found.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn_like(weight) * 0.02)
    return found


def loss_and_gradients(policy, network, reference, config):
    units = [unit for said in ITEMS for unit in pair_units(policy, pairs_of(said), reference, 0.1)]
    batch = collate(units, policy.padding)
    losses, _ = preference(config)(token_log_probabilities(network, batch), batch)
    loss = losses.sum() / len(losses)
    loss.backward()
    return len(batch["input_ids"]), loss.detach(), {n: w.grad for n, w in network.named_parameters() if w.requires_grad}


def slow_log_probabilities(network, said):
    """The definition: one text, all logits, nothing shared."""
    ids = torch.tensor([[*said.prompt, *said.ids]])
    with torch.no_grad():
        values = network(input_ids=ids).logits[0].float().log_softmax(dim=-1)
    start = len(said.prompt) - 1
    return values[torch.arange(start, start + len(said.ids)), ids[0, start + 1 :]].numpy()


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_tree_has_the_probabilities_of_each_text_by_itself(kind, attention):
    policy = make(kind)
    policy.network.set_attn_implementation(attention)
    assert takes_trees(policy, 60)
    found = log_probabilities(policy, ITEMS)
    assert len(found) == 8
    for said, values in found.items():
        np.testing.assert_allclose(values, slow_log_probabilities(policy.network, said), atol=2e-5)


CONFIGS = {
    "sum": CapoConfig(),
    "spans": CapoConfig(loss="ipo", mean=True, label_weight=0.3, explanation_weight=2.0, anchor=0.5, smoothing=0.1),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("lora", [False, True], ids=["all weights", "lora"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_tree_shaped_loss_and_its_gradients_are_those_of_ordinary_pairs(kind, lora, config):
    tree = make(kind, lora)
    plain, network = tree._replace(together=False), moved(tree)
    reference = log_probabilities(tree, ITEMS)
    few, one, ours = loss_and_gradients(tree, network, reference, config)
    network.zero_grad()
    many, other, theirs = loss_and_gradients(plain, network, reference, config)
    assert (few, many) == (2, 8)
    assert float((one - other).abs()) < 1e-5
    size = max(float(grad.abs().max()) for grad in theirs.values())
    assert size > 1e-3
    for name, grad in ours.items():
        np.testing.assert_allclose(grad.numpy(), theirs[name].numpy(), atol=1e-5 * max(1.0, size), err_msg=name)


def test_a_tree_over_budget_is_parted_and_costs_the_same():
    tree = make("llama")
    network, reference = moved(tree), log_probabilities(tree, ITEMS)
    _, one, _ = loss_and_gradients(tree, network, reference, CapoConfig())
    rows, other, _ = loss_and_gradients(tree._replace(max_tokens=20), network, reference, CapoConfig())
    assert rows == 3  # each of the two prompts with a common trunk by itself
    assert float(one) == pytest.approx(float(other), abs=1e-5)


# ------------------------------------------------------------------------------------------------- who can't


def test_a_window_shorter_than_the_texts_takes_no_tree():
    policy = make("mistral", sliding_window=16)
    assert not takes_trees(policy, 17)
    assert takes_trees(policy, 16)
    found = log_probabilities(policy._replace(together=False), ITEMS)
    for said, values in found.items():
        np.testing.assert_allclose(values, slow_log_probabilities(policy.network, said), atol=2e-5)


def test_a_model_that_does_not_heed_the_mask_is_found_out(monkeypatch):
    policy = make("llama")

    def causal_only(ends):
        size = ends.shape[1]
        return torch.ones(len(ends), 1, size, size, dtype=torch.bool).tril()

    monkeypatch.setattr(policies, "attention_mask", causal_only)
    assert not takes_trees(policy, 60)


def test_a_model_without_attention_takes_no_tree():
    from transformers import AutoModelForCausalLM, MambaConfig

    torch.manual_seed(0)
    config = MambaConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        state_size=4,
        initializer_range=0.5,
        use_mambapy=False,
    )
    policy = Policy(AutoModelForCausalLM.from_config(config).eval(), WORDS, 512, 1000)
    assert not takes_trees(policy, 60)
    found = log_probabilities(policy, ITEMS[1:])
    for said, values in found.items():
        np.testing.assert_allclose(values, slow_log_probabilities(policy.network, said), atol=2e-5)


# -------------------------------------------------------------------------------------------------- as it was


def test_the_reference_is_computed_once_for_each_response(tmp_path, monkeypatch):
    policy = make("llama")
    first = remembered(policy, ITEMS[:1], tmp_path)
    asked = []
    real = log_probabilities
    monkeypatch.setattr(policies, "log_probabilities", lambda p, items, **o: asked.append(items) or real(p, items, **o))
    both = remembered(policy, ITEMS, tmp_path)
    assert asked == [[[], ITEMS[1]]]
    assert all((both[said] == values).all() for said, values in first.items())
    again = remembered(policy, ITEMS, tmp_path)
    assert len(asked) == 1
    assert all((again[said] == both[said]).all() for item in ITEMS for said in item)
    assert [path.suffix for path in tmp_path.iterdir()] == [".safetensors"]


def test_another_models_reference_is_another():
    policy = make("llama", lora=True)
    before = fingerprint(policy.network)
    assert fingerprint(copy.deepcopy(policy.network)) == before
    assert fingerprint(moved(policy)) != before


def test_what_is_trained_is_what_was_asked_for(tmp_path):
    causal("llama", WORDS).save_pretrained(tmp_path / "base")
    WORDS.save_pretrained(tmp_path / "base")
    whole = load_policy(str(tmp_path / "base"), None, dtype="float32")
    assert all(weight.requires_grad for weight in whole.network.parameters())
    fresh = load_policy(str(tmp_path / "base"), Adapter(4, 8, 0.1, 0), dtype="float32")
    fresh.network.save_pretrained(tmp_path / "adapter")
    WORDS.save_pretrained(tmp_path / "adapter")
    again = load_policy(str(tmp_path / "adapter"), None, dtype="float32")
    for policy in (fresh, again):
        trained = [name for name, weight in policy.network.named_parameters() if weight.requires_grad]
        assert trained
        assert all("lora_" in name for name in trained)
    with pytest.raises(InputError, match="has an adapter already"):
        load_policy(str(tmp_path / "adapter"), Adapter(4, 8, 0.0, 0), dtype="float32")
