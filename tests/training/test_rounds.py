"""Rounds of DiffMask: how a training is divided among them, and when they end before it."""

import contextlib
import logging
import sys
from itertools import pairwise
from types import SimpleNamespace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import TrainerCallback

from aligning import DEV, QUICK, RECORDS, same, told, trainer_of, weights, weights_of
from raison.attribution import diffmask
from raison.attribution.extractor import Extractor
from raison.training import Alignment, finetune
from raison.training import rounds as rounds_module
from raison.training.align import objective_for
from raison.training.learners import LabelLearner
from raison.training.rounds import Rounds, State
from stopping import Stop, stop_at

FINETUNE = sys.modules["raison.training.finetune"]  # the package has a function of that name
STOPPING = Alignment("diffmask", rounds=4, extractor_epochs=1, stop=1)
SLOW_TO_RISE = [0.1, 0.5, 0.5, 0.5, 0.5, 0.7, 0.6, 0.7, 0.7, 0.9, 0.9, 0.9]  # the third round of three epochs is idle


def watch_rounds(monkeypatch):
    """Note each training of an extractor: of which model, at which rates; it changes nothing."""
    seen = []

    def train(model, tokens, extractor, **options):
        before = {name: value.clone() for name, value in model.model.state_dict().items()}
        mode = model.model.training
        diffmask.train_extractor(model, tokens, extractor, **options)
        assert same(before, model.model.state_dict())
        assert model.model.training == mode
        assert all(weight.requires_grad for weight in model.model.parameters())
        seen.append((before, {**options, "records": len(tokens)}))
        return extractor

    monkeypatch.setattr(rounds_module, "train_extractor", train)
    return seen


def scripted(metrics):
    """Give a measure that says what it is told to, epoch by epoch."""
    left = list(metrics)
    return lambda: {"accuracy": left.pop(0)}


def rounds_trainer(tiny, folder, metrics, epochs, monkeypatch, **settings):
    """A trainer whose dev metric is made up, and the weights after each epoch."""
    alignment = Alignment("diffmask", **{"extractor_epochs": 1, **settings})
    monkeypatch.setattr("aligning.measure_of", lambda *_: scripted(metrics))
    trainer = trainer_of(tiny, folder, alignment, dev=DEV, num_train_epochs=epochs)
    after = []

    class Keep(TrainerCallback):
        def on_epoch_end(self, args, state, control, **_):
            after.append(weights_of(trainer))

    trainer.add_callback(Keep())
    return trainer, after


def test_extractors_are_trained_as_rounds_begin_on_the_best_model(tiny, tmp_path, monkeypatch):
    """Epochs 1 | 2 3 | 4 5 | 6 7 and one that is left over; section 6, item 12: the model learns on with dropout on."""
    seen = watch_rounds(monkeypatch)
    metrics = [0.1, 0.5, 0.4, 0.4, 0.3, 0.6, 0.2, 0.2]
    trainer, after = rounds_trainer(tiny, tmp_path, metrics, 8, monkeypatch, rounds=3, warm_up=1, decay=0.5)
    trainer.train()
    assert len(after) == 8
    assert len(seen) == 3  # also if epochs are left over
    assert same(seen[0][0], after[0])
    assert same(seen[1][0], after[1])  # the best so far was after epoch 2
    assert not same(seen[1][0], after[2])
    assert same(seen[2][0], after[1])
    assert [options["seed"] for _, options in seen] == [3, 4, 5]
    assert [options["rate"] for _, options in seen] == [1.0, 0.5, 0.25]
    assert all(options["epochs"] == 1 and options["records"] == 16 for _, options in seen)
    assert trainer.model.training
    logs = [log for log in trainer.state.log_history if "learning_rate" in log]
    rates = {round(log["epoch"] * 2): log["learning_rate"] for log in logs}
    assert [rates[step] for step in range(1, 17)] == pytest.approx([0.05] * 6 + [0.025] * 4 + [0.0125] * 6)


def test_the_stop_rule_fires(tiny, tmp_path, monkeypatch):
    """Section 6, item 13: two rounds without a better dev metric; what the warm-up did not bring does not count."""
    seen = watch_rounds(monkeypatch)
    metrics = [0.5, 0.4, 0.4, 0.4, 0.6, 0.6, 0.5, 0.5, 0.9, 0.9]
    trainer, after = rounds_trainer(tiny, tmp_path, metrics, 10, monkeypatch, rounds=7, warm_up=3, stop=3)
    trainer.train()
    assert len(after) == 8  # epoch 5 is the best; 6, 7 and 8 are not better
    assert len(seen) == 5
    trainer, after = rounds_trainer(tiny, tmp_path, metrics, 10, monkeypatch, rounds=7, warm_up=3)
    trainer.train()
    assert len(after) == 10


def test_rounds_wait_until_the_metric_rests(tiny, tmp_path, monkeypatch):
    seen = watch_rounds(monkeypatch)
    metrics = [0.1, 0.2, 0.2, 0.3, 0.2, 0.1]
    trainer, _ = rounds_trainer(tiny, tmp_path, metrics, 6, monkeypatch, rounds=1, warm_up="rest", patience=2)
    trainer.train()
    assert [log["step"] for log in trainer.state.log_history if "alignment" in log] == []
    assert seen == []
    trainer, after = rounds_trainer(tiny, tmp_path, metrics, 6, monkeypatch, rounds=1, warm_up="rest", patience=1)
    trainer.train()
    assert len(seen) == 1
    assert same(seen[0][0], after[2])
    assert [log["step"] for log in trainer.state.log_history if "alignment" in log] == [7, 8, 9, 10, 11, 12]


def test_rounds_are_written_and_read(tiny, tmp_path):
    trainer = trainer_of(tiny, tmp_path / "work", Alignment("diffmask"))
    learner = trainer.data_collator.learner
    extractors = [diffmask.new_extractor(learner.scorer, [], seed=seed) for seed in (0, 1)]
    one, other = (Rounds(objective_for(learner, [], None), [], extractor, 0) for extractor in extractors)
    one.state = State(2, [0.1])
    one.save(tmp_path)
    other.load(tmp_path / "nothing")
    assert other.state == State()
    other.load(tmp_path)
    assert other.state == one.state
    assert other.extractor.hash == one.extractor.hash == Extractor.load(tmp_path / "extractor.safetensors").hash


# ------------------------------------------------------------------------------------------- where they end


def over_after(metrics, alignment, epochs):
    """Say after which epoch rounds are over, asked after each; None = never."""
    rounds = Rounds(SimpleNamespace(alignment=alignment), [], None, 0)
    for epoch in range(1, len(metrics) + 1):
        logs = [{"eval_accuracy": value, "step": 1} for value in metrics[:epoch]]
        args = SimpleNamespace(num_train_epochs=epochs, metric_for_best_model="accuracy")
        if rounds.is_over(SimpleNamespace(args=args, state=SimpleNamespace(log_history=logs))):
            return epoch
    return None


@given(st.lists(st.integers(0, 4), min_size=1, max_size=24), st.integers(1, 6), st.integers(1, 3), st.integers(0, 4))
def test_rounds_are_over_by_the_definition(metrics, rounds, stop, warm_up):
    """Cut the epochs into rounds and count: only whole rounds, only in a row, and never within the last one."""
    epochs = len(metrics) + warm_up
    metrics = [9.0 if warm_up == 4 else 0.5] * warm_up + metrics
    size = max(1, len(metrics[warm_up:]) // rounds)
    borders = [warm_up + number * size for number in range(rounds) if warm_up + number * size <= epochs]
    best = [max(metrics[:border], default=-1) for border in borders]
    idle = [after == before for before, after in pairwise(best)]
    expected = next((borders[i] for i in range(stop, len(borders)) if all(idle[i - stop : i])), None)
    assert over_after(metrics, Alignment("diffmask", rounds=rounds, stop=stop, warm_up=warm_up), epochs) == expected


def test_no_round_is_cut_short():
    """Three epochs without a better metric lie across a border, and the round that they end in is better yet."""
    assert over_after(SLOW_TO_RISE, STOPPING, 12) == 9
    assert over_after(SLOW_TO_RISE[:8], STOPPING, 12) is None
    assert over_after([0.5] * 12, STOPPING, 12) == 6  # the first round was better than nothing
    assert over_after([0.5] * 12, Alignment("diffmask", rounds=4), 12) is None


def test_a_training_ends_with_a_round(tiny, tmp_path, monkeypatch):
    seen = watch_rounds(monkeypatch)
    trainer, after = rounds_trainer(tiny, tmp_path, SLOW_TO_RISE, 12, monkeypatch, rounds=4, stop=1)
    trainer.train()
    assert (len(after), len(seen)) == (9, 3)
    assert same(seen[2][0], after[5])  # the third round began with the best model, of the second round's last epoch


def test_interrupted_within_a_round_it_ends_where_it_would_have(base, tmp_path, monkeypatch):
    """12 epochs of 2 steps: stopped in the ninth, the last one of a round."""
    config = msgspec.structs.replace(QUICK, epochs=12)

    def tuned(out, metrics, **more):
        monkeypatch.setattr(FINETUNE, "measure_of", lambda *_: scripted(metrics))
        finetune(base, RECORDS, tmp_path / out, DEV, config, alignment=STOPPING, **more)

    tuned("whole", SLOW_TO_RISE)
    with pytest.raises(Stop):
        tuned("out", SLOW_TO_RISE, progress=stop_at(0.7))
    tuned("out", SLOW_TO_RISE[8:])
    assert measured(tmp_path / "out") == measured(tmp_path / "whole") == SLOW_TO_RISE[:9]
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "out"))


def test_interrupted_when_the_last_round_was_over_it_ends_there(base, tmp_path, monkeypatch):
    """The trainer forgets that it was to stop; what it does before it is told so leaves no trace."""
    config = msgspec.structs.replace(QUICK, epochs=12)
    monkeypatch.setattr(FINETUNE, "measure_of", lambda *_: scripted(SLOW_TO_RISE))
    finetune(base, RECORDS, tmp_path / "whole", DEV, config, alignment=STOPPING)

    def stop(*_):
        raise Stop

    with monkeypatch.context() as patched:
        patched.setattr(FINETUNE, "finish", stop)
        with pytest.raises(Stop):
            finetune(base, RECORDS, tmp_path / "out", DEV, config, alignment=STOPPING)
    monkeypatch.setattr(FINETUNE, "measure_of", lambda *_: scripted([1.0] * 9))
    finetune(base, RECORDS, tmp_path / "out", DEV, config, alignment=STOPPING)
    assert measured(tmp_path / "out") == measured(tmp_path / "whole") == SLOW_TO_RISE[:9]
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "out"))


def measured(folder):
    return [log["eval_accuracy"] for log in told(folder)["history"] if "eval_accuracy" in log]


def test_what_a_warm_up_leaves_is_divided_among_the_rounds(tiny, tmp_path, monkeypatch):
    """The metric rests after epoch 4 of 10: three rounds of two epochs, where 10 // 3 would leave room for two."""
    seen = watch_rounds(monkeypatch)
    metrics = [0.2, 0.3, 0.3, 0.3, 0.1, 0.1, 0.1, 0.4, 0.1, 0.1]
    trainer, after = rounds_trainer(tiny, tmp_path, metrics, 10, monkeypatch, rounds=3, warm_up="rest", patience=2)
    trainer.train()
    assert (len(after), len(seen)) == (10, 3)
    assert same(seen[0][0], after[3])
    assert same(seen[1][0], after[1])
    assert same(seen[2][0], after[7])


def test_resumed_the_rounds_begin_where_they_would_have(base, tmp_path, monkeypatch):
    """When the warm-up ended follows from the dev metrics so far."""
    config, metrics = msgspec.structs.replace(QUICK, epochs=10), [0.2, 0.3, 0.3, 0.3, 0.1, 0.1, 0.1, 0.4, 0.1, 0.1]
    alignment = Alignment("diffmask", rounds=3, extractor_epochs=1, warm_up="rest", patience=2)

    def tuned(out, metrics, **more):
        seen = watch_rounds(monkeypatch)
        monkeypatch.setattr(FINETUNE, "measure_of", lambda *_: scripted(metrics))
        with contextlib.suppress(Stop):
            finetune(base, RECORDS, tmp_path / out, DEV, config, alignment=alignment, **more)
        return len(seen)

    assert tuned("whole", metrics) == 3
    assert tuned("out", metrics, progress=stop_at(0.55)) == 1
    assert tuned("out", metrics[5:]) == 2
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "out"))


def test_fewer_rounds_than_asked_for_are_told(tiny, tmp_path, monkeypatch, caplog):
    metrics = [0.2, 0.2, 0.2, 0.2]
    trainer, _ = rounds_trainer(tiny, tmp_path, metrics, 4, monkeypatch, rounds=3, warm_up="rest", patience=1)
    with caplog.at_level(logging.WARNING, "raison"):
        trainer.train()
    assert [record.getMessage() for record in caplog.records if record.name == "raison.training.rounds"] == [
        "rounds 3: after a warm-up of 2 epochs there are 2 left"
    ]


def test_the_best_weights_are_kept_in_memory(tiny):
    learner = LabelLearner(tiny.build("bert"))
    rounds = Rounds(objective_for(learner, [], None), [], None, 0)
    rounds.keep(None)
    assert rounds.best == {}
    rounds.keep(0.0)
    first = rounds.best
    rounds.keep(0.0)
    assert rounds.best is first
    assert same(first, learner.network.state_dict())
