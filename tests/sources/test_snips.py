import json
from collections import defaultdict

import msgspec
import pytest

from raison.records import Annotation, InputError, Record, read_records
from raison.sources import load, scan

RULES = r"""
[by-word.words]
Play = ["play", "song"]
Rate = ["stars"]

[by-slot]
patterns = ['(?P<verb>play|rate) (?:the )?(?P<what>\w+)', 'for (?P<who>me)']
"""


@pytest.fixture
def folder(write):
    def make(texts=("play  the song for me ",), tags=("O O B-item O O ",), labels=("Play",)):
        for name, lines in (("seq.in", texts), ("seq.out", tags), ("label", labels)):
            path = write(f"dev/{name}", "".join(f"{line}\n" for line in lines))
        return path.parent

    return make


def test_without_rules_there_are_texts_labels_and_slots(folder):
    assert load(folder()) == [
        Record(
            "snips-dev-0",
            {"text": "play the song for me"},
            "intent",
            "Play",
            ("Play",),
            (),
            {"slots": [{"field": "text", "start": 9, "end": 13, "slot": "item"}]},
        )
    ]


def test_rules_are_annotators(folder, write):
    (record,) = load(folder(), mapping=[f"rules={write('rules.toml', RULES)}"])
    assert record.label_set == ("Play", "Rate")
    assert record.annotations == (
        Annotation("by-word", "Play", {"text": ((0, 4), (9, 13))}, None, {"sees_label": True}),
        Annotation("by-slot", None, {"text": ((0, 4), (9, 13), (18, 20))}),
    )


def test_slots_also_without_a_beginning(folder):
    (record,) = load(folder(["a b c d e"], ["I-x I-x B-x I-y O"], ["Play"]))
    assert [(slot["slot"], slot["start"], slot["end"]) for slot in record.meta["slots"]] == [
        ("x", 0, 3), ("x", 4, 5), ("y", 6, 7)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ((["a b", "c"], ["O", "O"], ["P", "P"]), "dev/seq.out:1: has 1 tags for 2 words"),
        ((["a", "c"], ["X", "O"], ["P", "P"]), "dev/seq.out:1: expected O, B-slot or I-slot, found 'X'"),
        ((["", "c"], ["O", "O"], ["P", "P"]), "dev/seq.in:1: an empty line"),
        ((["a", "c"], ["O", "O"], ["", "P"]), "dev/label:1: an empty line"),
    ],
)
def test_faults_name_the_file_and_line_and_cost_one_item(folder, split_items, files, message):
    records, faults = split_items(scan(folder(*files)))
    assert [record.id for record in records] == ["snips-dev-1"]
    assert [fault.endswith(message) for fault in faults] == [True]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ((["a", "b"], ["O", "O"], ["P"]), "dev/label:2: the file ends here, seq.in goes on"),
        ((["a"], ["O", "O"], ["P", "P"]), "dev/seq.in:2: the file ends here, seq.out goes on"),
    ],
)
def test_files_of_unequal_length(folder, split_items, files, message):
    records, faults = split_items(scan(folder(*files)))
    assert len(records) == 1
    assert [fault.endswith(message) for fault in faults] == [True]


def test_bytes_that_are_not_utf8(folder, write, split_items):
    path = folder(["a", "b"], ["O", "O"], ["P", "P"])
    write("dev/seq.in", b"caf\xe9\nb\n")
    records, faults = split_items(scan(path))
    assert (len(records), len(faults)) == (1, 1)
    assert faults[0].endswith("dev/seq.in:1: not UTF-8 text")


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ("[a\n", "not valid TOML"),
        ("a = 3\n", "a: expected a table"),
        ("[a]\npatterns = ['x']\n", "has no named group"),
        ("[a]\npatterns = ['(?P<x>x)']\nfields = ['title']\n", "has no field 'title'"),
    ],
)
def test_a_wrong_rule_file_is_an_input_error(folder, write, rules, message):
    path = write("rules.toml", rules)
    with pytest.raises(InputError) as caught:
        load(folder(), mapping=[f"rules={path}"])
    assert message in str(caught.value)


def test_a_missing_rule_file(folder, tmp_path):
    with pytest.raises(InputError, match="no such file"):
        load(folder(), mapping=[f"rules={tmp_path / 'no.toml'}"])


def test_snips_as_published(shared, write):
    """The word lists are found again in the marks they made, so that none of them stands here."""
    folder = shared / "data" / "snips_uimer"
    lists = defaultdict(set)
    for name in ("train.jsonl.gz", "dev.jsonl"):
        for record in read_records(folder / name):
            for start, end in record.annotations[0].rationale["text"]:
                lists[record.label].update(record.fields["text"][start:end].split())
    toml = "[uimer-intent.words]\n" + "".join(
        f"{label} = {json.dumps(sorted(words))}\n" for label, words in lists.items()
    )
    wanted = {record.id: record for record in read_records(folder / "dev.jsonl")}
    found = load(shared / "raw" / "snips" / "dev", mapping=[f"rules={write('rules.toml', toml)}"])
    assert len(found) == 150
    for record in found:
        other = wanted[record.id]
        (made,) = record.annotations  # the second one's patterns are not public domain
        assert msgspec.structs.replace(made, extra={}) == other.annotations[0]
        assert (record.task, record.fields, record.label, record.meta) == (
            other.task, other.fields, other.label, other.meta
        )  # fmt: skip
        assert record.label_set == other.label_set
