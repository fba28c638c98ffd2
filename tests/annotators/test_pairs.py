"""Preference pairs: which there are, what they weigh, what their books say, and that nothing leaks into them."""

import contextlib
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from panel import LABELS, SCALE, item, panel
from raison.annotators.audit import counts, leaks
from raison.annotators.examples import SELECTS
from raison.annotators.pair_weights import WEIGHTS, similarity, validity
from raison.annotators.pairs import SCOPES, SOURCES, make_options, make_pairs, read_pairs, write_pairs
from raison.annotators.preference_pair import PreferencePair
from raison.annotators.prompts import HOWS, Prompts
from raison.annotators.responses import Response, responses_of
from raison.annotators.splits import split_items
from raison.annotators.wording import wording_for
from raison.records import InputError, read_records
from shared import shared_file


def pairs_of(records, samples=(), tag=False, how="zero-shot", **options):
    return make_pairs(Prompts(wording_for(records), records, how, tag=tag, k=3), make_options(options), samples)


def written(records):
    """Give who says what as it is written: (item, person, text)."""
    wording = wording_for(records)
    return [(one.record_id, one.annotator, wording.write_response(one)) for one in responses_of(records)]


def as_set(pairs):
    return Counter((one.record_id, one.annotator, one.chosen, one.rejected_annotator, one.rejected) for one in pairs)


def made_or_none(make):
    """Make pairs; where none can be made there are none."""
    with contextlib.suppress(InputError):
        return make().pairs
    return []


# ------------------------------------------------------------------------------------------------------- scopes


def test_everybody_against_everybody_else_of_the_same_item():
    records = panel(5)
    slow = [
        (i, a, text, b, other)
        for i, a, text in written(records)
        for j, b, other in written(records)
        if i == j and a != b
    ]
    made = pairs_of(records).pairs
    assert as_set(made) == Counter(slow)
    assert len(made) == 5 * 3 * 2
    assert {one.prompt for one in made if one.record_id == "i1"} == {wording_for(records).prompt(records[1])}
    assert {one.weight for one in made} == {1.0}


@pytest.mark.parametrize(("scope", "same"), [("same-label", {True}), ("different-label", {False})])
def test_scopes_part_all_pairs(scope, same):
    records = panel(9)
    found, everything = pairs_of(records, scope=scope), pairs_of(records)
    assert as_set(found.pairs) == as_set(one for one in everything.pairs if one.same_label in same)
    assert {one.same_label for one in found.pairs} == same
    assert sum(entry.dropped == f"outside the scope {scope}" for entry in found.entries) == len(everything.pairs) - len(
        found.pairs
    )


def test_on_a_scale_one_side_is_one_label():
    said = [("a", "1", "one"), ("b", "2", "two"), ("c", "0", "three"), ("d", "-2", "four")]
    made = pairs_of([item(0, said, SCALE)], scope="same-label").pairs
    assert {(one.annotator, one.rejected_annotator) for one in made} == {("a", "b"), ("b", "a")}


@settings(max_examples=40, deadline=None)
@given(st.integers(3, 30), st.floats(0.05, 0.95), st.booleans(), st.integers(0, 3))
def test_a_mixture_has_its_share_and_keeps_as_much_as_it_can(size, share, tag, seed):
    records = panel(size)
    made = pairs_of(records, tag=tag, scope="mixed", same_share=share, seed=seed)
    groups = {}
    for one in pairs_of(records, tag=tag).pairs:
        groups.setdefault(None if tag else one.annotator, []).append(one.same_label)
    for who, before in groups.items():
        after = Counter(one.same_label for one in made.pairs if tag or one.annotator == who)
        least = min(before.count(True) / share, before.count(False) / (1 - share))
        step = 2 if tag else 1  # mirror images go together
        for same, part in ((True, share), (False, 1 - share)):
            assert least * part - step <= after[same] <= least * part + 1e-6
    if tag:
        assert mirrored(made.pairs)


def test_two_responses_of_one_person_are_each_a_response_and_never_a_pair():
    said = [("a", "neutral", "first"), ("a", "entailment", "second"), ("b", "neutral", "third")]
    made = pairs_of([item(0, said)]).pairs
    assert sorted((one.annotator, one.chosen[-6:].strip(), one.rejected[-6:].strip()) for one in made) == [
        ("a", "first", "third"), ("a", "second", "third"), ("b", "third", "first"), ("b", "third", "second"),
    ]  # fmt: skip


# --------------------------------------------------------------------------------------------------- duplicates


def test_what_says_the_same_is_dropped():
    said = [
        ("a", "neutral", "So it is."),
        ("b", "neutral", " so, it IS"),
        ("c", "entailment", "So it is."),
        ("d", "neutral", "so it is!"),
    ]
    made = pairs_of([item(0, said)])
    assert {(one.annotator, one.rejected_annotator) for one in made.pairs} == {
        ("a", "c"), ("b", "c"), ("c", "a"), ("d", "c"),
    }  # fmt: skip
    assert Counter(entry.dropped for entry in made.entries) == {
        None: 4, "both say the same": 6, "repeats another pair": 2,
    }  # fmt: skip
    tagged = pairs_of([item(0, said)], tag=True).pairs  # there c before b is the mirror of b before c, and stays
    assert len(tagged) == 6
    assert mirrored(tagged)


def test_what_can_not_be_written_is_left_out_and_said():
    said = [("a", "neutral", "one"), ("a", "neutral", "One."), ("b", None, "two"), ("c", "neutral", None),
            ("d", "neutral", "  "), ("e", "neutral", "five")]  # fmt: skip
    made = pairs_of([item(0, said)])
    assert len(made.pairs) == 2
    left = {(entry.annotator, entry.chosen.number): entry.dropped for entry in made.entries if entry.rejected is None}
    assert left == {
        ("a", 1): "the person said it of this item before",
        ("b", 0): "no label",
        ("c", 0): "no explanation",
        ("d", 0): "no explanation",
    }


def test_where_no_pair_is_left_the_reasons_are_told():
    with pytest.raises(InputError, match=r"no pair can be made \(both say the same: 2\)"):
        pairs_of([item(0, [("a", "neutral", "x"), ("b", "neutral", "x")])])
    with pytest.raises(InputError, match="nobody said anything"):
        pairs_of([item(0, [])])


# ------------------------------------------------------------------------------------------------------ sources


def test_own_texts_are_of_other_items_in_the_scope():
    records = panel(9)
    made = pairs_of(records, rejected=["own-other-item"], others=2, scope="same-label").pairs
    owner = {text: (i, who) for i, who, text in written(records)}
    assert len(made) == 9 * 3 * 2
    for one in made:
        place, who = owner[one.rejected]
        assert who == one.annotator
        assert place != one.record_id
        assert owner[one.chosen] == (one.record_id, one.annotator)
        assert one.chosen.split("\n")[0] == one.rejected.split("\n")[0]
        assert (one.rejected_annotator, one.source) == (None, "own-other-item")
    assert len({(one.chosen, one.rejected) for one in made}) == len(made)


def test_own_texts_that_say_the_same_are_passed_over():
    records = [item(i, [("a", "neutral", "always the same" if i else "but once")]) for i in range(4)]
    made = pairs_of(records, rejected=["own-other-item"], others=3)
    assert Counter(one.chosen.endswith("once") for one in made.pairs) == {True: 1, False: 3}
    # three of one text: the pairs with it repeat each other
    assert {entry.dropped for entry in made.entries} == {None, "repeats another pair"}


def test_samples_of_a_model_are_rejected_for_those_they_speak_as():
    records = panel(2)
    samples = [
        Response("i0", "pooled", "neutral", "for all"),
        Response("i1", "b", "neutral", "for b"),
        Response("i1", "c", None, None, failure="cut"),
        Response("i9", "pooled", "neutral", "of another item"),
    ]
    made = pairs_of(records, samples, rejected=["sft-sample"])
    assert [(one.record_id, one.annotator, one.rejected.split(": ")[-1]) for one in made.pairs] == [
        ("i0", "a", "for all"), ("i0", "b", "for all"), ("i1", "b", "for b"), ("i0", "c", "for all"),
    ]  # fmt: skip
    assert {(one.source, one.rejected_annotator) for one in made.pairs} == {("sft-sample", None)}
    assert {entry.dropped for entry in made.entries if entry.dropped} == {
        "a reply that could not be read", "of no training item",
    }  # fmt: skip
    with pytest.raises(InputError, match="none of the samples can be read"):
        pairs_of(records, samples[2:], rejected=["sft-sample"])


def test_a_sample_with_a_label_of_other_data_is_left_out():
    samples = [Response("i0", "pooled", "neutral", "from elsewhere"), Response("i1", "pooled", "1", "of these")]
    made = pairs_of(panel(2, labels=SCALE), samples, rejected=["sft-sample"])
    assert {one.record_id for one in made.pairs} == {"i1"}
    assert {entry.dropped for entry in made.entries if entry.dropped} == {"a label that is none of the data's"}


# ------------------------------------------------------------------------------------------------------ weights

JUDGED = [
    ("a", "neutral", "red green", {"judgments": {"a": False, "b": True, "c": False}}),
    ("b", "neutral", "red blue", {"judgments": {"a": True, "c": True, "b": None}}),
    ("c", "entailment", "grey", {"judgments": {"c": True}}),
]


def weights(records, *names, **options):
    made = pairs_of(records, weights=names, **options)
    return {(one.annotator, one.rejected_annotator): one.weight for one in made.pairs}, made


def test_each_factor_by_hand():
    records = [item(0, JUDGED)]
    valid, _ = weights(records, "validity")  # a .5, b 1, c not judged by peers: counts as 1
    assert valid == {("a", "b"): 0.5, ("b", "a"): 0.5, ("a", "c"): 0.5, ("c", "a"): 0.5, ("b", "c"): 1, ("c", "b"): 1}
    distinct, _ = weights(records, "distinctiveness")  # a and b share 1 of 3 words
    assert distinct[("a", "b")] == pytest.approx(2 / 3)
    assert distinct[("a", "c")] == 1
    shares, _ = weights([*records, item(1, JUDGED[:2])], "per-item")
    assert shares[("a", "c")] == 1 / 2
    assert shares[("a", "b")] == 1  # the later item has but two people
    every, made = weights(records, "validity", "distinctiveness", "per-item")
    assert every[("a", "b")] == pytest.approx(0.5 * 2 / 3 * 0.5)
    entry = next(entry for entry in made.entries if (entry.annotator, entry.rejected.annotator) == ("c", "b"))
    assert entry.factors == {"validity": 1.0, "distinctiveness": 1.0, "per-item": 0.5}


def test_nothing_known_of_validity_counts_as_one_and_says_so():
    judged = [(who, label, f"{text} 0", extra) for who, label, text, extra in JUDGED]
    made = weights([item(0, judged), *panel(2)[1:]], "validity")[1]
    unknown = [entry for entry in made.entries if entry.record_id == "i1"]
    assert {entry.factors["validity"] for entry in unknown} == {None}
    assert {entry.weight for entry in unknown} == {1.0}
    with pytest.raises(InputError, match="validity needs people's judgments"):
        weights(panel(2), "validity")  # of nobody: not what was asked for


def test_the_distance_of_labels():
    said = [("a", "-2", "one"), ("b", "2", "two"), ("c", "1", "three"), ("d", "1", "four")]
    found, made = weights([item(0, said, SCALE)], "ordinal")
    assert found[("a", "b")] == 1
    assert found[("b", "c")] == 1 / 4
    assert ("c", "d") not in found
    assert counts(made.pairs, made.entries)["dropped"] == {"it weighs nothing": 2}
    with pytest.raises(InputError, match="ordinal needs labels that are steps of a scale"):
        weights(panel(2), "ordinal")


def test_only_the_chosen_text_s_validity_counts_where_no_other_person_is_rejected():
    records = [item(i, [(who, label, f"{text} {i}", extra) for who, label, text, extra in JUDGED]) for i in range(2)]
    found = pairs_of(records, rejected=["own-other-item"], weights=["validity", "per-item"]).pairs
    assert {one.annotator: one.weight for one in found} == {"a": 0.5, "b": 1.0, "c": 1.0}


def test_parts_of_weights():
    assert similarity("Red, green", "green blue") == 1 / 3
    assert similarity("!", "?") == 0
    assert similarity("", "") == 1
    assert validity(Response("i", "a", "x", "t", extra={"judgments": ["b"]})) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scope": "some"}, "scope 'some': expected all, same-label, different-label, mixed"),
        ({"rejected": ["me"]}, "rejected 'me': expected people, sft-sample, own-other-item"),
        ({"weights": ["luck"]}, "weights 'luck': expected per-item, validity, distinctiveness, ordinal"),
        ({"same_share": 1.0}, "same share 1.0: expected more than 0 and less than 1"),
        ({"others": 0}, "at least one"),
        ({"rejected": []}, "at least one source"),
        ({"colour": 1}, "unknown field"),
        ({"seed": "x"}, "Expected `int`"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        make_options(options)


# --------------------------------------------------------------------------------------------- symmetry, order


def mirrored(pairs):
    """Whether each pair of people stands there the other way round, at the same weight."""
    there = Counter(
        (one.record_id, one.annotator, one.chosen, one.rejected_annotator, one.rejected, one.weight) for one in pairs
    )
    return all(there[i, b, y, a, x, w] == n for (i, a, x, b, y, w), n in there.items())


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_with_tags_pairs_are_symmetric_whatever_the_options(data):
    labels = data.draw(st.sampled_from([LABELS, SCALE]))
    text = st.sampled_from(["so it is", "So it is.", "red", "green blue", "red blue", "", "!"])
    said = st.lists(
        st.tuples(
            st.sampled_from("abcd"), st.sampled_from(labels), text,
            st.fixed_dictionaries({"judgments": st.dictionaries(st.sampled_from("abcd"), st.booleans())}),
        ), max_size=6,
    )  # fmt: skip
    records = [item(i, data.draw(said), labels) for i in range(data.draw(st.integers(1, 4)))]
    named = WEIGHTS if labels is SCALE else WEIGHTS[:3]
    options = {
        "scope": data.draw(st.sampled_from(SCOPES)),
        "weights": data.draw(st.lists(st.sampled_from(named), unique=True)),
        "same_share": data.draw(st.floats(0.1, 0.9)),
    }
    made = made_or_none(lambda: pairs_of(records, tag=True, **options))
    assert mirrored(made)
    assert all(one.prompt.endswith(f"annotator {one.annotator}. Answer as this person would.\n") for one in made)


@pytest.mark.parametrize("tag", [False, True])
def test_the_order_of_the_records_makes_no_difference(tag):
    records = panel(8)
    options = {"rejected": ["people", "own-other-item"], "scope": "mixed", "weights": ["distinctiveness"]}
    one, other = pairs_of(records, tag=tag, **options), pairs_of(records[::-1], tag=tag, **options)
    assert one == other
    assert one != pairs_of(records, tag=tag, seed=1, **options)


def test_a_nameless_prompt_is_one_for_all():
    prompts = Prompts(wording_for(panel()), panel(), "profile", tag=True)
    assert prompts.nameless("i1") == prompts.wording.prompt(panel()[1])


# ------------------------------------------------------------------------------------------------- the books


def test_every_two_responses_have_an_entry_and_every_pair_its_own():
    records = panel(6)
    made = pairs_of(records, scope="mixed", rejected=["people", "own-other-item"], weights=["per-item"])
    assert [entry.pair for entry in made.entries if entry.pair is not None] == [*range(len(made.pairs))]
    wording = wording_for(records)
    said = {(one.record_id, one.annotator, one.number): wording.write_response(one) for one in responses_of(records)}
    for entry in made.entries:
        assert (entry.why is None) == (entry.dropped is not None) == (entry.pair is None)
        if entry.pair is not None:
            pair = made.pairs[entry.pair]
            chosen, rejected = (
                said[one.record_id, one.annotator, one.number] for one in (entry.chosen, entry.rejected)
            )
            assert (pair.chosen, pair.rejected, pair.weight) == (chosen, rejected, entry.weight)
            assert (pair.record_id, pair.annotator, pair.source) == (entry.record_id, entry.annotator, entry.source)
    told = counts(made.pairs, made.entries)
    assert told["pairs"] + sum(told["dropped"].values()) == len(made.entries) == 6 * 3 * (2 + 1)
    assert told["same_label"] == pytest.approx(0.5, abs=0.1)
    assert sum(told["annotators"].values()) == sum(told["sources"].values()) == len(made.pairs)


def test_pairs_are_read_as_they_were_written(tmp_path):
    made = pairs_of(panel(3)).pairs
    assert write_pairs(tmp_path / "pairs.jsonl", made) == len(made)
    assert read_pairs(tmp_path / "pairs.jsonl") == made
    (tmp_path / "bad.jsonl").write_text('{"record_id": "x"}\n')
    with pytest.raises(InputError, match=r"bad.jsonl:1: .*annotator"):
        read_pairs(tmp_path / "bad.jsonl")


# ------------------------------------------------------------------------------------------------------- leaks


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_nothing_of_a_held_out_item_reaches_a_pair(data):
    """Whatever the split, prompts, sources and samples: no text of a held-out item, no answer to one, by anybody."""
    people = data.draw(st.lists(st.sampled_from("abcdef"), min_size=2, max_size=4, unique=True))
    records = panel(data.draw(st.integers(6, 14)), people)
    split = split_items(records, (6, 2, 2), data.draw(st.integers(0, 99)))
    held_out = [*split.dev, *split.test]
    how = data.draw(st.sampled_from(HOWS))
    known = {who: {"Age": "26"} for who in people} if how == "persona" else None
    prompts = Prompts(
        wording_for(split.train), split.train, how, people=known, tag=data.draw(st.booleans()),
        k=data.draw(st.integers(1, 20)), select=data.draw(st.sampled_from(SELECTS)), seed=data.draw(st.integers(0, 9)),
    )  # fmt: skip
    samples = [Response(one.id, "pooled", "neutral", f"sampled of {one.id}x") for one in records]  # also held-out ones
    options = make_options({
        "scope": data.draw(st.sampled_from(("all", "same-label", "mixed"))),
        "rejected": data.draw(st.lists(st.sampled_from(SOURCES), min_size=1, unique=True)),
        "others": data.draw(st.integers(1, 4)),
        "weights": data.draw(st.lists(st.sampled_from(WEIGHTS[:3]), unique=True)),
    })  # fmt: skip
    made = made_or_none(lambda: make_pairs(prompts, options, samples))
    whole = "\n".join(text for one in made for text in (one.prompt, one.chosen, one.rejected)) + "\n"
    for record in held_out:  # every text of the panel holds its item's number, ended by a letter or a line's end
        number = record.id[1:]
        assert not any(mark in whole for mark in (f"item{number}\n", f"xi{number}x", f"sampled of i{number}x"))
        assert record.id not in {one.record_id for one in made}
    for one in made:  # and of its own item, what the prompt shows is not what others said of it
        said = [f"xi{one.record_id[1:]}x{who}" for who in people]
        assert not any(text in one.prompt for text in said)
    assert leaks(made, split.train, held_out) == []


def test_a_leak_is_found():
    train, held_out = panel(6)[:4], panel(6)[4:]
    clean = PreferencePair("i0", "a", "p", "Label: neutral\nExplanation: a says xi0xa of it", "r", "b")
    assert leaks([clean], train, held_out) == []
    for part, text in (
        ("prompt", "Premise: the premise  of item4\n"),
        ("chosen", "Label: neutral\nExplanation: b says xi5xb of it"),
        ("rejected", "Label: neutral\nExplanation: c says xi4xc of it"),
    ):
        values = {"prompt": clean.prompt, "chosen": clean.chosen, "rejected": clean.rejected, part: text}
        found = leaks([clean, PreferencePair("i0", "a", *values.values(), "b")], train, held_out)
        assert len(found) == 1
        assert found[0].startswith(f"pair 1, {part}: a text of the held-out item 'i")
    of_item = PreferencePair("i4", "a", "p", "c", "r", "b")
    assert leaks([of_item], train, held_out) == ["pair 0: of the held-out item 'i4'"]


def test_what_people_say_of_many_items_is_no_leak():
    records = [item(i, [("a", "neutral", "different topics"), ("b", "neutral", f"xi{i}")]) for i in range(4)]
    made = pairs_of(records[:2]).pairs
    assert leaks(made, records[:2], records[2:]) == []


# --------------------------------------------------------------------------------------------------- real data


def real(*names):
    return [record for name in names for record in read_records(shared_file(f"data/{name}.jsonl"))]


PARAPHRASE = ("lewidi_par/train", "lewidi_par/dev", "lewidi_par/test")


@pytest.mark.parametrize(("names", "size", "same"), [(("varierr/all",), 5670, 0.59), (PARAPHRASE, 6000, 0.66)])
def test_as_many_pairs_as_were_counted_before(names, size, same):
    made = pairs_of(real(*names))
    told = counts(made.pairs, made.entries)
    assert told["pairs"] == size
    assert told["same_label"] == pytest.approx(same, abs=0.005)
    assert told["dropped"] == {}


def test_of_a_real_split_nothing_leaks():
    split = split_items(real("varierr/all"))
    assert [len(part) for part in split] == [300, 100, 100]
    prompts = Prompts(wording_for(split.train), split.train, "in-context", k=4, select="nearest")
    made = make_pairs(prompts, make_options({"rejected": ["people", "own-other-item"], "weights": ["validity"]}))
    told = counts(made.pairs, made.entries)
    assert min(told["annotators"].values()) >= 750
    assert leaks(made.pairs, split.train, [*split.dev, *split.test]) == []
