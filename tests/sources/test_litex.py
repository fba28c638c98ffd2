"""LiTEx: e-SNLI part with highlights, LiveNLI part with several labels."""

import json

import pytest

from raison.records import Annotation, InputError, Record, read_records, write_records
from raison.sources import load, scan


def row(explanation, name="1", **more):
    known = {"pairID": name, "premise": "A man sleeps.", "hypothesis": "He is awake.", "explanation": explanation}
    return json.dumps({**known, "explanation_category": "Logic Conflict", "note": float("nan"), **more}) + "\n"


def esnli(explanation, first="{}", second="1,2", label="contradiction", **more):
    return row(explanation, Sentence1_Highlighted=first, Sentence2_Highlighted=second, gold_label=label, **more)


def test_the_rows_of_an_item_are_its_annotations_wherever_they_stand(write):
    content = esnli("He  sleeps.", "2") + esnli("Else.", name="2") + esnli("Not awake.", second="{}")
    first, second = load(write("litex.jsonl", content))
    assert first == Record(
        "1",
        {"premise": "A man sleeps.", "hypothesis": "He is awake."},
        "nli",
        "contradiction",
        ("entailment", "neutral", "contradiction"),
        (said("He sleeps.", ((6, 13),), ((3, 12),)), said("Not awake.", (), ())),
    )
    assert (second.id, len(second.annotations)) == ("2", 1)


def said(text, premise, hypothesis):
    marked = {"premise": premise, "hypothesis": hypothesis}
    return Annotation(None, "contradiction", marked, text, {"category": "Logic Conflict"})


def test_several_labels_of_one_person_are_kept_and_none_is_the_label(write):
    content = row("x", gold_label="true | either") + row("y", gold_label="false", explanation_category=["A", "B"])
    (record,) = load(write("litex.jsonl", content))
    assert [(one.label, one.extra["labels"], one.rationale) for one in record.annotations] == [
        (None, ["entailment", "neutral"], None),
        ("contradiction", ["contradiction"], None),
    ]
    assert record.annotations[1].extra["category"] == ["A", "B"]
    assert record.label == "contradiction"


def test_categories_of_other_data_are_refused(write, split_items):
    item = {"id": "9", "context": "p", "statement": "h", "neutral": [{"annotator": 0, "reason": "So."}],
            "entailment": [], "contradiction": []}  # fmt: skip
    live = "uid,premise,hypothesis,worker_id,multilabel,explanation\n9,p,h,w1,either,So.\n"
    for name, content in {"varierr.json": json.dumps(item) + "\n", "livenli.csv": live}.items():
        joined = {"categories": str(write("litex.jsonl", row("So.")))}
        records, faults = split_items(scan(write(name, content), mapping=joined))
        assert [record.id for record in records] == ["9"]
        assert faults == [f"{joined['categories']}: none of its items is in the data; is it the same data set?"]
        joined["categories"] = str(write("litex.jsonl", row("So.") + row("So.", "9")))
        assert load(write(name, content), mapping=joined)[0].annotations[0].extra["category"]


def test_whose_it_is_comes_from_other_data(write, tmp_path):
    people = [
        Annotation("ann", None, None, "He sleeps."),
        Annotation("ben", None, None, "Same."),
        Annotation("cem", None, None, "Same."),
    ]
    write_records(tmp_path / "people.jsonl", [Record("1", {"text": "x"}, annotations=tuple(people))])
    path = write("litex.jsonl", row(" He  sleeps. ") + row("Same.") + row("Nobody's."))
    (record,) = load(path, mapping={"annotators": str(tmp_path / "people.jsonl")})
    assert [one.annotator for one in record.annotations] == ["ann", None, None]
    with pytest.raises(InputError, match="no such file"):
        load(path, mapping={"annotators": str(tmp_path / "nowhere.jsonl")})


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (esnli("x", second="3"), "field `Sentence2_Highlighted`: word 3 of 3, counted from 0"),
        (row("x", gold_label="maybe"), "field `gold_label`: 'maybe' is not one of true, either, false"),
        (row("x", premise="Another."), "field `premise`: another text than in the first row of pairID '1'"),
        (row("x", explanation_category=3), "field `explanation_category`: expected `str | array`, got `int`"),
    ],
)
def test_faults_name_line_and_field(write, split_items, bad, message):
    path = write("litex.jsonl", row("fine", "0") + row("first") + bad + row("also fine", "2"))
    records, faults = split_items(scan(path))
    assert [record.id for record in records] == (["0", "1", "2"] if "category" in message else ["0", "2"])
    assert [fault.startswith(f"{path}:3: {message}") for fault in faults] == [True]


def test_the_original_head_gives_the_records_of_the_data_folder(shared):
    wanted = {record.id: record for record in read_records(shared / "data/litex/esnli.jsonl")}
    people = shared / "data/esnli/test.jsonl.gz"
    found = load(shared / "raw/litex/annotations_esnli_head.jsonl", mapping={"annotators": str(people)})
    assert len(found) == 20
    assert found == [wanted[record.id] for record in found]
