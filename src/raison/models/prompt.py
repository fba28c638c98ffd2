"""The prompt that a causal language model reads of a record, and where the words of the record stand in it."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from raison.models.chat import render
from raison.models.tasks import Task
from raison.records import InputError, Record
from raison.words import Ints, Place, pairs, settings_kept


class Prompt(NamedTuple):
    """A text as the model reads it, and where the record's fields stand in it."""

    text: str
    add_special: bool  # whether the tokenizer adds its special tokens (a chat template writes its own)
    places: tuple[Place, ...]


Frames = dict[tuple[str, ...], list[str]]  # labels -> literal, field, literal, field, ..., literal
_MARK = re.compile("\ue000(\\d+)\ue001")


def lay_out(tokenizer: Any, task: Task, record: Record, labels: Sequence[str], frames: Frames | None = None) -> Prompt:
    """Write the task's prompt for a record through the tokenizer's chat template, if it has one.

    The template is filled twice: with the record's texts, which is what the model reads, and with a mark in the place
    of each field, which tells where they stand.

    Args:
        tokenizer: any Hugging Face tokenizer; left as it is.
        task: what is asked.
        record: with the fields that the task shows.
        labels: in the order in which the prompt names them.
        frames: the template as it was filled with marks for earlier records, by labels; used and added to.

    Raises:
        InputError: the record lacks a field, or the chat template changes a text in its midst.
    """
    frames = {} if frames is None else frames
    texts, chat = task.texts(record), bool(tokenizer.chat_template)
    text, add_special = render(tokenizer, task.messages(texts, labels, chat))
    pieces = frames.get(tuple(labels))
    if pieces is None:
        marks = {name: f"\ue000{index}\ue001" for index, name in enumerate(task.fields)}
        marked, _ = render(tokenizer, task.messages(marks, labels, chat))
        pieces = frames[tuple(labels)] = _MARK.split(marked)
    for strip in (False, True):
        shown = {name: given.strip() if strip else given for name, given in texts.items()}
        built, places = "", list[Place]()
        for index, piece in enumerate(pieces):
            if index % 2 == 0:
                built += piece
                continue
            name = task.fields[int(piece)]
            lead = len(texts[name]) - len(texts[name].lstrip()) if strip else 0
            places.append(Place(name, len(built), lead, len(shown[name])))
            built += shown[name]
        if built == text:
            return Prompt(text, add_special, tuple(places))
    raise InputError(f"record {record.id!r}: the model's chat template changes its text, so words can't be traced")


def tokens_of(tokenizer: Any, text: str, add_special: bool) -> tuple[Ints, Ints]:
    """Give ids and characters (tokens, 2) of a text; special tokens that would close it are left out.

    Raises:
        InputError: the tokenizer is a slow one.
    """
    return tokens_of_all(tokenizer, [text], add_special)[0]


def tokens_of_all(tokenizer: Any, texts: Sequence[str], add_special: bool) -> list[tuple[Ints, Ints]]:
    """Do the same for many texts, in one call of the tokenizer."""
    if not getattr(tokenizer, "is_fast", False):
        raise InputError(f"{type(tokenizer).__name__} gives no character offsets; a fast tokenizer is needed")
    with settings_kept(tokenizer):
        encoded = tokenizer(list(texts), add_special_tokens=add_special, truncation=False, padding=False)
    return [_opened(encoding, add_special) for encoding in encoded.encodings]


def _opened(encoding: Any, add_special: bool) -> tuple[Ints, Ints]:
    ids, offsets = np.array(encoding.ids, dtype=np.int64), pairs(encoding.offsets)
    if add_special:
        ends = np.flatnonzero(~np.array(encoding.special_tokens_mask, dtype=np.bool_))
        size = int(ends[-1]) + 1 if len(ends) else 0
        return ids[:size], offsets[:size]
    return ids, offsets


def shortened(word: NDArray[np.int64], sizes: Sequence[int], limit: int) -> NDArray[np.int64] | None:
    """Give the tokens that stay when the longest field loses its last words; None where no word would be left."""
    field = np.repeat(np.arange(len(sizes)), sizes)
    kept = np.ones(len(word), dtype=np.bool_)
    while kept.sum() > limit:
        inside = kept & (word >= 0)
        if not inside.any():
            return None
        counts = np.bincount(field[word[inside]], minlength=len(sizes))
        mine = inside.copy()
        mine[inside] = field[word[inside]] == counts.argmax()
        last = word[mine].max()
        kept &= word != last
    return np.flatnonzero(kept)
