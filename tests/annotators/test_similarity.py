"""Similarity of texts: against the libraries' own calls, and the specificity margin against a slow loop."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu import sentence_chrf

from raison.annotators.similarity import chrf, cosine, rouge_1, rouge_l, specificity, words_of

words = st.lists(st.sampled_from(["the", "cat", "sat", "on", "a", "mat's", "2nd"]), max_size=8).map(" ".join)


@given(words, words)
def test_rouge_and_chrf_are_those_of_the_libraries(text, other):
    scores = RougeScorer(["rouge1", "rougeL"]).score(other, text)
    assert rouge_1([text], [other])[0] == pytest.approx(scores["rouge1"].fmeasure)
    assert rouge_l([text], [other])[0] == pytest.approx(scores["rougeL"].fmeasure)
    assert chrf([text], [other])[0] == pytest.approx(sentence_chrf(text, [other]).score / 100)


def test_rouge_l_by_hand():
    # common subsequence: the cat mat = 3 words of 4 and of 5; F1 = 2 * 3 / (4 + 5)
    assert rouge_l(["the cat the mat"], ["the cat on a mat"])[0] == pytest.approx(6 / 9)


def test_letters_of_any_script_count():
    assert words_of("Über_alles, naïve 猫!") == ["über", "alles", "naïve", "猫"]
    assert rouge_1(["猫 да"], ["猫 нет"])[0] == pytest.approx(0.5)


@given(st.lists(st.tuples(words, words, st.lists(words, max_size=3)), max_size=5))
def test_specificity_against_a_slow_loop(rows):
    texts, targets, others = [list(column) for column in zip(*rows, strict=True)] if rows else ([], [], [])
    found = specificity(rouge_l, texts, targets, others)
    for row, (text, target, rest) in enumerate(rows):
        own, apart = rouge_l([text], [target])[0], [rouge_l([text], [other])[0] for other in rest]
        assert found.target[row] == pytest.approx(own)
        if rest:
            assert found.margin[row] == pytest.approx(own - np.mean(apart))
            assert found.wins[row] == pytest.approx(
                np.mean([1.0 if own > one else 0.5 if own == one else 0.0 for one in apart])
            )
        else:
            assert np.isnan([found.margin[row], found.wins[row]]).all()


@given(words, words, words)
def test_of_two_people_one_margin_is_minus_the_other(text, one, other):
    first, second = specificity(rouge_1, [text, text], [one, other], [[other], [one]]).margin
    assert first == pytest.approx(-second)


@given(words, words, words)
def test_of_two_people_the_wins_add_up_to_one(text, one, other):
    assert specificity(rouge_1, [text, text], [one, other], [[other], [one]]).wins.sum() == pytest.approx(1)


def test_what_could_not_be_read_is_undefined():
    found = specificity(rouge_l, [None, "a"], ["a", None], [["b"], ["b"]])
    assert np.isnan(np.stack(found)).all()


def test_cosine_of_an_encoder():
    table = {"x": [1.0, 0.0], "y": [1.0, 1.0], "nothing": [0.0, 0.0]}
    measure = cosine(lambda texts: np.array([table[text] for text in texts]))
    assert measure(["x", "x", "x"], ["x", "y", "nothing"]) == pytest.approx([1, 2**-0.5, 0])
