import json

import pytest

from raison.records import Annotation, Record, read_records
from raison.sources import load, scan

CAT = "The cat sat .\nIt slept , then left ."
DOG = "A dog barked ."


def evidence(docid, start, end, text=None):
    return {
        "docid": docid,
        "start_token": start,
        "end_token": end,
        "start_sentence": 0,
        "end_sentence": 1,
        "text": text,
    }


def item(groups, docids=("cat",), **changes):
    row = {"annotation_id": "9", "query": "It left.", "classification": "SUPPORTS", "evidences": groups}
    return {**row, "docids": docids, "query_type": None, **changes}


@pytest.fixture
def eraser(write):
    write("docs/cat", CAT)
    write("docs/dog", DOG + "\n")
    write("secret", "x")
    return lambda *rows: write("val.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


def test_each_group_is_an_annotation_and_neighbours_are_one_span(eraser):
    groups = [
        [evidence("cat", 0, 4, "The cat sat ."), evidence("cat", 4, 5, "It")],
        [evidence("cat", 7, 9, "then left")],
    ]
    (record,) = load(eraser(item(groups)))
    assert record == Record(
        "9",
        {"claim": "It left.", "document": CAT},
        "fact_verification",
        "SUPPORTS",
        ("SUPPORTS", "REFUTES"),
        (
            Annotation("evidence-1", "SUPPORTS", {"document": ((0, 16),)}),
            Annotation("evidence-2", "SUPPORTS", {"document": ((25, 34),)}),
        ),
        {"docids": ["cat"]},
    )


def test_several_documents_follow_each_other(eraser):
    (record,) = load(eraser(item([[evidence("dog", 1, 3, "dog barked")]], ["cat", "dog"])))
    text = record.fields["document"]
    assert text == f"{CAT}\n{DOG}"
    ((start, end),) = record.annotations[0].rationale["document"]
    assert text[start:end] == "dog barked"


def test_other_sets_keep_query_and_labels_and_may_have_no_query_and_no_docids(eraser):
    row = item([[evidence("dog", 0, 2)]], classification="POS", query=None, docids=None)
    (record,) = load(eraser(row))
    assert (record.fields, record.label, record.label_set, record.task) == ({"document": DOG}, "POS", (), "")
    path = eraser({**row, "query": "Good?"})
    assert list(load(path)[0].fields) == ["query", "document"]
    other = load(path, mapping=["query=question", "task=sentiment", f"docs={path.parent / 'docs'}"])[0]
    assert (list(other.fields), other.task) == (["question", "document"], "sentiment")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (item([], classification="MAYBE"), "field `classification`: 'MAYBE' is not one of SUPPORTS, REFUTES"),
        (item([], ["bird"]), "field `docids`: no document 'bird' in"),
        (item([], ["../secret"]), "field `docids`: '../secret' lies outside"),
        (item([[evidence("dog", 0, 1)]]), "field `evidences[0][0]`: document 'dog' is not among `docids`"),
        (
            item([[evidence("cat", 0, 99)]]),
            "field `evidences[0][0]`: tokens [0, 99] do not lie in a document of 10 words",
        ),
        (item([[evidence("cat", 3, 3)]]), "field `evidences[0][0]`: tokens [3, 3] do not lie"),
        (item([[evidence("cat", -1, 3)]]), "field `evidences[0][0]`: tokens [-1, 3] do not lie"),
        (item([[], [evidence("cat", 0, 2, "A cat")]]), "field `evidences[1][0]`: its `text` is not what stands there"),
        (item([[{"docid": "cat"}]]), "field `evidences[0][0]`: object missing required field `start_token`"),
        (item([], annotation_id=7), "field `annotation_id`: expected `str`, got `int`"),
        (item([], annotation_id=""), "field `id`: expected a text that is not empty"),
        ([1], "expected `object`, got `array`"),
    ],
)
def test_faults_name_the_field_and_cost_one_line(eraser, split_items, row, message):
    good = item([])
    path = eraser({**good, "annotation_id": "1"}, row, {**good, "annotation_id": "3"})
    records, faults = split_items(scan(path))
    assert [record.id for record in records] == ["1", "3"]
    assert len(faults) == 1
    assert faults[0].startswith(f"{path}:2: {message}")


def test_fever_as_published(shared):
    wanted = {record.id: record for record in read_records(shared / "data" / "fever_eraser" / "val.jsonl.gz")}
    found = load(shared / "raw" / "eraser_fever" / "val.jsonl")
    assert len(found) == 40
    assert found == [wanted[record.id] for record in found]
