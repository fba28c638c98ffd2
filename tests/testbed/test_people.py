"""Planted annotators: what they say has the chances that are stated, and each habit does one thing."""

from collections import Counter

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raison.records import InputError, Record, from_record, to_record
from raison.testbed.people import (
    ASPECTS,
    HEDGES,
    LABELS,
    PANEL,
    Annotator,
    Habits,
    annotate,
    annotated_records,
    aspects_of,
    explanation_chances,
    label_chances,
    make_items,
    random_people,
    seen_by,
    shuffle_people,
)

NOTE = Record("n", {"note": "At the mill inn we found the bill costly, the room wide and the street busy."})
PLAIN = Annotator("plain")


def with_habits(**habits):
    return Annotator("one", Habits(**habits))


def often(person, times=1500):
    """Ask one person about one note many times."""
    return [annotate(person, NOTE, seed) for seed in range(times)]


def test_a_person_without_habits_by_hand():
    assert aspects_of(NOTE) == {"bill": "costly", "room": "wide", "street": "busy"}
    assert seen_by(PLAIN, NOTE) == ["street", "bill", "room"]
    assert label_chances(PLAIN, NOTE) == {"yes": 0, "unsure": 1, "no": 0}
    assert explanation_chances(PLAIN, NOTE) == {
        "The street at the mill inn was busy.": 0.5,
        "The mill inn had a busy street.": 0.5,
    }


def test_each_habit_by_hand():
    assert label_chances(with_habits(looks=("breakfast", "bill")), NOTE) == {"yes": 0, "unsure": 0, "no": 1}
    leaning = label_chances(with_habits(favourite="yes", lean=0.3), NOTE)
    assert leaning == pytest.approx({"yes": 0.3, "unsure": 0.7, "no": 0})
    phrase = explanation_chances(with_habits(phrase="In short", phrase_rate=0.4), NOTE)
    assert phrase["In short, the mill inn had a busy street."] == pytest.approx(0.2)
    assert phrase["The mill inn had a busy street."] == pytest.approx(0.3)
    hedged = explanation_chances(with_habits(hedging=0.6), NOTE)
    assert hedged["I think the mill inn had a busy street."] == pytest.approx(0.1)
    wordy = explanation_chances(with_habits(wordy=0.5), NOTE)
    assert wordy["The mill inn had a busy street and the bill was costly and the room was wide."] == pytest.approx(
        1 / 8
    )
    assert wordy["The mill inn had a busy street and the room was wide."] == pytest.approx(1 / 8)


@given(st.integers(0, 60), st.integers(0, 40))
@settings(max_examples=30, deadline=None)
def test_chances_sum_to_one_and_cover_what_is_said(person, item):
    crowd, note = random_people(person + 1, 4)[-1], make_items(item + 1, 2)[-1]
    labels, texts = label_chances(crowd, note), explanation_chances(crowd, note)
    assert sum(labels.values()) == pytest.approx(1)
    assert sum(texts.values()) == pytest.approx(1)
    said = annotate(crowd, note, seed=item)
    assert labels[said.label] > 0
    assert texts[said.explanation] > 0
    assert said.extra["category"] == seen_by(crowd, note)[0]
    assert f" {said.extra['category']} " in said.explanation.replace(".", " ")


@pytest.mark.parametrize("person", [PANEL[1], PANEL[2], PANEL[3]], ids=lambda person: person.name)
def test_what_is_drawn_has_the_stated_chances(person):
    said, error = often(person), 4 * 0.5 / np.sqrt(1500)
    for chances, found in (
        (label_chances(person, NOTE), Counter(note.label for note in said)),
        (explanation_chances(person, NOTE), Counter(note.explanation for note in said)),
    ):
        assert found.keys() <= {text for text, chance in chances.items() if chance}
        assert {text: found[text] / 1500 for text in chances} == pytest.approx(chances, abs=error)


def test_the_panel_differs_in_what_it_is_meant_to_differ_in():
    notes = annotated_records(PANEL, make_items(800, 3))
    said = [[record.annotations[index] for record in notes] for index in range(4)]
    hedged = [np.mean([any(h.lower() in n.explanation.lower() for h in HEDGES) for n in one]) for one in said]
    assert hedged == pytest.approx([0, 0.5, 0, 0], abs=0.07)
    assert [np.mean([n.explanation.startswith("For me") for n in one]) for one in said] == pytest.approx(
        [0.5, 0, 0, 0], abs=0.07
    )
    words = [np.mean([len(n.explanation.split()) for n in one]) for one in said]
    assert words[2] > max(words[0], words[1], words[3]) + 2
    labels = np.array([[n.label for n in one] for one in said])
    assert (labels[0] == labels[1]).all()  # one aspect decides for both
    assert 0.6 < np.mean(labels[0] == labels[2]) < 0.8  # another one, of the same lodging
    assert np.mean(labels[3] == "yes") > np.mean(labels[2] == "yes") + 0.1


def test_what_is_said_depends_on_seed_person_and_note_alone():
    items = make_items(30, 1)
    whole = annotated_records(PANEL, items, seed=2)
    assert annotated_records(PANEL, items[::-1], seed=2) == whole[::-1]
    alone = annotated_records(PANEL[2:3], items[:10], seed=2)
    assert [r.annotations[0] for r in alone] == [r.annotations[2] for r in whole[:10]]
    assert annotated_records(PANEL, items, seed=3) != whole
    assert make_items(5, 1) == items[:5]
    assert random_people(3, 7) == random_people(9, 7)[:3]


def test_records_are_valid_and_go_to_disk_and_back():
    for record in annotated_records(PANEL, make_items(20)):
        assert to_record(from_record(record)) == record
        assert record.label_set == tuple(LABELS.values())


def test_shuffled_names_leave_the_notes_as_they_are_and_no_habit():
    notes = annotated_records(PANEL, make_items(800, 3))
    mixed = shuffle_people(notes, seed=5)
    assert shuffle_people(notes[::-1], seed=5) == mixed[::-1]
    assert shuffle_people(notes, seed=6) != mixed
    for before, after in zip(notes, mixed, strict=True):
        assert sorted(n.annotator for n in after.annotations) == sorted(p.name for p in PANEL)
        assert [msgspec.structs.replace(n, annotator=None) for n in after.annotations] == [
            msgspec.structs.replace(n, annotator=None) for n in before.annotations
        ]
    said = {
        person.name: [n.explanation for record in mixed for n in record.annotations if n.annotator == person.name]
        for person in PANEL
    }
    shares = [np.mean([text.startswith("For me") for text in texts]) for texts in said.values()]
    assert shares == pytest.approx([0.125] * 4, abs=0.05)


def test_no_word_of_an_aspect_stands_twice():
    words = [word for degrees in ASPECTS.values() for degree in degrees.values() for word in degree]
    assert len(set(words)) == len(words)
    assert not set(words) & set(ASPECTS)


def test_what_is_wrong_is_said():
    with pytest.raises(InputError, match="same name"):
        annotated_records([PLAIN, PLAIN], [NOTE])
    for text in ("Nothing of the kind.", "The street was never clean."):
        with pytest.raises(InputError, match="no note of the testbed"):
            aspects_of(Record("x", {"note": text}))
    with pytest.raises(InputError, match="no note of the testbed"):
        aspects_of(Record("x", {"text": "At the mill inn"}))
