"""Mask operators: what the model reads when words of a record are taken away.

Of a model that is here, everything happens on token ids: a record is never decoded and tokenised again, and special
tokens are never masked. One behind a server reads texts alone, so words are taken out of these (`masked_record`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from raison.records import InputError, Record
from raison.words import Ints, Mask, Span, Tokens, WordGrid, settings_kept

Unit = Literal["token", "word", "run"]
OPERATORS = ("mask", "unknown", "delete", "pad", "unigram", "text:STRING")


class ModelInput(NamedTuple):
    """One sequence as the model reads it; arrays (tokens,)."""

    ids: Ints
    types: Ints
    attention: Mask


@dataclass(frozen=True)
class Operator:
    """What stands in the place of masked words.

    `pieces` are the token ids that may replace a word, as (inside a text, at its start) pairs: one for a fixed string,
    many for `unigram`, none for `delete` and `pad`.
    """

    name: str
    unit: Unit
    pieces: tuple[tuple[Ints, Ints], ...] = ()
    weights: NDArray[np.float64] | None = None  # probabilities of the pieces
    filler: int = 0  # stands alone where no token at all is left
    seed: int = 0

    @property
    def convention(self) -> dict[str, Any]:
        """What a result says about the operator it was made with."""
        return {"operator": self.name, "unit": self.unit, **({"seed": self.seed} if self.weights is not None else {})}


def make_operator(
    name: str, tokenizer: Any, unit: Unit = "word", corpus: Sequence[str] = (), seed: int = 0
) -> Operator:
    """Make a mask operator for a tokenizer.

    Args:
        name: `mask` or `unknown` (the tokenizer's own token), `delete`, `pad` (tokens stay, but nothing attends to
            them), `unigram` (a word drawn from `corpus` by its frequency, the same one for a word of a record whichever
            other words are masked), or `text:STRING`.
        tokenizer: a fast Hugging Face tokenizer; None makes an operator for texts (see `masked_record`), which is
            `delete` or `text:STRING`, by word or run.
        unit: one replacement for each masked `token`, `word`, or `run` of neighbouring masked words of one field.
        corpus: words, as often as they occur; for `unigram`.
        seed: of the draws of `unigram`.

    Raises:
        InputError: the operator or unit is unknown, or the tokenizer or corpus can't serve it.
    """
    if unit not in ("token", "word", "run"):
        raise InputError(f"unknown unit {unit!r}; expected token, word or run")
    if seed < 0:
        raise InputError(f"seed {seed}: expected 0 or more")
    kind, _, string = name.partition(":")
    if tokenizer is None:
        return _of_texts(name, unit)
    filler = next((i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id) if i is not None), 0)
    if name in ("delete", "pad"):
        return Operator(name, unit, filler=filler)
    if name in ("mask", "unknown"):
        token = tokenizer.mask_token_id if name == "mask" else tokenizer.unk_token_id
        if token is None:
            raise InputError(f"the tokenizer has no {name} token; use delete, pad, unigram or text:STRING")
        piece = np.array([token])
        return Operator(name, unit, ((piece, piece),), filler=filler)
    if (kind == "text" and string.strip()) or name == "unigram":
        words, counts = np.unique(
            np.array([string] if kind == "text" else list(corpus), dtype=object), return_counts=True
        )
        return replace(_drawn(name, unit, (words.tolist(), counts), tokenizer, seed), filler=filler)
    raise InputError(f"unknown mask operator {name!r}; expected one of {', '.join(OPERATORS)}")


def _of_texts(name: str, unit: Unit) -> Operator:
    kind, _, string = name.partition(":")
    if unit == "token":
        raise InputError("without the model's tokenizer texts are masked by word or run, not by token")
    if name == "delete" or (kind == "text" and string.strip()):
        return Operator(name, unit)
    raise InputError(f"without the model's tokenizer texts are masked by delete or text:STRING, not by {name!r}")


def _drawn(name: str, unit: Unit, corpus: tuple[list[str], Ints], tokenizer: Any, seed: int) -> Operator:
    """Make the operator that draws from words by their counts; a fixed string is a corpus of one."""
    words, counts = corpus
    pieces = _pieces(tokenizer, words) if words else []
    whole = [index for index, pair in enumerate(pieces) if all(len(ids) for ids in pair)]
    if not whole:
        what = "a corpus of words to draw from" if name == "unigram" else "a string that the tokenizer does not drop"
        raise InputError(f"the operator {name} needs {what}")
    weights = counts[whole] / counts[whole].sum()
    return Operator(name, unit, tuple(pieces[i] for i in whole), weights if name == "unigram" else None, seed=seed)


def default_name(tokenizer: Any) -> str:
    """Give the operator used where none is named: `mask`, or `delete` where no tokenizer has a mask token."""
    return "mask" if tokenizer is not None and tokenizer.mask_token_id is not None else "delete"


def corpus_of(records: Sequence[Record]) -> list[str]:
    """Give every word of every record, as often as it occurs: what `unigram` draws from."""
    return [word for record in records for text in record.fields.values() for word in text.split()]


def _pieces(tokenizer: Any, strings: list[str]) -> list[tuple[Ints, Ints]]:
    """Tokenize strings as they stand inside a text (after a space) and at its start."""
    with settings_kept(tokenizer):
        inside = tokenizer([f"a {string}" for string in strings], add_special_tokens=False).encodings
        alone = tokenizer(strings, add_special_tokens=False).input_ids
    after = [
        [token for token, (_, end) in zip(encoding.ids, encoding.offsets, strict=True) if end > 1]
        for encoding in inside
    ]
    return [(np.array(a, dtype=np.int64), np.array(b, dtype=np.int64)) for a, b in zip(after, alone, strict=True)]


def apply(operator: Operator, tokens: Tokens, masks: Mask) -> list[ModelInput]:
    """Mask the words of one record, in many ways at once.

    Args:
        operator: see `make_operator`.
        tokens: the record as the model reads it.
        masks: (masks, words) boolean; True = taken away.

    Returns:
        One input for each mask, in order.
    """
    inside = tokens.word >= 0
    masked = np.zeros((len(masks), len(tokens.ids)), dtype=np.bool_)
    masked[:, inside] = masks[:, tokens.word[inside]]
    if operator.name == "pad":
        return [ModelInput(tokens.ids, tokens.types, ~row) for row in masked]
    flat, starts, lengths = _replacements(operator, tokens)
    counts = np.where(masked, np.where(_leads(masked, tokens, operator.unit), lengths, 0), 1)
    return _gather(tokens, masked, counts, (flat, starts), operator.filler)


def masked_record(operator: Operator, record: Record, grid: WordGrid, mask: Mask) -> Record:
    """Mask words of a record in its texts, for a model that is only sent texts.

    A word that is deleted takes the white space on one side along; where a string stands for it, everything around it
    stays.

    Args:
        operator: made without a tokenizer.
        record: with its texts.
        grid: its words.
        mask: (words,) boolean; True = taken away.
    """
    gone = grid.split(mask)
    fields = {name: _without(operator, text, grid.words[name], gone[name]) for name, text in record.fields.items()}
    return msgspec.structs.replace(record, fields=fields)


def _without(operator: Operator, text: str, words: Sequence[Span], gone: Mask) -> str:
    string, end, shown = operator.name.partition(":")[2], 0, False
    parts: list[str] = []
    for index, (start, stop) in enumerate(words):
        goes_on = operator.unit == "run" and index > 0 and bool(gone[index - 1])  # its run has its string
        word = text[start:stop] if not gone[index] else "" if goes_on else string
        between = text[end:start]
        parts += [between if word and (shown or not index) else between.strip(), word]
        end, shown = stop, shown or bool(word)
    return "".join([*parts, text[end:]])


def _leads(masked: Mask, tokens: Tokens, unit: Unit) -> Mask:
    """Mark the tokens in whose place a replacement is written: (masks, tokens) boolean."""
    if unit == "token":
        return masked
    if unit == "word":
        first = np.append(True, tokens.word[1:] != tokens.word[:-1])
        return masked & first
    inside = np.flatnonzero(tokens.word >= 0)  # a token of whitespace between two words does not part them
    field = np.repeat(np.arange(len(tokens.grid.sizes)), tokens.grid.sizes)[tokens.word[inside]]
    held = masked[:, inside]
    goes_on = np.zeros_like(masked)
    goes_on[:, inside[1:]] = held[:, 1:] & held[:, :-1] & (field[1:] == field[:-1])
    return masked & ~goes_on


def _replacements(operator: Operator, tokens: Tokens) -> tuple[Ints, Ints, Ints]:
    """Give the replacement of every token's word: all ids in one array, and (tokens,) starts and lengths in it."""
    if not operator.pieces or not len(tokens.ids):
        zeros = np.zeros(len(tokens.ids), dtype=np.int64)
        return zeros[:1], zeros, zeros
    at_start = np.array([span.start == 0 for spans in tokens.grid.words.values() for span in spans], dtype=np.int64)
    variant = np.where(tokens.word >= 0, at_start[tokens.word] if len(at_start) else 0, 0)
    if operator.weights is None:
        choice = np.zeros(len(tokens.ids), dtype=np.int64)
    else:
        draws = _generator(operator.seed, tokens.grid.record_id).choice(
            len(operator.pieces), size=max(len(tokens.grid), 1), p=operator.weights
        )
        choice = draws[tokens.word]
    used, code = np.unique(choice * 2 + variant, return_inverse=True)
    pieces = [operator.pieces[index // 2][index % 2] for index in used.tolist()]
    lengths = np.array([len(piece) for piece in pieces])
    starts = np.cumsum(lengths) - lengths
    return np.concatenate(pieces), starts[code], lengths[code]


def _generator(seed: int, record_id: str) -> np.random.Generator:
    """Give a generator that depends on the seed and the record alone."""
    return np.random.default_rng([seed, *record_id.encode()])


def _gather(
    tokens: Tokens, masked: Mask, counts: Ints, replacement: tuple[Ints, Ints], filler: int
) -> list[ModelInput]:
    """Write each row: every token `counts` times, masked ones replaced by the ids that `starts` points to."""
    flat, starts = replacement
    rows, length = counts.shape
    source = np.repeat(np.arange(rows * length), counts.ravel())
    token = source % length
    first = np.cumsum(counts.ravel()) - counts.ravel()
    offset = np.arange(len(source)) - first[source]
    replaced = masked.ravel()[source]
    ids = np.where(replaced, flat[np.minimum(starts[token] + offset, len(flat) - 1)], tokens.ids[token])
    types = tokens.types[token]
    cuts = np.cumsum(counts.sum(axis=1))[:-1]
    return [
        ModelInput(row, kinds, np.ones(len(row), dtype=np.bool_))
        if len(row)
        else ModelInput(np.array([filler]), np.zeros(1, dtype=np.int64), np.ones(1, dtype=np.bool_))
        for row, kinds in zip(np.split(ids, cuts), np.split(types, cuts), strict=True)
    ]
