"""Records that are aligned already sit out: by hand, by a slow loop, and in a training that goes on after a stop."""

import msgspec
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import TrainingArguments

from raison.records import Annotation, InputError, Record
from raison.training import Alignment
from raison.training.align import check_alignment, examples, objective_for, trainer_for
from raison.training.aligned import Collator, Examples
from raison.training.doze import Dozing
from raison.training.learners import LabelLearner
from raison.words import whitespace_words


def record(index, marked=True):
    """A text of which a person has marked the second word."""
    text = ("the man reads", "a dog sleeps", "the park is red")[index % 3]
    notes = (Annotation("ann", None, {"text": (whitespace_words(text)[1],)}),) if marked else ()
    label = ("entailment", "neutral", "contradiction")[index % 3]
    return Record(f"r{index}", {"text": text}, None, label, (), notes)


RECORDS = [record(index, marked=index != 4) for index in range(6)]


def trainer_of(tiny, folder, epochs, **settings):
    learner = LabelLearner(tiny.build("bert"))
    alignment = Alignment(draws=2, **settings)
    rows = examples(learner, RECORDS, alignment)
    given = TrainingArguments(
        str(folder), num_train_epochs=epochs, per_device_train_batch_size=3, learning_rate=0.01, optim="sgd", seed=1,
        lr_scheduler_type="constant", save_strategy="epoch", logging_strategy="epoch", report_to=[], disable_tqdm=True,
        use_cpu=True, remove_unused_columns=False,
    )  # fmt: skip
    return trainer_for(objective_for(learner, rows, alignment, 1), rows, given)


def test_times_out_grow_and_end():
    """Aligned in epochs 0, 2, 5, 10 and 15; the limit is 4; active in 20. Between those it sits out."""
    dozing, looked = Dozing(1, 4), []
    for epoch in range(23):
        if not dozing.sleeps(0, epoch):
            looked.append(epoch)
            dozing.saw(torch.tensor([0]), torch.tensor([1.0 if epoch >= 20 else 0.0]))
        dozing.close(epoch)
    assert looked == [0, 2, 5, 10, 15, 20, 21, 22]


@given(st.lists(st.booleans(), min_size=1, max_size=30), st.integers(1, 9))
def test_who_sits_out_is_by_the_definition(active, most):
    dozing, out, length = Dozing(2, most), 0, 0
    for epoch, pushes in enumerate(active):
        assert dozing.sleeps(1, epoch) == (out > 0)
        assert not dozing.sleeps(0, epoch)  # never seen: without a rationale, or in the warm-up
        if out:
            out -= 1
        else:
            length = 0 if pushes else min(most, max(1, 2 * length))
            out = length
            dozing.saw(torch.tensor([1]), torch.tensor([float(pushes)]))
        dozing.close(epoch)


def test_what_one_process_saw_all_know():
    """Of a record that two processes saw, as at the end of a batch that is filled up, any loss above 0 counts."""
    one, other = Dozing(3, 4), Dozing(3, 4)
    one.saw(torch.tensor([0, 1]), torch.tensor([0.0, 0.0]))
    other.saw(torch.tensor([1]), torch.tensor([2.0]))
    seen = torch.cat([one._seen, other._seen])
    for dozing in (one, other):
        dozing.close(0, lambda _: seen)
        assert [dozing.sleeps(index, 1) for index in range(3)] == [True, False, False]


def test_who_sits_out_counts_with_the_loss_0(tiny):
    """Neither replaced versions nor a gradient, and the same divisor."""
    alignment = Alignment(draws=2, doze=4, alpha=2.0)
    learner = LabelLearner(tiny.build("bert"))
    rows = examples(learner, RECORDS, alignment)
    objective = objective_for(learner, rows, alignment, 1)
    objective.dozing = Dozing(6, 4)
    data = Examples(rows, objective.teacher, 1, objective.dozing)
    collator = Collator(learner, objective.name)
    awake = collator([data[index] for index in range(6)])
    objective.dozing.until[torch.tensor([0, 3])] = 1
    dozing = collator([data[index] for index in range(6)])
    assert awake["counted"].tolist() == dozing["counted"].tolist() == [1, 1, 1, 1, 0, 1]
    assert awake["replaced_of"].unique().tolist() == [0, 1, 2, 3, 5]
    assert dozing["replaced_of"].unique().tolist() == [1, 2, 5]
    totals, found = torch.tensor([6.0, 5.0]), []
    for inputs in (awake, dozing, collator([data[index] for index in (0, 3)])):
        loss = objective.loss(learner.network, inputs, totals, 1.0)
        loss.backward()
        learner.network.zero_grad()
        found.append(objective.told())
    assert found[0]["task"] == pytest.approx(found[1]["task"], rel=1e-5)
    assert 0 < found[1]["alignment"] < found[0]["alignment"]
    assert found[1]["active"] < found[0]["active"]
    assert found[2]["alignment"] == found[2]["active"] == 0.0
    assert objective.dozing._seen.tolist() == [1, 1, 1, 1, -1, 1]


def test_nothing_changes_while_every_hinge_is_active(tiny, tmp_path):
    """A margin out of reach: the very same weights as without."""
    weights = []
    for doze in (0, 4):
        trainer = trainer_of(tiny, tmp_path / str(doze), 2, margin=50.0, doze=doze)
        trainer.train()
        weights.append({name: value.clone() for name, value in trainer.model.state_dict().items()})
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_a_hinge_that_is_0_is_looked_at_seldom_also_after_a_stop(tiny, tmp_path, monkeypatch):
    """Margin 0 and no step of any size: records are found aligned, or not, by the draws alone."""
    whole = trainer_of(tiny, tmp_path / "whole", 5, margin=0.0, doze=8)
    whole.train()
    first = trainer_of(tiny, tmp_path / "parts", 5, margin=0.0, doze=8)
    monkeypatch.setattr(type(first), "_maybe_log_save_evaluate", stopping_after(type(first), 3))
    first.train()
    assert first.state.global_step == 6
    later = trainer_of(tiny, tmp_path / "parts", 5, margin=0.0, doze=8)
    later.train(resume_from_checkpoint=str(tmp_path / "parts" / "checkpoint-6"))
    dozing = [trainer.train_dataset.dozing for trainer in (whole, later)]
    assert torch.equal(dozing[0].until, dozing[1].until)
    assert torch.equal(dozing[0].length, dozing[1].length)
    assert int(dozing[0].length.max()) > 0
    assert dozing[0].until[4] == 0  # nobody marked a word of it
    for name, value in whole.model.state_dict().items():
        torch.testing.assert_close(value, later.model.state_dict()[name], atol=0, rtol=0)


def stopping_after(kind, epochs):
    """Let a trainer stop once a checkpoint of an epoch is written."""
    before = kind._maybe_log_save_evaluate

    def run(self, *arguments, **named):
        before(self, *arguments, **named)
        if self.state.epoch and self.state.epoch >= epochs:
            self.control.should_training_stop = True

    return run


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"doze": -1}, "doze -1: expected at least 0"),
        ({"by": "gradient", "doze": 2}, "doze: a setting of input-marginalisation, not of gradient"),
    ],
)
def test_what_cannot_be_asked_is_one_line(settings, message):
    with pytest.raises(InputError, match=message):
        check_alignment(Alignment(**settings))
    assert msgspec.to_builtins(Alignment())["doze"] == 0
