"""Slots: stretches of a text with a name, as characters (`record.meta["slots"]`) and as a BIO tag for each word."""

import warnings
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from raison.records import InputError, Record, Span
from raison.sources.slots import Slot, misplaced, slots_of
from raison.words import Segmenter, WordGrid, whitespace_words, word_grid, words_in_spans

OUTSIDE = "O"


def tags_of_slots(record: Record, grid: WordGrid) -> list[str]:
    """Tag the words of a record by its gold slots.

    A slot has every word that it touches with at least one character, as `words_in_spans` has it for rationales: one
    that ends before a full stop, or inside a word, takes the whole word.

    Returns:
        (words,) `B-slot` at the first word of a slot, `I-slot` at those that follow, `O` elsewhere; on the flat word
        axis, the fields one after the other.

    Raises:
        InputError: two slots share a word, or one touches no word, or does not lie in a field of the record.
    """
    tags = {name: np.full(size, OUTSIDE, dtype=object) for name, size in zip(grid.words, grid.sizes, strict=True)}
    for slot in slots_of(record):
        where = f"record {record.id!r}: slot {slot.slot!r} at {slot.start}-{slot.end}"
        if fault := misplaced(slot, record.fields):
            raise InputError(f"{where}: {fault}")
        places = np.flatnonzero(words_in_spans(grid.words[slot.field], [Span(slot.start, slot.end)]))
        if not len(places):
            raise InputError(f"{where}: touches no word of {slot.field!r}")
        if any(tags[slot.field][places] != OUTSIDE):
            raise InputError(f"{where}: shares a word with another slot")
        tags[slot.field][places] = f"I-{slot.slot}"
        tags[slot.field][places[0]] = f"B-{slot.slot}"
    return grid.join(tags, fill=OUTSIDE).tolist()


def slots_of_tags(grid: WordGrid, tags: Sequence[str]) -> list[dict[str, Any]]:
    """Read BIO tags (words,) as slots, in the form of `meta.slots`; the way back from `tags_of_slots`.

    An `I-` that continues nothing, or a slot of another name or field, begins one, as seqeval counts it.

    Raises:
        ValueError: there is not one tag for each word.
    """
    if len(tags) != len(grid):
        raise ValueError(f"{len(tags)} tags for {len(grid)} words")
    slots: list[Slot] = []
    for field, own in grid.split(np.array(tags, dtype=object)).items():
        before = OUTSIDE
        for word, tag in zip(grid.words[field], own.tolist(), strict=True):
            goes_on = tag.startswith("I-") and before[2:] == tag[2:]
            if tag != OUTSIDE:
                start = slots.pop().start if goes_on else word.start
                slots.append(Slot(field, start, word.end, tag[2:]))
            before = tag
    return [msgspec.to_builtins(slot) for slot in slots]


def bio_tags(records: Sequence[Record]) -> tuple[str, ...]:
    """Give the tags for the slots that occur in records: `O`, then `B-` and `I-` of each slot, sorted by name.

    Each slot gets both, also one that is never longer than a word here: SNIPS has 39 slots and so 79 tags, of which
    72 occur in its training records.
    """
    names = sorted({slot.slot for record in records for slot in slots_of(record)})
    return (OUTSIDE, *(f"{prefix}-{name}" for name in names for prefix in "BI"))


def span_f1(
    records: Sequence[Record], predicted: Sequence[Sequence[str]], segment: Segmenter = whitespace_words
) -> float | None:
    """Compute the F1 of predicted slots, in [0, 1]: a slot is right if its name and all its words are.

    It is seqeval's micro average, conlleval's counting: over all slots of all records, an `I-` that continues nothing
    begins a slot. Slots never run from one field into the next.

    Args:
        records: with gold slots in `meta.slots`.
        predicted: for each record (words,) tags.
        segment: how texts are cut into words.

    Returns:
        None where there is neither a gold nor a predicted slot.
    """
    from seqeval import metrics

    count: Any = metrics.f1_score  # its annotations are narrower than what it takes
    gold: list[list[str]] = []
    found: list[list[str]] = []
    for record, tags in zip(records, predicted, strict=True):
        grid = word_grid(record, segment)
        for sequences, own in ((gold, tags_of_slots(record, grid)), (found, tags)):
            sequences += [part.tolist() for part in grid.split(np.array(own, dtype=object)).values()]
    if all(tag == OUTSIDE for sequences in (gold, found) for tags in sequences for tag in tags):
        return None
    with warnings.catch_warnings():  # it warns where nothing is predicted, of a precision that is set to 0
        warnings.simplefilter("ignore")
        return float(count(gold, found, zero_division=0))
