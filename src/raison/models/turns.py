"""The labels of a causal model at the end of a longer conversation than the one that asks for them."""

from collections.abc import Sequence

import numpy as np

from raison.masking import ModelInput
from raison.models.answerer import Answerer
from raison.models.chat import Conversation, render
from raison.models.prompt import tokens_of
from raison.models.scorer import Probabilities, softmax
from raison.models.tasks import Task
from raison.words import Ints


def score_after(answerer: Answerer, conversations: Sequence[Conversation]) -> list[Probabilities | None]:
    """Score the labels after each conversation, as the answerer scores them after its own prompt.

    Args:
        answerer: whose labels.
        conversations: each ends with a message of the user.

    Returns:
        For each (labels,) probabilities; None for a conversation that is longer than the model reads.
    """
    rows = [_ids(answerer, conversation) for conversation in conversations]
    fits = [index for index, ids in enumerate(rows) if len(ids) <= answerer.max_length]
    inputs = [ModelInput(rows[i], np.zeros_like(rows[i]), np.ones(len(rows[i]), dtype=np.bool_)) for i in fits]
    found = dict(zip(fits, softmax(answerer.logits(inputs)), strict=True)) if fits else {}
    return [found.get(index) for index in range(len(rows))]


def _ids(answerer: Answerer, conversation: Conversation) -> Ints:
    tokenizer = answerer.tokenizer
    told = conversation if tokenizer.chat_template else with_cue(conversation, answerer.task)
    return tokens_of(tokenizer, *render(tokenizer, told))[0]


def with_cue(conversation: Conversation, task: Task) -> Conversation:
    """End a conversation with the task's `answer`, as a model without a chat template reads it."""
    if not task.answer:
        return conversation
    last = conversation[-1]
    return [*conversation[:-1], {**last, "content": f"{last['content']}\n{task.answer}"}]
