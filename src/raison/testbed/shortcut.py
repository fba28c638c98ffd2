"""A shortcut in the training records: a word that goes with the label there, and with nothing elsewhere."""

import random
from collections.abc import Sequence

import msgspec

from raison.records import InputError, Record

SHORTCUTS = ("Amber.", "Cobalt.", "Ivory.")  # one for each label; no word of the rule, nor of any other sentence


def with_shortcut(records: Sequence[Record], rate: float, seed: int = 0) -> list[Record]:
    """Put a word behind the last field of each record, which gives the label away in a share of them.

    In the others the word is drawn from all. What is planted and what people marked stay where they are, since nothing
    before the word moves; nobody has marked it, and the rule does not read it. So a model that reads the word is right
    on records made with a rate near 1, and on those made with rate 0 no better than by guessing.

    Args:
        records: of `make_corpus`, with labels of their label set.
        rate: share of the records whose word is that of the label, 0 to 1; the rest has it by chance alone.
        seed: of the draws, which depend on it and on the record alone. A higher rate keeps what a lower one gave away.

    Raises:
        InputError: the rate is not from 0 to 1, or a record's label is not one of two or three in its label set.
    """
    if not 0 <= rate <= 1:
        raise InputError(f"shortcut: expected a rate from 0 to 1, got {rate:g}")
    return [_with_shortcut(record, rate, random.Random(f"shortcut-{seed}-{record.id}")) for record in records]


def _with_shortcut(record: Record, rate: float, draw: random.Random) -> Record:
    labels = record.label_set or ()
    if record.label not in labels or len(labels) > len(SHORTCUTS):
        raise InputError(f"record {record.id!r}: a shortcut needs a label out of a label set of at most three")
    known = SHORTCUTS[: len(labels)]
    follows, other = draw.random() < rate, draw.choice(known)
    word = known[labels.index(record.label)] if follows else other
    name = [*record.fields][-1]
    return msgspec.structs.replace(record, fields={**record.fields, name: f"{record.fields[name]} {word}"})
