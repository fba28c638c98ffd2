"""Rationales as tables hold them: marked text, offsets, word numbers, flags, phrases. All become spans."""

import ast
import contextlib
import re
from collections.abc import Callable, Sequence
from typing import Any, cast

import msgspec
import numpy as np

from raison.records import InputError, Span
from raison.sources.common import tidy
from raison.words import spans_of_words, whitespace_words


def starred_words(cell: str, text: str) -> tuple[Span, ...]:
    """Read e-SNLI's marks: the words of `text` again, some of them wrapped in `*`.

    Raises:
        InputError: the words are not those of the text, or a mark is open on one side.
    """
    given = cell.split()
    if given == text.split():
        return ()
    words = whitespace_words(text)
    if len(given) != len(words):
        raise InputError(f"has {len(given)} words where the sentence has {len(words)}")
    mask = np.zeros(len(words), dtype=np.bool_)
    for index, (shown, (start, end)) in enumerate(zip(given, words, strict=True)):
        word = text[start:end]
        mask[index] = shown == f"*{word}*"
        if not mask[index] and shown != word:
            kind = "unbalanced mark in" if shown.strip("*") == word.strip("*") else "the sentence has another word for"
            raise InputError(f"{kind} word {index}: {shown!r}; expected {word!r} or {f'*{word}*'!r}")
    return spans_of_words(words, mask)


def unmark(marked: str, marks: tuple[str, str]) -> tuple[str, list[Span]]:
    """Take the marks out of a text: the text without them, and what they enclosed.

    Raises:
        InputError: a mark is opened and not closed, closed and not opened, or opened inside another.
    """
    opening, closing = marks
    either = "|".join(re.escape(mark) for mark in sorted(marks, key=len, reverse=True))
    plain: list[str] = []
    spans: list[Span] = []
    start, size = None, 0
    for part in re.split(f"({either})", marked):
        if part == closing and start is not None:
            spans.append(Span(start, size))
            start = None
        elif part == opening and start is None:
            start = size
        elif part in marks:
            raise InputError(f"unbalanced mark {part!r} after {''.join(plain)[-20:]!r}")
        else:
            plain.append(part)
            size += len(part)
    if start is not None:
        raise InputError(f"unbalanced mark: {opening!r} is opened and not closed")
    return "".join(plain), [span for span in spans if span.end > span.start]


def read_marked(cell: Any, text: str, marks: tuple[str, str]) -> tuple[Span, ...]:
    """Read a text in which the rationale stands between marks; whitespace may differ from that of `text`.

    Raises:
        InputError: the marks are unbalanced, or the text without them is another one.
    """
    plain, spans = unmark(_text(cell), marks)
    if plain == text:
        return tidy(text, spans)
    here = [index for index, character in enumerate(plain) if not character.isspace()]
    there = [index for index, character in enumerate(text) if not character.isspace()]
    if "".join(plain[i] for i in here) != "".join(text[i] for i in there):
        raise InputError(f"without its marks, the marked text is not the field's: {plain[:60]!r}")
    place = dict(zip(here, there, strict=True))
    inner = (tidy(plain, [span]) for span in spans)
    return tidy(text, [Span(place[start], place[end - 1] + 1) for found in inner for start, end in found])


def read_offsets(cell: Any, text: str, _marks: tuple[str, str]) -> tuple[Span, ...]:
    """Read character offsets, half open: `[[4, 11]]`, `[{"start": 4, "end": 11}]` or `4-11 16:31`.

    Raises:
        InputError: they can't be read, or lie outside the text.
    """
    pairs = _listed(cell)
    if pairs is None:
        pairs = [pair.split("-") for pair in re.sub(r"\s*[-:]\s*", "-", str(cell)).replace(",", " ").split()]
    spans = [_pair(pair) for pair in pairs]
    for start, end in spans:
        if not 0 <= start < end <= len(text):
            raise InputError(f"span [{start}, {end}] does not lie in a text of {len(text)} characters")
    return tidy(text, spans)


def _pair(value: Any) -> Span:
    if isinstance(value, dict):
        named = cast("dict[str, Any]", value)
        value = [named.get("start"), named.get("end")]
    if isinstance(value, list | tuple) and len(cast("list[Any]", value)) == 2:
        start, end = (_number(part) for part in cast("list[Any]", value))
        return Span(start, end)
    raise InputError(f"expected offsets such as [[4, 11]] or 4-11, found {value!r}")


def read_indices(cell: Any, text: str, _marks: tuple[str, str]) -> tuple[Span, ...]:
    """Read numbers of whitespace words, counted from 0: `[3, 4]` or `3,4`; `[]` and `{}` mark nothing.

    Raises:
        InputError: one is no number, or there is no such word.
    """
    words = whitespace_words(text)
    mask = np.zeros(len(words), dtype=np.bool_)
    for value in _parts(cell):
        index = _number(value)
        if not 0 <= index < len(words):
            raise InputError(f"there is no word {index} in a text of {len(words)} words (the first is 0)")
        mask[index] = True
    return spans_of_words(words, mask)


def read_flags(cell: Any, text: str, _marks: tuple[str, str]) -> tuple[Span, ...]:
    """Read a 0 or 1 for each whitespace word: `[0, 1, 1]` or `0 1 1`.

    Raises:
        InputError: their number is not that of the words, or one is neither 0 nor 1.
    """
    words, flags = whitespace_words(text), [_number(value) for value in _parts(cell)]
    if len(flags) != len(words):
        raise InputError(f"has {len(flags)} flags for {len(words)} words")
    if not {0, 1}.issuperset(flags):
        raise InputError(f"expected 0 or 1 for each word, found {next(f for f in flags if f not in (0, 1))}")
    return spans_of_words(words, np.array(flags, dtype=np.bool_))


def read_phrases(cell: Any, text: str, _marks: tuple[str, str]) -> tuple[Span, ...]:
    """Read words or phrases: a list, or a text parted by `;` or else by `,`. Each is marked wherever it stands.

    Case and the amount of whitespace don't matter; a phrase begins and ends where a word does.

    Raises:
        InputError: a phrase does not stand in the text.
    """
    phrases = _listed(cell)
    if phrases is None:
        phrases = str(cell).split(";" if ";" in str(cell) else ",")
    spans: list[Span] = []
    for phrase in (_text(phrase).split() for phrase in phrases):
        pattern = r"\s+".join(map(re.escape, phrase))
        found = [Span(*hit.span()) for hit in re.finditer(rf"(?<!\w){pattern}(?!\w)", text, re.IGNORECASE)]
        if phrase and not found:
            raise InputError(f"{' '.join(phrase)!r} does not stand in the text")
        spans += found if phrase else []
    return tidy(text, spans)


RationaleReader = Callable[[Any, str, tuple[str, str]], tuple[Span, ...]]

FORMATS: dict[str, RationaleReader] = {
    "marked": read_marked,
    "offsets": read_offsets,
    "indices": read_indices,
    "flags": read_flags,
    "phrases": read_phrases,
}


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise InputError(f"expected a text, found {type(value).__name__}")
    return value


def _listed(cell: Any) -> list[Any] | None:
    """Give the items of a list, or of a text that holds one (JSON or Python); None where it is neither."""
    if isinstance(cell, list | tuple):
        return list(cast("Sequence[Any]", cell))
    text = str(cell).strip()
    if text == "{}":
        return []
    if not text.startswith("["):
        return None
    try:
        return msgspec.json.decode(text, type=list[Any])
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        pass
    try:
        return list(ast.literal_eval(text))
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        raise InputError(f"not a list that can be read: {text[:60]!r}") from None


def _parts(cell: Any) -> list[Any]:
    listed = _listed(cell)
    return str(cell).replace(",", " ").replace(";", " ").split() if listed is None else listed


def _number(value: Any) -> int:
    if isinstance(value, str | int) or (isinstance(value, float) and value.is_integer()):
        with contextlib.suppress(ValueError):
            return int(value)
    raise InputError(f"expected a whole number, found {value!r}")
