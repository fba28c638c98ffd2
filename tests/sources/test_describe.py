import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from raison.records import Annotation, InputError, Record, Span, write_records
from raison.sources.describe import cells, describe
from raison.sources.show import record_lines, summary

LABELS = ("no", "yes")


def said(name, label=None, spans=None, explanation=None):
    return Annotation(
        name, label, None if spans is None else {"text": tuple(Span(*span) for span in spans)}, explanation
    )


@pytest.fixture
def path(tmp_path):
    text = {"text": "one two three four"}  # words at 0-3, 4-7, 8-13, 14-18
    records = [
        Record("1", text, "t", "yes", LABELS, (said("a", "yes", [(0, 7)]), said("b", "yes", [(4, 13)], "so"))),
        Record("2", text, "t", "no", LABELS, (said("a", "no", [(0, 3)]), said("b", "yes", []), said("c", "no", []))),
        Record("3", text, "t", None, LABELS, (said("a"), said(None, "no"))),
        Record("4", text, "t", "no", LABELS),
    ]
    write_records(tmp_path / "x.jsonl", records)
    return tmp_path / "x.jsonl"


def test_what_is_in_a_file(path):
    it = describe(path)
    assert (it.records, it.tasks, it.fields, it.label_set) == (4, {"t": 4}, ("text",), LABELS)
    assert (it.labels, it.unlabelled) == ({"no": 2, "yes": 1}, 1)
    assert (it.annotators, it.top_annotators) == (3, {"a": 3, "b": 2, "c": 1})
    assert (it.annotations, it.asked, it.marked, it.explained) == (7, 5, 3, 1)
    assert (it.without_rationale, it.warnings) == (2, ())  # in record 3 nobody was asked, in record 4 nobody was there
    assert it.words_marked == pytest.approx(5 / 3)  # 2, 2 and 1 words
    assert it.share_marked == pytest.approx(5 / 12)  # of 4 each
    # record 1: 2 * 1 / (2 + 2) = 1/2; record 2: a against b and against c 0, b and c both marked nothing: 0
    assert it.agreement == pytest.approx(0.5 / 4)
    assert (it.agreement_pairs, it.agreement_empty) == (4, 0)
    assert it.agreement_by_label == {"no": (0.0, 3), "yes": (0.5, 1)}
    # alpha: values no no yes yes yes; D_o = 1 * 2 / (3 - 1) * 2 / 5 = 2/5, D_e = 2 * 2 * 3 / (5 * 4) = 3/5
    assert it.label_alpha == pytest.approx(1 - (2 / 5) / (3 / 5))
    assert (it.faults, it.fault_count) == ((), 0)


def test_what_nothing_can_be_said_about_is_none(tmp_path):
    write_records(tmp_path / "x.jsonl", [Record("1", {"text": "a"}, annotations=(said("a", "x"), said("b", "x")))])
    it = describe(tmp_path / "x.jsonl")
    assert (it.words_marked, it.share_marked, it.agreement, it.label_alpha) == (None, None, None, None)
    assert it.agreement_by_label == {}


def test_several_labels_of_one_explanation_are_counted_and_shown(tmp_path):
    both = Annotation("ann", None, None, "Either.", {"labels": ["no", "yes"]})
    record = Record("1", {"text": "a"}, label_set=("no", "yes"), annotations=(both, said("ben", "yes")))
    write_records(tmp_path / "x.jsonl", [record])
    found = describe(tmp_path / "x.jsonl")
    assert found.several == 1
    assert {cell["metric"]: cell["value"] for cell in cells(found)}["several_labels"] == 1
    stream = io.StringIO()
    Console(file=stream, width=120).print(summary(found))
    assert "1 of 2 (50%), left out of the agreement of labels" in stream.getvalue()
    assert "│ without a label 1 " in stream.getvalue()
    assert [text.plain.split(" · ")[1] for indent, text in record_lines(record, False) if indent == 4] == [
        "no | yes",
        "yes",
    ]


def test_evidence_groups_do_not_agree_or_disagree(tmp_path):
    groups = (said("evidence-1", "x", [(0, 1)]), said("evidence-2", "x", [(2, 3)]))
    write_records(tmp_path / "x.jsonl", [Record("1", {"text": "a b"}, annotations=groups)])
    it = describe(tmp_path / "x.jsonl")
    assert (it.agreement, it.marked) == (None, 2)


def test_all_faults_are_counted_and_the_first_thousand_kept(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"id": "1", "fields": {"text": "a"}}\n' * 2 + "{broken\n" * 1200)
    it = describe(path)
    assert (it.records, it.fault_count, len(it.faults)) == (1, 1201, 1000)
    assert [fault.line for fault in it.faults[:2]] == [2, 3]


def test_an_empty_file_is_a_fault_and_a_missing_one_an_error(tmp_path):
    (tmp_path / "x.jsonl").touch()
    assert describe(tmp_path / "x.jsonl").fault_count == 1
    with pytest.raises(InputError, match="no such file"):
        describe(tmp_path / "y.jsonl")


def test_cells_have_the_columns_of_every_json_of_the_house(path):
    rows = cells(describe(path))
    assert {tuple(sorted(row)) for row in rows} == {
        ("frame", "high", "low", "metric", "n", "slice", "source", "value", "verdict")
    }
    found = {(row["metric"], row["slice"]): (row["value"], row["n"]) for row in rows}
    assert found["records", "all"] == (4, None)
    assert found["without_rationale", "all"] == (2, None)
    assert found["agreement", "yes"] == (0.5, 1)


@given(st.lists(st.lists(st.sampled_from("xyz"), max_size=4), max_size=6))
def test_alpha_is_that_of_the_krippendorff_package(tmp_path_factory, items):
    krippendorff = pytest.importorskip("krippendorff")
    path = tmp_path_factory.mktemp("alpha") / "x.jsonl"
    write_records(
        path,
        [Record("0", {"text": "a"})]
        + [
            Record(str(number), {"text": "a"}, annotations=tuple(said(None, label) for label in labels))
            for number, labels in enumerate(items, 1)
        ],
    )
    found = describe(path).label_alpha
    pairable = [labels for labels in items if len(labels) > 1]
    if len({label for labels in pairable for label in labels}) < 2:
        assert found is None
    else:
        counts = [[labels.count(label) for label in "xyz"] for labels in pairable]
        assert found == pytest.approx(krippendorff.alpha(value_counts=counts, level_of_measurement="nominal"))


def test_people_on_esnli(shared):
    it = describe(shared / "data" / "esnli" / "test.jsonl.gz")
    assert it.agreement == pytest.approx(0.620, abs=0.005)
    expected = {"neutral": 0.699, "entailment": 0.531, "contradiction": 0.633}
    assert {label: value for label, (value, _) in it.agreement_by_label.items()} == pytest.approx(expected, abs=0.005)
    assert (it.records, it.fault_count, it.asked) == (9824, 0, 29472)


def test_people_on_litex(shared):
    it = describe(shared / "data" / "litex" / "esnli.jsonl")
    assert it.agreement == pytest.approx(0.535, abs=0.005)
