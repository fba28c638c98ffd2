"""Scores made by Captum and Inseq, brought onto the grid of words."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from captum.attr import InputXGradient

from raison.attribution import extract, from_captum, from_inseq
from raison.records import InputError, Record

TEXTS = ("the man plays in the park", "a dog sleeps")


def flat(scores):
    return np.concatenate(list(scores.scores.values()))


# ----------------------------------------------------------------------------------------------------- captum


def by_captum(classifier, rows, label):
    """Captum's input x gradient of a padded batch, (records, tokens, hidden)."""
    longest = max(len(row.ids) for row in rows)
    ids = torch.tensor([[*row.ids, *[0] * (longest - len(row.ids))] for row in rows])
    types = torch.tensor([[*row.types, *[0] * (longest - len(row.ids))] for row in rows])
    attention = torch.tensor([[1] * len(row.ids) + [0] * (longest - len(row.ids)) for row in rows])

    def forward(embeddings):
        return classifier.model(inputs_embeds=embeddings, attention_mask=attention, token_type_ids=types).logits

    embeddings = classifier.model.get_input_embeddings()(ids).detach().requires_grad_()
    return InputXGradient(forward).attribute(embeddings, target=label)


@pytest.mark.parametrize("form", ["batch", "summed batch", "list", "summed list"])
def test_captums_scores_equal_ours(classifiers, tiny, form):
    classifier, records = classifiers["bert"], tiny.records()
    rows = classifier.encode(records)
    found = by_captum(classifier, rows, 1)
    if "summed" in form:
        found = found.sum(dim=-1)
    if "list" in form:
        found = [values[: len(row.ids)] for values, row in zip(found, rows, strict=True)]
    scores = from_captum(classifier, records, found, "captum ixg", "neutral")
    for mine, theirs in zip(extract(classifier, records, target="neutral"), scores, strict=True):
        assert (theirs.record_id, theirs.method, theirs.target) == (mine.record_id, "captum ixg", "neutral")
        assert theirs.scores.keys() == mine.scores.keys()
        np.testing.assert_allclose(flat(theirs), flat(mine), atol=1e-5)
        assert theirs.convention["made_by"] == "captum"
        assert theirs.convention["signed"] is True


def test_words_that_captum_did_not_see_are_nan(tiny):
    classifier = tiny.build("bert", positions=10)
    (record,) = tiny.records()[-1:]
    (scores,) = from_captum(classifier, [record], [np.arange(10.0)], "mine", [None], reduction="first")
    assert flat(scores)[:8].tolist() == [1, *range(3, 9), pytest.approx(np.nan, nan_ok=True)]
    assert np.isnan(flat(scores)[7:]).all()
    assert scores.target is None


def test_attributions_that_do_not_fit_are_refused(classifiers, tiny):
    classifier, records = classifiers["bert"], tiny.records()[:2]
    sizes = [len(row.ids) for row in classifier.encode(records)]
    right = [np.zeros(size) for size in sizes]
    for wrong, message in (
        (right[:1], "2 records, but 1 attributions"),
        ([right[0], np.zeros(sizes[1] + 1)], "record '1': .* tokens attributed, but the model reads"),
        ([right[0], np.zeros(sizes[1] - 1)], "record '1': .* tokens attributed, but the model reads"),
        ([right[0], np.zeros((1, sizes[1], 3))], "record '1': attributions of shape"),
        (np.zeros((2, min(sizes))), "tokens attributed, but the model reads"),
    ):
        with pytest.raises(InputError, match=message):
            from_captum(classifier, records, wrong, "mine", "neutral")


# ------------------------------------------------------------------------------------------------------ inseq


def sequence(tokens, start, scores, source=None):
    """An object of the shape of Inseq's `FeatureAttributionSequenceOutput`, made by hand."""
    name = lambda ids: [SimpleNamespace(token=f"token {i}", id=i) for i in ids]  # noqa: E731
    return SimpleNamespace(
        source=name(source or tokens[:start]),
        target=name(tokens),
        source_attributions=None if source is None else scores,
        target_attributions=scores if source is None else None,
        attr_pos_start=start,
        attr_pos_end=len(tokens),
    )


def output(*sequences):
    return SimpleNamespace(
        sequence_attributions=list(sequences), info={"attribution_method": "saliency", "attributed_fn": "logit_fn"}
    )


def test_a_causal_prompt_by_hand(tiny):
    """<s> the Ġman Ġp lays Ġin Ġthe Ġpark | Ġis Ġhappy: two steps, a score for each token before each."""
    tokenizer = tiny.byte_tokenizer("llama")
    prompt = tokenizer(TEXTS[0]).input_ids
    tokens = tokenizer(TEXTS[0] + " is happy").input_ids
    assert " ".join(tokenizer.convert_ids_to_tokens(tokens)) == "<s> the Ġman Ġp lays Ġin Ġthe Ġpark Ġis Ġhappy"
    scores = torch.full((10, 2), float("nan"))
    scores[:8, 0] = torch.tensor([100.0, 1, 2, 3, -4, 5, 6, 7])
    scores[:9, 1] = torch.tensor([100.0, 10, 20, 30, 40, 50, 60, 70, 99])
    record = Record("1", {"text": TEXTS[0]})
    expected = {0: [1, 2, -1, 5, 6, 7], 1: [10, 20, 70, 50, 60, 70], -1: [10, 20, 70, 50, 60, 70]}
    expected["sum"] = [11, 22, 69, 55, 66, 77]
    names = {0: "is", 1: "happy", -1: "happy", "sum": "is happy"}
    for step, wanted in expected.items():
        (found,) = from_inseq(output(sequence(tokens, len(prompt), scores)), [record], tokenizer, step=step)
        assert found.scores["text"].tolist() == wanted
        assert (found.record_id, found.method, found.target) == ("1", "saliency", names[step])
        assert {"made_by": "inseq", "score": "logit", "step": step}.items() <= found.convention.items()
        assert found.convention["hidden"] == "aggregated"
    for step in (2, -3, "all", 0.5):
        with pytest.raises(InputError, match=r"no step .*; 2 generated tokens were explained"):
            from_inseq(output(sequence(tokens, len(prompt), scores)), [record], tokenizer, step=step)


def test_without_bos_or_with_one_too_many(tiny):
    tokenizer = tiny.byte_tokenizer("llama")
    record = Record("1", {"text": "a dog"})
    bare = tokenizer("a dog", add_special_tokens=False).input_ids
    (found,) = from_inseq(output(sequence([*bare, 2], 2, torch.tensor([[3.0], [4.0], [0.0]]))), [record], tokenizer)
    assert found.scores["text"].tolist() == [3, 4]
    doubled = sequence([0, 0, *bare, 2], 4, torch.ones(5, 1))
    with pytest.raises(
        InputError, match="record '1': not the tokens of its text: token 1 is '<s>', the tokenizer gives"
    ):
        from_inseq(output(doubled), [record], tokenizer)
    with pytest.raises(InputError, match="token 2 is 'the end', the tokenizer gives"):
        from_inseq(output(sequence([0, *bare, 2], 2, torch.ones(4, 1))), [record], tokenizer)


def test_fields_are_found_in_a_prompt(tiny):
    tokenizer = tiny.byte_tokenizer("llama")
    record = Record("1", {"premise": "the man sleeps", "hypothesis": "a dog"})
    prompt = "say: a dog in the park; the man sleeps, is not"
    tokens = tokenizer(prompt).input_ids
    values = torch.arange(float(len(tokens)))
    owner = tokenizer([prompt]).encodings[0].offsets
    expected = {
        name: [
            sum(
                float(v)
                for v, (a, b) in zip(values, owner, strict=True)
                if a < start + len(word) and b > start and b > a
            )
            for start, word in words
        ]
        for name, words in {
            "premise": [(24, "the"), (28, "man"), (32, "sleeps")],
            "hypothesis": [(5, "a"), (7, "dog")],
        }.items()
    }
    given = output(sequence([*tokens, 2], len(tokens), torch.cat([values, torch.zeros(1)])[:, None]))
    (found,) = from_inseq(given, [record], tokenizer, texts=[prompt])
    assert {name: scores.tolist() for name, scores in found.scores.items()} == expected
    partly = Record("2", {"premise": "the man sleeps", "hypothesis": "a woman"})
    (found,) = from_inseq(given, [partly], tokenizer, texts=[prompt])
    assert found.scores["premise"].tolist() == expected["premise"]
    assert np.isnan(found.scores["hypothesis"]).all()
    for fields, message in (({"a": "the"}, "'a' stands 2 times"), ({"a": "red"}, "none of its fields")):
        with pytest.raises(InputError, match=message):
            from_inseq(given, [Record("3", fields)], tokenizer, texts=[prompt])
    with pytest.raises(InputError, match="has 2 fields; give the attributed texts"):
        from_inseq(given, [record], tokenizer)


def test_a_seq2seq_source_by_hand_with_its_hidden_axis(tiny):
    tokenizer = tiny.byte_tokenizer("roberta")
    source = tokenizer("a dog").input_ids
    assert len(source) == 4
    scores = torch.tensor([[[9.0, 9.0]], [[3.0, 4.0]], [[-6.0, 8.0]], [[9.0, 9.0]]])
    given = output(sequence([2, 5], 1, scores, source=source))
    record = Record("1", {"text": "a dog"})
    for hidden, wanted in (("sum", [7, 2]), ("norm", [5, 10])):
        (found,) = from_inseq(given, [record], tokenizer, hidden=hidden)
        assert found.scores["text"].tolist() == wanted
        assert found.convention["hidden"] == hidden
    with pytest.raises(InputError, match="expected sum or norm"):
        from_inseq(given, [record], tokenizer, hidden="max")


def test_scores_per_layer_and_head_are_refused(tiny):
    given = output(sequence([67, 2], 1, torch.ones(2, 1, 3, 4)))
    with pytest.raises(InputError, match="call Inseq's `aggregate\\(\\)`"):
        from_inseq(given, [Record("1", {"text": "a"})], tiny.byte_tokenizer("gpt2"))


@pytest.mark.slow
def test_inseqs_own_scores_are_those_of_the_model(tiny):
    """A causal model's input x gradient of one logit, by Inseq and by hand."""
    inseq = pytest.importorskip("inseq", reason="inseq is not installed (pip install inseq)")
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = tiny.byte_tokenizer("llama")
    torch.manual_seed(0)
    wide = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer), **wide, initializer_range=0.25, bos_token_id=0, eos_token_id=2, pad_token_id=1
        )
    ).eval()
    records = [Record(str(i), {"text": text}) for i, text in enumerate(TEXTS)]
    attributor = inseq.load_model(model, "input_x_gradient", tokenizer=tokenizer)
    raw = attributor.attribute(
        list(TEXTS), [f"{text} is happy" for text in TEXTS], attributed_fn="logit", show_progress=False
    )
    for record, found in zip(records, from_inseq(raw, records, tokenizer, step=-1), strict=True):
        encoded = tokenizer([record.fields["text"] + " is happy"]).encodings[0]
        embeddings = model.get_input_embeddings()(torch.tensor([encoded.ids[:-1]])).detach().requires_grad_()
        model(inputs_embeds=embeddings).logits[0, -1, encoded.ids[-1]].backward()
        tokens = (embeddings * embeddings.grad)[0].sum(dim=-1).tolist()
        words = record.fields["text"].split()
        expected, start = [], 0
        for word in words:
            start = record.fields["text"].index(word, start)
            spans = zip(tokens, encoded.offsets[:-1], strict=True)
            expected.append(sum(v for v, (a, b) in spans if a < b and a < start + len(word) and b > start))
            start += len(word)
        np.testing.assert_allclose(found.scores["text"], expected, atol=1e-4)
        assert found.target == "happy"
        assert found.convention["score"] == "logit"
    for aggregated, norms in zip(
        from_inseq(raw.aggregate(), records, tokenizer, step=0, reduction="mean"),
        from_inseq(raw, records, tokenizer, step=0, hidden="norm", reduction="mean"),
        strict=True,
    ):  # Inseq's aggregate: L2 norms that sum to 1 over all tokens, so ours differ by one factor
        ratio = aggregated.scores["text"] / norms.scores["text"]
        np.testing.assert_allclose(ratio, ratio[0], rtol=1e-3)
        assert aggregated.scores["text"].sum() < 1
