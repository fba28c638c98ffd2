"""The controls that need no model: what each answers, and that the order of the data makes no difference."""

import random

import pytest

from crowd import records
from raison.annotators.controls import (
    ANOTHER,
    CONTROLS,
    HUMAN,
    MAJORITY,
    NEAREST,
    NO_HISTORY,
    NO_OTHER,
    another_person,
    controls,
    first_of,
    majority_label,
)
from raison.annotators.responses import Response, responses_of
from raison.records import Record


def parted(items):
    return responses_of(items[:40]), responses_of(items[40:])


def test_each_control_answers_every_question_in_order():
    items = records(60)
    history, targets = parted(items)
    found = controls(items, history, targets)
    assert list(found) == list(CONTROLS) == [HUMAN, ANOTHER, NEAREST, MAJORITY]
    said = {(one.record_id, one.annotator): one for one in targets}
    old = {(one.annotator, one.explanation) for one in history}
    for answers in found.values():
        assert [(one.record_id, one.annotator) for one in answers] == list(said)
        assert not any(one.failure for one in answers)
    assert found[HUMAN] == targets
    for one in found[ANOTHER]:
        source = next(other for other in targets if other.explanation == one.explanation)
        assert source.record_id == one.record_id
        assert source.annotator != one.annotator
        assert source.label == one.label
    for name in (NEAREST, MAJORITY):
        assert {(one.annotator, one.explanation) for one in found[name]} <= old


def test_the_nearest_item_is_copied():
    rows = [
        Response("near", "ann", "yes", "of the dog"), Response("far", "ann", "no", "of the bus"),
        Response("asked", "ann", "no", "mine"), Response("asked", "ben", "no", "his"),
    ]  # fmt: skip
    texts = {"near": "a dog runs fast", "far": "the red bus", "asked": "a dog runs"}
    items = [Record(name, {"text": text}) for name, text in texts.items()]
    found = controls(items, rows[:2], rows[2:])[NEAREST]
    assert (found[0].label, found[0].explanation) == ("yes", "of the dog")
    assert (found[1].label, found[1].failure) == (None, NO_HISTORY)


def test_the_commonest_label_goes_with_any_text_of_that_label():
    history = [Response(str(i), "ann", label, f"text {i}") for i, label in enumerate(["b", "a", "b", "a", "c"])]
    targets = [Response(f"t{i}", "ann", "c", "x") for i in range(50)]
    found = majority_label(history, targets)
    assert {one.label for one in found} == {"a"}  # of ties the first in the alphabet
    assert {one.explanation for one in found} == {"text 1", "text 3"}
    unlabelled = majority_label([Response("1", "ann", None, "x"), Response("2", "ann", None, "y")], targets)
    assert {(one.label, one.explanation) for one in unlabelled} == {(None, "x"), (None, "y")}


def test_nobody_else_is_a_failure_and_no_guess():
    (found,) = another_person([Response("1", "ann", "a", "x")])
    assert (found.label, found.explanation, found.failure) == (None, None, NO_OTHER)


def test_of_several_labels_the_first_counts():
    rows = [Response("1", "ann", "b", "second", 1), Response("1", "ann", "a", "first", 0)]
    assert [one.label for one in first_of(rows)] == ["a"]


@pytest.mark.parametrize("seed", [0, 1])
def test_the_order_of_the_data_makes_no_difference(seed):
    items = records(60)
    history, targets = parted(items)
    found = controls(items, history, targets, seed)
    rng = random.Random(0)
    mixed = [rng.sample(rows, len(rows)) for rows in (items, history, targets)]
    again = controls(*mixed, seed)
    for name, answers in found.items():
        assert {(a.record_id, a.annotator): a for a in answers} == {(a.record_id, a.annotator): a for a in again[name]}


def test_another_seed_draws_anew():
    _, targets = parted(records(60))
    assert another_person(targets, 0) != another_person(targets, 1)
