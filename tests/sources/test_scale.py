"""Ordinal labels: their numbers, their spellings, and ranges; and tables with them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raison.records import InputError
from raison.sources import load, scan
from raison.sources.scale import in_range, ordinal_scale, spelled

LIKERT = tuple(str(n) for n in range(-5, 6))


@pytest.mark.parametrize(
    ("labels", "numbers"),
    [
        (("2", "-1", "0"), {"-1": -1, "0": 0, "2": 2}),
        (("+1", "\u22121"), {"\u22121": -1, "+1": 1}),
        (("1 (not at all)", "2", "3 - fully"), {"1 (not at all)": 1, "2": 2, "3 - fully": 3}),
        (("1: no", "2.5: so so", "4) yes"), {"1: no": 1, "2.5: so so": 2.5, "4) yes": 4}),
        (("5 stars", "1 star"), {"1 star": 1, "5 stars": 5}),
        (("entailment", "neutral"), None),
        (("1", "2", "don't know"), None),
        (("1", "1.0"), None),  # one number
        (("1st", "2nd"), None),
        (("3D", "2D"), None),
        (("1-2", "3-4"), None),  # ranges are no steps
        (("7",), None),
        ((), None),
    ],
)
def test_numbers_of_labels(labels, numbers):
    found = ordinal_scale(labels)
    assert found == numbers
    assert found is None or list(found) == list(numbers)


@given(st.lists(st.integers(-50, 50), min_size=2, unique=True))
def test_integers_are_a_scale_in_their_own_order(numbers):
    assert list((ordinal_scale([str(n) for n in numbers]) or {}).items()) == [(str(n), n) for n in sorted(numbers)]


@pytest.mark.parametrize(
    ("label", "wanted"),
    [
        ("4.0", "4"),
        ("+4", "4"),
        ("\u22124", "-4"),
        (" 4 ", "4"),
        ("4", "4"),
        ("9", "9"),
        ("four", "four"),
        ("4.5", "4.5"),
    ],
)
def test_another_spelling_of_a_step(label, wanted):
    assert spelled(label, LIKERT) == wanted
    assert spelled(label, ("yes", "no")) == label


def test_ranges():
    assert in_range("-5..5") == LIKERT
    assert in_range(" 1 .. 3 ") == ("1", "2", "3")
    assert in_range("yes,no") is None
    for wrong in ("5..5", "5..1", "0..100000"):
        with pytest.raises(InputError, match="expected a range from low to high"):
            in_range(wrong)


# ------------------------------------------------------------------------------------- tables of people's responses

ROWS = "item,who,first,second,rating,why\n"


def test_a_table_of_people_with_several_ordinal_labels_each(write):
    rows = ["7,ann,A?,B?,-4,no", "8,ann,C?,D?,+2,near", "7,ben,A?,B?,5.0,same", "7,ann,A?,B?,\u22123,still no"]
    path = write("people.csv", ROWS + "\n".join(rows) + "\n")
    mapping = ["id=item", "annotator=who", "label=rating", "explanation=why", "gather=true", "label_set=-5..5",
               "question_1=first", "question_2=second"]  # fmt: skip
    first, second = load(path, mapping=mapping)
    assert first.label_set == LIKERT
    assert [(one.annotator, one.label, one.explanation) for one in first.annotations] == [
        ("ann", "-4", "no"),
        ("ben", "5", "same"),
        ("ann", "-3", "still no"),
    ]
    assert (first.label, second.label) == (None, "2")


def test_numbers_in_json_lines_are_labels_of_the_scale(write, split_items):
    rows = [{"text": "x", "y": -4.0}, {"text": "x", "y": 5}, {"text": "x", "y": 6}]
    path = write("people.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    records, faults = split_items(scan(path, mapping={"text": "text", "label": "y", "label_set": "-5..5"}))
    assert [record.label for record in records] == ["-4", "5"]
    assert [fault.startswith(f"{path}:3: field `label`: '6' is not one of -5") for fault in faults] == [True]
