import json

import pytest

from raison.records import Annotation, Fault, InputError, Record
from raison.sources import load, scan

BIO = {
    "text": "She fills teeth .",
    "words": ["She", "fills", "teeth", "."],
    "label": 3,
    "foil": 1,
    "annotations": [[0, 1, 1, 0], [0, 0, 0, 0]],
    "contrastive_annotations": [[0, 0, 1, 0]],
}


def test_a_bio_becomes_a_record_with_its_people(write):
    path = write("bios.jsonl", json.dumps(BIO) + "\n" + json.dumps({**BIO, "label": "nurse", "annotations": None}))
    first, second = load(path)
    assert first == Record(
        "bio-1",
        {"text": "She fills teeth ."},
        "occupation",
        "dentist",
        ("psychologist", "surgeon", "nurse", "dentist", "physician"),
        (Annotation("1", None, {"text": ((4, 15),)}), Annotation("2", None, {"text": ()})),
        {"foil": "surgeon"},
    )
    assert (second.id, second.label, second.annotations) == ("bio-2", "nurse", ())
    (contrastive, _) = load(path, mapping=["question=contrastive"])
    assert contrastive.annotations == (Annotation("1", None, {"text": ((10, 15),)}),)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": 5}, "field `label`: expected one of psychologist"),
        ({"foil": "cook"}, "field `foil`: expected one of"),
        ({"annotations": [[0, 1]]}, r"field `annotations\[0\]`: expected 0 or 1 for each of 4 words"),
        ({"annotations": [[0, 1, 2, 0]]}, "expected 0 or 1"),
        ({"words": ["She", ""]}, "a word is empty"),
        ({"words": "She"}, "field `words`: expected `array`"),
    ],
)
def test_faults_have_a_line_and_a_field(write, change, message):
    path = write("bios.jsonl", json.dumps(BIO) + "\n" + json.dumps({**BIO, **change}))
    record, fault = scan(path)
    assert isinstance(record, Record)
    assert isinstance(fault, Fault)
    assert fault.line == 2
    with pytest.raises(InputError, match=message):
        load(path)


def test_an_unknown_question_is_refused(write):
    with pytest.raises(InputError, match="expected standard or contrastive"):
        load(write("bios.jsonl", json.dumps(BIO)), mapping=["question=why"])
