import json

import pytest

from raison.records import Annotation, InputError, Record, read_records
from raison.sources import load, scan
from raison.words import whitespace_words, words_in_spans

LABELS = ("hatespeech", "normal", "offensive")


def post(labels, rationales, tokens=("you", "<user>", "fool")):
    annotators = [{"label": label, "annotator_id": n, "target": ["None"]} for n, label in enumerate(labels, 1)]
    return {"post_id": "p", "annotators": annotators, "rationales": rationales, "post_tokens": list(tokens)}


def said(name, label, rationale=None):
    return Annotation(name, label, rationale, None, {"targets": ["None"]})


def test_rationales_go_to_the_toxic_annotators_where_they_are_as_many(write):
    path = write("dataset.json", json.dumps({"p": post(["offensive", "normal", "hatespeech"], [[0, 0, 1], [1, 1, 0]])}))
    (record,) = load(path)
    assert record == Record(
        "p",
        {"text": "you <user> fool"},
        "hate_speech",
        None,  # a tie
        LABELS,
        (
            said("1", "offensive", {"text": ((11, 15),)}),
            said("2", "normal"),
            said("3", "hatespeech", {"text": ((0, 10),)}),
        ),
    )


def test_else_they_are_nobodys(write):
    path = write("dataset.json", json.dumps({"p": post(["offensive", "offensive", "normal"], [[0, 0, 1]])}))
    (record,) = load(path)
    assert record.label == "offensive"
    assert record.annotations[:3] == (said("1", "offensive"), said("2", "offensive"), said("3", "normal"))
    assert record.annotations[3:] == (Annotation(rationale={"text": ((11, 15),)}),)


def test_a_split_is_read_in_its_order(write):
    path = write("dataset.json", json.dumps({name: post(["normal"], []) for name in "abc"}))
    write("post_id_divisions.json", json.dumps({"val": ["c", "a"], "test": ["z"]}))
    assert [record.id for record in load(path, mapping=["split=val"])] == ["c", "a"]
    with pytest.raises(InputError, match="unknown split 'vaal'; did you mean 'val'"):
        load(path, mapping=["split=vaal"])
    with pytest.raises(InputError, match="post 'z' is not in"):
        load(path, mapping=["split=test"])


@pytest.mark.parametrize("content", [None, "{", "[]", '{"val": 3}'])
def test_a_split_needs_its_file(write, content):
    path = write("dataset.json", json.dumps({"a": post(["normal"], [])}))
    if content is not None:
        write("post_id_divisions.json", content)
    with pytest.raises(InputError, match=r"post_id_divisions\.json: (no such file|expected one JSON object)"):
        load(path, mapping=["split=val"])


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (post(["hateful"], []), "field `label`: 'hateful' is not one of"),
        (post(["offensive"], [[0, 1]]), "field `rationales[0]`: has 2 flags for 3 words"),
        (post(["offensive"], [[0, 1, 2]]), "field `rationales[0]`: expected 0 or 1 for each word, found 2"),
        (post(["offensive"], [[0, 1, 1]], ["a", "", "b"]), "field `post_tokens`: a token is empty or has whitespace"),
        ({"annotators": [], "post_tokens": ["a", 3]}, "field `post_tokens[1]`: expected `str`, got `int`"),
        ({"annotators": []}, "object missing required field `post_tokens`"),
        (17, "expected `object`, got `int`"),
    ],
)
def test_faults_name_line_post_and_field(write, split_items, bad, message):
    content = json.dumps({"a": post(["normal"], []), "b": bad, "c": post(["normal"], [])}, indent=1)
    path = write("dataset.json", content)
    records, faults = split_items(scan(path, "hatexplain"))
    assert [record.id for record in records] == ["a", "c"]
    line = content[: content.index('"b":')].count("\n") + 1
    assert [fault.startswith(f"{path}:{line}: post 'b': {message}") for fault in faults] == [True]


@pytest.mark.parametrize("content", ["[1]", '{"a": ', "{}x", "\xff"])
def test_what_is_no_object_of_posts_is_one_fault(write, split_items, content):
    records, faults = split_items(scan(write("dataset.json", content.encode("latin-1")), "hatexplain"))
    assert (records, len(faults)) == ([], 1)
    assert "expected one JSON object from post id to post" in faults[0]


def test_the_published_form_is_guessed_in_one_line_and_in_many(write):
    posts = {"a": post(["normal"], [])}
    for indent in (None, 2):
        assert load(write("dataset.json", json.dumps(posts, indent=indent)))[0].id == "a"


def test_the_records_of_the_data_folder_come_back_from_the_original_form(shared, write):
    wanted = list(read_records(shared / "data" / "hatexplain" / "val.jsonl"))
    path = write("dataset.json", json.dumps({record.id: _original(record) for record in wanted}))
    assert load(path) == wanted


def _original(record):
    """Write a record as HateXplain's authors do."""
    words = whitespace_words(record.fields["text"])
    marked = [said.rationale["text"] for said in record.annotations if said.rationale is not None]
    annotators = [
        {
            "label": said.label,
            "annotator_id": int(said.annotator),
            **({"target": said.extra["targets"]} if said.extra else {}),
        }
        for said in record.annotations
        if said.annotator is not None
    ]
    return {
        "post_id": record.id,
        "annotators": annotators,
        "rationales": [words_in_spans(words, spans).astype(int).tolist() for spans in marked],
        "post_tokens": record.fields["text"].split(" "),
    }
