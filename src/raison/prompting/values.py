"""What a JSON value in a reply names: which of its strings and numbers are an answer, and which are asides."""

from collections.abc import Iterator, Mapping
from typing import Any, cast

from raison.prompting.wording import normalise

# keys that hold what was asked for, and keys that hold something else
_HOLDERS = frozenset(
    [
        "word",
        "words",
        "token",
        "tokens",
        "phrase",
        "phrases",
        "span",
        "spans",
        "rationale",
        "rationales",
        "evidence",
        "term",
        "terms",
        "item",
        "items",
        "keyword",
        "keywords",
        "highlight",
        "highlights",
        "number",
        "numbers",
        "index",
        "indices",
        "important_words",
        "key_words",
        "selected",
    ]
)
_ASIDES = frozenset(
    [
        "label",
        "answer",
        "prediction",
        "predicted",
        "class",
        "category",
        "reason",
        "reasons",
        "reasoning",
        "explanation",
        "why",
        "justification",
        "score",
        "scores",
        "importance",
        "weight",
        "confidence",
        "comment",
        "note",
        "type",
        "error",
        "refusal",
        "message",
        "count",
        "k",
    ]
)


def leaves(value: Any, fields: Mapping[str, str], under: str | None) -> Iterator[tuple[str, str | None]]:
    """Yield the strings and numbers in a JSON value, in order; however deep, without recursion."""
    waiting: list[tuple[Any, str | None]] = [(value, under)]
    while waiting:
        part, under = waiting.pop()
        if isinstance(part, dict):
            inner = kept(cast("dict[str, Any]", part), fields)
            waiting += [(held, fields.get(normalise(key), under)) for key, held in reversed(inner)]
        elif isinstance(part, list):
            waiting += [(held, under) for held in reversed(cast("list[Any]", part))]
        elif part is not None and str(part).strip():
            yield str(part), under


def kept(value: dict[str, Any], fields: Mapping[str, str]) -> list[tuple[str, Any]]:
    """Give the entries of an object that hold what was asked for."""
    named = {key: normalise(key).replace(" ", "_") for key in value}
    holders = [(key, part) for key, part in value.items() if named[key] in _HOLDERS or normalise(key) in fields]
    rest = [(key, part) for key, part in value.items() if named[key] not in _ASIDES]
    if not holders and rest and all(isinstance(part, int | float) for _, part in rest):
        return [("", key) for key, _ in rest]  # {"word": its score}
    return holders or rest
