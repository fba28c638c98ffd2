"""Occlusion: equal to Captum's ablation, and to one call of the model for each word taken away."""

import numpy as np
import pytest
import torch
from captum.attr import FeatureAblation, Occlusion

from raison.attribution import extract
from raison.attribution.erasure import _windows
from raison.masking import make_operator
from raison.records import InputError, Record


def flat(scores):
    return np.concatenate(list(scores.scores.values()))


def answer(classifier, ids, types):
    """The bare model's logits for one unpadded input."""
    options = (
        {"token_type_ids": torch.tensor([types])} if "token_type_ids" in classifier.tokenizer.model_input_names else {}
    )
    with torch.no_grad():
        return classifier.model(torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)).long(), **options).logits[0]


@pytest.mark.parametrize("kind", ["pair", "text"])
@pytest.mark.parametrize("name", ["bert", "roberta", "distilbert"])
def test_occlusion_of_tokens_equals_captum(classifiers, tiny, name, kind):
    """Captum keeps the length of the input, so each token of a word is replaced: our unit is the token."""
    classifier, records = classifiers[name], tiny.records(kind)
    mask = classifier.tokenizer.mask_token_id
    for record, scores in zip(records, extract(classifier, records, "occlusion", unit="token"), strict=True):
        (row,) = classifier.encode([record])
        ids = torch.tensor(row.ids[None])
        types = torch.tensor(row.types[None])
        attention = torch.ones_like(ids)
        label = classifier.labels.index(scores.target)

        def forward(ids, attention, types, label=label):
            types = {"token_type_ids": types} if name == "bert" else {}
            return classifier.model(ids, attention_mask=attention, **types).logits[:, label]

        words = len(row.grid)
        feature = torch.tensor(np.where(row.word >= 0, row.word, words)[None])  # specials are one feature of their own
        with torch.no_grad():
            found = FeatureAblation(forward).attribute(
                ids,
                baselines=mask,
                feature_mask=feature,
                additional_forward_args=(attention, types),
            )
        expected = [float(found[0][int(np.flatnonzero(row.word == word)[0])]) for word in range(words)]
        np.testing.assert_allclose(flat(scores), expected, atol=1e-4)
        assert np.abs(flat(scores)).max() > 0.05


@pytest.mark.parametrize("window", [1, 2, 3, 50])
def test_windows_of_words_equal_captum(classifiers, window):
    classifier = classifiers["bert"]
    record = Record("1", {"text": "the man reads a red book in the park"})  # one token a word
    (row,) = classifier.encode([record])
    (scores,) = extract(classifier, [record], "occlusion", window=window, target="neutral")
    first, last = torch.tensor([[2]]), torch.tensor([[3]])

    def forward(ids):
        sides = first.expand(len(ids), 1), last.expand(len(ids), 1)
        return classifier.model(torch.cat([sides[0], ids, sides[1]], dim=1)).logits[:, 1]

    with torch.no_grad():
        ids = torch.tensor(row.ids[None, 1:-1])
        expected = Occlusion(forward).attribute(
            ids, sliding_window_shapes=(min(window, 9),), baselines=classifier.tokenizer.mask_token_id
        )
    np.testing.assert_allclose(flat(scores), expected[0], atol=1e-4)


def test_windows_stay_in_their_field_and_cover_each_word(classifiers, tiny):
    (row, *_) = classifiers["bert"].encode(tiny.records())
    assert row.grid.sizes == (6, 5)
    starts = [[int(i) for i in np.flatnonzero(mask)] for mask in _windows(row, 4)]
    assert starts == [[0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 5], [6, 7, 8, 9], [7, 8, 9, 10]]
    assert [np.flatnonzero(mask).tolist() for mask in _windows(row, 6)] == [[*range(6)], [*range(6, 11)]]


@pytest.mark.parametrize("operator", ["default", "delete", "text:blue sky", "unknown"])
def test_occlusion_is_one_call_for_each_word(classifier, tiny, operator):
    if operator == "unknown" and classifier.tokenizer.unk_token_id is None:
        with pytest.raises(InputError, match="no unknown token"):
            extract(classifier, tiny.records(), "occlusion", mask="unknown")
        return
    records = tiny.records()
    options = {} if operator == "default" else {"mask": operator}
    instead = {"delete": None, "text:blue sky": " blue sky", "unknown": classifier.tokenizer.unk_token_id}
    default = classifier.tokenizer.mask_token_id
    for record, scores in zip(
        records, extract(classifier, records, "occlusion", target="gold", **options), strict=True
    ):
        (row,) = classifier.encode([record])
        label = classifier.labels.index(record.label)
        whole = answer(classifier, row.ids.tolist(), row.types.tolist())[label]
        starts = [span.start for spans in row.grid.words.values() for span in spans]
        for word, score in enumerate(flat(scores)):
            new = instead.get(operator, default)
            if isinstance(new, str):
                text = new.strip() if starts[word] == 0 else new
                new = classifier.tokenizer(text, add_special_tokens=False).input_ids
            ids, types = one_without(row, word, [new] if isinstance(new, int) else new or [])
            assert score == pytest.approx(float(whole - answer(classifier, ids, types)[label]), abs=1e-4)


def one_without(row, word, new):
    ids, types, done = [], [], False
    for token, kind, owner in zip(row.ids.tolist(), row.types.tolist(), row.word.tolist(), strict=True):
        if owner != word:
            ids.append(token)
            types.append(kind)
        elif not done:
            done = True
            ids += new
            types += [kind] * len(new)
    return ids, types


def test_pad_hides_a_word_and_leaves_the_others_in_their_places(classifiers, tiny):
    classifier, records = classifiers["bert"], tiny.records()
    for record, scores in zip(
        records, extract(classifier, records, "occlusion", target="gold", mask="pad"), strict=True
    ):
        (row,) = classifier.encode([record])
        label = classifier.labels.index(record.label)
        ids, types = torch.tensor(row.ids[None]), torch.tensor(row.types[None])
        for word, score in enumerate(flat(scores)):
            seen = torch.tensor((row.word != word)[None].astype(int))
            with torch.no_grad():
                whole = classifier.model(ids, token_type_ids=types).logits[0, label]
                without = classifier.model(ids, attention_mask=seen, token_type_ids=types).logits[0, label]
            assert score == pytest.approx(float(whole - without), abs=1e-4)


def test_the_default_is_a_mask_token_or_deletion(classifiers, tiny):
    (bert, *_) = extract(classifiers["bert"], tiny.records(), "occlusion")
    (llama, *_) = extract(classifiers["llama"], tiny.records(), "occlusion")
    assert bert.convention["operator"] == "mask"
    assert llama.convention["operator"] == "delete"
    assert {"unit": "word", "window": 1, "signed": True, "score": "logit"}.items() <= bert.convention.items()


def test_unigram_depends_on_the_seed_alone(classifiers, tiny):
    records = tiny.records()
    first, again, other = (
        [flat(row) for row in extract(classifiers["bert"], records, "occlusion", mask="unigram", seed=seed)]
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(np.concatenate(first), np.concatenate(again))
    assert not np.allclose(np.concatenate(first), np.concatenate(other))


def test_a_window_below_one_word_is_refused(classifiers, tiny):
    with pytest.raises(InputError, match="window 0"):
        extract(classifiers["bert"], tiny.records(), "occlusion", window=0)


def test_an_operator_the_tokenizer_cannot_serve_is_refused(classifiers):
    with pytest.raises(InputError, match="no mask token"):
        make_operator("mask", classifiers["llama"].tokenizer)
