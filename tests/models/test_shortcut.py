"""The last layer goes on with the first token alone, only where that changes nothing."""

import copy

import numpy as np
import pytest
import torch

from raison.attribution import extract
from raison.models import Classifier
from raison.models.shortcut import Shortcut


class MeanHead(torch.nn.Module):
    """A BERT whose head reads the mean over tokens."""

    def __init__(self, model):
        super().__init__()
        self.bert, self.classifier, self.config = model.bert, model.classifier, model.config
        self.base_model = model.bert

    def get_input_embeddings(self):
        return self.bert.get_input_embeddings()

    def forward(self, input_ids, attention_mask, token_type_ids):
        hidden = self.bert(input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids).last_hidden_state
        seen = attention_mask.unsqueeze(-1)
        return type("Output", (), {"logits": self.classifier((hidden * seen).sum(dim=1) / seen.sum(dim=1))})()


class SecondToken(MeanHead):
    """A BERT whose head reads the second token."""

    def forward(self, input_ids, attention_mask, token_type_ids):
        hidden = self.bert(input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids).last_hidden_state
        return type("Output", (), {"logits": self.classifier(hidden[:, 1])})()


def bare(classifier, row):
    types = {"token_type_ids": torch.tensor(row.types[None])} if classifier._reads_types else {}
    with torch.no_grad():
        ids = torch.tensor(row.ids[None])
        return classifier.model(input_ids=ids, attention_mask=torch.ones_like(ids), **types).logits[0].numpy()


def test_it_holds_for_encoders_that_read_the_first_token(classifiers):
    assert {kind: model._shortcut.holds for kind, model in classifiers.items()} == {
        "bert": True,
        "roberta": True,
        "distilbert": True,
        "gpt2": False,
        "llama": False,
    }


@pytest.mark.parametrize("head", [MeanHead, SecondToken])
def test_it_does_not_hold_for_other_heads_and_their_answers_are_right(tiny, head):
    classifier = tiny.build("bert")
    other = Classifier(head(classifier.model), classifier.tokenizer, labels=classifier.labels)
    assert not other._shortcut.holds
    rows = other.encode(tiny.records())
    np.testing.assert_allclose(other.logits(rows), [bare(other, row) for row in rows], atol=1e-5)
    assert np.isfinite(extract(other, tiny.records(), "gradient")[0].scores["premise"]).all()


def test_it_saves_the_last_layers_other_tokens_and_is_gone_afterwards(tiny):
    classifier = tiny.build("bert")
    widths = []
    layer = classifier.model.bert.encoder.layer[-1]
    layer.intermediate.register_forward_hook(lambda _module, given, _output: widths.append(given[0].shape[1]))
    rows = classifier.encode(tiny.records())
    assert classifier._shortcut.holds
    widths.clear()
    found = classifier.logits(rows)
    assert widths == [1]
    widths.clear()
    np.testing.assert_allclose(found, [bare(classifier, row) for row in rows], atol=1e-5)
    assert widths == [len(row.ids) for row in rows]


def test_training_and_further_outputs_go_the_whole_way(tiny):
    classifier = tiny.build("bert")
    assert classifier._shortcut.holds
    batch = classifier.batch(classifier.encode(tiny.records()))
    hidden = classifier.forward(batch, output_hidden_states=True).hidden_states
    assert hidden[-1].shape[:2] == batch.ids.shape
    widths = []
    layer = classifier.model.bert.encoder.layer[-1]
    layer.intermediate.register_forward_hook(lambda _module, given, _output: widths.append(given[0].shape[1]))
    classifier.model.train()
    classifier.forward(batch)
    assert widths == [batch.ids.shape[1]]


@pytest.mark.parametrize("weight", [float("nan"), 0.0])
def test_answers_that_say_nothing_about_the_model_take_no_shortcut(tiny, weight):
    model = copy.deepcopy(tiny.build("bert").model)
    with torch.no_grad():
        model.classifier.weight.fill_(weight)
    assert not Classifier(model, tiny.bert_tokenizer())._shortcut.holds


def test_a_model_without_such_layers_takes_none():
    assert not Shortcut(torch.nn.Linear(2, 2), lambda: torch.zeros(1)).holds
