"""Gradient methods: equal to Captum's on each architecture, complete, and right where the answer is known."""

import numpy as np
import pytest
import torch
from captum.attr import InputXGradient, IntegratedGradients, Saliency
from scipy.stats import spearmanr

from raison.attribution import extract
from raison.attribution.gradients import Path, integrated_gradients
from raison.attribution.target import parse_target
from raison.models import Classifier
from raison.records import InputError, Record
from raison.words import REDUCTIONS

TARGETS = ("predicted", "gold", "neutral", "runner-up", "predicted - runner-up", "entailment - gold")


def weights_by_hand(target, record, logits, labels):
    """What a target means, written out: the weight of each logit."""
    order = sorted(range(len(labels)), key=lambda i: -logits[i])
    names = {"predicted": order[0], "runner-up": order[1], "gold": labels.index(record.label)}
    names |= {label: i for i, label in enumerate(labels)}
    weights = np.zeros(len(labels))
    for part, sign in zip(target.split(" - "), (1, -1), strict=False):
        weights[names[part]] += sign
    return torch.tensor(weights, dtype=torch.float32)


class Alone:
    """One record, run alone and unpadded by the bare model, through `inputs_embeds`: what Captum's tutorials do."""

    def __init__(self, classifier, record):
        (self.row,) = classifier.encode([record])
        self.model = classifier.model
        self.ids = torch.tensor(self.row.ids[None])
        self.options = {"attention_mask": torch.ones_like(self.ids)}
        if "token_type_ids" in classifier.tokenizer.model_input_names:
            self.options["token_type_ids"] = torch.tensor(self.row.types[None])
        self.embeddings = self.model.get_input_embeddings()(self.ids).detach()
        with torch.no_grad():
            self.logits = self.model(self.ids, **self.options).logits[0]

    def score(self, weights):
        def forward(embeddings):
            options = {name: value.expand(len(embeddings), -1) for name, value in self.options.items()}
            return self.model(inputs_embeds=embeddings, **options).logits @ weights

        return forward

    def baseline(self, token):
        ids = self.ids.clone()
        ids[0, self.row.word >= 0] = token
        return self.model.get_input_embeddings()(ids).detach()

    def pooled(self, values, reduction="sum"):
        return by_loop(values, self.row.word, len(self.row.grid), reduction)


def by_loop(values, word_of_token, words, reduction):
    """From tokens to words, slowly."""
    result = []
    for word in range(words):
        own = [float(value) for value, owner in zip(values, word_of_token, strict=True) if owner == word]
        if not own:
            result.append(float("nan"))
        elif reduction == "absmax":
            result.append(max(own, key=abs))
        else:
            result.append({"sum": sum, "mean": np.mean, "max": max, "first": lambda own: own[0]}[reduction](own))
    return np.array(result)


def flat(scores):
    return np.concatenate(list(scores.scores.values()))


@pytest.mark.parametrize("kind", ["pair", "text"])
@pytest.mark.parametrize("target", TARGETS)
def test_gradient_and_input_x_gradient_equal_captum(classifier, tiny, kind, target):
    records = tiny.records(kind)
    norms = extract(classifier, records, "gradient", target=target)
    products = extract(classifier, records, "input_x_gradient", target=target)
    for record, norm, product in zip(records, norms, products, strict=True):
        alone = Alone(classifier, record)
        weights = weights_by_hand(target, record, alone.logits.tolist(), classifier.labels)
        if not weights.any():  # entailment - gold, where gold is entailment: undefined, not zero
            assert norm.target is product.target is None
            assert np.isnan(flat(norm)).all()
            assert np.isnan(flat(product)).all()
            continue
        forward = alone.score(weights)
        given = alone.embeddings.clone().requires_grad_()
        expected = Saliency(forward).attribute(given, abs=False)[0].norm(dim=-1)
        np.testing.assert_allclose(flat(norm), alone.pooled(expected), atol=1e-4, rtol=1e-5)
        expected = InputXGradient(forward).attribute(given)[0].sum(dim=-1).detach()
        np.testing.assert_allclose(flat(product), alone.pooled(expected), atol=1e-4, rtol=1e-5)
        assert np.nanmax(np.abs(flat(norm))) > 0.1  # scores of some size: the tolerance says something


@pytest.mark.parametrize("kind", ["pair", "text"])
@pytest.mark.parametrize("baseline", ["zero", "pad", "mask"])
def test_integrated_gradients_equal_captum(classifier, tiny, kind, baseline):
    records = tiny.records(kind)[:3]
    token = {"zero": 0, "pad": classifier.tokenizer.pad_token_id, "mask": classifier.tokenizer.mask_token_id}[baseline]
    if token is None:
        with pytest.raises(InputError, match="no mask token"):
            extract(classifier, records, "integrated_gradients", baseline=baseline)
        return
    target = "predicted - runner-up" if kind == "pair" else "gold"
    for record, scores in zip(
        records, extract(classifier, records, "integrated_gradients", baseline=baseline, target=target), strict=True
    ):
        alone = Alone(classifier, record)
        forward = alone.score(weights_by_hand(target, record, alone.logits.tolist(), classifier.labels))
        start = torch.zeros_like(alone.embeddings) if baseline == "zero" else alone.baseline(token)
        expected = IntegratedGradients(forward).attribute(
            alone.embeddings, start, n_steps=50, method="gausslegendre", internal_batch_size=32
        )
        np.testing.assert_allclose(flat(scores), alone.pooled(expected[0].sum(dim=-1).detach()), atol=1e-4, rtol=1e-4)
        assert scores.convention["steps"] == 50
        assert scores.convention["baseline"] == baseline


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_words_are_reduced_from_their_tokens(classifiers, tiny, reduction):
    for kind in ("bert", "roberta"):
        record = tiny.records()[2]  # most of its words have several tokens
        alone = Alone(classifiers[kind], record)
        assert max(np.bincount(alone.row.word[alone.row.word >= 0])) >= 3
        weights = weights_by_hand("neutral", record, alone.logits.tolist(), classifiers[kind].labels)
        given = alone.embeddings.clone().requires_grad_()
        expected = InputXGradient(alone.score(weights)).attribute(given)[0].sum(dim=-1).detach()
        (scores,) = extract(classifiers[kind], [record], "input_x_gradient", target="neutral", reduction=reduction)
        np.testing.assert_allclose(flat(scores), alone.pooled(expected, reduction), atol=1e-5)


@pytest.mark.parametrize("baseline", ["zero", "pad"])
def test_integrated_gradients_of_all_tokens_add_up_to_the_change_of_the_logit(classifiers, tiny, baseline):
    """Completeness (Sundararajan et al. 2017, proposition 1), over ALL tokens: specials have their share."""
    classifier = classifiers["bert"]
    rows = classifier.encode(tiny.records())
    path = Path(classifier, baseline)
    start, end = path.logits(rows)
    weights = np.tile(np.array([[0.0, 1.0, -1.0]], dtype=np.float32), (len(rows), 1))
    found = path.integrate(rows, weights, 300)
    np.testing.assert_allclose([row.sum() for row in found], ((end - start) * weights).sum(axis=1), atol=2e-3)
    np.testing.assert_allclose(end, classifier.logits(rows), atol=1e-5)
    if baseline == "zero":
        specials = [abs(row[tokens.word < 0]).sum() for row, tokens in zip(found, rows, strict=True)]
        assert min(specials) > 0.01


def test_the_noted_gap_is_that_of_the_scores(classifiers, tiny):
    classifier, records = classifiers["bert"], tiny.records()
    rows = classifier.encode(records)
    for count in (2, 20):
        _, weights, notes = integrated_gradients(
            classifier, rows, parse_target("gold", classifier, records), steps=count, baseline="pad"
        )
        path = Path(classifier, "pad")
        change = np.diff(path.logits(rows), axis=0)[0]
        for row, own, moved, note in zip(path.integrate(rows, weights, count), weights, change, notes, strict=True):
            gap = abs(row.sum() - moved @ own) / abs(row).sum()
            assert note["completeness_gap"] == pytest.approx(gap, abs=1e-5)
            assert note["steps"] == count


def test_adaptive_steps_stop_at_the_tolerance_and_agree_with_many_steps(classifiers, tiny):
    classifier, records = classifiers["distilbert"], tiny.records()
    options = {"method": "integrated_gradients", "baseline": "pad"}
    exact = extract(classifier, records, steps=300, **options)
    steps = {}
    for tolerance in (1e-1, 1e-3):
        scores = extract(classifier, records, steps="auto", tolerance=tolerance, **options)
        steps[tolerance] = [row.convention["steps"] for row in scores]
        for row, best in zip(scores, exact, strict=True):
            assert row.convention["completeness_gap"] <= tolerance or row.convention["steps"] == 300
            assert row.convention["tolerance"] == tolerance
            if tolerance == 1e-3:
                known = ~np.isnan(flat(row))
                assert spearmanr(flat(row)[known], flat(best)[known]).statistic > 0.99
    assert all(a <= b for a, b in zip(steps[1e-1], steps[1e-3], strict=True))
    assert min(steps[1e-1]) < 50
    fixed = extract(classifier, records[:1], steps=steps[1e-3][0], **options)
    adaptive = extract(classifier, records[:1], steps="auto", tolerance=1e-3, **options)
    np.testing.assert_allclose(flat(fixed[0]), flat(adaptive[0]))


@pytest.mark.parametrize("steps", [0, -1, 2.5, "many"])
def test_impossible_steps_are_refused(classifiers, tiny, steps):
    with pytest.raises(InputError, match="expected a whole number of at least 1, or auto"):
        extract(classifiers["bert"], tiny.records(), "integrated_gradients", steps=steps)


def test_an_unknown_baseline_is_refused(classifiers, tiny):
    with pytest.raises(InputError, match="expected one of zero, pad, mask"):
        extract(classifiers["bert"], tiny.records(), "integrated_gradients", baseline="blue")


class BagOfWords(torch.nn.Module):
    """logit_c = b_c + sum over tokens of w_c · e(token): every attribution of it is known."""

    def __init__(self, config, vocabulary):
        super().__init__()
        self.config = config
        self.embedding = torch.nn.Embedding(vocabulary, 3)
        self.out = torch.nn.Linear(3, 2)

    def get_input_embeddings(self):
        return self.embedding

    def forward(self, input_ids, attention_mask, token_type_ids):
        kept = self.embedding(input_ids) * attention_mask.unsqueeze(-1)
        return type("Output", (), {"logits": self.out(kept.sum(dim=1))})()


@pytest.fixture
def bag(tiny):
    tokenizer = tiny.bert_tokenizer()
    config = type("Config", (), {"id2label": {0: "no", 1: "yes"}, "model_type": "bag", "_name_or_path": "bag"})()
    model = BagOfWords(config, len(tokenizer))
    with torch.no_grad():
        model.embedding.weight.zero_()
        # "dog" is worth (1, 2, 0), "happy" (0, 0, -3), "not" (2, 0, 1), the mask token (0, 0, 1)
        for word, vector in {"dog": (1, 2, 0), "happy": (0, 0, -3), "not": (2, 0, 1), "[MASK]": (0, 0, 1)}.items():
            model.embedding.weight[tokenizer.convert_tokens_to_ids(word)] = torch.tensor(vector, dtype=torch.float32)
        model.out.weight[:] = torch.tensor([[1.0, 0, 0], [2.0, 1, -1]])
        model.out.bias[:] = torch.tensor([0.5, -0.5])
    return Classifier(model, tokenizer)


def test_a_linear_model_has_the_answer_known_by_hand(bag):
    """For "yes", w = (2, 1, -1): dog 2·1 + 1·2 = 4, happy -1·-3 = 3, not 2·2 - 1·1 = 3, the mask token -1."""
    records = [Record("1", {"text": "the dog not happy"}), Record("2", {"text": "happy"})]
    expected = {
        "input_x_gradient": ([0, 4, 3, 3], [3]),
        "integrated_gradients": ([0, 4, 3, 3], [3]),
        "occlusion": ([1, 5, 4, 4], [4]),  # minus the mask token's -1
        "gradient": ([6**0.5] * 4, [6**0.5]),  # |w| = sqrt(4 + 1 + 1)
    }
    for method, values in expected.items():
        for scores, wanted in zip(extract(bag, records, method, target="yes"), values, strict=True):
            np.testing.assert_allclose(scores.scores["text"], wanted, atol=1e-5, err_msg=method)
    # "yes" - "no": w = (1, 1, -1): dog 1 + 2 = 3, not 2 - 1 = 1, happy 3
    (contrast, _) = extract(bag, records, "input_x_gradient", target="yes - no")
    np.testing.assert_allclose(contrast.scores["text"], [0, 3, 1, 3], atol=1e-5)
    assert contrast.target == "yes - no"
    (deleted, _) = extract(bag, records, "occlusion", target="yes", mask="delete")
    np.testing.assert_allclose(deleted.scores["text"], [0, 4, 3, 3], atol=1e-5)
