"""Conversations, replies, and the text that a local model reads: its chat template, or a plain join if it has none."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
from jinja2.exceptions import TemplateError

from raison.records import InputError

Message = Mapping[str, str]  # "role" ("system", "user" or "assistant") and "content"
Conversation = Sequence[Message]

ROLES = ("system", "user", "assistant")
GAP = "\n\n"  # between contents, where a tokenizer has no chat template


class Reply(msgspec.Struct, frozen=True):
    """What a model said to one conversation, or why it said nothing."""

    text: str | None  # as it came, neither cut nor stripped; None where it failed
    finish: Literal["stop", "length", "failed"]  # the model came to its end, was cut at the most tokens, or neither
    failure: str | None = None  # one line
    prompt_tokens: int | None = None  # None where the server did not say
    reply_tokens: int | None = None  # with the token that ends the reply


def failed(reason: str, prompt_tokens: int | None = None) -> Reply:
    """Make the reply of a conversation that was not answered; the reason becomes one line."""
    return Reply(None, "failed", " ".join(reason.split())[:500], prompt_tokens)


def render(tokenizer: Any, messages: Conversation) -> tuple[str, bool]:
    """Give the text of a conversation as a model reads it, up to where its next reply begins.

    With a chat template this is what the template makes of the messages, with the mark that opens a reply. A template
    writes its special tokens itself, so the text is to be tokenised without adding any: no BOS is doubled. Where a
    template refuses a system message, or drops it, the system text stands before the first user message.

    Without a template the contents are joined by blank lines, roles are not named, and the text ends with the last
    content; the tokenizer adds what special tokens it adds to any text.

    Args:
        tokenizer: any Hugging Face tokenizer; left as it is.
        messages: at least one; contents are taken as they are.

    Returns:
        The text, and `add_special_tokens` for the tokenizer.

    Raises:
        InputError: the template refuses the messages.
        ValueError: there is no message, or one with another role.
    """
    if not messages:
        raise ValueError("expected a conversation of at least one message")
    if unknown := [message["role"] for message in messages if message["role"] not in ROLES]:
        raise ValueError(f"unknown role {unknown[0]!r}; expected {', '.join(ROLES)}")
    if not tokenizer.chat_template:
        return GAP.join(message["content"] for message in messages), True
    system = messages[0]["content"].strip() if messages[0]["role"] == "system" else ""
    try:
        text = _template(tokenizer, messages)
        if system in text:
            return text, False
    except TemplateError as error:
        if not system:
            raise _refused(tokenizer, error) from None
    try:
        return _template(tokenizer, _without_system(messages)), False
    except TemplateError as error:
        raise _refused(tokenizer, error) from None


def _template(tokenizer: Any, messages: Conversation) -> str:
    plain = [dict(message) for message in messages]
    return tokenizer.apply_chat_template(plain, tokenize=False, add_generation_prompt=True)


def _without_system(messages: Conversation) -> list[Message]:
    """Put the system text before the first user message, or make it one."""
    system, rest = messages[0]["content"], list(messages[1:])
    if not rest or rest[0]["role"] != "user":
        return [{"role": "user", "content": system}, *rest]
    return [{"role": "user", "content": f"{system}{GAP}{rest[0]['content']}"}, *rest[1:]]


def _refused(tokenizer: Any, error: TemplateError) -> InputError:
    name = getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__
    return InputError(f"{name}: its chat template refuses the conversation ({' '.join(str(error).split())})")
