"""Memorisation: the longest run against all runs tried one by one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raison.annotators.memorisation import copying, longest_run, same_text
from raison.annotators.similarity import words_of

texts = st.lists(st.sampled_from(["a", "b", "ab", "c", "d"]), max_size=7).map(" ".join)


def slowly(text, history):
    words = words_of(text)
    runs = [words[i:j] for i in range(len(words)) for j in range(i + 1, len(words) + 1)]
    olds = [words_of(old) for old in history]
    return max(
        (len(run) for run in runs for old in olds for k in range(len(old)) if old[k : k + len(run)] == run), default=0
    )


@given(texts, st.lists(texts, max_size=4))
def test_the_longest_run_is_that_of_trying_all(text, history):
    assert longest_run(text, history) == slowly(text, history)


def test_by_hand():
    history = ["The same topic, of course.", "Different topics!"]
    found = copying(["the same topic and object", "different TOPICS", "topic of course different", "", "x"], history)
    assert found.longest.tolist() == [3, 2, 3, 0, 0]  # no run goes from one text into the next
    assert found.share == pytest.approx([3 / 5, 1, 3 / 4, 0, 0])
    assert found.whole.tolist() == [0, 1, 0, 0, 0]


def test_the_same_text_but_for_case_and_punctuation():
    assert same_text("Same TOPIC.", ["same topic"])
    assert not same_text("topic", ["same topic"])
    assert not same_text("...", ["!"])
