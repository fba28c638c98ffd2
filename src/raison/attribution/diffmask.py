"""DiffMask: words that a model could do without, found by an extractor that learns which gates it can close.

The extractor (De Cao et al. 2020) closes as many gates as it can while the model's answer stays nearly the same: it
minimises the log-L0 of the gates subject to KL(p(. | x) || p(. | masked x)) <= margin. The multiplier of that
constraint climbs where it is violated (gradient ascent) and falls where it holds, between 0 and 200; there is one for
each layer, since each step masks by the gates of one layer. The model is never changed.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raison.attribution import gates, states
from raison.attribution.extractor import RAISED, Extractor, Kind, gated, mean_log_open
from raison.attribution.gradients import Scored, frozen
from raison.attribution.target import Target
from raison.masking import ModelInput
from raison.models import batching
from raison.models.scorer import Batch, Scorer
from raison.records import InputError
from raison.words import Tokens, pool

Compare = Callable[[Any, Any], tuple[Tensor, Tensor]]  # two outputs -> divergence and agreement of each row (rows,)
MARGIN = 0.1  # nats that a masked answer may be away
BATCH = 24
STEPS = 1000  # that an extractor is trained for at least, unless told otherwise
GATE_RATE, PLACEHOLDER_RATE, MULTIPLIER_RATE = 3e-4, 1e-3, 0.3  # De Cao et al. 2020, their settings for SST
SETTLED = (0.75, 0.1, 100)  # agreement, share of open gates and steps from which a layer is drawn less often
SELDOM, MEMORY = 0.1, 0.9
NOTHING = ModelInput(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.bool_))


class Step(NamedTuple):
    """What one step of an extractor's training saw."""

    layer: int
    divergence: float  # mean over the records
    log_open: float  # mean log P(gate != 0)
    multiplier: float  # of the layer's constraint, after the step


class Fitting:
    """The training of one extractor, step by step.

    Adam for the gates and placeholders; gradient ascent for the multipliers. The model's weights, mode and flags are
    the same after each step as before, also where a step fails; dropout is off inside.

    Args:
        model: what the extractor reads and masks.
        extractor: is changed in place.
        seed: of the draws of layers and gates.
        margin: divergence that is allowed, in nats.
        rate: factor on the learning rates of gates and placeholders.
        compare: gives divergence and agreement of each row (rows,), both from the original output and the masked one.
    """

    def __init__(  # noqa: PLR0917
        self,
        model: Scorer,
        extractor: Extractor,
        seed: int = 0,
        margin: float = MARGIN,
        rate: float = 1.0,
        compare: Compare | None = None,
    ) -> None:
        self.model, self.extractor, self.margin = model, extractor, margin
        self.compare = compare or compare_labels
        self.generator = torch.Generator().manual_seed(seed)
        groups = [
            {"params": [*extractor.gates.parameters()], "lr": GATE_RATE * rate},
            {"params": [*extractor.placeholders.parameters()], "lr": PLACEHOLDER_RATE * rate},
        ]
        self.optimiser = torch.optim.Adam(groups)
        size = len(extractor.widths)
        self.agreement, self.open, self.steps = np.zeros(size), np.ones(size), np.zeros(size)

    def step(self, rows: Sequence[Tokens]) -> Step:
        """Train the extractor on a few records, by the gates of a layer that is drawn."""
        layer = self._draw()
        batch = self.model.batch(rows)
        word = word_of(rows, batch)
        with frozen(self.model.model), evaluating(self.model.model):
            with torch.no_grad():
                found, before = observe(self.model, batch)
            logits = self.extractor.logits(found, layer)
            keep = gated(gates.sample(logits, self.generator).prod(dim=0), word)
            after = self._masked(batch, found, keep, layer)
            divergence, agreement = self.compare(before, after)
            penalty = mean_log_open(gates.log_open(logits).sum(dim=0), word)
            excess = divergence.mean() - self.margin
            loss = self.extractor.multipliers[layer] * excess + penalty.mean()
            self.optimiser.zero_grad()
            loss.backward()
        self.optimiser.step()
        over, multipliers = float(excess.detach()), self.extractor.multipliers
        multipliers[layer] = (multipliers[layer] + MULTIPLIER_RATE * over).clamp(0, RAISED)
        self._remember(layer, float(agreement.detach().float().mean()), float(mean_open(logits, word)))
        return Step(layer, over + self.margin, float(penalty.detach().mean()), float(multipliers[layer]))

    def _masked(self, batch: Batch, found: Sequence[Tensor], keep: Tensor, layer: int) -> Any:
        if self.extractor.kind == "input":
            return self.model.forward(batch, self.extractor.mix(found[0], keep, layer))
        with states.changed(self.model.model, layer, lambda state: self.extractor.mix(state, keep, layer)):
            return self.model.forward(batch, return_dict=True)

    def _draw(self) -> int:
        """Draw a layer; one that keeps the answers with few open gates has had its share of steps."""
        agreement, few, enough = SETTLED
        settled = (self.agreement > agreement) & (self.open < few) & (self.steps > enough)
        weights = torch.from_numpy(np.where(settled, SELDOM, 1.0))
        return int(torch.multinomial(weights, 1, generator=self.generator))

    def _remember(self, layer: int, agreement: float, share: float) -> None:
        self.agreement[layer] += (1 - MEMORY) * (agreement - self.agreement[layer])
        self.open[layer] += (1 - MEMORY) * (share - self.open[layer])
        self.steps[layer] += 1


def train_extractor(
    model: Scorer,
    tokens: Sequence[Tokens],
    extractor: Extractor | None = None,
    *,
    gate: Kind = "input",
    epochs: int | None = None,
    seed: int = 0,
    progress: str | None = None,
    **options: Any,
) -> Extractor:
    """Train an extractor on what a model makes of records. Same records, in any order, and seed: same extractor.

    Args:
        model: what is explained; left as it is.
        tokens: the encoded records.
        extractor: one to train further; default: a new one.
        gate: of a new one, see `Extractor`.
        epochs: passes over the records; default: as many as make 1000 steps of 24 records.
        seed: of everything.
        progress: title of the progress bar.
        options: of `Fitting`.

    Returns:
        The extractor; one that was given is trained in place.

    Raises:
        InputError: the model has a single output, or its layers are not found.
    """
    if len(model.labels) < 2:
        raise InputError(f"{model.name} has a single output; diffmask compares distributions over labels")
    order = sorted(tokens, key=lambda row: (row.ids.tobytes(), row.grid.record_id))
    extractor = extractor or new_extractor(model, order[:BATCH], gate, seed)
    fitting = Fitting(model, extractor, seed, **options)
    each = -(-len(order) // BATCH)
    passes = (-(-STEPS // max(each, 1)) if epochs is None else epochs) if order else 0
    with batching.bar(progress, passes * each) as advance:
        for _ in range(passes):
            for rows in torch.randperm(len(order), generator=fitting.generator).split(BATCH):
                fitting.step([order[row] for row in rows.tolist()])
                advance(1)
    return extractor


def new_extractor(model: Scorer, tokens: Sequence[Tokens], gate: Kind = "input", seed: int = 0) -> Extractor:
    """Make an extractor for a model, with all gates open.

    Its placeholders are what the model makes of records that consist of mask tokens (of the unknown token, or of the
    records as they are, where the tokenizer has none): the mean of each state over the tokens of words.

    Args:
        model: what it will read.
        tokens: a few encoded records.
        gate: see `Extractor`.
        seed: of the first weights.
    """
    batch = model.batch(tokens or [NOTHING])
    word = word_of(tokens, batch)
    blank = getattr(model.tokenizer, "mask_token_id", None) or getattr(model.tokenizer, "unk_token_id", None)
    ids = batch.ids if blank is None else batch.ids.masked_fill(word >= 0, blank)
    with torch.no_grad(), evaluating(model.model):
        found, _ = observe(model, batch._replace(ids=ids))
    extractor = Extractor([state.shape[-1] for state in found], gate, seed).to(model.device)
    with torch.no_grad():
        for placeholder, state in zip(extractor.placeholders, found, strict=False):
            placeholder.copy_(state[word >= 0].float().mean(dim=0).nan_to_num())
    return extractor


def observe(model: Scorer, batch: Batch) -> tuple[list[Tensor], Any]:
    """Run a batch: hidden states (rows, tokens, width), see `raison.attribution.states`, and the output."""
    with states.seen(model.model, batch.ids.shape[1]) as found:
        output = model.forward(batch, return_dict=True)  # an option keeps the classifier from its shortcut
    return found, output


def word_of(tokens: Sequence[Tokens], batch: Batch) -> Tensor:
    """Give the word of each token of a batch (rows, tokens); -1 = special, template or padding."""
    word = np.full(batch.ids.shape, -1, dtype=np.int64)
    for index, row in enumerate(tokens):
        word[index, : len(row.word)] = row.word
    return torch.from_numpy(word).to(batch.ids.device)


def compare_labels(before: Any, after: Any) -> tuple[Tensor, Tensor]:
    """Compare two outputs with logits (rows, labels).

    Returns:
        KL(before || after) in nats, and whether both have the same first label: (rows,) each.
    """
    return compare_logits(before.logits, after.logits)


def compare_logits(before: Tensor, after: Tensor, inside: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Compare logits (rows, labels), or (rows, words, labels) of which a mean over the words is taken.

    Args:
        before: logits of the original input.
        after: of the masked one.
        inside: (rows, words), which words there are; default: all.

    Returns:
        KL(before || after) in nats, and the share of equal first labels: (rows,) each.
    """
    first, second = before.float().log_softmax(dim=-1), after.float().log_softmax(dim=-1)
    divergence = (first.exp() * (first - second)).sum(dim=-1)
    agreement = (first.argmax(dim=-1) == second.argmax(dim=-1)).float()
    if divergence.dim() == 1:
        return divergence, agreement
    there = torch.ones_like(agreement, dtype=torch.bool) if inside is None else inside
    size = there.sum(dim=1).clamp(min=1)
    return torch.where(there, divergence, 0.0).sum(dim=1) / size, torch.where(there, agreement, 0.0).sum(dim=1) / size


def mean_open(logits: Tensor, word: Tensor) -> Tensor:
    """Give the expected share of gates that are not closed, over the tokens of words."""
    chance = gates.log_open(logits.detach()).sum(dim=0).exp()
    inside = word >= 0
    return torch.where(inside, chance, 0.0).sum() / inside.sum().clamp(min=1)


@contextmanager
def evaluating(model: Any) -> Generator[None]:
    """Switch dropout off inside; each module has its own mode again after."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


# ------------------------------------------------------------------------------------------------- the method


def diffmask(
    model: Scorer,
    tokens: Sequence[Tokens],
    target: Target,
    *,
    extractor: Extractor | None = None,
    gate: Kind = "input",
    epochs: int | None = None,
    seed: int = 0,
    reduction: str = "mean",
    progress: str | None = None,
) -> Scored:
    """Give how far open an extractor leaves the gate of each token, on average over draws.

    The scores say what the whole distribution over labels rests on; they do not depend on the target.

    Args:
        model: what scores labels.
        tokens: the encoded records.
        target: the logits that the scores are said to explain.
        extractor: a trained one; default: one is trained on these records.
        gate: see `train_extractor`, also for the next two.
        epochs: see `train_extractor`.
        seed: see `train_extractor`.
        reduction: from tokens to words, see `raison.words.pool`.
        progress: title of the progress bar.

    Returns:
        Scores (words,) of each record from 0 to 1, weights of the logits explained (records, labels), and notes
        with the kind of `gate`.

    Raises:
        InputError: as `train_extractor`; or the extractor is of a model of another shape.
    """
    learned = extractor or train_extractor(model, tokens, gate=gate, epochs=epochs, seed=seed, progress=progress)
    weights = np.zeros((len(tokens), len(model.labels)), dtype=np.float32)
    found: list[NDArray[Any]] = [np.empty(0)] * len(tokens)

    def step(indices: batching.Indices) -> tuple[NDArray[Any], NDArray[Any]]:
        with torch.no_grad():
            seen, output = observe(model, model.batch([tokens[i] for i in indices]))
            if tuple(state.shape[-1] for state in seen) != learned.widths:
                raise InputError(f"{model.name}: the extractor is of a model with other layers")
            keep = learned.keep(seen)
            chosen = target.resolve(output.logits, indices)
        return keep.float().numpy(force=True), chosen.float().numpy(force=True)

    for indices, (values, chosen) in batching.run([len(row.ids) for row in tokens], step, model.max_tokens, progress):
        weights[indices] = chosen
        for index, row in zip(indices.tolist(), values, strict=True):
            found[index] = row[: len(tokens[index].ids)]
    scores = [pool(row, record, reduction) for row, record in zip(found, tokens, strict=True)]
    return scores, weights, [{"gate": learned.kind} for _ in tokens]
