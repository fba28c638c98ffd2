"""What a causal language model is fine-tuned on: prompts with the answers that follow them, and who may not be in them.

The recipes:

- `label`: the label after the evaluation's own prompt.
- `label-and-rationale`: also, in an example of its own, the words that a person marked, as the answer to the request
  for them that follows the label in the same conversation.
- `mask-augmented`: as `label`, but half of the prompts have words taken away, so that masked inputs are nothing new to
  the model (Hase et al. 2021; Madsen et al. 2023, arXiv 2310.07819).
"""

import json
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jinja2.exceptions import TemplateError
from numpy.typing import NDArray

from raison.masking import ModelInput, Operator, apply
from raison.models.answerer import Answerer
from raison.models.chat import GAP, Conversation
from raison.models.generator import LocalGenerator
from raison.models.scorer import cut
from raison.records import InputError, Record
from raison.words import Mask, Tokens, human_masks, word_grid

Recipe = Literal["label", "label-and-rationale", "mask-augmented"]
Request = Callable[[Record, str, int], Conversation]  # record, word of its label, words to name -> what the model reads
SHARED = 4  # words from which on a field that two records share makes them too much alike
IGNORED = -100  # stands where a row of a batch has no further answer token


# ----------------------------------------------------------------------------------------------- who is kept out


def apart(train: Sequence[Record], kept_out: Sequence[Record]) -> tuple[list[Record], dict[str, int]]:
    """Leave out the training records that evaluation records would be recognised by.

    Args:
        train: training records.
        kept_out: records of an evaluation.

    Returns:
        The others, in order, and how many were left out: `by_id`, `by_text` (all fields are equal, without regard to
        case and spacing), and `by_field` (of records with several fields: one of at least 4 words is equal, such as an
        NLI premise, of which there are several hypotheses). Each is counted once, under the first that holds.
    """
    ids = {record.id for record in kept_out}
    whole = {tuple(sorted(_texts(record))) for record in kept_out}
    fields = {text for record in kept_out for text in _long(record)}
    counts = {"by_id": 0, "by_text": 0, "by_field": 0}
    free: list[Record] = []
    for record in train:
        if record.id in ids:
            counts["by_id"] += 1
        elif tuple(sorted(_texts(record))) in whole:
            counts["by_text"] += 1
        elif any(text in fields for text in _long(record)):
            counts["by_field"] += 1
        else:
            free.append(record)
    return free, counts


def _texts(record: Record) -> list[str]:
    return [" ".join(text.casefold().split()) for text in record.fields.values()]


def _long(record: Record) -> list[str]:
    texts = _texts(record) if len(record.fields) > 1 else []
    return [text for text in texts if len(text.split()) >= SHARED]


# ------------------------------------------------------------------------------------------------------ examples


class Example(NamedTuple):
    """A prompt, and the tokens that are to follow it."""

    tokens: Tokens
    answer: tuple[int, ...]


def examples(
    model: Answerer, records: Sequence[Record], recipe: Recipe, seed: int, request: Request | None = None
) -> tuple[list[Example], dict[str, int]]:
    """Give what a model is trained on.

    Args:
        model: encodes prompts, as in an evaluation.
        records: each with one of the model's labels.
        recipe: see the module.
        seed: of the person whose words are taken, where several marked some.
        request: gives the conversation that asks for a record's words; default: `plain_request`.

    Returns:
        One example for each record, in order, and after them, by `label-and-rationale`, one for each record with a
        rationale; and counts: `records`, and by that recipe `with_rationale`, `without_rationale` (nobody who gave this
        label, or left it open, marked a word that the task shows) and `too_long` (more than the model reads).
    """
    end, encode = end_of_turn(model.tokenizer), LocalGenerator(model.model, model.tokenizer).encode
    rows = [
        Example(tokens, (*model.label_ids[_index(model, record)], *end))
        for record, tokens in zip(records, model.encode(records), strict=True)
    ]
    if recipe != "label-and-rationale":
        return rows, {"records": len(rows)}
    ask = request or plain_request(model)
    found = [
        _asked(model, record, (words, end), ask, encode)
        for record in records
        if (words := marked_words(model, record, seed))
    ]
    fitting = [row for row in found if len(row.tokens.ids) + len(row.answer) <= model.max_length]
    counts = {"with_rationale": len(fitting), "without_rationale": len(rows) - len(found)}
    return [*rows, *fitting], {"records": len(rows), **counts, "too_long": len(found) - len(fitting)}


def _index(model: Answerer, record: Record) -> int:
    try:
        return model.label_index(record.label or "")
    except InputError:
        raise InputError(
            f"record {record.id!r}: label {record.label!r} is not one of {', '.join(model.labels)}"
        ) from None


def end_of_turn(tokenizer: Any) -> tuple[int, ...]:
    """Give the token that ends an answer: what the chat template writes after one, else the end of the sequence.

    It is trained on with the answer, since a model that does not learn to stop goes on after its label when it
    generates. A tokenizer without such a token gives none.
    """
    last = () if tokenizer.eos_token_id is None else (int(tokenizer.eos_token_id),)
    if not tokenizer.chat_template:
        return last
    mark = "\ue000"
    turns = [{"role": "user", "content": "x"}, {"role": "assistant", "content": mark}]
    try:
        behind = tokenizer.apply_chat_template(turns, tokenize=False).rpartition(mark)[2]
    except TemplateError:
        return last
    added = {*tokenizer.added_tokens_decoder, *tokenizer.all_special_ids}
    ids: list[int] = tokenizer(behind, add_special_tokens=False).input_ids
    return next(((index,) for index in ids if index in added), last)


def plain_request(model: Answerer) -> Request:
    """Give the request that is made where no other is given: for a number of words, as a JSON list."""

    def request(record: Record, word: str, count: int) -> Conversation:
        asked = (
            f"Which words of the {' and '.join(model.task.fields)} decided that the answer is {word}? Name "
            f"{count} word{'s' * (count != 1)}, as they are written there, as a JSON list of strings and nothing else."
        )
        turns = model.task.messages(model.task.texts(record), model.labels)
        return [*turns, {"role": "assistant", "content": word}, {"role": "user", "content": asked}]

    return request


def _asked(
    model: Answerer,
    record: Record,
    reply: tuple[Sequence[str], tuple[int, ...]],
    request: Request,
    encode: Callable[[Conversation], list[int]],
) -> Example:
    """Give the conversation that asks for a person's words, and these as its answer."""
    words, end = reply
    label = model.labels[_index(model, record)]
    ids = np.array(encode(request(record, model.task.word(label), len(words))), dtype=np.int64)
    text = json.dumps(words, ensure_ascii=False)
    answer: list[int] = model.tokenizer(
        text if model.tokenizer.chat_template else GAP + text, add_special_tokens=False
    ).input_ids
    tokens = Tokens(word_grid(record, model.segment), ids, np.zeros_like(ids), np.full_like(ids, -1))
    return Example(tokens, (*answer, *end))


def marked_words(model: Answerer, record: Record, seed: int) -> list[str]:
    """Give the words that one person marked in the fields of the task, drawn by seed and record id.

    It is one of those who marked any, and chose the record's label or none.
    """
    grid = word_grid(record, model.segment)
    asked = [note for note in record.annotations if note.rationale is not None]
    words = [(name, record.fields[name][start:end]) for name, spans in grid.words.items() for start, end in spans]
    shown = np.array([name in model.task.fields for name, _ in words], dtype=np.bool_)
    masks = human_masks(record, grid) & shown
    fit = [mask for note, mask in zip(asked, masks, strict=True) if mask.any() and _agrees(note.label, record.label)]
    if not fit:
        return []
    chosen = fit[int(np.random.default_rng([seed, *record.id.encode()]).integers(len(fit)))]
    return [words[index][1] for index in np.flatnonzero(chosen).tolist()]


def _agrees(label: str | None, gold: str | None) -> bool:
    return label is None or gold is None or label.casefold() == gold.casefold()


# -------------------------------------------------------------------------------------------------------- masks


def drawn_mask(record_id: str, words: int, seed: int, epoch: int) -> Mask:
    """Draw the words (words,) that are taken away in one epoch: nothing in half of the cases, else at a drawn rate.

    The rate is uniform from 0 to 1, and each word goes with that probability (Madsen et al. 2023, section 3.2). The
    draw depends on seed, epoch and record id alone, so that half of a batch is masked in expectation.
    """
    rng = np.random.default_rng([seed, epoch, *record_id.encode()])
    half, rate = rng.random(2)
    return rng.random(words) < (rate if half < 0.5 else 0.0)


class Examples:
    """Examples as the trainer's data set; with an operator their words are masked anew in every epoch.

    Args:
        rows: what to train on.
        limit: tokens of a prompt; one that replacements make longer loses its last tokens, but never the `tail`.
        operator: what stands in the place of masked words; None = nothing is masked.
        seed: of the masks.
        tail: tokens at the end of a prompt that ask the question, see `Answerer`.
    """

    def __init__(
        self, rows: Sequence[Example], limit: int, operator: Operator | None = None, seed: int = 0, tail: int = 1
    ) -> None:
        self.rows, self.limit, self.operator, self.seed, self.tail = rows, limit, operator, seed, tail
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch it is; the trainer does so."""
        self.epoch = epoch

    def __len__(self) -> int:
        """How many examples there are."""
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[ModelInput, tuple[int, ...]]:
        """Give the prompt of an example as it is read in this epoch, and its answer."""
        tokens, answer = self.rows[index]
        if self.operator is None:
            return ModelInput(tokens.ids, tokens.types, np.ones(len(tokens.ids), dtype=np.bool_)), answer
        mask = drawn_mask(tokens.grid.record_id, len(tokens.grid), self.seed, self.epoch)
        given = apply(self.operator, tokens, mask[None])[0]
        return (cut(given, self.limit, self.tail) if len(given.ids) > self.limit else given), answer


def collate(rows: Sequence[tuple[ModelInput, tuple[int, ...]]], padding: int) -> dict[str, torch.Tensor]:
    """Pad examples to a batch.

    Returns:
        `input_ids` and `attention_mask` (rows, tokens): prompts and answers without the last token, which is only
        predicted; `places` (rows, longest answer), the columns that predict answer tokens; `answers`, of that shape,
        the tokens predicted there, or `IGNORED`.
    """
    width = max(len(given.ids) + len(answer) - 1 for given, answer in rows)
    longest = max(len(answer) for _, answer in rows)
    ids = np.full((len(rows), width), padding, dtype=np.int64)
    attention = np.zeros((len(rows), width), dtype=np.int64)
    places = np.zeros((len(rows), longest), dtype=np.int64)
    answers = np.full((len(rows), longest), IGNORED, dtype=np.int64)
    for row, (given, answer) in enumerate(rows):
        start, size = len(given.ids), len(answer)
        ids[row, : start + size - 1] = [*given.ids.tolist(), *answer[:-1]]
        attention[row, :start] = given.attention
        attention[row, start : start + size - 1] = 1
        places[row, :size] = np.arange(start - 1, start - 1 + size)
        answers[row, :size] = answer
    named: dict[str, NDArray[np.int64]] = {
        "input_ids": ids, "attention_mask": attention, "places": places, "answers": answers
    }  # fmt: skip
    return {name: torch.from_numpy(array) for name, array in named.items()}
