"""What is concluded from comparisons."""

import pytest

from raison.evaluation.results import Cell, Comparison, Verdict
from raison.report.html import render
from raison.report.summary import conclusions, difference, findings
from raison.report.text import number, plain, probability, shown
from raison.report.view import groups


def verdict(values, verdicts, metric="f1", frame=None):
    """Make a verdict of one metric: values by source, verdicts by pair."""
    cells = [
        Cell(metric, s, "all", v, None if v is None else v - 0.05, v and v + 0.05, 50, frame or {}) for s, v in values
    ]
    pairs = [
        Comparison(metric, *pair, 0.1, 0.0, 0.2, 0.01, 0.02, len(verdicts), 50, "t", said)
        for pair, said in verdicts.items()
    ]
    return Verdict(None, cells, pairs, [], None, [], [], {})


OPEN = "not resolved at n = 50"


def test_leader_and_those_not_resolved_from_it():
    found = verdict(
        [("x", 0.5), ("y", 0.6), ("z", 0.1)],
        {("x", "y"): OPEN, ("x", "z"): "a higher", ("y", "z"): "a higher"},
    )
    [finding] = findings(found)
    assert (finding.leader, finding.tied, finding.resolved, finding.family) == ("y", ["x"], 2, 3)
    [conclusion] = conclusions(found)
    assert conclusion.sentence == "y is highest, but not resolved from x."
    best = {row.name: row.cells[0].best for row in groups(found)[0].slices[0].rows}
    assert best == {"x": True, "y": True, "z": False}


def test_where_lower_is_better_the_lowest_leads():
    found = verdict([("x", 0.5), ("y", 0.1)], {("x", "y"): "a higher"}, "aopc_sufficiency")
    assert conclusions(found)[0].sentence == "y is lowest (lower is better), and resolved from every other source."
    assert difference(found.comparisons[0]) == "x higher (worse)"


def test_undefined_comparisons_do_not_count():
    found = verdict(
        [("x", 0.5), ("y", 0.1), ("z", None)],
        {
            ("x", "y"): "a higher",
            ("x", "z"): "undefined: no record has both",
            ("y", "z"): "undefined: no record has both",
        },
    )
    assert conclusions(found)[0].sentence == "x is highest, and resolved from every other source."
    assert conclusions(found)[0].details == ["1 of 1 difference resolved, after Holm’s correction."]


def test_nothing_resolved_names_no_leader():
    assert conclusions(verdict([("x", 0.5), ("y", 0.1)], {("x", "y"): OPEN}))[0].sentence == (
        "No difference between sources is resolved."
    )


def test_withheld_is_said_once_for_each_reason():
    a = verdict([("x", 0.5), ("y", 0.1)], {("x", "y"): "withheld: the model sleeps"}, "flip_rate")
    b = verdict([("x", 0.5), ("y", 0.1)], {("x", "y"): "withheld: the model sleeps"}, "comprehensiveness")
    both = Verdict(None, a.cells + b.cells, a.comparisons + b.comparisons, [], None, [], [], {})
    [conclusion] = conclusions(both)
    assert conclusion.title == "Flip rate, Comprehensiveness"
    assert "<dt>2 metrics</dt>" in render(both)
    assert "<li><bdi>Flip rate</bdi></li><li><bdi>Comprehensiveness</bdi></li>" in render(both)
    assert conclusion.sentence == "No ranking: the model sleeps."


def test_sources_that_reach_chance_are_named():
    found = verdict([("x", 0.5), ("y", 0.1)], {("x", "y"): "a higher"}, frame={"chance": 0.1})
    assert conclusions(found)[0].details[1] == "Not better than chance by the interval: y."


def test_references_that_differ_between_sources_are_a_range():
    cells = [Cell("f1", source, "all", 0.5, 0.4, 0.6, 9, {"chance": mark}) for source, mark in (("x", 0.1), ("y", 0.2))]
    [chance] = groups(Verdict(None, cells, [], [], None, [], [], {}))[0].slices[0].references
    assert chance.cells[0].value == "0.100 to 0.200"
    assert "x 0.100; y 0.200" in chance.cells[0].title


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (float("nan"), "–"), (0.0, "0.000"), (-0.0001, "0.000"), (-0.25, "−0.250"), (12345.6, "12,346")],
)
def test_number(value, text):
    assert number(value) == text


def test_small_probabilities():
    assert [probability(p) for p in (None, 0.0004, 0.04)] == ["–", "< 0.001", "0.040"]


def test_foreign_texts():
    assert plain("a\n b\x1b[31m \u202e") == "a b<U+001B>[31m <U+202E>"
    assert shown("<b>\u202e") == '<bdi>&lt;b&gt;<span class="hidden-character">U+202E</span></bdi>'
    assert shown("x" * 5000).endswith("… (5,000 characters)</bdi>")
