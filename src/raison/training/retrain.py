"""Training anew on masked records, as often as ROAR asks for it; masks are applied on token ids."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from raison.evaluation.roar import Fit, Predict, Split
from raison.masking import Operator, apply
from raison.models.classifier import Classifier
from raison.words import Mask, Tokens

EPOCHS, RATE, BATCH = 5, 1e-3, 32


def fitter(
    fresh: Callable[[int], Classifier],
    operator: Operator,
    *,
    epochs: int = EPOCHS,
    learning_rate: float = RATE,
    batch: int = BATCH,
) -> Fit:
    """Make the `fit` of `raison.evaluation.roar.roar` for sequence classifiers.

    Args:
        fresh: takes a seed and gives a classifier to train: untrained (`raison.training.small.untrained`), or
            pre-trained and loaded anew. It is trained in place.
        operator: what stands in the place of masked words.
        epochs: passes over the records.
        learning_rate: highest one, of a schedule that rises and falls once.
        batch: records per step.

    Returns:
        The function. The same records, masks and seed give the same model.
    """

    def fit(split: Split, masks: Sequence[Mask], seed: int) -> Predict:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            classifier = fresh(seed)
            inputs = [apply(operator, row, mask[None])[0] for row, mask in zip(split.tokens, masks, strict=True)]
            labels = torch.tensor([classifier.label_index(label) for label in split.labels])
            _train(classifier, inputs, labels, epochs=epochs, rate=learning_rate, batch=batch)
        return _predictor(classifier, operator)

    return fit


def _train(
    classifier: Classifier, inputs: Sequence[Any], labels: torch.Tensor, *, epochs: int, rate: float, batch: int
) -> None:
    model, steps = classifier.model, epochs * -(-len(inputs) // batch)
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=max(steps, 2), pct_start=0.1)
    model.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(inputs)).split(batch):
            logits = classifier.forward(classifier.batch([inputs[row] for row in rows.tolist()])).logits
            torch.nn.functional.cross_entropy(logits, labels[rows].to(logits.device)).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            optimiser.zero_grad()
    model.eval()


def _predictor(classifier: Classifier, operator: Operator) -> Predict:
    def predict(tokens: Sequence[Tokens], masks: Sequence[Mask]) -> list[str]:
        answers = classifier.predict_masked(tokens, [mask[None] for mask in masks], operator)
        return [classifier.labels[int(np.argmax(row[0]))] for row in answers]

    return predict
