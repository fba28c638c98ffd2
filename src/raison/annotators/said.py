"""Prompts and responses as tokens: rendered once, with the prompt's own tokens before every response."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from raison.annotators.trees import Said
from raison.annotators.wording import Wording
from raison.models.chat import render
from raison.models.prompt import tokens_of_all
from raison.records import Span
from raison.training.recipes import end_of_turn
from raison.words import Ints

Texts = tuple[str, str]  # the user's message, and the response to it
_NOWHERE = Span(0, 0)


class _Prompt(NamedTuple):
    text: str
    add_special: bool
    ids: Ints


def tokens_of_turns(
    tokenizer: Any, turns: Iterable[Texts], limit: int, wording: Wording | None = None
) -> Mapping[Texts, Said]:
    """Tokenise turns, each distinct one once; those of more than `limit` tokens are left out.

    The prompt is rendered with the chat template, as for a generator, and its tokens are those that a generator reads:
    every response follows just these. A response is tokenised as it stands behind the prompt; where that would change
    the prompt's tokens, since a token would reach over the border, by itself. Behind it stands the token that ends a
    turn. Without a chat template a response begins on a line of its own.

    Args:
        tokenizer: a fast one.
        turns: prompts and responses.
        limit: longest sequence that the model reads.
        wording: finds the label in a response; None = no token is taken for one of the label.

    Raises:
        InputError: a slow tokenizer, or a chat template that refuses a message.
    """
    known = list(dict.fromkeys(turns))
    prompts = _prompts(tokenizer, {prompt for prompt, _ in known})
    end = end_of_turn(tokenizer)
    found: dict[Texts, Said] = {}
    for turn, (ids, starts) in zip(known, _responses(tokenizer, prompts, known), strict=True):
        span = (wording.read(turn[1]).label_span if wording is not None else None) or _NOWHERE
        label = (starts[:, 0] < span.end) & (starts[:, 1] > span.start)
        said = Said(
            tuple(prompts[turn[0]].ids.tolist()), (*ids.tolist(), *end), (*label.tolist(), *([False] * len(end)))
        )
        if len(said.prompt) + len(said.ids) <= limit:
            found[turn] = said
    return found


def _prompts(tokenizer: Any, texts: set[str]) -> dict[str, _Prompt]:
    ordered = sorted(texts)
    rendered = [render(tokenizer, [{"role": "user", "content": text}]) for text in ordered]
    if not rendered:
        return {}
    add_special = rendered[0][1]
    ids = tokens_of_all(tokenizer, [text for text, _ in rendered], add_special)
    return {
        text: _Prompt(shown, add_special, tokens)
        for text, (shown, _), (tokens, _) in zip(ordered, rendered, ids, strict=True)
    }


def _responses(tokenizer: Any, prompts: Mapping[str, _Prompt], turns: Sequence[Texts]) -> Iterator[tuple[Ints, Ints]]:
    """Give the tokens of each response, and the characters (tokens, 2) of each in the response."""
    if not turns:
        return
    add_special = prompts[turns[0][0]].add_special
    leads = ["" if tokenizer.chat_template or prompts[prompt].text[-1:].isspace() else "\n" for prompt, _ in turns]
    texts = [lead + response for lead, (_, response) in zip(leads, turns, strict=True)]
    fulls = [prompts[prompt].text + text for (prompt, _), text in zip(turns, texts, strict=True)]
    joint = tokens_of_all(tokenizer, fulls, add_special)
    alone = tokens_of_all(tokenizer, texts, False)
    for (prompt, _), lead, whole, own in zip(turns, leads, joint, alone, strict=True):
        before, size = prompts[prompt], len(prompts[prompt].ids)
        if len(whole[0]) > size and np.array_equal(whole[0][:size], before.ids):
            yield whole[0][size:], whole[1][size:] - len(before.text) - len(lead)
        else:
            yield own[0], own[1] - len(lead)
