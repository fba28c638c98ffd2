"""The classifier's dealings with padding and with what is no classifier."""

import copy

import numpy as np
import pytest

from raison.masking import apply, make_operator
from raison.models import Classifier
from raison.records import InputError, Record
from raison.words import tokenize, word_grid


def test_rows_are_filled_with_the_models_own_padding(tiny):
    """A causal head finds a text's last token by the padding id of its configuration, whatever the tokenizer's is."""
    classifier = tiny.build("gpt2")
    expected = classifier.logits(classifier.encode(tiny.records()))
    tokenizer = copy.deepcopy(classifier.tokenizer)
    tokenizer.pad_token = None
    other = Classifier(classifier.model, tokenizer)
    np.testing.assert_allclose(other.logits(other.encode(tiny.records())), expected, atol=1e-6)


def test_a_causal_model_without_padding_is_refused(tiny):
    model = copy.deepcopy(tiny.build("llama").model)
    model.config.pad_token_id = None
    with pytest.raises(InputError, match="no pad_token_id"):
        Classifier(model, tiny.byte_tokenizer("llama"))


def test_wrong_numbers_of_labels_are_refused(tiny):
    with pytest.raises(InputError, match="2 labels given, but the model has 3 outputs"):
        tiny.build("bert", labels=("yes", "no"))


def test_masked_predictions_are_those_of_each_input_alone(classifier, tiny):
    records = tiny.records()
    tokens = classifier.encode(records)
    rng = np.random.default_rng(0)
    masks = [rng.random((6, len(row.grid))) < 0.5 for row in tokens]
    for mask in masks:
        mask[0], mask[1], mask[2] = False, True, mask[3]
    for name in ("delete", "pad", "text:blue"):
        operator = make_operator(name, classifier.tokenizer)
        known = {}
        found = classifier.predict_masked(tokens, masks, operator, known)
        alone = [
            np.concatenate([classifier.predict_masked([row], [mask[None]], operator)[0] for mask in own])
            for row, own in zip(tokens, masks, strict=True)
        ]
        for together, one in zip(found, alone, strict=True):
            assert np.isfinite(together).all()
            np.testing.assert_allclose(together.sum(axis=1), 1)
            np.testing.assert_allclose(together, one, atol=1e-5)
            np.testing.assert_array_equal(together[2], together[3])
        ran = len(known)
        assert ran <= sum(len(np.unique(mask, axis=0)) for mask in masks)
        again = classifier.predict_masked(tokens, masks, operator, known)
        assert len(known) == ran
        np.testing.assert_array_equal(np.concatenate(again), np.concatenate(found))


def test_inputs_that_grew_beyond_the_models_positions_keep_their_end(tiny):
    classifier = tiny.build("bert", positions=12)
    (row,) = classifier.encode([Record("1", {"text": "a dog plays in the park"})])
    operator = make_operator("text:red red red red", classifier.tokenizer)
    (grown,) = apply(operator, row, np.ones((1, 6), dtype=bool))
    assert len(grown.ids) == 2 + 6 * 4
    red = classifier.tokenizer.convert_tokens_to_ids("red")
    assert classifier.batch([grown]).ids.tolist() == [[2, *[red] * 10, 3]]
    assert np.isfinite(classifier.logits([grown, row])).all()


def test_predictions_carry_probabilities_of_each_label(classifiers, tiny):
    classifier = classifiers["bert"]
    logits = classifier.logits(classifier.encode(tiny.records())).astype(np.float64)
    for prediction, row in zip(classifier.predict(tiny.records()), logits, strict=True):
        expected = np.exp(row) / np.exp(row).sum()
        assert prediction.label == classifier.labels[int(row.argmax())]
        np.testing.assert_allclose([prediction.probabilities[label] for label in classifier.labels], expected)


def test_a_slow_tokenizer_is_refused():
    class Slow:
        is_fast = False

    with pytest.raises(InputError, match="Slow gives no character offsets"):
        tokenize(Slow(), [word_grid(Record("1", {"text": "a"}))], [("a",)], 10)


def test_a_saved_classifier_is_loaded_and_answers_the_same(tiny, tmp_path):
    classifier = tiny.build("roberta")
    classifier.model.save_pretrained(tmp_path / "mine")
    classifier.tokenizer.save_pretrained(tmp_path / "mine")
    loaded = Classifier.load(tmp_path / "mine", device="cpu")
    assert loaded.name == "mine"
    assert loaded.labels == classifier.labels
    assert loaded.max_length == 96
    records = tiny.records()
    np.testing.assert_allclose(
        loaded.logits(loaded.encode(records)), classifier.logits(classifier.encode(records)), atol=1e-6
    )


def test_what_is_no_classifier_is_refused_in_one_line(tiny, tmp_path):
    from transformers import BertForMaskedLM

    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{not json")
    BertForMaskedLM(tiny.build("bert").model.config).save_pretrained(tmp_path / "language")
    for name, message in (
        ("none", "no such folder"),
        ("empty", "can't be loaded"),
        ("broken", "can't be loaded"),
        ("language", "a BertForMaskedLM, not a sequence classifier"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            Classifier.load(tmp_path / name)
        assert "\n" not in str(caught.value)
