"""Grounding: ranks against a slow loop and scikit-learn's vectors; ties get exactly chance."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer

from raison.annotators.grounding import input_text, nearest, retrieve, tfidf
from raison.records import Record

ITEMS = ["the cat sat", "a dog ran far", "the red bus", "a cat and a dog"]
WORDS = ("the", "cat", "sat", "a", "dog", "ran", "far", "red", "bus", "and", "zebra")
texts = st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join)


@settings(deadline=None)
@given(texts, st.integers(0, 3))
def test_the_reciprocal_rank_is_the_mean_over_orders_of_ties(text, target):
    found = retrieve([text], ITEMS, [target], tfidf(ITEMS))
    model = TfidfVectorizer(token_pattern=r"\w+", stop_words="english").fit(ITEMS)
    scores = np.round((model.transform([text]) @ model.transform(ITEMS).T).toarray()[0], 12)
    rng, ranks = np.random.default_rng(0), []
    for _ in range(200):
        order = sorted(range(4), key=lambda item: (-scores[item], rng.random()))
        ranks.append(1 + order.index(target))
    if (scores == scores[target]).sum() == 1:
        assert found.reciprocal[0] == pytest.approx(1 / ranks[0])
        assert found.first[0] == (ranks[0] == 1)
    else:
        assert found.reciprocal[0] == pytest.approx(np.mean(1 / np.array(ranks)), abs=0.12)


def test_a_text_that_says_nothing_gets_exactly_chance():
    found = retrieve(["", "zebra"], ITEMS, [0, 3], tfidf(ITEMS))
    assert found.chance == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4) / 4)
    assert found.reciprocal == pytest.approx([found.chance] * 2)
    assert found.first == pytest.approx([found.chance_first] * 2)


def test_an_item_is_found_by_its_own_text_and_vectors_may_be_dense():
    dense = lambda texts: np.asarray(tfidf(ITEMS)(texts).todense())  # noqa: E731
    for encode in (tfidf(ITEMS), dense):
        assert retrieve(ITEMS, ITEMS, range(4), encode).reciprocal == pytest.approx([1.0] * 4)
        assert nearest(["cat", "bus bus"], ITEMS, encode) == [3, 2]  # cat and dog are commoner than sat


def test_function_words_find_no_item():
    found = retrieve(["it is the one that isn't", "the bus"], ITEMS, [0, 2], tfidf(ITEMS))
    assert found.reciprocal == pytest.approx([found.chance, 1.0])


def test_places_must_be_among_the_items():
    with pytest.raises(ValueError, match="expected places among 4 items"):
        retrieve(["x"], ITEMS, [4], tfidf(ITEMS))
    assert len(retrieve([], ITEMS, [], tfidf(ITEMS)).reciprocal) == 0


def test_fields_are_one_text_and_a_corpus_without_words_is_no_fault():
    assert input_text(Record("1", {"a": "x", "b": "y"})) == "x\ny"
    assert retrieve(["x"], ["!", "?"], [0], tfidf(["!", "?"])).reciprocal[0] == pytest.approx(0.75)
