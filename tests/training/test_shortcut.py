"""Alignment with the truth undoes a shortcut, and alignment with random words does not.

Reviews of one sentence, in which one word of praise or of blame decides, end with a word that goes with the label in
90 % of the few training records (and by chance in half of the others), and with nothing in test records. A small BERT
learns them from scratch. Left out are neutral reviews, whose reason is that nothing stands there, and negated ones: no
model of this size learns what negation does from so few.
"""

import msgspec
import numpy as np
import pytest
import torch
from scipy import stats
from transformers import BertConfig, BertForSequenceClassification, TrainingArguments

from raison.models import Classifier
from raison.sources.noise import noisy
from raison.testbed import Person, make_corpus, with_shortcut
from raison.testbed.shortcut import SHORTCUTS
from raison.training import Alignment
from raison.training.align import examples, objective_for, trainer_for
from raison.training.aligned import Objective
from raison.training.learners import LabelLearner
from raison.training.teachers import DiffMask

TRUTH = [Person("truth")]  # marks the planted words, all of them and nothing else
LABELS = ("negative", "positive")
SEEDS = (0, 1, 2)
FAMILIES = {
    "gradient": Alignment("gradient-l1", alpha=10.0),
    "input x gradient": Alignment("input-x-gradient"),
    "input marginalisation": Alignment("input-marginalisation", margin=3.0, draws=2),
    "diffmask": Alignment(
        "diffmask", loss="margin-pairs", margin=20.0, warm_up=4, extractor_epochs=12, extractor_rate=3.0
    ),
}


def corpus(size, seed, rate):
    made = make_corpus("single", 4 * size + 40, seed, length=1, people=TRUTH)
    kept = [record for record in made if len(record.meta["truth"]["text"]) == 1][:size]  # the cue, and no negator
    assert len(kept) == size
    return with_shortcut([msgspec.structs.replace(record, label_set=LABELS) for record in kept], rate, seed)


def learner(tokenizer, seed):
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=48, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, initializer_range=0.12,
        id2label=dict(enumerate(LABELS)), label2id={label: index for index, label in enumerate(LABELS)},
    )  # fmt: skip
    torch.manual_seed(seed)
    return LabelLearner(Classifier(BertForSequenceClassification(config), tokenizer, labels=LABELS))


def settings_of(folder, seed):
    return TrainingArguments(
        str(folder), num_train_epochs=12, learning_rate=3e-3, per_device_train_batch_size=20, warmup_steps=10,
        weight_decay=0.01, seed=seed, save_strategy="no", logging_strategy="no", remove_unused_columns=False,
        report_to=[], disable_tqdm=True, use_cpu=True,
    )  # fmt: skip


def accuracy(model, train, test, alignment, settings):
    """Train a model, and give its accuracy on the test."""
    rows = examples(model, train, alignment)
    objective = objective_for(model, rows, alignment, settings.seed)
    if isinstance(objective.teacher, DiffMask):
        objective = Objective(model, DiffMask(objective.teacher.extractor, alignment.loss), alignment)
    trainer_for(objective, rows, settings).train()
    model.network.eval()
    return model.score(test, model.encode(test))["accuracy"]


@pytest.mark.slow
def test_the_truth_undoes_a_shortcut_and_random_words_do_not(tiny, tmp_path):
    texts = [record.fields["text"] for record in corpus(200, 7, 0)]
    words = {word.strip(".,").lower() for text in [*texts, *SHORTCUTS] for word in text.split()}
    tokenizer = tiny.bert_tokenizer(sorted(words))
    gains = {(name, what): [] for name in FAMILIES for what in ("truth", "random")}
    for seed in SEEDS:
        train, test = corpus(200, seed, 0.9), corpus(300, 1000 + seed, 0.0)
        rationales = {"truth": train, "random": noisy(train, "replace", 1.0, seed).records}
        settings = settings_of(tmp_path, seed)
        base = accuracy(learner(tokenizer, seed), train, test, None, settings)
        for (name, what), found in gains.items():
            reached = accuracy(learner(tokenizer, seed), rationales[what], test, FAMILIES[name], settings)
            found.append(reached - base)
    print({cell: np.round(values, 3).tolist() for cell, values in gains.items()})
    means = {cell: float(np.mean(values)) for cell, values in gains.items()}
    for name in FAMILIES:
        assert means[name, "truth"] >= 0.15, (name, means)
        # A loss that looks at the strongest other word holds the shortcut down whoever was marked: a few points.
        assert means[name, "random"] <= 0.08, (name, means)
        assert interval(gains[name, "random"])[0] <= 0.02, (name, gains)


def interval(values):
    """Give the 95 % interval of a mean by Student's t."""
    return stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
