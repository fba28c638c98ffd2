"""LiveNLI: several labels with one explanation, and highlights as Python wrote them."""

import csv
import io
import json

import pytest

from raison.records import Annotation, Record, read_records
from raison.sources import load, scan

COLUMNS = ["uid", "premise", "hypothesis", "chaos_dist", "worker_id", "multilabel", "explanation", "highlight_p", "highlight_h", " x"]  # fmt: skip # noqa: E501
GIVEN = {
    "uid": "1n",
    "premise": "The Sultan's Pool stages concerts.",
    "hypothesis": "Most concerts are there.",
    "chaos_dist": "{'e': 3, 'n': 7}",
    "worker_id": "w1",
    "multilabel": "either",
    "explanation": "It does  not say. ",
    "highlight_p": "",
    "highlight_h": "",
    " x": "",
}


def marked(*spans):
    entities = [{"endIndex": end, "startIndex": start, "text": text, "type": "highlight"} for start, end, text in spans]
    return str({"entities": entities, "relationships": []})


PUBLISHED = ["uid", "premise", "hypothesis", "chaos_dist", "mnli_labels", "worker_id", "multilabel", "explanation", "highlight_p", "highlight_h", "dist", "agg_dist", "taxonomy", "within_label_variation"]  # fmt: skip # noqa: E501


def published(header, *rows):
    """Make a file of the columns that its authors have, with more cells behind the header's or a row's."""
    given = [[{**GIVEN, **change}.get(name, "") for name in PUBLISHED] + more for change, *more in rows]
    out = io.StringIO()
    csv.writer(out).writerows([[*PUBLISHED, *header], *given])
    return out.getvalue()


def test_the_header_as_published_has_a_cell_more_than_any_row(write, split_items):
    path = write("livenli.csv", published([" 0-1-2"], ({},), ({"worker_id": "w2", "explanation": "a\nb, c"},)))
    (record,) = load(path)
    assert [(one.annotator, one.explanation) for one in record.annotations] == [
        ("w1", "It does not say."),
        ("w2", "a b, c"),
    ]
    records, faults = split_items(scan(write("livenli.csv", published([" 0-1-2"], ({}, "x"), ({"uid": "2"},)))))
    assert ([record.id for record in records], faults) == (["1n"], [f"{path}:3: expected 15 cells, as in the header, found 14"])  # fmt: skip # noqa: E501
    records, faults = split_items(scan(write("livenli.csv", published(["x", "y"], ({},)))))
    assert (records, faults) == ([], [f"{path}:2: expected 16 cells, as in the header, found 14"])


def table(*changes):
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS)
    writer.writeheader()
    writer.writerows({**GIVEN, **change} for change in changes)
    return out.getvalue()


def test_rows_of_an_item_are_its_annotations(write):
    first = {"highlight_p": marked((4, 17, "Sultan's Pool")), "highlight_h": marked()}
    second = {"worker_id": "w2", "multilabel": "true | either", "explanation": ""}
    (record,) = load(write("livenli.csv", table(first, second)))
    assert record == Record(
        "1n",
        {"premise": GIVEN["premise"], "hypothesis": GIVEN["hypothesis"]},
        "nli",
        "neutral",
        ("entailment", "neutral", "contradiction"),
        (
            Annotation(
                "w1", "neutral", {"premise": ((4, 17),), "hypothesis": ()}, "It does not say.", {"labels": ["neutral"]}
            ),
            Annotation("w2", None, None, None, {"labels": ["entailment", "neutral"]}),
        ),
        {"chaosnli": {"e": 3, "n": 7}},
    )


@pytest.mark.parametrize(
    "cell", [marked((4, 17, "another text")), marked((30, 99, "x")), "{'entities': [{}]}", "no literal (", "[1]"]
)
def test_a_highlight_that_can_not_be_placed_is_no_rationale(write, cell):
    (record,) = load(write("livenli.csv", table({"highlight_p": cell, "highlight_h": marked()})))
    assert record.annotations[0].rationale is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"multilabel": "maybe"}, "field `multilabel`: 'maybe' is not one of true, either, false"),
        ({"premise": ""}, "field `premise`: empty; expected a text"),
        ({"hypothesis": "Else."}, "field `hypothesis`: another text than in the first row of uid '1n'"),
        ({"uid": ""}, "field `uid`: empty; expected a text"),
    ],
)
def test_faults_name_line_and_field(write, split_items, change, message):
    path = write("livenli.csv", table({"uid": "0"}, {}, change, {"uid": "2"}))
    records, faults = split_items(scan(path))
    assert [record.id for record in records][:: len(records) - 1] == ["0", "2"]
    assert [fault.startswith(f"{path}:4: {message}") for fault in faults] == [True]


def test_categories_are_joined(write):
    litex = {"pairID": "1n", "premise": "", "hypothesis": "", "explanation": "It does not say."}
    path = write("litex.jsonl", json.dumps({**litex, "explanation_category": ["Absence of Mention"]}) + "\n")
    (record,) = load(write("livenli.csv", table({})), mapping={"categories": str(path)})
    assert record.annotations[0].extra == {"labels": ["neutral"], "category": ["Absence of Mention"]}


def test_what_litex_says_of_it_comes_back_from_the_original_form(shared, write):
    """Where LiTEx says whose an explanation is, the original form of LiveNLI gives the same."""
    words = {"entailment": "true", "neutral": "either", "contradiction": "false"}
    wanted = list(read_records(shared / "data/litex/livenli.jsonl"))
    rows = [
        {"uid": record.id, **record.fields, "worker_id": one.annotator, "explanation": f" {one.explanation}\n",
         "multilabel": " | ".join(words[label] for label in one.extra["labels"])}
        for record in wanted for one in record.annotations if one.annotator
    ]  # fmt: skip
    found = load(write("livenli.csv", table(*rows)))
    assert [record.fields for record in found] == [record.fields for record in wanted]
    assert sum(len(record.annotations) for record in found) == len(rows) > 1000
    for one, other in zip(found, wanted, strict=True):
        assert [(it.annotator, it.label, it.explanation, it.extra["labels"]) for it in one.annotations] == [
            (it.annotator, it.label, it.explanation, it.extra["labels"]) for it in other.annotations if it.annotator
        ]
