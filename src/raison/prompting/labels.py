"""From a reply to a label."""

import re
from collections.abc import Mapping, Sequence

from raison.prompting.parse import read_spoken
from raison.prompting.wording import REFUSAL, normalise

_ANSWER = re.compile(
    r"\b(?:answer|label|prediction|antwort|réponse|respuesta)\b\W*(?:is\b|ist\b|est\b|es\b)?", re.IGNORECASE
)
_WORD = re.compile(r"\w+(?:['’]\w+)*")


def read_label(reply: str | None, labels: Mapping[str, str] | Sequence[str]) -> str | None:
    """Give the label that a reply names, or None: no valid answer, to be counted.

    The reply is the label's word; else its last `answer: ...`, its first line, or the whole of it names exactly one
    label as words of their own (a label inside a longer one, `hateful` in `not hateful`, is the longer one; a label
    behind `not` is none). Case and punctuation make no difference.

    Args:
        reply: the text; None = there was none.
        labels: label -> its word in replies, or labels that are their own words.
    """
    words = dict(labels) if isinstance(labels, Mapping) else {label: label for label in labels}
    answer = read_spoken(reply or "").strip()
    for label, word in words.items():
        if answer and normalise(answer) == normalise(word):
            return label
    behind = [answer[found.end() :] for found in _ANSWER.finditer(answer)]
    for part in (*behind[-1:], *answer.splitlines()[:1], answer):
        named = _named(part, words)
        if named:
            return named.pop() if len(named) == 1 and not REFUSAL.search(answer[:300]) else None
    return None


def _named(text: str, words: Mapping[str, str]) -> set[str]:
    """Give the labels whose words stand in a text, longest first, each place counted once."""
    rest = f" {' '.join(_tokens(text))} "
    found: set[str] = set()
    for label, word in sorted(words.items(), key=lambda pair: -len(pair[1])):
        wanted = f" {' '.join(_tokens(word))} "
        if wanted.strip() and wanted in re.sub(rf" (?:not|no|nicht|kein){re.escape(wanted)}", " ", rest):
            found.add(label)
        rest = rest.replace(wanted, " | ") if wanted.strip() else rest
    return found


def _tokens(text: str) -> list[str]:
    return [normalise(word) for word in _WORD.findall(text.replace("_", " "))]
