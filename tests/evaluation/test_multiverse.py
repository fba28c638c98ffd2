"""The multiverse: winners and what changes them, in worlds where the answer is known."""

from itertools import product

import numpy as np
import pytest

from raison.evaluation.multiverse import Universe, analyse, eta_squared
from raison.records import InputError

LEVELS = {"budget": ("human", "k:3"), "mask": ("mask", "delete", "pad"), "seed": ("0", "1")}


def worlds(value):
    """Make every universe; `value` gives the sources' values from the choices."""
    names = list(LEVELS)
    return [
        Universe(dict(zip(names, levels, strict=True)), value(dict(zip(names, levels, strict=True))))
        for levels in product(*LEVELS.values())
    ]


def test_one_choice_decides_the_winner():
    found = analyse("flip_rate", worlds(lambda c: {"a": 0.5, "b": 0.7 if c["mask"] == "delete" else 0.3}))
    assert found.winners == {"a": 8, "b": 4}
    assert found.withheld == 0
    mask, others = found.factors[0], found.factors[1:]
    assert mask.name == "mask"
    assert mask.switched == pytest.approx(2 / 3)  # of the pairs mask-delete, mask-pad, delete-pad two differ
    assert mask.pairs == 12
    assert mask.spread == pytest.approx(1)
    assert mask.winners == {"mask": {"a": 4}, "delete": {"b": 4}, "pad": {"a": 4}}
    assert all(factor.switched == 0 and factor.spread == pytest.approx(0) for factor in others)


def test_lower_can_be_better_and_withheld_universes_rank_nobody():
    found = analyse("sufficiency", worlds(lambda c: {"a": 0.5, "b": 0.3}), better="lower")
    assert found.winners == {"b": 12}
    told = [Universe(u.choices, u.values, "collapsed" if u.choices["budget"] == "k:3" else "") for u in found.universes]
    again = analyse("sufficiency", told, better="lower")
    assert (again.winners, again.withheld) == ({"b": 6}, 6)
    (budget,) = [factor for factor in again.factors if factor.name == "budget"]
    assert (budget.switched, budget.pairs) == (None, 0)


def test_a_tie_has_no_winner_whatever_the_order():
    value = {"human": {"a": 0.5, "b": 0.5 + 1e-9, "c": 0.1}, "k:3": {"a": 0.5, "b": 0.2, "c": 0.1}}
    given = worlds(lambda c: value[c["budget"]])
    told = [Universe(u.choices, u.values, "few" if u.choices["seed"] == "1" else "") for u in given]
    turned = [Universe(u.choices, dict(reversed(u.values.items())), u.withheld) for u in told]
    for universes in (told, turned):
        found = analyse("flip_rate", universes)
        assert (found.winners, found.tied, found.withheld) == ({"a": 3}, 3, 6)
        assert [universe.tied() for universe in universes] == [
            not u.withheld and "human" in u.choices.values() for u in told
        ]
        (budget,) = [factor for factor in found.factors if factor.name == "budget"]
        assert (budget.switched, budget.pairs, budget.winners) == (None, 0, {"human": {}, "k:3": {"a": 3}})
    assert Universe({}, {"a": 0.5, "b": 0.500001}).winner() == "b"
    assert Universe({}, {"a": 0.5, "b": 0.500001}).winner("lower") == "a"


def test_one_source_alone_wins_nothing():
    with pytest.raises(InputError, match="nothing competes with a"):
        analyse("f1", worlds(lambda c: {"a": 0.5}))


def test_values_that_are_undefined_never_win():
    found = analyse("f1", worlds(lambda c: {"a": None, "b": 0.1 if c["seed"] == "0" else None}))
    assert (found.winners, found.withheld) == ({"b": 6}, 6)


def test_eta_squared_equals_sums_of_squares_by_hand():
    groups = {"x": [1.0, 2.0, np.nan], "y": [4.0, 5.0]}
    assert eta_squared(groups) == pytest.approx(9 / 10)  # mean 3: between 2 * 1.5**2 * 2, total 4 + 1 + 1 + 4
    assert eta_squared({"x": [1.0, 1.0]}) is None


def test_broken_multiverses_are_refused():
    some = worlds(lambda c: {"a": 1.0, "b": 0.0})
    with pytest.raises(InputError, match="twice"):
        analyse("f1", [*some, some[0]])
    with pytest.raises(InputError, match="differ in which choices"):
        analyse("f1", [*some, Universe({"budget": "x"}, {})])
    with pytest.raises(InputError, match="at least one"):
        analyse("f1", [])
