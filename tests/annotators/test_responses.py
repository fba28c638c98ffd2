"""Responses: taken out of records, and written and read again."""

import io

import pytest
from rich.console import Console

from raison.annotators.responses import Response, read_responses, responses_of, texts_of, write_responses
from raison.annotators.roster import roster, roster_cells, roster_table
from raison.records import Annotation, InputError, Record

RECORD = Record(
    "1",
    {"text": "It rains."},
    label_set=("-1", "0", "1"),
    annotations=(
        Annotation("ann", "-1", None, "No no.", {"category": "x"}),
        Annotation("ben", None, {"text": ()}),
        Annotation(None, "1", None, "nobody's"),
        Annotation("ann", "1", None, "no, NO"),
        Annotation("ben", "0"),
        Annotation("explanation:ann", "1", {"text": ()}),
    ),
)


def test_several_responses_of_one_person_are_numbered():
    assert responses_of([RECORD]) == [
        Response("1", "ann", "-1", "No no.", 0, None, {"category": "x"}),
        Response("1", "ann", "1", "no, NO", 1),
        Response("1", "ben", "0", None),
    ]
    assert [one.annotator for one in responses_of([RECORD], without=["ann"])] == ["ben"]
    assert texts_of(responses_of([RECORD])) == ["No no.", "no, NO", ""]


def test_what_is_written_is_read(tmp_path):
    given = [*responses_of([RECORD]), Response("1", "ann", None, None, failure="no label")]
    assert write_responses(tmp_path / "r.jsonl", given) == 4
    assert read_responses(tmp_path / "r.jsonl") == given


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"record_id": "1"}', "1: Object missing required field `annotator`"),
        (
            '{"record_id": 1, "annotator": "a", "label": null, "explanation": null}',
            "1: field `record_id`: Expected `str`",
        ),
        ("{", "1: not valid JSON"),
    ],
)
def test_a_wrong_line_is_told(tmp_path, line, message):
    (tmp_path / "r.jsonl").write_text(f"{line}\n")
    with pytest.raises(InputError) as error:
        read_responses(tmp_path / "r.jsonl")
    assert f"r.jsonl:{message}" in str(error.value)


def test_the_roster_counts_what_each_person_gave():
    ann, ben = roster([RECORD])
    assert ann[:7] == ("ann", 1, 2, 1, 2, 1, 2.0)  # two explanations of two words, the same but for case and marks
    assert (ann.mean, ben.mean, ben.words) == (0.0, 0.0, None)
    cells = {(cell["metric"], cell["source"]): cell["value"] for cell in roster_cells([ann, ben])}
    assert (cells["several_responses", "ann"], cells["label:-1", "ann"], cells["words", "ben"]) == (1, 1, None)
    assert roster([]) == []


def test_the_roster_counts_several_labels_of_one_explanation_and_orders_all_as_the_set_does():
    def said(who, *labels):
        return Annotation(who, labels[0] if len(labels) == 1 else None, None, "So.", {"labels": list(labels)})

    given = {"1": (said("ann", "no", "so"), said("ben", "so")), "2": (said("ann", "so"), said("ben", "yes"))}
    ann, ben = people = roster(
        [Record(name, {"text": "a"}, label_set=("yes", "no", "so"), annotations=said) for name, said in given.items()]
    )
    assert (ann.items, ann.responses, ann.several) == (2, 2, 1)
    assert (ben.items, ben.responses, ben.several) == (2, 2, 0)
    assert list(ann.labels.items()) == [("yes", 0), ("no", 1), ("so", 2)]
    stream = io.StringIO()
    Console(file=stream, width=120).print(roster_table(people))
    assert "yes 0%, no 33%, so 67%" in stream.getvalue()
    assert "yes 50%, no 0%, so 50%" in stream.getvalue()


def test_of_many_labels_the_same_are_shown_of_everybody():
    names = [f"label {letter}" for letter in "abcdef"]
    given = ["label f", "label f", "label e", "label c", "label a", "label b", "label b"]
    notes = [Annotation("ann", name) for name in given] + [Annotation("ben", "label d"), Annotation("cem", None, {})]
    record = Record("1", {"text": "a"}, label_set=tuple(names), annotations=(*notes, Annotation("ben", "label a")))
    stream = io.StringIO()
    Console(file=stream, width=140).print(roster_table(roster([record])))
    assert "label a 14%, label b 29%, label c 14%, label f 29%, ..." in stream.getvalue()
    assert "label a 50%, label b 0%, label c 0%, label f 0%, ..." in stream.getvalue()
