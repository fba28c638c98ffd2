"""Annotation tools: what they need to know of records to ask people about them, and what they say afterwards.

`label_studio` and `argilla` write a project from records and read what people did; this is what they share. Only texts
and what may be chosen go out: no gold label, and nothing that others said.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from raison.records import Fault, InputError, Record, distinct, problems
from raison.sources.common import explain, majority
from raison.sources.wholes import whole, with_lines

T = TypeVar("T")
U = TypeVar("U")

REASON = "reason"  # what a marked word is called
QUESTIONS = {
    "label": "Which label do you choose?",
    "explanation": "Why? Say it in your own words.",
    "marked": "Mark the words that are the reason.",
}


class Asked(msgspec.Struct, frozen=True):
    """What people are asked of all records."""

    fields: tuple[str, ...]
    label_set: tuple[str, ...]
    task: str
    marks: bool  # to mark words, too


def asked(records: Sequence[Record], marks: bool) -> Asked:
    """Gather what is the same in all records.

    Raises:
        InputError: there are none, they can't stand in one data set, or it is not known which labels can be chosen.
    """
    checked = list(distinct(records))
    if not checked:
        raise InputError("there are no records; expected at least one to be annotated")
    first = checked[0]
    labels = first.label_set or tuple(sorted({label for record in records for label in _labels(record)}))
    if len(labels) < 2:
        raise InputError("the records have no `label_set`; expected at least two labels to choose from")
    return Asked(tuple(first.fields), labels, first.task, marks)


def _labels(record: Record) -> list[str]:
    given = (record.label, *(said.label for said in record.annotations))
    return [label for label in given if label is not None]


def chosen(labels: list[str]) -> tuple[str | None, dict[str, Any]]:
    """Give one person's label, and what is kept beside it: of several labels none is the label, all are `labels`."""
    if len(labels) > 1:
        return None, {"labels": labels}
    return (labels[0] if labels else None), {}


def finished(record: Record) -> Record:
    """Give a record with the majority of its annotations as its label.

    Raises:
        InputError: it contradicts itself.
    """
    if problem := next(problems(record), None):
        raise InputError(problem)
    return msgspec.structs.replace(record, label=majority([said.label for said in record.annotations]))


def new_folder(path: str | Path) -> Path:
    """Make a folder for a project.

    Raises:
        InputError: something stands there already, or it can't be made.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise InputError(f"{path}: expected an empty folder, or none; people's work may be in it")
    except OSError as error:
        raise InputError(f"{path}: can't be written ({error.strerror or error})") from None
    return folder


def read_elements(path: str | Path, kind: type[T], make: Callable[[T], U]) -> Iterator[tuple[int, U] | Fault]:
    """Yield what a file that is one JSON array holds, each with the line on which it begins; it is held in memory.

    Args:
        path: the file, plain or gzip.
        kind: of its elements.
        make: makes something of one, such as a record; its `InputError` is a fault of that element.
    """
    data = whole(path)
    elements = data if isinstance(data, Fault) else _json_elements(path, data)
    if isinstance(elements, Fault):
        yield elements
        return
    assert isinstance(data, bytes)
    for line, raw in with_lines(data, elements):
        try:
            yield line, make(msgspec.json.decode(raw, type=kind))
        except msgspec.DecodeError as error:
            yield Fault(str(path), line, explain(error))
        except InputError as error:
            yield Fault(str(path), line, str(error))


def _json_elements(path: str | Path, data: bytes) -> list[msgspec.Raw] | Fault:
    """Read the elements of a JSON array, each left as it is written."""
    try:
        return msgspec.json.decode(data or b"[]", type=list[msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return Fault(str(path), 1, f"expected one JSON array ({str(error).splitlines()[0]})")
