"""Batches: every input once within the token budget, and a way out of full memory."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raison.models.batching import bar, batches, run

LENGTHS = st.lists(st.integers(0, 60), max_size=60)


@given(lengths=LENGTHS, budget=st.integers(1, 200))
@settings(deadline=None)
def test_every_input_comes_once_in_batches_within_the_budget(lengths, budget):
    groups = batches(lengths, budget)
    assert sorted(int(i) for group in groups for i in group) == list(range(len(lengths)))
    longest = [max(lengths[i] for i in group) for group in groups]
    assert longest == sorted(longest, reverse=True)  # the longest first: memory fails early or never
    for group, length in zip(groups, longest, strict=True):
        assert len(group) * length <= budget or len(group) == 1


@given(lengths=st.lists(st.integers(1, 60), min_size=1, max_size=60), budget=st.integers(1, 200))
@settings(deadline=None)
def test_batches_are_as_full_as_the_budget_allows(lengths, budget):
    groups = batches(lengths, budget)
    for group in groups[:-1]:
        assert (len(group) + 1) * max(lengths[i] for i in group) > budget


def test_batches_by_hand():
    """Longest first, ties by position: 9 alone (2 · 9 > 12), then 5 5, then 3 2 1."""
    assert [group.tolist() for group in batches([5, 1, 9, 3, 5, 2], 12)] == [[2], [0, 4], [3, 5, 1]]
    assert batches([], 12) == []


class Device:
    """A step that runs out of memory above a number of tokens or rows, and writes down what it was asked for."""

    def __init__(self, lengths, rows=10**9, tokens=10**9):
        self.lengths, self.rows, self.tokens = lengths, rows, tokens
        self.asked = []

    def __call__(self, indices):
        self.asked.append(len(indices))
        if len(indices) > self.rows or len(indices) * max(self.lengths[i] for i in indices) > self.tokens:
            raise torch.OutOfMemoryError("full")
        return [self.lengths[i] * 10 for i in indices]


@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=50), rows=st.integers(1, 9), budget=st.integers(1, 300)
)
@settings(deadline=None)
def test_full_memory_halves_the_batches_and_loses_nothing(lengths, rows, budget):
    device = Device(lengths, rows=rows)
    found = {}
    for indices, values in run(lengths, device, budget):
        assert len(indices) <= rows
        for index, value in zip(indices.tolist(), values, strict=True):
            assert index not in found
            found[index] = value
    assert found == {index: length * 10 for index, length in enumerate(lengths)}


def test_after_full_memory_the_batches_stay_small():
    """16 equal inputs in one batch, room for 3: 16, 8 and 4 fail, then eight batches of 2; none is tried too large."""
    device = Device([1] * 16, rows=3)
    assert [len(indices) for indices, _ in run([1] * 16, device, 100)] == [2] * 8
    assert device.asked == [16, 8, 4, *[2] * 8]


def test_an_input_that_never_fits_raises():
    with pytest.raises(torch.OutOfMemoryError):
        list(run([4, 50, 4], Device([4, 50, 4], tokens=40), 100))


def test_other_errors_are_not_caught():
    def broken(_):
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        list(run([1, 2], broken, 10))


def test_a_progress_bar_changes_nothing(capsys):
    lengths = [3, 1, 2]
    shown = {
        int(i): v
        for indices, values in run(lengths, Device(lengths), 4, "work")
        for i, v in zip(indices, values, strict=True)
    }
    assert shown == {0: 30, 1: 10, 2: 20}
    with bar(None, 3) as advance:
        advance(3)
    assert capsys.readouterr().out == ""  # never on the standard output


def test_logits_are_the_same_at_any_batch_size(classifier, tiny):
    rows = classifier.encode(tiny.records() * 3)
    options = ["token_type_ids"] if "token_type_ids" in classifier.tokenizer.model_input_names else []
    expected = []
    for row in rows:
        given = {"input_ids": row.ids, **dict.fromkeys(options, row.types)}
        with torch.no_grad():
            expected.append(classifier.model(**{k: torch.tensor(v[None]) for k, v in given.items()}).logits[0].numpy())
    before = classifier.max_tokens
    try:
        for tokens in (1, 50, 10**6):
            classifier.max_tokens = tokens
            np.testing.assert_allclose(classifier.logits(rows), expected, atol=1e-5)
    finally:
        classifier.max_tokens = before
