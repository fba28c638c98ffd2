"""Attributions to train through: each gives, in the pass that the task needs anyway, scores that can be differentiated.

A teacher takes a batch and gives the logits of the task and a score for each word, or for each of two sets of words;
`raison.training.losses` says what these scores should be like. What it draws at random it draws for each record by
itself, so that neither the batch nor the number of processes makes a difference.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raison.attribution import states
from raison.attribution.extractor import Extractor, word_means
from raison.attribution.gates import log_open
from raison.attribution.marginalisation import Replacer, log_odds, marginal_log_odds
from raison.models.scorer import Batch
from raison.models.watch import Layer, watched
from raison.records import InputError
from raison.training.learners import Learner
from raison.words import Floats, Mask, Tokens

Drawn = dict[str, NDArray[Any]]  # of one record: arrays (rows, tokens) or (rows,)


class Example(NamedTuple):
    """A training record as a model reads it."""

    tokens: Tokens
    gold: Any  # index of the label, or tags (words,)
    target: Floats | None  # (words,) from 0 to 1: the rationale; None = there is none
    confidence: float = 1.0  # weight of the rationale


class Step(NamedTuple):
    """A batch of examples as tensors."""

    batch: Batch
    word: Tensor  # (rows, tokens) word of each token; -1 = of none
    gold: Tensor  # (rows,) or (rows, words)
    target: Tensor  # (rows, words) from 0 to 1
    valid: Tensor  # (rows, words) boolean: words that take part
    drawn: Mapping[str, Tensor]  # what the teacher drew, see `stacked`


class Taught(NamedTuple):
    """What a teacher makes of a batch."""

    logits: Tensor  # of the task
    scores: Tensor  # (rows, units)
    target: Tensor  # (rows, units)
    valid: Tensor  # (rows, units)


class Teacher(Protocol):
    """An attribution to train through."""

    loss: str  # the alignment loss that goes with it where no other is named

    def draw(self, example: Example, rng: np.random.Generator) -> Drawn:
        """Draw what is random, for one record."""
        ...

    def __call__(self, learner: Learner, step: Step) -> Taught:
        """Run the model on a batch, and attribute."""
        ...


def words_of(token_scores: Tensor, word: Tensor, words: int) -> Tensor:
    """Add up the scores of each word's tokens; differentiable.

    Args:
        token_scores: (rows, tokens).
        word: (rows, tokens), the word of each token; those of none (-1) count for nothing.
        words: how many columns the result has.

    Returns:
        (rows, words) float32, or float64 where the scores are; 0 for a word without tokens.
    """
    scores = at_least_float32(token_scores)
    place = torch.where(word >= 0, word, words)
    return scores.new_zeros(len(word), words + 1).scatter_add(1, place, scores)[:, :words]


def at_least_float32(values: Tensor) -> Tensor:
    """Give half-precision values as float32, others as they are."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


# ------------------------------------------------------------------------------------------------------ gradients


class Gradients:
    """Gradients of the evidence for the gold answer with respect to the word embeddings.

    Of each token's gradient: `gradient` takes the L2 norm, `gradient-l1` the L1 norm (Huang et al. 2021),
    `gradient-sum` the plain sum with its sign (Ghaeini et al. 2019), `input-x-gradient` the product with the embedding,
    summed. Each position has a gradient of its own, also where a word is repeated.
    """

    COMBINE: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
        "gradient": lambda _, grads: (grads.square().sum(dim=-1) + 1e-24).sqrt(),  # a norm of 0 has no derivative
        "gradient-l1": lambda _, grads: grads.abs().sum(dim=-1),
        "gradient-sum": lambda _, grads: grads.sum(dim=-1),
        "input-x-gradient": lambda embeds, grads: (embeds * grads).sum(dim=-1),
    }
    LOSS: Mapping[str, str] = {
        "gradient": "order", "gradient-l1": "order", "gradient-sum": "sign", "input-x-gradient": "margin"
    }  # fmt: skip

    def __init__(self, kind: str) -> None:
        self.combine, self.loss = self.COMBINE[kind], self.LOSS[kind]

    def draw(self, example: Example, rng: np.random.Generator) -> Drawn:
        """Draw nothing."""
        return {}

    def __call__(self, learner: Learner, step: Step) -> Taught:
        """Run the model once, and differentiate it with a graph."""
        embeddings = learner.network.get_input_embeddings()(step.batch.ids)
        if not embeddings.requires_grad:  # frozen, as with LoRA
            embeddings.requires_grad_()
        with twice_differentiable():
            logits = learner.forward(step.batch, step.word, embeddings).logits
            evidence = learner.evidence(logits, step.gold).sum()
            (grads,) = torch.autograd.grad(evidence, embeddings, create_graph=True)
        each = self.combine(at_least_float32(embeddings), at_least_float32(grads))
        scores = words_of(each, step.word, step.target.shape[1])
        return Taught(logits, scores, step.target, step.valid)


def twice_differentiable() -> AbstractContextManager[Any]:
    """Let attention be computed in the way whose gradient can be differentiated again."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    return sdpa_kernel(SDPBackend.MATH)


# ------------------------------------------------------------------------------------------------------ attention


class Attention:
    """What the classified position attends to in the last layer, mean over heads (HateXplain's supervised attention).

    Scores are shares of the attention that falls on words.
    """

    loss = "kl"
    settings: Mapping[str, Mapping[str, Any]] = {
        "kl": {"probabilities": True},
        "cross-entropy": {"probabilities": True},
    }

    def draw(self, example: Example, rng: np.random.Generator) -> Drawn:
        """Draw nothing."""
        return {}

    def __call__(self, learner: Learner, step: Step) -> Taught:
        """Run the model once, and look at its last layer."""
        place, rows = learner.reads_from(step.batch), list[Tensor]()

        def see(layer: Layer) -> None:
            rows[:] = [layer.weights_of(place).mean(dim=1)]

        with watched(learner.network, see):
            logits = learner.forward(step.batch, step.word).logits
        if not rows:
            kind = type(learner.network).__name__
            raise InputError(f"a {kind} gives no attention weights here; train through a gradient instead")
        scores = words_of(rows[0][:, : step.word.shape[1]], step.word, step.target.shape[1])
        return Taught(logits, scores / scores.sum(dim=1, keepdim=True).clamp(min=1e-12), step.target, step.valid)


# -------------------------------------------------------------------------------------------------------- erasure


class Occlusion:
    """How much the evidence drops when each word by itself gives way to mask tokens, as many as it has tokens."""

    loss = "margin"

    def __init__(self, replacer: Replacer) -> None:
        self.replacer = replacer

    def draw(self, example: Example, rng: np.random.Generator) -> Drawn:
        """Give the record without each of its words; nothing where there is no rationale."""
        if example.target is None:
            return {"replaced": example.tokens.ids[:0, None].repeat(len(example.tokens.ids), axis=1), "unit": _NONE}
        words = np.flatnonzero(example.tokens.seen)
        masks = [self.replacer.draw(example.tokens, example.tokens.word == word, 1, rng).ids for word in words]
        return {"replaced": np.concatenate(masks), "unit": words}

    def __call__(self, learner: Learner, step: Step) -> Taught:
        """Run records and their versions in one pass."""
        logits, replaced, of = together(learner, step)
        drops = learner.evidence(logits, step.gold)[of] - learner.evidence(replaced, step.gold[of])
        drops = at_least_float32(drops)
        scores = drops.new_zeros(step.target.shape).index_put((of, step.drawn["unit"]), drops)
        return Taught(logits, scores, step.target, step.valid)


COMPARING = (
    "margin",
    "margin-strongest",
    "margin-pairs",
    "kl",
)  # losses by difference: where all rise, nothing changes


class InputMarginalisation:
    """UIMER-IM: the evidence for the gold answer when the rationale is replaced, beside that when other words are.

    All rationale words are replaced together, and so are as many other words, drawn at random (Chen et al. 2023,
    section 3.2). Scores (rows, 2) are weights of evidence a_R and a_N; a margin between them is the paper's loss. To
    losses that only compare the two they are given without the term that both have in common. Soft rationales count
    from one half on.

    Args:
        replacer: draws what stands in their place.
        draws: how often.
        most: largest share of a record's words that are taken as its rationale; of more, some are drawn.
        loss: which loss the scores are for; None = `margin`, the paper's.
        fresh: draw anew in every epoch; else always the same, as the published code does.
    """

    LOSS = "margin"

    def __init__(
        self, replacer: Replacer, draws: int = 4, most: float = 0.5, loss: str | None = None, *, fresh: bool = True
    ) -> None:
        self.replacer, self.draws, self.most, self.fresh = replacer, draws, most, fresh
        self.loss = loss or self.LOSS

    def draw(self, example: Example, rng: np.random.Generator) -> Drawn:
        """Draw both sets and their replacements; nothing where one of them would be empty."""
        tokens = example.tokens
        sets = two_sets(example.target, tokens.seen, self.most, rng) if example.target is not None else None
        if sets is None:
            nothing = tokens.ids[:0, None].repeat(len(tokens.ids), axis=1)
            return {"replaced": nothing, "side": _NONE, "log_weights": np.empty(0)}
        inside = [(tokens.word >= 0) & mask[tokens.word] for mask in sets]
        found = [self.replacer.draw(tokens, chosen, self.draws, rng) for chosen in inside]
        return {
            "replaced": np.concatenate([one.ids for one in found]),
            "side": np.repeat([0, 1], [len(one.ids) for one in found]),
            "log_weights": np.concatenate([one.log_weights for one in found]),
        }

    def __call__(self, learner: Learner, step: Step) -> Taught:
        """Run records and their versions in one pass."""
        logits, replaced, of = together(learner, step)
        log_p, log_not = learner.odds(replaced, step.gold[of])
        rows = torch.unique_consecutive(of)
        shape = (len(rows), 2, len(of) // max(1, 2 * len(rows)))
        weights = step.drawn["log_weights"].to(log_p).view(shape)
        scores = -marginal_log_odds(log_p.view(shape), log_not.view(shape), weights)
        if self.loss not in COMPARING:
            scores = scores + log_odds(*learner.odds(logits[rows], step.gold[rows]))[:, None]
        table = scores.new_zeros(len(step.gold), 2).index_put((rows,), scores)
        valid = torch.zeros_like(table, dtype=torch.bool).index_fill(0, rows, value=True)
        return Taught(logits, table, torch.tensor([1.0, 0.0], device=table.device).expand_as(table), valid)


_NONE = np.empty(0, dtype=np.int64)


class DiffMask:
    """UIMER-DM: how far open an extractor leaves each word's gates, on average over its draws.

    Gradients reach the model's hidden states, which the gates read, and stop at the extractor. The pass of the task is
    the only one; the published code draws the gates, which makes the target noisy (fault 12 of its list).

    A trained extractor closes what it can, and a gate that is nearly closed has hardly a gradient: nor has the ratio
    of two of them. So losses that compare by difference are given log P(gate is not 0) instead, whose gradient stays.

    Args:
        extractor: reads the model.
        loss: which loss the scores are for; None = `ratio`, the paper's, of the gates themselves.
    """

    LOSS = "ratio"
    settings: Mapping[str, Mapping[str, Any]] = {"cross-entropy": {"probabilities": True}}  # which gates are

    def __init__(self, extractor: Extractor, loss: str | None = None) -> None:
        self.extractor, self.loss = extractor, loss or self.LOSS

    def draw(self, example: Example, rng: np.random.Generator) -> Drawn:
        """Draw nothing."""
        return {}

    def __call__(self, learner: Learner, step: Step) -> Taught:
        """Run the model once, and let the extractor read it."""
        with states.seen(learner.network, step.word.shape[1]) as found:
            logits = learner.forward(step.batch, step.word, return_dict=True).logits
        places = (step.word >= 0).flatten().nonzero()[:, 0]  # no other token has gates: half of a padded batch
        of_words = [state.flatten(0, 1).index_select(0, places)[None] for state in found]
        gates = self._log_open(of_words) if self.loss in COMPARING else self.extractor.keep(of_words)
        each = gates.new_zeros(step.word.numel()).index_copy(0, places, gates[0]).view(step.word.shape)
        return Taught(logits, word_means(each, step.word, step.target.shape[1]), step.target, step.valid)

    def _log_open(self, found: Sequence[Tensor]) -> Tensor:
        """Give log P(gate is not 0) of each token (rows, tokens); of `hidden` gates the mean over the layers."""
        extractor = self.extractor
        if extractor.kind == "input":
            return log_open(extractor.logits(found, learn=False)).sum(dim=0)  # a product of independent factors
        layers = [extractor.logits(found, layer, learn=False) for layer in range(len(extractor.widths))]
        return log_open(torch.cat(layers)).mean(dim=0)


def two_sets(target: Floats, seen: Mask, most: float, rng: np.random.Generator) -> tuple[Mask, Mask] | None:
    """Draw two sets of words of one size that have none in common: of the rationale, and of the other words.

    Args:
        target: (words,) the rationale, from 0 to 1; from one half on a word belongs to it.
        seen: (words,) boolean, words that the model sees; others are in neither set.
        most: largest share of the seen words that either set has.
        rng: draws the words.

    Returns:
        Two masks (words,); None where there is no rationale word, or no other.
    """
    inside, outside = np.flatnonzero(seen & (target >= 0.5)), np.flatnonzero(seen & (target < 0.5))
    size = min(len(inside), len(outside), max(1, int(most * seen.sum())))
    if size == 0:
        return None
    masks = np.zeros((2, len(target)), dtype=np.bool_)
    masks[0, rng.permutation(inside)[:size]] = True
    masks[1, rng.permutation(outside)[:size]] = True
    return masks[0], masks[1]


def together(learner: Learner, step: Step) -> tuple[Tensor, Tensor, Tensor]:
    """Run a batch and its replaced versions in one pass.

    Returns:
        Logits of the batch, logits of the versions, and the row (versions,) that each is a version of.
    """
    of, batch = step.drawn["replaced_of"], step.batch
    rows = torch.cat([torch.arange(len(batch.ids), device=of.device), of])
    inside = torch.arange(batch.ids.shape[1], device=of.device) < batch.lengths[of, None]
    ids = torch.cat([batch.ids, torch.where(inside, step.drawn["replaced"], batch.ids[of])])  # padding as the model's
    whole = Batch(ids, batch.types[rows], batch.attention[rows], batch.lengths[rows])
    logits = learner.forward(whole, step.word[rows]).logits
    return logits[: len(batch.ids)], logits[len(batch.ids) :], of


def stacked(drawn: Sequence[Drawn], width: int) -> dict[str, Tensor]:
    """Put what was drawn for each record of a batch one below the other, tokens filled up with 0 to `width`.

    Returns:
        The arrays by name; for those (rows, tokens) also NAME_of (rows,), the record that each row is of.
    """
    found: dict[str, Tensor] = {}
    for name in drawn[0] if drawn else ():
        parts = [one[name] for one in drawn]
        if parts[0].ndim == 2:
            parts = [np.pad(part, ((0, 0), (0, width - part.shape[1]))) for part in parts]
            found[f"{name}_of"] = torch.from_numpy(np.repeat(np.arange(len(parts)), [len(part) for part in parts]))
        found[name] = torch.from_numpy(np.concatenate(parts))
    return found
