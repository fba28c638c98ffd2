"""Words put into texts: where they go, what is flipped, what is mentioned; CCT by hand."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raison.checks import insertion_test
from raison.checks.insertion import (
    Insertion,
    Position,
    Row,
    correlation,
    cost,
    distance,
    inserted,
    mentions,
    summarise,
    word_lists,
)
from raison.checks.subject import Answer
from raison.models.chat import Reply
from raison.records import InputError, Record
from raison.words import whitespace_words
from speakers import record, sentiment, spoken, text_of

RECORDS = [record(index) for index in range(3)]
EXTRA = {word for words in word_lists().values() for word in words}


def put_in(talk):
    """Give the word that was put into the text, or None."""
    return next((word for word in re.findall(r"\w+", text_of(talk).lower()) if word in EXTRA - {"old"}), None)


def odd(word):
    return word is not None and len(word) % 2 == 1


def easily_moved(why):
    """Make a model whose answer flips at words of odd length; `why` says how it explains itself."""

    def answer(talk):
        if len(talk) > 1:
            return why(talk)
        right = sentiment(talk)
        return {"positive": "negative", "negative": "positive"}[right] if odd(put_in(talk)) else right

    return spoken(answer)


def honest(talk):
    word = put_in(talk)
    return f"Because of the {word}." if odd(word) else "It is the tone of the text."


def test_a_model_that_names_what_moves_it_scores_1():
    rows = insertion_test(easily_moved(honest), RECORDS, every=True)
    assert [row.state for row in rows] == ["flipped"] * 3
    assert [len(row.insertions) for row in rows] == [48, 56, 40]  # six, seven and five words: fewer than 8 places
    found = summarise(rows).estimates
    assert (found["faithful"].value, found["applicable"].value) == (1.0, 1.0)
    assert found["phi_cct"].value == pytest.approx(1.0)
    assert found["mentioned"].value == 0.0
    assert found["cct"].value is None  # replies have no probabilities


def test_models_that_name_nothing_everything_or_the_wrong_words():
    silent = summarise(insertion_test(easily_moved(lambda talk: "The tone."), RECORDS, every=True)).estimates
    assert (silent["faithful"].value, silent["phi_cct"].value) == (0.0, None)
    chatty = summarise(insertion_test(easily_moved(text_of), RECORDS, every=True)).estimates
    assert (chatty["faithful"].value, chatty["phi_cct"].value, chatty["mentioned"].value) == (1.0, None, 1.0)

    def reversed_(talk):
        return "The tone." if odd(put_in(talk)) else f"The word {put_in(talk)}!"

    liar = summarise(insertion_test(easily_moved(reversed_), RECORDS, every=True)).estimates
    assert (liar["faithful"].value, liar["phi_cct"].value) == (0.0, pytest.approx(-1.0))


def test_only_the_first_flip_is_explained_unless_every_one_is():
    subject = easily_moved(honest)
    rows = insertion_test(subject, RECORDS)
    assert sum(len(talk) > 1 for talk in subject.generator.asked) == 3
    for row in rows:
        first = next(index for index, item in enumerate(row.insertions) if item.label != row.label)
        assert [index for index, item in enumerate(row.insertions) if item.mentioned is not None] == [first]
    found = summarise(rows).estimates
    assert found["faithful"].value == 1.0
    assert (found["phi_cct"].value, found["mentioned"].value) == (None, None)
    assert cost(3).answers == 3 + 3 * 64
    assert (cost(3).replies, cost(3, every=True).replies) == (3, 192)


def test_no_flip_is_not_applicable_and_what_is_missing_is_counted():
    still = insertion_test(spoken(sentiment), RECORDS)
    assert summarise(still).states == {"no flip": 3}
    assert summarise(still).estimates["faithful"].n == 0
    assert summarise(still).estimates["applicable"].value == 0.0
    for reply, state in (
        ("I can't do that.", "refusal"),
        (" ", "empty reply"),
        (Reply(None, "failed", "busy"), "no reply"),
    ):
        found = summarise(insertion_test(easily_moved(lambda talk, reply=reply: reply), RECORDS, every=True))
        assert found.states == {state: 3}
        assert found.estimates["faithful"].value is None
        assert found.estimates["phi_cct"].n == 0
    assert insertion_test(spoken(lambda talk: "hm"), RECORDS)[0].state == "no valid answer"
    empty = Record("e", {"text": ""})
    assert insertion_test(spoken(lambda talk: "positive"), [empty])[0].state == "no place"


def test_draws_depend_on_seed_and_record_alone():
    subject = easily_moved(honest)
    rows = insertion_test(subject, RECORDS)
    assert [insertion_test(subject, [item])[0] for item in RECORDS] == rows
    assert insertion_test(subject, RECORDS, seed=1) != rows


def test_a_taggers_places():
    item = Record("t", {"text": "Old dogs bark"})
    at = [Position("text", 1, "adjective"), Position("text", 2, "adverb")]
    row = insertion_test(spoken(lambda talk: "positive"), [item], at=lambda _: at, words=500)[0]
    assert {(put.before, put.word) for put in row.insertions} == {
        (1, word) for word in word_lists()["adjective"] if word != "old"
    } | {(2, word) for word in word_lists()["adverb"]}
    assert inserted(item, Position("text", 0, "adjective"), "blue", whitespace_words).fields["text"] == (
        "Blue Old dogs bark"
    )
    assert inserted(item, at[1], "slowly", whitespace_words).fields["text"] == "Old dogs slowly bark"
    with pytest.raises(InputError, match="no word 3 in field 'text'"):
        insertion_test(spoken(lambda talk: "positive"), [item], at=lambda _: [Position("text", 3, "adverb")])
    with pytest.raises(InputError, match="field 'title'"):
        insertion_test(spoken(lambda talk: "positive"), [item], fields=["title"])


def test_mentions_are_words_of_their_own():
    assert mentions('He went "Slowly", then ran.', "slowly")
    assert mentions("a blue-green sea", "blue")
    assert not mentions("it was unusually warm", "usually")
    assert not mentions("", "blue")


def test_distance_by_hand():
    before = Answer("a", {"a": 0.5, "b": 0.3, "c": 0.2})
    after = Answer("b", {"a": 0.1, "b": 0.6, "c": 0.3})
    assert distance(before, after) == pytest.approx(0.4)  # (0.4 + 0.3 + 0.1) / 2
    assert distance(before, Answer("a")) is None


def insertion(distance, flipped, mentioned):
    return Insertion("text", 0, "blue", "b" if flipped else "a", distance, mentioned)


def test_cct_by_hand():
    rows = [
        Row("1", "flipped", "a", True, [insertion(0.8, True, True), insertion(0.2, False, False)]),
        Row("2", "no flip", "a", True, [insertion(0.4, False, True), insertion(0.0, False, False)]),
        Row("3", "no flip", "a", True, [insertion(0.9, False, None)]),  # a refusal: in no correlation
    ]
    found = summarise(rows).estimates
    # d = .8 .2 .4 0, m = 1 0 1 0: deviations .45 -.15 .05 -.35 and .5 -.5 .5 -.5
    assert found["cct"].value == pytest.approx(0.5 / np.sqrt(0.35 * 1))
    # f = 1 0 0 0: phi = (1·2 - 0·1) / sqrt(1·3·2·2)
    assert found["phi_cct"].value == pytest.approx(2 / np.sqrt(12))
    assert found["cct"].n == 2
    assert found["mentioned"].value == pytest.approx(1 / 3)
    first_only = [Row(row.record_id, row.state, row.label, False, row.insertions) for row in rows]
    assert summarise(first_only).estimates["cct"].value is None


@given(st.lists(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 1)), max_size=4), min_size=1, max_size=5))
def test_correlation_is_pearsons_over_all_pairs(groups):
    arrays = [np.array(group, dtype=np.float64).reshape(-1, 2).T for group in groups]
    flat = np.concatenate(arrays, axis=1)
    value = correlation(arrays).value
    if flat.shape[1] < 2 or flat.std(axis=1).min() < 1e-5:
        assert value is None or flat.std(axis=1).min() > 0
    else:
        assert value == pytest.approx(np.corrcoef(flat)[0, 1], abs=1e-6)
