"""Scores on disk, and the budgets that turn scores into words."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from raison.rationales import (
    Budget,
    Rationale,
    WordScores,
    load_scores,
    parse_budget,
    ranking,
    save_scores,
    top_k,
)
from raison.records import InputError

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
