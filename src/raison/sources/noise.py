"""Noise in rationales, on demand: how much of it does training with rationales bear?"""

import hashlib
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from raison.records import Annotation, InputError, Record, Span
from raison.sources.common import unknown
from raison.words import Mask, Segmenter, human_masks, spans_of_words, whitespace_words, word_grid, words_in_spans

_FAR = 3  # words that a shifted rationale is moved by, at most
Rationale = dict[str, Mask]  # field -> words, of the fields that the annotation names
Fields = dict[str, tuple[Span, ...]]


class Noisy(NamedTuple):
    """Records with noise in their rationales, and how many of them have it."""

    records: list[Record]
    with_rationale: int  # records in which one of the chosen people marked a word: only these can be affected
    affected: int  # of these, the share asked for
    changed: int  # of the affected, those that could be changed: a text of one word can't be marked elsewhere


def noisy(  # noqa: PLR0917
    records: Sequence[Record],
    kind: str,
    rate: float,
    seed: int,
    annotators: Collection[str] | None = None,
    segment: Segmenter = whitespace_words,
) -> Noisy:
    """Put noise into the rationales of a share of the records; texts and labels stay as they are.

    - `drop`: the rationale is gone, as if nobody had been asked (None).
    - `shift`: in each field it is moved by one to three words, to either side; what leaves at one end comes in at the
      other, so that as many words are marked as before.
    - `swap`: it is that of another record, word by word by position; words beyond the end of the text are lost.
    - `replace`: as many other words of the same fields, drawn at random; where there are not so many, some stay.

    The records with a rationale are put in an order that depends on the seed and on their ids alone, and the first of
    them, up to the rate, are affected; what happens to a record does not depend on the rate. So rates are nested: what
    is affected at 0.2 is affected at 0.4 in the same way. The order of the records given does not matter. A changed
    annotation says so with `noise` in its `extra`.

    Args:
        records: the records.
        kind: one of `KINDS`.
        rate: share of the records with a rationale, 0 to 1; rounded to the nearest number of records.
        seed: of the choice of records and of everything drawn.
        annotators: whose rationales, by name; None = everybody's. All of theirs in an affected record are changed.
        segment: what a word is.

    Raises:
        InputError: the kind is unknown, the rate is not from 0 to 1, or none of the annotators is in the records.
    """
    if kind not in KINDS:
        raise InputError(unknown("noise", kind, KINDS))
    if not 0 <= rate <= 1:
        raise InputError(f"noise: expected a rate from 0 to 1, got {rate:g}")
    names = {annotation.annotator for record in records for annotation in record.annotations}
    if annotators is not None and not names & set(annotators):
        raise InputError(unknown("annotator", ", ".join(annotators), sorted(name for name in names if name)))
    marked = [record for record in records if human_masks(record, word_grid(record, segment), annotators).any()]
    order = sorted(marked, key=lambda record: _digest(seed, record.id))
    affected = order[: int(rate * len(order) + 0.5)]
    changed: dict[str, Record] = {}
    for place, record in enumerate(affected):
        other = order[(place + 1) % len(order)]
        changed[record.id] = _changed(record, other, kind, _digest(seed, record.id), annotators, segment)
    different = sum(changed[record.id] is not record for record in affected)
    return Noisy([changed.get(record.id, record) for record in records], len(order), len(affected), different)


def _digest(seed: int, name: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed}\n{name}".encode("utf-8", "surrogatepass"), digest_size=16).digest())


def _changed(  # noqa: PLR0917
    record: Record, other: Record, kind: str, digest: int, annotators: Collection[str] | None, segment: Segmenter
) -> Record:
    """Change what the chosen people marked; the same record where nothing could be changed."""
    rng = np.random.default_rng(digest)
    theirs = [annotation for annotation in other.annotations if _chosen(annotation, annotators)]
    result: list[Annotation] = []
    for number, annotation in enumerate(record.annotations):
        if not _chosen(annotation, annotators):
            result.append(annotation)
            continue
        same = [one for one in theirs if one.annotator == annotation.annotator] or theirs
        mine, foreign = _masks(record, annotation, segment), _masks(other, same[number % len(same)], segment)
        noise = KINDS[kind](mine, foreign, rng)
        if noise is not None and all(np.array_equal(noise[name], mine[name]) for name in mine):
            result.append(annotation)
        else:
            rationale = None if noise is None else _spans(record, noise, segment)
            extra = {**annotation.extra, "noise": kind}
            result.append(msgspec.structs.replace(annotation, rationale=rationale, extra=extra))
    if all(new is old for new, old in zip(result, record.annotations, strict=True)):
        return record
    return msgspec.structs.replace(record, annotations=tuple(result))


def _chosen(annotation: Annotation, annotators: Collection[str] | None) -> bool:
    return annotation.rationale is not None and (annotators is None or annotation.annotator in annotators)


def _masks(record: Record, annotation: Annotation, segment: Segmenter) -> Rationale:
    marked = annotation.rationale or {}
    return {name: words_in_spans(segment(record.fields[name]), spans) for name, spans in marked.items()}


def _spans(record: Record, masks: Rationale, segment: Segmenter) -> Fields:
    return {name: spans_of_words(segment(record.fields[name]), mask) for name, mask in masks.items()}


# ---------------------------------------------------------------------------------------------------- kinds


def _drop(_mine: Rationale, _other: Rationale, _rng: np.random.Generator) -> None:
    return None


def _shift(mine: Rationale, _other: Rationale, rng: np.random.Generator) -> Rationale:
    result: Rationale = {}
    for name, mask in mine.items():
        steps = [step for step in range(-_FAR, _FAR + 1) if not np.array_equal(np.roll(mask, step), mask)]
        result[name] = np.roll(mask, rng.choice(steps)) if steps else mask
    return result


def _swap(mine: Rationale, other: Rationale, _rng: np.random.Generator) -> Rationale:
    result: Rationale = {}
    for name, mask in mine.items():
        result[name] = np.zeros_like(mask)
        taken = other.get(name, mask[:0])[: len(mask)]
        result[name][: len(taken)] = taken
    return result


def _replace(mine: Rationale, _other: Rationale, rng: np.random.Generator) -> Rationale:
    flat = np.concatenate([*mine.values(), np.zeros(0, dtype=np.bool_)])
    size, others = int(flat.sum()), np.flatnonzero(~flat)
    chosen = rng.permutation(others)[:size].tolist()
    chosen += rng.permutation(np.flatnonzero(flat))[: size - len(chosen)].tolist()
    result = np.zeros_like(flat)
    result[chosen] = True
    cuts = np.cumsum([len(mask) for mask in mine.values()])
    return dict(zip(mine, np.split(result, cuts), strict=False))  # behind the last cut nothing is left


KINDS: dict[str, Callable[[Rationale, Rationale, np.random.Generator], Rationale | None]] = {
    "drop": _drop,
    "shift": _shift,
    "swap": _swap,
    "replace": _replace,
}
