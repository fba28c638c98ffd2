"""The model under check: it answers a task, and it speaks.

Checks of explanations need both. An answer is scored where the model is at hand (`Scored`), or read from a reply where
only replies are to be had (`Spoken`).
"""

import re
from collections.abc import Sequence
from typing import NamedTuple, Protocol, cast

import msgspec

from raison.checks.results import Needs
from raison.checks.wording import Wording, fill
from raison.masking import make_operator, masked_record
from raison.models.answerer import Answerer, Calibrate, Normalise, Score
from raison.models.chat import Conversation, Message, Reply
from raison.models.generator import Generator
from raison.models.scorer import Probabilities
from raison.models.tasks import Task, shuffled
from raison.models.turns import score_after
from raison.prompting.served import Served
from raison.records import InputError, Record
from raison.words import Mask, Segmenter, word_grid

UNKNOWN = "unknown"  # the label of "it can't be told"
# Free text may well say "I can't see a dog": what counts is that the model will not do as it is asked, or apologises.
_DECLINED = re.compile(
    r"\b(?:I(?:['’]m| am)? )?(?:can(?:['’]t|not| not)|could(?:n['’]t| not)|won['’]t|will not|(?:un|not )able to|"
    r"(?:must|have to) (?:decline|refuse) to)\s+(?:help|assist|answer|comply|provide|explain|continue|fulfil|engage|"
    r"discuss|share|do (?:that|this|so)|(?:re)?write|create|generate|process|respond)\b"
    r"|\bas an? (?:AI|artificial|language model)|^\W*(?:I(?:['’]m| am) )?(?:very )?sorry\b"
    r"|^\W*(?:es tut mir leid|entschuldigung|(?:je suis )?désolé|lo siento|desculpe|mi dispiace|извините|抱歉|对不起|"
    r"申し訳|죄송|xin lỗi)",
    re.IGNORECASE,
)


class Answer(NamedTuple):
    """What the model answered."""

    label: str | None  # None = no valid answer
    probabilities: dict[str, float] | None = None  # None where only replies are to be had


class Subject(Protocol):
    """What a check needs of a model."""

    name: str
    labels: tuple[str, ...]
    task: Task
    segment: Segmenter
    shuffle: int | None
    generator: Generator

    def answers(self, records: Sequence[Record]) -> list[Answer]:
        """Answer the task for each record."""
        ...

    def after(self, conversations: Sequence[Conversation]) -> list[Answer]:
        """Answer at the end of each conversation."""
        ...

    def masked(self, records: Sequence[Record], masks: Sequence[Mask], marker: str) -> list[Answer]:
        """Answer the task for each record with a marker in the place of each word of its mask (words,)."""
        ...

    def with_unknown(self, wording: Wording) -> "Subject":
        """Give the same model with `unknown` among its labels, told that words may be missing."""
        ...


class Scored:
    """A causal language model at hand: labels are scored, words are masked on token ids.

    Args:
        answerer: scores labels.
        generator: speaks; for a model that explains itself, the same model.
    """

    def __init__(self, answerer: Answerer, generator: Generator) -> None:
        self.answerer, self.generator = answerer, generator
        self.name, self.labels, self.task = answerer.name, answerer.labels, answerer.task
        self.segment, self.shuffle = answerer.segment, answerer.shuffle

    def answers(self, records: Sequence[Record]) -> list[Answer]:
        """Score the labels after each record's prompt."""
        return [Answer(row.label, row.probabilities) for row in self.answerer.predict(records)]

    def after(self, conversations: Sequence[Conversation]) -> list[Answer]:
        """Score the labels after each conversation; one that is longer than the model reads has no valid answer."""
        found = score_after(self.answerer, conversations)
        return [Answer(None) if row is None else self._named(row) for row in found]

    def masked(self, records: Sequence[Record], masks: Sequence[Mask], marker: str) -> list[Answer]:
        """Score the labels with words replaced on token ids."""
        operator = make_operator(f"text:{marker}", self.answerer.tokenizer)
        encoded = self.answerer.encode(records)
        found = self.answerer.predict_masked(encoded, [mask[None] for mask in masks], operator)
        return [self._named(row) for rows in found for row in rows]

    def with_unknown(self, wording: Wording) -> "Scored":
        """Give the same model, not a copy, with one more label."""
        old = self.answerer
        made = Answerer(
            old.model,
            old.tokenizer,
            _open_task(self, wording),
            labels=_and_unknown(self.labels),
            name=old.name,
            segment=old.segment,
            max_tokens=old.max_tokens,
            score=cast("Score", old.scored),
            normalise=cast("Normalise", old.normalise),
            calibrate=cast("Calibrate", old.calibrate),
            shuffle=old.shuffle,
        )
        return Scored(made, self.generator)

    def _named(self, row: Probabilities) -> Answer:
        return Answer(self.labels[int(row.argmax())], dict(zip(self.labels, row.tolist(), strict=True)))


class Spoken(Served):
    """A model of which only replies are to be had, see `Served`."""

    def answers(self, records: Sequence[Record]) -> list[Answer]:
        """Read the label from the reply to each record's prompt."""
        return [Answer(row.label) for row in self.predict(records)]

    def after(self, conversations: Sequence[Conversation]) -> list[Answer]:
        """Read the label from the reply to each conversation."""
        return [Answer(label) for label, _ in self.replies(conversations)]

    def masked(self, records: Sequence[Record], masks: Sequence[Mask], marker: str) -> list[Answer]:
        """Read the label from the reply to each record's prompt, with words replaced in its texts."""
        operator, rows = make_operator(f"text:{marker}", None), zip(records, masks, strict=True)
        return self.answers(
            [masked_record(operator, record, word_grid(record, self.segment), mask) for record, mask in rows]
        )

    def with_unknown(self, wording: Wording) -> "Spoken":
        """Give the same model with one more label."""
        labels = _and_unknown(self.labels)
        return Spoken(self.generator, _open_task(self, wording), labels, self.segment, self.shuffle)


def expect(subject: Subject, check: str, needs: Needs) -> None:
    """Refuse a model of which a check needs more than is to be had.

    Raises:
        InputError: it gives answers only, and the check needs probabilities or weights.
    """
    if needs != "answers only" and isinstance(subject, Served):
        raise InputError(f"{check} needs {needs}, and a model behind a server gives answers only; load it here")


def _and_unknown(labels: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*labels, UNKNOWN]))


def _open_task(subject: Subject, wording: Wording) -> Task:
    """Give the task with an announcement that words may be missing, and a word for `unknown`."""
    task, said = subject.task, wording.unknown
    words = {label: task.word(label) for label in subject.labels}
    announced = fill(said.announce, {"marker": said.marker, "unknown": words.get(UNKNOWN, said.word)})
    return msgspec.structs.replace(
        task, prompt=f"{task.prompt.rstrip()} {announced}", labels={**words, UNKNOWN: words.get(UNKNOWN, said.word)}
    )


# ------------------------------------------------------------------------------------------------ conversations


def question(subject: Subject, record: Record) -> list[Message]:
    """Give the conversation that asks for a record's label."""
    order = shuffled(subject.labels, subject.shuffle, record.id)
    return subject.task.messages(subject.task.texts(record), order)


class Said(NamedTuple):
    """A reply in words, or why there is none."""

    text: str | None
    failure: str | None = None  # "no reply", "empty reply", "refusal", "cut off"
    declines: bool = False  # reads like a refusal


def say(
    subject: Subject, conversations: Sequence[Conversation], *, whole: bool = False, declining: bool = True
) -> list[Said]:
    """Let the model speak; what is no answer to what was asked is a stated failure.

    Args:
        subject: the model.
        conversations: one reply for each.
        whole: a reply that was cut at its length is a failure too.
        declining: a reply that reads like a refusal is one, by rules that know English, and apologies in some more.
    """
    replies = subject.generator.generate(conversations) if conversations else []
    heard = [_heard(reply, whole) for reply in replies]
    return [Said(None, "refusal") if declining and said.declines else said for said in heard]


def _heard(reply: Reply, whole: bool) -> Said:
    if reply.text is None:
        return Said(None, "no reply")
    text = reply.text.rpartition("</think>")[2]
    text = text.encode("utf-8", "replace").decode()  # half a surrogate pair can't be written
    if not text.strip():
        return Said(None, "empty reply")
    if whole and reply.finish == "length":
        return Said(None, "cut off")
    return Said(text, declines=_DECLINED.search(text[:200]) is not None)


def explanations(subject: Subject, records: Sequence[Record], labels: Sequence[str], wording: Wording) -> list[Said]:
    """Ask in the same chat why each label was answered: free text."""
    return say(
        subject,
        [
            [*question(subject, record), *why(subject.task.word(label), wording)]
            for record, label in zip(records, labels, strict=True)
        ],
    )


def why(word: str, wording: Wording) -> list[Message]:
    """Give how a conversation goes on that asks for the reasons of an answer."""
    return [{"role": "assistant", "content": word}, {"role": "user", "content": wording.explanation.ask}]
