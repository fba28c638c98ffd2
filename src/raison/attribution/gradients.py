"""Attribution by gradients with respect to the word embeddings: gradient norm, input x gradient, integrated gradients.

Each batch is one forward and one backward pass; no gradient of a weight is ever computed. Special tokens have scores
too, which stay out of the words.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raison.attribution.target import Target
from raison.models.batching import Indices, run
from raison.models.scorer import Batch, Scorer
from raison.records import InputError
from raison.words import Floats, Tokens, pool

Scored = tuple[list[Floats], NDArray[np.float32], list[dict[str, Any]]]  # words' scores, targets' weights, notes
STEPS = 50
ADAPTIVE = (15, 30, 50, 120, 300)  # steps tried one after the other with `steps="auto"`
LOOSE = 1e-3  # tolerance from which on fewer steps are tried first
FIRST = 12
BASELINES = ("zero", "pad", "mask", "unknown", "eos")


def gradient(
    model: Scorer, tokens: Sequence[Tokens], target: Target, *, reduction: str = "sum", progress: str | None = None
) -> Scored:
    """Give the L2 norm of the gradient of the target's logit at each token's embedding (Simonyan et al. 2014).

    Scores are never negative, so they say how sensitive the model is to a word, not in which direction.

    Args:
        model: what scores labels.
        tokens: the encoded records.
        target: the logits explained.
        reduction: from tokens to words, see `raison.words.pool`.
        progress: title of the progress bar.

    Returns:
        Scores (words,) of each record, weights of the logits explained (records, labels), and notes with the share of
        the scores' magnitude that lies `outside` the words.
    """
    return _one_pass(model, tokens, target, lambda _, grads: grads.norm(dim=-1), reduction, progress)


def input_x_gradient(
    model: Scorer, tokens: Sequence[Tokens], target: Target, *, reduction: str = "sum", progress: str | None = None
) -> Scored:
    """Give the embedding times the gradient, summed over dimensions, with its sign (Shrikumar et al. 2016).

    Arguments and result are those of `gradient`.
    """
    return _one_pass(model, tokens, target, lambda embeds, grads: (embeds * grads).sum(dim=-1), reduction, progress)


def _one_pass(  # noqa: PLR0917
    model: Scorer,
    tokens: Sequence[Tokens],
    target: Target,
    combine: Callable[[Tensor, Tensor], Tensor],
    reduction: str,
    progress: str | None,
) -> Scored:
    weights = np.zeros((len(tokens), len(model.labels)), dtype=np.float32)
    found: list[NDArray[Any]] = [np.empty(0)] * len(tokens)

    def step(indices: Indices) -> tuple[NDArray[Any], NDArray[Any]]:
        batch = model.batch([tokens[i] for i in indices])
        embeds = model.embed(batch)
        grads, chosen = embedding_gradients(model, batch, embeds, lambda logits: target.resolve(logits, indices))
        return combine(embeds, grads).float().numpy(force=True), chosen.float().numpy(force=True)

    with frozen(model.model):
        for indices, (values, chosen) in run([len(row.ids) for row in tokens], step, model.max_tokens, progress):
            weights[indices] = chosen
            for index, row in zip(indices.tolist(), values, strict=True):
                found[index] = row[: len(tokens[index].ids)]
    return scored_words(tokens, found, weights, reduction)


def scored_words(
    tokens: Sequence[Tokens], found: Sequence[NDArray[Any]], weights: NDArray[np.float32], reduction: str
) -> Scored:
    """Pool scores of tokens (tokens,) to words, and note which share of their magnitude lies outside the words.

    What lies outside is special tokens, a prompt's template and its label words.
    """
    scores = [pool(row, record, reduction) for row, record in zip(found, tokens, strict=True)]
    notes = [{"outside": outside_share(row, record)} for row, record in zip(found, tokens, strict=True)]
    return scores, weights, notes


def outside_share(token_scores: NDArray[Any], tokens: Tokens) -> float:
    """Give the share of the scores' magnitude that lies on tokens of no word; 0 where all scores are 0."""
    size = np.abs(token_scores.astype(np.float64))
    return round(float(size[tokens.word < 0].sum() / max(size.sum(), 1e-300)), 6)


def embedding_gradients(
    model: Scorer,
    batch: Batch,
    embeddings: Tensor,
    weigh: Callable[[Tensor], Tensor],
    create_graph: bool = False,
) -> tuple[Tensor, Tensor]:
    """Differentiate the weighted sum of a batch's logits with respect to its embeddings.

    Rows do not touch each other, so one backward pass gives the gradient of every row.

    Args:
        model: what scores labels.
        batch: padded inputs.
        embeddings: (rows, tokens, hidden), taken in place of the word embeddings.
        weigh: gives the weights (rows, labels) from the logits.
        create_graph: keep the graph, so that the gradient can itself be differentiated.

    Returns:
        Gradients (rows, tokens, hidden), and the weights.
    """
    leaf = embeddings if create_graph and embeddings.requires_grad else embeddings.detach().requires_grad_()
    logits = model.forward(batch, leaf).logits
    weights = weigh(logits)
    (grads,) = torch.autograd.grad((logits * weights).sum(), leaf, create_graph=create_graph)
    return grads, weights


@contextmanager
def frozen(model: Any) -> Generator[None]:
    """Switch the gradients of all weights off, which saves a third of the work, and put them back as they were."""
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


# --------------------------------------------------------------------------------------- integrated gradients


def integrated_gradients(
    model: Scorer,
    tokens: Sequence[Tokens],
    target: Target,
    *,
    steps: int | str = STEPS,
    baseline: str | None = None,
    tolerance: float = 3e-4,
    reduction: str = "sum",
    progress: str | None = None,
) -> Scored:
    """Give (x - b) times the mean gradient on the straight path from b to x (Sundararajan et al. 2017, eq. 1).

    The integral is taken by Gauss-Legendre quadrature, as Captum does, and summed over dimensions with its sign. The
    scores of all tokens should add up to the logit's change from the baseline to the input; by how much they miss is
    each record's `completeness_gap`, as a share of the sum of the scores' magnitudes.

    Args:
        model: what scores labels.
        tokens: the encoded records.
        target: the logits explained.
        steps: points on the path; "auto" takes 15, or 12 with a `tolerance` of 0.001 or more, and for records whose gap
            is above `tolerance` 30, 50, 120 and 300.
        baseline: `zero` (the zero embedding at every position, as Captum's default), or the embedding of the `pad`,
            `mask`, `unknown` or `eos` token in the place of every token of a word; all others keep their own. Default:
            `zero`, but on models with RMSNorm, which undoes the scaling of embeddings so that no number of steps closes
            the gap from zero, the first of `unknown`, `pad` and `eos` that the tokenizer has.
        tolerance: of the gap, with `steps="auto"`.
        reduction: from tokens to words, see `raison.words.pool`.
        progress: title of the progress bar.

    Returns:
        Scores (words,) of each record, weights of the logits explained (records, labels), and notes with
        `completeness_gap` and `steps`.

    Raises:
        InputError: steps or baseline is unknown, or the tokenizer lacks the baseline's token.
    """
    plan = _plan(steps, tolerance)
    baseline = baseline or default_baseline(model)
    path = Path(model, baseline)
    ends = path.logits(tokens)
    weights = target.resolve(torch.from_numpy(ends[1]), np.arange(len(tokens))).numpy()
    change = ((ends[1] - ends[0]) * weights).sum(axis=1)
    scores: list[Floats] = [np.empty(0, dtype=np.float32)] * len(tokens)
    notes: list[dict[str, Any]] = [{} for _ in tokens]
    waiting = np.arange(len(tokens))
    for count in plan:
        found = path.integrate([tokens[i] for i in waiting.tolist()], weights[waiting], count, progress)
        for index, row in zip(waiting.tolist(), found, strict=True):
            gap = abs(float(row.sum()) - float(change[index])) / max(float(np.abs(row).sum()), 1e-12)
            scores[index] = pool(row, tokens[index], reduction)
            notes[index] = {
                "baseline": baseline,
                "outside": outside_share(row, tokens[index]),
                "completeness_gap": round(gap, 8),
                "steps": count,
            }
        waiting = np.array([i for i in waiting.tolist() if notes[i]["completeness_gap"] > tolerance], dtype=np.int64)
        if not len(waiting):
            break
    return scores, weights, notes


def _plan(steps: int | str, tolerance: float) -> tuple[int, ...]:
    """Give the numbers of steps to try, one after the other."""
    if steps == "auto":
        return (FIRST, *ADAPTIVE[1:]) if tolerance >= LOOSE else ADAPTIVE
    if isinstance(steps, int) and steps >= 1:
        return (steps,)
    raise InputError(f"steps {steps!r}: expected a whole number of at least 1, or auto")


def default_baseline(model: Scorer) -> str:
    """Give `zero`, or a token's embedding on models with RMSNorm."""
    if not any("RMSNorm" in type(module).__name__ for module in model.model.modules()):
        return "zero"
    found = (name for name in ("unknown", "pad", "eos") if _baseline_token(model, name) is not None)
    return next(found, "zero")


def _baseline_token(model: Scorer, baseline: str) -> int | None:
    name = "unk" if baseline == "unknown" else baseline
    return getattr(model.tokenizer, f"{name}_token_id")


class Path:
    """The straight path from a baseline to the input, in the space of word embeddings."""

    def __init__(self, model: Scorer, baseline: str) -> None:
        if baseline not in BASELINES:
            raise InputError(f"unknown baseline {baseline!r}; expected one of {', '.join(BASELINES)}")
        self.model = model
        self.token = None if baseline == "zero" else _baseline_token(model, baseline)
        if baseline != "zero" and self.token is None:
            raise InputError(f"the tokenizer has no {baseline} token for the baseline")

    def _points(self, rows: Sequence[Tokens], shares: NDArray[np.float64]) -> tuple[Batch, Tensor, Tensor]:
        """Give the batch, its embeddings at the given shares of the path, and the whole way from start to end."""
        batch = self.model.batch(rows)
        end = self.model.embed(batch)
        start = torch.zeros_like(end)
        if self.token is not None:
            text = np.zeros(batch.ids.shape, dtype=np.bool_)
            for index, row in enumerate(rows):
                text[index, : len(row.ids)] = row.word >= 0
            masked = batch.ids.masked_fill(torch.from_numpy(text).to(batch.ids.device), self.token)
            start = self.model.embed(batch._replace(ids=masked))
        share = torch.from_numpy(shares).to(end).view(-1, 1, 1)
        return batch, start + share * (end - start), end - start

    def logits(self, tokens: Sequence[Tokens]) -> NDArray[np.float32]:
        """Score the two ends of the path: (2, records, labels)."""
        result = np.zeros((2, len(tokens), len(self.model.labels)), dtype=np.float32)
        first = self._alike(tokens)
        wanted = np.array([2 * i + end for i in range(len(tokens)) for end in (0, 1) if end or first[i] == i])

        def step(chosen: Indices) -> NDArray[np.float32]:
            items = wanted[chosen]
            with torch.inference_mode():
                batch, points, _ = self._points([tokens[i // 2] for i in items], (items % 2).astype(np.float64))
                return self.model.forward(batch, points).logits.float().numpy(force=True)

        for chosen, values in run([len(tokens[i // 2].ids) for i in wanted], step, self.model.max_tokens):
            items = wanted[chosen]
            result[items % 2, items // 2] = values
        result[0] = result[0, first]
        return result

    def _alike(self, tokens: Sequence[Tokens]) -> list[int]:
        """Give for each record the first one with the same baseline: zero embeddings differ in their number alone."""
        if self.token is not None:
            return list(range(len(tokens)))
        seen: dict[bytes, int] = {}
        return [seen.setdefault(row.types.tobytes(), index) for index, row in enumerate(tokens)]

    def integrate(
        self, tokens: Sequence[Tokens], weights: NDArray[np.float32], count: int, progress: str | None = None
    ) -> list[NDArray[np.float64]]:
        """Integrate the gradient along the path with `count` points: (tokens,) of each record."""
        nodes, node_weights = np.polynomial.legendre.leggauss(count)
        shares, parts = (1 + nodes) / 2, node_weights / 2
        result = [np.zeros(len(row.ids)) for row in tokens]

        def step(items: Indices) -> NDArray[np.float32]:
            record, node = np.divmod(items, count)
            batch, points, way = self._points([tokens[i] for i in record], shares[node])
            chosen = torch.from_numpy(weights[record])
            grads, _ = embedding_gradients(self.model, batch, points, chosen.to)
            return (grads * way).sum(dim=-1).float().numpy(force=True)

        with frozen(self.model.model):
            lengths = np.repeat([len(row.ids) for row in tokens], count)
            for items, values in run(lengths, step, self.model.max_tokens, progress):
                for item, row in zip(items.tolist(), values, strict=True):
                    total = result[item // count]
                    total += parts[item % count] * row[: len(total)]
        return result
