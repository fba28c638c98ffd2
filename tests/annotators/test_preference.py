"""The losses on log-probabilities: values by hand, symmetries, and the floor that symmetric pairs can't go below."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from raison.annotators.preference import floor, preference_losses, response_scores

MARGINS = st.lists(st.floats(-50, 50), min_size=1, max_size=6).map(lambda row: torch.tensor(row, dtype=torch.float64))
BETAS = st.floats(0.01, 2.0)
LOSSES = pytest.mark.parametrize("loss", ["sigmoid", "ipo"])


def test_the_sigmoid_loss_by_hand():
    """beta m = 0.5 * 2 = 1: -log(1 / (1 + 1/e)) = log(1 + e^-1) = 0.313262; the other way round log(1 + e) = 1.313262.

    With smoothing 0.1: 0.9 * 0.313262 + 0.1 * 1.313262 = 0.413262.
    """
    margins = torch.tensor([2.0, -2.0])
    assert preference_losses(margins, 0.5).tolist() == pytest.approx([0.313262, 1.313262], abs=1e-6)
    assert preference_losses(margins[:1], 0.5, smoothing=0.1).tolist() == pytest.approx([0.413262], abs=1e-6)


def test_ipo_by_hand():
    """beta 0.25: the aim is 2; (3 - 2)^2 = 1 and (0 - 2)^2 = 4. A beta of its own, 0.5: (0 - 1)^2 = 1."""
    margins = torch.tensor([3.0, 0.0, 0.0])
    assert preference_losses(margins, torch.tensor([0.25, 0.25, 0.5]), "ipo").tolist() == [1.0, 4.0, 1.0]


def test_scores_of_responses_by_hand():
    """Tokens -1, -2 | -4, -8, where -2 and -4 count twice: sums -5 and -16; means -5/3 and -16/3. A third has none."""
    values, response = torch.tensor([-1.0, -2.0, -4.0, -8.0]), torch.tensor([0, 0, 1, 1])
    weights = torch.tensor([1.0, 2.0, 2.0, 1.0])
    assert response_scores(values, response, 3, weights, mean=False).tolist() == [-5.0, -16.0, 0.0]
    means = response_scores(values, response, 3, weights, mean=True)
    assert means.tolist() == pytest.approx([-5 / 3, -16 / 3, 0.0])


def test_where_no_token_counts_there_is_no_gradient_and_no_nan():
    values = torch.tensor([-1.0, -2.0], requires_grad=True)
    response_scores(values, torch.tensor([0, 0]), 1, torch.zeros(2), mean=True).sum().backward()
    assert values.grad.tolist() == [0.0, 0.0]


@LOSSES
@given(margins=MARGINS, beta=BETAS, smoothing=st.floats(0, 0.49))
def test_a_pair_and_its_mirror_never_go_below_the_floor(loss, margins, beta, smoothing):
    both = preference_losses(torch.cat([margins, -margins]), beta, loss, smoothing)
    assert float(both.mean()) >= floor(beta, loss) * (1 - 1e-9)
    zero = preference_losses(torch.zeros(1, dtype=torch.float64), beta, loss, smoothing)
    assert float(zero) == pytest.approx(floor(beta, loss))


@given(margin=st.floats(-20, 20), beta=BETAS)
def test_the_gradient_of_the_sigmoid_loss_is_the_closed_one(margin, beta):
    """d/dm -log sigmoid(beta m) = -beta sigmoid(-beta m)."""
    given_ = torch.tensor([margin], dtype=torch.float64, requires_grad=True)
    preference_losses(given_, beta).sum().backward()
    assert float(given_.grad) == pytest.approx(-beta / (1 + math.exp(beta * margin)), rel=1e-9)


def test_a_larger_margin_costs_less_until_the_aim_of_ipo():
    margins = torch.linspace(-5, 5, 50)
    assert (preference_losses(margins, 0.1).diff() < 0).all()
    assert (preference_losses(margins, 0.1, "ipo").diff() < 0).all()  # the aim is 5
    assert (preference_losses(margins + 10, 0.1, "ipo").diff() > 0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "hinge"}, "unknown loss 'hinge'"),
        ({"smoothing": 0.5}, "below 0.5"),
        ({"smoothing": -0.1}, "at least 0"),
    ],
)
def test_bad_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        preference_losses(torch.zeros(1), 0.1, **options)
