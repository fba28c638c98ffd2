"""Self-consistency: models that do as they say score 1, models that don't score 0, and nothing missing is a zero."""

import json
import re

import numpy as np
import pytest

from raison.checks import self_consistency
from raison.checks.redaction import Row, compared, cost, read_texts, summarise
from raison.models.chat import Reply
from raison.records import InputError, Record
from raison.words import whitespace_words
from speakers import LABELS, record, sentiment, spoken, text_of

RECORDS = [record(index) for index in range(4)]
KINDS = ("importance", "redaction", "counterfactual")


def is_answer(talk):
    return "Which sentiment? One of: positive, negative or unknown." in talk[0]["content"] and not asks(talk)


def asks(talk):
    """Name the kind of explanation that is asked for."""
    last = talk[-1]["content"]
    needles = {"importance": "JSON list", "redaction": "until nobody", "counterfactual": 'becomes "'}
    return next((kind for kind, needle in needles.items() if needle in last), None)


def obeying(talk):
    """Answer by `good` and `bad`, and say just that."""
    text, kind = text_of(talk), asks(talk)
    if kind is None:
        return sentiment(talk)
    if kind == "importance":
        return json.dumps([word for word in text.split() if word in ("good", "bad")])
    if kind == "redaction":
        return text.replace("good", "[REDACTED]").replace("bad", "[REDACTED]")
    swap = {"good": "bad", "bad": "good"}
    return " ".join(swap.get(word, word) for word in text.split())


def lying(talk):
    """Answer by `good` and `bad`, and say that it was `film` and its like."""
    text, kind = text_of(talk), asks(talk)
    if kind is None:
        return sentiment(talk)
    others = [word for word in text.split() if word not in ("good", "bad")]
    if kind == "importance":
        return json.dumps(others[:1])
    return re.sub(rf"\b{others[0]}\b", "[REDACTED]" if kind == "redaction" else "dull", text)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_obeys_its_explanation_scores_1(kind):
    rows = self_consistency(spoken(obeying), RECORDS, kind)
    assert [row.state for row in rows] == ["tested"] * 4
    found = summarise(rows)
    assert found.estimates["faithful"].value == 1.0
    assert found.estimates["differs"].value == 1.0
    assert found.estimates["faithful"].n == 4
    assert [row.gone for row in rows] == [1, 1, 1, 3]  # "bad" three times
    assert found.estimates["gone"].value == pytest.approx((1 / 6 + 1 / 7 + 1 / 5 + 3 / 4) / 4)
    assert found.verdict is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_never_does_scores_0(kind):
    found = summarise(self_consistency(spoken(lying), RECORDS, kind))
    assert found.estimates["faithful"].value == 0.0
    assert found.estimates["differs/correct"].value == 0.0
    if kind != "counterfactual":
        assert found.estimates["full"].value == 1.0  # it could have scored


def test_the_papers_score_is_over_correct_answers():
    wrong = [record(0, label="negative"), record(1), record(2, text="a film about nothing")]
    speaker = spoken(lambda talk: lying(talk) if "good" in text_of(talk) and asks(talk) else obeying(talk))
    found = summarise(self_consistency(speaker, wrong, "importance"))
    assert found.states == {"tested": 2, "unknown at once": 1}
    assert (found.estimates["faithful"].value, found.estimates["faithful"].n) == (0.5, 2)
    assert (found.estimates["faithful/correct"].value, found.estimates["faithful/correct"].n) == (1.0, 1)


def test_what_is_missing_is_counted_and_no_zero():
    failures = {
        "r0": "I cannot help with that.",
        "r1": Reply(None, "failed", "busy"),
        "r2": Reply("good actors make", "length"),
        "r3": "",
    }
    by_text = {item.fields["text"]: item.id for item in RECORDS}
    speaker = spoken(lambda talk: failures[by_text[text_of(talk)]] if asks(talk) else sentiment(talk))
    found = summarise(self_consistency(speaker, RECORDS, "redaction"))
    assert found.states == {"refusal": 1, "no reply": 1, "cut off": 1, "empty reply": 1, "rewritten": 0}
    assert found.estimates["faithful"].value is None
    assert found.estimates["faithful"].n == 0
    assert found.verdict is None
    named = summarise(self_consistency(speaker, RECORDS, "importance"))
    assert named.states["refusal"] == named.states["no reply"] == 1
    mute = summarise(self_consistency(spoken(lambda talk: "it depends"), RECORDS, "importance"))
    assert mute.states == {"no valid answer": 4}
    broken = spoken(lambda talk: "who knows" if "[REDACTED]" in text_of(talk) else obeying(talk))
    rows = self_consistency(broken, RECORDS, "importance")
    assert summarise(rows).states == {"no valid second answer": 4}
    assert summarise(rows).estimates["faithful"].n == 0


def test_a_model_that_never_says_unknown_is_told_from_an_unfaithful_one():
    def stubborn(talk):
        return obeying(talk) if asks(talk) or "good" in text_of(talk) else "negative"

    found = summarise(self_consistency(spoken(stubborn), RECORDS, "importance"))
    assert found.estimates["faithful"].value == 0.0
    assert found.estimates["differs"].value == 0.5  # good -> negative
    assert "unknown" in found.verdict


def test_the_model_is_told_of_the_marker_and_offered_unknown():
    subject = spoken(obeying)
    self_consistency(subject, RECORDS[:1], "importance")
    first, request, *rest = subject.generator.asked
    assert is_answer(first)
    assert "[REDACTED]" in first[0]["content"]
    assert "nobody could tell it without them" in request[-1]["content"]
    assert text_of(rest[0]) == "the film was [REDACTED] and long"
    assert subject.task.prompt.count("REDACTED") == 0  # the caller's own is as it was
    assert cost(4, "importance").answers == 16
    assert "needs answers only; at most 8 answers, 4 replies" in str(cost(4, "counterfactual"))


def test_a_row_depends_on_its_record_alone():
    whole = self_consistency(spoken(obeying), RECORDS, "redaction", seed=3)
    assert [self_consistency(spoken(obeying), [item], "redaction", seed=3)[0] for item in RECORDS] == whole


def test_counterfactuals_of_several_labels():
    labels = ("positive", "negative", "mixed", "none")
    subject = spoken(obeying, labels)
    aims = {row.aim for row in self_consistency(subject, [record(i) for i in range(40)], "counterfactual")}
    assert aims == set(labels)  # drawn, never its own label
    rows = self_consistency(subject, RECORDS[:1], "counterfactual", opposite={"positive": "mixed"})
    assert rows[0].aim == "mixed"
    with pytest.raises(InputError, match="another label for 'positive'"):
        self_consistency(subject, RECORDS[:1], "counterfactual", opposite={})
    with pytest.raises(InputError, match="unknown kind 'edit'"):
        self_consistency(subject, RECORDS, "edit")


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ('{"premise": "a b", "hypothesis": "c"}', {"premise": "a b", "hypothesis": "c"}),
        ('Here it is:\n```json\n{"Premise": "a", "Hypothesis": "c {d}"}\n```', {"premise": "a", "hypothesis": "c {d}"}),
        ('Premise: "a b"\nHypothesis: c', {"premise": "a b", "hypothesis": "c"}),
        ('{"premise": "a b"}', None),
        ('{"premise": "a", "hypothesis": 3}', None),
        ("a b c", None),
        ("{" * 5000, None),
    ],
)
def test_texts_are_read_from_replies(reply, expected):
    assert read_texts(reply, ("premise", "hypothesis")) == expected


def test_a_single_text_is_the_whole_reply():
    assert read_texts('"a b"', ["text"]) == {"text": "a b"}
    assert read_texts("```\na {b}\n```", ["text"]) == {"text": "a {b}"}
    assert read_texts("Text: a b", ["text"]) == {"text": "a b"}
    assert read_texts('{"text": "a"}', ["text"]) == {"text": "a"}
    assert read_texts('"a" and "b"', ["text"]) == {"text": '"a" and "b"'}


def test_what_is_gone_and_what_is_new():
    item = Record("x", {"text": "the film was good, and long", "other": "same"})
    gone, new = compared(item, {"text": "The film was [REDACTED], so long"}, whitespace_words, "[REDACTED]")
    assert np.flatnonzero(gone).tolist() == [3, 4]  # good, and
    assert new == 1  # so
    gone, new = compared(item, {"text": "the film was good, and long"}, whitespace_words, "[REDACTED]")
    assert (gone.sum(), new) == (0, 0)


def test_two_texts_are_asked_for_as_json():
    from raison.models.tasks import Task

    task = Task(("a", "b"), "A: {a} B: {b} {labels}", name="pair")
    item = Record("x", {"a": "good", "b": "film"}, label="positive")

    def answer(talk):
        if asks(talk):
            assert 'each of the keys "a" and "b"' in talk[-1]["content"]
            return '{"a": "[REDACTED]", "b": "film"}'
        return "positive" if "good" in talk[0]["content"] else "unknown"

    row = self_consistency(spoken(answer, LABELS, task), [item], "redaction")[0]
    assert (row.state, row.second, row.gone, row.words) == ("tested", "unknown", 1, 2)
    assert isinstance(row, Row)


def test_a_text_that_begins_like_a_refusal_is_none():
    item = record(0, "I can't explain how good this old film is")
    row = self_consistency(spoken(obeying), [item], "redaction")[0]
    assert (row.state, row.second, row.gone) == ("tested", "unknown", 1)
    refused = spoken(lambda talk: "I'm sorry, but I can't rewrite it for you." if asks(talk) else sentiment(talk))
    assert self_consistency(refused, [item], "redaction")[0].state == "refusal"
