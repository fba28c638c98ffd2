"""Grades of metrics beside the metrics: rows, warnings of those at chance, and what is said without grades."""

import io

import pytest
from rich.console import Console

from pages import Reader
from raison.evaluation.results import Cell, Diagnosis, Grades, Verdict
from raison.evaluation.statistics import Estimate
from raison.report import grade_table, notebook_html, render, table
from raison.report.summary import RULE, conclusions, standing
from raison.report.view import groups


def diagnosis(value, low, high, n=40, ties=0.0):
    return Diagnosis(Estimate(value=value, low=low, high=high, n=n), ties)


GOOD, CHANCE, WORSE = diagnosis(0.9, 0.8, 0.96), diagnosis(0.52, 0.41, 0.63), diagnosis(0.2, 0.1, 0.3)
UNDEFINED = diagnosis(None, None, None, n=0, ties=None)


def grades(random, distractors=None, accuracy=0.975, model="testbed-pair-0"):
    against = {"random_words": random, **({"distractors": distractors} if distractors else {})}
    return Grades(model, 40, accuracy, against, {"data": {"sha256": "abc"}})


def verdict(*metrics):
    """Make a verdict of one source that has these metrics."""
    return Verdict("m", [Cell(name, "x", "all", 0.5, 0.4, 0.6, 40) for name in metrics], [], [], None, [], [], {})


def printed(renderable):
    stream = io.StringIO()
    Console(file=stream, width=100, force_terminal=False).print(renderable)
    return stream.getvalue()


def test_a_metric_at_chance_is_warned_of_and_a_good_one_is_not():
    found = conclusions(verdict("flip_rate", "comprehensiveness").graded(
        grades({"flip_rate": GOOD, "comprehensiveness": CHANCE}, {"flip_rate": GOOD, "comprehensiveness": GOOD})
    ))  # fmt: skip
    assert [(one.title, one.warned) for one in found] == [
        ("Comprehensiveness", True),
        ("The metrics themselves", False),
    ]
    assert found[0].sentence == "No better than chance at telling the true words from random other words."
    assert found[0].details == ["Against random words: D = 0.520 [0.410, 0.630] on 40 records; chance is 0.5."]
    assert found[1].sentence == "1 of 2 metrics of faithfulness are shown to tell true reasons from others."
    [said] = found[1].details
    assert said.startswith("From the testbed: model testbed-pair-0 on 40 records with planted reasons, 98 %")


def test_what_is_worse_than_chance_is_said_of_each_rival():
    worse = conclusions(verdict("log_odds").graded(grades({"log_odds": WORSE}, {"log_odds": GOOD})))
    assert worse[0].sentence == "Worse than chance at telling the true words from random other words."
    found = conclusions(verdict("log_odds").graded(grades({"log_odds": CHANCE}, {"log_odds": WORSE})))
    assert found[0].sentence == (
        "No better than chance at telling the true words from random other words or from words that look like them and "
        "decide nothing."
    )
    assert len(found[0].details) == 2


def test_a_metric_that_was_not_graded_or_has_no_value_there_is_said_to_be_ungraded():
    given = grades({"flip_rate": GOOD, "tau_loo": UNDEFINED, "unheard_of": CHANCE})
    found = conclusions(verdict("f1", "flip_rate", "sufficiency", "tau_loo").graded(given))
    assert [(one.title, one.sentence) for one in found[:-1]] == [
        ("Sufficiency, Leave-one-out τ", "Not graded on the testbed.")
    ]
    assert found[-1].sentence.startswith("1 of 3 metrics")


def test_agreement_with_people_is_not_graded():
    assert conclusions(verdict("f1").graded(grades({"flip_rate": CHANCE}))) == []


@pytest.mark.parametrize(
    ("accuracy", "said"), [(RULE, None), (0.4, "labels only 40 % right"), (None, "It is not known how many")]
)
def test_a_model_that_does_not_follow_the_rule_is_not_trusted_to_grade(accuracy, said):
    last = conclusions(verdict("flip_rate").graded(grades({"flip_rate": GOOD}, accuracy=accuracy)))[-1]
    assert len(last.details) == (1 if said is None else 2)
    assert said is None or said in last.details[1]


def test_standing():
    assert [standing(one) for one in (GOOD, CHANCE, WORSE, UNDEFINED)] == [
        "better than chance", "no better than chance", "worse than chance", "undefined",
    ]  # fmt: skip
    assert standing(diagnosis(0.75, 0.5, 1.0)) == "no better than chance"  # its interval touches one half


def test_every_view_has_the_row_and_the_warning(make):
    found = make(12).graded(grades({"flip_rate": GOOD, "comprehensiveness": CHANCE}))
    [faithful] = [group for group in groups(found) if group.key == "faithfulness"]
    [row] = faithful.grades
    shown = dict(zip((metric.name for metric in faithful.metrics), row.cells, strict=True))
    assert (shown["flip_rate"].value, shown["flip_rate"].interval, shown["flip_rate"].mark) == (
        "0.900", "[0.800, 0.960]", "",
    )  # fmt: skip
    assert (shown["comprehensiveness"].value, shown["comprehensiveness"].mark) == ("0.520", "!")
    assert shown["sufficiency"].value == ""
    html = render(found)
    text = Reader(html).text
    assert (
        Reader(html).row("told from").startswith("told from random words 0.900 [0.800, 0.960] 0.520 ! [0.410, 0.630]")
    )
    top = text.index("No better than chance at telling the true words from random other words.")
    assert top < text.index("Methods", text.index("What can be concluded"))
    assert "Diagnosticity says how well" in text
    assert "grades.data.sha256" in text
    assert "No better than chance" in notebook_html(found)
    lines = printed(table(found))
    assert max(map(len, lines.splitlines())) <= 100
    assert ".520! [.41 .63]" in lines
    assert "! Comprehensiveness: No better than chance" in " ".join(lines.split())


def test_without_grades_nothing_is_said_but_how_to_get_them(make):
    text = Reader(render(make(12))).text
    assert "told from" not in text
    assert "Not graded" not in text
    assert "raison grade finds it out" in text
    assert "raison grade" not in Reader(render(make(12, "people"))).text
    assert "told from" not in printed(table(make(12)))


def test_a_single_source_is_still_said_to_be_compared_with_nothing():
    text = Reader(render(verdict("flip_rate").graded(grades({"flip_rate": CHANCE})))).text
    assert "No better than chance" in text
    assert "One source was judged, so nothing is compared." in text


def test_names_in_grades_are_text():
    hostile = grades({"flip_rate": CHANCE}, model="<script>window.hacked = 1</script>\x1b[31m")
    hostile.against["[bold]<b>x"] = {"flip_rate": CHANCE}
    html = render(verdict("flip_rate").graded(hostile))
    assert "<script>window" not in html
    assert "<b>x" not in html
    assert "\x1b" not in html
    shown = printed(table(verdict("flip_rate").graded(hostile))) + printed(grade_table(hostile))
    assert "\x1b" not in shown
    assert "[bold]<b>x" in shown


def test_the_table_of_grades_says_everything(make):
    shown = printed(grade_table(grades({"flip_rate": GOOD, "sufficiency": UNDEFINED}, {"flip_rate": CHANCE})))
    assert max(map(len, shown.splitlines())) <= 100
    rows = [" ".join(line.split()) for line in shown.splitlines()]
    assert "Flip rate random words 0.900 [0.80, 0.96] 0.00 40 better than chance" in rows
    assert "Flip rate distractors 0.520 [0.41, 0.63] 0.00 40 no better than chance" in rows
    assert "Sufficiency random words – – 0 undefined" in rows
    assert "From the testbed: model testbed-pair-0" in shown
