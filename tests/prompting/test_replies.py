"""Kept replies: what each of them is to be read as, and what of it is counted."""

import tomllib
from pathlib import Path

import numpy as np
import pytest

from raison.prompting.match import COUNTS, match
from raison.prompting.parse import read_reply
from raison.records import Record
from raison.words import character_words, whitespace_words, word_grid

FILE = tomllib.loads((Path(__file__).parent / "replies.toml").read_text(encoding="utf-8"))
KEPT, TEXTS = FILE["reply"], FILE["texts"]
PROMPT = ("Does the premise entail the hypothesis? Answer with one of: neutral, contradiction.", "man, dog")
KEYS = {
    *("name", "text", "record", "form", "fields", "budget", "repeats", "fuzzy", "length", "words", "failure"),
    *("how", "cut", "fuzzy_found", *COUNTS),
}


@pytest.mark.parametrize("kept", KEPT, ids=[kept["name"] for kept in KEPT])
def test_a_kept_reply(kept):
    assert kept.keys() <= KEYS
    name = kept.get("record", "park")
    segment = character_words if name == "chinese" else whitespace_words
    record = Record(name, TEXTS[name])
    items = read_reply(
        kept["text"],
        kept.get("form", "json"),
        fields=tuple(record.fields),
        segment=segment,
        cut=kept.get("length", False),
    )
    options = {key: kept[key] for key in ("fields", "budget", "repeats", "fuzzy") if key in kept}
    found = match(items, record, word_grid(record, segment), prompt=PROMPT, **options)
    flat = np.concatenate(list(found.words.values()))
    assert (found.failure, np.flatnonzero(flat).tolist()) == (kept.get("failure"), kept["words"])
    expected = {count: kept.get(count, 0) for count in COUNTS} | {"fuzzy": kept.get("fuzzy_found", 0)}
    assert found.counts == expected
    assert (found.how, found.cut) == (kept.get("how"), kept.get("cut", False))
    assert list(found.words) == list(record.fields)


def test_there_are_enough_of_them():
    assert len(KEPT) >= 60
    assert len({kept["name"] for kept in KEPT}) == len(KEPT)
