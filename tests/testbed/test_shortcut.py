"""A shortcut in testbed records: it goes with the label as often as asked for, and moves nothing."""

import msgspec
import numpy as np
import pytest

from raison.records import InputError
from raison.testbed import SHORTCUTS, make_corpus, rule_label, truth_mask, with_shortcut
from raison.words import human_masks, word_grid

KINDS = ("single", "pair")


def shortcut_of(record):
    return [*record.fields.values()][-1].split()[-1]


def gives_away(record):
    return SHORTCUTS[record.label_set.index(record.label)] == shortcut_of(record)


@pytest.mark.parametrize("kind", KINDS)
def test_truth_people_and_the_rule_are_what_they_were(kind):
    before = make_corpus(kind, 60, seed=3)
    after = with_shortcut(before, 0.5, seed=1)
    for old, new in zip(before, after, strict=True):
        grids = word_grid(old), word_grid(new)
        assert len(grids[1]) == len(grids[0]) + 1
        assert rule_label(new.fields) == rule_label(old.fields)
        assert not truth_mask(new, grids[1])[-1]  # of the last field, where the word stands
        assert not human_masks(new, grids[1])[:, -1].any()
        np.testing.assert_array_equal(truth_mask(new, grids[1])[:-1], truth_mask(old, grids[0]))
        np.testing.assert_array_equal(human_masks(new, grids[1])[:, :-1], human_masks(old, grids[0]))
        texts = [*new.fields.values()]
        assert [*texts[:-1], texts[-1].rpartition(" ")[0]] == [*old.fields.values()]


@pytest.mark.parametrize(("rate", "share"), [(0, 1 / 3), (0.4, 0.6), (1, 1)])
def test_it_goes_with_the_label_as_often_as_asked_for(rate, share):
    records = with_shortcut(make_corpus("single", 3000, seed=5), rate)
    error = np.sqrt(share * (1 - share) / 3000)
    assert abs(np.mean([gives_away(record) for record in records]) - share) <= 4 * error
    if rate == 0:  # each word with each label
        table = {(word, label): 0 for word in SHORTCUTS for label in records[0].label_set}
        for record in records:
            table[shortcut_of(record), record.label] += 1
        assert max(table.values()) < 1.25 * min(table.values())


def test_it_depends_on_seed_and_record_alone_and_rates_are_nested():
    records = make_corpus("single", 80, seed=5)
    whole = with_shortcut(records, 0.5)
    assert with_shortcut(records[::-1], 0.5) == whole[::-1]
    assert with_shortcut(records, 0.5, seed=1) != whole
    kept = [gives_away(high) for low, high in zip(whole, with_shortcut(records, 0.8), strict=True) if gives_away(low)]
    assert all(kept)
    assert 0 < len(kept) < 80


def test_two_labels_have_two_words():
    two = [
        msgspec.structs.replace(record, label_set=("positive", "negative"))
        for record in make_corpus("single", 60, seed=5)
        if record.label != "neutral"
    ]
    assert {shortcut_of(record) for record in with_shortcut(two, 0)} == set(SHORTCUTS[:2])


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_a_rate_is_a_share(rate):
    with pytest.raises(InputError, match="expected a rate from 0 to 1"):
        with_shortcut([], rate)


@pytest.mark.parametrize("change", [{"label": None}, {"label_set": None}, {"label_set": ("positive", *"abcd")}])
def test_a_record_must_have_a_label_of_few(change):
    record = msgspec.structs.replace(make_corpus("single", 1)[0], **change)
    with pytest.raises(InputError, match=f"record '{record.id}': a shortcut needs a label"):
        with_shortcut([record], 0.5)
