"""LeWiDi: the sets of the third shared task on learning with disagreements (2025), as its organisers publish them.

One JSON object from item to its texts, annotators, labels and explanations. Made for Paraphrase (ratings from -5 to 5)
and for the re-release of VariErr NLI, whose cells may hold several labels (`entailment,neutral`): explanations can't
be paired with the cells there, only with the repeated names in `annotators`, and stand in the order of the labels.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import msgspec

from raison.records import Annotation, Fault, InputError, Record
from raison.sources.common import Item, explain
from raison.sources.litex import LABELS, collapsed
from raison.sources.scale import in_range, ordinal_scale, spelled
from raison.sources.tools import finished
from raison.sources.wholes import whole, with_lines, without_trailing_commas

_FIELDS = {"Question1": "question_1", "Question2": "question_2", "context": "premise", "statement": "hypothesis"}
_SETS = {"nli": LABELS, "paraphrase": in_range("-5..5") or ()}
_TASKS = {"natural language inference": "nli", "paraphrase detection": "paraphrase"}

_Label = str | int | float


class _Info(msgspec.Struct, frozen=True):
    explanations: tuple[str | None, ...] = ()


class _Entry(msgspec.Struct, rename={"task": "annotation task"}):
    task: str
    text: dict[str, str]
    annotations: dict[str, _Label | None]
    annotators: str = ""
    soft_label: dict[str, Any] = {}
    other_info: _Info = _Info()


def read_lewidi(path: str | Path, annotators: str | None = None) -> Iterator[Item]:
    """Yield the records of a LeWiDi set: one annotation for each person and label.

    Where a person gave more or fewer explanations than labels, nobody can say which belong together: each explanation
    is then an annotation without label, and its `labels` are all of the person's. The label of a record is the
    majority, null on a tie. Runs of white space in explanations become single spaces.

    Args:
        path: the file. It is held in memory (the largest has some MB).
        annotators: the set's `..._annotators_meta.json`: what it says of a person is kept as `about`.

    Raises:
        InputError: `annotators` can't be read.
    """
    about = read_annotators(annotators) if annotators else {}
    data = whole(path)
    if isinstance(data, Fault):
        yield data
        return
    data = without_trailing_commas(data)
    try:
        raw = msgspec.json.decode(data or b"{}", type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        yield Fault(str(path), 1, f"expected one JSON object from item to its annotations ({error})")
        return
    entries = dict(zip(raw, with_lines(data, raw.values()), strict=True))
    decoded = {name: (line, _entry(entry)) for name, (line, entry) in entries.items()}
    labels = _labels_of([entry for _, entry in decoded.values() if isinstance(entry, _Entry)])
    for name, (line, entry) in decoded.items():
        try:
            if isinstance(entry, str):
                raise InputError(entry)
            yield line, _record(name, entry, labels, about)
        except InputError as error:
            yield Fault(str(path), line, f"item {name!r}: {error}")


def read_annotators(path: str | Path) -> dict[str, dict[str, str]]:
    """Read what a set says of its annotators: name -> {what: answer}. Its files have trailing commas.

    Raises:
        InputError: it is missing, or no such object.
    """
    data = whole(path)
    if isinstance(data, Fault):
        raise InputError(data)
    try:
        found = msgspec.json.decode(without_trailing_commas(data), type=dict[str, dict[str, str | int | float | None]])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        message = str(error).splitlines()[0]
        raise InputError(
            Fault(str(path), None, f"expected one JSON object from annotator to answers: {message}")
        ) from None
    return {name: {key: str(value) for key, value in said.items() if value is not None} for name, said in found.items()}


def _entry(raw: msgspec.Raw) -> _Entry | str:
    """Decode one entry, or say what is wrong with it."""
    try:
        return msgspec.json.decode(raw, type=_Entry)
    except msgspec.DecodeError as error:
        return explain(error)


def _task(entry: _Entry) -> str:
    return _TASKS.get(entry.task, entry.task.removesuffix(" detection").replace(" ", "_"))


def _labels_of(entries: list[_Entry]) -> tuple[str, ...]:
    """Give the labels that could be chosen: those of the task, or all that stand in the file."""
    if not entries or _task(entries[0]) in _SETS:
        return _SETS[_task(entries[0])] if entries else ()
    found = {_plain(label): None for entry in entries for label in entry.soft_label}
    found |= {label: None for entry in entries for cell in entry.annotations.values() for label in _chosen(cell)}
    return tuple(ordinal_scale(list(found)) or found)


def _plain(label: str) -> str:
    """Give `1.0` as `1`."""
    head, dot, tail = label.partition(".")
    return head if dot and tail.strip("0") == "" and head.lstrip("-").isdigit() else label


def _chosen(cell: _Label | None) -> list[str]:
    """Read the labels of one cell, of which there may be several."""
    return [_plain(part.strip()) for part in ("" if cell is None else str(cell)).split(",") if part.strip()]


def _record(name: str, entry: _Entry, labels: tuple[str, ...], about: Mapping[str, dict[str, str]]) -> Record:
    task = _task(entry)
    renamed = _FIELDS if task in _SETS else {}
    said = _explanations(entry)
    annotations = [
        msgspec.structs.replace(one, extra={**one.extra, **({"about": about[who]} if who in about else {})})
        for who, cell in entry.annotations.items()
        for one in _annotations(who, [spelled(label, labels) for label in _chosen(cell)], said.get(who, []))
    ]
    fields = {renamed.get(field, field): text for field, text in entry.text.items()}
    return finished(Record(name, fields, task, None, labels, tuple(annotations)))


def _explanations(entry: _Entry) -> dict[str, list[str | None]]:
    """Give each person their explanations, in order."""
    texts = entry.other_info.explanations
    names = [name.strip() for name in entry.annotators.split(",") if name.strip()]
    if not texts:
        return {}
    if len(names) != len(texts):
        raise InputError(f"field `other_info.explanations`: {len(texts)} texts for {len(names)} names in `annotators`")
    unknown = next((name for name in names if name not in entry.annotations), None)
    if unknown is not None:
        raise InputError(f"field `annotators`: {unknown!r} has no label in `annotations`")
    found: dict[str, list[str | None]] = {}
    for name, text in zip(names, texts, strict=True):
        found.setdefault(name, []).append(collapsed(text or "") or None)
    return found


def _annotations(who: str, labels: list[str], texts: list[str | None]) -> list[Annotation]:
    """Pair one person's labels with their explanations."""
    if not texts:
        return [Annotation(who, label) for label in labels]
    if len(labels) == 1:
        return [Annotation(who, labels[0], None, text) for text in texts]
    if len(labels) == len(texts):
        return [Annotation(who, label, None, text) for label, text in zip(labels, texts, strict=True)]
    extra = {"labels": cast("list[Any]", labels)} if labels else {}
    return [Annotation(who, None, None, text, extra) for text in texts]
