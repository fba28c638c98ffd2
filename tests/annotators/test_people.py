"""Who is in the data, who opted out, and pseudonyms: nothing of a person is left where it should not be."""

import stat

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raison.annotators.people import opted_out, people_of, pseudonyms, read_names, read_salt, renamed
from raison.annotators.responses import read_responses, responses_of, write_responses
from raison.records import Annotation, InputError, Record, from_record, read_records
from raison.sources.common import majority
from raison.sources.explained import from_explanations
from raison.sources.varierr import error_labels
from shared import shared_file

LABELS = ("entailment", "neutral", "contradiction")
settings.register_profile("unhurried", deadline=None)  # a busy machine is no failure
settings.load_profile("unhurried")
SALT = "a secret that is long enough"


def said(who, label, text="Because.", **extra):
    return Annotation(who, label, None, text, extra)


def item(*annotations, name="1", label=None, **meta):
    return Record(name, {"text": "It rains."}, "nli", label, LABELS, annotations, meta)


# ------------------------------------------------------------------------------------------------------- opting out


def test_what_a_person_said_of_the_item_and_of_others_is_gone():
    record = item(
        said("ann", "neutral", judgments={"ann": True, "ben": False}),
        said(
            "ben",
            "entailment",
            judgments={"ann": True, "ben": True},
            reviews=[{"by": "ann", "ok": True}, {"by": "cem"}],
        ),
        said("ben", "neutral", judgments={"ann": False}),
        label="neutral",
        idk=["ann"],
        error_labels=["neutral"],
        chaosnli={"e": 3},
    )
    (left,) = opted_out([record], ["ann"])
    assert left == item(
        said("ben", "entailment", judgments={"ben": True}, reviews=[{"by": "cem"}]),
        said("ben", "neutral"),
        label=None,  # without ann nobody is in the majority
        error_labels=["neutral"],
        chaosnli={"e": 3},
    )


def test_rationales_derived_from_an_explanation_go_with_it():
    record = item(said("ann", "neutral", "rains"), said("ben", "neutral", "rains a lot"), label="neutral")
    (derived,) = from_explanations([record])
    assert [one.annotator for one in derived.annotations] == ["ann", "ben", "explanation:ann", "explanation:ben"]
    (left,) = opted_out([derived], ["ann"])
    assert [one.annotator for one in left.annotations] == ["ben", "explanation:ben"]
    assert left.label == "neutral"


@pytest.mark.parametrize(
    ("label", "labels", "wanted"),
    [
        ("neutral", ["neutral", "neutral", "entailment"], None),  # the majority was theirs: now a tie
        ("neutral", ["neutral", "neutral", "neutral"], "neutral"),
        (None, ["neutral", "entailment", None], "entailment"),  # a tie that they made
        ("entailment", ["neutral", "neutral", "entailment"], "entailment"),  # another's gold label
        ("neutral", ["neutral", None, None], None),  # nobody else said so
        (None, [None, "neutral", "neutral"], None),  # no label of theirs: nothing to count again
    ],
)
def test_a_label_that_was_the_majority_is_counted_again(label, labels, wanted):
    record = item(*(said(who, one) for who, one in zip(("ann", "ben", "cem"), labels, strict=True)), label=label)
    assert opted_out([record], ["ann"])[0].label == wanted


def test_errors_are_counted_again_without_those_who_left():
    first = said("ann", "neutral", judgments={"ann": True, "ben": False})
    second = said("ben", "neutral", judgments={"ben": False})
    (left,) = opted_out([item(first, second, label="neutral")], ["ann"])
    assert left.meta == {"error_labels": ["neutral"]}
    third = said("cem", "contradiction", judgments={"cem": False})
    (left,) = opted_out([item(first, third, error_labels=["contradiction"])], ["cem"])
    assert left.meta == {}


def test_nobody_opting_out_changes_nothing_and_one_name_is_one_person():
    records = [item(said("a", "neutral", judgments={"a": True}), idk=[], empty={})]
    assert opted_out(records, ()) == opted_out(records, ["zoe"]) == records
    assert opted_out([item(said("ann", "neutral"), said("n", "neutral"))], "ann")[0].annotations == (
        said("n", "neutral"),
    )


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ({"ann": 1, "ben": 2}, {"ben": 2}),
        (["ben", "ann"], ["ben"]),
        ([["ann"], ["ben"]], [["ben"]]),
        ({"deep": {"ann": [1]}, "x": 0}, {"x": 0}),
        ([{"annotator": "ann", "vote": 1}, {"annotator": "ben"}], [{"annotator": "ben"}]),
        ("said by ann", "said by ann"),  # a text is not searched
        ("explanation:ann", None),
        ({}, {}),
        ([], []),
        (0, 0),
    ],
)
def test_notes_are_cleaned_at_any_depth(value, wanted):
    (left,) = opted_out([item(said("ben", "neutral", note=value), note=value)], ["ann"])
    kept = {} if wanted is None else {"note": wanted}
    assert (left.annotations[0].extra, left.meta) == (kept, kept)


def test_names_that_are_numbers_are_found_beside_a_key_that_says_so():
    judgments = [{"annotator": 0, "makes_sense": True}, {"annotator": 1, "makes_sense": True}, {"count": 0}]
    (left,) = opted_out([item(said("1", "neutral", notes=judgments))], ["0"])
    assert left.annotations[0].extra == {"notes": judgments[1:]}


NAMES = st.sampled_from(["ann-01", "ben-02", "cem-03", "dana-04"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | NAMES | st.sampled_from(["x", "y"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.sampled_from(["k", "by"]), inner, max_size=3)
    ),
    max_leaves=8,
)
SAID = st.builds(
    Annotation,
    NAMES | NAMES.map("explanation:{}".format) | st.none(),
    st.sampled_from(LABELS) | st.none(),
    st.none(),
    st.sampled_from(["Because.", "So it is."]) | st.none(),
    st.fixed_dictionaries({}, optional={"judgments": st.dictionaries(NAMES, st.booleans()), "note": VALUES}),
)
RECORDS = st.lists(
    st.builds(
        lambda annotations, label, meta: item(*annotations, label=label, **meta),
        st.lists(SAID, max_size=5),
        st.sampled_from(LABELS) | st.none(),
        st.fixed_dictionaries({}, optional={"idk": st.lists(NAMES), "note": VALUES}),
    ),
    max_size=3,
)


@given(RECORDS, st.sets(NAMES, min_size=1, max_size=3))
def test_opting_out_leaves_no_trace_in_any_record_or_response(records, gone):
    left = opted_out(records, gone)
    written = msgspec.json.encode([from_record(record) for record in left])
    assert [name for name in gone if name.encode() in written] == []
    answers = msgspec.json.encode(responses_of(records, without=gone))
    assert [name for name in gone if name.encode() in answers] == []
    assert not gone & people_of(left).keys()
    assert opted_out(left, gone) == left
    assert [record.id for record in left] == [record.id for record in records]


@given(RECORDS, st.sets(NAMES, min_size=2))
def test_people_may_leave_one_after_the_other(records, gone):
    one_by_one = records
    for name in sorted(gone):
        one_by_one = opted_out(one_by_one, [name])
    together = opted_out(records, gone)
    assert [
        [(a.annotator, a.label, a.extra.get("judgments")) for a in record.annotations] for record in one_by_one
    ] == [[(a.annotator, a.label, a.extra.get("judgments")) for a in record.annotations] for record in together]


def test_responses_of_a_file_are_cleaned_too(tmp_path):
    record = item(said("ann", "neutral"), said("ben", "neutral", judgments={"ann": True, "ben": True}))
    path = tmp_path / "responses.jsonl"
    write_responses(path, responses_of([record]))
    (left,) = read_responses(path, without=["ann"])
    assert (left.annotator, left.extra) == ("ben", {"judgments": {"ben": True}})
    assert b"ann" not in msgspec.json.encode(left).replace(b"annotator", b"")


# ------------------------------------------------------------------------------------------------------------ lists


def test_names_come_from_a_file_or_a_line(tmp_path):
    (tmp_path / "gone.txt").write_text("# asked in May\n ann \n\nben, the second\n", encoding="utf-8")
    assert read_names(tmp_path / "gone.txt") == read_names(str(tmp_path / "gone.txt")) == {"ann", "ben, the second"}
    assert read_names("ann, ben,") == {"ann", "ben"}
    assert read_names(["ann"]) == {"ann"}
    for nowhere in ("gone.txt", "no/where", tmp_path / "nowhere"):
        with pytest.raises(InputError, match="no such file; expected one name a line"):
            read_names(nowhere)
    (tmp_path / "bad.txt").write_bytes(b"ann\n\xff\n")
    with pytest.raises(InputError, match=r"bad\.txt:2: not UTF-8 text"):
        read_names(tmp_path / "bad.txt")


def test_everybody_in_the_data_is_counted_also_who_only_judged():
    record = item(
        said("10", "neutral", judgments={"3": True}), said("2", "neutral"), said("explanation:2", None), idk=["7"]
    )
    assert list(people_of([record]).items()) == [("2", 1), ("3", 0), ("7", 0), ("10", 1)]


# ------------------------------------------------------------------------------------------------------- pseudonyms


def test_pseudonyms_are_the_same_everywhere_and_others_with_another_salt():
    names = pseudonyms(["ann", "ben"], SALT)
    assert names == pseudonyms(["ben", "ann", "cem"][:2], SALT)
    assert names["ann"] == pseudonyms(["ann"], SALT)["ann"]
    assert not set(names.values()) & set(pseudonyms(["ann", "ben"], f"{SALT}!").values())
    assert names["ann"] == "p-197135f2f5"  # printf %s ann | openssl dgst -sha256 -hmac "$SALT"
    with pytest.raises(InputError, match="at least 16 characters, found 3"):
        pseudonyms(["ann"], "abc")


def test_a_salt_is_made_once_and_is_ours_alone(tmp_path):
    path = tmp_path / "keys/salt"
    salt = read_salt(path)
    assert len(salt) == 64
    assert read_salt(path) == salt
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text("short")
    with pytest.raises(InputError, match="salt: expected a secret of at least 16 characters, found 5"):
        read_salt(path)
    with pytest.raises(InputError, match="expected a file with a secret"):
        read_salt(tmp_path)


@given(RECORDS)
def test_renaming_leaves_no_name_and_loses_nothing(records):
    names = pseudonyms(["ann-01", "ben-02", "cem-03", "dana-04"], SALT)
    new = renamed(records, names)
    written = msgspec.json.encode([from_record(record) for record in new])
    assert [name for name in names if name.encode() in written] == []
    back = renamed(new, {pseudonym: name for name, pseudonym in names.items()})
    again = renamed(records, {})  # in the order of names
    assert [sorted(map(repr, record.annotations)) for record in back] == [
        sorted(repr(_ordered(one, names)) for one in record.annotations) for record in again
    ]
    for record in new:
        who = [one.annotator for one in record.annotations]
        assert who == sorted(who, key=lambda name: (name is None, name or ""))


def _ordered(annotation, names):
    there = renamed([item(annotation)], names)
    return renamed(there, {pseudonym: name for name, pseudonym in names.items()})[0].annotations[0]


def test_the_order_of_people_does_not_tell_who_they_are():
    record = item(
        said("ann", "neutral", judgments={"ann": True, "ben": False}), said("ben", "neutral"), idk=["ann", "ben"]
    )
    (new,) = renamed([record], {"ann": "p-2", "ben": "p-1"})
    assert [one.annotator for one in new.annotations] == ["p-1", "p-2"]
    assert list(new.annotations[1].extra["judgments"].items()) == [("p-1", False), ("p-2", True)]
    assert new.meta["idk"] == ["p-1", "p-2"]


# ------------------------------------------------------------------------------------------------------- real data


@pytest.mark.parametrize("gone", [{"0"}, {"1", "3"}])
def test_varierr_without_people_is_as_if_they_had_never_been_asked(gone):
    records = list(read_records(shared_file("data/varierr/all.jsonl")))
    for before, after in zip(records, opted_out(records, gone), strict=True):
        assert [(one.annotator, one.label) for one in after.annotations] == [
            (one.annotator, one.label) for one in before.annotations if one.annotator not in gone
        ]
        assert after.label == majority([one.label for one in after.annotations])
        assert all(not gone & one.extra.get("judgments", {}).keys() for one in after.annotations)
        assert not gone & set(after.meta.get("idk", ()))
        assert sorted(after.meta.get("error_labels", [])) == sorted(error_labels(after.annotations))
        assert after.meta["chaosnli"] == before.meta["chaosnli"]
        assert after.fields == before.fields
