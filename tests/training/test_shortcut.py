"""Alignment with the truth undoes a shortcut, and alignment with random words does not.

Reviews of one sentence, in which one word of praise or of blame decides, end with a word that goes with the label in
90 % of the few training records (and by chance in half of the others), and with nothing in test records. A small BERT
learns them from scratch. Left out are neutral reviews, whose reason is that nothing stands there, and negated ones: no
model of this size learns what negation does from so few.

Settings were chosen on other seeds: 0 and 1, of DiffMask 10 to 13. Of the gain on one seed the 300 test records alone
leave 3 to 4 points to chance, of the mean over three about 2: as much as random words, none of them the truth, may seem
to give. What DiffMask gains on more seeds stands in docs/training.md.
"""

import msgspec
import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, TrainingArguments

from raison.models import Classifier
from raison.sources.noise import noisy
from raison.testbed import SHORTCUTS, Person, make_corpus, with_shortcut
from raison.training import Alignment
from raison.training.align import examples, objective_for, trainer_for
from raison.training.learners import LabelLearner

TRUTH = [Person("truth")]  # marks the planted words, all of them and nothing else
LABELS = ("negative", "positive")
SEEDS = (2, 3, 4)
HELPS, IDLE = 0.15, 0.02  # least gain by the truth, largest by random words: means over the seeds
FAMILIES = {
    "gradient": Alignment("input-x-gradient", loss="margin-strongest", alpha=3.0),
    "input-marginalisation": Alignment("input-marginalisation", margin=3.0, draws=2),
    # an extractor that follows the model closely: else the model learns to please it, and goes on reading the word
    "diffmask": Alignment(
        "diffmask", loss="kl", alpha=5.0, gate="hidden", warm_up=6, rounds=24, extractor_epochs=3, extractor_rate=10.0
    ),
}
EPOCHS = {"gradient": 12, "input-marginalisation": 12, "diffmask": 30}


def reviews(size, seed):
    made = make_corpus("single", 4 * size + 40, seed, length=1, people=TRUTH)
    kept = [record for record in made if len(record.meta["truth"]["text"]) == 1][:size]  # the cue, and no negator
    assert len(kept) == size
    return [msgspec.structs.replace(record, label_set=LABELS) for record in kept]


@pytest.fixture(scope="module")
def tokenizer(tiny):
    texts = [record.fields["text"] for record in reviews(200, 7)]
    return tiny.bert_tokenizer(
        sorted({word.strip(".,").lower() for text in [*texts, *SHORTCUTS] for word in text.split()})
    )


def learner(tokenizer, seed):
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=48, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, initializer_range=0.12,
        id2label=dict(enumerate(LABELS)), label2id={label: index for index, label in enumerate(LABELS)},
    )  # fmt: skip
    torch.manual_seed(seed)
    return LabelLearner(Classifier(BertForSequenceClassification(config), tokenizer, labels=LABELS))


def settings_of(folder, seed, epochs):
    return TrainingArguments(
        str(folder), num_train_epochs=epochs, learning_rate=3e-3, per_device_train_batch_size=20, warmup_steps=10,
        weight_decay=0.01, seed=seed, save_strategy="no", logging_strategy="no", remove_unused_columns=False,
        report_to=[], disable_tqdm=True, use_cpu=True,
    )  # fmt: skip


def trained(model, records, alignment, settings):
    rows = examples(model, records, alignment)
    objective = objective_for(model, rows, alignment, settings.seed)
    trainer_for(objective, rows, settings).train()
    model.network.eval()
    return model


def accuracy(model, records):
    return model.score(records, model.encode(records))["accuracy"]


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_the_truth_undoes_a_shortcut_and_random_words_do_not(tokenizer, tmp_path, name):
    found = {"alone": [], "misled": [], "truth": [], "random": []}
    for seed in SEEDS:
        train, unseen = with_shortcut(reviews(200, seed), 0.9, seed), reviews(300, 1000 + seed)
        test = with_shortcut(unseen, 0, 1000 + seed)
        settings = settings_of(tmp_path, seed, EPOCHS[name])
        given = {"truth": train, "random": noisy(train, "replace", 1.0, seed).records}
        alone = trained(learner(tokenizer, seed), train, None, settings)
        base = accuracy(alone, test)
        found["alone"].append(base)
        found["misled"].append(accuracy(alone, with_shortcut(unseen, 0.9, 1000 + seed)) - base)
        for what, records in given.items():
            model = trained(learner(tokenizer, seed), records, FAMILIES[name], settings)
            found[what].append(accuracy(model, test) - base)
    print(name, {what: np.round(values, 3).tolist() for what, values in found.items()})
    mean = {what: float(np.mean(values)) for what, values in found.items()}
    assert mean["misled"] >= HELPS, found  # what the shortcut gives away is what the task alone has learnt
    assert mean["truth"] >= HELPS, found
    assert mean["random"] <= IDLE, found
