"""LeWiDi: Paraphrase, the re-release of VariErr, and sets without explanations."""

import json

import pytest

from raison.records import Annotation, InputError, Record, read_records
from raison.sources import load, scan
from raison.sources.lewidi import read_annotators


def entry(annotations, explanations=(), people=None, *, task="paraphrase detection", text=None, soft=None):
    return {
        "annotation task": task,
        "text": text or {"Question1": "Who?", "Question2": "Which one?"},
        "annotators": ",".join(annotations) if people is None else people,
        "annotations": annotations,
        "soft_label": soft or {},
        "split": "dev",
        "lang": "en",
        "other_info": {"explanations": list(explanations)} if explanations else {},
    }


def nli(annotations, explanations, people):
    text = {"context": "It rains.", "statement": "It is wet."}
    return entry(annotations, explanations, people, task="natural language inference", text=text)


def test_ratings_and_explanations_of_each_person(write):
    path = write("dev.json", json.dumps({"7": entry({"Ann1": "-4", "Ann2": "3"}, ["a  b ", ""])}, indent=4))
    (record,) = load(path)
    assert record == Record(
        "7",
        {"question_1": "Who?", "question_2": "Which one?"},
        "paraphrase",
        None,
        tuple(str(n) for n in range(-5, 6)),
        (Annotation("Ann1", "-4", None, "a b"), Annotation("Ann2", "3")),
    )


def test_explanations_follow_the_repeated_names_not_the_cells(write):
    given = {"Ann1": "neutral", "Ann2": "contradiction,entailment", "Ann3": "entailment"}
    content = {"1": nli(given, ["no idea", "opposite", "same", "follows"], "Ann1,Ann2,Ann2,Ann3")}
    (record,) = load(write("dev.json", json.dumps(content)))
    assert list(record.fields) == ["premise", "hypothesis"]
    assert [(one.annotator, one.label, one.explanation) for one in record.annotations] == [
        ("Ann1", "neutral", "no idea"),
        ("Ann2", "contradiction", "opposite"),
        ("Ann2", "entailment", "same"),
        ("Ann3", "entailment", "follows"),
    ]
    assert record.label == "entailment"


def test_where_labels_and_explanations_differ_in_number_nothing_is_guessed(write):
    content = {
        "1": nli({"Ann1": "entailment,neutral"}, ["both"], "Ann1"),
        "2": nli({"Ann1": "neutral"}, ["one", "two"], "Ann1,Ann1"),
        "3": nli({"Ann1": "neutral", "Ann2": None}, [], ""),
    }
    first, second, third = load(write("dev.json", json.dumps(content)))
    assert first.annotations == (Annotation("Ann1", None, None, "both", {"labels": ["entailment", "neutral"]}),)
    assert [(one.label, one.explanation) for one in second.annotations] == [("neutral", "one"), ("neutral", "two")]
    assert third.annotations == (Annotation("Ann1", "neutral"),)


def test_other_sets_have_the_labels_of_the_file_in_order(write):
    text = {"post": "Great.", "reply": "Really."}
    content = {
        "1": entry({"Ann1": "1"}, task="irony detection", text=text, soft={"0.0": 0.0, "1.0": 1.0}),
        "2": entry({"Ann1": 0.0}, task="irony detection", text=text),
    }
    first, second = load(write("dev.json", json.dumps(content)))
    assert (first.task, first.label_set, first.label, second.label) == ("irony", ("0", "1"), "1", "0")
    assert list(first.fields) == ["post", "reply"]


META = """{
    "Ann1": {"Gender": "Male, or so,}", "Age": "26",},
    "Ann2": {"Age": 30, "Education": null,},
}"""


def test_the_annotators_file_has_trailing_commas(write):
    meta = write("meta.json", META)
    about = {"Ann1": {"Gender": "Male, or so,}", "Age": "26"}, "Ann2": {"Age": "30"}}
    assert read_annotators(meta) == about
    path = write("dev.json", json.dumps({"7": entry({"Ann2": "1", "Ann9": "2"})}))
    (record,) = load(path, mapping={"annotators": str(meta)})
    assert [one.extra for one in record.annotations] == [{"about": {"Age": "30"}}, {}]


@pytest.mark.parametrize("content", ["[1]", "{", '{"Ann1": 3}', ""])
def test_a_wrong_annotators_file_is_one_line(write, content):
    meta = write("meta.json", content)
    with pytest.raises(InputError, match=r"meta\.json: expected one JSON object from annotator to answers"):
        read_annotators(meta)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (entry({"Ann1": "7"}), "field `annotations[0].label`: '7' is not one of -5"),
        (entry({"Ann1": "1"}, ["a", "b"]), "field `other_info.explanations`: 2 texts for 1 names in `annotators`"),
        (entry({"Ann1": "1"}, ["a"], "Ann9"), "field `annotators`: 'Ann9' has no label in `annotations`"),
        (entry({"Ann1": ["1"]}), "field `annotations[...]`: expected `int | float | str | null`, got `array`"),
        ({"text": {}}, "object missing required field `annotation task`"),
        (3, "expected `object`, got `int`"),
    ],
)
def test_faults_name_line_item_and_field(write, split_items, bad, message):
    content = json.dumps({"a": entry({"Ann1": "1"}), "b": bad, "c": entry({"Ann1": "2"})}, indent=1)
    path = write("dev.json", content)
    records, faults = split_items(scan(path, "lewidi"))
    assert [record.id for record in records] == ["a", "c"]
    line = content[: content.index('"b":')].count("\n") + 1
    assert [fault.startswith(f"{path}:{line}: item 'b': {message}") for fault in faults] == [True], faults


@pytest.mark.parametrize("content", ["[1]", '{"a": ', "{}x", "\xff"])
def test_what_is_no_object_of_items_is_one_fault(write, split_items, content):
    records, faults = split_items(scan(write("dev.json", content.encode("latin-1")), "lewidi"))
    assert (records, len(faults)) == ([], 1)
    assert "expected one JSON object from item to its annotations" in faults[0]


def test_the_original_dev_set_gives_the_records_of_the_data_folder(shared):
    folder = shared / "raw/lewidi_par"
    wanted = list(read_records(shared / "data/lewidi_par/dev.jsonl"))
    assert load(folder / "Paraphrase_dev.json") == wanted
    about = read_annotators(folder / "Paraphrase_annotators_meta.json")
    assert list(about) == ["Ann1", "Ann2", "Ann3", "Ann4"]
    assert all(set(one) == {"Gender", "Age", "Nationality", "Education"} for one in about.values())
