"""The stability of the real sets beside a reference table: which of its cells are reproduced within .02, which not.

The reference was computed once, by a program that is not known, on folds that are not known; rounded to .01.
"""

from functools import cache

import numpy as np
import pytest
from msgspec.structs import replace
from numpy.testing import assert_allclose

from raison.annotators.stability import Plan, stability
from raison.sources import load
from shared import shared_file

pytestmark = pytest.mark.slow

NEAR = 0.02
KS = (1, 5, 10, 20)
# (set, view, reduction) -> accuracy at 1, 5, 10, 20
REFERENCE = {
    ("varierr", "raw", "none"): (0.70, 0.96, 1.0, 1.0),
    ("varierr", "raw", "item"): (0.72, 0.98, 1.0, 1.0),
    ("varierr", "normalised", "none"): (0.69, 0.95, 0.99, 1.0),
    ("varierr", "normalised", "item"): (0.74, 0.98, 1.0, 1.0),
    ("varierr", "normalised", "ridge"): (0.69, 0.96, 1.0, 1.0),
    ("varierr", "function-words", "none"): (0.59, 0.90, 0.97, 1.0),
    ("varierr", "function-words", "item"): (0.63, 0.94, 0.99, 1.0),
    ("varierr", "content-words", "none"): (0.58, 0.90, 0.98, 1.0),
    ("varierr", "content-words", "item"): (0.62, 0.93, 0.99, 1.0),
    ("varierr", "not-from-input", "none"): (0.70, 0.97, 1.0, 1.0),
    ("varierr", "not-from-input", "item"): (0.74, 0.98, 1.0, 1.0),
    ("varierr", "from-input", "none"): (0.28, 0.31, 0.31, 0.33),
    ("varierr", "from-input", "item"): (0.24, 0.24, 0.27, 0.26),
    ("varierr", "surface", "none"): (0.61, 0.80, 0.89, 0.96),
    ("varierr", "label", "none"): (0.30, 0.35, 0.40, 0.45),
    ("par", "raw", "none"): (0.97, 1.0, 1.0, 1.0),
    ("par", "raw", "item"): (0.99, 1.0, 1.0, 1.0),
    ("par", "normalised", "none"): (0.97, 1.0, 1.0, 1.0),
    ("par", "normalised", "item"): (0.99, 1.0, 1.0, 1.0),
    ("par", "function-words", "none"): (0.85, 0.99, 1.0, 1.0),
    ("par", "function-words", "item"): (0.90, 1.0, 1.0, 1.0),
    ("par", "content-words", "none"): (0.93, 1.0, 1.0, 1.0),
    ("par", "content-words", "item"): (0.96, 1.0, 1.0, 1.0),
    ("par", "not-from-input", "none"): (0.97, 1.0, 1.0, 1.0),
    ("par", "not-from-input", "item"): (0.99, 1.0, 1.0, 1.0),
    ("par", "from-input", "none"): (0.32, 0.41, 0.45, 0.52),
    ("par", "from-input", "item"): (0.30, 0.41, 0.47, 0.55),
    ("par", "surface", "none"): (0.84, 0.99, 1.0, 1.0),
    ("par", "label", "none"): (0.38, 0.52, 0.61, 0.74),
}
# Not reproduced, at these k. Words of the input hardly tell people: over five draws of folds accuracy moves by .03 to
# .1 there. In the mean of five draws VariErr's raw row is .27/.27/.28/.27, its residual row .27/.27/.25/.25,
# Paraphrase's raw row .31/.40/.48/.52. With what is left of contractions (doesn, t) as content the first row fits
# (.28/.31/.33/.33), and the second no longer does (.28/.29/.29/.32); with few function words both are far above (.35
# to .44).
UNLIKE = {
    ("varierr", "from-input", "none"): (5, 10, 20),  # .27, .25, .26
    ("varierr", "from-input", "item"): (10, 20),  # .22, .20
    ("par", "from-input", "none"): (5,),  # .38
    ("par", "surface", "none"): (1,),  # .80; see `test_the_spaces_that_this_copy_lost`
}


def read(name):
    files = {"varierr": ["varierr/all"], "par": ["lewidi_par/train", "lewidi_par/dev", "lewidi_par/test"]}[name]
    return [record for file in files for record in load(shared_file(f"data/{file}.jsonl"))]


@cache
def measured(name):
    return stability(read(name), plan=Plan(KS, permutations=99, resamples=0))


def unlike(looked, name, view, reduction):
    """Give k -> (found, wanted), where they are further apart than rounding allows."""
    pairs = {
        one.k: (one.accuracy.value, want)
        for one, want in zip(looked.identified, REFERENCE[name, view, reduction], strict=True)
    }
    return {k: pair for k, pair in pairs.items() if abs(pair[0] - pair[1]) > NEAR + 0.005}


@pytest.mark.parametrize(("name", "view", "reduction"), REFERENCE)
def test_the_reference_table(name, view, reduction):
    found = unlike(measured(name).at(view, reduction), name, view, reduction)
    assert found.keys() == set(UNLIKE.get((name, view, reduction), ())), found


def test_the_spaces_that_this_copy_lost():
    """The reference was measured on a copy in which 496 of 500 texts of one person begin with a space."""
    records = [replace(record, annotations=tuple(map(spaced, record.annotations))) for record in read("par")]
    found = stability(records, ("surface",), plan=Plan(KS, permutations=99, resamples=0))
    assert not unlike(found.at("surface"), "par", "surface", "none")


def spaced(note):
    return replace(note, explanation=" " + note.explanation) if note.annotator == "Ann2" else note


@pytest.mark.parametrize(
    ("name", "item", "by_chance", "person"), [("varierr", 0.54, 0.26, 0.021), ("par", 0.26, 0.25, 0.119)]
)
def test_shares_of_variance(name, item, by_chance, person):
    found = measured(name)
    assert_allclose(
        [found.item_share.value, found.item_share.null, found.person_share.value], [item, by_chance, person], atol=NEAR
    )


def test_categories_of_reasoning():
    """Chi squared is 131.4 on the 1,799 responses that have a category, where the reference has 128; V is the same."""
    found = measured("varierr").categories
    assert found.n == 1799
    assert_allclose(found.chi2, 131.4, atol=0.05)
    assert_allclose(found.v, 0.155, atol=0.002)
    assert found.p < 1e-17
    shares = np.array(found.counts) / np.sum(found.counts, axis=0)
    rows = {name.lower(): row for name, row in zip(found.rows, shares, strict=True)}
    assert_allclose(rows["absence of mention"], [0.44, 0.38, 0.28, 0.33], atol=NEAR)
    assert_allclose(rows["world-informed logical reasoning"], [0.14, 0.18, 0.30, 0.12], atol=NEAR)


@pytest.mark.parametrize("name", ["varierr", "par"])
def test_the_verdict_of_real_people(name):
    found = measured(name)
    assert found.finding.stable
    assert found.finding.items_needed <= 5
    assert {layer.name for layer in found.finding.layers if layer.p_holm <= 0.05} >= {"phrasing", "surface", "label"}
