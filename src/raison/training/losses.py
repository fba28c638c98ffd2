"""Alignment losses: how far a model's word scores are from the words that people marked.

Every loss has the form `loss(scores, target, valid, **settings)` and gives one value per record (records,):

- scores (records, words): what an attribution gave, differentiable; any attribution.
- target (records, words) in [0, 1]: 1 where a person marked the word, or the share of the annotators who did.
- valid (records, words) boolean: the words that take part. Padding, special and template tokens, words that the model
  never saw and words without an annotation do not; their scores and targets may be anything, NaN included.

Below, t is the target, R the marked words (t > 0), N the words that nobody marked (t = 0), k the number of R. With
targets of 0 and 1 alone each loss is the published formula. With shares, every vote counts once wherever a loss is
linear in the votes: t for the word and 1 - t against it. A maximum has no weights, so there a word is compared with
those that nobody marked.

A record whose loss is undefined, because nobody marked a word of it, or because a comparing loss finds nothing to
compare with, has the loss 0 and the gradient 0; `defined` says which records count and `mean_loss` leaves the others
out. Half-precision scores are computed with in float32. Every function raises ValueError for a bad argument.
"""

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, log_softmax, relu

FLOOR = 1e-6  # the smallest denominator of the losses that divide by the strongest other word

LOSSES: dict[str, Callable[..., Tensor]] = {}  # by the name they have on the command line; filled below

_P = ParamSpec("_P")
_Formula = Callable[Concatenate[Tensor, Tensor, Tensor, _P], Tensor]
_Rule = Callable[[Tensor, Tensor], Tensor]  # target and valid (records, words) -> is the loss defined? (records,)
_RULES: dict[str, _Rule] = {}


# ------------------------------------------------------------------------------------------- who counts, and means


def defined(target: Tensor, valid: Tensor, loss_name: str) -> Tensor:
    """Say for which records a loss of LOSSES is defined: (records,) boolean. The scores play no part in it.

    Every loss needs a marked word. `margin` and `margin-pairs` need another one with fewer marks;
    `margin-strongest`, `ratio`, `order` and `gate-order` need a word that nobody marked.
    """
    if loss_name not in _RULES:
        raise ValueError(f"unknown loss {loss_name!r}; expected one of {', '.join(LOSSES)}")
    _check(target, target, valid)
    return _RULES[loss_name](torch.where(valid, target, 0.0), valid) if valid.shape[1] else valid.any(dim=1)


def mean_loss(
    losses: Tensor, counted: Tensor, confidence: Tensor | None = None, total: Tensor | float | None = None
) -> Tensor:
    """Give sum_i c_i l_i / sum_i c_i over the records that count, as a tensor of shape ().

    Where no record counts it is 0, still attached to the graph of the losses.

    Args:
        losses: (records,), from one of LOSSES.
        counted: (records,) boolean, from `defined`; the losses of the others may be anything.
        confidence: (records,), 0 or more: how far each record's rationale is trusted. 0 leaves the record out.
        total: the denominator, where it is not these records' own `total_weight`: the sum over all processes, or over
            all parts of an accumulated batch. The parts' values then add up to the mean over the whole.
    """
    weights = _weights(losses, counted, confidence)
    divisor = weights.sum() if total is None else torch.as_tensor(total, dtype=losses.dtype, device=losses.device)
    return (torch.where(weights > 0, losses, 0.0) * weights).sum() / torch.where(divisor > 0, divisor, 1.0)


def total_weight(counted: Tensor, confidence: Tensor | None = None) -> Tensor:
    """Give the denominator of `mean_loss`, (): the number of records that count, or the sum of their confidence."""
    return _weights(torch.zeros(counted.shape, device=counted.device), counted, confidence).sum()


def active(losses: Tensor, counted: Tensor) -> float | None:
    """Give the share of the records that count whose loss (records,) is above 0: for a hinge, how many still push.

    None where no record counts.
    """
    if losses.shape != counted.shape:
        raise ValueError(f"expected losses and counted (records,), got {tuple(losses.shape)}, {tuple(counted.shape)}")
    return float((losses[counted] > 0).double().mean()) if bool(counted.any()) else None


def _weights(losses: Tensor, counted: Tensor, confidence: Tensor | None) -> Tensor:
    given = torch.ones_like(losses) if confidence is None else confidence.to(losses)
    if not losses.shape == counted.shape == given.shape or losses.ndim != 1 or counted.dtype != torch.bool:
        raise ValueError(
            f"expected losses, counted (boolean) and confidence of one shape (records,), got {tuple(losses.shape)}, "
            f"{tuple(counted.shape)} {counted.dtype} and {tuple(given.shape)}"
        )
    weights = torch.where(counted, given.detach(), 0.0)
    if not bool((weights >= 0).all()):
        raise ValueError("confidence must be 0 or more")
    return weights


def _a_marked_word(target: Tensor, valid: Tensor) -> Tensor:
    return (valid & (target > 0)).any(dim=1)


def _two_levels(target: Tensor, valid: Tensor) -> Tensor:
    highest = torch.where(valid, target, 0.0).amax(dim=1, keepdim=True)
    return (valid & (target < highest)).any(dim=1)


def _an_unmarked_word(target: Tensor, valid: Tensor) -> Tensor:
    return _a_marked_word(target, valid) & (valid & (target == 0)).any(dim=1)


def _check(scores: Tensor, target: Tensor, valid: Tensor) -> None:
    if scores.ndim != 2 or not scores.shape == target.shape == valid.shape or valid.dtype != torch.bool:
        raise ValueError(
            "expected scores, target and valid (boolean) of one shape (records, words), got "
            f"{tuple(scores.shape)}, {tuple(target.shape)} and {tuple(valid.shape)} {valid.dtype}"
        )
    if not bool((~valid | ((target >= 0) & (target <= 1))).all()):
        raise ValueError("targets of valid words must lie in [0, 1]")


def _loss(name: str, rule: _Rule) -> Callable[[_Formula[_P]], _Formula[_P]]:
    """Enter a formula into LOSSES, behind a guard: it sees 0 for whatever does not take part.

    The guard stands before the arithmetic, since the gradient of a NaN that is only selected away later is NaN.
    """

    def enter(formula: _Formula[_P]) -> _Formula[_P]:
        @wraps(formula)
        def guarded(scores: Tensor, target: Tensor, valid: Tensor, /, *args: _P.args, **settings: _P.kwargs) -> Tensor:
            _check(scores, target, valid)
            if scores.shape[1] == 0:
                return scores.sum(dim=1)
            scores = scores.float() if scores.dtype in (torch.float16, torch.bfloat16) else scores
            target = torch.where(valid, target.detach(), 0.0).to(scores)
            counted = rule(target, valid)
            scores = torch.where(valid & counted[:, None], scores, 0.0)
            return torch.where(counted, formula(scores, target, valid, *args, **settings), 0.0)

        LOSSES[name], _RULES[name] = guarded, rule
        return guarded

    return enter


# ------------------------------------------------------------------------------------------------------- margins


@_loss("margin", _two_levels)
def margin_sets(scores: Tensor, target: Tensor, valid: Tensor, *, margin: float = 1.0) -> Tensor:
    """Give max(0, margin - (a_R - a_N)): the marked words together lead the others together by a margin.

    a_R = sum_i t_i a_i / sum_i t_i and a_N = sum_j (1 - t_j) a_j / sum_j (1 - t_j), means and not sums, so that neither
    the length of the text nor that of the rationale moves the margin. Of a table with two columns, the score of the
    rationale as a set and that of another set, and the target (1, 0), it is UIMER-IM's loss (Chen et al. 2023, section
    3.2): max(0, a_N - a_R + margin). Undefined where all words have the same target.
    """
    others = _others(target, valid)
    return relu(margin - (_mean(scores, target) - _mean(scores, others)))


@_loss("margin-strongest", _an_unmarked_word)
def margin_strongest(scores: Tensor, target: Tensor, valid: Tensor, *, margin: float = 1.0) -> Tensor:
    """Give mean_{i in R} max(0, margin - (a_i - max_{j in N} a_j)): every marked word leads the strongest other one.

    The mean is weighted by t. Undefined without a marked word or without a word that nobody marked.
    """
    return _mean(relu(margin - (scores - _strongest(scores, target, valid))), target)


@_loss("margin-pairs", _two_levels)
def margin_pairs(scores: Tensor, target: Tensor, valid: Tensor, *, margin: float = 1.0) -> Tensor:
    """Give the mean over all pairs (i in R, j in N) of max(0, margin - (a_i - a_j)).

    A pair's weight is max(0, t_i - t_j): by how much the votes for "i and not j" outweigh those for the reverse,
    t_i (1 - t_j) - t_j (1 - t_i). So a word with few votes stands between the words with many and those with none.
    Memory grows with the square of the number of words. Undefined where all words have the same target.
    """
    leads = relu(target[:, :, None] - target[:, None, :]) * valid[:, None, :]
    hinges = relu(margin - (scores[:, :, None] - scores[:, None, :]))
    return _mean(hinges.flatten(1), leads.flatten(1))


@_loss("ratio", _an_unmarked_word)
def ratio(scores: Tensor, target: Tensor, valid: Tensor, *, floor: float = FLOOR) -> Tensor:
    """Give sum_{i in R} min(a_i / max_{j in N} a_j - 1, 0)^2, for scores that are not negative, such as gates.

    This is UIMER-DM's margin (Chen et al. 2023, section 3.3). It is squared, as in the authors' code: without the
    square, a lower loss would be a larger violation. Terms are weighted by t. Undefined without a marked word or
    without a word that nobody marked.

    Args:
        scores: (records, words).
        target: (records, words).
        valid: (records, words).
        floor: smallest denominator; where all other words are weaker, the marked ones are asked to reach it.
    """
    return _ratios(scores, target, valid, floor)


# ------------------------------------------------------------------------------------- Huang et al. 2021; saliency


@_loss("base", _a_marked_word)
def base(scores: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Give sum_{i in R} (s_i - 1/k)^2: all of the focus on the marked words, in equal parts (Huang et al. 2021).

    s_i = |a_i| / sum_j |a_j| over the words that take part; the published code counts special tokens too. With shares
    it is sum_i t_i (s_i - t_i / sum_j t_j)^2: focus in proportion to the votes. Undefined without a marked word.
    """
    wanted = target / _divisor(target.sum(dim=1, keepdim=True))
    return (target * (_saliency(scores) - wanted) ** 2).sum(dim=1)


@_loss("order", _an_unmarked_word)
def order(scores: Tensor, target: Tensor, valid: Tensor, *, floor: float = FLOOR) -> Tensor:
    """Give sum_{i in R} min(s_i / max_{j in N} s_j - 1, 0)^2: no other word has more focus (Huang et al. 2021).

    `ratio` of the saliency s (see `base`); `floor` is a share of the record's whole focus. Undefined without a marked
    word or without a word that nobody marked.
    """
    return _ratios(_saliency(scores), target, valid, floor)


@_loss("gate", _a_marked_word)
def gate(scores: Tensor, target: Tensor, valid: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """Give z sum_{i in R} (s_i - 1)^2, z ~ Bernoulli(1 - sum_{i in R} s_i): no more push once the focus is there.

    Huang et al. 2021; s as in `base`. z has no gradient. Terms and the focus that closes the gate are weighted by t.
    Undefined without a marked word.

    Args:
        scores: (records, words).
        target: (records, words).
        valid: (records, words).
        generator: draws one z per record, in their order, as published. Without it z is its expectation: the mean of
            the published loss and of its gradient, without the noise, and the same in any batch.
    """
    focus = _saliency(scores)
    return _gate(focus, target, generator) * (target * (focus - 1) ** 2).sum(dim=1)


@_loss("gate-order", _an_unmarked_word)
def gate_order(
    scores: Tensor,
    target: Tensor,
    valid: Tensor,
    *,
    generator: torch.Generator | None = None,
    floor: float = FLOOR,
) -> Tensor:
    """Give z sum_{i in R} min(s_i / max_{j in N} s_j - 1, 0)^2: `order` behind the gate z of `gate`.

    Huang et al. 2021. Undefined without a marked word or without a word that nobody marked.
    """
    focus = _saliency(scores)
    return _gate(focus, target, generator) * _ratios(focus, target, valid, floor)


# ------------------------------------------------------------------------------------------ one side of the rationale


@_loss("sign", _a_marked_word)
def sign(scores: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Give mean_{i in R} max(0, -a_i): marked words speak for the label; nothing is asked of others.

    The saliency learning of Ghaeini et al. 2019, k times this. The mean, weighted by t, makes records with long and
    short rationales equal. UIMER's code averages over only those words of the whole batch that are below 0, so that a
    record's term depends on the records around it and does not fade as fewer words are wrong; that is not offered.
    Undefined without a marked word.
    """
    return _mean(relu(-scores), target)


@_loss("outside", _a_marked_word)
def outside(scores: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Give sum_{j in N} a_j^2: no weight outside the rationale (right for the right reasons, Ross et al. 2017).

    With shares, sum_j (1 - t_j) a_j^2. It is their penalty where a_j is the norm of the gradient of the summed log
    probabilities at word j. Undefined without a marked word, since "nothing matters" is not what an empty rationale
    says; 0 where every word is marked.
    """
    return (_others(target, valid) * scores**2).sum(dim=1)


# ------------------------------------------------------------------------------------------------ closeness to target


@_loss("squared-error", _a_marked_word)
def squared_error(scores: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Give the mean over the words of (a_i - t_i)^2. Undefined without a marked word."""
    return _mean((scores - target) ** 2, valid.to(scores))


@_loss("cross-entropy", _a_marked_word)
def cross_entropy(scores: Tensor, target: Tensor, valid: Tensor, *, probabilities: bool = False) -> Tensor:
    """Give the mean over the words of -t_i log p_i - (1 - t_i) log(1 - p_i), p = sigmoid(a).

    Undefined without a marked word.

    Args:
        scores: (records, words), logits.
        target: (records, words).
        valid: (records, words).
        probabilities: scores are p themselves, as gates are; they are kept a rounding error away from 0 and 1.
    """
    if probabilities:
        edge = torch.finfo(scores.dtype).eps
        chance = scores.clamp(edge, 1 - edge)
        words = -(target * chance.log() + (1 - target) * torch.log1p(-chance))
    else:
        words = binary_cross_entropy_with_logits(scores, target, reduction="none")
    return _mean(words, valid.to(scores))


@_loss("kl", _a_marked_word)
def kl(scores: Tensor, target: Tensor, valid: Tensor, *, probabilities: bool = False) -> Tensor:
    """Give KL(q || p) = sum_{i in R} q_i log(q_i / p_i), q_i = t_i / sum_j t_j, p = softmax of a over the words.

    0 where the model's attention is spread as the votes are. Undefined without a marked word.

    Args:
        scores: (records, words).
        target: (records, words).
        valid: (records, words).
        probabilities: scores are parts of a distribution already, as attention is: p_i = a_i / sum_j a_j over the words
            that take part. Scores below a rounding error count as that much.
    """
    if probabilities:
        some = torch.where(valid, scores.clamp(min=torch.finfo(scores.dtype).eps), 0.0)
        inside = torch.where(valid, some / _divisor(some.sum(dim=1, keepdim=True)), 1.0)
        logs = inside.log()
    else:
        logs = log_softmax(torch.where(valid, scores, torch.finfo(scores.dtype).min), dim=1)
    wanted = target / _divisor(target.sum(dim=1, keepdim=True))
    return torch.xlogy(wanted, wanted).sum(dim=1) - (wanted * logs).sum(dim=1)


# ------------------------------------------------------------------------------------------------------ the parts


def _others(target: Tensor, valid: Tensor) -> Tensor:
    """Give each word's weight as a word outside the rationale, 1 - t; 0 for what does not take part."""
    return torch.where(valid, 1 - target, 0.0)


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    """Give the weighted mean over the words (records,), 0 where nothing has weight."""
    return (values * weights).sum(dim=1) / _divisor(weights.sum(dim=1))


def _divisor(total: Tensor) -> Tensor:
    return torch.where(total > 0, total, 1.0)


def _strongest(scores: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Give the highest score among the words that nobody marked: (records, 1)."""
    others = torch.where(valid & (target == 0), scores, torch.finfo(scores.dtype).min)
    return others.amax(dim=1, keepdim=True)


def _ratios(scores: Tensor, target: Tensor, valid: Tensor, floor: float) -> Tensor:
    if not floor > 0:
        raise ValueError(f"floor must be above 0, got {floor}")
    strongest = _strongest(scores, target, valid).clamp(min=floor)
    return (target * (torch.minimum(scores, strongest) / strongest - 1) ** 2).sum(dim=1)


def _saliency(scores: Tensor) -> Tensor:
    """Give |a_i| / sum_j |a_j|, and 0 where all scores are 0."""
    size = scores.abs()
    least = torch.finfo(scores.dtype).tiny ** 0.5  # its square, which the gradient divides by, is still above 0
    return size / size.sum(dim=1, keepdim=True).clamp(min=least)


def _gate(focus: Tensor, target: Tensor, generator: torch.Generator | None) -> Tensor:
    """Give z (records,), drawn or expected, without gradient."""
    chance = (1 - (target * focus).sum(dim=1)).detach().clamp(0, 1)
    if generator is None:
        return chance
    draws = torch.rand(len(chance), generator=generator, device=generator.device, dtype=torch.float64)
    return (draws.to(chance.device) < chance).to(chance)
