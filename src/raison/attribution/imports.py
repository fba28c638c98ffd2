"""Scores that Captum or Inseq made, brought onto the grid of words."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from raison.models.scorer import Scorer
from raison.rationales import WordScores
from raison.records import InputError, Record, Span
from raison.words import Segmenter, Tokens, WordGrid, pool, settings_kept, whitespace_words, word_grid, words_of_tokens

Floats64 = NDArray[np.float64]
Hidden = Literal["sum", "norm"]


def from_captum(
    model: Scorer,
    records: Sequence[Record],
    attributions: Any,
    method: str,
    target: str | Sequence[str | None] | None,
    *,
    reduction: str = "sum",
) -> list[WordScores]:
    """Take scores per token, made by Captum or by hand for the ids that `model.encode(records)` gives.

    Args:
        model: the classifier that was explained.
        records: what it classified.
        attributions: one array (tokens,) or (tokens, hidden) for each record, or one padded batch of them, padding on
            the right. The hidden axis is summed over, signs kept.
        method: what the scores are called.
        target: the label explained, for all records or for each.
        reduction: from tokens to words, see `raison.words.pool`.

    Returns:
        One `WordScores` for each record; NaN for words that the model did not see.

    Raises:
        InputError: there are not as many attributions as records, or not as many tokens as the record has.
    """
    targets = [target] * len(records) if target is None or isinstance(target, str) else list(target)
    padded = not isinstance(attributions, Sequence)
    if not len(attributions) == len(targets) == len(records):
        raise InputError(f"{len(records)} records, but {len(attributions)} attributions and {len(targets)} targets")
    found: list[WordScores] = []
    for row, given, label in zip(model.encode(records), attributions, targets, strict=True):
        values = _over_hidden(_array(given), "sum", row.grid.record_id)
        if len(values) < len(row.ids) or (len(values) > len(row.ids) and not padded):
            raise InputError(
                f"record {row.grid.record_id!r}: {len(values)} tokens attributed, but the model reads {len(row.ids)}"
            )
        convention = {"made_by": "captum", "hidden": "sum", "reduction": reduction}
        found.append(_scores(row, values[: len(row.ids)], (method, label, reduction), convention))
    return found


def from_inseq(
    output: Any,
    records: Sequence[Record],
    tokenizer: Any,
    *,
    texts: Sequence[str] | None = None,
    step: int | Literal["sum"] = "sum",
    hidden: Hidden = "sum",
    method: str | None = None,
    reduction: str = "sum",
    segment: Segmenter = whitespace_words,
) -> list[WordScores]:
    """Take the scores of an Inseq `FeatureAttributionOutput`: of a causal model's prompt, or of a seq2seq source.

    Scores of special tokens (BOS takes much of the attention in causal models), of generated tokens, and of prompt text
    around the fields are left out. Nothing is rescaled: scores that Inseq's `aggregate` made to sum to 1 no longer do.

    Args:
        output: raw (a hidden axis is taken together here, see `hidden`) or aggregated by Inseq.
        records: one for each attributed sequence, in order.
        tokenizer: the model's own, fast.
        texts: the attributed prompts or sources, in which every field is looked for; default: each record's one field.
        step: which generated token's scores, by position (-1 = the last), or their `sum`.
        hidden: `sum` over the hidden axis, signs kept, or L2 `norm`; without effect where Inseq has aggregated.
        method: what the scores are called; default: Inseq's name of the method.
        reduction: from tokens to words, see `raison.words.pool`.
        segment: how texts are cut into words.

    Returns:
        One `WordScores` for each record, whose target is the generated text; NaN for words of fields that are not in
        the prompt.

    Raises:
        InputError: the token ids are not those of the text, a field is found in it more than once or no field at all,
            there is no such step, or heads and layers were not aggregated.
    """
    sequences = list(output.sequence_attributions)
    texts = [_only_field(record) for record in records] if texts is None else texts
    if not len(sequences) == len(records) == len(texts):
        raise InputError(f"{len(records)} records and {len(texts)} texts, but {len(sequences)} attributed sequences")
    info: Mapping[str, Any] = getattr(output, "info", None) or {}
    name = method or str(info.get("attribution_method", "inseq"))
    common = {"made_by": "inseq", "score": str(info.get("attributed_fn", "unknown")).removesuffix("_fn"), "step": step}
    found: list[WordScores] = []
    for record, text, sequence in zip(records, texts, sequences, strict=True):
        ids, matrix = _attributed(sequence, hidden, record.id)
        row = _aligned(word_grid(record, segment), record, text, ids, tokenizer)
        explained, values = _step(sequence, matrix, step, record.id)
        convention = {**common, "hidden": hidden if matrix.ndim == 3 else "aggregated", "reduction": reduction}
        summed = _over_hidden(values, hidden, record.id)
        found.append(
            _scores(
                row,
                summed,
                (name, tokenizer.decode(explained, skip_special_tokens=True).strip(), reduction),
                convention,
            )
        )
    return found


def _scores(row: Tokens, values: Floats64, what: tuple[str, str | None, str], convention: dict[str, Any]) -> WordScores:
    method, target, reduction = what
    words = row.grid.split(pool(values, row, reduction))
    said = {"signed": bool((values < 0).any()), "special_tokens": "left out", "target": target, **convention}
    return WordScores(row.grid.record_id, method, target, words, said)


def _array(values: Any) -> Floats64:
    if isinstance(values, torch.Tensor):
        return values.detach().double().numpy(force=True)
    return np.asarray(values, dtype=np.float64)


def _over_hidden(values: Floats64, hidden: Hidden, record_id: str) -> Floats64:
    """Take the hidden axis together, where there is one: (tokens,)."""
    if values.ndim not in (1, 2):
        raise InputError(
            f"record {record_id!r}: attributions of shape {values.shape}; expected (tokens,) or (tokens, hidden)"
        )
    if values.ndim == 1:
        return values
    return values.sum(axis=1) if hidden == "sum" else np.linalg.norm(values, axis=1)


def _only_field(record: Record) -> str:
    if len(record.fields) != 1:
        raise InputError(f"record {record.id!r} has {len(record.fields)} fields; give the attributed texts")
    return next(iter(record.fields.values()))


def _attributed(sequence: Any, hidden: str, record_id: str) -> tuple[list[int], Floats64]:
    """Give the ids of the attributed tokens, and their scores (tokens, steps) or (tokens, steps, hidden)."""
    if hidden not in ("sum", "norm"):
        raise InputError(f"unknown way to take the hidden axis together {hidden!r}; expected sum or norm")
    prompt = sequence.source_attributions is None  # a causal model: what it reads stands before what it generates
    tokens = sequence.target[: sequence.attr_pos_start] if prompt else sequence.source
    matrix = _array(sequence.target_attributions if prompt else sequence.source_attributions)[: len(tokens)]
    if matrix.ndim != 2 and (matrix.ndim != 3 or "MultiDimensional" in type(sequence).__name__):
        raise InputError(
            f"record {record_id!r}: scores per layer and head; call Inseq's `aggregate()` on the output first"
        )
    return [int(token.id) for token in tokens], matrix


def _step(sequence: Any, matrix: Floats64, step: int | str, record_id: str) -> tuple[list[int], Floats64]:
    """Give the ids of the generated tokens explained, and the scores for them: (tokens,) or (tokens, hidden)."""
    generated = [int(token.id) for token in sequence.target[sequence.attr_pos_start : sequence.attr_pos_end]]
    if step == "sum":
        return generated, matrix.sum(axis=1)
    if not isinstance(step, int) or not -matrix.shape[1] <= step < matrix.shape[1]:
        raise InputError(f"record {record_id!r}: no step {step!r}; {matrix.shape[1]} generated tokens were explained")
    return [generated[step]], matrix[:, step]


def _aligned(grid: WordGrid, record: Record, text: str, ids: list[int], tokenizer: Any) -> Tokens:
    """Find the word of each attributed token by the offsets of the same tokenizer."""
    encoding = _same_ids(tokenizer, text, ids, record.id)
    offsets = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)
    special = np.array(encoding.special_tokens_mask, dtype=np.bool_)
    word = np.full(len(ids), -1, dtype=np.int64)
    first, found = 0, 0
    for name, spans in grid.words.items():
        start = _place(text, record.fields[name], f"record {record.id!r}: field {name!r}")
        if start is not None:
            moved = [Span(a + start, b + start) for a, b in spans]
            own = words_of_tokens(offsets, np.where(special, -1, 0), [moved])
            word = np.where((own >= 0) & (word < 0), own + first, word)
            found += 1
        first += len(spans)
    if not found:
        raise InputError(f"record {record.id!r}: none of its fields is in the attributed text")
    return Tokens(grid, np.array(ids, dtype=np.int64), np.zeros(len(ids), dtype=np.int64), word)


def _place(text: str, part: str, what: str) -> int | None:
    """Give the character at which a field begins in the text; None where it does not occur."""
    if part == text:
        return 0
    count = text.count(part)
    if count > 1:
        raise InputError(f"{what} stands {count} times in the attributed text")
    return text.index(part) if count else None


def _same_ids(tokenizer: Any, text: str, ids: list[int], record_id: str) -> Any:
    """Tokenize the text as it was attributed: with the tokenizer's special tokens, or without."""
    if not getattr(tokenizer, "is_fast", False):
        raise InputError(f"{type(tokenizer).__name__} gives no character offsets; a fast tokenizer is needed")
    with settings_kept(tokenizer):
        tried = [tokenizer([text], add_special_tokens=special).encodings[0] for special in (True, False)]
    for encoding in tried:
        if encoding.ids == ids:
            return encoding
    own = tried[0].ids
    place = next(
        (i for i, pair in enumerate(zip(own, ids, strict=False)) if pair[0] != pair[1]), min(len(own), len(ids))
    )
    here, there = (tokenizer.convert_ids_to_tokens(row[place : place + 1]) or ["the end"] for row in (ids, own))
    raise InputError(
        f"record {record_id!r}: not the tokens of its text: token {place} is {here[0]!r}, "
        f"the tokenizer gives {there[0]!r}"
    )
