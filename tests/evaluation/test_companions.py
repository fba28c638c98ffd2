"""Companions of the flip rate: values worked by hand, and what they must hold for any input."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from raison.evaluation.companions import (
    f_fidelity,
    fidelity_masks,
    flip_fraction,
    log_odds_drop,
    normalised_comprehensiveness,
    normalised_sufficiency,
    removal_steps,
    unit_scores,
)

probabilities = st.floats(0, 1, allow_nan=False)
scores = arrays(np.float64, st.integers(0, 9), elements=st.sampled_from([-2.0, -0.5, 0.0, 1.0, 3.0, math.nan]))


# ----------------------------------------------------------------------------------------- normalised


def test_normalised_by_hand():
    """p(x) = 0.9; no word 0.4, so 1 - S'_0 = 0.5; only r 0.8: 1 - S' = 0.1; without r 0.6: C = 0.3."""
    assert normalised_sufficiency(0.9, 0.8, 0.4) == pytest.approx(((1 - 0.1) - (1 - 0.5)) / 0.5)
    assert normalised_sufficiency(0.9, 0.8, 0.4) == pytest.approx(0.8)
    assert normalised_comprehensiveness(0.9, 0.6, 0.4) == pytest.approx(0.6)


def test_normalised_at_its_ends():
    assert normalised_sufficiency(0.9, 0.95, 0.4) == 1.0  # better than the whole input: no shortfall
    assert normalised_sufficiency(0.9, 0.2, 0.4) == 0.0  # worse than no word: cut at 0
    assert normalised_comprehensiveness(0.9, 0.95, 0.4) == 0.0
    assert normalised_comprehensiveness(0.9, 0.1, 0.4) == 1.0  # costs more than everything: cut at 1
    for empty in (0.9, 0.95, 0.9 - 1e-8):
        assert np.isnan(normalised_sufficiency(0.9, 0.5, empty))
        assert np.isnan(normalised_comprehensiveness(0.9, 0.5, empty))


def published(whole, part, empty):
    """The formulas as Carton et al. and Zhao and Aletras have them, where they are defined."""
    s, zero = 1 - max(0, whole - part), 1 - max(0, whole - empty)
    return (s - zero) / (1 - zero), max(0, whole - part) / (1 - zero)


@given(probabilities, probabilities, probabilities)
def test_normalised_equals_the_papers_formula(whole, part, empty):
    sufficient, comprehensive = (
        normalised_sufficiency(whole, part, empty),
        normalised_comprehensiveness(whole, part, empty),
    )
    if whole - empty <= 1e-6:
        assert np.isnan(sufficient)
        assert np.isnan(comprehensive)
        return
    expected = np.clip(published(whole, part, empty), 0, 1)
    np.testing.assert_allclose([sufficient, comprehensive], expected, atol=1e-6)
    assert sufficient + comprehensive == pytest.approx(1)  # of one and the same masking


def test_normalised_takes_many_maskings_at_once():
    found = normalised_comprehensiveness(0.9, np.array([0.9, 0.65, 0.4]), np.array([0.4]))
    np.testing.assert_allclose(found, [0, 0.5, 1])


# --------------------------------------------------------------------------------------------- scaling


def test_unit_scores_by_hand():
    np.testing.assert_allclose(unit_scores(np.array([-1.0, 3.0, np.nan, 1.0])), [0, 1, np.nan, 0.5])
    for constant in ([2.0, 2.0], [np.nan], [], [1.0, np.nan]):
        assert np.isnan(unit_scores(np.array(constant))).all()


@given(scores, st.floats(0.1, 10), st.floats(-5, 5))
def test_unit_scores_ignore_scale_and_shift(values, scale, shift):
    found = unit_scores(values)
    np.testing.assert_allclose(found, unit_scores(values * scale + shift), atol=1e-9)
    known = found[~np.isnan(found)]
    assert not len(known) or (known.min() == 0 and known.max() == 1)


# -------------------------------------------------------------------------------------------- log-odds


def test_log_odds_by_hand():
    assert log_odds_drop(0.8, 0.5) == pytest.approx(math.log(4))
    assert log_odds_drop(0.5, 0.8) == pytest.approx(-math.log(4))
    assert log_odds_drop(1.0, 0.0) == pytest.approx(2 * math.log((1 - 1e-6) / 1e-6))
    np.testing.assert_allclose(log_odds_drop(0.8, np.array([0.8, 0.5])), [0, math.log(4)], atol=1e-12)


@given(probabilities, probabilities)
def test_log_odds_are_finite_and_ordered(whole, part):
    drop = float(log_odds_drop(whole, part))
    assert math.isfinite(drop)
    assert drop == pytest.approx(-float(log_odds_drop(part, whole)))
    if 1e-6 < part < whole < 1 - 1e-6:
        assert drop > 0


# ------------------------------------------------------------------------------------------ rank order


def test_removal_steps_by_hand():
    """Order: word 3 (2.0), words 0 and 1 (1.0, by position); word 2 has no score."""
    steps = removal_steps(np.array([1.0, 1.0, np.nan, 2.0]))
    np.testing.assert_array_equal(steps, np.array([[0, 0, 0, 1], [1, 0, 0, 1], [1, 1, 0, 1]], dtype=bool))
    assert removal_steps(np.array([np.nan])).shape == (0, 1)


@given(scores)
def test_removal_steps_are_nested_and_take_the_highest(values):
    steps = removal_steps(values)
    assert steps.shape == ((~np.isnan(values)).sum(), len(values))
    for index, row in enumerate(steps):
        assert row.sum() == index + 1
        assert not index or (steps[index - 1] <= row).all()
        rest = values[~row & ~np.isnan(values)]
        assert not len(rest) or values[row].min() >= rest.max()


def test_flip_fraction_by_hand():
    assert flip_fraction([False, False, True, False]) == 0.75
    assert flip_fraction([True]) == 1.0
    assert flip_fraction([True, False]) == 0.5
    assert flip_fraction([False, False]) == 1.0  # never
    assert np.isnan(flip_fraction([]))


# ------------------------------------------------------------------------------------------ F-Fidelity


def test_f_fidelity_by_hand():
    """Right before, right in 3 of 4 draws: 1 - 0.75; wrong before, right in 1 of 4: 0 - 0.25."""
    found = f_fidelity([1, 0], [[1, 1, 0, 1], [0, 0, 1, 0]])
    np.testing.assert_allclose(found, [0.25, -0.25])
    for before, after in (([1], [1]), ([1, 0], [[1]]), ([1], [[]])):
        with pytest.raises(ValueError, match="shapes"):
            f_fidelity(before, after)


def rates(rationale, seen, **options):
    rows = np.tile(rationale, (4000, 1))
    masks = fidelity_masks(rows, seen, **{"alpha": 0.5, "beta": 0.1, "seed": 0, "record_id": "a", **options})
    assert not (masks & ~(rationale & seen)).any()
    return masks.mean(axis=0)


def test_fidelity_masks_take_half_of_a_short_rationale():
    """3 of 40 words: alpha |r| = 1.5 is below beta n = 4."""
    seen, rationale = np.ones(40, dtype=bool), np.arange(40) < 3
    np.testing.assert_allclose(rates(rationale, seen)[:3], 0.5, atol=0.03)


def test_fidelity_masks_never_take_more_than_the_model_knows():
    """10 of 20 words: alpha |r| = 5 is above beta n = 2, so each goes with the chance 0.2."""
    seen, rationale = np.ones(20, dtype=bool), np.arange(20) < 10
    np.testing.assert_allclose(rates(rationale, seen)[:10], 0.2, atol=0.03)
    seen[15:] = False  # n is the number of words seen: 0.1 * 15 / 10
    np.testing.assert_allclose(rates(rationale, seen)[:10], 0.15, atol=0.03)


def test_fidelity_masks_depend_on_seed_and_record_alone():
    rows = np.ones((50, 8), dtype=bool)

    def draw(rationales=rows, **options):
        given = {"alpha": 0.5, "beta": 1.0, "seed": 0, "record_id": "a"} | options
        return fidelity_masks(rationales, rows[0], **given)

    np.testing.assert_array_equal(draw(), draw())
    assert (draw() != draw(seed=1)).any()
    assert (draw() != draw(record_id="b")).any()
    assert not draw(~rows).any()
    with pytest.raises(ValueError, match="alpha"):
        draw(alpha=0.0)
