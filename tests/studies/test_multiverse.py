"""The multiverse is run: every universe equals an evaluation by itself, and an interrupted run goes on."""

import numpy as np
import pytest

from raison.attribution import extract
from raison.evaluation.evaluate import evaluate
from raison.rationales import Rationale
from raison.records import Annotation, InputError, Record, Span
from raison.studies import multiverse
from raison.studies.multiverse import Plan

PLAN = Plan(
    methods=("gradient", "attention", "random"),
    factors={"reduction": ("sum", "max"), "budget": ("human", "k:2"), "mask": ("mask", "delete")},
    metric="comprehensiveness",
    draws=3,
)


@pytest.fixture(scope="module")
def records(tiny):
    """Records in which somebody marked the first word of each field."""
    return [
        Record(
            row.id,
            row.fields,
            label=row.label,
            annotations=(
                Annotation("a", row.label, {name: (Span(0, len(t.split()[0])),) for name, t in row.fields.items()}),
            ),
        )
        for row in tiny.records()
    ]


def test_each_universe_is_the_evaluation_that_it_says(tmp_path, classifiers, records):
    model = classifiers["bert"]
    found = multiverse.run(lambda _: model, records, PLAN, tmp_path / "universes.jsonl")
    assert len(found.universes) == 8
    assert sum(found.winners.values()) + found.tied + found.withheld == 8
    for universe in found.universes[::3]:
        choices = universe.choices
        said = {
            name: extract(model, records, name, **({"reduction": choices["reduction"]} if name != "random" else {}))
            for name in PLAN.methods
        }
        verdict = evaluate(model, records, said, budget=choices["budget"], mask=choices["mask"], draws=3, resamples=100)
        for name in PLAN.methods:
            assert universe.values[name] == pytest.approx(verdict.cell("comprehensiveness", name).value, abs=1e-6)


def test_an_interrupted_run_goes_on(tmp_path, classifiers, records):
    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    multiverse.run(lambda _: classifiers["bert"], records, PLAN, whole)

    class Stopped(Exception):
        pass

    def stop(done):
        if done == 3:
            raise Stopped

    with pytest.raises(Stopped):
        multiverse.run(lambda _: classifiers["bert"], records, PLAN, cut, progress=stop)
    assert not cut.exists()
    multiverse.run(lambda _: classifiers["bert"], records, PLAN, cut)
    assert cut.read_bytes() == whole.read_bytes()


def test_other_contents_behind_the_same_names_are_something_else(tmp_path, classifiers, records):
    plan, out = Plan(("random",), {"prompt": (str(tmp_path / "task.toml"),)}, "f1", 2), tmp_path / "universes.jsonl"
    wording = 'fields = ["{0}"]\nprompt = "{{{0}}} {1} Answer with one of: {{labels}}."\n'

    def rerun(said, word):
        field = next(iter(records[0].fields))
        (tmp_path / "task.toml").write_text(wording.format(field, word))
        mask = {name: np.full(len(text.split()), said) for name, text in records[0].fields.items()}
        return multiverse.run(
            lambda _: classifiers["bert"],
            records,
            plan,
            out,
            rationales={"asked": [Rationale(records[0].id, "asked", mask)]},
        )

    first = rerun(True, "One?")
    assert rerun(True, "One?") == first
    for said, word in ((False, "One?"), (True, "Two?")):
        with pytest.raises(InputError, match="made from something else"):
            rerun(said, word)


def test_one_method_alone_is_refused(tmp_path, classifiers, records):
    with pytest.raises(InputError, match="nothing competes with gradient"):
        multiverse.run(lambda _: classifiers["bert"], records, Plan(("gradient",), {}), tmp_path / "x")


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        ({"bugdet": ("human",)}, "unknown choice 'bugdet'"),
        ({"budget": ()}, "expected levels"),
        ({"budget": ("human", "human")}, "each of them once"),
        ({"budget": ("k:0",)}, "budget 'k:0'"),
        ({"unit": ("wrod",)}, "option unit"),
    ],
)
def test_impossible_plans_are_refused(tmp_path, classifiers, records, factors, message):
    with pytest.raises(InputError, match=message):
        multiverse.run(lambda _: classifiers["bert"], records, Plan(("gradient",), factors), tmp_path / "x")
    assert not list(tmp_path.iterdir())
