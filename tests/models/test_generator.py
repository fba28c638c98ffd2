"""The local generator against a slow loop that runs the whole model once for each token of each reply."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, GPT2Config, LlamaConfig

from raison.models.generator import LocalGenerator, _drawing
from raison.records import InputError

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
TEXTS = (
    "A man plays in the park.",
    "the",
    "unbelievably, dogs (plays) café naïve 😀",
    "The woman reads a red book in the park and the dog sleeps",
    "is not happy!",
)
CONVERSATIONS = [
    *([{"role": "user", "content": text}] for text in TEXTS),
    [{"role": "system", "content": "Say why."}, {"role": "user", "content": TEXTS[1]}],
    [*({"role": role, "content": role[:2]} for role in ("user", "assistant", "user"))],
]
ROOM = 12  # tokens of a reply


def causal(tiny, kind, positions=96):
    tokenizer = tiny.byte_tokenizer(kind)
    common = {"vocab_size": len(tokenizer), "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
    common["initializer_range"] = 0.3
    wide = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    config = (
        GPT2Config(**common, n_embd=32, n_layer=2, n_head=4, n_positions=positions)
        if kind == "gpt2"
        else LlamaConfig(**common, **wide, num_key_value_heads=2, max_position_embeddings=positions)
    )
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config).eval(), tokenizer


def slow(model, ids, room=ROOM, ends=(2,)):
    """Give the most probable next token, again and again, running everything from the start each time."""
    reply = []
    while len(reply) < room:
        with torch.no_grad():
            logits = model(torch.tensor([[*ids, *reply]]), use_cache=False).logits
        reply.append(int(logits[0, -1].argmax()))
        if reply[-1] in ends:
            break
    return reply


@pytest.fixture(scope="module", params=[("llama", True), ("llama", False), ("gpt2", True), ("gpt2", False)], ids=str)
def parts(request, tiny):
    kind, template = request.param
    model, tokenizer = causal(tiny, kind)
    tokenizer.chat_template = TEMPLATE if template else None
    return model, tokenizer


def test_replies_are_those_of_the_slow_loop_at_any_batch_size(parts):
    model, tokenizer = parts
    prompts = [LocalGenerator(model, tokenizer).encode(messages) for messages in CONVERSATIONS]
    first = [slow(model, ids) for ids in prompts]
    # a token that some replies come to ends them from now on, beside the one that the tokenizer knows
    model.generation_config.eos_token_id = end = first[0][5]
    model.generation_config.repetition_penalty = 5.0
    expected = [slow(model, ids, ends=(2, end)) for ids in prompts]
    assert {ids[-1] == end for ids in expected} == {True, False}
    for budget in (1, 100, 10_000):
        generator = LocalGenerator(model, tokenizer, max_new_tokens=ROOM, max_tokens=budget)
        replies = generator.generate(CONVERSATIONS)
        assert [reply.text for reply in replies] == [
            tokenizer.decode(ids, skip_special_tokens=True) for ids in expected
        ]
        assert [reply.finish for reply in replies] == ["stop" if ids[-1] in (2, end) else "length" for ids in expected]
        assert [reply.reply_tokens for reply in replies] == [len(ids) for ids in expected]
        assert [reply.prompt_tokens for reply in replies] == [len(ids) for ids in prompts]
        assert generator.usage.reply_tokens == sum(map(len, expected))
        assert generator.generate(CONVERSATIONS[::-1]) == replies[::-1]


def test_replies_are_those_of_model_generate_one_by_one(parts):
    model, tokenizer = parts
    generator = LocalGenerator(model, tokenizer, max_new_tokens=ROOM)
    for messages, reply in zip(CONVERSATIONS, generator.generate(CONVERSATIONS), strict=True):
        ids = torch.tensor([generator.encode(messages)])
        found = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=ROOM,
            repetition_penalty=1.0,
            eos_token_id=list(generator._ends),
        )[0, ids.shape[1] :]
        assert reply.text == tokenizer.decode(found, skip_special_tokens=True)


def test_no_special_token_is_doubled_or_lost(tiny):
    for kind in ("llama", "gpt2"):
        model, tokenizer = causal(tiny, kind)
        generator = LocalGenerator(model, tokenizer)
        messages = CONVERSATIONS[0]
        assert generator.encode(messages) == tokenizer(TEXTS[0])["input_ids"]
        assert generator.encode(messages).count(0) == (1 if kind == "llama" else 0)
        tokenizer.chat_template = TEMPLATE
        ids = generator.encode(messages)
        assert ids[0] == 0
        assert ids.count(0) == 1
        assert ids == tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]


def test_model_and_tokenizer_are_left_as_they_were(tiny):
    model, tokenizer = causal(tiny, "llama")
    tokenizer.padding_side = "right"
    tokenizer.backend_tokenizer.enable_truncation(5)
    tokenizer.backend_tokenizer.enable_padding(length=7)

    def state():
        settings = json.dumps(tokenizer.init_kwargs, default=str), tokenizer.backend_tokenizer.to_str()
        return *settings, tokenizer.padding_side, model.generation_config.to_json_string(), str(model.config)

    before = state()
    LocalGenerator(model, tokenizer, max_new_tokens=3).generate(CONVERSATIONS)
    assert state() == before


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_reply_ends_where_the_positions_end(tiny, kind):
    model, tokenizer = causal(tiny, kind, positions=40)
    ask = [[{"role": "user", "content": "a" * size}] for size in (5, 30, 37, 39, 40, 60)]
    generator = LocalGenerator(model, tokenizer, max_new_tokens=8)
    sizes = [len(generator.encode(messages)) for messages in ask]
    replies = generator.generate(ask)
    room = [min(8, 40 - size) for size in sizes]
    assert min(room) < 0 < max(room)
    for messages, reply, size, space in zip(ask, replies, sizes, room, strict=True):
        if space < 1:
            assert reply.finish == "failed"
            assert reply.text is None
            assert reply.failure == f"the prompt has {size} tokens, and the model reads 40 with its reply"
        else:
            expected = slow(model, generator.encode(messages), space)
            assert reply.text == tokenizer.decode(expected, skip_special_tokens=True)
    assert generator.usage.failed == sum(space < 1 for space in room)


def test_an_empty_prompt_fails_and_stops_no_other(tiny):
    model, tokenizer = causal(tiny, "gpt2")  # which has no BOS to begin with
    replies = LocalGenerator(model, tokenizer, max_new_tokens=2).generate(
        [[{"role": "user", "content": ""}], CONVERSATIONS[0]]
    )
    assert [reply.finish for reply in replies] == ["failed", "length"]
    assert replies[0].failure == "the prompt is empty"
    assert LocalGenerator(model, tokenizer).generate([]) == []


def test_draws_depend_on_seed_and_prompt_alone(tiny):
    model, tokenizer = causal(tiny, "llama")
    options = {"max_new_tokens": 8, "temperature": 2.0}
    alone = [LocalGenerator(model, tokenizer, **options).generate([messages])[0] for messages in CONVERSATIONS]
    torch.manual_seed(5)
    together = LocalGenerator(model, tokenizer, **options).generate(CONVERSATIONS[::-1])[::-1]
    assert alone == together
    assert together != LocalGenerator(model, tokenizer, seed=1, **options).generate(CONVERSATIONS)
    assert together != LocalGenerator(model, tokenizer, max_new_tokens=8).generate(CONVERSATIONS)


def test_draws_have_the_probabilities_of_the_softmax():
    """The draws of 3,000 prompts against softmax(logits / T): chi-squared over the likely tokens, 4 sigma."""
    logits, heat, rows = torch.randn(60, generator=torch.Generator().manual_seed(0)) * 2, 1.5, 3000
    expected = torch.softmax(logits.double() / heat, -1).numpy()
    draw = _drawing([[row] for row in range(rows)], heat, seed=0)
    counts = np.bincount(draw(torch.empty(0), logits.repeat(rows, 1)).argmax(1).numpy(), minlength=60)
    likely = expected > 0.002
    seen, hoped = [*counts[likely], counts[~likely].sum()], [*expected[likely], expected[~likely].sum()]
    statistic = sum((n - rows * p) ** 2 / (rows * p) for n, p in zip(seen, hoped, strict=True))
    freedom = len(seen) - 1
    assert freedom > 20
    assert abs(statistic - freedom) < 4 * (2 * freedom) ** 0.5


def test_a_cache_answers_for_the_same_model_and_settings(tiny, tmp_path):
    model, tokenizer = causal(tiny, "llama")
    cache = {"cache": tmp_path / "replies.db", "max_new_tokens": 4}
    first = LocalGenerator(model, tokenizer, identity="one", **cache)
    replies = first.generate([*CONVERSATIONS, CONVERSATIONS[0]])
    assert (first.usage.requests, first.usage.repeated) == (len(CONVERSATIONS), 1)
    again = LocalGenerator(model, tokenizer, identity="one", seed=3, **cache)  # greedy: the seed says nothing
    assert again.generate(CONVERSATIONS) == replies[:-1]
    assert (again.usage.requests, again.usage.cached) == (0, len(CONVERSATIONS))
    for other in ({"identity": "two"}, {"identity": "one", "max_new_tokens": 5}, {"identity": "one", "temperature": 1}):
        generator = LocalGenerator(model, tokenizer, **{**cache, **other})
        generator.generate(CONVERSATIONS[:1])
        assert generator.usage.requests == 1
    with pytest.raises(ValueError, match="identity"):
        LocalGenerator(model, tokenizer, cache=tmp_path / "replies.db")
    with pytest.raises(ValueError, match="max_new_tokens"):
        LocalGenerator(model, tokenizer, max_new_tokens=0)


def test_loading(tiny, tmp_path):
    model, tokenizer = causal(tiny, "llama")
    good, other, empty = tmp_path / "good", tmp_path / "other", tmp_path / "empty"
    model.save_pretrained(good)
    tokenizer.save_pretrained(good)
    empty.mkdir()
    classifier = AutoModelForSequenceClassification.from_config(model.config)
    classifier.save_pretrained(other)
    tokenizer.save_pretrained(other)
    loaded = LocalGenerator.load(good, device="cpu", max_new_tokens=5)
    assert loaded.name == "good"
    assert loaded.generate(CONVERSATIONS) == LocalGenerator(model, tokenizer, max_new_tokens=5).generate(CONVERSATIONS)
    for path, message in (
        (tmp_path / "none", "no such folder"),
        (empty, "can't be loaded as a causal language model"),
        (other, "a LlamaForSequenceClassification, not a causal language model"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            LocalGenerator.load(path)
        assert "\n" not in str(caught.value)
