"""Words: the one place where characters, words and a tokenizer's tokens are brought together.

A *word* is what a person sees: by default a stretch between spaces, punctuation attached, since that is how people
highlight. A *token* is the tokenizer's. Inside the library the words of a record are one flat axis, the fields one
after the other in the order of the record; `WordGrid` splits that axis into fields and joins it again.
"""

import unicodedata
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from raison.records import InputError, Record, Span

Mask = NDArray[np.bool_]
Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Segmenter = Callable[[str], list[Span]]


def whitespace_words(text: str) -> list[Span]:
    """Give the stretches between whitespace (as `str.isspace` has it), in order; punctuation stays attached."""
    spans: list[Span] = []
    position = 0
    for word in text.split():
        start = text.index(word, position)
        position = start + len(word)
        spans.append(Span(start, position))
    return spans


def character_words(text: str) -> list[Span]:
    """Give each character that is not whitespace, with the combining marks and joiners that follow it.

    For languages written without spaces, where no word segmenter is at hand.
    """
    spans: list[Span] = []
    for index, character in enumerate(text):
        if character.isspace():
            continue
        if spans and spans[-1].end == index and _continues(text[index - 1], character):
            spans[-1] = Span(spans[-1].start, index + 1)
        else:
            spans.append(Span(index, index + 1))
    return spans


_JOINER = "\u200d"


def _continues(before: str, character: str) -> bool:
    """Whether `character` is drawn as a part of the one before it (marks, joiners, emoji modifiers)."""
    return (
        unicodedata.category(character) in ("Mn", "Me", "Mc", "Cf")
        or before == _JOINER
        or "\U0001f3fb" <= character <= "\U0001f3ff"
    )


SEGMENTERS: dict[str, Segmenter] = {"whitespace": whitespace_words, "characters": character_words}


@dataclass(frozen=True)
class WordGrid:
    """The words of one record: a flat axis over its fields."""

    record_id: str
    words: Mapping[str, Sequence[Span]]  # field -> its words' characters

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """How many words each field has, in order."""
        return tuple(len(spans) for spans in self.words.values())

    def __len__(self) -> int:
        """How many words the record has in all."""
        return sum(self.sizes)

    def split(self, flat: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Cut an array whose last axis is the record's words into one array per field."""
        cuts = np.cumsum(self.sizes)[:-1]
        return dict(zip(self.words, np.split(flat, cuts, axis=-1), strict=True))

    def join(self, per_field: Mapping[str, NDArray[Any]], fill: Any = 0) -> NDArray[Any]:
        """Join arrays per field into the flat axis; an absent field is filled with `fill`.

        Raises:
            InputError: a field is not the record's, or its array has another number of words.
        """
        strange = per_field.keys() - self.words.keys()
        if strange:
            raise InputError(f"record {self.record_id!r} has no field {sorted(strange)[0]!r}")
        parts: list[NDArray[Any]] = []
        for name, size in zip(self.words, self.sizes, strict=True):
            part = np.asarray(per_field[name]) if name in per_field else np.full(size, fill)
            if part.shape[-1] != size:
                raise InputError(f"record {self.record_id!r}: field {name!r} has {size} words, not {part.shape[-1]}")
            parts.append(part)
        return np.concatenate(parts, axis=-1)


def word_grid(record: Record, segment: Segmenter = whitespace_words) -> WordGrid:
    """Lay the word grid over a record."""
    return WordGrid(record.id, {name: tuple(segment(text)) for name, text in record.fields.items()})


def pairs(spans: Sequence[tuple[int, int]]) -> Ints:
    """Give starts and ends as an array (spans, 2); many times faster than numpy does by itself."""
    return np.fromiter(chain.from_iterable(spans), dtype=np.int64, count=2 * len(spans)).reshape(-1, 2)


def words_in_spans(words: Sequence[Span], spans: Sequence[Span]) -> Mask:
    """Mark the words that a span touches with at least one character: boolean array (words,)."""
    if not words:
        return np.zeros(0, dtype=np.bool_)
    starts, ends = pairs(words).T
    mask = np.zeros(len(words), dtype=np.bool_)
    for start, end in spans:
        mask |= (starts < end) & (ends > start) & (start < end)
    return mask


def spans_of_words(words: Sequence[Span], mask: Mask) -> tuple[Span, ...]:
    """Give the characters of the marked words; marked words that follow each other are one span."""
    spans: list[Span] = []
    for index in np.flatnonzero(mask).tolist():
        start, end = words[index]
        if spans and mask[index - 1]:
            start = spans.pop().start
        spans.append(Span(start, end))
    return tuple(spans)


def human_masks(record: Record, grid: WordGrid, annotators: Collection[str] | None = None) -> Mask:
    """Give what each person marked: boolean array (people who were asked, words); no row for those not asked.

    Args:
        record: the record.
        grid: its words.
        annotators: whose annotations count, by name; None = everybody's.
    """
    rows = [
        grid.join({name: words_in_spans(grid.words[name], spans) for name, spans in marked.items()}, fill=False)
        for who, marked in ((annotation.annotator, annotation.rationale) for annotation in record.annotations)
        if marked is not None and (annotators is None or who in annotators)
    ]
    return np.array(rows, dtype=np.bool_).reshape(len(rows), len(grid))


# --------------------------------------------------------------------------------------------------- tokens


@dataclass(frozen=True)
class Tokens:
    """One record as a model reads it: token ids, and the word that each of them belongs to."""

    grid: WordGrid
    ids: Ints  # (tokens,)
    types: Ints  # (tokens,): segment of a pair; zeros where the model knows none
    word: Ints  # (tokens,): index on the flat word axis; -1 = special or whitespace

    @cached_property
    def seen(self) -> Mask:
        """Which words the model sees (words,): not those cut off by truncation or dropped by the tokenizer."""
        seen = np.zeros(len(self.grid), dtype=np.bool_)
        seen[self.word[self.word >= 0]] = True
        return seen


def tokenize(
    tokenizer: Any, grids: Sequence[WordGrid], texts: Sequence[Sequence[str]], max_length: int
) -> list[Tokens]:
    """Tokenize single texts or pairs as the model will read them, and align the tokens with the words.

    Args:
        tokenizer: any fast Hugging Face tokenizer. It is left as it was.
        grids: the word grid of each record.
        texts: the one or two texts of each record, in the order of the grid's fields.
        max_length: longest input in tokens; of a pair, the longer text is cut first.

    Raises:
        InputError: the tokenizer gives no offsets (a slow one), or a record has more than two texts.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise InputError(f"{type(tokenizer).__name__} gives no character offsets; a fast tokenizer is needed")
    if not grids:
        return []
    pair = len(texts[0]) == 2
    if any(len(row) != len(texts[0]) for row in texts) or len(texts[0]) not in (1, 2):
        raise InputError("a classifier reads one field or two, the same for all records")
    with settings_kept(tokenizer):
        encoded = tokenizer(
            [row[0] for row in texts],
            [row[1] for row in texts] if pair else None,
            truncation="longest_first",
            max_length=max_length,
            padding=False,
            return_attention_mask=False,
            return_token_type_ids=True,
        )
    return [_aligned(grid, encoding) for grid, encoding in zip(grids, encoded.encodings, strict=True)]


@contextmanager
def settings_kept(tokenizer: Any) -> Generator[None]:
    """Give a fast tokenizer back the truncation and padding that calls inside change."""
    backend = tokenizer.backend_tokenizer
    truncation, padding = backend.truncation, backend.padding
    try:
        yield
    finally:
        backend.no_truncation() if truncation is None else backend.enable_truncation(**truncation)
        backend.no_padding() if padding is None else backend.enable_padding(**padding)


def _aligned(grid: WordGrid, encoding: Any) -> Tokens:
    sequence = np.array([-1 if s is None else s for s in encoding.sequence_ids], dtype=np.int64)
    offsets = pairs(encoding.offsets)
    return Tokens(
        grid,
        ids=np.array(encoding.ids, dtype=np.int64),
        types=np.array(encoding.type_ids, dtype=np.int64),
        word=words_of_tokens(offsets, sequence, tuple(grid.words.values())),
    )


def words_of_tokens(offsets: Ints, sequence: Ints, words: Sequence[Sequence[Span]]) -> Ints:
    """Find the word that each token belongs to.

    Args:
        offsets: (tokens, 2), characters of its text that a token covers.
        sequence: (tokens,), which text it comes from; -1 = special token.
        words: the words of each text.

    Returns:
        (tokens,), index on the flat word axis. A token that covers several words belongs to the first of them; one
        that covers none (special, whitespace, empty) gets -1.
    """
    result = np.full(len(offsets), -1, dtype=np.int64)
    before = 0
    for index, spans in enumerate(words):
        inside = np.flatnonzero(sequence == index)
        if len(spans) and len(inside):
            starts, ends = pairs(spans).T
            nearest = np.searchsorted(ends, offsets[inside, 0], side="right")  # first word that ends after its start
            word = np.minimum(nearest, len(spans) - 1)
            covered = (nearest < len(spans)) & (starts[word] < offsets[inside, 1])
            covered &= offsets[inside, 0] < offsets[inside, 1]
            result[inside[covered]] = before + word[covered]
        before += len(spans)
    return result


class Place(NamedTuple):
    """Where a stretch of a field stands in a longer text, such as a prompt."""

    field: str
    start: int  # in the longer text
    skipped: int  # characters of the field that are left out before it
    length: int


def words_of_places(offsets: Ints, grid: WordGrid, places: Sequence[Place]) -> Ints:
    """Find the word that each token of a longer text belongs to.

    Args:
        offsets: (tokens, 2), characters of the longer text that a token covers.
        grid: the record's words.
        places: where its fields stand; a field may stand there more than once, or not at all.

    Returns:
        (tokens,), index on the flat word axis; -1 = outside the fields. A token that covers several words belongs to
        the first of them.
    """
    first = dict(zip(grid.words, np.cumsum([0, *grid.sizes]).tolist(), strict=False))
    result = np.full(len(offsets), -1, dtype=np.int64)
    for place in places:
        here = np.flatnonzero((offsets[:, 1] > place.start) & (offsets[:, 0] < place.start + place.length))
        moved = offsets[here] - (place.start - place.skipped)
        found = words_of_tokens(moved, np.zeros(len(here), dtype=np.int64), (grid.words[place.field],))
        known = here[found >= 0]
        free = result[known] < 0
        result[known[free]] = first[place.field] + found[found >= 0][free]
    return result


REDUCTIONS = ("sum", "mean", "max", "absmax", "first")


def pool(token_scores: NDArray[Any], tokens: Tokens, reduction: str = "sum") -> Floats:
    """Turn scores of tokens into scores of words.

    Args:
        token_scores: (tokens,).
        tokens: the alignment.
        reduction: `sum` (keeps totals), `mean`, `max`, `absmax` (the value farthest from zero, with its sign), or
            `first` (of the word's tokens).

    Returns:
        (words,) float32; NaN for words that the model did not see.

    Raises:
        InputError: the reduction is unknown.
    """
    if reduction not in REDUCTIONS:
        raise InputError(f"unknown reduction {reduction!r}; expected one of {', '.join(REDUCTIONS)}")
    inside = np.flatnonzero(tokens.word >= 0)
    word, value = tokens.word[inside], np.asarray(token_scores, dtype=np.float64)[inside]
    size = len(tokens.grid)
    if reduction in ("sum", "mean"):
        result = np.bincount(word, weights=value, minlength=size)
        if reduction == "mean":
            result = result / np.maximum(np.bincount(word, minlength=size), 1)
    else:
        key = {"max": value, "absmax": np.abs(value), "first": -inside.astype(np.float64)}[reduction]
        order = np.lexsort((key, word))  # by word, the wanted token last
        result = np.zeros(size)
        result[word[order]] = value[order]
    return np.where(tokens.seen, result, np.nan).astype(np.float32)
