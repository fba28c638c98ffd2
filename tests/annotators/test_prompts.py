"""Prompts of the baselines that need no training, and what is known of people."""

import json

import pytest

from panel import item, panel
from raison.annotators.prompts import HOWS, Prompts, told_of
from raison.annotators.wording import wording_for
from raison.records import Annotation, InputError, Record

TRAIN = panel(8)
NEW = item(99, [])
WORDING = wording_for(TRAIN)
PEOPLE = {who: {"Age": age, "Gender": "other"} for who, age in (("a", "26"), ("b", "30"), ("c", "31"))}


def prompts(how="zero-shot", **options):
    return Prompts(WORDING, TRAIN, how, people=PEOPLE if how == "persona" else None, **options)


def test_each_way_says_what_it_should():
    assert prompts()(NEW, "a") == prompts()(NEW, "b") == WORDING.prompt(NEW)
    assert prompts(tag=True)(NEW, "a") == WORDING.prompt(NEW, "a")
    assert "known: Age: 26; Gender: other." in prompts("persona")(NEW, "a")
    assert "Your labels: " in prompts("profile")(NEW, "a")
    shown = prompts("in-context", k=3)(NEW, "b")
    assert shown.count("Explanation: b says") == 3
    assert "a says" not in shown


def test_in_context_shows_all_there_are_but_that_of_the_item():
    shown = prompts("in-context", k=50)(TRAIN[2], "c")
    assert [f"xi{i}xc" in shown for i in range(8)] == [i != 2 for i in range(8)]


@pytest.mark.parametrize("how", HOWS)
def test_the_order_of_the_training_items_makes_no_difference(how):
    other = Prompts(WORDING, TRAIN[::-1], how, people=PEOPLE if how == "persona" else None, k=4)
    one = prompts(how, k=4)
    assert one(NEW, "a") == other(NEW, "a")
    assert one.config == other.config


def test_who_opted_out_is_nowhere():
    judged = Annotation("a", "neutral", None, "mine", {"judgments": {"b": True, "c": False}})
    train = [*TRAIN, Record("j", NEW.fields, "nli", label_set=NEW.label_set, annotations=(judged,))]
    made = Prompts(WORDING, train, "persona", people=PEOPLE, without=["b"])
    assert {one.annotator for one in made.responses} == {"a", "c"}
    assert made.responses[-1].extra == {"judgments": {"c": False}}
    with pytest.raises(InputError, match="nothing is known of annotator 'b'"):
        made(NEW, "b")


def test_the_configuration_tells_prompts_apart():
    made = [prompts(how) for how in HOWS] + [
        prompts("in-context", k=2),
        prompts("in-context", seed=1),
        prompts(tag=True),
    ]
    assert len({json.dumps(one.config, sort_keys=True) for one in made}) == len(made)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"how": "magic"}, "how 'magic': expected zero-shot, persona, profile, in-context"),
        ({"how": "in-context", "select": "best"}, "select 'best'"),
        ({"how": "persona"}, "nothing is known of the people"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(InputError, match=message):
        Prompts(WORDING, TRAIN, **options)


def test_people_are_read_from_the_records():
    notes = (Annotation("a", "x", extra={"about": {"Age": 26}}), Annotation("b", "x"))
    assert told_of([Record("1", {"t": ""}, annotations=notes)]) == {"a": {"Age": "26"}}
