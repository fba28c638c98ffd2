"""Responses: what one person said of one item, taken out of the records.

A response is a label with its explanation. One person may give several to one item, each its own response.
"""

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from raison.annotators.people import cleaned, opted_out
from raison.annotators.splits import Split, split_items
from raison.records import InputError, Record, read_jsonl, write_jsonl
from raison.sources.explained import is_derived
from raison.sources.scale import ordinal_scale

__all__ = [
    "Response",
    "Split",
    "opted_out",
    "ordinal_scale",
    "read_responses",
    "responses_of",
    "split_items",
    "texts_of",
    "write_responses",
]


class Response(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One person's (or a model's, speaking as that person) label and explanation of one item."""

    record_id: str
    annotator: str  # whose it is, or who is imitated
    label: str | None  # None = none could be read, or several with one explanation (then `labels` in `extra`)
    explanation: str | None  # None = none could be read
    number: int = 0  # of this person's responses to this item, from 0
    failure: str | None = None  # why a reply could not be read; None = it could, or a person gave it
    extra: dict[str, Any] = {}  # what else the source says of it: judgments, category, ...


def responses_of(records: Sequence[Record], without: Collection[str] = ()) -> list[Response]:
    """Take the responses out of records, in their order.

    Args:
        records: with annotations that have an annotator, and a label or an explanation (or both); others are passed
            over, and so are rationales derived from explanations, whose person has the response.
        without: annotators who opted out, see `people.opted_out`.
    """
    found: list[Response] = []
    for record in opted_out(records, without):
        given: dict[str, int] = {}
        for note in record.annotations:
            if note.annotator is None or is_derived(note) or note.label is note.explanation is None:
                continue
            number = given.get(note.annotator, 0)
            given[note.annotator] = number + 1
            found.append(Response(record.id, note.annotator, note.label, note.explanation, number, None, note.extra))
    return found


def texts_of(responses: Iterable[Response]) -> list[str]:
    """Give the explanations; none reads as an empty text."""
    return [response.explanation or "" for response in responses]


def read_responses(path: str | Path, without: Collection[str] = ()) -> list[Response]:
    """Read responses from JSON lines, as `write_responses` writes them.

    Args:
        path: the file.
        without: annotators who opted out: neither theirs nor what imitates them is read, nor what they said of others'.

    Raises:
        InputError: with file, line and field.
    """
    names = frozenset([without] if isinstance(without, str) else without)
    return [
        msgspec.structs.replace(response, extra=cleaned(response.extra, names)) if names else response
        for response in read_jsonl(path, _to_response)
        if response.annotator not in names
    ]


def write_responses(path: str | Path, responses: Iterable[Response]) -> int:
    """Write responses as JSON lines, whole or not at all; give how many."""
    return write_jsonl(path, responses)


def _to_response(row: Any) -> Response:
    try:
        return msgspec.convert(row, Response)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `")
        place = path.rstrip("`").removeprefix("$").lstrip(".")
        raise InputError(f"field `{place}`: {message}" if place else message) from None
