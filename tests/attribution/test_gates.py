"""Hard concrete gates: closed forms against simulation and quadrature, gradients against differences."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import expit, logit
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from raison.attribution.gates import CLOSED, Gate, expected, log_open, sample

LOGITS = (-4.0, -1.0, -0.3, 0.0, 0.7, 2.0, 5.0)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("value", LOGITS)
def test_closed_forms_agree_with_a_million_draws(value):
    drawn = sample(torch.full((1_000_000,), value), seeded())
    assert float(drawn.min()) >= 0
    assert float(drawn.max()) <= 1
    assert float(log_open(torch.tensor(value)).exp()) == pytest.approx(float((drawn != 0).float().mean()), abs=2e-3)
    assert float(expected(torch.tensor(value))) == pytest.approx(float(drawn.double().mean()), abs=2e-3)


@given(st.floats(-30, 30))
def test_closed_forms_agree_with_their_definitions(value):
    logits = torch.tensor(value, dtype=torch.float64)
    known = -nn.functional.softplus(torch.logit(torch.tensor(0.2 / 1.2, dtype=torch.float64)) * 0.2 - logits)
    assert float(log_open(logits)) == pytest.approx(float(known), abs=1e-8)  # torch's softplus is that rough
    mean, _ = quad(lambda t: expit(value - 0.2 * logit((t + 0.2) / 1.2)), 0, 1, epsabs=1e-12, limit=400)
    assert float(expected(logits)) == pytest.approx(mean, abs=1e-8)


def test_a_draw_is_the_formula():
    u = torch.rand(50, generator=seeded(3))
    logits = torch.linspace(-3, 3, 50)
    wanted = [
        min(1.0, max(0.0, 1.2 / (1 + math.exp(-(math.log(a / (1 - a)) + b) / 0.2)) - 0.2))
        for a, b in zip(u.tolist(), logits.tolist(), strict=True)
    ]
    torch.testing.assert_close(sample(logits, seeded(3)), torch.tensor(wanted), atol=1e-5, rtol=1e-5)
    assert pytest.approx(1 / 6) == CLOSED


def test_gradients_are_those_of_finite_differences():
    logits = torch.tensor(LOGITS, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(log_open, logits)
    assert torch.autograd.gradcheck(expected, logits)
    many = torch.linspace(-1, 1, 40, dtype=torch.float64, requires_grad=True)
    drawn = sample(many, seeded(1))
    assert ((drawn > 0.01) & (drawn < 0.99)).sum() > 4
    assert torch.autograd.gradcheck(lambda x: sample(x, seeded(1)), many)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_extreme_logits_stay_finite(dtype):
    logits = torch.tensor([-1e4, -90.0, 90.0, 1e4], dtype=dtype, requires_grad=True)
    for values in (log_open(logits), expected(logits), sample(logits, seeded())):
        (grads,) = torch.autograd.grad(values.sum(), logits)
        assert values.isfinite().all()
        assert grads.isfinite().all()
    assert expected(logits)[0] == 0
    assert float(expected(logits)[-1]) == pytest.approx(1, abs=1e-2)


def reference(gate, states):
    """The same network out of torch's own parts."""
    first = nn.Linear(gate.direction.shape[1], gate.direction.shape[0])
    last = nn.Linear(gate.direction.shape[0], 1)
    first, last = weight_norm(first), weight_norm(last)
    with torch.no_grad():
        first.parametrizations.weight.original0.copy_(gate.length[:, None])
        first.parametrizations.weight.original1.copy_(gate.direction)
        first.bias.copy_(gate.shift)
        last.parametrizations.weight.original0.copy_(gate.out_length.reshape(1, 1))
        last.parametrizations.weight.original1.copy_(gate.out_direction[None])
        last.bias.copy_(gate.out_shift[None])
    return 10 * torch.tanh(last(torch.tanh(first(torch.cat(states, dim=-1))))).squeeze(-1) + gate.bias


def test_a_gate_is_two_weight_normed_layers():
    gate = Gate(12, 3, seeded())
    states = [torch.randn(2, 5, 8, generator=seeded(1)), torch.randn(2, 5, 4, generator=seeded(2))]
    assert (log_open(gate(states)).exp() > 0.5).all()  # open as it starts
    torch.testing.assert_close(gate(states), reference(gate, states))
    with torch.no_grad():
        for parameter in gate.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=seeded(4)) * 0.3)
    torch.testing.assert_close(gate(states), reference(gate, states))


def test_gradients_can_pass_a_gate_by():
    gate = Gate(8, 2, seeded())
    grads = []
    for learn in (True, False):
        states = torch.randn(1, 3, 8, generator=seeded(1)).requires_grad_()
        gate.zero_grad()
        gate([states], learn).sum().backward()
        grads.append(states.grad)
        assert all((parameter.grad is not None) == learn for parameter in gate.parameters())
    torch.testing.assert_close(*grads)
    assert grads[0].abs().sum() > 0
