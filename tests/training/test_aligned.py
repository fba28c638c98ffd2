"""Training with both losses: a step by a slow loop, however it is spread; schedules; interruptions."""

import json
import os
import shutil
import signal
import subprocess
import sys

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import TrainerState

from aligning import CUES, DEV, MINUTE, QUICK, RECORDS, aligned_by, same, told, trainer_of, weights, weights_of
from processes import launched
from raison.attribution import diffmask
from raison.records import Annotation, InputError, Record
from raison.training import Alignment, Config, finetune
from raison.training.align import (
    TEACHERS,
    check_alignment,
    examples,
    expect_schedule,
    fewer_rounds,
    fits,
    objective_for,
    rationales_of,
    teacher_of,
)
from raison.training.aligned import Collator, Examples, Objective, gradient_ratio, rested, step_of
from raison.training.learners import LabelLearner
from raison.training.losses import LOSSES
from raison.words import whitespace_words
from stopping import Stop, stop_at

# ------------------------------------------------------------------------------------------------------ schedules


def test_metrics_rest_when_they_have_not_risen():
    assert rested([], 1) is None
    assert rested([0.1, 0.2, 0.3], 1) is None
    assert rested([0.1, 0.1], 1) == 2
    assert rested([0.5, 0.4, 0.6, 0.6, 0.5, 0.9], 2) == 5
    assert rested([0.5, 0.4, 0.6, 0.6, 0.5, 0.9], 3) is None


@given(st.lists(st.integers(0, 5), max_size=12), st.integers(1, 4))
def test_resting_is_by_the_definition(metrics, patience):
    expected = None
    for epoch in range(1, len(metrics) + 1):
        window = metrics[epoch - patience : epoch] if epoch > patience else None
        if window and max(window) <= max(metrics[: epoch - patience]):
            expected = epoch
            break
    assert rested(metrics, patience) == expected


@pytest.mark.parametrize(
    ("settings", "epoch", "metrics", "share"),
    [
        ({}, 0.0, [], 1.0),
        ({"warm_up": 2}, 1.99, [], 0.0),
        ({"warm_up": 2}, 2.0, [], 1.0),
        ({"warm_up": 2, "ramp": 4}, 2.0, [], 0.0),
        ({"warm_up": 2, "ramp": 4}, 3.0, [], 0.25),
        ({"warm_up": 2, "ramp": 4}, 6.0, [], 1.0),
        ({"warm_up": 2, "ramp": 4}, 60.0, [], 1.0),
        ({"warm_up": "rest", "patience": 2}, 3.0, [0.5, 0.6, 0.6], 0.0),
        ({"warm_up": "rest", "patience": 2}, 4.0, [0.5, 0.6, 0.6, 0.6], 1.0),
        ({"warm_up": "rest", "patience": 2, "ramp": 2}, 5.0, [0.5, 0.6, 0.6, 0.6, 0.9], 0.5),
        ({"warm_up": "rest"}, 50.0, [], 0.0),
    ],
)
def test_the_share_of_alpha(settings, epoch, metrics, share):
    assert Alignment(**settings).share(epoch, metrics) == share


@pytest.mark.parametrize(
    ("rounds", "start", "each"), [(1, 0, 10), (3, 0, 3), (3, 4, 2), (30, 0, 1), (30, 9, 1), (2, 6, 2)]
)
def test_the_epochs_of_a_round(rounds, start, each):
    assert Alignment(rounds=rounds).each(10, start) == each


def test_every_so_many_steps_with_so_many_times_the_weight():
    objective = Objective(None, None, Alignment(every=3, ramp=2))
    assert [objective.share(step, 1.0, []) for step in range(7)] == [0.5, 0, 0, 0.5, 0, 0, 0.5]
    assert Objective(None, None, Alignment(alpha=0.0)).share(0, 1.0, []) == 0.0


# ------------------------------------------------------------------------------------------------- one step's loss


@pytest.mark.parametrize("by", [name for name in TEACHERS if name != "diffmask"])
@pytest.mark.parametrize("confident", [False, True])
def test_a_step_is_the_mean_of_the_task_and_the_weighted_mean_of_the_alignment(tiny, tmp_path, by, confident):
    """By a slow loop over records, each alone: section 6, items 8, 14 and 17."""
    alignment = Alignment(by, alpha=0.7, confident=confident)
    records = list(RECORDS)
    for index in (0, 5):  # of two people, who agree in part
        words = whitespace_words(records[index].fields["text"])
        other = Annotation("bob", None, {"text": (words[0], words[-2])})
        records[index] = msgspec.structs.replace(records[index], annotations=(*records[index].annotations, other))
    trainer = trainer_of(tiny, tmp_path, alignment, records, per_device_train_batch_size=16)
    data, collator = trainer.train_dataset, trainer.data_collator
    learner = collator.learner
    learner.network.eval()
    teacher = data.teacher
    task, align, total = [], 0.0, 0.0
    for index in range(16):
        inputs = collator([data[index]])
        logits = learner.scorer.model(
            input_ids=inputs["input_ids"], attention_mask=inputs["attention"], token_type_ids=inputs["types"]
        ).logits[0]
        task.append(float(-logits.double().log_softmax(0)[list(CUES).index(records[index].label)].detach()))
        if not records[index].annotations:
            assert inputs["counted"].item() == 0
            continue
        taught = teacher(learner, step_of(inputs))
        options = getattr(teacher, "settings", {}).get(teacher.loss, {})
        loss = float(LOSSES[teacher.loss](taught.scores, taught.target, taught.valid, **options).detach())
        agreement = 2 / 3 if confident and index in (0, 5) else 1.0  # F1 of one word and two, of which it is one
        assert inputs["counted"].item() == pytest.approx(agreement)
        align, total = align + agreement * loss, total + agreement
    trainer.train()
    (log, *_) = trainer.state.log_history
    assert log["loss"] == pytest.approx(np.mean(task) + 0.7 * align / total, rel=1e-4)
    assert log["task"] == pytest.approx(np.mean(task), rel=1e-4)
    assert log["alignment"] == pytest.approx(align / total, rel=1e-4, abs=1e-6)
    assert 0 <= log["active"] <= 1


@pytest.mark.parametrize("by", TEACHERS)
def test_a_batch_may_be_computed_in_parts(tiny, tmp_path, by):
    """One batch of 8 and two of 4: the same loss, diagnostics, gradient and weights. Section 6, item 17."""
    runs = []
    for size in (8, 4, 1):
        alignment = aligned_by(by, alpha=2.0)
        trainer = trainer_of(
            tiny,
            tmp_path,
            alignment,
            RECORDS[:8],
            per_device_train_batch_size=size,
            gradient_accumulation_steps=8 // size,
        )
        trainer.train()
        assert trainer.state.global_step == 1
        runs.append((weights_of(trainer), trainer.state.log_history[0]))
    for found, log in runs[1:]:
        assert same(runs[0][0], found, 2e-6)
        noise = by == "gradient-sum"  # which is 0 but for rounding, see the tests of teachers
        for name in ("loss", "task", "alignment", "active")[: 3 if noise else 4]:
            assert log[name] == pytest.approx(runs[0][1][name], rel=1e-4, abs=1e-6)


def test_parts_without_any_rationale_are_fine(tiny, tmp_path):
    """Section 6, item 17: some batches have none, or all have none."""
    bare = [msgspec.structs.replace(one, annotations=()) for one in RECORDS[:4]]
    for records in ([*bare, *RECORDS[4:6]], bare):
        for by in ("input-marginalisation", "gradient-l1"):
            trainer = trainer_of(
                tiny, tmp_path, Alignment(by), records, per_device_train_batch_size=1, gradient_accumulation_steps=3
            )
            trainer.train()
            assert all(bool(value.isfinite().all()) for value in weights_of(trainer).values())
    plain = trainer_of(tiny, tmp_path, None, bare)
    plain.train()
    aligned = trainer_of(tiny, tmp_path, Alignment("gradient-l1"), bare)
    aligned.train()
    assert same(weights_of(plain), weights_of(aligned), 1e-6)
    assert "alignment" not in aligned.state.log_history[0]


def test_what_is_told_keeps_no_graph(tiny, tmp_path):
    """Section 6, item 20."""
    trainer = trainer_of(tiny, tmp_path, Alignment())
    objective = objective_for(trainer.data_collator.learner, trainer.train_dataset.rows, Alignment("gradient-l1"))
    inputs = Collator(objective.learner, objective.name)([(row, {}) for row in trainer.train_dataset.rows[:3]])
    objective.loss(objective.learner.network, inputs, torch.tensor([3.0, 3.0]), 1.0)
    assert all(isinstance(part, float | int) for pair in objective._told.values() for part in pair)
    assert objective.told().keys() == {"task", "alignment", "active"}
    assert objective.told() == {}


def test_losses_balanced_by_their_gradients(tiny, tmp_path):
    trainer = trainer_of(tiny, tmp_path, Alignment("gradient-l1", alpha=1.0))
    learner, rows = trainer.data_collator.learner, trainer.train_dataset.rows[:4]
    inputs = Collator(learner, "order")([(row, {}) for row in rows])
    totals, found = torch.tensor([4.0, 4.0]), []
    for alignment in (None, Alignment("gradient-l1"), Alignment("gradient-l1", alpha=0.5, balance=True)):
        objective = objective_for(learner, rows, alignment)
        learner.network.zero_grad()
        objective.loss(learner.network, inputs, totals, 1.0).backward()
        grads = [weight.grad for weight in learner.network.parameters() if weight.grad is not None]
        found.append(torch.cat([grad.flatten() for grad in grads]).clone())
    task, both, balanced = found
    align = both - task
    torch.testing.assert_close(balanced, task + 0.5 * align * task.norm() / align.norm(), atol=1e-5, rtol=1e-3)
    one = torch.ones(3, requires_grad=True)
    network = torch.nn.Module()
    network.weight = torch.nn.Parameter(one.detach())
    zero = (network.weight * 0).sum()
    assert float(gradient_ratio(network.weight.sum(), zero, network)) == 1.0


# ------------------------------------------------------------------------------------------------------- the data


def test_draws_depend_on_seed_epoch_and_record_alone(tiny, tmp_path):
    """Section 6, item 14: neither on the order of records nor on what was drawn before."""
    rows = trainer_of(tiny, tmp_path, Alignment()).train_dataset
    turned = Examples(rows.rows[::-1], rows.teacher, 3)
    for epoch in (0, 1, 0):
        rows.set_epoch(epoch)
        turned.set_epoch(epoch)
        for index in range(16):
            one, other = rows[index][1], turned[15 - index][1]
            assert one.keys() == other.keys()
            assert all(np.array_equal(one[name], other[name]) for name in one)

    def replaced(epoch, seed=3, fresh=True):
        data = trainer_of(tiny, tmp_path, Alignment(fresh=fresh)).train_dataset
        data.seed = seed
        data.set_epoch(epoch)
        return data[0][1]["replaced"].tolist()

    assert replaced(0) == replaced(0) != replaced(1)
    assert replaced(0, seed=4) != replaced(0)
    assert replaced(0, fresh=False) == replaced(1, fresh=False)


def test_each_epoch_draws_anew_and_in_another_order(tiny, tmp_path):
    """Section 6, item 14: records are shuffled, by the seed."""

    def orders(seed):
        trainer, seen = trainer_of(tiny, tmp_path, Alignment(), num_train_epochs=3, seed=seed), []
        ask = trainer.train_dataset.__class__.__getitem__

        class Watched(trainer.train_dataset.__class__):
            def __getitem__(self, index):
                seen.append((self.epoch, index))
                return ask(self, index)

        trainer.train_dataset.__class__ = Watched
        trainer.train()
        return [[index for epoch, index in seen if epoch == wanted] for wanted in range(3)]

    first = orders(3)
    assert [sorted(order) for order in first] == [list(range(16))] * 3
    assert first[0] != first[1] != first[2] != first[0]
    assert first[0] != list(range(16))
    assert orders(3) == first
    assert orders(4) != first


def test_the_learning_rate_is_never_idle_for_an_epoch(base, tmp_path):
    """Section 6, item 15: it rises within the first tenth of the steps, not of the epochs."""
    finetune(base, RECORDS, tmp_path / "out", config=Config(epochs=4, batch=2), alignment=Alignment())
    rates = [log["learning_rate"] for log in told(tmp_path / "out")["history"] if "learning_rate" in log]
    assert len(rates) == 4
    assert all(rate > 0 for rate in rates[:3])
    assert rates == sorted(rates, reverse=True)


# -------------------------------------------------------------------------------------------- trainings on disk


@pytest.fixture(scope="module")
def plain(base, tmp_path_factory):
    out = tmp_path_factory.mktemp("plain") / "out"
    finetune(base, RECORDS, out, DEV, QUICK)
    return weights(out)


IDLE = {"warm_up": 1, "every": 1000}  # the one step in 1000 is in the warm-up


@pytest.mark.parametrize(
    "settings",
    [{"alpha": 0.0}, IDLE, {**IDLE, "by": "gradient-l1"}, {"alpha": 0.0, "by": "attention"},
     {**IDLE, "by": "diffmask", "extractor_epochs": 1}, {"alpha": 0.0, "by": "diffmask", "extractor_epochs": 1}],
)  # fmt: skip
def test_without_weight_it_is_the_plain_training_bit_by_bit(base, plain, tmp_path, settings):
    """With dropout: neither random numbers nor rounding differ."""
    finetune(base, RECORDS, tmp_path / "out", DEV, QUICK, alignment=Alignment(**settings))
    assert same(plain, weights(tmp_path / "out"))


def test_the_seed_decides_and_what_was_asked_is_told(base, plain, tmp_path):
    alignment = Alignment(alpha=3.0, draws=2, warm_up=1)
    for name in ("one", "two"):
        finetune(base, RECORDS, tmp_path / name, config=QUICK, alignment=alignment)
    other = msgspec.structs.replace(QUICK, seed=1)
    finetune(base, RECORDS, tmp_path / "other", config=other, alignment=alignment)
    assert same(weights(tmp_path / "one"), weights(tmp_path / "two"))
    assert not same(weights(tmp_path / "one"), weights(tmp_path / "other"))
    assert not same(weights(tmp_path / "one"), plain)
    found = told(tmp_path / "one")
    assert found["config"]["alignment"] == {**msgspec.to_builtins(alignment), "loss": "margin", "margin": 1.0}
    logs = [log for log in found["history"] if "task" in log]
    assert ["alignment" in log for log in logs] == [False, True, True]


def test_another_alignment_does_not_take_its_place(base, tmp_path):
    once = Config(epochs=1, batch=16)
    finetune(base, RECORDS, tmp_path / "out", config=once, alignment=Alignment())
    with pytest.raises(InputError, match="made from something else"):
        finetune(base, RECORDS, tmp_path / "out", config=once, alignment=Alignment(alpha=2.0))
    with pytest.raises(InputError, match="made from something else"):
        finetune(base, RECORDS, tmp_path / "out", config=once)


@pytest.mark.parametrize("by", ["input-marginalisation", "gradient-l1", "attention", "diffmask"])
def test_bfloat16_trains(base, tmp_path, by):
    """Section 5: log space, so that autocast is safe."""
    config = Config(epochs=2, lr=1e-3, batch=8, bf16=True)
    finetune(base, RECORDS, tmp_path / "out", config=config, alignment=aligned_by(by))
    assert all(bool(value.isfinite().all()) for value in weights(tmp_path / "out").values())
    logs = [log for log in told(tmp_path / "out")["history"] if "alignment" in log]
    assert len(logs) == 2
    assert all(np.isfinite(log["alignment"]) for log in logs)


def test_a_training_is_the_same_in_parts(base, tmp_path):
    """Of a classifier, without dropout. Weights are not compared: Adam follows a gradient's sign, be it rounding."""
    settings = json.loads((base / "config.json").read_text())
    shutil.copytree(base, tmp_path / "base")
    dry = {**settings, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (tmp_path / "base" / "config.json").write_text(json.dumps(dry))
    logs = []
    for parts in (1, 4):
        config, out = Config(epochs=2, lr=1e-3, batch=8, accumulate=parts), tmp_path / f"in-{parts}"
        finetune(tmp_path / "base", RECORDS, out, config=config, alignment=Alignment("gradient-l1"))
        logs.append([log for log in told(out)["history"] if "alignment" in log])
    for whole, spread in zip(*logs, strict=True):
        for name in ("loss", "task", "alignment", "grad_norm"):
            assert spread[name] == pytest.approx(whole[name], rel=1e-4 if name == "grad_norm" else 1e-5)
    with pytest.raises(InputError, match="batch 8: can't be computed in 3 equal parts"):
        finetune(base, RECORDS, tmp_path / "out", config=Config(batch=8, accumulate=3))


def test_what_ends_before_its_first_step_leaves_nothing(base, tmp_path, monkeypatch):
    def fails(*_):
        raise InputError("this model gives no attention weights")

    with monkeypatch.context() as patch:
        patch.setattr(Objective, "loss", fails)
        with pytest.raises(InputError, match="no attention"):
            finetune(base, RECORDS, tmp_path / "out", config=QUICK, alignment=Alignment("attention"))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(Stop):  # but what has been learned is kept
        finetune(base, RECORDS, tmp_path / "out", config=QUICK, progress=stop_at(0.1))
    assert os.listdir(tmp_path) == ["out.part"]


@pytest.mark.slow
@pytest.mark.parametrize("by", [name for name in TEACHERS if name != "gradient-sum"])  # 0 here, see there
def test_alignment_is_learned(base, tmp_path, by):
    """Its loss falls, and more so than without it."""
    alignment = aligned_by(by, 5, alpha=5.0)
    finetune(base, RECORDS, tmp_path / "out", config=Config(epochs=12, lr=2e-3, batch=8), alignment=alignment)
    losses = [log["alignment"] for log in told(tmp_path / "out")["history"] if "alignment" in log]
    assert min(losses[-3:]) < 0.8 * losses[0]


ROUNDS = Alignment("diffmask", rounds=2, extractor_epochs=1, warm_up=1, decay=0.5)


@pytest.mark.parametrize("alignment", [Alignment(alpha=2.0), ROUNDS], ids=["im", "rounds"])
@pytest.mark.parametrize("share", [0.4, 0.7])
def test_interrupted_it_goes_on_to_the_same_model(base, tmp_path, alignment, share):
    """Also between two rounds: extractor and state are in each checkpoint."""
    finetune(base, RECORDS, tmp_path / "whole", DEV, QUICK, alignment=alignment)
    with pytest.raises(Stop):
        finetune(base, RECORDS, tmp_path / "out", DEV, QUICK, alignment=alignment, progress=stop_at(share))
    for folder in (tmp_path / "out.part").glob("checkpoint-*"):
        assert (folder / "rounds.json").exists() == (folder / "extractor.safetensors").exists() == (alignment is ROUNDS)
    finetune(base, RECORDS, tmp_path / "out", DEV, QUICK, alignment=alignment)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "out"))


@pytest.mark.slow
@pytest.mark.parametrize("alignment", [Alignment(alpha=2.0), ROUNDS], ids=["im", "rounds"])
@pytest.mark.parametrize("share", [0.4, 0.9])
def test_killed_it_goes_on_to_the_same_model(base, tmp_path, alignment, share):
    finetune(base, RECORDS, tmp_path / "whole", DEV, QUICK, alignment=alignment)
    script = f"""
import os, signal, sys, torch
sys.path[:0] = [{os.path.dirname(os.path.dirname(__file__))!r}]
from aligning import DEV, QUICK, RECORDS
import msgspec
from raison.training import Alignment, finetune
torch.set_num_threads(1)
def progress(done, logs):
    if done >= {share}:
        os.kill(os.getpid(), signal.SIGKILL)
alignment = msgspec.convert({msgspec.to_builtins(alignment)!r}, Alignment)
finetune({str(base)!r}, RECORDS, {str(tmp_path / "out")!r}, DEV, QUICK, alignment=alignment, progress=progress)
"""
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, env=MINUTE)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert sorted(os.listdir(tmp_path)) == ["out.part", "whole"]
    finetune(base, RECORDS, tmp_path / "out", DEV, QUICK, alignment=alignment)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "out"))


def test_a_checkpoint_that_counts_as_whole_has_its_rounds(base, tmp_path, monkeypatch):
    """Killed while a checkpoint is written: the trainer's state comes last, so what has it has everything."""
    seen, save = [], TrainerState.save_to_json

    def look(state, path):
        seen.append(sorted(os.listdir(os.path.dirname(path))))
        save(state, path)

    monkeypatch.setattr(TrainerState, "save_to_json", look)
    finetune(base, RECORDS, tmp_path / "out", DEV, QUICK, alignment=ROUNDS)
    assert seen
    assert all({"rounds.json", "extractor.safetensors"} <= set(names) for names in seen)


SHARED = [(16, 8), (7, 8), (5, 16), (11, 8)]  # records and batch: the last step short, or none left for the second
SCRIPT = """
import json, sys, torch
sys.path[:0] = [{tests!r}, {here!r}]
torch.set_num_threads(1)
from conftest import build
from types import SimpleNamespace
from aligning import DEV, RECORDS, QUICK, aligned_by, trainer_of, weights_of
from raison.training import Alignment, finetune
tiny, found, sizes = SimpleNamespace(build=build), {{}}, int(sys.argv[2])
for by in ("input-marginalisation", "gradient-l1", "diffmask"):
    alignment = aligned_by(by, alpha=2.0, warm_up=1)
    for records, batch in {shared}:
        trainer = trainer_of(tiny, sys.argv[1] + ".work", alignment, RECORDS[:records], num_train_epochs=3,
                             per_device_train_batch_size=batch // sizes)
        trainer.train()
        assert trainer.args.world_size == sizes
        found[by, records] = weights_of(trainer)
        logs = [log for log in trainer.state.log_history if "loss" in log]
        found[by, records, "told"] = [
            [log.get(name, -1.0) for name in ("loss", "task", "alignment", "active")] for log in logs
        ]
if sizes > 1:
    finetune({base!r}, RECORDS, sys.argv[1] + ".tuned", DEV, QUICK, alignment=Alignment("diffmask", extractor_epochs=1))
if trainer.is_world_process_zero():
    torch.save(found, sys.argv[1])
"""


@pytest.mark.slow
def test_two_processes_agree_with_one(base, tmp_path):
    """Section 6, item 17 and section 8: the mean is over the whole step; draws are anew in each epoch on both.

    Also where the second process is given the first records again, and in what is logged. A step holds as many records.
    """
    here = os.path.dirname(__file__)
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(tests=os.path.dirname(here), here=here, base=str(base), shared=SHARED))
    for size, name in enumerate(("one", "two"), 1):
        launched(script, tmp_path / name, size, processes=size)
    one, two = torch.load(tmp_path / "one"), torch.load(tmp_path / "two")
    for by in ("input-marginalisation", "gradient-l1", "diffmask"):
        for records, _ in SHARED:
            assert same(one[by, records], two[by, records], 1e-5)
            told = np.array(one[by, records, "told"])
            assert len(told) >= 3
            assert (told[-1] >= 0).all()
            np.testing.assert_allclose(told, two[by, records, "told"], atol=1e-5, rtol=1e-5)
    assert (tmp_path / "two.tuned" / "model.safetensors").exists()
    (last,) = [
        log
        for log in json.loads((tmp_path / "two.tuned" / "raison.json").read_text())["history"]
        if "train_loss" in log
    ]
    assert last["step"] == -(-len(RECORDS) // QUICK.batch) * QUICK.epochs
    assert not (tmp_path / "two.tuned.part").exists()


def test_multipliers_rise_where_the_answer_changes_and_stay_at_least_0(tiny):
    """Section 6, item 12: gradient ascent with a clamp, the KL on the model's own head."""
    learner = LabelLearner(tiny.build("bert"))
    tokens = learner.encode(RECORDS[:4])
    extractor = diffmask.new_extractor(learner.scorer, tokens)
    for answer, rises in ((5.0, True), (0.0, False)):

        def compare(before, after, answer=answer):
            return after.logits.sum(dim=1) * 0 + answer, torch.ones(len(after.logits))

        fitting = diffmask.Fitting(learner.scorer, extractor, compare=compare)
        for _ in range(12):
            before = extractor.multipliers.clone()
            step = fitting.step(tokens)
            moved = float(extractor.multipliers[step.layer] - before[step.layer])
            assert moved > 0 if rises else moved <= 0
            assert bool((extractor.multipliers >= 0).all())


# ------------------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"by": "lime"}, "--align 'lime': expected one of gradient, "),
        ({"loss": "mse"}, "--align-loss 'mse': expected one of margin, "),
        ({"warm_up": "soon"}, "warm-up 'soon': expected a number of epochs, or rest"),
        ({"warm_up": -1}, "warm-up -1: expected a number of epochs, or rest"),
        ({"alpha": -1.0}, "alpha -1: expected a finite number of at least 0"),
        ({"alpha": float("nan")}, "alpha nan: expected a finite number"),
        ({"alpha": float("inf")}, "alpha inf: expected a finite number"),
        ({"margin": -0.1}, "margin -0.1: expected a finite number of at least 0"),
        ({"most": 1.5}, "most 1.5: expected a number above 0 and at most 1"),
        ({"decay": 0.0}, "decay 0: expected a finite number above 0"),
        ({"by": "gradient", "margin": 2.0}, "margin 2: the loss order has no margin; those that have one: margin, "),
        ({"by": "attention", "margin": 0.5}, "margin 0.5: the loss kl has no margin"),
        ({"by": "gradient", "draws": 3}, "draws: a setting of input-marginalisation, not of gradient"),
        ({"gate": "hidden"}, "gate: a setting of diffmask, not of input-marginalisation"),
        ({"by": "occlusion", "rounds": 2}, "rounds: a setting of diffmask, not of occlusion"),
        ({"loss": "ratio"}, "loss ratio: is for scores from 0 on, and those of input-marginalisation have a sign"),
        ({"by": "attention", "loss": "sign"}, "loss sign: is for scores with a sign, and those of attention have none"),
        ({"extractor_rate": -1.0}, "extractor_rate -1: expected a finite number above 0"),
        *[({name: 0}, f"{name} 0: expected at least 1") for name in ("patience", "every", "draws", "rounds")],
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_one_line(settings, message):
    with pytest.raises(InputError) as caught:
        check_alignment(Alignment(**settings))
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def voted(*votes):
    """A record whose first words have so many votes of three people."""
    words = whitespace_words("one two three four")
    notes = [
        Annotation(f"p{person}", None, {"text": tuple(words[i] for i, count in enumerate(votes) if count > person)})
        for person in range(3)
    ]
    return Record(f"v{votes}", {"text": "one two three four"}, None, "neutral", tuple(CUES), tuple(notes))


VOTED = [voted(*votes) for votes in ((), (1,), (2,), (3, 1), (3, 3, 3, 3), (2, 2, 2, 2), (1, 1, 1, 1), (3, 2, 1))]


@pytest.mark.parametrize("people", ["soft", "union", "majority", "p2"])
@pytest.mark.parametrize("confident", [False, True])
@pytest.mark.parametrize("by", TEACHERS)
def test_rationales_without_a_use_are_those_that_no_batch_counts(tiny, by, people, confident):
    learner = LabelLearner(tiny.build("bert"))
    for loss in (name for name in LOSSES if fits(name, by)):
        alignment = aligned_by(by, loss=loss, people=people, confident=confident)
        rows = examples(learner, [*VOTED, *RECORDS[:5]], alignment)
        collator = Collator(learner, loss)
        data = Examples(rows, teacher_of(alignment, learner, rows), 0)
        without = sum(not bool(collator([data[index]])["counted"] > 0) for index in range(len(rows)))
        assert rationales_of(rows, alignment) == {
            "records": 13, "without_rationale": without, "share_without": without / 13
        }  # fmt: skip
        assert 1 <= without < 13


def test_a_word_counts_from_half_of_the_votes_on_for_two_sets(tiny):
    """And with any vote elsewhere: one vote of three is nothing to input-marginalisation, and something to others."""
    learner = LabelLearner(tiny.build("bert"))
    alone = [msgspec.structs.replace(voted(1), id=str(index)) for index in range(3)]
    assert rationales_of(examples(learner, alone, Alignment("gradient")), Alignment("gradient"))["share_without"] == 0
    with pytest.raises(InputError, match="takes words from half of the votes on; --people union"):
        rationales_of(examples(learner, alone, Alignment()), Alignment())
    union = Alignment(people="union")
    assert rationales_of(examples(learner, alone, union), union)["without_rationale"] == 0


@pytest.mark.parametrize(
    ("records", "settings", "message"),
    [
        ([msgspec.structs.replace(one, annotations=()) for one in RECORDS], {}, "soft marked no word that the model"),
        ([voted(1), voted(1, 1)], {"people": "majority"}, "majority marked no word that the model sees"),
        ([voted(2), voted(2, 1)], {"people": "p2"}, "p2 marked no word that the model sees"),
        ([voted(2, 3, 3, 2)], {}, "the loss margin compares words"),
        ([voted(3, 3, 3, 3)], {"by": "gradient"}, "the loss order compares words, and all of a record's have the same"),
    ],
)
def test_rationales_that_are_none_are_one_line_and_leave_nothing(base, tmp_path, records, settings, message):
    given = [*records, *(msgspec.structs.replace(one, annotations=()) for one in RECORDS[:3])]
    with pytest.raises(InputError, match=f"no training record has a rationale to align with: {message}") as caught:
        finetune(base, given, tmp_path / "out", config=QUICK, alignment=Alignment(**settings))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_warm_up_that_never_ends_is_refused():
    rest = Alignment(warm_up="rest", patience=2)
    expect_schedule(rest, DEV, 4)
    expect_schedule(rest, DEV, 4, 3)
    for epochs, patience, message in ((3, None, "ends after epoch 3 at the earliest"), (9, 2, "ends after 2 epochs")):
        with pytest.raises(InputError, match=message):
            expect_schedule(rest, DEV, epochs, patience)
    earliest = [epoch for epoch in range(9) if rest.share(epoch, [0.5] * epoch)]
    assert earliest[0] == 3  # so that there is a fourth epoch to take part in
    assert fewer_rounds(Alignment("diffmask", rounds=9, warm_up=1), 4) == (
        "rounds 9: the training has epochs for 3 at most, after the warm-up"
    )
    assert fewer_rounds(Alignment("diffmask", rounds=3, warm_up=1), 4) is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"warm_up": "rest"}, "warm-up rest: needs dev records"),
        ({"by": "diffmask", "stop": 2}, "stop: needs dev records"),
        ({"warm_up": 9}, "warm-up 9: of a training of 3 epochs, so that the alignment would never take part"),
        ({"warm_up": 3}, "warm-up 3: of a training of 3 epochs"),
        ({"people": "nobody"}, "unknown people 'nobody'"),
        ({"replacement": "masked-lm"}, "masked-lm:NAME"),
        ({"weights": "odd"}, "'odd': expected unbiased, renormalised"),
    ],
)
def test_what_the_data_do_not_allow_is_one_line_and_leaves_nothing(base, tmp_path, settings, message):
    with pytest.raises(InputError, match=message) as caught:
        finetune(base, RECORDS, tmp_path / "out", config=QUICK, alignment=Alignment(**settings))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
