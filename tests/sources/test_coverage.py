from collections import Counter

import pytest

from raison.records import Annotation, Record, Span, read_records
from raison.sources.coverage import coverage, coverage_cells
from raison.sources.explained import Agreement
from raison.sources.rules import Rules, apply_rules

TEXT = {"text": "one two three four"}  # words at 0-3, 4-7, 8-13, 14-18


def said(name, *spans):
    return Annotation(name, None, {"text": tuple(Span(*span) for span in spans)})


RECORDS = [
    Record("1", TEXT, label="a", annotations=(said("x", (0, 7)), said("y", (4, 13)))),
    Record("2", TEXT, label="a", annotations=(said("x"), Annotation("y"))),
    Record("3", TEXT, label="b", annotations=(said("x", (0, 3)),)),
    Record("4", TEXT),
]


def rows(found):
    return {
        (it.source, it.label): (it.records, it.asked, it.with_rationale, it.words_marked, it.share_marked)
        for it in found
    }


def test_what_each_annotator_covers_by_label():
    assert rows(coverage(RECORDS)) == {
        ("x", None): (4, 3, 2 / 4, 3 / 2, (2 / 4 + 1 / 4) / 2),  # record 4 was never shown to x: it has no rationale
        ("x", "a"): (2, 2, 1 / 2, 2, 2 / 4),
        ("x", "b"): (1, 1, 1, 1, 1 / 4),
        ("y", None): (4, 1, 1 / 4, 2, 2 / 4),  # asked about record 1 only
        ("y", "a"): (2, 1, 1 / 2, 2, 2 / 4),
        ("y", "b"): (1, 0, 0, None, None),
        ("anyone", None): (4, 3, 2 / 4, 4 / 2, (3 / 4 + 1 / 4) / 2),  # one, two and three in record 1
        ("anyone", "a"): (2, 2, 1 / 2, 3, 3 / 4),
        ("anyone", "b"): (1, 1, 1, 1, 1 / 4),
    }


def test_of_one_annotator_and_of_nobody():
    assert {source for source, _ in rows(coverage(RECORDS, ["y"]))} == {"y"}
    assert rows(coverage(RECORDS[3:])) == {("anyone", None): (1, 0, 0, None, None)}
    nameless = [Record("1", TEXT, annotations=(said(None, (0, 3)), said(None, (4, 7))))]
    assert rows(coverage(nameless)) == {("anyone", None): (1, 1, 1, 2, 2 / 4)}
    assert rows(coverage([])) == {("anyone", None): (0, 0, None, None, None)}


def test_cells_have_the_columns_of_the_house_and_say_how_often_each_rule_found_something():
    rules = {"w": Rules(words={"a": ["two", "six"]}), "p": Rules(patterns=["(?P<x>two|six)"])}
    used = Counter()
    records = [apply_rules(rules, record, used=used) for record in RECORDS[:3]]
    agreement = [Agreement("explanation:x", 2, 0.5, 0.2, 0.4, None)]
    rows = coverage_cells(coverage(records, list(rules)), rules, used, agreement)
    assert {tuple(sorted(row)) for row in rows} == {
        ("frame", "high", "low", "metric", "n", "slice", "source", "value", "verdict")
    }
    found = {(row["metric"], row["source"], row["slice"]): (row["value"], row["n"]) for row in rows}
    assert found["records_found", "w", "a: two"] == (2, None)
    assert found["records_found", "w", "a: six"] == (0, None)
    assert found["records_found", "p", "(?P<x>two|six)"] == (3, None)
    assert found["with_rationale", "w", "all"] == (2 / 3, 3)
    assert found["words_marked", "w", "b"] == (None, 0)
    assert found["agreement", "explanation:x", "all"] == (0.5, 2)
    assert rows[-1]["frame"] == {"chance": 0.2, "select_all": 0.4, "people": None}


def test_the_rules_of_uimer_cover_what_was_measured_of_them(shared):
    found = rows(coverage(list(read_records(shared / "data" / "snips_uimer" / "train.jsonl.gz"))))
    assert found["uimer-intent", None] == (
        13084, 13084, pytest.approx(0.844, abs=5e-4), pytest.approx(1.52, abs=5e-3), pytest.approx(0.192, abs=5e-4)
    )  # fmt: skip
    assert found["uimer-slot", None][2:] == (
        pytest.approx(0.808, abs=5e-4), pytest.approx(2.33, abs=5e-3), pytest.approx(0.264, abs=5e-4)
    )  # fmt: skip
    by_class = {label: row[2] for (source, label), row in found.items() if source == "uimer-intent"}
    lowest = {"GetWeather": 0.66, "SearchCreativeWork": 0.69, "RateBook": 0.97, "PlayMusic": 0.97}
    assert {label: by_class[label] for label in lowest} == pytest.approx(lowest, abs=5e-3)
