"""From a reply to a label."""

import re
from collections.abc import Mapping, Sequence

from raison.prompting.parse import read_spoken
from raison.prompting.wording import REFUSAL, normalise

_ANSWER = re.compile(
    r"\b(?:answer|label|prediction|antwort|réponse|respuesta)\b\W*(?:is\b|ist\b|est\b|es\b)?", re.IGNORECASE
)
_NEGATION = re.compile(r"not|no|never|neither|nor|cannot|\w+n['’]t|nicht|kein\w*")
_REACH = 3  # words between a negation and the label
_BREAK = re.compile(r"[,.;:!?()\n–—]")
_WORD = re.compile(r"\w+(?:['’]\w+)*")


def read_label(reply: str | None, labels: Mapping[str, str] | Sequence[str]) -> str | None:
    """Give the label that a reply names, or None: no valid answer, to be counted.

    The reply is the label's word; else the first of these parts that names a label names no other: the line of its last
    `answer: ...`, all behind that, its first line, the whole of it. A label is named by words of their own; a label
    inside a longer one, `hateful` in `not hateful`, is the longer one. One that is negated is not named: behind `not`,
    `no`, `isn't` and their like with at most three words between and no comma, full stop or `but`. Case and punctuation
    make no other difference.

    Args:
        reply: the text; None = there was none.
        labels: label -> its word in replies, or labels that are their own words.
    """
    words = dict(labels) if isinstance(labels, Mapping) else {label: label for label in labels}
    answer = read_spoken(reply or "").strip()
    for label, word in words.items():
        if answer and normalise(answer) == normalise(word):
            return label
    behind = [answer[found.end() :] for found in _ANSWER.finditer(answer)][-1:]
    lines = [part.splitlines()[0] for part in (*behind, answer) if part]
    for part in (*lines[:-1], *behind, *lines[-1:], answer):
        named = _named(part, words)
        if named:
            return named.pop() if len(named) == 1 and not REFUSAL.search(answer[:300]) else None
    return None


def _named(text: str, words: Mapping[str, str]) -> set[str]:
    """Give the labels whose words stand in a text, longest first, each place counted once, but for negated ones."""
    clauses, tokens = _clauses(text), _tokens(text)
    rest: list[str | None] = [*tokens]  # None = a word of a label
    named: list[tuple[str, int]] = []
    for label, word in sorted(words.items(), key=lambda pair: -len(pair[1])):
        wanted = _tokens(word)
        for start in range(len(tokens) - len(wanted) + 1 if wanted else 0):
            if rest[start : start + len(wanted)] == wanted:
                rest[start : start + len(wanted)] = [None] * len(wanted)
                named.append((label, start))
    return {
        label
        for label, start in named
        if not any(
            clauses[place] == clauses[start] and _NEGATION.fullmatch(rest[place] or "")
            for place in range(max(start - _REACH - 1, 0), start)
        )
    }


def _clauses(text: str) -> list[int]:
    """Give the number of the clause that each word stands in; a clause ends at punctuation, a line's end or `but`."""
    found: list[int] = []
    clause = end = 0
    for word in _WORD.finditer(text.replace("_", " ")):
        clause += bool(_BREAK.search(text[end : word.start()])) or word[0].casefold() in ("but", "sondern")
        found.append(clause)
        end = word.end()
    return found


def _tokens(text: str) -> list[str]:
    return [normalise(word) for word in _WORD.findall(text.replace("_", " "))]
