"""Rival rationales, of which it is known whether they are true; and what metrics of faithfulness make of them."""

import numpy as np
import pytest

from raison.rationales import Rationale, top_k
from raison.testbed import make_corpus, rivals, truth_mask
from raison.testbed.grade import CUES
from raison.words import word_grid

KINDS = ("single", "pair")


def flat(grid, item):
    return grid.join(item.words if isinstance(item, Rationale) else item.scores, fill=np.nan)


@pytest.mark.parametrize("kind", KINDS)
def test_rivals_are_as_large_as_the_truth_and_have_nothing_of_it(kind):
    records = make_corpus(kind, 150, 3)
    by_id, found = {record.id: record for record in records}, rivals(records)
    planted = [record for record in records if truth_mask(record, word_grid(record)).any()]
    assert [item.record_id for item in found["truth"]] == [record.id for record in planted]
    assert [len(found[name]) for name in ("planted", "random_words")] == [len(planted)] * 2
    assert len(planted) * 0.3 < len(found["distractors"]) <= len(planted)
    cued = []
    for name in ("planted", "random_words", "distractors"):
        for item in found[name]:
            record, grid = by_id[item.record_id], word_grid(by_id[item.record_id])
            truth, scores = truth_mask(record, grid), flat(grid, item)
            top = top_k(scores, int(truth.sum()))
            assert (scores[top] >= 1).all()
            assert (scores[~top] < 0.01).all()
            assert len(np.unique(scores)) == len(scores)  # an order of all words
            assert (top == truth).all() if name == "planted" else not (top & truth).any()
            if name == "distractors":
                words = [text for field in record.fields.values() for text in field.split()]
                is_cue = np.array([word.strip(".,").lower() in CUES for word in words])
                cued.append((top & is_cue).sum() == min(truth.sum(), (is_cue & ~truth).sum()))
    assert all(cued)
    assert cued


def test_rivals_depend_on_the_seed_and_the_record_alone():
    records = make_corpus("single", 60, 3)
    some, all_of_them, other = rivals(records[30:]), rivals(records), rivals(records, seed=1)
    ids = {item.record_id for item in some["random_words"]}
    again = [item for item in all_of_them["random_words"] if item.record_id in ids]
    for a, b in zip(some["random_words"], again, strict=True):
        np.testing.assert_array_equal(a.scores["text"], b.scores["text"])
    pairs = zip(all_of_them["random_words"], other["random_words"], strict=True)
    assert any((a.scores["text"] > 0.5).tolist() != (b.scores["text"] > 0.5).tolist() for a, b in pairs)
