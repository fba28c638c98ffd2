"""Attention as scores: what the position that the model classifies from attends to.

That position is the first token of an encoder, and the last token of the prompt of a causal model. Matrices of
attention are reduced layer by layer and never kept.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raison.attribution.gradients import Scored, scored_words
from raison.attribution.target import Target
from raison.models.batching import Indices, run
from raison.models.scorer import Batch, Scorer
from raison.models.watch import Layer, output_projection, watched
from raison.records import InputError
from raison.words import Tokens

HEADS = ("mean", "max")
ROWS = 256  # of an attention matrix that are computed at once


def attention(
    model: Scorer,
    tokens: Sequence[Tokens],
    target: Target,
    *,
    layers: str = "last",
    heads: str = "mean",
    reduction: str = "sum",
    progress: str | None = None,
) -> Scored:
    """Give the attention of the classified position to each token.

    The scores do not depend on the target.

    Args:
        model: what scores labels.
        tokens: the encoded records.
        target: the logits that the scores are said to explain.
        layers: `last`, `all` (their mean), or the number of one, from 0.
        heads: `mean`, `max`, or the number of one, from 0.
        reduction: from tokens to words, see `raison.words.pool`.
        progress: title of the progress bar.

    Returns:
        Scores (words,) of each record, weights of the logits explained (records, labels), and notes with the share of
        attention that falls outside the words.

    Raises:
        InputError: the model gives no attention weights, or has no such layer or head.
    """
    return _attend(model, tokens, target, lambda: _Rows(layers, heads), reduction, progress)


def attention_rollout(
    model: Scorer, tokens: Sequence[Tokens], target: Target, *, reduction: str = "sum", progress: str | None = None
) -> Scored:
    """Give attention rollout (Abnar and Zuidema 2020): the product over layers of half attention, half identity.

    Attention is the mean over heads. Arguments, result and errors are those of `attention`.
    """
    return _attend(model, tokens, target, _Rollout, reduction, progress)


def value_weighted_attention(
    model: Scorer,
    tokens: Sequence[Tokens],
    target: Target,
    *,
    layers: str = "last",
    reduction: str = "sum",
    progress: str | None = None,
) -> Scored:
    """Give the norm of what each token brings to the classified position: |sum over heads of a f(x)|.

    This is the analysis of Kobayashi et al. (2020, eq. 8): attention a times the value vector f(x) that the output
    projection has mapped to hidden states, summed over heads before the norm is taken. Arguments, result and errors are
    those of `attention`; a model whose output projection is not known is refused.
    """
    return _attend(model, tokens, target, lambda: _Norms(model, layers), reduction, progress)


class _Seen(Protocol):
    """Takes what it needs from each layer of one batch."""

    place: Tensor  # (rows,) the position that the model classifies from

    def __call__(self, layer: "Layer | _Weights") -> None: ...

    def scores(self) -> Tensor:
        """Give (rows, tokens)."""
        ...


class _Rows:
    """Attention from the classified position, mean over the chosen layers."""

    place: Tensor

    def __init__(self, layers: str, heads: str) -> None:
        if heads not in HEADS and not heads.isdecimal():
            raise InputError(f"heads {heads!r}: expected mean, max, or a number from 0")
        self.choice, self.heads = _Choice(layers), heads

    def __call__(self, layer: "Layer | _Weights") -> None:
        weights = layer.weights_of(self.place)
        if self.heads.isdecimal():
            if int(self.heads) >= weights.shape[1]:
                raise InputError(f"heads {self.heads}: the model has {weights.shape[1]} heads")
            self.choice.add(weights[:, int(self.heads)])
        else:
            self.choice.add(weights.mean(dim=1) if self.heads == "mean" else weights.amax(dim=1))

    def scores(self) -> Tensor:
        return self.choice.mean()


class _Choice:
    """Takes the mean of some layers' values, one layer after the other."""

    def __init__(self, layers: str) -> None:
        if layers not in ("last", "all") and not layers.isdecimal():
            raise InputError(f"layers {layers!r}: expected last, all, or a number from 0")
        self.layers, self.seen = layers, 0
        self.total: Tensor | None = None

    def add(self, values: Tensor) -> None:
        wanted = not self.layers.isdecimal() or int(self.layers) == self.seen
        self.seen += 1
        if not wanted:
            return
        self.total = values if self.total is None or self.layers != "all" else self.total + values

    def mean(self) -> Tensor:
        if self.total is None:
            raise InputError(f"layers {self.layers}: the model has {self.seen} layers")
        return self.total / self.seen if self.layers == "all" else self.total


class _Rollout:
    """The running product of 0.5 A + 0.5 I, A the mean over heads."""

    place: Tensor

    def __init__(self) -> None:
        self.product: Tensor | None = None

    def __call__(self, layer: "Layer | _Weights") -> None:
        size = layer.key.shape[2]
        parts = [layer.weights(start, min(start + ROWS, size)).mean(dim=1) for start in range(0, size, ROWS)]
        mixed = 0.5 * torch.cat(parts, dim=1)
        mixed.diagonal(dim1=1, dim2=2).add_(0.5)
        self.product = mixed if self.product is None else mixed @ self.product

    def scores(self) -> Tensor:
        assert self.product is not None, "a transformer has at least one layer"
        return self.product[torch.arange(len(self.place), device=self.place.device), self.place]


class _Norms:
    """Norms of attention times projected values, mean over the chosen layers."""

    place: Tensor

    def __init__(self, model: Scorer, layers: str) -> None:
        self.model, self.choice = model, _Choice(layers)

    def __call__(self, layer: "Layer | _Weights") -> None:
        project = output_projection(self.model.model, layer.module) if isinstance(layer, Layer) else None
        if project is None or not isinstance(layer, Layer):
            raise InputError(f"{self.model.name}: value-weighted attention needs an output projection that is known")
        brought = layer.weights_of(self.place)[..., None] * layer.value  # (rows, heads, tokens, width)
        joined = brought.transpose(1, 2).flatten(2)
        self.choice.add(project(joined).norm(dim=-1))

    def scores(self) -> Tensor:
        return self.choice.mean()


class _Weights(NamedTuple):
    """A layer of a model that gives its whole matrices: (rows, heads, tokens, tokens)."""

    key: Tensor

    def weights(self, start: int, stop: int) -> Tensor:
        return self.key[:, :, start:stop]

    def weights_of(self, places: Tensor) -> Tensor:
        return self.key[torch.arange(len(places), device=places.device), :, places]


def _attend(  # noqa: PLR0917
    model: Scorer,
    tokens: Sequence[Tokens],
    target: Target,
    make: Callable[[], _Seen],
    reduction: str,
    progress: str | None,
) -> Scored:
    weights = np.zeros((len(tokens), len(model.labels)), dtype=np.float32)
    found: list[NDArray[Any]] = [np.empty(0)] * len(tokens)

    def step(indices: Indices) -> tuple[NDArray[Any], NDArray[Any]]:
        batch, seen = model.batch([tokens[i] for i in indices]), make()
        seen.place = model.read_from(batch)
        with torch.inference_mode():
            chosen = target.resolve(_watch(model, batch, seen), indices)
            scores = seen.scores()
        return scores.float().numpy(force=True), chosen.float().numpy(force=True)

    for indices, (values, chosen) in run([len(row.ids) for row in tokens], step, model.max_tokens, progress):
        weights[indices] = chosen
        for index, row in zip(indices.tolist(), values, strict=True):
            found[index] = row[: len(tokens[index].ids)]
    return scored_words(tokens, found, weights, reduction)


def _watch(model: Scorer, batch: Batch, seen: _Seen) -> Tensor:
    """Run a batch under the eyes of `seen`, and give its logits."""
    layers = 0

    def see(layer: Layer) -> None:
        nonlocal layers
        layers += 1
        seen(layer)

    with watched(model.model, see):
        logits = model.forward(batch).logits
    if layers:
        return logits
    with _eager(model.model):
        output = model.forward(batch, output_attentions=True)
    matrices = getattr(output, "attentions", None)
    if not matrices or matrices[0] is None:
        kind = type(model.model).__name__
        raise InputError(f"{model.name}: a {kind} gives no attention weights here; use occlusion or a gradient instead")
    for matrix in matrices:
        seen(_Weights(matrix))
    return output.logits


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
