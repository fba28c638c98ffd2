"""Attention weights as scores: what the position that the model classifies from attends to."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raison.attribution.gradients import Scored
from raison.attribution.target import Target
from raison.models.batching import Indices, run
from raison.models.scorer import Batch, Scorer
from raison.records import InputError
from raison.words import Floats, Tokens, pool


def attention(
    model: Scorer, tokens: Sequence[Tokens], target: Target, *, reduction: str = "sum", progress: str | None = None
) -> Scored:
    """Give the attention of the classified position to each token in the last layer, as the mean over heads.

    The classified position is the first token of an encoder and the last token of a causal model. The scores do not
    depend on the target.

    Args:
        model: what scores labels.
        tokens: the encoded records.
        target: the logits that the scores are said to explain.
        reduction: from tokens to words, see `raison.words.pool`.
        progress: title of the progress bar.

    Returns:
        Scores (words,) of each record, weights of the logits explained (records, labels), and no notes.

    Raises:
        InputError: the model gives no attention weights.
    """
    return _attend(model, tokens, target, lambda layers: layers[-1].mean(dim=1), reduction, progress)


def attention_rollout(
    model: Scorer, tokens: Sequence[Tokens], target: Target, *, reduction: str = "sum", progress: str | None = None
) -> Scored:
    """Give attention rollout (Abnar and Zuidema 2020): the product over layers of half attention, half identity.

    Attention is the mean over heads. Arguments, result and errors are those of `attention`.
    """
    return _attend(model, tokens, target, rollout, reduction, progress)


def rollout(layers: Sequence[Tensor]) -> Tensor:
    """Multiply 0.5 A + 0.5 I over the layers, A the mean over heads: (rows, tokens, tokens)."""
    product = None
    for weights in layers:
        mean = weights.mean(dim=1)
        mixed = 0.5 * mean + 0.5 * torch.eye(mean.shape[-1], dtype=mean.dtype, device=mean.device)
        product = mixed if product is None else mixed @ product
    assert product is not None, "a transformer has at least one layer"
    return product


def _attend(  # noqa: PLR0917
    model: Scorer, tokens: Sequence[Tokens], target: Target, combine: Any, reduction: str, progress: str | None
) -> Scored:
    weights = np.zeros((len(tokens), len(model.labels)), dtype=np.float32)
    scores: list[Floats] = [np.empty(0, dtype=np.float32)] * len(tokens)

    def step(indices: Indices) -> tuple[NDArray[Any], NDArray[Any]]:
        batch = model.batch([tokens[i] for i in indices])
        with torch.inference_mode():
            output = model.forward(batch, output_attentions=True)
            if not output.attentions or output.attentions[0] is None:
                raise InputError(f"{model.name} gives no attention weights")
            chosen = target.resolve(output.logits, indices)
            rows = _row_of(combine(output.attentions), batch, model.reads_last)
        return rows.float().numpy(force=True), chosen.float().numpy(force=True)

    with _eager(model.model):
        for indices, (values, chosen) in run([len(row.ids) for row in tokens], step, model.max_tokens, progress):
            weights[indices] = chosen
            for index, row in zip(indices.tolist(), values, strict=True):
                scores[index] = pool(row[: len(tokens[index].ids)], tokens[index], reduction)
    return scores, weights, [{} for _ in tokens]


def _row_of(matrix: Tensor, batch: Batch, reads_last: bool) -> Tensor:
    """Give the row of the position that the model classifies from: (rows, tokens)."""
    if not reads_last:
        return matrix[:, 0]
    last = batch.attention.sum(dim=1) - 1
    return matrix[torch.arange(len(matrix), device=matrix.device), last]


@contextmanager
def _eager(model: Any) -> Generator[None]:
    """Let the model compute attention in the one way that returns its weights, and put its own way back."""
    before = model.config._attn_implementation
    if before != "eager":
        model.set_attn_implementation("eager")
    try:
        yield
    finally:
        if before != "eager":
            model.set_attn_implementation(before)
