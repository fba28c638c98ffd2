"""Slots as characters and as BIO tags, there and back; the F1 of spans against a count by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raison.models.slots import bio_tags, slots_of_tags, span_f1, tags_of_slots
from raison.records import InputError, Record
from raison.words import word_grid

TEXT = "play  the best of Ana."


def record(*slots, text=TEXT, **fields):
    found = [{"field": field, "start": start, "end": end, "slot": slot} for field, start, end, slot in slots]
    return Record("r", {"text": text, **fields}, meta={"slots": found})


def tags(one):
    return tags_of_slots(one, word_grid(one))


@st.composite
def tagged(draw):
    """Draw a record of one or two fields with valid BIO tags, no `I-` at the start of a field."""
    fields, result = {}, []
    for name in ("a", "b")[: draw(st.integers(1, 2))]:
        size = draw(st.integers(0, 6))
        fields[name] = draw(st.sampled_from((" ", "  ", "\n"))).join(["wörd"] * size)
        own = []
        for _ in range(size):
            choices = ["O", "B-x", "B-y-z"] + ([f"I-{own[-1][2:]}"] if own and own[-1] != "O" else [])
            own.append(draw(st.sampled_from(choices)))
        result += own
    return Record("r", fields), result


@given(tagged())
def test_tags_become_slots_and_tags_again(drawn):
    one, expected = drawn
    grid = word_grid(one)
    slots = slots_of_tags(grid, expected)
    assert len(slots) == sum(tag.startswith("B-") for tag in expected)
    again = Record("r", one.fields, meta={"slots": slots})
    assert tags_of_slots(again, grid) == expected
    assert slots_of_tags(grid, tags_of_slots(again, grid)) == slots


def test_a_slot_has_every_word_that_it_touches():
    assert tags(record(("text", 0, 4, "x"), ("text", 12, 21, "y"))) == ["B-x", "O", "B-y", "I-y", "I-y"]
    assert tags(record(("text", 3, 7, "x"))) == ["B-x", "I-x", "O", "O", "O"]
    assert tags(record()) == ["O"] * 5


def test_a_stray_inside_tag_begins_a_slot_and_no_slot_crosses_fields():
    one = Record("r", {"a": "one two", "b": "three"})
    found = slots_of_tags(word_grid(one), ["I-x", "I-y", "I-y"])
    assert [(slot["field"], slot["start"], slot["end"], slot["slot"]) for slot in found] == [
        ("a", 0, 3, "x"),
        ("a", 4, 7, "y"),
        ("b", 0, 5, "y"),
    ]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (record(("text", 0, 7, "x"), ("text", 6, 9, "y")), "slot 'y' at 6-9: shares a word with another slot"),
        (record(("text", 4, 6, "x")), "touches no word"),
        (record(("title", 0, 4, "x")), "the record has no field 'title'"),
        (record(("text", 12, 999, "x")), "slot 'x' at 12-999: does not lie in a text of 22 characters"),
        (record(("text", -4, 4, "x")), "slot 'x' at -4-4: does not lie in a text"),
        (record(("text", 4, 0, "x")), "slot 'x' at 4-0: does not lie in a text"),
        (record(("text", 0, 4, "")), "meta.slots[0].slot`: expected `str` of length >= 1"),
        (Record("r", {"text": TEXT}), "absent; expected a list of slots"),
        (Record("r", {"text": TEXT}, meta={"slots": {}}), "`meta.slots`: expected `array`"),
    ],
)
def test_malformed_slots_are_refused_in_one_line(wrong, message):
    with pytest.raises(InputError) as caught:
        tags(wrong)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_slot_gets_both_tags():
    assert bio_tags([record(("text", 0, 4, "b")), record(("text", 0, 4, "a"))]) == ("O", "B-a", "I-a", "B-b", "I-b")
    assert bio_tags([record()]) == ("O",)


def test_span_f1_counts_whole_slots():
    """Gold: 3 slots. Predicted: 4, of which 2 are right: precision 1/2, recall 2/3, F1 4/7."""
    first = record(("text", 0, 4, "x"), ("text", 12, 21, "y"))
    second = record(("b", 0, 3, "x"), text="one", b="two")
    predicted = [["I-x", "B-x", "B-y", "I-y", "O"], ["O", "B-x"]]
    assert span_f1([first, second], predicted) == pytest.approx(4 / 7)
    assert span_f1([first, second], [["O"] * 5, ["O"] * 2]) == 0
    assert span_f1([record()], [["O"] * 5]) is None


def test_a_predicted_slot_does_not_run_into_the_next_field():
    one = record(("text", 0, 3, "x"), ("b", 0, 3, "x"), text="one", b="two")
    assert span_f1([one], [["B-x", "I-x"]]) == 1
