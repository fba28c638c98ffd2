"""Few shots for slots: the published rule, and its sizes on the data it was used on."""

from collections import Counter

import pytest

from raison.models.slots import tags_of_slots
from raison.records import InputError, Record, read_records
from raison.training.shots import few_shot_slots
from raison.words import word_grid
from shared import shared_file


def made(*texts):
    """Make records whose words in capitals are slots named after themselves."""
    records = []
    for number, text in enumerate(texts):
        grid = word_grid(Record("", {"text": text})).words["text"]
        found = [(*span, text[slice(*span)]) for span in grid if text[slice(*span)].isupper()]
        meta = {"slots": [{"field": "text", "start": start, "end": end, "slot": name} for start, end, name in found]}
        records.append(Record(str(number), {"text": text}, meta=meta))
    return records


def kinds(records):
    return Counter(tag[2:] or "O" for one in records for tag in tags_of_slots(one, word_grid(one)))


def test_every_kind_is_seen_often_enough_and_nothing_is_kept_in_vain():
    records = made(*(["a A"] * 10), *(["b B B"] * 10), *(["A B c"] * 10), "d C")
    for seed in range(20):
        for shots in (1, 3, 4):
            chosen = few_shot_slots(records, shots, seed)
            seen = kinds(chosen)
            assert all(seen[kind] >= min(shots, total) for kind, total in kinds(records).items())
            assert [int(one.id) for one in chosen] == sorted(int(one.id) for one in chosen)
            assert len(chosen) <= 3 * shots + 1
            assert chosen == few_shot_slots(records, shots, seed)
    assert few_shot_slots(records, 100, 0) == records
    assert len({tuple(one.id for one in few_shot_slots(records, 1, seed)) for seed in range(20)}) > 10


def test_words_are_counted_not_records():
    records = made(*(["x A A A"] * 5))
    assert len(few_shot_slots(records, 3)) == 3  # O, seen once in each, asks for three
    records = made(*(["A A A"] * 5))
    assert len(few_shot_slots(records, 3)) == 1
    assert len(few_shot_slots(records, 4)) == 2


def test_wrong_requests_are_refused():
    with pytest.raises(InputError, match="shots 0: expected at least 1"):
        few_shot_slots(made("a A"), 0)
    with pytest.raises(InputError, match=r"`meta\.slots`: absent"):
        few_shot_slots([Record("1", {"text": "a"})], 1)


@pytest.mark.slow
def test_the_published_sizes_are_reached():
    records = list(read_records(shared_file("data/snips_uimer/train.jsonl.gz")))
    expected = {1: (24, 28), 3: (57, 61), 5: (89, 96), 10: (167, 179), 30: (498, 501)}
    for shots, (low, high) in expected.items():
        sizes = [len(few_shot_slots(records, shots, seed)) for seed in (55, 1988, 12333, 42)]
        assert (min(sizes), max(sizes)) == (low, high)
