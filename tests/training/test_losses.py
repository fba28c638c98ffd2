"""Alignment losses, against loops written from the formulas, values worked by hand and finite differences."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raison.training.losses import LOSSES, active, defined, mean_loss, total_weight

NAN, INF = math.nan, math.inf
SETTINGS = [(name, {}) for name in LOSSES] + [
    ("margin", {"margin": 0.3}),
    ("margin-strongest", {"margin": 0.3}),
    ("margin-pairs", {"margin": 0.3}),
    ("ratio", {"floor": 0.6}),
    ("order", {"floor": 0.3}),
    ("gate-order", {"floor": 0.3}),
    ("cross-entropy", {"probabilities": True}),
    ("kl", {"probabilities": True}),
]
POSITIVE = {"ratio"}  # and those whose scores are probabilities
COMPARING = {"margin", "margin-strongest", "margin-pairs", "ratio", "order", "gate-order"}
BY_SETTING = pytest.mark.parametrize(("name", "options"), SETTINGS)
BY_NAME = pytest.mark.parametrize("name", LOSSES)


def table(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def yes(*rows):
    return torch.tensor(rows, dtype=torch.bool)


# ------------------------------------------------------------------------------- one record in plain Python


def slow(name, a, t, options):
    """One record's loss from its words' scores and targets, both plain lists; None where it is undefined."""
    words = range(len(a))
    marked, unmarked = [i for i in words if t[i] > 0], [j for j in words if t[j] == 0]
    if not marked:
        return None
    if name in {"margin", "margin-pairs"} and len(set(t)) == 1:
        return None
    if name in COMPARING - {"margin", "margin-pairs"} and not unmarked:
        return None
    return FORMULAS[name](a, t, marked, unmarked, **options)


def slow_margin(a, t, marked, unmarked, margin=1.0):
    inside = sum(t[i] * a[i] for i in marked) / sum(t)
    outside = sum((1 - v) * x for x, v in zip(a, t, strict=True)) / sum(1 - v for v in t)
    return max(0.0, margin - (inside - outside))


def slow_strongest(a, t, marked, unmarked, margin=1.0):
    best = max(a[j] for j in unmarked)
    return sum(t[i] * max(0.0, margin - (a[i] - best)) for i in marked) / sum(t)


def slow_pairs(a, t, marked, unmarked, margin=1.0):
    value = weight = 0.0
    for i in range(len(a)):
        for j in range(len(a)):
            if t[i] > t[j]:
                value += (t[i] - t[j]) * max(0.0, margin - (a[i] - a[j]))
                weight += t[i] - t[j]
    return value / weight


def slow_ratio(a, t, marked, unmarked, floor=1e-6):
    best = max(*(a[j] for j in unmarked), floor)
    return sum(t[i] * min(a[i] / best - 1, 0.0) ** 2 for i in marked)


def share(a):
    total = sum(abs(x) for x in a)
    return [abs(x) / total if total else 0.0 for x in a]


def slow_base(a, t, marked, unmarked):
    s = share(a)
    return sum(t[i] * (s[i] - t[i] / sum(t)) ** 2 for i in marked)


def slow_gate(a, t, marked, unmarked):
    s = share(a)
    closed = sum(t[i] * s[i] for i in marked)
    return (1 - closed) * sum(t[i] * (s[i] - 1) ** 2 for i in marked)


def slow_gate_order(a, t, marked, unmarked, floor=1e-6):
    s = share(a)
    return (1 - sum(t[i] * s[i] for i in marked)) * slow_ratio(s, t, marked, unmarked, floor)


def slow_entropy(a, t, marked, unmarked, probabilities=False):
    p = a if probabilities else [1 / (1 + math.exp(-x)) for x in a]
    return sum(-v * math.log(x) - (1 - v) * math.log(1 - x) for x, v in zip(p, t, strict=True)) / len(a)


def slow_kl(a, t, marked, unmarked, probabilities=False):
    size = a if probabilities else [math.exp(x) for x in a]
    return sum(t[i] / sum(t) * math.log(t[i] / sum(t) / (size[i] / sum(size))) for i in marked)


FORMULAS = {
    "margin": slow_margin,
    "margin-strongest": slow_strongest,
    "margin-pairs": slow_pairs,
    "ratio": slow_ratio,
    "base": slow_base,
    "order": lambda a, *rest, **options: slow_ratio(share(a), *rest, **options),
    "gate": slow_gate,
    "gate-order": slow_gate_order,
    "sign": lambda a, t, marked, unmarked: sum(t[i] * max(0.0, -a[i]) for i in marked) / sum(t),
    "outside": lambda a, t, marked, unmarked: sum((1 - v) * x * x for x, v in zip(a, t, strict=True)),
    "squared-error": lambda a, t, marked, unmarked: sum((x - v) ** 2 for x, v in zip(a, t, strict=True)) / len(a),
    "cross-entropy": slow_entropy,
    "kl": slow_kl,
}

VOTES = [0.0, 0.0, 1.0, 1.0, 1 / 3, 0.5]


@st.composite
def batches(draw, hard=False):
    """Scores, targets and valid words of a few records; whatever does not take part is NaN or infinite."""
    records, words = draw(st.integers(1, 4)), draw(st.integers(1, 6))
    size = records * words

    def matrix(elements):
        return torch.tensor(draw(st.lists(elements, min_size=size, max_size=size))).reshape(records, words)

    # multiples of 1/64, so that ties do occur and no difference is lost to rounding
    scores = matrix(st.integers(-128, 128).map(lambda n: n / 64)).double()
    target = matrix(st.sampled_from([0.0, 1.0] if hard else VOTES)).double()
    valid = matrix(st.booleans())
    rubbish = draw(st.sampled_from([NAN, INF, -INF, 1e300]))
    return torch.where(valid, scores, rubbish), torch.where(valid, target, rubbish), valid


def fit(name, options, scores):
    """Bring scores to where a loss is meant for: gates and probabilities lie between 0 and 1."""
    return scores.sigmoid() if name in POSITIVE or options.get("probabilities") else scores


def value_and_gradient(name, options, batch, confidence=None):
    scores, target, valid = batch
    leaf = fit(name, options, scores).clone().requires_grad_()  # what made NaN scores must not be differentiated
    losses = LOSSES[name](leaf, target, valid, **options)
    mean = mean_loss(losses, defined(target, valid, name), confidence)
    mean.backward()
    return losses.detach(), mean.detach(), leaf.grad


# ---------------------------------------------------------------------------------- the formulas, word by word


@BY_SETTING
@settings(max_examples=30, deadline=None)
@given(batch=batches())
def test_each_record_equals_a_loop_over_its_words(name, options, batch):
    scores, target, valid = batch
    given_scores = fit(name, options, scores)
    found, counts = LOSSES[name](given_scores, target, valid, **options), defined(target, valid, name)
    for a, t, v, loss, count in zip(given_scores, target, valid, found, counts, strict=True):
        expected = slow(name, a[v].tolist(), t[v].tolist(), options)
        assert bool(count) == (expected is not None)
        assert loss.item() == pytest.approx(expected or 0.0, rel=1e-9, abs=1e-12)


A = table([3.0, -1.0, 2.0, 0.5])  # words 1 and 2 are marked
HARD, SOFT, ALL = table([0.0, 1.0, 1.0, 0.0]), table([0.0, 1 / 3, 1.0, 0.0]), yes([1, 1, 1, 1])
BY_HAND = [
    ("margin", {}, A, HARD, 1 - (0.5 - 1.75)),
    ("margin", {"margin": 0.25}, A, HARD, 0.25 - (0.5 - 1.75)),
    # inside (-1/3 + 2) / (4/3) = 1.25; outside (3 - 2/3 + 1/2) / (8/3) = 1.0625
    ("margin", {}, A, SOFT, 1 - (1.25 - 1.0625)),
    ("margin-strongest", {}, A, HARD, (5.0 + 2.0) / 2),
    ("margin-strongest", {}, A, SOFT, (5.0 / 3 + 2.0) / (4 / 3)),
    # pairs: -1 against 3 and 0.5, 2 against 3 and 0.5
    ("margin-pairs", {}, A, HARD, (5.0 + 2.5 + 2.0 + 0.0) / 4),
    # and with a third of the weight those of the word -1, and with two thirds 2 against -1, which leads by enough
    ("margin-pairs", {}, A, SOFT, ((5.0 + 2.5) / 3 + 2.0 + 0.0) / (2 / 3 + 2 + 2 / 3)),
    ("ratio", {}, table([0.8, 0.2, 0.9, 0.1]), HARD, (0.25 - 1) ** 2),
    ("ratio", {}, table([0.8, 0.2, 0.4, 0.1]), SOFT, (0.25 - 1) ** 2 / 3 + (0.5 - 1) ** 2),
    ("base", {}, table([3.0, -1.0, 2.0, 2.0]), HARD, (1 / 8 - 1 / 2) ** 2 + (2 / 8 - 1 / 2) ** 2),
    ("base", {}, table([3.0, -1.0, 2.0, 2.0]), SOFT, (1 / 8 - 1 / 4) ** 2 / 3 + (2 / 8 - 3 / 4) ** 2),
    ("order", {}, table([3.0, -1.0, 6.0, 2.0]), HARD, (1 / 3 - 1) ** 2),
    ("gate", {}, table([3.0, -1.0, 2.0, 2.0]), HARD, (1 - 3 / 8) * ((1 / 8 - 1) ** 2 + (2 / 8 - 1) ** 2)),
    ("gate-order", {}, table([3.0, -1.0, 2.0, 2.0]), HARD, (1 - 3 / 8) * ((1 / 3 - 1) ** 2 + (2 / 3 - 1) ** 2)),
    ("sign", {}, A, HARD, (1.0 + 0.0) / 2),
    ("sign", {}, A, SOFT, (1 / 3) / (4 / 3)),
    ("outside", {}, A, HARD, 9 + 0.25),
    ("outside", {}, A, SOFT, 9 + 2 / 3 + 0.25),
    ("squared-error", {}, A, HARD, (9 + 4 + 1 + 0.25) / 4),
    ("cross-entropy", {}, table([0.0, 0.0, 0.0, 0.0]), SOFT, math.log(2)),
    ("cross-entropy", {"probabilities": True}, table([0.5, 0.25, 0.5, 0.5]), HARD, math.log(2 * 4 * 2 * 2) / 4),
    ("kl", {}, table([0.0, 0.0, 0.0, 0.0]), HARD, math.log(2)),
    ("kl", {"probabilities": True}, table([0.1, 0.1, 0.1, 0.1]), HARD, math.log(2)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options", "scores", "target", "expected"), BY_HAND)
def test_values_worked_by_hand(name, options, scores, target, expected):
    assert LOSSES[name](scores, target, ALL, **options).item() == pytest.approx(expected, rel=1e-12)


def test_every_loss_has_a_value_worked_by_hand_and_a_loop():
    assert {row[0] for row in BY_HAND} == set(FORMULAS) == set(LOSSES)


@pytest.mark.parametrize(("name", "options"), [row for row in SETTINGS if row[0] not in {"gate", "gate-order"}])
def test_gradients_and_their_gradients_equal_finite_differences(name, options):
    """At random scores, away from kinks, with a record without a rationale among the others."""
    generator = torch.Generator().manual_seed(5)
    scores = torch.randn((4, 6), generator=generator, dtype=torch.float64)
    target = torch.randint(0, 4, (4, 6), generator=generator) / 3
    target[:, 0], target[:, 1] = 1.0, 0.0
    target[2] = 0.0
    valid = torch.rand((4, 6), generator=generator) < 0.8
    valid[:, :2] = True
    assert not bool(valid.all())

    def loss(leaf):
        return LOSSES[name](fit(name, options, torch.where(valid, leaf, NAN)), target, valid, **options)

    leaf = torch.where(valid, scores, 0.0).requires_grad_()
    assert bool((loss(leaf) > 0).any())
    assert torch.autograd.gradcheck(loss, leaf)
    assert torch.autograd.gradgradcheck(loss, leaf)


@pytest.mark.parametrize(("gated", "plain"), [("gate", None), ("gate-order", "order")])
def test_the_gate_is_a_number_and_its_gradient_that_of_the_term_behind_it(gated, plain):
    scores = A.clone().requires_grad_()
    inside = (scores.abs() / scores.abs().sum())[0, 1:3]
    z = 1 - inside.sum().item()
    term = ((inside - 1) ** 2).sum() if plain is None else LOSSES[plain](scores, HARD, ALL).sum()
    (expected,) = torch.autograd.grad(z * term, scores, retain_graph=True)
    (found,) = torch.autograd.grad(LOSSES[gated](scores, HARD, ALL).sum(), scores)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", ["gate", "gate-order"])
def test_a_drawn_gate_is_open_or_shut_and_on_average_the_expected_one(name):
    n = 20_000
    rows = (A.expand(n, 4), HARD.expand(n, 4), ALL.expand(n, 4))
    drawn, again, other = (LOSSES[name](*rows, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    expected = LOSSES[name](A, HARD, ALL).item()
    chance = 1 - 3 / 6.5
    assert torch.equal(drawn, again)
    assert not torch.equal(drawn, other)
    assert drawn.unique().tolist() == pytest.approx([0.0, expected / chance])
    spread = expected / chance * math.sqrt(chance * (1 - chance) / n)
    assert drawn.mean().item() == pytest.approx(expected, abs=4 * spread)
    # padding does not shift the draws, and neither does a record without a rationale
    wide = [torch.nn.functional.pad(part, (0, 3), value=value) for part, value in zip(rows, (NAN, NAN, 0), strict=True)]
    wide[1] = wide[1].clone()
    wide[1][0] = 0.0
    padded = LOSSES[name](*wide, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(padded[1:], drawn[1:])
    assert padded[0] == 0


# ----------------------------------------------------------------------------------------- what changes nothing


@BY_SETTING
@settings(max_examples=15, deadline=None)
@given(batch=batches(), rubbish=st.sampled_from([NAN, INF, -INF, 0.0, 1e300]), data=st.data())
def test_padding_the_order_of_words_and_rubbish_in_what_does_not_take_part_change_nothing(
    name, options, batch, rubbish, data
):
    scores, target, valid = batch
    losses, mean, gradient = value_and_gradient(name, options, batch)
    assert bool(losses.isfinite().all())
    assert bool(gradient.isfinite().all())
    assert bool((gradient[~valid] == 0).all())

    wide = [
        torch.nn.functional.pad(part, (1, 2), value=value)
        for part, value in ((scores, rubbish), (target, rubbish), (valid, 0))
    ]
    order = data.draw(st.permutations(range(wide[0].shape[1])))
    moved = value_and_gradient(name, options, [part[:, order] for part in wide])
    torch.testing.assert_close(moved[0], losses, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(moved[1], mean, rtol=1e-9, atol=1e-12)
    back = torch.empty_like(moved[2])
    back[:, order] = moved[2]
    torch.testing.assert_close(back[:, 1:-2], gradient, rtol=1e-9, atol=1e-12)


@BY_SETTING
@settings(max_examples=15, deadline=None)
@given(batch=batches(hard=True))
def test_a_batch_is_its_records_one_by_one_and_those_without_a_rationale_are_not_there(name, options, batch):
    scores, target, valid = batch
    counts = defined(target, valid, name)
    losses, mean, gradient = value_and_gradient(name, options, batch)
    alone = [value_and_gradient(name, options, [part[[row]] for part in batch]) for row in range(len(scores))]
    torch.testing.assert_close(losses, torch.cat([one[0] for one in alone]), rtol=1e-12, atol=1e-15)
    n = max(int(counts.sum()), 1)
    torch.testing.assert_close(mean, sum(one[1] for one in alone) / n, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(gradient, torch.cat([one[2] for one in alone]) / n, rtol=1e-9, atol=1e-12)
    assert bool((losses[~counts] == 0).all())
    assert bool((gradient[~counts] == 0).all())
    if bool(counts.any()):
        fewer = value_and_gradient(name, options, [part[counts] for part in batch])
        torch.testing.assert_close(mean, fewer[1], rtol=1e-9, atol=1e-12)


@BY_NAME
@settings(max_examples=15, deadline=None)
@given(batch=batches(), data=st.data())
def test_confidence_0_is_left_out_and_2_is_twice_there(name, batch, data):
    records = len(batch[0])
    confidence = data.draw(st.lists(st.sampled_from([0, 1, 2]), min_size=records, max_size=records))
    found = value_and_gradient(name, {}, batch, torch.tensor(confidence, dtype=torch.float64))
    repeated = [row for row, times in enumerate(confidence) for _ in range(times)]
    expected = value_and_gradient(name, {}, [part[repeated] for part in batch])
    torch.testing.assert_close(found[1], expected[1], rtol=1e-9, atol=1e-12)
    gradient = torch.zeros_like(found[2]).index_add(0, torch.tensor(repeated, dtype=torch.long), expected[2])
    torch.testing.assert_close(found[2], gradient, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["margin", "margin-strongest", "margin-pairs"])
def test_margins_see_differences_of_scores_only(name):
    torch.testing.assert_close(LOSSES[name](A + 7.0, SOFT, ALL), LOSSES[name](A, SOFT, ALL))


@pytest.mark.parametrize("name", ["base", "order", "gate", "gate-order"])
@pytest.mark.parametrize("scale", [1e-15, -1.0, 1e15])
def test_saliency_losses_see_neither_the_scale_nor_the_sign_of_scores(name, scale):
    found = LOSSES[name]((A * scale).float(), SOFT.float(), ALL)
    torch.testing.assert_close(found, LOSSES[name](A, SOFT, ALL).float())


# ------------------------------------------------------------------------------------------- soft votes


def test_the_set_margin_pools_the_votes_of_all_annotators():
    """Three annotators marked different words: the means run over all their (word, mark) pairs."""
    votes = table([0.0, 1.0, 1.0, 0.0], [0.0, 0.0, 1.0, 0.0], [1.0, 0.0, 1.0, 0.0])
    spread = A.expand(3, 4)
    lead = spread[votes == 1].mean() - spread[votes == 0].mean()
    found = LOSSES["margin"](A, votes.mean(dim=0, keepdim=True), ALL, margin=10.0)
    assert found.item() == pytest.approx(10 - lead.item())


@pytest.mark.parametrize("name", ["outside", "cross-entropy", "squared-error"])
def test_losses_that_are_linear_in_votes_are_the_mean_over_the_annotators(name):
    """Squared error is so up to a number without gradient, the annotators' variance."""
    votes = table([0.0, 1.0, 1.0, 0.0], [0.0, 0.0, 1.0, 0.0], [1.0, 0.0, 1.0, 0.0])
    together, apart = A.clone().requires_grad_(), A.clone().requires_grad_()
    mean = LOSSES[name](together, votes.mean(dim=0, keepdim=True), ALL)
    each = LOSSES[name](apart.expand(3, 4), votes, ALL.expand(3, 4)).mean()
    mean.sum().backward()
    each.backward()
    torch.testing.assert_close(together.grad, apart.grad)
    if name != "squared-error":
        assert mean.item() == pytest.approx(each.item())


def test_pairs_ask_for_the_order_of_votes():
    """Scores in the votes' order and a margin apart cost nothing; a word with half the votes stands in between."""
    target, scores = table([1.0, 0.5, 0.0]), table([2.0, 1.0, 0.0])
    valid = yes([1, 1, 1])
    assert LOSSES["margin-pairs"](scores, target, valid).item() == 0
    assert LOSSES["margin-pairs"](scores[:, [1, 0, 2]], target, valid).item() > 0
    assert LOSSES["margin-pairs"](scores[:, [0, 2, 1]], target, valid).item() > 0


@pytest.mark.parametrize("name", ["margin-strongest", "ratio", "order"])
def test_a_word_with_some_votes_is_no_rival(name):
    target, valid = table([1.0, 1 / 3, 0.0]), yes([1, 1, 1])
    assert LOSSES[name](table([1.0, 9.0, 0.0]), target, valid).item() == 0
    assert LOSSES[name](table([1.0, 0.0, 9.0]), target, valid).item() > 0


@BY_SETTING
def test_votes_close_to_0_and_1_are_close_to_marks(name, options):
    """For the maximum over words that nobody marked only the votes for can be moved."""
    near = HARD + table([0, -1e-9, -1e-9, 0]) if name in COMPARING else HARD + table([1e-9, -1e-9, -1e-9, 1e-9])
    scores = fit(name, options, A)
    torch.testing.assert_close(
        LOSSES[name](scores, near, ALL, **options), LOSSES[name](scores, HARD, ALL, **options), rtol=1e-6, atol=1e-6
    )


# ----------------------------------------------------------------------- faults of the published code, not here


def test_two_columns_are_input_marginalisations_hinge():
    """max(a_N - a_R + margin, 0), with the un-replaced likelihood cancelled, on 3 records of which 1 is satisfied."""
    inside, other = table([2.0, 0.5, -1.0])[0], table([0.0, 1.0, -1.0])[0]
    target, valid = table([1.0, 0.0]).expand(3, 2), yes([1, 1]).expand(3, 2)
    found = LOSSES["margin"](torch.stack([inside, other], dim=1), target, valid, margin=1.0)
    assert torch.equal(found, torch.clamp(other - inside + 1.0, min=0))
    assert found.tolist() == [0.0, 1.5, 1.0]
    assert active(found, defined(target, valid, "margin")) == pytest.approx(2 / 3)


@BY_SETTING
def test_a_marked_word_that_was_dropped_is_neither_counted_nor_a_rival(name, options):
    """Section 6, item 8: a marked word beyond the cap or the cut is as if it were not in the text."""
    scores, target = table([0.9, 0.2, 0.4, 0.1]), table([1.0, 1.0, 0.0, 0.0])
    found = LOSSES[name](scores, target, yes([0, 1, 1, 1]), **options)
    torch.testing.assert_close(found, LOSSES[name](scores[:, 1:], target[:, 1:], ALL[:, 1:], **options))


@BY_NAME
def test_a_target_of_minus_one_is_refused(name):
    """Section 6, item 8: it would turn a sign, or pass for a word that nobody marked."""
    with pytest.raises(ValueError, match=r"targets of valid words must lie in \[0, 1\]"):
        LOSSES[name](A, table([0.0, 1.0, -1.0, 0.0]), ALL)
    with pytest.raises(ValueError, match="targets of valid words"):
        LOSSES[name](A, table([0.0, 1.0, NAN, 0.0]), ALL)
    LOSSES[name](A, table([0.0, 1.0, -1.0, 0.0]), yes([1, 1, 0, 1]))


@BY_SETTING
def test_special_tokens_and_padding_are_no_rivals(name, options):
    """Section 6, item 12: [CLS], [SEP] and padding hold the highest score of the row, or the lowest."""
    words, marks = table([0.6, 0.5]), table([1.0, 0.0])
    for other in (0.99, 0.0, -7.0, NAN, INF):
        scores = torch.cat([table([other]), words, table([other, other])], dim=1)
        target = torch.cat([table([0.0]), marks, table([0.0, 0.0])], dim=1)
        found = LOSSES[name](scores, target, yes([0, 1, 1, 0, 0]), **options)
        torch.testing.assert_close(found, LOSSES[name](words, marks, yes([1, 1]), **options))


@pytest.mark.parametrize("name", ["ratio", "order", "gate-order"])
def test_denominators_have_a_floor(name):
    """Section 6, item 12: all other gates shut, or all gates shut."""
    target, valid = table([1.0, 0.0, 0.0]).float(), yes([1, 1, 1])
    for scores, expected in (([0.5, 0.0, 0.0], 0.0), ([0.0, 0.0, 0.0], 1.0)):
        leaf = table(scores).float().requires_grad_()
        found = LOSSES[name](leaf, target, valid)
        found.sum().backward()
        assert found.item() == expected
        assert bool(leaf.grad.isfinite().all())
    with pytest.raises(ValueError, match="floor must be above 0, got 0"):
        LOSSES[name](A, HARD, ALL, floor=0)


@BY_NAME
def test_a_batch_with_no_rationale_and_one_with_a_single_one(name):
    """Section 6, item 17: both are tensors with a graph, and train."""
    scores = A.expand(3, 4).clone().requires_grad_()
    for rows, share in (([], None), ([1], 1.0)):
        target = torch.zeros(3, 4, dtype=torch.float64)
        target[rows] = HARD
        valid = ALL.expand(3, 4)
        counted = defined(target, valid, name)
        losses = LOSSES[name](scores, target, valid)
        mean = mean_loss(losses, counted)
        scores.grad = None
        mean.backward()
        assert mean.shape == ()
        assert counted.sum() == len(rows)
        assert mean.item() == losses.sum().item()
        assert bool(scores.grad.any()) == bool(losses.sum() > 0)
        assert bool(scores.grad.isfinite().all())
        assert (active(losses, counted) is None) == (share is None)


def network(seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = {"embedding": (6, 3), "hidden": (3, 4), "out": (4,)}
    return {
        name: torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
        for name, shape in shapes.items()
    }


def saliency(weights, ids):
    """Gradients of a two-layer network's logit at each position's own embedding, summed: (records, words)."""
    embedded = weights["embedding"][ids]
    places = torch.arange(1, ids.shape[1] + 1, dtype=torch.float64)[:, None]
    state = torch.tanh((embedded * places).cumsum(dim=1) @ weights["hidden"])
    logit = (state @ weights["out"]).mean(dim=1) ** 2
    return torch.autograd.grad(logit.sum(), embedded, create_graph=True)[0].sum(dim=-1)


@pytest.mark.parametrize("name", ["base", "order", "gate", "gate-order", "sign"])
def test_a_repeated_word_has_a_score_at_each_place_and_other_records_do_not_reach_it(name):
    """Section 6, item 11: word 1 stands twice, once marked; the record beside it holds word 1 too."""
    weights = network()
    ids = torch.tensor([[1, 2, 1, 3], [4, 1, 1, 5]])
    target, valid = table([1, 0, 0, 0], [0, 1, 0, 0]), torch.ones(2, 4, dtype=torch.bool)
    scores = saliency(weights, ids)
    assert scores[0, 0] != scores[0, 2]
    together = LOSSES[name](scores, target, valid)
    alone = [LOSSES[name](saliency(weights, ids[[row]]), target[[row]], valid[[row]]).item() for row in (0, 1)]
    assert together.tolist() == pytest.approx(alone)
    swapped = LOSSES[name](scores, target[:, [2, 1, 0, 3]], valid)
    assert swapped[0] != together[0]


# ------------------------------------------------------------------------------------ through gradients to weights

SEED = 3  # with which a gate is open


@BY_SETTING
def test_the_loss_of_an_input_gradient_reaches_the_weights(name, options):
    """Scores are gradients themselves: the weights' gradient equals finite differences of the whole."""
    weights = network(3)
    ids = torch.tensor([[1, 2, 3, 4], [5, 1, 0, 0], [2, 3, 5, 0]])
    target = table([1, 0, 0.5, 0], [0, 1, 0, 0], [0, 0, 0, 0])
    valid = yes([1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0])

    def mean(**changed):
        scores = fit(name, options, saliency({**weights, **changed}, ids))
        # a drawn gate stays as it is where its expectation moves with the weights, and has no gradient
        drawn = {"generator": torch.Generator().manual_seed(SEED)} if name.startswith("gate") else {}
        return mean_loss(LOSSES[name](scores, target, valid, **options, **drawn), defined(target, valid, name))

    gradients = dict(zip(weights, torch.autograd.grad(mean(), list(weights.values())), strict=True))
    assert any(bool(gradient.any()) for gradient in gradients.values())
    for key, weight in weights.items():
        step = torch.zeros_like(weight)
        for place in range(weight.numel()):
            step.zero_().view(-1)[place] = 1e-6
            moved = [mean(**{key: (weight + side * step).detach().requires_grad_()}).item() for side in (1, -1)]
            found = gradients[key].reshape(-1)[place].item()
            assert found == pytest.approx((moved[0] - moved[1]) / 2e-6, rel=1e-5, abs=1e-7)


@BY_NAME
def test_descent_on_a_loss_leads_the_marked_words_to_the_top(name):
    """What each loss is for, from scores that are the wrong way round."""
    scores = table([0.2, 0.9, 0.3, 0.8]).requires_grad_()
    target = table([1.0, 0.0, 1.0, 0.0])
    optimiser = torch.optim.Adam([scores], lr=0.05)
    if name == "sign":
        scores.data -= 2.0
    for _ in range(300):
        optimiser.zero_grad()
        LOSSES[name](scores, target, ALL).sum().backward()
        optimiser.step()
    if name == "sign":
        assert bool((scores[target == 1] >= 0).all())
    else:
        marked, other = scores.abs()[target == 1], scores.abs()[target == 0]
        assert marked.mean() > other.mean()


# ------------------------------------------------------------------------------------------------------- means


def test_means_of_parts_add_up_under_a_common_denominator():
    losses = table([1.0, 2.0, NAN, 4.0])[0].requires_grad_()
    counted, confidence = yes([1, 1, 0, 1])[0], table([0.5, 1.0, NAN, 0.0])[0]
    whole = mean_loss(losses, counted, confidence)
    assert whole.item() == pytest.approx((0.5 + 2.0) / 1.5)
    parts = [slice(0, 1), slice(1, 3), slice(3, 4)]
    total = sum(total_weight(counted[part], confidence[part]) for part in parts)
    assert total == total_weight(counted, confidence) == 1.5
    summed = sum(mean_loss(losses[part], counted[part], confidence[part], total=total) for part in parts)
    assert summed.item() == pytest.approx(whole.item())
    (gradient,) = torch.autograd.grad(summed, losses)
    torch.testing.assert_close(gradient, table([0.5, 1.0, 0.0, 0.0])[0] / 1.5)
    assert mean_loss(losses, counted, total=6).item() == pytest.approx(7 / 6)
    assert total_weight(counted) == 3


@pytest.mark.parametrize("total", [None, 0, 3.0])
def test_a_mean_over_nothing_is_0_and_can_be_trained_on(total):
    losses = table([NAN, 2.0])[0].requires_grad_()
    found = mean_loss(losses, yes([0, 1])[0], table([1.0, 0.0])[0], total)
    assert found.item() == 0
    found.backward()
    assert losses.grad.tolist() == [0.0, 0.0]


def test_the_active_share_counts_only_records_that_count():
    losses, counted = table([0.0, 2.0, NAN, 0.1, 0.0])[0], yes([1, 1, 0, 1, 1])[0]
    assert active(losses, counted) == 0.5
    assert active(losses, torch.zeros(5, dtype=torch.bool)) is None


# ------------------------------------------------------------------------------------------------ shapes and types


@BY_NAME
def test_no_records_and_no_words(name):
    for shape in ((0, 4), (3, 0), (0, 0)):
        scores, valid = torch.zeros(shape, requires_grad=True), torch.zeros(shape, dtype=torch.bool)
        losses, counted = LOSSES[name](scores, torch.zeros(shape), valid), defined(torch.zeros(shape), valid, name)
        assert losses.shape == counted.shape == shape[:1]
        mean = mean_loss(losses, counted)
        mean.backward()
        assert mean.item() == 0


@BY_SETTING
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float32])
def test_half_precision_scores_give_the_loss_in_single_precision(name, options, kind):
    scores = fit(name, options, A).to(kind).requires_grad_()
    found = LOSSES[name](scores, SOFT, ALL, **options)
    found.sum().backward()
    assert found.dtype == torch.float32
    assert scores.grad.dtype == kind
    exact = LOSSES[name](scores.detach().double(), SOFT, ALL, **options)
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-6)


@BY_SETTING
def test_extreme_scores_stay_finite(name, options):
    """Saturated models give scores of 0 and gates of exactly 0 and 1."""
    target = table([1, 0, 1, 0]).float()
    for row in ([0.0, 0.0, 0.0, 0.0], [0.0, 1.0, 1.0, 0.0], [1e-30, 0.0, 0.0, 0.0]):
        leaf = table(row).float().requires_grad_()
        found = LOSSES[name](leaf, target, ALL, **options)
        (slope,) = torch.autograd.grad(found.sum(), leaf, create_graph=True)
        assert bool(found.isfinite().all())
        assert bool(slope.isfinite().all())


@BY_NAME
def test_bad_arguments_are_refused(name):
    with pytest.raises(ValueError, match=r"one shape \(records, words\), got \(1, 4\), \(1, 3\) and \(1, 4\)"):
        LOSSES[name](A, HARD[:, :3], ALL)
    with pytest.raises(ValueError, match="one shape"):
        LOSSES[name](A[0], HARD[0], ALL[0])
    with pytest.raises(ValueError, match=r"valid \(boolean\).*torch.float64"):
        LOSSES[name](A, HARD, ALL.double())


def test_bad_arguments_of_the_means_are_refused():
    with pytest.raises(ValueError, match="unknown loss 'hinge'; expected one of margin, margin-strongest"):
        defined(HARD, ALL, "hinge")
    losses, counted = torch.ones(2), yes([1, 1])[0]
    with pytest.raises(ValueError, match="confidence must be 0 or more"):
        mean_loss(losses, counted, torch.tensor([1.0, -1.0]))
    with pytest.raises(ValueError, match="confidence must be 0 or more"):
        mean_loss(losses, counted, torch.tensor([1.0, NAN]))
    with pytest.raises(ValueError, match="one shape"):
        mean_loss(losses, counted[:1])
    with pytest.raises(ValueError, match="expected losses and counted"):
        active(losses, counted[:1])
