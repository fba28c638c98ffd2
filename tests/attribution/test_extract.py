"""`extract`: the same at any batch size, honest about what was not seen, and gentle with the caller's model."""

import copy

import numpy as np
import pytest
import torch

from raison.attribution import METHODS, extract
from raison.models import Classifier
from raison.rationales import load_scores, save_scores
from raison.records import InputError, Record


def own_hooks(model):
    """Hooks per module, without those that transformers leaves on a model once it was asked for attentions."""
    return [
        sum(not hook.__module__.startswith("transformers.") for hook in module._forward_hooks.values())
        for module in model.modules()
    ]


def flat(scores):
    return np.concatenate([*scores.scores.values(), np.zeros(0)])


@pytest.mark.parametrize("method", METHODS)
def test_scores_do_not_depend_on_the_size_of_batches(classifier, tiny, method):
    records = tiny.records()
    alone = [flat(extract(classifier, [record], method)[0]) for record in records]
    sized = copy.copy(classifier)
    for tokens in (1, 40, 10**6):
        sized.max_tokens = tokens
        together = extract(sized, records, method)
        for one, many in zip(alone, together, strict=True):
            np.testing.assert_allclose(flat(many), one, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("method", METHODS)
def test_the_callers_model_is_left_as_it_was(tiny, method):
    classifier = tiny.build("bert")
    model = classifier.model
    learning = {name: "layer.0" in name for name, _ in model.named_parameters()}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(learning[name])
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    hooks = own_hooks(model)
    config = model.config.to_json_string(use_diff=False)
    classifier.tokenizer.backend_tokenizer.enable_truncation(max_length=77)
    classifier.tokenizer.backend_tokenizer.enable_padding(length=78)
    backend = classifier.tokenizer.backend_tokenizer.to_str()
    extract(classifier, tiny.records(), method, **({"mask": "unigram"} if method == "occlusion" else {}))
    assert {name: parameter.requires_grad for name, parameter in model.named_parameters()} == learning
    assert all(parameter.grad is None for parameter in model.parameters())
    assert own_hooks(model) == hooks
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())
    assert model.config.to_json_string(use_diff=False) == config
    assert model.config._attn_implementation == "sdpa"
    assert classifier.tokenizer.backend_tokenizer.to_str() == backend
    assert len(classifier.tokenizer) == model.config.vocab_size
    assert not model.training  # as documented: dropout is off


@pytest.mark.parametrize("method", ["gradient", "integrated_gradients", "attention", "occlusion"])
def test_the_model_is_put_back_where_a_method_fails(tiny, method):
    classifier = tiny.build("bert")
    hooks = own_hooks(classifier.model)

    def fail(*_, **__):
        raise RuntimeError("the machine broke")

    handle = classifier.model.classifier.register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="the machine broke"):
        extract(classifier, tiny.records(), method)
    handle.remove()
    assert all(parameter.requires_grad for parameter in classifier.model.parameters())
    assert classifier.model.config._attn_implementation == "sdpa"
    assert own_hooks(classifier.model) == hooks


@pytest.mark.parametrize("kind", ["bert", "roberta", "gpt2"])
@pytest.mark.parametrize("method", METHODS)
def test_words_cut_off_are_nan_and_never_zero(tiny, kind, method):
    classifier = tiny.build(kind, positions=12)
    records = tiny.records()
    for record, scores in zip(records, extract(classifier, records, method), strict=True):
        (row,) = classifier.encode([record])
        seen = [word in row.word for word in range(len(row.grid))]
        assert len(row.ids) <= 12
        assert np.isnan(flat(scores)).tolist() == [not word for word in seen]
    assert np.isnan(flat(scores)).sum() > 3  # the last is the long one


@pytest.mark.parametrize("method", METHODS)
def test_empty_and_blank_texts_have_no_scores(classifier, method):
    texts = [("", ""), ("the dog", ""), ("", "a man"), ("   ", "\n\t")]
    records = [Record(str(i), {"premise": a, "hypothesis": b}) for i, (a, b) in enumerate(texts)]
    sizes = [
        {name: len(values) for name, values in scores.scores.items()} for scores in extract(classifier, records, method)
    ]
    assert sizes == [{"premise": len(a.split()), "hypothesis": len(b.split())} for a, b in texts]
    (single,) = extract(classifier, [Record("0", {"text": ""})], method)
    assert single.scores["text"].shape == (0,)
    assert single.target in classifier.labels
    assert extract(classifier, [], method) == []


def test_every_method_says_what_it_computed(classifiers, tiny):
    for method in METHODS:
        for record, scores in zip(tiny.records(), extract(classifiers["bert"], tiny.records(), method), strict=True):
            assert (scores.record_id, scores.method) == (record.id, method)
            assert {"score", "target", "signed", "special_tokens"} <= scores.convention.keys()
            assert scores.scores.keys() == record.fields.keys()
            assert all(values.dtype == np.float32 for values in scores.scores.values())


def test_targets_are_named(classifiers, tiny):
    classifier, records = classifiers["bert"], tiny.records()
    ranked = [
        [classifier.labels[i] for i in np.argsort(-row, kind="stable")]
        for row in classifier.logits(classifier.encode(records))
    ]
    expected = {
        "predicted": [row[0] for row in ranked],
        "runner-up": [row[1] for row in ranked],
        "Neutral": ["neutral"] * 4,
        "gold": [record.label for record in records],
        "predicted - runner-up": [f"{row[0]} - {row[1]}" for row in ranked],
        "neutral - contradiction": ["neutral - contradiction"] * 4,
        "predicted - gold": [
            f"{r[0]} - {x.label}" if r[0] != x.label else None for r, x in zip(ranked, records, strict=True)
        ],
    }
    for target, names in expected.items():
        assert [scores.target for scores in extract(classifiers["bert"], records, "gradient", target=target)] == names


def test_a_label_may_hold_a_dash(tiny):
    classifier = tiny.build("bert", labels=("a - b", "b", "a"))
    (scores, *_) = extract(classifier, tiny.records(), "gradient", target="a - b")
    assert scores.target == "a - b"
    plain, contrast = (
        flat(extract(classifier, tiny.records(), "input_x_gradient", target=target)[0]) for target in ("a - b", "b - a")
    )
    assert not np.allclose(plain, contrast)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "occlusoin"}, "unknown method 'occlusoin'; did you mean occlusion?"),
        ({"method": "magic"}, "unknown method 'magic'; expected one of"),
        ({"target": "maybe"}, "has no label 'maybe'; it has entailment, neutral, contradiction"),
        ({"target": "gold - gold"}, "contrasts a label with itself"),
        ({"target": "Neutral - neutral"}, "contrasts a label with itself"),
        ({"steps": 5}, "input_x_gradient takes no option 'steps'; it takes reduction"),
        ({"reduction": "median"}, "unknown reduction 'median'; expected one of sum, mean"),
        ({"method": "occlusion", "mask": "blot"}, "unknown mask operator 'blot'"),
        ({"method": "occlusion", "unit": "page"}, "unknown unit 'page'"),
    ],
)
def test_impossible_options_are_refused_in_one_line(classifiers, tiny, options, message):
    with pytest.raises(InputError) as caught:
        extract(classifiers["bert"], tiny.records(), **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_single_output_has_no_runner_up(tiny):
    from transformers import BertConfig, BertForSequenceClassification

    tokenizer = tiny.bert_tokenizer()
    wide = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    model = Classifier(
        BertForSequenceClassification(BertConfig(vocab_size=len(tokenizer), **wide, num_labels=1)), tokenizer
    )
    for target in ("runner-up", "predicted - runner-up"):
        with pytest.raises(InputError, match="has a single output"):
            extract(model, tiny.records(), target=target)
    assert extract(model, tiny.records(), "integrated_gradients")[0].target == "LABEL_0"


def test_gold_needs_a_label(classifiers):
    with pytest.raises(InputError, match="record '7' has no label"):
        extract(classifiers["bert"], [Record("7", {"text": "a dog"})], target="gold")


def test_too_many_fields_are_refused(classifiers):
    three = Record("1", {"a": "x", "b": "y", "c": "z"})
    mixed = [Record("1", {"a": "x"}), Record("2", {"a": "x", "b": "y"})]
    for records in ([three], mixed):
        with pytest.raises(InputError, match="one field or two"):
            extract(classifiers["bert"], records)


def test_random_scores_depend_on_seed_and_record_alone(classifiers, tiny):
    records = tiny.records()
    first = extract(classifiers["bert"], records, "random", seed=3)
    backwards = extract(classifiers["gpt2"], records[::-1], "random", seed=3)[::-1]
    other = extract(classifiers["bert"], records, "random", seed=4)
    for a, b, c in zip(first, backwards, other, strict=True):
        np.testing.assert_array_equal(flat(a), flat(b))
        assert not np.allclose(flat(a), flat(c))
    values = np.concatenate(
        [
            flat(row)
            for row in extract(
                classifiers["bert"], [Record(str(i), {"text": "the dog " * 40}) for i in range(50)], "random"
            )
        ]
    )
    assert abs(np.nanmean(values) - 0.5) < 0.02
    assert 0 <= np.nanmin(values) < np.nanmax(values) < 1


def test_extracted_scores_are_read_back_as_they_were(tiny, tmp_path):
    scores = extract(tiny.build("bert", positions=12), tiny.records(), "integrated_gradients")
    save_scores(tmp_path / "scores.jsonl", scores)
    for before, after in zip(scores, load_scores(tmp_path / "scores.jsonl"), strict=True):
        assert (after.record_id, after.method, after.target) == (before.record_id, before.method, before.target)
        assert after.convention == before.convention
        for name, values in before.scores.items():
            np.testing.assert_array_equal(after.scores[name], values)


def test_half_precision_models_give_float32_scores_that_rank_alike(tiny):
    classifier = tiny.build("bert")
    half = Classifier(copy.deepcopy(classifier.model).bfloat16(), classifier.tokenizer, labels=classifier.labels)
    for method in METHODS:
        exact, rough = (extract(model, tiny.records(), method, target="neutral") for model in (classifier, half))
        for a, b in zip(exact, rough, strict=True):
            assert b.scores["premise"].dtype == np.float32
            np.testing.assert_allclose(flat(b), flat(a), atol=0.1 * np.abs(flat(a)).max() + 0.02)
