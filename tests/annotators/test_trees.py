"""Trees of tokens: who sees whom by a slow definition, nothing twice, batches within their budget, steps that agree."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raison.annotators.trees import Said, Steps, attention_mask, collate, common, groups, grow, lay_out, parted

IDS = st.lists(st.integers(0, 2), min_size=1, max_size=5)
TEXTS = st.lists(IDS, min_size=1, max_size=6)


def said(prompt, ids, label=0):
    return Said(tuple(prompt), tuple(ids), tuple(place < label for place in range(len(ids))))


def unit(size, responses=2):
    return lay_out([said(range(size), [100 + index, 7]) for index in range(responses)])


@given(texts=TEXTS)
def test_every_beginning_stands_in_the_tree_once(texts):
    row, paths = grow(texts)
    beginnings = {tuple(text[:size]) for text in texts for size in range(1, len(text) + 1)}
    assert len(row.ids) == len(beginnings)
    for text, path in zip(texts, paths, strict=True):
        assert row.ids[path].tolist() == text
        assert row.position[path].tolist() == list(range(len(text)))


@given(texts=TEXTS)
def test_a_token_sees_what_stands_before_it_in_its_own_text_and_nothing_else(texts):
    row, paths = grow(texts)
    slow = np.zeros((len(row.ids), len(row.ids)), dtype=bool)
    for path in paths:
        for place, column in enumerate(path):
            slow[column, path[: place + 1]] = True
    mask = attention_mask(torch.from_numpy(row.end)[None])[0, 0].numpy()
    assert (mask == slow).all()


@pytest.mark.parametrize("together", [True, False])
def test_tokens_are_predicted_at_the_column_before_them(together):
    responses = [said([1, 2], [5, 6, 9], 1), said([1, 2], [5, 9]), said([1, 2], [5, 6, 9], 1)]
    found = lay_out(responses, together=together)
    assert sum(len(row.ids) for row in found.rows) == (4 if together else 4 + 3)  # the last token is never read
    for index, one in enumerate(responses):
        own = found.response == index
        assert found.token[own].tolist() == list(one.ids)
        assert found.label[own].tolist() == list(one.label)
        for row, column, before in zip(found.row[own], found.column[own], [2, *one.ids], strict=False):
            assert found.rows[row].ids[column] == before


def test_a_batch_leads_back_to_the_tokens():
    units = [lay_out([said([1, 2, 3], [4, 5]), said([1, 2, 3], [4, 6])]), lay_out([said([8], [9, 9, 9])])]
    batch = collate(units, padding=77)
    assert batch["input_ids"].tolist() == [[1, 2, 3, 4], [8, 9, 9, 77]]
    columns = batch["places"][batch["row"], batch["slot"]]
    assert batch["input_ids"][batch["row"], columns].tolist() == [3, 4, 3, 4, 8, 9, 9]
    assert batch["token"].tolist() == [4, 5, 4, 6, 9, 9, 9]
    assert batch["response"].tolist() == [0, 0, 1, 1, 2, 2, 2]
    assert batch["chosen"].tolist() == [0, 1, 2]
    assert (int(batch["responses"]), int(batch["counted"])) == (3, 3)
    for row in batch["places"][:, 1:].tolist():
        assert len(set(row)) == len(row)


def test_one_text_a_row_needs_no_mask_of_ours():
    units = [lay_out([said([1, 2], [3, 4]), said([1, 2], [5])], together=False), lay_out([said([8], [9])])]
    batch = collate(units, padding=0)
    assert "ends" not in batch
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0], [1, 0, 0]]


def test_a_filling_batch_has_no_weight():
    batch = collate([unit(3)], 0, counted=False)
    assert batch["weight"].tolist() == [0.0, 0.0]
    assert int(batch["counted"]) == 0


@given(one=IDS, other=IDS)
def test_what_two_texts_have_in_common(one, other):
    size = common(one, other)
    assert one[:size] == other[:size]
    assert one[: size + 1] != other[: size + 1] or size == min(len(one), len(other))


def test_prompts_with_the_same_trunk_are_computed_together_within_the_budget():
    prompts = [(1, 2, 3, 4, 50), (9, 8), (1, 2, 3, 4, 60), (1, 2, 3, 4, 70), (1, 7, 7, 7)]
    sizes = [10, 10, 10, 10, 10]
    assert sorted(map(sorted, groups(prompts, sizes, 100))) == [[0, 2, 3], [1], [4]]
    assert sorted(map(sorted, groups(prompts, sizes, 20))) == [[0, 2], [1], [3], [4]]
    assert sorted(map(sorted, groups(prompts, sizes, 5))) == [[0], [1], [2], [3], [4]]


# -------------------------------------------------------------------------------------------------------- steps

SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=12)


@given(sizes=SIZES, budget=st.integers(1, 120))
def test_batches_keep_to_their_budget(sizes, budget):
    units = [unit(size) for size in sizes]
    found = parted(units, budget)
    assert sorted(id(one) for some in found for one in some) == sorted(map(id, units))
    for some in found:
        rows = sum(len(one.rows) for one in some)
        assert len(some) == 1 or rows * max(one.width for one in some) <= budget


@settings(deadline=None)
@given(sizes=SIZES, batch=st.integers(1, 5), budget=st.integers(1, 120), processes=st.integers(1, 3))
def test_every_step_has_its_items_once_whoever_computes_them(sizes, batch, budget, processes):
    items = [[unit(size)] for size in sizes]
    steps = Steps(items, batch, budget, 2, 0, processes)
    for epoch in (0, 1):
        steps.set_epoch(epoch)
        assert len(steps) == -(-len(items) // batch) * steps.accumulate * processes
        size = steps.accumulate * processes
        seen = []
        for start in range(0, len(steps), size):
            found = [steps[index] for index in range(start, start + size)]
            counted = [id(one) for units, counts in found if counts for one in units]
            assert 1 <= len(counted) <= batch
            seen += counted
        assert sorted(seen) == sorted(id(some[0]) for some in items)


def test_the_order_is_another_in_each_epoch_and_the_seeds():
    items = [[unit(3)] for _ in range(20)]

    def order(seed, epoch):
        steps = Steps(items, 1, 1000, 2, seed)
        steps.set_epoch(epoch)
        return [id(steps[index][0][0]) for index in range(len(steps))]

    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != order(1, 0)
