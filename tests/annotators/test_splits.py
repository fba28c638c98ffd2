"""Splits: deterministic, published without texts, refused for other data, and looked through for leaks."""

import hashlib
import json
from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raison.annotators.people import opted_out, renamed
from raison.annotators.responses import responses_of
from raison.annotators.splits import (
    NEAR,
    PARTS,
    Split,
    _grams,
    leak_lines,
    normalised,
    read_split,
    split_items,
    split_leaks,
    text_hash,
    write_split,
)
from raison.records import Annotation, InputError, Record, read_records
from shared import shared_file


def make(n, premises=None):
    """Give n items, with as many premises as asked for."""
    return [
        Record(
            f"i{i}",
            {"premise": f"premise {i % (premises or n)}", "hypothesis": f"claim {i}"},
            label_set=("yes", "no"),
            annotations=(Annotation("ann", "yes", None, f"reason {i}"), Annotation("ben", "no", None, f"doubt {i}")),
        )
        for i in range(n)
    ]


def ids(split):
    return [[record.id for record in part] for part in split]


# ------------------------------------------------------------------------------------------------------------ drawn


@pytest.mark.parametrize(
    ("n", "sizes", "wanted"),
    [
        (500, (300, 100, 100), [300, 100, 100]),
        (50, (300, 100, 100), [30, 10, 10]),
        (3, (300, 100, 100), [1, 1, 1]),
        (10, (8, 0, 2), [8, 0, 2]),
        (7, (5, 1, 1), [5, 1, 1]),
        (3, (1, 1, 9), [1, 1, 1]),
        (3, (0, 1, 1), [0, 2, 1]),
        (3, (1, 0, 6), [1, 0, 2]),
        (1000, (300, 100, 100), [600, 200, 200]),
    ],
)
def test_sizes_are_kept_or_their_proportions(n, sizes, wanted):
    assert [len(part) for part in split_items(make(n), sizes)] == wanted


def test_ids_alone_decide_and_the_order_is_that_of_the_data():
    records = make(40)
    split = split_items(records)
    turned = split_items(records[::-1])
    assert [sorted(part) for part in ids(split)] == [sorted(part) for part in ids(turned)]
    assert ids(turned) == [part[::-1] for part in ids(split)]
    assert ids(split_items(opted_out(records, ["ann"]))) == ids(split)
    assert ids(split_items(records, seed=14)) != ids(split)
    by_hash = sorted((r.id for r in records), key=lambda name: hashlib.sha256(f"13 {name}".encode()).hexdigest())
    assert [set(part) for part in ids(split)] == [set(by_hash[:24]), set(by_hash[24:32]), set(by_hash[32:])]
    assert ids(split)[2] == ["i1", "i4", "i5", "i10", "i15", "i29", "i34", "i36"]  # published splits must not move


@pytest.mark.parametrize(
    ("records", "options", "message"),
    [
        (make(2), {}, "expected at least 3 items, got 2"),
        (make(5) + make(1), {}, "id 'i0' stands in the data twice"),
        (make(5), {"sizes": (1, -1, 1)}, "sizes 1, -1, 1: expected none below 0"),
        (make(5), {"sizes": (0, 0, 0)}, "not all 0"),
        (make(5), {"together": ["text"]}, "no field 'text'; there are premise, hypothesis"),
        (make(9, premises=1), {"together": ["premise"]}, "no item is left for dev; too many have the same premise"),
    ],
)
def test_what_can_not_be_parted_is_refused(records, options, message):
    with pytest.raises(InputError, match=message):
        split_items(records, **options)


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=3, max_size=40),
    st.tuples(st.integers(1, 9), st.integers(0, 9), st.integers(0, 9)),
    st.integers(0, 5),
)
def test_random_splits_leak_nothing(pairs, sizes, seed):
    """Each item is in one part, with all that was said of it; texts that were to stay together are in one part, too."""
    records = [
        Record(
            f"i{n}",
            {"a": f"text {a}", "b": f"Text, {b}!"},
            annotations=(Annotation("ann", None, None, f"of i{n} alone"),),
        )
        for n, (a, b) in enumerate(pairs)
    ]
    split = split_items(records, sizes, seed)
    assert sorted(chain(*ids(split))) == sorted(record.id for record in records)
    said = [{(r.record_id, r.explanation) for r in responses_of(part)} for part in split]
    assert not said[0] & said[1] | said[0] & said[2] | said[1] & said[2]
    assert not [leak for leak in split_leaks(split) if leak.kind == "explanation"]
    for together in (["a"], ["a", "b"]):
        try:
            apart = split_items(records, sizes, seed, together)
        except InputError:
            continue
        assert sorted(chain(*ids(apart))) == sorted(record.id for record in records)
        for field in together:
            texts = [{normalised(record.fields[field]) for record in part} for part in apart]
            assert not texts[0] & texts[1] | texts[0] & texts[2] | texts[1] & texts[2]
        assert not {leak.kind for leak in split_leaks(apart)} & {"text", *together}


# -------------------------------------------------------------------------------------------------------- published


def test_a_split_file_gives_the_parts_back_and_has_neither_texts_nor_people(tmp_path):
    records = make(20, premises=7)
    split = split_items(records, together=["premise"])
    write_split(tmp_path / "split.json", split, 13, ["premise"])
    assert read_split(tmp_path / "split.json", records) == split
    written = (tmp_path / "split.json").read_text()
    assert not [word for word in ("claim", "reason", "doubt", "ann", "ben") if word in written]
    file = json.loads(written)
    assert (file["seed"], file["together"], list(file["parts"])) == (13, ["premise"], list(PARTS))
    assert file["parts"]["test"] == {record.id: text_hash(record) for record in split.test}


def test_who_opts_out_or_is_renamed_changes_no_split(tmp_path):
    records = make(20)
    write_split(tmp_path / "split.json", split_items(records))
    left = opted_out(records, ["ann"])
    assert ids(read_split(tmp_path / "split.json", left)) == ids(split_items(records))
    assert ids(read_split(tmp_path / "split.json", renamed(records, {"ann": "p"})))
    spaced = [Record(r.id, {name: f" {text.replace(' ', '  ')}" for name, text in r.fields.items()}) for r in records]
    assert ids(read_split(tmp_path / "split.json", spaced)) == ids(split_items(records))


def _more(records):
    return [*records, Record("new", records[0].fields)]


def _less(records):
    return [record for record in records if record.id not in ("i3", "i5")]


def _other(records):
    return [Record(r.id, {**r.fields, "hypothesis": "else"} if r.id == "i3" else r.fields) for r in records]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_more, "item 'new' of the data is in no part"),
        (_less, r"item 'i\d' of the split is not in the data \(2 such items\)"),
        (_other, "item 'i3' has other texts in the data"),
    ],
)
def test_other_data_are_refused_in_one_line(tmp_path, change, message):
    records = make(10)
    write_split(tmp_path / "split.json", split_items(records))
    with pytest.raises(InputError, match=rf"split\.json: made for other data: {message}") as error:
        read_split(tmp_path / "split.json", change(records))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: file["parts"]["test"].update(i1="x"), "field `hash`: does not fit the ids and hashes"),
        (lambda file: file.pop("hash"), "not a split file .*missing required field `hash`"),
        (lambda file: file["parts"].pop("dev"), "field `parts`: expected train, dev, test"),
        (lambda file: file.update(split=2), "in a split file of version 1"),
        (lambda file: file.update(more=1), "unknown field `more`"),
    ],
)
def test_a_changed_file_is_refused(tmp_path, change, message):
    path = tmp_path / "split.json"
    write_split(path, split_items(make(10)))
    file = json.loads(path.read_text())
    change(file)
    path.write_text(json.dumps(file))
    with pytest.raises(InputError, match=message):
        read_split(path, make(10))


@pytest.mark.parametrize("content", [None, b"", b"[1]", b"\xff", b"{"])
def test_what_is_no_split_file_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "split.json").write_bytes(content)
    with pytest.raises(InputError, match=r"split\.json: (no such file|not a split file)"):
        read_split(tmp_path / "split.json", make(10))


# ------------------------------------------------------------------------------------------------------------ leaks

LONG = "It rained all day long in the old town by the river, and nobody went out"


def placed(train, dev, test):
    return Split(*(tuple(part) for part in (train, dev, test)))


def one(name, first, second="same", *explanations):
    return Record(
        name, {"a": first, "b": second}, annotations=tuple(Annotation("ann", None, None, e) for e in explanations)
    )


def told(split):
    return [(leak.kind, leak.part, leak.record_id, leak.other_part, leak.other_id) for leak in split_leaks(split)]


def test_the_same_texts_under_two_ids():
    assert told(placed([one("1", "It RAINS.", "x")], [one("2", "Else", "y")], [one("3", "it – rains", "X!")])) == [
        ("text", "test", "3", "train", "1")
    ]


def test_near_duplicates_must_be_near_in_every_field():
    near = f"{LONG} at all"
    assert told(placed([one("1", LONG, "x")], [one("2", near, "x")], [one("3", near, "y")])) == [
        ("near", "dev", "2", "train", "1"),
        ("a", "test", "3", "dev", "2"),
        ("b", "dev", "2", "train", "1"),
    ]
    (leak,) = [
        leak for leak in split_leaks(placed([one("1", LONG, "x")], [], [one("2", near, "x")])) if leak.kind == "near"
    ]
    first, second = _grams(normalised(LONG)), _grams(normalised(near))
    assert leak.similarity == len(first & second) / len(first | second) >= NEAR


def test_the_same_text_in_one_field_and_none_where_there_is_one_field_only():
    assert told(placed([one("1", "p", "x")], [], [one("2", "P", "y")])) == [("a", "test", "2", "train", "1")]
    alone = [Record(str(n), {"text": text}) for n, text in enumerate(("p", "q", "P"))]
    assert told(placed(alone[:1], alone[1:2], alone[2:])) == [("text", "test", "2", "train", "0")]


def test_an_explanation_that_stands_in_train():
    train, dev = [one("1", "p", "x", "Different topics.")], [one("2", "q", "y", "", "No.")]
    split = placed(train, dev, [one("3", "r", "z", "different  topics", "Other.")])
    assert told(split) == [("explanation", "test", "3", "train", "1")]
    assert leak_lines(split_leaks(split)) == [
        "explanations of test items that stand in train word for word: 1 (ann 1), such as '3' and '1'"
    ]


def test_empty_parts_and_texts_leak_nothing():
    assert told(placed([], [], [])) == []
    assert told(placed([one("1", "", "")], [one("2", "!", "?")], [])) == []
    assert leak_lines([]) == []


@settings(deadline=None, max_examples=100)
@given(st.lists(st.text(alphabet="ab ", min_size=1, max_size=30), min_size=2, max_size=12), st.integers(1, 11))
def test_the_filter_finds_what_comparing_all_pairs_finds(texts, cut):
    records = [Record(str(n), {"text": text}) for n, text in enumerate(texts)]
    split = placed(records[:cut], [], records[cut:])
    grams = [_grams(normalised(text)) for text in texts]
    same = {leak.record_id for leak in split_leaks(split) if leak.kind == "text"}
    wanted = {
        str(n)
        for n in range(cut, len(texts))
        for m in range(cut)
        if grams[n] and len(grams[n] & grams[m]) >= NEAR * len(grams[n] | grams[m])
    }
    assert {leak.record_id for leak in split_leaks(split) if leak.kind == "near"} == wanted - same


# ------------------------------------------------------------------------------------------------------- real data


def test_varierr_has_near_duplicates_and_premises_in_two_parts():
    records = list(read_records(shared_file("data/varierr/all.jsonl")))
    kinds = {leak.kind for leak in split_leaks(split_items(records))}
    assert kinds == {"near", "premise", "explanation"}
    apart = split_leaks(split_items(records, together=["premise"]))
    assert {leak.kind for leak in apart} == {"explanation"}
