"""Kept replies of judges: what each is to be read as; and that nothing is ever raised or made up."""

import time
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raison.annotators.choices import CUT, EMPTY, REFUSED, SEVERAL, UNREAD, read_choice

KEPT = tomllib.loads((Path(__file__).parent / "choices.toml").read_text(encoding="utf-8"))["reply"]
FAILURES = {CUT, EMPTY, REFUSED, SEVERAL, UNREAD}
PIECES = (
    *"ABCDEab", *' \n.:,*()[]{}"/\\|-', "answer", "Answer: ", "person ", "Person ", "not ", "or", " and ", "```",
    "json", '{"answer": "', '"}', "\\boxed{", "\\text{", "<think>", "</think>", "I can't", "é", "\ud800", "Ａ", "\x00",
    "A person",
)  # fmt: skip


@pytest.mark.parametrize("kept", KEPT, ids=[kept["name"] for kept in KEPT])
def test_a_kept_reply(kept):
    assert kept.keys() <= {"name", "text", "letter", "failure", "letters", "cut"}
    found = read_choice(kept["text"], kept.get("letters", "ABCD"), cut=kept.get("cut", False))
    assert found == (kept.get("letter"), kept.get("failure"))


def test_there_are_enough_of_them():
    assert len(KEPT) >= 50
    assert len({kept["name"] for kept in KEPT}) == len(KEPT)
    assert {kept["failure"] for kept in KEPT if "failure" in kept} == FAILURES


def check(text, letters, cut):
    letter, failure = read_choice(text, letters, cut)
    assert (letter is None) != (failure is None)
    assert failure is None or failure in FAILURES
    if letter is not None:  # what is read was there, as a letter of its own
        assert letter in letters
        assert letter in text.upper()


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=25).map("".join), st.sampled_from(("AB", "ABCD")), st.booleans())
def test_pieces_of_replies_raise_nothing(text, letters, cut):
    check(text, letters, cut)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=80) | st.none(), st.booleans())
def test_any_text_raises_nothing(text, cut):
    check(text, "ABCD", cut)


@pytest.mark.parametrize(
    "piece", ["*", "\\x{", "\\x", "A ", "{", "not ", "answer", " answer", '"', "(A", "person ", "answer: A or "]
)
def test_time_grows_no_faster_than_a_reply(piece):
    def taken(count):
        start = time.process_time()
        for _ in range(3):
            check(piece * count + "A", "ABCD", False)
        return time.process_time() - start

    assert taken(8_000) < 0.5 + 20 * taken(1_000)


@given(
    st.sampled_from("ABCD"),
    st.sampled_from(("{}", "**{}**", "Answer: {}", "Person {}.", '{{"choice": "{}"}}', "so it is\n{}")),
)
def test_a_letter_is_read_whichever_it_is(letter, form):
    assert read_choice(form.format(letter), "ABCD") == (letter, None)
