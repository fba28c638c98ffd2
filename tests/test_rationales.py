"""Scores on disk, and the budgets that turn scores into words."""

import itertools
import json
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from raison.rationales import (
    Budget,
    Rationale,
    WordScores,
    check_people,
    confidence,
    load_scores,
    pairwise_f1,
    parse_budget,
    ranking,
    save_scores,
    soft_rationale,
    top_k,
    voted_rationale,
)
from raison.records import Annotation, InputError, Record, Span
from raison.words import word_grid

FLOATS = arrays(np.float32, st.integers(0, 12), elements=st.floats(allow_infinity=False, width=32))
TIED = arrays(np.float32, st.integers(0, 12), elements=st.sampled_from([np.nan, -1, -0.5, -0.0, 0, 0.5, 1, 1, 2]))
NAN = float("nan")

# ------------------------------------------------------------------------------------------------------ files


@given(parts=st.dictionaries(st.text(max_size=5), FLOATS, max_size=3), target=st.none() | st.text(max_size=5))
def test_scores_are_read_as_they_were_written(tmp_path_factory, parts, target):
    path = tmp_path_factory.mktemp("scores") / "scores.jsonl"
    before = WordScores("r 1", "mine", target, parts, {"steps": 50, "note": None})
    assert save_scores(path, [before]) == 1
    (after,) = load_scores(path)
    assert (after.record_id, after.method, after.target) == ("r 1", "mine", target)
    assert after.convention == before.convention
    assert list(after.scores) == list(parts)
    for name, values in parts.items():
        assert after.scores[name].dtype == np.float32
        np.testing.assert_array_equal(after.scores[name], values)  # NaN equals NaN here


def test_scores_on_disk_by_hand(tmp_path):
    values = np.array([0.1, NAN, -3e-42, 16777216.0, 3.4028235e38], dtype=np.float32)
    save_scores(tmp_path / "s.jsonl", [WordScores("1", "m", "yes", {"text": values})])
    assert json.loads((tmp_path / "s.jsonl").read_text()) == {
        "record_id": "1",
        "method": "m",
        "target": "yes",
        "scores": {"text": [0.1, None, -3e-42, 16777216.0, 3.4028235e38]},
        "convention": {},
    }


def test_infinite_scores_are_refused_rather_than_lost(tmp_path):
    scores = WordScores("r 7", "m", None, {"text": np.array([1, np.inf], dtype=np.float32)})
    with pytest.raises(InputError, match="record 'r 7': m gave infinite scores"):
        save_scores(tmp_path / "s.jsonl", [scores])
    assert not (tmp_path / "s.jsonl").exists()


@given(masks=st.dictionaries(st.text(max_size=5), arrays(np.bool_, st.integers(0, 9)), max_size=3))
def test_rationales_are_read_as_they_were_written(tmp_path_factory, masks):
    path = tmp_path_factory.mktemp("words") / "words.jsonl.gz"
    save_scores(path, [Rationale("1", "ann", masks, "k:3"), Rationale("2", "model", {}, failure="refused")])
    first, second = load_scores(path)
    assert (first.record_id, first.source, first.budget, first.failure) == ("1", "ann", "k:3", None)
    assert (second.words, second.budget, second.failure) == ({}, None, "refused")
    for name, mask in masks.items():
        assert first.words[name].dtype == np.bool_
        np.testing.assert_array_equal(first.words[name], mask)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{}", "expected an object with either `scores` (numbers) or `words` (0 and 1) per field"),
        ("[1, 2]", "expected an object with either"),
        ('{"record_id": "1", "method": "m", "scores": {}, "words": {}}', "expected an object with either"),
        ('{"record_id": "1", "scores": {}}', "method"),
        ('{"record_id": 1, "method": "m", "scores": {}}', "record_id"),
        ('{"record_id": "1", "method": "m", "scores": {"text": [1, "x"]}}', "scores"),
        ('{"record_id": "1", "method": "m", "scores": {"text": 3}}', "scores"),
        ('{"record_id": "1", "method": "m", "scores": {}, "colour": 1}', "colour"),
        ('{"record_id": "1", "method": "m", "scores": {"text": [1e300]}}', "scores"),
        ('{"record_id": "1", "source": "m", "words": {"text": [0, 2]}}', "words"),
        ('{"record_id": "1", "words": {"text": [0, 1]}}', "source"),
        ('{"record_id": "1", "method": "m", "scores": {"text": [NaN]}}', "not valid JSON"),
        ("{", "not valid JSON"),
    ],
)
def test_a_broken_line_costs_one_clear_line(tmp_path, line, message):
    path = tmp_path / "scores.jsonl"
    good = '{"record_id": "1", "method": "m", "scores": {"text": [1, null]}}'
    path.write_text(f"{good}\n{line}\n")
    with pytest.raises(InputError) as caught:
        load_scores(path)
    assert str(caught.value).startswith(f"{path}:2: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_empty_or_missing_file_is_refused(tmp_path):
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(InputError, match="empty"):
        load_scores(tmp_path / "empty.jsonl")
    with pytest.raises(InputError, match="no such file"):
        load_scores(tmp_path / "none.jsonl")


# ---------------------------------------------------------------------------------------------------- budgets


@given(scores=TIED, k=st.integers(-1, 14), rank=st.sampled_from(["value", "magnitude"]))
def test_top_words_by_definition(scores, k, rank):
    """The k best by repeated search for the first highest score; a word without a score is never chosen."""
    left = {i: abs(v) if rank == "magnitude" else v for i, v in enumerate(scores.tolist()) if not math.isnan(v)}
    chosen = []
    while left and len(chosen) < k:
        best = min(i for i, v in left.items() if v == max(left.values()))
        chosen.append(best)
        del left[best]
    mask = top_k(scores, k, rank)
    assert mask.shape == scores.shape
    assert np.flatnonzero(mask).tolist() == sorted(chosen)
    assert ranking(scores, rank)[: max(k, 0)].tolist() == chosen
    assert not mask[np.isnan(scores)].any()


def test_ties_go_by_position():
    scores = np.array([1, 2, NAN, 2, -3, 1], dtype=np.float32)
    assert ranking(scores).tolist() == [1, 3, 0, 5, 4]
    assert ranking(scores, "magnitude").tolist() == [4, 1, 3, 0, 5]
    assert top_k(scores, 3).tolist() == [True, True, False, True, False, False]


def test_budgets_by_hand():
    scores = np.array([4, -2, 3, NAN, 1, 2], dtype=np.float32)
    expected = {
        "k:3": 3,
        "k:99": 99,  # top_k takes what there is
        "ratio:0.2": 1,  # 0.2 · 5 scored words
        "ratio:0.5": 3,  # 2.5 rounds up from a half
        "ratio:0.1": 1,  # 0.5 likewise
        "ratio:0.01": 1,  # at least one
        "ratio:1": 5,
        "mass:0.4": 1,  # positive scores are 4 + 3 + 2 + 1 = 10: 4 ≥ 4
        "mass:0.41": 2,
        "mass:0.7": 2,
        "mass:0.9": 3,
        "mass:1": 4,
    }
    assert {text: parse_budget(text).size(scores) for text in expected} == expected
    assert Budget("human").size(scores, human=2) == 2
    assert Budget("human").size(scores) is None  # nobody marked any: undefined, not zero
    assert parse_budget("match:ann").size(scores, matched=0) == 0
    assert parse_budget("match:ann").size(scores) is None


@given(scores=FLOATS.filter(lambda values: np.nansum(np.abs(values)) < 1e30), share=st.floats(0.01, 1))
def test_mass_is_the_fewest_words_that_hold_the_share(scores, share):
    positive = sorted((v for v in scores.astype(np.float64).tolist() if v > 0), reverse=True)
    size = Budget("mass", share).size(scores)
    if not positive:
        assert size == 1
        return
    assert 1 <= size <= len(positive)
    assert sum(positive[:size]) >= share * sum(positive) * (1 - 1e-9)
    assert size == 1 or sum(positive[: size - 1]) < share * sum(positive) * (1 + 1e-9)


@given(scores=TIED.filter(lambda values: not np.isnan(values).all()), share=st.floats(0.01, 1))
def test_ratio_rounds_up_from_a_half(scores, share):
    words = sum(not math.isnan(v) for v in scores.tolist())
    size = Budget("ratio", share).size(scores)
    assert size == max(1, int(np.floor(share * words + 0.5)))
    assert size <= max(words, 1)


@pytest.mark.parametrize("text", ["human", "k:5", "ratio:0.2", "mass:0.9", "match:a:b"])
def test_a_budget_is_written_as_it_is_read(text):
    assert str(parse_budget(text)) == text
    assert parse_budget(str(parse_budget(text))) == parse_budget(text)


@pytest.mark.parametrize(
    "text",
    ["", "k", "k:", "k:0", "k:-1", "k:1.5", "k:x", "k:nan", "ratio:0", "ratio:1.1", "ratio:-1", "mass:", "mass:nan",
     "match:", "human:3", "words:3", "k:inf"],
)  # fmt: skip
def test_impossible_budgets_are_refused(text):
    with pytest.raises(InputError) as caught:
        parse_budget(text)
    assert repr(text) in str(caught.value)


# ----------------------------------------------------------------------------------------------------- votes

WORDS = {"text": "one two three", "more": "four"}  # words at 0-3, 4-7, 8-13 of the first field, 0-4 of the second


def said(name, spans, more=()):
    return Annotation(name, None, {"text": tuple(Span(*s) for s in spans), "more": tuple(Span(*s) for s in more)})


VOTED = Record(
    "1",
    WORDS,
    annotations=(
        said("a", [(0, 7)]),
        said("b", [(0, 3)], [(0, 4)]),
        said("c", []),
        said("d", [(4, 7)]),
        Annotation("e"),
    ),
)


@pytest.mark.parametrize(
    ("people", "expected"),
    [
        ("soft", [2 / 4, 2 / 4, 0, 1 / 4]),  # of four people asked; e was not
        ("majority", [0, 0, 0, 0]),  # half of them is not more than half
        ("union", [1, 1, 0, 1]),
        ("b", [1, 0, 0, 1]),
        ("c", [0, 0, 0, 0]),  # asked, and nothing marked
    ],
)
def test_people_vote_word_by_word(people, expected):
    found = voted_rationale(VOTED, word_grid(VOTED), people)
    assert found.dtype == np.float32
    assert found.tolist() == expected
    check_people([VOTED], people)


def test_the_people_who_count_can_be_named():
    assert soft_rationale(VOTED, word_grid(VOTED), ["a", "b", "nobody"]).tolist() == [1, 0.5, 0, 0.5]


@pytest.mark.parametrize("people", ["soft", "majority", "union", "e", "nobody"])
def test_a_rationale_that_nobody_was_asked_for_is_missing(people):
    record = Record("1", WORDS, annotations=(Annotation("e"),))
    assert voted_rationale(record, word_grid(record), people) is None
    assert soft_rationale(VOTED, word_grid(VOTED), ["e"]) is None


def test_people_who_are_nobody_are_refused():
    with pytest.raises(InputError, match=r"unknown people 'sotf'; expected soft, .* \(there are: a, b, c, d, e\)"):
        check_people([VOTED], "sotf")


def test_confidence_is_the_mean_agreement_of_two_people():
    grid = word_grid(VOTED)
    # a = {one, two}, b = {one, four}, c = {}, d = {two}: ab 2*1/4, ac 0, ad 2*1/3, bc 0, bd 0, cd 0
    assert confidence(VOTED, grid) == pytest.approx((1 / 2 + 2 / 3) / 6)
    assert confidence(VOTED, grid, ["a", "b"]) == pytest.approx(1 / 2)
    assert math.isnan(confidence(VOTED, grid, ["a"]))  # nobody to agree with
    assert math.isnan(confidence(VOTED, grid, ["c", "e"]))


MASKS = arrays(np.bool_, st.tuples(st.integers(0, 4), st.integers(0, 5)))


@given(MASKS)
def test_pairwise_f1_is_the_harmonic_mean_of_precision_and_recall(masks):
    expected = []
    for a, b in itertools.combinations([set(np.flatnonzero(row).tolist()) for row in masks], 2):
        if a & b:
            precision, recall = Fraction(len(a & b), len(a)), Fraction(len(a & b), len(b))
            expected.append(float(2 * precision * recall / (precision + recall)))
        elif masks.any():
            expected.append(0.0)
    assert pairwise_f1(masks) == pytest.approx(expected)
