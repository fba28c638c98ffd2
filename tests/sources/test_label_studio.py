"""Label Studio: a project from records, and its export read back, ours or another's."""

import json
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raison.records import Annotation, InputError, Record
from raison.sources import load, scan
from raison.sources.label_studio import write_label_studio

ITEM = Record(
    "a/1",
    {"premise": "It 😀 rains & pours.", "hypothesis": "It's wet."},
    "nli",
    "yes",
    ("yes", "<no>"),
    (Annotation("ann", "yes", None, "secret"),),
    {"note": "secret"},
)


def result(kind, to, **value):
    return {"from_name": "x", "to_name": to, "type": kind, "value": value, "id": "q", "origin": "manual"}


def marked(to, start, end, text):
    return result("labels", to, start=start, end=end, text=text, labels=["reason"])


def done(who, *results, **more):
    return {"id": 3, "completed_by": who, "result": list(results), "was_cancelled": False, "lead_time": 3.5, **more}


def exported(folder, *annotations):
    """Give what Label Studio exports of our tasks when they have these annotations."""
    tasks = json.loads((folder / "tasks.json").read_text())
    work = {"annotations": list(annotations), "predictions": [], "drafts": []}
    return json.dumps([{"id": n, **work, **task} for n, task in enumerate(tasks)], indent=1)


def test_a_project_has_texts_and_questions_and_nothing_that_anybody_said(tmp_path):
    write_label_studio(tmp_path / "project", [ITEM])
    tasks = (tmp_path / "project/tasks.json").read_text()
    assert [task["data"]["premise"] for task in json.loads(tasks)] == [ITEM.fields["premise"]]
    assert "secret" not in tasks
    assert '"label":' not in tasks  # the gold label
    config = ET.fromstring((tmp_path / "project/config.xml").read_text())
    names = {tag.get("name") for tag in config.iter() if tag.get("name")}
    assert names == {"premise", "hypothesis", "marked-premise", "marked-hypothesis", "label", "explanation"}
    assert [tag.get("value") for tag in config.iter("Choice")] == ["yes", "<no>"]
    assert {tag.get("toName") for tag in config.iter() if tag.get("toName")} <= names
    assert "pre-wrap" in config.find("Style").text


def test_what_people_did_comes_back(tmp_path, write):
    write_label_studio(tmp_path / "project", [ITEM])
    both = done(
        7,
        marked("premise", 3, 11, "😀 rains"),  # as JavaScript counts: the emoji has two units
        marked("premise", 12, 13, "&"),
        result("choices", "premise", choices=["yes"]),
        result("textarea", "premise", text=["Because  it", "pours. "]),
    )
    other = done({"id": 9, "email": "who@example.org"}, result("choices", "premise", choices=["<no>", "yes"]))
    skipped = done(8, result("choices", "premise", choices=["yes"]), was_cancelled=True)
    path = write("export.json", exported(tmp_path / "project", both, skipped, other, done(5)))
    (record,) = load(path)
    assert (record.id, record.fields, record.task, record.label_set) == (ITEM.id, ITEM.fields, "nli", ITEM.label_set)
    assert record.annotations == (
        Annotation("7", "yes", {"premise": ((3, 12),), "hypothesis": ()}, "Because it pours."),
        Annotation("9", None, {"premise": (), "hypothesis": ()}, None, {"labels": ["<no>", "yes"]}),
    )
    assert record.label == "yes"
    assert "example.org" not in str(record)


def test_who_was_not_asked_for_marks_has_no_rationale(tmp_path, write):
    write_label_studio(tmp_path / "project", [ITEM], marks=False)
    assert "Labels" not in (tmp_path / "project/config.xml").read_text()
    answered = done(7, result("choices", "premise", choices=["yes"]))
    (record,) = load(write("export.json", exported(tmp_path / "project", answered)))
    assert record.annotations == (Annotation("7", "yes"),)


def test_a_project_of_others_is_read_by_what_its_parts_are(write):
    said = done("me", result("rating", "t", rating=4), result("hypertextlabels", "t", start=0, end=2))
    task = {
        "id": 12,
        "data": {"text": "Cold soup."},
        "annotations": [said, done(None, result("number", "t", number=2.5))],
    }
    (record,) = load(write("export.json", json.dumps([task])))
    assert (record.id, record.fields, record.label_set) == ("12", {"text": "Cold soup."}, ())
    assert record.annotations == (
        Annotation("me", "4", {"text": ((0, 2),)}),
        Annotation(None, "2.5", {"text": ()}),
    )


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ([marked("premise", 3, 9, "else")], "`annotations[0].result[0].value.start`: 'else' does not lie at 3 to 9"),
        ([marked("premise", 3, 999, None)], "`annotations[0].result[0].value.start`: None does not lie at 3 to 999"),
        ([marked("premise", 4, 5, None)], None),  # half an emoji: counted as characters then
        ([marked("premise", "3", 4, "x")], "`annotations[0].result[0].value.start`: expected numbers of characters"),
        ([marked("text", 0, 1, "I")], "`annotations[0].result[0].to_name`: unknown text 'text'"),
        (
            [result("choices", "premise", choices=3)],
            "`annotations[0].result[0].value.choices`: expected a text or a list",
        ),
        ([result("choices", "premise", choices=["maybe"])], "`annotations[0].label`: 'maybe' is not one of yes, <no>"),
        ([result("rating", "premise", rating="4")], "`annotations[0].result[0].value.rating`: expected a number"),
        (["x"], "`annotations[0].result[0]`: expected `object`, got `str`"),
    ],
)
def test_faults_name_line_and_field(tmp_path, write, split_items, results, message):
    write_label_studio(tmp_path / "project", [ITEM])
    good = exported(tmp_path / "project")
    text = f"[\n{good[1:-1].strip()},\n{exported(tmp_path / 'project', done(1, *results))[1:-1].strip()}\n]"
    path = write("export.json", text)
    records, faults = split_items(scan(path, "label-studio"))
    if message is None:
        assert (len(records), faults) == (2, [])
        return
    line = text[: text.index('"id": 0', text.index('"id": 0') + 1)].count("\n")  # of the brace before it
    assert len(records) == 1
    assert [f":{line}: " in fault and message in fault for fault in faults] == [True], faults


@pytest.mark.parametrize("content", ["{}", "[1", "[1]", '[{"data": {}, "annotations": []}]'])
def test_what_is_no_export_is_one_fault(write, split_items, content):
    records, faults = split_items(scan(write("export.json", content), "label-studio"))
    assert (records, len(faults)) == ([], 1)


def test_what_can_not_be_asked_is_refused(tmp_path):
    with pytest.raises(InputError, match="there are no records"):
        write_label_studio(tmp_path / "a", [])
    with pytest.raises(InputError, match="expected at least two labels"):
        write_label_studio(tmp_path / "a", [Record("1", {"text": "x"})])
    with pytest.raises(InputError, match="field 'a b': Label Studio takes"):
        write_label_studio(tmp_path / "a", [Record("1", {"a b": "x"}, label_set=("y", "z"))])
    (tmp_path / "full").mkdir()
    (tmp_path / "full/work.json").write_text("[]")
    with pytest.raises(InputError, match="expected an empty folder"):
        write_label_studio(tmp_path / "full", [ITEM])
    assert not (tmp_path / "a").exists()


@given(st.text(alphabet="ab 😀\U0001f984é", min_size=1), st.data())
def test_any_marks_come_back(tmp_path_factory, text, data):
    folder = tmp_path_factory.mktemp("project")
    text = f"{text}x"
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    write_label_studio(folder / "p", [Record("1", {"text": text}, label_set=("y", "z"))])
    units = [len(text[:at].encode("utf-16-le")) // 2 for at in (start, end)]
    said = done(1, marked("text", *units, text[start:end]), result("choices", "text", choices=["y"]))
    (folder / "export.json").write_text(exported(folder / "p", said))
    (record,) = load(folder / "export.json")
    spans = record.annotations[0].rationale["text"]
    assert [text[s:e] for s, e in spans] == ([text[start:end].strip()] if text[start:end].strip() else [])
