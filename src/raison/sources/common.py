"""What every reader needs: items with their line, JSON lines, and answers to a wrong name."""

import difflib
import json
import math
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from raison.records import Fault, InputError, Record, Span, decode_line, open_lines

Item = tuple[int | None, Record] | Fault  # what a reader yields: a record and the line it starts on, or a fault


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Say that `name` is not known, which known name is nearest, and which ones there are."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"unknown {kind} {name!r}; {hint}(there {'is' if len(names) == 1 else 'are'}: {', '.join(names) or 'none'})"


def checked_lines(path: str | Path, blank: bool = False) -> Iterator[tuple[int, bytes] | Fault]:
    """Yield the lines of a file (see `records.open_lines`); where the stream breaks, a fault that ends it."""
    try:
        yield from open_lines(path, blank)
    except InputError as error:
        yield error.args[0]


def json_lines(path: str | Path, nan: bool = False) -> Iterator[tuple[int, Any] | Fault]:
    """Yield (line number, decoded value) of a JSON-lines file, or the fault that stands in its place.

    Args:
        path: the file.
        nan: take NaN and Infinity too, which are not JSON but what Python's `json` and pandas write.
    """
    for item in checked_lines(path):
        if isinstance(item, Fault):
            yield item
            return
        number, line = item
        try:
            yield number, _decode(line) if nan else decode_line(line)
        except InputError as error:
            yield Fault(str(path), number, str(error))


def _decode(line: bytes) -> Any:
    try:
        return decode_line(line)
    except InputError:
        if b"NaN" not in line and b"Infinity" not in line:
            raise
        try:
            return json.loads(line)
        except (ValueError, RecursionError):
            pass
        raise


def explain(error: msgspec.DecodeError) -> str:
    """Turn msgspec's message into one that names the field first."""
    message, _, path = str(error).partition(" - at `")
    message = f"{message[0].lower()}{message[1:]}"
    place = path.rstrip("`").removeprefix("$").lstrip(".")
    return f"field `{place}`: {message}" if place else message


def is_missing(cell: Any) -> bool:
    """Whether a cell holds nothing: None, a NaN, or a text that is empty or as pandas writes a NaN."""
    if isinstance(cell, str):
        return cell.strip() in ("", "nan", "NaN")
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def tidy(text: str, spans: Iterable[Span]) -> tuple[Span, ...]:
    """Bring spans into the house's form: sorted, apart, without whitespace at their ends.

    Spans with nothing but whitespace between them become one, spans of nothing but whitespace none.
    """
    result: list[Span] = []
    for span in sorted(spans):
        inside = text[span.start : span.end]
        start, end = span.start + len(inside) - len(inside.lstrip()), span.end - len(inside) + len(inside.rstrip())
        if start >= end:
            continue
        if result and not text[result[-1].end : start].strip():
            result[-1] = Span(result[-1].start, max(end, result[-1].end))
        else:
            result.append(Span(start, end))
    return tuple(result)


@lru_cache(maxsize=100_000)
def bare(word: str) -> str:
    """Give a word as it is compared: no case, no punctuation around it; a word of nothing else stays as it is."""
    folded = word.casefold()
    if folded.isalnum():
        return folded
    inside = [index for index, character in enumerate(folded) if unicodedata.category(character)[0] != "P"]
    return folded[inside[0] : inside[-1] + 1] if inside else folded


def all_labels(label: str | None, extra: Mapping[str, Any]) -> list[str]:
    """Give what one annotation labels an item with: its label, or the several that one explanation stands for."""
    return [label] if label is not None else [one for one in extra.get("labels") or () if isinstance(one, str)]


def majority(labels: Sequence[str | None]) -> str | None:
    """Give the label that more annotators chose than any other; None on a tie, or where nobody chose one."""
    given = [label for label in labels if label is not None]
    counts = sorted(((given.count(label), label) for label in set(given)), reverse=True)
    if not counts or (len(counts) > 1 and counts[0][0] == counts[1][0]):
        return None
    return counts[0][1]
