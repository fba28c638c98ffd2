"""Judges, and how they are asked: a model that replies in words, one that scores the letters, an oracle that knows."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import msgspec

from raison.annotators.choices import UNREAD, read_choice
from raison.annotators.judge import Question, Wording, conversation
from raison.annotators.material import Material, draw
from raison.models.answerer import Answerer
from raison.models.batching import write_chunks
from raison.models.cache import content_hash
from raison.models.chat import Conversation, Reply, render
from raison.models.generator import Generator
from raison.models.server import GIVEN_UP
from raison.models.tasks import Task
from raison.models.turns import score_after
from raison.records import InputError, read_jsonl
from raison.runs import Unfinished, digest

CHUNK = 64  # questions asked together; an interrupted run goes on after the last whole chunk
NO_REPLY, TOO_LONG = "no reply", "longer than the model reads"


class Heard(msgspec.Struct, frozen=True):
    """What a judge answered."""

    letter: str | None  # None = nobody, see `failure`
    failure: str | None = None  # "empty reply", "cut off", "refusal", "several named", "nobody named", "no reply", ...
    reply: str | None = None  # its words, or why there are none
    probabilities: dict[str, float] | None = None  # letter -> probability, of a judge that has them
    prompt_tokens: int | None = None  # None = not known
    reply_tokens: int | None = None


class Judged(msgspec.Struct, frozen=True):
    """A question and its answer."""

    question: Question
    heard: Heard
    asked: str  # hash of the conversation: what is asked twice is paid for once

    @property
    def choice(self) -> str | None:
        """The person named."""
        letter = self.heard.letter
        return None if letter is None else self.question.options[self.question.letters.index(letter)]


Judge = Callable[[Sequence[Question], Sequence[Conversation]], list[Heard]]


# ------------------------------------------------------------------------------------------------------- judges


def speaking(generator: Generator) -> Judge:
    """Make a judge of a model that replies in words, such as one behind a server; it has no probabilities."""

    def judge(questions: Sequence[Question], talks: Sequence[Conversation]) -> list[Heard]:
        replies = generator.generate(talks)
        gone = next((reply.failure for reply in replies if (reply.failure or "").startswith(GIVEN_UP)), None)
        if gone is not None:
            raise InputError(f"{generator.name}: {gone}; start again to go on")
        return [hear(reply, question.letters) for question, reply in zip(questions, replies, strict=True)]

    return judge


def hear(reply: Reply, letters: str) -> Heard:
    """Read a generator's reply."""
    tokens = (reply.prompt_tokens, reply.reply_tokens)
    if reply.text is None:
        return Heard(None, NO_REPLY, reply.failure, None, *tokens)
    letter, failure = read_choice(reply.text, letters, cut=reply.finish == "length")
    text = reply.text.encode("utf-8", "replace").decode()  # half a surrogate pair can't be written
    return Heard(letter, failure, text, None, *tokens)


def scoring(answerer: Answerer) -> Judge:
    """Make a judge of a causal model at hand: it gives each letter a probability, and the most probable is its choice.

    Args:
        answerer: of whatever task; only its model and tokenizer are used.
    """
    model, tokenizer = answerer.model, answerer.tokenizer
    scorers: dict[str, Answerer] = {}

    def judge(questions: Sequence[Question], talks: Sequence[Conversation]) -> list[Heard]:
        found: list[Heard | None] = [None] * len(questions)
        for letters in {question.letters for question in questions}:
            if letters not in scorers:
                task = Task(("question",), "{question}", {letter: letter for letter in letters}, name="judge")
                scorers[letters] = Answerer(model, tokenizer, task, name=answerer.name, max_tokens=answerer.max_tokens)
            places = [place for place, question in enumerate(questions) if question.letters == letters]
            rows = score_after(scorers[letters], [talks[place] for place in places])
            for place, row in zip(places, rows, strict=True):
                values = None if row is None else dict(zip(letters, row.tolist(), strict=True))
                found[place] = _scored(values, _length(tokenizer, talks[place]))
        return cast("list[Heard]", found)

    return judge


def _scored(values: dict[str, float] | None, length: int) -> Heard:
    if values is None:
        return Heard(None, TOO_LONG, None, None, length, 0)
    return Heard(max(values, key=values.__getitem__), None, None, values, length, 0)


def _length(tokenizer: Any, talk: Conversation) -> int:
    text, special = render(tokenizer, talk)
    return len(tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"])


def oracle(accuracy: float, bias: float = 0.0, failing: float = 0.0, seed: int = 0) -> Judge:
    """Make a judge that knows who wrote the texts, to try out a design and its analysis without a model.

    With probability `failing` it says nothing readable; else with probability `bias` it names the first letter whoever
    that is; else the writer with probability `accuracy`, and otherwise one of the others. With every person once in
    every position it is right in accuracy (1 - bias) + bias / K of K people. Each answer is drawn for itself; it
    depends on the seed and the question alone.
    """
    if not all(0 <= share <= 1 for share in (accuracy, bias, failing)):
        raise InputError(f"oracle: expected shares from 0 to 1, got {accuracy}, {bias} and {failing}")

    def one(question: Question) -> Heard:
        rng = draw(seed, "oracle", question.id)
        lost, first, right = (rng.random(3) < (failing, bias, accuracy)).tolist()
        if lost:
            return Heard(None, UNREAD, "", None, 0, 0)
        others = [who for who in question.options if who != question.writer]
        who = question.writer if right else others[int(rng.integers(len(others)))]
        letter = "A" if first else question.letters[question.options.index(who)]
        return Heard(letter, None, letter, None, 0, 0)

    return lambda questions, talks: [one(question) for question in questions]


# ---------------------------------------------------------------------------------------------------------- runs


def judge_to_file(  # noqa: PLR0917
    path: str | Path,
    judge: Judge,
    questions: Sequence[Question],
    material: Material,
    wording: Wording,
    frame: dict[str, Any],
    progress: str | None = None,
) -> list[Judged]:
    """Put the questions to a judge, into a file of JSON lines; interrupted, it goes on, with the same result.

    Args:
        path: the file; beside it `PATH.meta.json` says what it was made with.
        judge: answers questions that are given with their conversations.
        questions: from `make_questions`.
        material: what they show.
        wording: how they are worded.
        frame: what the judge is, see `raison.runs.provenance`.
        progress: title of the progress bar.

    Returns:
        An answer for each question, in order.

    Raises:
        InputError: the file was made with other questions or another judge, or a server has gone away for too long.
    """
    talks = [conversation(question, material, wording) for question in questions]
    asked = [content_hash(talk) for talk in talks]
    work = Unfinished(path, {**frame, "questions": digest([len(questions), *questions]), "talks": digest(asked)}, CHUNK)

    def answered(part: Sequence[tuple[Question, Conversation, str]]) -> list[Judged]:
        heard = judge([question for question, _, _ in part], [talk for _, talk, _ in part])
        return [Judged(question, said, mark) for (question, _, mark), said in zip(part, heard, strict=True)]

    try:
        if not work.finished:
            write_chunks(work, [*zip(questions, talks, asked, strict=True)], answered, progress)
    finally:  # a notebook keeps what failed, and with it the lock of the file
        if work.stream is not None:
            work.stream.close()
    return list(read_jsonl(path, lambda row: msgspec.convert(row, Judged)))
