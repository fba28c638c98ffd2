"""The losses of the DPO family, as plain functions on log-probabilities of responses.

With log-probabilities under the policy (p) and under the reference (r), the margin of a pair is

    m = (p(chosen) - r(chosen)) - (p(rejected) - r(rejected)).

Swapping the two responses changes its sign, and policy = reference makes it 0. That CAPO's loss is of this family is
known; its exact form is not, so what can be chosen here is our reconstruction.
"""

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

Loss = Literal["sigmoid", "ipo"]


def response_scores(log_probabilities: Tensor, response: Tensor, size: int, weights: Tensor, *, mean: bool) -> Tensor:
    """Add up the log-probabilities of each response's tokens: (size,).

    Args:
        log_probabilities: (tokens,) of the tokens of all responses.
        response: (tokens,) the response that each token is of.
        size: how many responses.
        weights: (tokens,) what each token counts.
        mean: divide by the sum of the response's weights; a response in which nothing counts has the score 0.
    """
    zeros = log_probabilities.new_zeros(size)
    total = zeros.index_add(0, response, log_probabilities * weights)
    if not mean:
        return total
    counted = zeros.index_add(0, response, weights.to(zeros.dtype))
    return torch.where(counted > 0, total / counted.clamp(min=torch.finfo(zeros.dtype).tiny), 0.0)


def preference_losses(margins: Tensor, beta: Tensor | float, loss: Loss = "sigmoid", smoothing: float = 0.0) -> Tensor:
    """Give the loss of each pair: (pairs,).

    sigmoid: -log sigmoid(beta * m) (Rafailov et al. 2023, arXiv 2305.18290, eq. 7). ipo: (m - 1 / (2 beta))^2 (Azar et
    al. 2023, arXiv 2310.12036, eq. 17); its authors take means over tokens. With label smoothing e it is
    (1 - e) * loss(m) + e * loss(-m): for the sigmoid, conservative DPO (Mitchell 2023), as if a share e of the pairs
    were the wrong way round.

    Args:
        margins: (pairs,) m.
        beta: how dear it is to leave the reference: one number, or one for each pair.
        loss: see above.
        smoothing: e, at least 0 and below 1/2.

    Raises:
        ValueError: an unknown loss, or smoothing out of its range.
    """
    if not 0 <= smoothing < 0.5:
        raise ValueError(f"smoothing {smoothing}: expected at least 0 and below 0.5")
    if loss == "sigmoid":
        right, wrong = -logsigmoid(beta * margins), -logsigmoid(-beta * margins)
    elif loss == "ipo":
        aim = 1 / (2 * beta)
        right, wrong = (margins - aim) ** 2, (margins + aim) ** 2
    else:
        raise ValueError(f"unknown loss {loss!r}; expected sigmoid or ipo")
    return (1 - smoothing) * right + smoothing * wrong if smoothing else right


def floor(beta: float, loss: Loss = "sigmoid") -> float:
    """Give the loss at the margin 0: log 2, or 1 / (4 beta^2) for ipo; it is what any smoothing leaves there.

    The losses are convex, so the mean over a pair and its mirror, whose margin is the negative, can't go below it.
    """
    return math.log(2) if loss == "sigmoid" else 1 / (4 * beta**2)
