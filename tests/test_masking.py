"""Mask operators against a slow reference that writes each input token by token."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raison.attribution.extract import corpus_of
from raison.masking import Operator, apply, default_name, make_operator, masked_record
from raison.records import InputError, Record, Span
from raison.words import Tokens, WordGrid, word_grid

UNITS = ("token", "word", "run")
PIECE = (np.array([901, 902]), np.array([903]))  # inside a text, at its start
OPERATORS = {
    "mask": lambda unit: Operator("mask", unit, ((np.array([900]), np.array([900])),), filler=7),
    "text": lambda unit: Operator("text:two words", unit, (PIECE,), filler=7),
    "delete": lambda unit: Operator("delete", unit, filler=7),
    "pad": lambda unit: Operator("pad", unit, filler=7),
}


def by_loop(name, unit, tokens, mask):
    """What the model should read, written one token after the other: lists of ids, types and attention."""
    grid, words = tokens.grid, tokens.word.tolist()
    field_of = [field for field, spans in enumerate(grid.words.values()) for _ in spans]
    at_start = [span.start == 0 for spans in grid.words.values() for span in spans]
    rows, last_word, last_token = [], None, None
    for token, kind, word in zip(tokens.ids.tolist(), tokens.types.tolist(), words, strict=True):
        masked = word >= 0 and bool(mask[word])
        if name == "pad":
            rows.append((token, kind, not masked))
        elif not masked:
            rows.append((token, kind, True))
        elif name != "delete":
            in_run = last_word is not None and bool(mask[last_word]) and field_of[last_word] == field_of[word]
            starts = {"token": True, "word": word != last_token, "run": not in_run}[unit]
            new = {"mask": [900], "text": [903] if at_start[word] else [901, 902]}[name]
            rows += [(piece, kind, True) for piece in new if starts]
        last_token = word
        if word >= 0:
            last_word = word
    if not rows and name == "pad":
        return [], [], []
    if not rows:
        rows = [(7, 0, True)]
    return tuple(list(column) for column in zip(*rows, strict=True))


@st.composite
def records(draw):
    """Records as some tokenizer may give them: special tokens or none, tokens of whitespace, words without a token."""
    special = draw(st.booleans())
    fields, words, ids, types = {}, [], [], []

    def add(word, field):
        ids.append(len(ids) + 10)
        types.append(field)
        words.append(word)

    count = 0
    if special:
        add(-1, 0)
    for field in range(draw(st.integers(1, 2))):
        spans, position = [], draw(st.integers(0, 1))
        for _ in range(draw(st.integers(0, 5))):
            if draw(st.integers(0, 4)) == 0:
                add(-1, field)
            for _ in range(draw(st.integers(0, 3))):
                add(count, field)
            spans.append(Span(position, position + 2))
            position, count = position + 3, count + 1
        fields[f"field {field}"] = tuple(spans)
        if special:
            add(-1, field)
    arrays = [np.array(values, dtype=np.int64) for values in (ids, types, words)]
    masks = draw(st.lists(st.lists(st.booleans(), min_size=count, max_size=count), max_size=4))
    rows = [*masks, [True] * count, [False] * count]
    return Tokens(WordGrid("r", fields), *arrays), np.array(rows, dtype=bool).reshape(len(rows), count)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("name", OPERATORS)
@given(record=records())
@settings(deadline=None, max_examples=60)
def test_inputs_are_those_written_token_by_token(name, unit, record):
    tokens, masks = record
    found = apply(OPERATORS[name](unit), tokens, masks)
    assert len(found) == len(masks)
    for row, mask in zip(found, masks, strict=True):
        assert tuple(part.tolist() for part in row) == by_loop(name, unit, tokens, mask)
        assert len(row.ids) > 0 or (name == "pad" and not len(tokens.ids))
        special = [i for i, word in zip(tokens.ids.tolist(), tokens.word.tolist(), strict=True) if word < 0]
        kept = row.ids[row.attention].tolist()
        assert [i for i in kept if i in special] == special  # special tokens are never masked


def test_by_hand():
    """[CLS] the un|happy dog [SEP] a man [SEP], with "unhappy dog" and "a" taken away."""
    grid = WordGrid("r", {"p": (Span(0, 3), Span(4, 11), Span(12, 15)), "h": (Span(0, 1), Span(2, 5))})
    ids, types = np.arange(10, 19), np.array([0, 0, 0, 0, 0, 0, 1, 1, 1])
    tokens = Tokens(grid, ids, types, np.array([-1, 0, 1, 1, 2, -1, 3, 4, -1]))
    mask = np.array([[False, True, True, True, False]])
    expected = {
        ("mask", "token"): [10, 11, 900, 900, 900, 15, 900, 17, 18],
        ("mask", "word"): [10, 11, 900, 900, 15, 900, 17, 18],
        ("mask", "run"): [10, 11, 900, 15, 900, 17, 18],
        ("text", "word"): [10, 11, 901, 902, 901, 902, 15, 903, 17, 18],
        ("delete", "run"): [10, 11, 15, 17, 18],
        ("pad", "word"): [10, 11, 12, 13, 14, 15, 16, 17, 18],
    }
    for (name, unit), wanted in expected.items():
        (row,) = apply(OPERATORS[name](unit), tokens, mask)
        assert row.ids.tolist() == wanted
        if name == "pad":
            assert row.attention.tolist() == [True, True, False, False, False, True, False, True, True]
        else:
            assert row.attention.all()
            assert row.types.tolist() == [0] * (len(wanted) - 3) + [1] * 3 if name != "delete" else [0, 0, 0, 1, 1]


def test_a_run_never_crosses_a_field():
    grid = WordGrid("r", {"p": (Span(0, 1),), "h": (Span(0, 1),)})
    tokens = Tokens(grid, np.array([5, 6]), np.array([0, 1]), np.array([0, 1]))  # no special token between them
    (row,) = apply(OPERATORS["mask"]("run"), tokens, np.array([[True, True]]))
    assert row.ids.tolist() == [900, 900]
    assert row.types.tolist() == [0, 1]


def test_a_token_of_whitespace_does_not_part_a_run():
    grid = WordGrid("r", {"t": (Span(0, 1), Span(3, 4))})
    tokens = Tokens(grid, np.array([5, 6, 7]), np.zeros(3, dtype=np.int64), np.array([0, -1, 1]))
    (row,) = apply(OPERATORS["mask"]("run"), tokens, np.array([[True, True]]))
    assert row.ids.tolist() == [900, 6]


def test_unigram_draws_one_word_for_each_word_whatever_else_is_masked(classifiers, tiny):
    classifier = classifiers["bert"]
    tokens = classifier.encode(tiny.records())[3]
    corpus = ["dog"] * 8 + ["book", "park"]
    operator = make_operator("unigram", classifier.tokenizer, corpus=corpus, seed=5)
    assert operator.convention == {"operator": "unigram", "unit": "word", "seed": 5}
    size = len(tokens.grid)
    (whole,) = apply(operator, tokens, np.ones((1, size), dtype=bool))
    words = whole.ids[tokens.word >= 0] if len(whole.ids) == len(tokens.ids) else None
    assert words is not None
    allowed = classifier.tokenizer.convert_tokens_to_ids(["dog", "book", "park"])
    assert set(words.tolist()) <= set(allowed)
    for row, word in zip(apply(operator, tokens, np.eye(size, dtype=bool)), range(size), strict=True):
        changed = tokens.ids.copy()
        changed[tokens.word == word] = words[word]
        assert row.ids.tolist() == changed.tolist()


def test_unigram_draws_by_frequency(classifiers):
    classifier = classifiers["bert"]
    dog, park = classifier.tokenizer.convert_tokens_to_ids(["dog", "park"])
    operator = make_operator("unigram", classifier.tokenizer, corpus=["dog"] * 3 + ["park"], seed=1)
    drawn = []
    for index in range(40):
        (tokens,) = classifier.encode([Record(str(index), {"text": "the " * 40})])
        (row,) = apply(operator, tokens, np.ones((1, 40), dtype=bool))
        drawn += row.ids[1:-1].tolist()
    assert set(drawn) == {dog, park}
    assert drawn.count(dog) / len(drawn) == pytest.approx(0.75, abs=0.04)  # 1,600 draws: sd 0.011


def test_strings_are_written_as_the_tokenizer_reads_them_there(classifiers):
    """A byte-level tokenizer reads "dog" at a text's start and " dog" inside as other tokens."""
    classifier = classifiers["roberta"]
    (tokens,) = classifier.encode([Record("1", {"text": "man reads book"})])
    for name in ("text:the dog", "unigram"):
        operator = make_operator(name, classifier.tokenizer, corpus=["dog"])
        string = "the dog" if name != "unigram" else "dog"
        for word in range(3):
            (row,) = apply(operator, tokens, np.arange(3)[None] == word)
            text = " ".join(string if index == word else name for index, name in enumerate(("man", "reads", "book")))
            assert row.ids.tolist() == classifier.tokenizer(text).input_ids


def test_corpus_of_counts_each_word():
    records = [Record("1", {"a": "x y x", "b": "z"}), Record("2", {"a": "", "b": "x"})]
    assert sorted(corpus_of(records)) == ["x", "x", "x", "y", "z"]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("blot", {}, "unknown mask operator 'blot'; expected one of mask, unknown, delete"),
        ("text:", {}, "unknown mask operator 'text:'"),
        ("text:   ", {}, "unknown mask operator"),
        ("text:\u0001", {}, "needs a string that the tokenizer does not drop"),
        ("unigram", {}, "needs a corpus of words"),
        ("unigram", {"corpus": ["\u0001", "\u0002"]}, "needs a corpus of words"),
        ("mask", {"unit": "page"}, "unknown unit 'page'; expected token, word or run"),
    ],
)
def test_impossible_operators_are_refused(classifiers, name, options, message):
    with pytest.raises(InputError, match=message):
        make_operator(name, classifiers["bert"].tokenizer, **options)


def test_words_the_tokenizer_drops_are_never_drawn(classifiers):
    operator = make_operator("unigram", classifiers["bert"].tokenizer, corpus=["\u0001"] * 9 + ["dog", "the", "the"])
    assert len(operator.pieces) == 2
    np.testing.assert_allclose(operator.weights, [1 / 3, 2 / 3])


# ------------------------------------------------------------------------------------------------------- texts

TWO = Record("x", {"a": " one two  three\n", "b": "four"})


@pytest.mark.parametrize(
    ("name", "unit", "mask", "expected"),
    [
        ("text:#", "word", [1, 0, 1, 1], {"a": " # two  #\n", "b": "#"}),
        ("text:#", "run", [0, 1, 1, 1], {"a": " one #\n", "b": "#"}),
        ("text:[gone away]", "run", [1, 1, 0, 0], {"a": " [gone away]  three\n", "b": "four"}),
        ("delete", "word", [1, 0, 0, 0], {"a": "two  three\n", "b": "four"}),
        ("delete", "run", [0, 1, 0, 1], {"a": " one  three\n", "b": ""}),
        ("delete", "word", [0, 0, 0, 0], TWO.fields),
    ],
)
def test_words_are_masked_in_texts_where_there_is_no_tokenizer(name, unit, mask, expected):
    operator = make_operator(name, None, unit)
    assert masked_record(operator, TWO, word_grid(TWO), np.array(mask, dtype=bool)).fields == expected


def test_a_text_without_its_masked_words_has_the_others_in_order():
    rng = np.random.default_rng(0)
    for _ in range(100):
        record = Record("x", {"a": "".join(rng.choice(["a", "bc", " ", "\n", "  "], size=12)), "b": "d e"})
        grid = word_grid(record)
        mask = rng.random(len(grid)) < 0.5
        words = [record.fields[name][slice(*span)] for name, spans in grid.words.items() for span in spans]
        made = masked_record(make_operator("delete", None), record, grid, mask)
        kept = [word for word, gone in zip(words, mask, strict=True) if not gone]
        assert " ".join(made.fields.values()).split() == kept


@pytest.mark.parametrize(
    ("name", "unit", "message"),
    [
        ("mask", "word", "texts are masked by delete or text:STRING, not by 'mask'"),
        ("unigram", "word", "not by 'unigram'"),
        ("text: ", "word", "not by 'text: '"),
        ("delete", "token", "by word or run, not by token"),
        ("delete", "letter", "unknown unit 'letter'"),
    ],
)
def test_what_needs_a_tokenizer_says_so(name, unit, message):
    with pytest.raises(InputError, match=message):
        make_operator(name, None, unit)
    assert default_name(None) == "delete"
