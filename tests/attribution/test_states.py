"""Hidden states: those that transformers reports, and exchanged for those of another input."""

import pytest
import torch

from raison.attribution import states
from raison.records import InputError


def hooks(model):
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


def two_batches(classifier, tiny):
    """The same batch with other words in it: every row has its tokens in reverse."""
    batch = classifier.batch(classifier.encode(tiny.records())[:3])
    ids = batch.ids.clone()
    for row, length in enumerate(batch.lengths.tolist()):
        ids[row, :length] = ids[row, :length].flip(0)
    return batch, batch._replace(ids=ids)


def look(classifier, batch):
    with torch.no_grad(), states.seen(classifier.model) as found:
        return found, classifier.forward(batch, output_hidden_states=True)


def test_states_are_those_that_the_model_reports(classifier, tiny):
    batch, _ = two_batches(classifier, tiny)
    found, output = look(classifier, batch)
    layers = len(output.hidden_states) - 1
    assert len(found) == states.count(classifier.model) == layers + 2
    torch.testing.assert_close(found[0], classifier.embed(batch))
    for mine, reported in zip(found[1:], output.hidden_states[:layers], strict=False):
        torch.testing.assert_close(mine, reported)
    norm = {"gpt2": "ln_f", "llama": "norm"}.get(
        classifier.name
    )  # decoders report the last state after their last norm
    last = getattr(classifier.model.base_model, norm)(found[-1]) if norm else found[-1]
    torch.testing.assert_close(last, output.hidden_states[-1])


def test_a_model_goes_on_from_the_states_that_it_is_given(classifier, tiny):
    """Each state of another input in turn; its own from there on, so that the answer is the other's."""
    here, there = two_batches(classifier, tiny)
    (_, own), (found, other) = look(classifier, here), look(classifier, there)
    assert not torch.allclose(own.logits, other.logits, atol=1e-3)
    before = hooks(classifier.model)
    for index, state in enumerate(found):
        with torch.no_grad(), states.changed(classifier.model, index, lambda _, state=state: state):
            logits = classifier.forward(here, return_dict=True).logits
        torch.testing.assert_close(logits, other.logits, atol=1e-4, rtol=1e-4)
    assert hooks(classifier.model) == before


def test_only_the_first_pass_and_the_wanted_columns_are_seen(classifiers, tiny):
    classifier = classifiers["bert"]
    here, there = two_batches(classifier, tiny)
    with torch.no_grad(), states.seen(classifier.model, 2) as found:
        classifier.forward(here, return_dict=True)
        classifier.forward(there, return_dict=True)
    whole, _ = look(classifier, here)
    for mine, state in zip(found, whole, strict=True):
        torch.testing.assert_close(mine, state[:, :2])


def test_hooks_are_gone_where_the_model_fails(classifiers):
    model = classifiers["bert"].model
    before = hooks(model)
    with pytest.raises(RuntimeError, match="broke"), states.seen(model):
        raise RuntimeError("it broke")
    with pytest.raises(RuntimeError, match="broke"), states.changed(model, 1, lambda state: state):
        raise RuntimeError("it broke")
    assert hooks(model) == before


def test_a_model_without_layers_that_we_know_is_refused(tiny):
    model = tiny.build("bert").model
    model.config.num_hidden_layers = 7
    with pytest.raises(InputError, match="BertForSequenceClassification: the list of its 7 layers is not found"):
        states.count(model)
