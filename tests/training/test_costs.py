"""What the terms of a training cost: told by a clock that is turned by hand, and to no effect on the training."""

import types

import pytest
import torch

from raison.records import Annotation, Record, Span
from raison.training import Alignment, Config, costs, finetune
from raison.training.align import examples, objective_for
from raison.training.aligned import Collator
from raison.training.learners import LabelLearner


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still but for what is said to take time."""
    state = types.SimpleNamespace(now=0.0)
    monkeypatch.setattr(costs, "time", types.SimpleNamespace(perf_counter=lambda: state.now))

    def takes(seconds, result=None):
        def run():
            state.now += seconds
            return result

        return run

    return takes


def test_the_rest_of_a_step_is_the_alignments(clock):
    found = costs.Costs()
    for _ in range(4):  # the warm-up
        assert found.batch(clock(2.0, "loss"), clock(99.0), aligned=False) == "loss"
    assert found.told() == {"task_seconds": 8.0, "alignment_seconds": 0.0}
    alone = []
    for _ in range(50):
        found.batch(clock(8.0), lambda: (alone.append(1), clock(2.0)()), aligned=True)
    assert found.told() == {"task_seconds": 100.0, "alignment_seconds": 300.0}
    assert len(alone) == 3  # the first one is not timed
    found.extract(clock(7.0))
    assert found.told() == {"task_seconds": 0.0, "alignment_seconds": 7.0}


def test_a_clock_that_goes_astray_gives_no_cost_below_0(clock):
    found = costs.Costs()
    found.batch(clock(2.0), clock(3.0), aligned=True)
    assert found.told() == {"task_seconds": 2.0, "alignment_seconds": 0.0}


def note(index):
    text = f"the man {index} in the park reads"
    return Record(
        f"r{index}", {"text": text}, None, ("entailment", "neutral")[index % 2],
        ("entailment", "neutral", "contradiction"), (Annotation("ann", None, {"text": (Span(4, 7),)}),)
    )  # fmt: skip


RECORDS = [note(index) for index in range(8)]


def test_a_comparison_leaves_no_trace(tiny):
    """Neither gradients nor random numbers, with dropout on."""
    learner = LabelLearner(tiny.build("bert"))
    rows = examples(learner, RECORDS, Alignment("gradient"))
    objective = objective_for(learner, rows, Alignment("gradient"))
    inputs = Collator(learner, "order")([(row, {}) for row in rows])
    learner.network.train()
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    objective.differentiate_task(inputs)
    assert torch.equal(torch.rand(3), expected)
    assert all(weight.grad is None for weight in learner.network.parameters())
    assert objective.told() == {}


@pytest.mark.parametrize("by", ["gradient-l1", "diffmask"])
def test_the_history_has_both(tiny, tmp_path, by):
    tiny.save(tmp_path / "base")
    more = {"extractor_epochs": 2} if by == "diffmask" else {}
    alignment, seen = Alignment(by, warm_up=1, **more), []
    config = Config(epochs=3, batch=4)
    finetune(
        tmp_path / "base", RECORDS, tmp_path / "out", config=config, alignment=alignment,
        progress=lambda _, logs: seen.append(logs),
    )  # fmt: skip
    logs = [log for log in seen if "task_seconds" in log]
    found = [log["alignment_seconds"] for log in logs]
    assert len(found) == 3
    assert min(found) == found[0] == 0
    assert sum(found) > 0  # of one epoch a busy machine's clock may say that the alignment took no time
    assert all(log["task_seconds"] > 0 for log in logs)
    finetune(tmp_path / "base", RECORDS, tmp_path / "plain", config=config, progress=lambda _, logs: seen.append(logs))
    assert sum("task_seconds" in log for log in seen) == 3  # of labels alone nothing is said
