"""VariErr NLI, with LiTEx's categories joined to it."""

import json

import msgspec
import pytest

from raison.records import Annotation, InputError, Record, read_records
from raison.sources import load, scan
from raison.sources.varierr import error_labels


def reason(who, text, judged=None, **more):
    judgments = [{"annotator": name, "makes_sense": sense} for name, sense in (judged or {}).items()]
    return {"annotator": who, "id": "x", "reason": text, "judgments": judgments, "self_corrected": False, **more}


def item(name="1a", **changes):
    row = {
        "id": name,
        "context": "It rains.",
        "statement": "It is wet.",
        "entailment": [reason(2, " Rain  is wet. ", {0: False, 2: True}), reason(0, "Rain wets.", {0: True, 2: None})],
        "neutral": [reason(2, "Perhaps far away.", {2: False}, self_corrected=True)],
        "contradiction": [],
        "idk": [1, 3],
        "error_labels": ["neutral"],
        "chaosnli_labels": {"e": 9, "n": 1},
    }
    return json.dumps({**row, **changes}) + "\n"


def test_one_annotation_for_each_person_and_label_in_the_order_of_people(write):
    (record,) = load(write("varierr.json", item()))
    assert record == Record(
        "1a",
        {"premise": "It rains.", "hypothesis": "It is wet."},
        "nli",
        "entailment",
        ("entailment", "neutral", "contradiction"),
        (
            said("0", "entailment", "Rain wets.", {"0": True}),
            said("2", "entailment", "Rain is wet.", {"0": False, "2": True}),
            said("2", "neutral", "Perhaps far away.", {"2": False}, corrected=True),
        ),
        {"idk": ["1", "3"], "error_labels": ["neutral"], "chaosnli": {"e": 9, "n": 1}},
    )


def said(who, label, text, judgments, corrected=False):
    return Annotation(who, label, None, text, {"judgments": judgments, "self_corrected": corrected})


def test_what_is_empty_is_no_meta_and_people_are_ordered_as_numbers(write):
    neutral = [reason(10, "Ten."), reason(9, "Nine.")]
    (record,) = load(write("varierr.json", item(entailment=[], neutral=neutral, idk=[], error_labels=[])))
    assert [one.annotator for one in record.annotations] == ["9", "10"]
    assert record.meta == {"chaosnli": {"e": 9, "n": 1}}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (item(context=None), "field `context`: expected `str`, got `null`"),
        (item(neutral=[{"annotator": 1}]), "field `neutral[0]`: object missing required field `reason`"),
        (item(neutral=[reason(1.5, "x")]), "field `neutral[0].annotator`: expected `int | str`, got `float`"),
        (item(name=""), "field `id`: expected a text that is not empty"),
        ("[]\n", "expected `object`, got `array`"),
        ("{\n", "not valid JSON"),
    ],
)
def test_faults_name_line_and_field(write, split_items, line, message):
    path = write("varierr.json", item() + line + item("2b"))
    records, faults = split_items(scan(path, "varierr"))
    assert [record.id for record in records] == ["1a", "2b"]
    assert [fault.startswith(f"{path}:2: {message}") for fault in faults] == [True]


def category(explanation, kind="Syntactic", name="1a"):
    row = {"pairID": name, "premise": "It rains.", "hypothesis": "It is wet.", "explanation": explanation}
    return json.dumps({**row, "explanation_category": kind, "note": float("nan")}) + "\n"


def test_categories_are_joined_by_item_and_wording(write):
    path = write("varierr.json", item())
    litex = write("litex.jsonl", category("Rain is  wet.") + category("Of another item.", name="9z"))
    (record,) = load(path, mapping={"categories": str(litex)})
    assert [one.extra.get("category") for one in record.annotations] == [None, "Syntactic", None]


@pytest.mark.parametrize(
    ("rows", "place", "message"),
    [
        (category("Rain is wet.") + category("Nobody's."), ":2", "field `explanation`: nobody gave this explanation"),
        (category("A.") + category(" A.", "Other"), ":2", "field `explanation_category`: another one than in line 1"),
        ("", "", "the file is empty"),
        ("{}\n", ":1", "object missing required field `pairID`"),
    ],
)
def test_categories_that_do_not_fit_are_told(write, rows, place, message):
    path, litex = write("varierr.json", item()), write("litex.jsonl", rows)
    with pytest.raises(InputError) as error:
        load(path, mapping={"categories": str(litex)})
    assert str(error.value).startswith(f"{litex}{place}: {message}")


def test_a_label_is_in_error_if_none_of_its_authors_stands_by_it():
    given = [
        said("0", "entailment", "a", {"0": False, "1": True}),
        said("1", "entailment", "b", {"1": True}),
        said("1", "neutral", "c", {"0": True}),
        said("2", "contradiction", "d", {"2": False}),
    ]
    assert error_labels(given) == ["neutral", "contradiction"]
    assert error_labels(given[:1]) == ["entailment"]
    assert error_labels([]) == []


# ------------------------------------------------------------------------------------------------------- real data


def without_category(record):
    kept = [
        msgspec.structs.replace(one, extra={name: value for name, value in one.extra.items() if name != "category"})
        for one in record.annotations
    ]
    return msgspec.structs.replace(record, annotations=tuple(kept))


def test_the_original_head_gives_the_records_of_the_data_folder(shared, write):
    wanted = {record.id: record for record in read_records(shared / "data/varierr/all.jsonl")}
    path = shared / "raw/varierr/varierr_head.json"
    found = load(path)
    assert len(found) == 60
    assert found == [without_category(wanted[record.id]) for record in found]
    rows = [
        category(f"  {one.explanation}", one.extra["category"], record.id)
        for record in wanted.values()
        for one in record.annotations
        if "category" in one.extra
    ]
    assert len(rows) == 1799
    joined = load(path, mapping={"categories": str(write("litex.jsonl", "".join(rows)))})
    assert joined == [wanted[record.id] for record in found]


def test_error_labels_are_those_of_the_authors(shared):
    records = list(read_records(shared / "data/varierr/all.jsonl"))
    assert [sorted(error_labels(r.annotations)) for r in records] == [
        sorted(r.meta.get("error_labels", [])) for r in records
    ]
