import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raison.records import Annotation, InputError, Record, Span, problems
from raison.sources.noise import KINDS, noisy
from raison.words import human_masks, spans_of_words, whitespace_words, word_grid, words_in_spans

KIND = st.sampled_from(sorted(KINDS))
RATE = st.floats(0, 1)


@st.composite
def rationales(draw, fields):
    """Nothing, or words of some of the fields."""
    if draw(st.booleans()) and draw(st.booleans()):
        return None
    names = draw(st.lists(st.sampled_from(sorted(fields)), unique=True, max_size=len(fields)))
    result = {}
    for name in names:
        words = whitespace_words(fields[name])
        mask = np.array(draw(st.lists(st.booleans(), min_size=len(words), max_size=len(words))), dtype=bool)
        result[name] = spans_of_words(words, mask)
    return result


@st.composite
def corpora(draw):
    """Records with one or two fields of none to six words, and up to three people."""
    names = draw(st.sampled_from([("text",), ("premise", "hypothesis")]))
    records = []
    for number in range(draw(st.integers(0, 7))):
        fields = {name: " ".join("abcdef"[: draw(st.integers(0, 6))]) for name in names}
        people = draw(st.lists(st.sampled_from(["x", "y", "z"]), unique=True, max_size=3))
        said = tuple(Annotation(name, "l", draw(rationales(fields)), "so", {"k": 1}) for name in people)
        records.append(Record(f"r{number}", fields, label="l", annotations=said))
    return records


def changed(before, after):
    return {old.id for old, new in zip(before, after, strict=True) if old != new}


def sizes(annotation, record):
    """How many words are marked, by field."""
    return {
        name: int(words_in_spans(whitespace_words(record.fields[name]), spans).sum())
        for name, spans in annotation.rationale.items()
    }


@given(corpora(), KIND, st.integers(0, 3))
def test_without_noise_nothing_changes(records, kind, seed):
    result = noisy(records, kind, 0, seed)
    assert result.records == records
    assert (result.affected, result.changed) == (0, 0)


@given(corpora(), KIND, RATE, st.integers(0, 3))
def test_only_rationales_change_and_they_stay_valid(records, kind, rate, seed):
    result = noisy(records, kind, rate, seed)
    for old, new in zip(records, result.records, strict=True):
        assert list(problems(new)) == []
        assert (new.id, new.fields, new.label, new.meta) == (old.id, old.fields, old.label, old.meta)
        for one, two in zip(old.annotations, new.annotations, strict=True):
            assert (two.annotator, two.label, two.explanation) == (one.annotator, one.label, one.explanation)
            assert two.extra == ({"k": 1} if one == two else {"k": 1, "noise": kind})
            assert one.rationale is not None or two.rationale is None
    assert len(changed(records, result.records)) == result.changed <= result.affected
    with_rationale = sum(bool(human_masks(record, word_grid(record)).any()) for record in records)
    assert result.with_rationale == with_rationale
    assert abs(result.affected - rate * with_rationale) <= 0.5


@given(corpora(), KIND, RATE, RATE, st.integers(0, 3))
def test_rates_are_nested_and_the_order_of_records_does_not_matter(records, kind, one, two, seed):
    low, high = (noisy(records, kind, rate, seed).records for rate in sorted((one, two)))
    for before, little, much in zip(records, low, high, strict=True):
        assert little in (before, much)
    assert noisy(records[::-1], kind, one, seed).records == noisy(records, kind, one, seed).records[::-1]


@given(corpora(), st.integers(0, 3))
def test_a_shift_keeps_the_number_of_words_in_each_field(records, seed):
    for old, new in zip(records, noisy(records, "shift", 1, seed).records, strict=True):
        for one, two in zip(old.annotations, new.annotations, strict=True):
            if one.rationale is not None:
                assert sizes(one, old) == sizes(two, new)


@given(corpora(), st.integers(0, 3))
def test_a_replacement_takes_as_many_other_words_as_there_are(records, seed):
    for old, new in zip(records, noisy(records, "replace", 1, seed).records, strict=True):
        grid = word_grid(old)
        for one, two in zip(old.annotations, new.annotations, strict=True):
            if one.rationale is not None:
                (before,), (after,) = (human_masks(Record("", {}, annotations=(said,)), grid) for said in (one, two))
                others = sum(grid.sizes[list(grid.words).index(name)] for name in one.rationale) - before.sum()
                assert before.sum() == after.sum()
                assert (before & after).sum() == max(0, before.sum() - others)
                assert two.rationale.keys() == one.rationale.keys()


@given(corpora(), st.integers(0, 3))
def test_dropped_is_missing(records, seed):
    for old, new in zip(records, noisy(records, "drop", 1, seed).records, strict=True):
        if human_masks(old, word_grid(old)).any():
            assert {annotation.rationale is None for annotation in new.annotations} == {True}
        else:
            assert new == old


def person(number, text, *words, name="x"):
    spans = whitespace_words(text)
    return Record(
        str(number), {"text": text}, annotations=(Annotation(name, None, {"text": tuple(spans[w] for w in words)}),)
    )


def word_numbers(record):
    (mask,) = human_masks(record, word_grid(record), ["x"])
    return np.flatnonzero(mask).tolist()


def test_a_swap_is_a_ring_of_records_clipped_to_their_words():
    records = [person(0, "a b c d e", 4), person(1, "a b", 0), person(2, "a b c d", 1, 3)]
    results = [noisy(records, "swap", 1, seed) for seed in range(6)]
    seen = {tuple(tuple(word_numbers(record)) for record in result.records) for result in results}
    assert seen == {((0,), (1,), ()), ((1, 3), (), (0,))}  # both rings of three; what lies beyond `a b` is lost
    assert {result.changed for result in results} == {3}


def test_a_lone_record_has_nobody_to_swap_with():
    assert noisy([person(0, "a b", 1)], "swap", 1, 0)[1:] == (1, 1, 0)


def test_a_shift_moves_by_one_to_three_words():
    words = " ".join("abcdefghijk")
    moved = {word_numbers(noisy([person(n, words, 5)], "shift", 1, 0).records[0])[0] for n in range(60)}
    assert moved == {2, 3, 4, 6, 7, 8}
    for text in ("a", "a b"):  # all that is there is marked: no place to move to
        record = person(0, text, *range(len(text.split())))
        assert noisy([record], "shift", 1, 0) == ([record], 1, 1, 0)


def test_only_the_people_chosen():
    spans = {"text": (Span(0, 1),)}
    records = [
        Record(str(n), {"text": "a b c"}, annotations=(Annotation("x", None, spans), Annotation("y", None, spans)))
        for n in range(9)
    ]
    result = noisy(records, "replace", 1, 0, ["y"])
    assert result.changed == 9
    for record in result.records:
        assert record.annotations[0] == Annotation("x", None, spans)
        assert record.annotations[1].rationale != spans


def test_another_seed_affects_other_records():
    records = [person(n, "a b c d", 0) for n in range(40)]
    one, two = (changed(records, noisy(records, "drop", 0.5, seed).records) for seed in (0, 1))
    assert len(one) == len(two) == 20
    assert one != two


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("swop", 0.1, 0), "unknown noise 'swop'; did you mean 'swap'"),
        (("swap", 1.1, 0), "expected a rate from 0 to 1, got 1.1"),
        (("swap", float("nan"), 0), "got nan"),
        (("swap", 0.1, 0, ["nobody"]), "unknown annotator 'nobody'"),
    ],
)
def test_what_can_not_be_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        noisy([person(0, "a b", 0)], *arguments)
