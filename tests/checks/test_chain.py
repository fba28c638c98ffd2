"""Interventions in chains of thought: areas by hand, models that follow their chain and models that don't."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raison.checks import interventions
from raison.checks.chain import Point, Row, area_over, cost, curve, places, sentences, summarise
from raison.models.chat import Reply
from raison.records import InputError
from speakers import record, spoken

RECORDS = [record(index) for index in range(2)]  # a good film and a bad one
CHAIN = "First I read it. Then I see the word {word}. That is a {mood} word. So the film is liked or not."
MOODS = {"good": "happy", "bad": "sad"}


def word_of(talk):
    return "good" if "was good" in talk[0]["content"] else "bad"


def last(talk):
    return talk[-1]["content"]


def speaking(conclude, mistake="It is a happy word."):
    """Make a model that reasons by CHAIN; `conclude` gives its answer from the question's word and the chain."""

    def answer(talk):
        if "Reason step by step" in last(talk):
            return CHAIN.format(word=word_of(talk), mood=MOODS[word_of(talk)])
        if "makes a mistake" in last(talk):
            return mistake(talk) if callable(mistake) else mistake
        if "Go on reasoning" in last(talk):
            return "So be it."
        chain = talk[-2]["content"] if len(talk) > 1 else ""
        return conclude(word_of(talk), chain)

    return spoken(answer)


def by_chain(word, chain):
    """Follow the last mood that is named in the chain; guess where there is none."""
    named = re.findall(r"happy|sad", chain)
    return {"happy": "positive", "sad": "negative"}[named[-1]] if named else "positive"


def by_question(word, chain):
    return "positive" if word == "good" else "negative"


def test_a_model_that_ignores_its_chain_has_no_area():
    rows = interventions(speaking(by_question), RECORDS)
    assert [(row.state, row.sentences, row.label) for row in rows] == [
        ("tested", 4, "positive"),
        ("tested", 4, "negative"),
    ]
    found = summarise(rows)
    assert found.estimates["early/aoc"].value == 0.0
    assert found.estimates["mistake/aoc"].value == 0.0
    assert found.estimates["filler/same@1"].value == 1.0
    assert found.estimates["direct/same"].value == 1.0
    assert found.estimates["right/chain"].value == 1.0


def test_a_model_that_follows_its_chain():
    rows = interventions(speaking(by_chain), RECORDS)
    bad = rows[1]
    # of "sad", which the third sentence says, nothing is known before: the answer is the other one at 0, 1/4 and 1/2
    assert [(point.share, point.label) for point in bad.points["early"]] == [
        (0.0, "positive"), (0.25, "positive"), (0.5, "positive"), (0.75, "negative"),
    ]  # fmt: skip
    # every mistake says "happy", and from there on nothing says "sad"
    assert {point.label for point in bad.points["mistake"]} == {"positive"}
    found = summarise(rows).estimates
    # same = 0 0 0 1 1 at 0 1/4 1/2 3/4 1: area below = 1/8 + 1/4, above = 5/8; the good one's is 0
    assert found["early/aoc"].value == pytest.approx((5 / 8 + 0) / 2)
    # same = 0 0 0 0 1: area below = 1/8
    assert found["mistake/aoc"].value == pytest.approx((7 / 8 + 0) / 2)
    assert found["early/same@0.5"].value == 0.5
    assert found["filler/same@1"].value == 0.5
    assert found["early/aoc"].n == 2


def test_the_conversations():
    subject = speaking(by_chain)
    interventions(subject, RECORDS[1:], ways=["early", "mistake", "filler"])
    ends = [talk for talk in subject.generator.asked if "All in all" in last(talk)]
    turns = [talk[-2]["content"] for talk in ends]
    assert turns[1] == "Step by step:"  # nothing of the chain
    assert turns[2] == "Step by step: First I read it."
    assert "Step by step: First I read it. It is a happy word. So be it." in turns
    assert turns[-1] == "Step by step: " + " ".join(["..."] * 22)
    assert all(talk[-2]["role"] == "assistant" for talk in ends)
    wrong = [last(talk) for talk in subject.generator.asked if "makes a mistake" in last(talk)]
    assert "(nothing yet)" in wrong[0]
    assert "Its next sentence is: Then I see the word bad." in wrong[1]


def test_cost_is_never_below_what_is_asked():
    subject = speaking(by_chain)
    interventions(subject, RECORDS, most=2)
    known = cost(2, most=2)
    assert len(subject.generator.asked) == known.answers + known.replies == 2 * (2 + 2 + 2 + 5) + 2 * 5
    assert cost(10, ways=["early"]).replies == 10


def test_what_is_missing_is_counted():
    texts = {
        "refusal": "I can't do that.",
        "cut off": Reply("It is", "length"),
        "empty reply": "",
        "no reply": Reply(None, "failed", "busy"),
    }
    for state, reply in texts.items():
        subject = spoken(lambda talk, reply=reply: reply if "Reason" in last(talk) else "positive")
        rows = interventions(subject, RECORDS)
        assert summarise(rows).states == {state: 2}
        assert summarise(rows).estimates["direct/same"].value is None
    unsure = interventions(speaking(lambda word, chain: "perhaps" if chain else "positive"), RECORDS)
    assert summarise(unsure).states == {"no valid answer": 2}
    # without an answer at one point the curve is unknown, not lower
    halting = interventions(speaking(lambda word, chain: by_question(word, chain) if "So" in chain else "?"), RECORDS)
    found = summarise(halting)
    assert found.states["tested"] == found.states["early: a point is missing"] == 2
    assert found.estimates["early/aoc"].value is None
    assert found.estimates["mistake/aoc"].value == 0.0


def test_a_mistake_that_is_none():
    def parrot(talk):
        return re.search(r"next sentence is: (.*)", last(talk))[1]

    rows = interventions(speaking(by_chain, parrot), RECORDS, ways=["mistake"])
    assert {point.failure for row in rows for point in row.points["mistake"]} == {"no mistake"}
    assert summarise(rows).estimates["mistake/aoc"].n == 0


def test_given_chains_and_mistakes():
    subject = speaking(by_chain)
    rows = interventions(
        subject,
        RECORDS,
        ways=["mistake"],
        chains={"r1": "It is sad. It is so."},
        mistakes={"r1": ["It is happy.", None]},
    )
    assert [row.state for row in rows] == ["no chain", "tested"]
    assert rows[1].points["mistake"] == [Point(0.0, "positive"), Point(0.5, None, "no mistake")]
    assert not any("makes a mistake" in last(talk) for talk in subject.generator.asked)
    with pytest.raises(InputError, match="unknown intervention 'erly'"):
        interventions(subject, RECORDS, ways=["erly"])


def test_a_row_depends_on_its_record_alone():
    subject = speaking(by_chain)
    whole = interventions(subject, RECORDS)
    assert [interventions(subject, [item])[0] for item in RECORDS] == whole


def test_area_by_hand_and_weighting_by_length():
    assert area_over(np.array([0, 0.5, 1]), np.array([0, 0, 1])) == pytest.approx(0.75)
    assert area_over(np.array([0, 0.25, 1]), np.array([0, 1, 1])) == pytest.approx(0.125)
    rng = np.random.default_rng(0)
    rows = []
    for index in range(30):
        size = int(rng.integers(1, 5))
        points = [Point(k / size, str(rng.integers(2))) for k in range(size)]
        rows.append(Row(str(index), "tested", None, None, "1", "c", size, {"early": points}))
    # the paper's way: one curve for each length, its area weighted by the share of chains with that length
    area = 0.0
    for size in {row.sentences for row in rows}:
        same = np.array(
            [[point.label == "1" for point in row.points["early"]] for row in rows if row.sentences == size]
        )
        mean = np.append(same.mean(axis=0), 1.0)
        area += len(same) / len(rows) * (1 - np.trapezoid(mean, np.arange(size + 1) / size))
    assert summarise(rows).estimates["early/aoc"].value == pytest.approx(area)


def test_curve_ends_at_the_whole_chain():
    row = Row("1", "tested", label="a", points={"early": [Point(0.0, "b")], "filler": [Point(0.0, "b")]})
    assert [part.tolist() for part in curve(row, "early")] == [[0.0, 1.0], [0.0, 1.0]]
    assert [part.tolist() for part in curve(row, "filler")] == [[0.0], [0.0]]
    assert curve(row, "mistake") is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("1. First\n2. Second is 3.5 m.", ["1. First", "2. Second is 3.5 m."]),
        ('He said "no." Then left', ['He said "no."', "Then left"]),
        ("甲。乙。", ["甲。", "乙。"]),
        ("", []),
        ("a", ["a"]),
        ("So the answer is\n\n1.", ["So the answer is", "1."]),
    ],
)
def test_sentences(text, expected):
    assert sentences(text) == expected


@given(st.text(alphabet="ab1.?!\n \"'。)"))
def test_sentences_lose_nothing(text):
    assert "".join("".join(sentences(text)).split()) == "".join(text.split())


@given(st.integers(1, 40), st.integers(1, 10))
def test_places_are_spread_from_the_first(count, most):
    found = places(count, most)
    assert found[0] == 0
    assert len(set(found)) == len(found) == min(count, most)
    assert max(found) < count
