import json

import pytest

from raison.records import Annotation, Fault, InputError, Record, read_records
from raison.sources import load, scan
from raison.sources.mapping import column_map

CSV = "key,who,words,verdict,why,hint\n"


def read(path, *pairs, **options):
    return list(scan(path, "table", options or list(pairs)))


def test_the_shortest_mapping_makes_plain_records(write):
    path = write("x.csv", "words,verdict\nA man sleeps.,yes\nA dog.,\n")
    assert read(path, "text=words", "label=verdict") == [
        Record("1", {"text": "A man sleeps."}, label="yes"),
        Record("2", {"text": "A dog."}),
    ]


def test_a_full_mapping_from_toml(write):
    path = write("x.csv", CSV + "a,ann,A *tall* man.,yes,so tall,h\na,bob,A tall *man.*,yes,,h\nb,ann,A boy.,no,,i\n")
    toml = write(
        "map.toml",
        """
        id = "key"
        label = "verdict"
        annotator = "who"
        explanation = "why"
        task = "height"
        label_set = ["yes", "no"]
        [fields]
        text = "words"
        [rationale]
        text = "words"
        [extra]
        hint = "hint"
        [meta]
        key = "key"
        """,
    )
    ann = Annotation("ann", "yes", {"text": ((2, 6),)}, "so tall", {"hint": "h"})
    bob = Annotation("bob", "yes", {"text": ((7, 11),)}, None, {"hint": "h"})
    other = Annotation("ann", "no", {"text": ()}, None, {"hint": "i"})
    assert load(path, mapping=toml) == [
        Record("a", {"text": "A tall man."}, "height", "yes", ("yes", "no"), (ann, bob), {"key": "a"}),
        Record("b", {"text": "A boy."}, "height", "no", ("yes", "no"), (other,), {"key": "b"}),
    ]
    assert load(path, mapping=[str(toml), "task=size"])[0].task == "size"


def test_json_lines_with_nested_columns_lists_and_nan(write):
    rows = [
        {"id": 7, "item": {"words": ["A", "man"]}, "flags": [0, 1], "y": 1, "why": float("nan")},
        {"id": 8, "item": {"words": "A boy"}, "flags": None, "y": True, "why": "so"},
    ]
    path = write("x.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    options = ["id=id", "text=item.words", "rationale=flags", "rationale_format=flags", "label=y", "explanation=why"]
    first, second = read(path, *options)
    assert first == Record("7", {"text": "A man"}, label="1", annotations=(Annotation(None, "1", {"text": ((2, 5),)}),))
    assert second.annotations == (Annotation(None, "true", None, "so"),)


def test_two_fields_of_which_one_is_marked_nowhere(write):
    path = write("x.csv", "p,h,mp,mh\nA man.,A boy.,,A *boy.*\nA man.,A boy.,,\n")
    options = ["premise=p", "hypothesis=h", "rationale.premise=mp", "rationale.hypothesis=mh"]
    asked, not_asked = read(path, *options)
    assert asked.annotations[0].rationale == {"premise": (), "hypothesis": ((2, 6),)}
    assert not_asked.annotations[0].rationale is None


def test_the_label_of_an_item_is_golds_or_the_majoritys_or_none_on_a_tie(write):
    path = write("x.csv", "i,t,y,g\n1,a,x,g\n1,a,x,g\n1,a,y,g\n2,b,x,\n2,b,y,\n")
    assert [record.label for record in read(path, "id=i", "text=t", "label=y")] == ["x", None]
    assert [record.label for record in read(path, "id=i", "text=t", "label=y", "gold=g")] == ["g", None]
    assert [len(record.annotations) for record in read(path, "id=i", "text=t", "label=y")] == [3, 2]


def test_rows_of_one_item_that_stand_apart_are_gathered_on_request(write):
    path = write("x.csv", "i,t,w\n1,a,ann\n2,b,ann\n1,a,bob\n")
    mapping = ["id=i", "text=t", "annotator=w"]
    with pytest.raises(InputError, match=r":4: record '1': field `id`: .*; rows of one item must .* `gather=true`"):
        load(path, mapping=mapping)
    records = load(path, mapping=[*mapping, "gather=true"])
    assert [[said.annotator for said in record.annotations] for record in records] == [["ann", "bob"], ["ann"]]


def test_faults_name_line_field_and_column_and_reading_goes_on(write):
    path = write(
        "x.csv",
        CSV
        + "1,a,A *man,yes,,\n"  # mark
        + "2,a,,yes,,\n"  # no text
        + ",a,A man,yes,,\n"  # no id
        + "4,a,A man,maybe,,\n"  # label
        + "5,a,A man,yes\n"  # cells
        + "6,a,nan,yes,,\n"  # NaN
        + "7,a,A man,yes,,\n7,b,A boy,yes,,\n"  # two texts
        + "8,a,A man,no,,\n",
    )
    mapping = ["id=key", "annotator=who", "text=words", "rationale=words", "label=verdict", "label_set=yes,no"]
    items = list(scan(path, mapping=mapping))
    assert [str(item)[len(str(path)) :] for item in items if isinstance(item, Fault)] == [
        ":2: field `text`: column 'words': unbalanced mark: '*' is opened and not closed",
        ":3: field `text`: column 'words' is empty; expected a text",
        ":4: field `id`: column 'key' is empty; expected a text",
        ":5: field `label`: 'maybe' is not one of yes, no",
        ":6: expected 6 cells, as in the header, found 4",
        ":7: field `text`: column 'words' is empty; expected a text",
        ":9: field `text`: another text than in line 8, which has the same id '7'",
    ]
    assert [item.id for item in items if isinstance(item, Record)] == ["7", "8"]


def test_rows_without_ids_are_numbered_also_past_faults(write):
    items = read(write("x.csv", "t,u\na,\n,x\nb,\n"), "text=t")
    assert [item.id for item in items if isinstance(item, Record)] == ["1", "3"]


def test_a_missing_column_is_answered_with_the_nearest(write):
    (fault,) = read(write("x.csv", "sentence,y\na,b\n"), "text=sentense")
    assert "unknown column 'sentense'; did you mean 'sentence'?" in str(fault)
    (fault,) = read(write("x.jsonl", '{"sentence": "a"}\n'), "text=sentense")
    assert ":1: field `text`: unknown column 'sentense'; did you mean 'sentence'?" in str(fault)


def test_json_that_is_no_table(write):
    assert "a JSON array; expected one" in str(read(write("x.json", '[{"t": "a"}]'), "text=t")[0])
    items = read(write("x.jsonl", '{"t": "a"}\n[1]\n{"t": {"u": 1}}\n{"t": '), "text=t")
    assert [str(item).rpartition("x.jsonl")[2] for item in items if isinstance(item, Fault)] == [
        ":2: expected a JSON object, found list",
        ":3: field `text`: column 't': expected a text, found dict",
        ":4: not valid JSON: input data was truncated",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "name at least one field"),
        ({"lable": "y", "text": "t"}, "unknown option `lable`; did you mean `label`"),
        ({"text": "t", "rationale": {"txt": "r"}}, "unknown field 'txt'; did you mean 'text'"),
        ({"a": "x", "b": "y", "rationale": "r"}, "`rationale`: say of which field it is"),
        ({"text": "t", "rationale_format": "offset"}, "unknown format 'offset'; did you mean 'offsets'"),
        ({"text": "t", "marks": ["*"]}, "mapping: field `marks`: expected `array` of length 2, got 1"),
        ({"text": "t", "marks": ["", "*"]}, "`marks`: expected what stands before and after"),
        ({"text": "t", "gather": "maybe"}, "mapping: field `gather`: expected `bool`"),
        ({"text": 3}, "mapping: field `fields[...]`: expected `str`, got `int`"),
        ({"text": "t", "extra": {"label": "x"}}, "`extra.label`: an annotation has a field of this name"),
        ({"fields": 3}, "mapping: field `fields`"),
        ({"text": "t", "rationale": 3}, "mapping: field `rationale`"),
    ],
)
def test_a_wrong_mapping_is_an_input_error(options, message):
    with pytest.raises(InputError) as caught:
        column_map(options)
    assert message in str(caught.value)


def test_marks_on_the_command_line():
    assert column_map({"text": "t", "marks": "<b> </b>"}).marks == ("<b>", "</b>")
    assert column_map({"text": "t", "marks": "_"}).marks == ("_", "_")


def test_litex_as_published(shared):
    path = shared / "raw" / "litex" / "annotations_esnli_head.jsonl"
    mapping = {
        "id": "pairID", "premise": "premise", "hypothesis": "hypothesis", "label": "gold_label",
        "explanation": "explanation", "task": "nli", "label_set": "entailment,neutral,contradiction",
        "rationale": {"premise": "Sentence1_Highlighted", "hypothesis": "Sentence2_Highlighted"},
        "rationale_format": "indices", "extra": {"category": "explanation_category"},
    }  # fmt: skip
    found = load(path, "table", mapping)
    wanted = {record.id: record for record in read_records(shared / "data" / "litex" / "esnli.jsonl")}
    assert len(found) == 20

    def without_names(record):  # whose they are was found by comparing with e-SNLI
        said = [(a.label, a.rationale, " ".join(a.explanation.split()), a.extra) for a in record.annotations]
        return record.id, record.task, record.fields, record.label, record.label_set, said, record.meta

    assert [without_names(record) for record in found] == [without_names(wanted[record.id]) for record in found]
