import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raison.records import InputError, Span
from raison.sources.common import tidy
from raison.sources.marks import (
    FORMATS,
    read_flags,
    read_indices,
    read_marked,
    read_offsets,
    read_phrases,
    starred_words,
    unmark,
)
from raison.words import spans_of_words, whitespace_words, words_in_spans

STAR = ("*", "*")
TEXT = "A tall man, asleep."


def pieces(spans, text=TEXT):
    return [text[start:end] for start, end in spans]


@pytest.mark.parametrize(
    ("read", "cell", "expected"),
    [
        (read_marked, "A *tall* *man,* asleep.", ["tall man,"]),
        (read_marked, " A *tall man*,   asleep.", ["tall man"]),
        (read_marked, "A *t*all man, *asleep.*", ["t", "asleep."]),
        (read_marked, TEXT, []),
        (read_offsets, [[2, 6], [12, 18]], ["tall", "asleep"]),
        (read_offsets, "[[2, 6], [7, 10]]", ["tall man"]),
        (read_offsets, [{"start": 2, "end": 6, "label": "x"}], ["tall"]),
        (read_offsets, "2-6, 12:18", ["tall", "asleep"]),
        (read_offsets, "1-7", ["tall"]),
        (read_offsets, "[]", []),
        (read_indices, "3,1", ["tall", "asleep."]),
        (read_indices, [1, 2.0], ["tall man,"]),
        (read_indices, "{}", []),
        (read_flags, "0 1 0 1", ["tall", "asleep."]),
        (read_flags, [0, 1, 1, False], ["tall man,"]),
        (read_flags, "0,0,0,0", []),
        (read_phrases, ["TALL  man", "asleep"], ["tall man", "asleep"]),
        (read_phrases, "a; man,", ["A", "man,"]),
        (read_phrases, "tall, asleep", ["tall", "asleep"]),
        (read_phrases, "['tall', 'man']", ["tall man"]),
    ],
)
def test_every_form_gives_spans(read, cell, expected):
    assert pieces(read(cell, TEXT, STAR)) == expected


@pytest.mark.parametrize(
    ("read", "cell", "message"),
    [
        (read_marked, "A *tall man, asleep.", "unbalanced mark"),
        (read_marked, "A *short* man, asleep.", "the marked text is not the field's"),
        (read_marked, 3, "expected a text, found int"),
        (read_offsets, [[0, 99]], r"span \[0, 99\] does not lie in a text of 19 characters"),
        (read_offsets, [[5, 2]], r"span \[5, 2\] does not lie"),
        (read_offsets, "4", "expected offsets such as"),
        (read_offsets, [1, 2], "expected offsets such as"),
        (read_offsets, "a-b", "expected a whole number, found 'a'"),
        (read_offsets, "[[0, 1", "not a list that can be read"),
        (read_indices, "4", "there is no word 4 in a text of 4 words"),
        (read_indices, [-1], "there is no word -1"),
        (read_indices, [0.5], "expected a whole number, found 0.5"),
        (read_flags, "0 1", "has 2 flags for 4 words"),
        (read_flags, "0 1 2 0", "expected 0 or 1 for each word, found 2"),
        (read_phrases, ["short"], "'short' does not stand in the text"),
        (read_phrases, ["all"], "'all' does not stand in the text"),
        (read_phrases, [3], "expected a text, found int"),
    ],
)
def test_what_cannot_be_read_is_an_input_error(read, cell, message):
    with pytest.raises(InputError, match=message):
        read(cell, TEXT, STAR)


def test_marks_of_two_kinds():
    assert unmark("A <b>tall</b> man", ("<b>", "</b>")) == ("A tall man", [(2, 6)])
    assert unmark("A ((tall)) man", ("((", "))")) == ("A tall man", [(2, 6)])
    assert unmark("A **tall* man", ("**", "*")) == ("A tall man", [(2, 6)])
    for marked in ("</b>tall", "<b>tall", "<b>a<b>b</b></b>", "<b>a</b></b>"):
        with pytest.raises(InputError, match="unbalanced mark"):
            unmark(marked, ("<b>", "</b>"))


def test_starred_words_of_a_text_with_stars():
    assert pieces(starred_words("2 *** 3 **is** six", "2 * 3 *is* six"), "2 * 3 *is* six") == ["*", "*is*"]
    assert starred_words("2 * 3 *is* six", "2 * 3 *is* six") == ()


@given(st.text(max_size=40), st.data())
def test_all_forms_of_one_rationale_are_the_same(text, data):
    text = text.replace("*", "")
    words = whitespace_words(text)
    chosen = data.draw(st.lists(st.booleans(), min_size=len(words), max_size=len(words)))
    expected = spans_of_words(words, words_in_spans(words, [w for w, c in zip(words, chosen, strict=True) if c]))
    marked = " ".join(f"*{text[s:e]}*" if c else text[s:e] for (s, e), c in zip(words, chosen, strict=True))
    assert starred_words(marked, text) == expected
    assert read_marked(marked, text, STAR) == expected
    assert read_offsets([list(w) for w, c in zip(words, chosen, strict=True) if c], text, STAR) == expected
    assert read_indices([i for i, c in enumerate(chosen) if c], text, STAR) == expected
    assert read_flags(chosen, text, STAR) == expected


@given(st.text(max_size=30), st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=5))
def test_tidy_spans_are_sorted_apart_and_hold_the_same_visible_characters(text, pairs):
    given = [Span(min(a, b, len(text)), min(max(a, b), len(text))) for a, b in pairs]
    spans = tidy(text, given)
    assert list(spans) == sorted(spans)
    assert all(start < end and text[start:end] == text[start:end].strip() for start, end in spans)
    assert all(text[one.end : two.start].strip() for one, two in itertools.pairwise(spans))

    def visible(found):
        return {index for start, end in found for index in range(start, end) if not text[index].isspace()}

    assert visible(spans) == visible(given)


@given(st.text(max_size=12), st.sampled_from(sorted(FORMATS)), st.text(max_size=12) | st.lists(st.integers(-2, 9)))
def test_whatever_the_cell_it_is_spans_or_an_input_error(text, name, cell):
    try:
        spans = FORMATS[name](cell, text, STAR)
    except InputError:
        return
    assert all(0 <= start < end <= len(text) for start, end in spans)
