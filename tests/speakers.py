"""Models that speak by a rule: what they answer, and why, is known."""

import re

from raison.checks.subject import Spoken
from raison.models.chat import Reply
from raison.models.tasks import Task
from raison.records import Record

LABELS = ("positive", "negative")
TASK = Task(("text",), "Text: {text}\nWhich sentiment? One of: {labels}.", name="sentiment")
TEXTS = ("the film was good and long", "a bad film of the old kind", "good actors make a film", "bad bad bad things")


def record(index, text=None, label=None):
    text = TEXTS[index % 4] if text is None else text
    return Record(f"r{index}", {"text": text}, label=label or ("positive" if "good" in text else "negative"))


def text_of(talk):
    """Give the text that a conversation shows."""
    return re.search(r"Text: (.*)", "\n".join(message["content"] for message in talk))[1]


def sentiment(talk):
    """Answer by two words; `unknown` where both are missing."""
    found = re.findall(r"good|bad", text_of(talk))
    return {"good": "positive", "bad": "negative"}[found[0]] if found else "unknown"


class Speaker:
    """A generator that answers by a function of the conversation, and keeps what it was asked."""

    name = "speaker"

    def __init__(self, answer):
        self.answer, self.asked = answer, []

    def generate(self, conversations, progress=None):
        self.asked += conversations
        replies = [self.answer(talk) for talk in conversations]
        return [reply if isinstance(reply, Reply) else Reply(reply, "stop") for reply in replies]


def spoken(answer, labels=LABELS, task=TASK):
    return Spoken(Speaker(answer), task, labels)
