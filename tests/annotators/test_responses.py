"""Responses: taken out of records, and written and read again."""

import pytest

from raison.annotators.responses import Response, read_responses, responses_of, texts_of, write_responses
from raison.annotators.roster import roster, roster_cells
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
