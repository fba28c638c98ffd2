"""What tests of training with rationales share: records in which one word says the label, and small trainers."""

import json
import os

import torch
from safetensors.torch import load_file
from transformers import TrainingArguments

from raison.records import Annotation, Record, Span
from raison.training import Alignment, Config
from raison.training.align import examples, measure_of, objective_for, trainer_for
from raison.training.learners import LabelLearner

CUES = {"entailment": "happy", "neutral": "red", "contradiction": "sleeps"}
PLACES = ("in the park", "with a book", "and reads", "not the dog")
MINUTE = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def record(index, rationale=True):
    """A text in which one word says the label, marked by a person."""
    label, place = list(CUES)[index % 3], PLACES[index // 3 % 4]
    text = f"the man {place} {'the dog ' * (index % 2)}{CUES[label]} a"
    start = text.index(CUES[label])
    notes = (Annotation("ann", label, {"text": (Span(start, start + len(CUES[label])),)}),) if rationale else ()
    return Record(f"r{index}", {"text": text}, None, label, tuple(CUES), notes)


RECORDS = [record(index, rationale=index % 5 != 4) for index in range(16)]
DEV = [record(index) for index in range(16, 22)]
QUICK = Config(epochs=3, lr=2e-3, batch=8)


def no_dropout(classifier):
    for module in classifier.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return classifier


def trainer_of(tiny, folder, alignment=None, records=RECORDS, dev=(), **settings):
    """Make a trainer in memory: plain gradient descent, so that a rounding error stays one."""
    learner = LabelLearner(no_dropout(tiny.build("bert")))
    rows = examples(learner, records, alignment)
    objective = objective_for(learner, rows, alignment, 3)
    given = {
        "output_dir": str(folder), "per_device_train_batch_size": 8, "num_train_epochs": 1, "learning_rate": 0.05,
        "optim": "sgd", "lr_scheduler_type": "constant", "max_grad_norm": 0.0, "seed": 3, "save_strategy": "no",
        "logging_strategy": "steps", "logging_steps": 1, "report_to": [], "disable_tqdm": True, "use_cpu": True,
        "remove_unused_columns": False,
    }  # fmt: skip
    if dev:
        given |= {"eval_strategy": "epoch", "metric_for_best_model": "accuracy"}
    return trainer_for(objective, rows, TrainingArguments(**{**given, **settings}), measure_of(learner, dev))


def aligned_by(by, epochs=1, **settings):
    """An alignment through any attribution; an extractor is trained for few epochs."""
    return Alignment(by, **settings, **({"extractor_epochs": epochs} if by == "diffmask" else {}))


def weights_of(trainer):
    return {name: value.detach().clone() for name, value in trainer.model.state_dict().items()}


def same(one, other, tolerance=0.0):
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one) <= tolerance


def weights(folder):
    return load_file(folder / "model.safetensors")


def told(folder):
    return json.loads((folder / "raison.json").read_text())
