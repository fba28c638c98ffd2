import gzip
import json
import runpy
import string
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raison.records import (
    Annotation,
    Fault,
    InputError,
    Record,
    Span,
    distinct,
    from_record,
    open_lines,
    problems,
    read_jsonl,
    read_records,
    scan_jsonl,
    to_record,
    write_json,
    write_jsonl,
    write_records,
)
from raison.sources import load, scan
from raison.sources.describe import describe

_BROKEN = runpy.run_path(str(Path(__file__).with_name("broken_files.py")))
CASES, broken_files = _BROKEN["CASES"], _BROKEN["broken_files"]

settings.register_profile("unhurried", deadline=None)  # a busy machine is no failure
settings.load_profile("unhurried")

TEXT = st.text(min_size=1, max_size=30)


@st.composite
def spans(draw, text):
    cuts = sorted(draw(st.sets(st.integers(0, len(text)), max_size=6)))
    return tuple(Span(start, end) for start, end in zip(cuts[::2], cuts[1::2], strict=False))


@st.composite
def records(draw):
    fields = draw(st.dictionaries(TEXT, TEXT, min_size=1, max_size=3))
    labels = tuple(draw(st.lists(TEXT, unique=True, min_size=1, max_size=3)))
    annotations = []
    for _ in range(draw(st.integers(0, 3))):
        names = draw(st.sets(st.sampled_from(sorted(fields))))
        annotations.append(
            Annotation(
                annotator=draw(st.none() | TEXT),
                label=draw(st.none() | st.sampled_from(labels)),
                rationale=draw(st.none() | st.fixed_dictionaries({name: spans(fields[name]) for name in names})),
                explanation=draw(st.none() | st.text(max_size=10)),
                extra=draw(st.dictionaries(st.sampled_from(["category", "words"]), st.none() | TEXT, max_size=2)),
            )
        )
    return Record(
        id=draw(TEXT),
        fields=fields,
        task=draw(st.text(max_size=5)),
        label=draw(st.none() | st.sampled_from(labels)),
        label_set=labels,
        annotations=tuple(annotations),
        meta=draw(st.dictionaries(TEXT, st.none() | st.integers(-9, 9) | TEXT | st.lists(st.booleans()), max_size=2)),
    )


@given(records())
def test_a_record_survives_the_disk(record):
    line = msgspec.json.encode(from_record(record))
    assert to_record(msgspec.json.decode(line)) == record
    assert b"\n" not in line


def test_files_survive_too(tmp_path):
    items = [Record(str(number), {"text": "naïve 🙂\u2028 x"}) for number in range(5)]
    for name in ("plain.jsonl", "packed.jsonl.gz"):
        assert write_records(tmp_path / name, items) == 5
        assert list(read_records(tmp_path / name)) == items
        assert load(tmp_path / name) == items
    assert gzip.decompress((tmp_path / "packed.jsonl.gz").read_bytes()) == (tmp_path / "plain.jsonl").read_bytes()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(["id", "fields", "label", "label_set", "task", "annotations", "meta", "other"])
INNER = st.sampled_from(["annotator", "label", "rationale", "explanation", "extra", "other"])
ROWS = st.dictionaries(KEYS, JSON | st.lists(st.dictionaries(INNER, JSON), max_size=2))


@given(ROWS | JSON)
@settings(max_examples=150)
def test_whatever_the_row_it_is_a_record_or_one_line(row):
    try:
        record = to_record(row)
    except InputError:
        return
    assert not list(problems(record))


@given(st.binary(max_size=200))
def test_whatever_the_bytes_reading_ends_in_records_or_faults(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("bytes") / "x.jsonl"
    path.write_bytes(data)
    for item in scan_jsonl(path, to_record):
        assert isinstance(item, Record) or "\n" not in str(item)


def test_asked_and_not_asked_stay_apart():
    row = {"id": "1", "fields": {"text": "a"}, "annotations": [{"rationale": None}, {"rationale": {"text": []}}, {}]}
    rationales = [annotation.rationale for annotation in to_record(row).annotations]
    assert rationales == [None, {"text": ()}, None]
    assert [said["rationale"] for said in from_record(to_record(row))["annotations"]] == [None, {"text": ()}, None]


def test_unknown_keys_of_an_annotation_are_kept_beside_the_others():
    row = {"id": "1", "fields": {"text": "a"}, "annotations": [{"category": "x", "extra": {"k": 1}}]}
    assert to_record(row).annotations[0].extra == {"k": 1, "category": "x"}
    assert from_record(to_record(row))["annotations"][0]["category"] == "x"


# ------------------------------------------------------------------------------------------- broken files


def test_there_are_enough_kinds_of_broken_file():
    assert len(CASES) >= 25


@pytest.mark.parametrize("name", [*CASES, "no such file", "a folder"])
def test_a_broken_file_costs_one_clear_line(tmp_path, name):
    path, message = next((path, message) for found, path, message in broken_files(tmp_path) if found == name)
    with pytest.raises(InputError) as caught:
        load(path)
    line = str(caught.value)
    assert message in line
    assert line.startswith(f"{path}")
    assert line.isprintable()
    assert len(line) < 1000


@pytest.mark.parametrize(
    "name", [name for name, case in CASES.items() if case[0] == "jsonl" and name != "another table"]
)
def test_describe_tells_the_same_fault_and_goes_on(tmp_path, name):
    _, content, message = CASES[name]
    path = tmp_path / "x.jsonl"
    path.write_bytes(content)
    description = describe(path, source="records")
    assert any(message in str(fault) for fault in description.faults)
    assert description.fault_count == len(description.faults)


def test_every_fault_is_told_with_its_line(tmp_path):
    path = tmp_path / "x.jsonl"
    good = {"id": "1", "fields": {"text": "a b"}, "label_set": ["x"]}
    rows = [good, {**good, "label": "y", "id": "2"}, good, {**good, "id": "4"}, {**good, "id": 5}]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n{broken\n")
    faults = [item for item in scan(path) if isinstance(item, Fault)]
    assert [fault.line for fault in faults] == [2, 5, 6]
    assert [fault.line for fault in describe(path).faults] == [2, 3, 5, 6]
    assert describe(path).records == 2


def test_a_fault_is_one_line_whatever_it_quotes():
    line = str(Fault("a\nb.jsonl", 3, "field `x\x1b[31m\u202e`: " + "y" * 10_000))
    assert line.isprintable()
    assert line.startswith(r"a\nb.jsonl:3: field `x\x1b[31m\u202e`: yyy")
    assert len(line) < 700


def test_distinct_names_the_record():
    same = [Record("1", {"text": "a"}), Record("1", {"text": "b"})]
    assert list(distinct(same[:1])) == same[:1]
    with pytest.raises(InputError, match=r"records: record '1': field `id`: this id stands in the file already"):
        list(distinct(same))


def test_open_lines_counts_blank_lines_and_drops_the_byte_order_mark(tmp_path):
    path = tmp_path / "x.txt"
    path.write_bytes(b"\xef\xbb\xbfone\n\n \nfour")
    assert list(open_lines(path)) == [(1, b"one\n"), (4, b"four")]
    assert [number for number, _ in open_lines(path, blank=True)] == [1, 2, 3, 4]


def test_an_empty_file_of_anything_is_an_error(tmp_path):
    (tmp_path / "x.jsonl").touch()
    with pytest.raises(InputError, match="the file is empty"):
        list(read_jsonl(tmp_path / "x.jsonl", dict))


# ------------------------------------------------------------------------------------------------ writing


def test_nothing_half_written_is_left(tmp_path):
    def items():
        yield {"a": 1}
        raise InputError("stop")

    with pytest.raises(InputError, match="stop"):
        write_jsonl(tmp_path / "x.jsonl", items())
    assert list(tmp_path.iterdir()) == []


def test_an_older_file_stays_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "x.jsonl"
    write_jsonl(path, [{"a": 1}])
    with pytest.raises(TypeError):
        write_jsonl(path, [{"a": object()}])
    assert path.read_text() == '{"a":1}\n'


def test_a_place_that_cannot_be_written_is_an_input_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="can't be written"):
        write_json(tmp_path / "file" / "x.json", {})


def test_the_same_records_give_the_same_bytes(tmp_path):
    items = [Record(letter, {"text": letter}) for letter in string.ascii_letters]
    for name in ("a.jsonl.gz", "b.jsonl.gz"):
        write_records(tmp_path / name, items)
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()
