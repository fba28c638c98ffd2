"""A model of which only replies are to be had, such as one behind a server: it answers the task in words.

Its labels are read from what it says, and words are masked in the texts that it is sent. It has no probabilities: what
needs them is undefined, never 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from raison.masking import Operator, masked_record
from raison.models.chat import Conversation, Message
from raison.models.generator import Generator
from raison.models.server import GIVEN_UP
from raison.models.tasks import Task, shuffled
from raison.prompting.labels import read_label
from raison.records import InputError, Prediction, Record
from raison.words import Mask, Segmenter, Tokens, whitespace_words, word_grid

Probabilities = NDArray[np.float64]


@dataclass(frozen=True)
class Text(Tokens):
    """A record as such a model reads it: one token for each word of the fields that the task shows."""

    record: Record


class Served:
    """A model that answers a task in words, with what explaining and evaluating need of a model.

    Args:
        generator: gives the replies; its cache and its patience serve here too.
        task: what is asked.
        labels: to choose from.
        segment: how texts are cut into words.
        shuffle: seed by which each record's prompt names the labels in an order of its own; None = always the same.
    """

    answers_only = True
    tokenizer = None

    def __init__(
        self,
        generator: Generator,
        task: Task,
        labels: Sequence[str],
        segment: Segmenter = whitespace_words,
        shuffle: int | None = None,
    ) -> None:
        self.generator, self.task, self.labels = generator, task, tuple(labels)
        self.name, self.segment, self.shuffle = generator.name, segment, shuffle

    @property
    def convention(self) -> dict[str, Any]:
        """What a result says about how labels are asked for."""
        words = {label: self.task.word(label) for label in self.labels}
        return {"task": self.task.name, "prompt": self.task.prompt, "label_words": words, "shuffle": self.shuffle}

    def question(self, record: Record) -> list[Message]:
        """Give the conversation that asks for a record's label."""
        return self.task.messages(self.task.texts(record), shuffled(self.labels, self.shuffle, record.id))

    def replies(
        self, conversations: Sequence[Conversation], progress: str | None = None
    ) -> list[tuple[str | None, str | None]]:
        """Give (label, reply) of each conversation; the label is None where the reply names none, or there is none.

        Raises:
            InputError: the server was away for longer than the generator waits; what it answered is in its cache.
        """
        words = {label: self.task.word(label) for label in self.labels}
        found = self.generator.generate(conversations, progress) if conversations else []
        gone = next((reply.failure for reply in found if (reply.failure or "").startswith(GIVEN_UP)), None)
        if gone is not None:
            raise InputError(f"{self.name}: {gone}; start again to go on")
        return [(read_label(reply.text, words), reply.text) for reply in found]

    def predict(self, records: Sequence[Record], progress: str | None = None) -> list[Prediction]:
        """Ask for the label of each record."""
        asked = self.replies([self.question(record) for record in records], progress)
        return [
            Prediction(record.id, self.name, label, None, text)
            for record, (label, text) in zip(records, asked, strict=True)
        ]

    def encode(self, records: Sequence[Record]) -> list[Tokens]:
        """Lay out the words; those of fields that the task does not show are not seen.

        Raises:
            InputError: a record lacks a field of the task.
        """
        return [self._encode(record) for record in records]

    def _encode(self, record: Record) -> Text:
        shown, grid = self.task.texts(record), word_grid(record, self.segment)
        word = np.flatnonzero(np.repeat([name in shown for name in grid.words], grid.sizes))
        return Text(grid, word, np.zeros_like(word), word, record)

    def predict_masked(
        self,
        tokens: Sequence[Tokens],
        masks: Sequence[Mask],
        operator: Operator,
        known: dict[bytes, Probabilities] | None = None,
    ) -> list[Probabilities]:
        """Ask about records with words taken out of their texts; the generator asks the same question once.

        Args:
            tokens: the records, from `encode`.
            masks: for each record (masks, words) boolean; True = taken away.
            operator: what stands in the place of masked words, made without a tokenizer.
            known: for other models.

        Returns:
            For each record (masks, labels): 1 for the label answered and 0 for the others; NaN = no label in the reply.

        Raises:
            InputError: see `replies`.
        """
        del known
        asked = [
            self.question(masked_record(operator, row.record, row.grid, mask))
            for row, wanted in zip(cast("Sequence[Text]", tokens), masks, strict=True)
            for mask in wanted
        ]
        table = np.array([self._row(label) for label, _ in self.replies(asked)]).reshape(-1, len(self.labels))
        return np.split(table, np.cumsum([len(wanted) for wanted in masks])[:-1])

    def _row(self, label: str | None) -> list[float]:
        return [np.nan if label is None else float(name == label) for name in self.labels]
