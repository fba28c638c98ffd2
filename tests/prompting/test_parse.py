"""Reading and matching: a correct reply gives back its mask, and no text at all is too strange."""

import json
import random
import tomllib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from raison.prompting import read_label
from raison.prompting.match import match
from raison.prompting.parse import CUT, EMPTY, REFUSED, UNREADABLE, read_reply
from raison.prompting.wording import letters, nearly, normalise
from raison.records import InputError, Record
from raison.words import character_words, whitespace_words, word_grid

FILE = tomllib.loads((Path(__file__).parent / "replies.toml").read_text(encoding="utf-8"))
KEPT, TEXTS = FILE["reply"], FILE["texts"]
FORMS = ("json", "numbers", "marked")
WORD = st.text(st.sampled_from("abcdeéßИب中0'-.,!?"), min_size=1, max_size=6)
RECORDS = [Record(name, fields) for name, fields in TEXTS.items()]


@st.composite
def masked(draw, word=WORD, unique=False):
    """Give a record of one or two fields, and a mask over its words."""
    same = normalise if unique else None
    words = draw(st.lists(word.filter(letters), min_size=1, max_size=12, unique_by=same))
    cut = draw(st.integers(0, len(words)))
    fields = {"premise": " ".join(words[:cut]), "hypothesis": "  ".join(words[cut:])}
    mask = draw(st.lists(st.booleans(), min_size=len(words), max_size=len(words)))
    return Record("1", fields), words, np.array(mask)


def found_in(text, form, record, **options):
    """Read a reply and give the flat mask with what was counted."""
    grid = word_grid(record)
    found = match(read_reply(text, form, fields=tuple(record.fields)), record, grid, **options)
    return np.concatenate(list(found.words.values())), found


@given(masked(unique=True), st.booleans(), st.sampled_from(["all", "first", "consume"]))
def test_a_list_of_the_words_gives_back_the_mask(made, nested, repeats):
    """Each word stands once in the text, also without its punctuation."""
    record, words, mask = made
    assume(len({letters(word) for word in words}) == len(words))
    chosen = [word for word, wanted in zip(words, mask, strict=True) if wanted]
    text = json.dumps({"rationale": chosen} if nested else chosen, ensure_ascii=nested)
    flat, found = found_in(text, "json", record, repeats=repeats)
    assert found.failure is None
    np.testing.assert_array_equal(flat, mask)
    assert (found.items, found.matched) == (len(chosen), len(chosen))


@given(masked())
def test_the_numbers_of_the_words_give_back_the_mask(made):
    record, _, mask = made
    numbers = (np.flatnonzero(mask) + 1).tolist()
    for text in (json.dumps(numbers), f"Words: {numbers}.", json.dumps({"numbers": [str(n) for n in numbers]})):
        flat, found = found_in(text, "numbers", record)
        np.testing.assert_array_equal(flat, mask)
        assert (found.failure, found.matched) == (None, mask.sum())


@given(masked(), st.booleans())
def test_the_marked_text_gives_back_the_mask(made, run):
    """Each word marked by itself, or each run of them; words may repeat."""
    record, words, mask = made
    shown = " ".join(f"**{word}**" if wanted else word for word, wanted in zip(words, mask, strict=True))
    flat, found = found_in(shown.replace("** **", " ") if run else shown, "marked", record)
    np.testing.assert_array_equal(flat, mask)
    assert (found.failure, found.matched) == (None, mask.sum())


@given(masked(), st.integers(1, 3), st.booleans())
def test_places_by_definition(made, size, glued):
    """All windows of words with the same normal forms; else all with the same letters, none empty at its ends."""
    record, words, _ = made
    grid = word_grid(record)
    said = ("" if glued else " ").join(words[:size])
    windows = [
        range(first, last)
        for first in range(len(words))
        for last in range(first + 1, len(words) + 1)
        if first >= grid.sizes[0] or last <= grid.sizes[0]
    ]
    exact = [w for w in windows if [normalise(words[i]) for i in w] == [normalise(x) for x in said.split()]]
    alike = [w for w in windows if "".join(letters(words[i]) for i in w) == letters(said)]
    expected = np.zeros(len(words), dtype=bool)
    for window in exact or alike:
        expected[list(window)] = True
    assume(expected.any())
    flat, found = found_in(json.dumps([said]), "json", record)
    assume(found.how == "json")  # a list of digits alone is no list of words
    np.testing.assert_array_equal(flat, expected)


@given(st.text("abc", max_size=7), st.text("abc", max_size=7))
def test_one_letter_wrong_by_definition(a, b):
    table = [[max(i, j) if not i * j else 0 for j in range(len(b) + 1)] for i in range(len(a) + 1)]
    for i, x in enumerate(a, 1):
        for j, y in enumerate(b, 1):
            table[i][j] = min(table[i - 1][j] + 1, table[i][j - 1] + 1, table[i - 1][j - 1] + (x != y))
    assert nearly(a, b) == (table[-1][-1] <= 1)


# ------------------------------------------------------------------------------------------------------- fuzz

PIECES = [*(kept["text"] for kept in KEPT), *(text for fields in TEXTS.values() for text in fields.values())]
SIGNS = "[]{}\"'“”„«»「」`*:,;\n\t -–•1234567890()<>/|\\=_#.!?abcXYZäßéИبک中。、،\u200d\u00a0\ud800\x00😡ﷺİ½"


SEGMENTS = [character_words if record.id == "chinese" else whitespace_words for record in RECORDS]
GRIDS = [(record, segment, word_grid(record, segment)) for record, segment in zip(RECORDS, SEGMENTS, strict=True)]


def check(text, form, cut, rng):
    """Read any text, and hold what comes of it to what must be true of every reply."""
    record, segment, grid = rng.choice(GRIDS)
    items = read_reply(text, form, fields=tuple(record.fields), segment=segment, cut=cut)
    assert len(items.said) == len(items.under)
    assert items.failure in (None, EMPTY, CUT, REFUSED, UNREADABLE)
    assert items.failure is None or not items.said
    budget = rng.choice([None, 0, 1, 3])
    repeats = rng.choice(["all", "first", "consume"])
    options = {"budget": budget, "repeats": repeats, "fuzzy": rng.random() < 0.5}
    found = match(items, record, grid, prompt=["Answer with one of: neutral, great"], **options)
    chosen = sum(int(mask.sum()) for mask in found.words.values())
    assert tuple(len(mask) for mask in found.words.values()) == grid.sizes
    assert found.items == found.matched + found.partial + found.hallucinated + found.from_prompt
    assert found.fuzzy <= found.matched + found.partial
    assert found.cut or not cut
    if found.failure:
        assert (chosen, *found.counts.values()) == (0,) * 9
    if not (found.matched or found.partial):
        assert chosen == 0
    elif budget != 0:
        assert chosen > 0
    if budget is not None and not found.failure:
        assert chosen <= budget
        assert found.under == budget - chosen
        assert not (found.over and found.under)
    assert min(found.counts.values()) >= 0
    label = read_label(text, {"SUPPORTS": "yes", "REFUTES": "no"})
    assert label in (None, "SUPPORTS", "REFUTES")


def mutated(rng):
    """Give a reply made of kept ones and signs: cut, glued, with signs put in, taken out or repeated."""
    text = rng.choice(PIECES)
    for _ in range(rng.randrange(6)):
        place = rng.randrange(len(text) + 1)
        change = rng.randrange(6)
        text = (
            text[:place] + rng.choice(SIGNS) + text[place:],
            text[:place] + text[place + rng.randrange(1, 9) :],
            text[:place] + rng.choice(PIECES)[rng.randrange(9) :],
            text[place:],
            text[:place] + rng.choice(SIGNS) * rng.randrange(30) + text[place:],
            "".join(rng.choices(SIGNS, k=rng.randrange(60))),
        )[change]
    return text[:2000]


@given(st.text(st.sampled_from(SIGNS), max_size=60) | st.text(max_size=60), st.sampled_from(FORMS), st.booleans())
@settings(max_examples=300, deadline=None)
@example("[" * 100_000, "json", False)
@example('{"a":' * 100_000, "json", True)
@example("“" * 20_000, "json", False)
@example("`" * 20_000, "json", False)
@example("**a" * 7_000, "marked", False)
@example("<mark>" * 4_000, "marked", True)
@example('["a", ' * 5_000, "json", True)
@example("1" * 5_000, "numbers", False)
@example(f"[{'9' * 5_000}]", "numbers", False)
def test_no_text_is_too_strange(text, form, cut):
    check(text, form, cut, random.Random(len(text)))


def test_mutated_replies():
    rng = random.Random(0)
    for _ in range(300):
        check(mutated(rng), rng.choice(FORMS), rng.random() < 0.3, rng)


@pytest.mark.slow
def test_a_hundred_thousand_replies():
    rng = random.Random(1)
    for _ in range(100_000):
        check(mutated(rng), rng.choice(FORMS), rng.random() < 0.3, rng)


# ----------------------------------------------------------------------------------------------------- labels

NLI = {"entailment": "entails", "neutral": "neutral", "contradiction": "contradicts"}


@pytest.mark.parametrize(
    ("reply", "label"),
    [
        ("neutral", "neutral"),
        ("  **Neutral.**\n", "neutral"),
        ("The premise contradicts the hypothesis.", "contradiction"),
        ("It is not neutral. The premise entails it.", "entailment"),
        ('{"label": "contradicts"}', "contradiction"),
        ("One could say neutral or entails. Answer: entails", "entailment"),
        ("neutral\nbecause nothing in the text contradicts it", "neutral"),
        ("<think>neutral?</think>entails", "entailment"),
        ("neutral or entails", None),
        ("perhaps", None),
        ("", None),
        (None, None),
        ("I cannot say whether it is neutral.", None),
        ("neutrality", None),
    ],
)
def test_labels_by_hand(reply, label):
    assert read_label(reply, NLI) == label


def test_a_label_inside_a_longer_one():
    labels = ("hateful", "not hateful", "very_offensive")
    assert read_label("This is not hateful at all.", labels) == "not hateful"
    assert read_label("hateful", labels) == "hateful"
    assert read_label("Label: very offensive", labels) == "very_offensive"


def test_wrong_arguments_of_match():
    items, record = read_reply('["dog"]'), RECORDS[0]
    with pytest.raises(InputError, match="unknown repeats 'some'"):
        match(items, record, word_grid(record), repeats="some")
    with pytest.raises(InputError, match="no field 'text'; it has premise, hypothesis"):
        match(items, record, word_grid(record), fields=["text"])


@pytest.mark.parametrize(
    ("reply", "label"),
    [
        ("Answer: neutral\nBecause the entailment would need the man to be outside.", "neutral"),
        ("**Answer:** Contradiction.\n\nThe premise is not neutral about the man.", "contradiction"),
        ("Answer:\nentailment\n\nIt is no contradiction, and not neutral either.", "entailment"),
        ("It isn't entailment, it's neutral.", "neutral"),
        ("It isn’t a clear contradiction but neutral", "neutral"),
        ("I don't think it is neutral; this is a contradiction.", "contradiction"),
        ("This is neither entailment nor contradiction, so the relation is neutral.", "neutral"),
        ("Sure! The hypothesis does not follow from the premise, so the correct label is **neutral**.", "neutral"),
        ("There is no contradiction here.", None),
        ("Let me see.\nThe dog runs.\nAnswer: I'd say\nentailment", "entailment"),
        ("Could be entailment or neutral, hard to say.", None),
        ("Answer: entailment or neutral\nneutral", None),
    ],
)
def test_labels_of_usual_replies(reply, label):
    assert read_label(reply, tuple(NLI)) == label


def test_no_is_a_label_and_no_negation_of_the_other():
    labels = {"SUPPORTS": "yes", "REFUTES": "no"}
    assert read_label("No, the passage does not say so.", labels) == "REFUTES"
    assert read_label("Not no: yes", labels) == "SUPPORTS"
