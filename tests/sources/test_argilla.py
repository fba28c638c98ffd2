"""Argilla: a dataset from records, and what it writes read back."""

import json

import pytest

from raison.records import Annotation, InputError, Record
from raison.sources import load, scan
from raison.sources.argilla import write_argilla

ITEM = Record("a/1", {"premise": "It rains.", "hypothesis": "It is wet."}, "nli", "yes", ("yes", "no", "?"), (Annotation("ann", "yes", None, "secret"),))  # fmt: skip # noqa: E501


OUTSIDE = {"start": 3, "end": 99}


def answer(who, value, **more):
    return {"value": value, "user_id": who, **more}


def annotated(folder, **responses):
    """Put answers into a dataset as `dataset.to_disk` writes them."""
    rows = json.loads((folder / "records.json").read_text())
    rows[0]["responses"] = {name.replace("marked_", "marked-"): answers for name, answers in responses.items()}
    (folder / "records.json").write_text(json.dumps([{**row, "_server_id": "17"} for row in rows]))
    return folder


def test_a_dataset_has_texts_and_questions_and_nothing_that_anybody_said(tmp_path):
    write_argilla(tmp_path / "asked", [ITEM], people=4)
    settings = json.loads((tmp_path / "asked/.argilla/settings.json").read_text())
    dataset = json.loads((tmp_path / "asked/.argilla/dataset.json").read_text())
    assert [field["name"] for field in settings["fields"]] == ["premise", "hypothesis"]
    kinds = [(one["name"], one["settings"]["type"], one["settings"].get("field")) for one in settings["questions"]]
    assert kinds == [
        ("marked-premise", "span", "premise"),
        ("marked-hypothesis", "span", "hypothesis"),
        ("label", "label_selection", None),
        ("explanation", "text", None),
    ]
    assert [option["value"] for option in settings["questions"][2]["settings"]["options"]] == ["yes", "no", "?"]
    assert dataset["distribution"] == settings["distribution"] == {"strategy": "overlap", "min_submitted": 4}
    assert dataset["name"] == "asked"
    rows = (tmp_path / "asked/records.json").read_text()
    assert "secret" not in rows
    assert json.loads(rows)[0]["responses"] == {}


def test_what_people_did_comes_back(tmp_path):
    write_argilla(tmp_path / "asked", [ITEM], people=2)
    folder = annotated(
        tmp_path / "asked",
        label=[answer("u1", "yes"), answer("u2", "no"), answer("u3", None), answer("u4", "no", status="draft")],
        explanation=[answer("u1", " It  pours. "), answer("u3", None)],
        marked_premise=[answer("u1", [{"start": 3, "end": 8, "label": "reason"}])],
    )
    (record,) = load(folder)
    assert (record.id, record.task, record.label, record.label_set) == ("a/1", "nli", None, ("yes", "no", "?"))
    assert record.annotations == (
        Annotation("u1", "yes", {"premise": ((3, 8),), "hypothesis": ()}, "It pours."),
        Annotation("u2", "no", {"premise": (), "hypothesis": ()}),
    )
    (alone,) = load(folder / "records.json")  # without settings: by the names of the questions
    assert alone.label_set == ()
    assert [(one.label, one.explanation) for one in alone.annotations] == [("yes", "It pours."), ("no", None)]
    assert alone.annotations[0].rationale == {"premise": ((3, 8),), "hypothesis": ()}


def test_a_dataset_of_others_is_read_by_its_settings(tmp_path, write):
    questions = [
        {"name": "why", "settings": {"type": "text"}},
        {"name": "topics", "settings": {"type": "multi_label_selection", "options": [{"value": "a"}, {"value": "b"}]}},
    ]
    write("other/.argilla/settings.json", json.dumps({"questions": questions, "fields": []}))
    said = {"topics": [answer("u", ["a", "b"]), answer("None", ["b"])], "why": [answer("u", "Both.")]}
    row = {"id": "1", "fields": {"text": "x"}, "responses": said, "suggestions": {}, "metadata": {"task": 3}}
    write("other/records.json", json.dumps([row]))
    (record,) = load(tmp_path / "other")
    assert record.annotations == (
        Annotation("u", None, None, "Both.", {"labels": ["a", "b"]}),
        Annotation(None, "b"),
    )


@pytest.mark.parametrize(
    ("responses", "message"),
    [
        ({"label": [answer("u", "maybe")]}, "record 'a/1': field `annotations[0].label`: 'maybe' is not one of"),
        ({"explanation": [answer("u", 3)]}, "record 'a/1': field `responses.explanation`: expected a text"),
        ({"marked_premise": [answer("u", "x")]}, "record 'a/1': field `responses.marked-premise`: expected a list"),
        ({"marked_premise": [answer("u", [OUTSIDE])]}, "record 'a/1': field `responses.marked-premise`: span [3, 99]"),
        ({"marked_premise": [answer("u", ["x"])]}, "record 'a/1': field `responses.marked-premise`: span [None, None]"),
        ({"label": 3}, "field `responses[...]`: expected `array`, got `int`"),
    ],
)  # fmt: skip
def test_faults_name_line_and_field(tmp_path, split_items, responses, message):
    write_argilla(tmp_path / "asked", [ITEM, Record("2", ITEM.fields, label_set=ITEM.label_set)], people=1)
    folder = annotated(tmp_path / "asked", **responses)
    records, faults = split_items(scan(folder))
    assert [record.id for record in records] == ["2"]
    assert [fault.startswith(f"{folder / 'records.json'}:1: {message}") for fault in faults] == [True], faults


@pytest.mark.parametrize("content", [None, "{", '{"questions": [{}]}'])
def test_a_folder_needs_its_settings(write, tmp_path, content):
    write("asked/records.json", "[]")
    (tmp_path / "asked/.argilla").mkdir()
    if content is not None:
        write("asked/.argilla/settings.json", content)
    with pytest.raises(InputError, match=r"settings\.json: "):
        load(tmp_path / "asked")


def test_a_name_that_argilla_can_not_have_is_refused(tmp_path):
    with pytest.raises(InputError, match="field 'Text': Argilla takes lower-case letters"):
        write_argilla(tmp_path / "asked", [Record("1", {"Text": "x"}, label_set=("y", "z"))], people=1)
    assert not (tmp_path / "asked").exists()
