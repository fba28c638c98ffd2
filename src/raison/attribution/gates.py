"""Gates that are open, closed or in between: hard concrete variables, and the networks that say how far open they are.

A gate z in [0, 1] is a binary Concrete variable that is stretched beyond 0 and clamped (Louizos et al. 2018), so that
it is exactly 0 with a chance that has a closed form and a gradient. DiffMask (De Cao et al. 2020) stretches
it to (-0.2, 1): below 0 alone, so that a gate comes as near to 1 as it likes and stays differentiable there.

All functions take logits of any shape, are differentiable with respect to them, and are finite wherever these are.
"""

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

TEMPERATURE = 0.2
LOW = -0.2  # the lower end of the stretched variable; the upper one is 1
CLOSED = -LOW / (1 - LOW)  # what is stretched to 0: 1/6
NODES = 24
SPAN, OPEN = 10.0, 5.0  # a gate's logit lies within 10 of its bias, which starts at 5: wide open


def sample(logits: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw gates: clamp(1.2 sigmoid((logit(u) + logits) / 0.2) - 0.2, 0, 1) with u uniform.

    Args:
        logits: of the gates.
        generator: of the draws, on the CPU, so that a seed gives the same gates on every device; default: torch's own.

    Returns:
        Gates, of the shape of the logits; where one is exactly 0 its gradient is 0 too.
    """
    u = torch.rand(logits.shape, generator=generator, dtype=torch.float32).to(logits)
    concrete = torch.sigmoid((torch.logit(u, eps=1e-7) + logits) / TEMPERATURE)
    return ((1 - LOW) * concrete + LOW).clamp(0, 1)


def log_open(logits: Tensor) -> Tensor:
    """Give log P(z != 0) = -softplus(0.2 logit(1/6) - logits), where 1/6 is what is stretched to 0."""
    return logsigmoid(logits - TEMPERATURE * math.log(CLOSED / (1 - CLOSED)))


def expected(logits: Tensor) -> Tensor:
    """Give E[z], by quadrature; off by less than 1e-9 in float64.

    P(z > t) is sigmoid(logits - 0.2 logit(x)) with x = (t + 0.2) / 1.2, and E[z] its integral over t from 0 to 1. Near
    x = 1 it falls like the fifth root of 1 - x, so the integral is taken over that root.
    """
    shifts, weights = (torch.from_numpy(part).to(logits) for part in _quadrature())
    return (torch.sigmoid(logits[..., None] + shifts) * weights).sum(dim=-1)


@cache
def _quadrature() -> tuple[np.ndarray, np.ndarray]:
    """Give what is added to the logits at each node, and the nodes' weights, which add up to 1."""
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    root = (1 + nodes) / 2
    rest = (1 - CLOSED) * root**5  # 1 - x
    shifts = -TEMPERATURE * (np.log1p(-rest) - np.log(rest))
    return shifts, weights / 2 * 5 * root**4


class Gate(nn.Module):
    """The logits of the gates of one layer, read from the states of each token.

    Two linear maps, each followed by tanh, their weights given by direction and length (Salimans and Kingma 2016); the
    result is stretched to 10 and moved by a bias that starts at 5, where a gate is open. Computed in the precision of
    the gate's own weights, also under autocast.

    Args:
        width: of what is read.
        inner: width of the layer between.
        generator: of the first weights.
    """

    def __init__(self, width: int, inner: int, generator: torch.Generator) -> None:
        super().__init__()
        first = torch.empty(inner, width).uniform_(-1, 1, generator=generator) / math.sqrt(width)
        second = torch.empty(inner).uniform_(-1, 1, generator=generator) / math.sqrt(inner)
        self.direction, self.length = nn.Parameter(first), nn.Parameter(first.norm(dim=1))
        self.shift = nn.Parameter(torch.zeros(inner))
        self.out_direction, self.out_length = nn.Parameter(second), nn.Parameter(second.norm())
        self.out_shift = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.tensor(OPEN))

    def forward(self, states: Sequence[Tensor], learn: bool = True) -> Tensor:
        """Give logits (rows, tokens).

        Args:
            states: what is read of each token, side by side: (rows, tokens, width of each).
            learn: whether gradients reach the gate's own weights; those of the states are there in any case.
        """
        own = (self.direction, self.length, self.shift, self.out_direction, self.out_length, self.out_shift, self.bias)
        direction, length, shift, out_direction, out_length, out_shift, bias = (
            own if learn else (parameter.detach() for parameter in own)
        )
        weight = direction * (length / direction.norm(dim=1))[:, None]
        parts = weight.split([state.shape[-1] for state in states], dim=1)
        out = out_direction * (out_length / out_direction.norm())
        with torch.autocast(weight.device.type, enabled=False):
            read = (state.to(weight.dtype) @ part.T for state, part in zip(states, parts, strict=True))
            return SPAN * torch.tanh(torch.tanh(sum(read, shift)) @ out + out_shift) + bias
